"""What `meter-sync setup` sends, and what it is answered, is what Stripe and OpenMeter publish.

Stripe's document at hand has neither billing meters nor the second API, so the types of its SDK are the reference, for
parameters and answers, with nothing tolerated but what no answer of the sandbox has (`NOT_MODELLED`).
"""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import stripe
from openapi_core.exceptions import OpenAPIError
from stripe import billing
from stripe.params import (
    PriceCreateParams,
    PriceListParams,
    ProductCreateParams,
    ProductListParams,
    ProductRetrieveParams,
)
from stripe.params.billing import MeterCreateParams, MeterListParams
from stripe.params.v2.core._event_destination_create_params import EventDestinationCreateParams
from stripe.params.v2.core._event_destination_list_params import EventDestinationListParams
from stripe.params.v2.core._event_destination_update_params import EventDestinationUpdateParams
from stripe.v2.core import EventDestination

from meter_sync.sandbox.openmeter.api import OpenMeterVersion
from tests.support.setting_up import EPSILON, URL, set_up
from tests.support.world import World

from .documents import Document, Undocumented, bracketed
from .held import Held, post
from .messages import ENDIVE, Request, send, stripe_request
from .sdk_types import check_parameters, faults
from .traffic import NOW, Exchange, exchange

NOT_MODELLED = {"product.marketing_features", "product.type"}
SHAPES: dict[str, tuple[Any, Any, str]] = {
    "GET /v1/billing/meters": (MeterListParams, billing.Meter, "meter"),
    "GET /v1/prices": (PriceListParams, stripe.Price, "price"),
    "GET /v1/products": (ProductListParams, stripe.Product, "product"),
    "GET /v1/products/ID": (ProductRetrieveParams, stripe.Product, "product"),
    "GET /v2/core/event_destinations": (EventDestinationListParams, EventDestination, "destination"),
    "POST /v1/billing/meters": (MeterCreateParams, billing.Meter, "meter"),
    "POST /v1/prices": (PriceCreateParams, stripe.Price, "price"),
    "POST /v1/products": (ProductCreateParams, stripe.Product, "product"),
    "POST /v2/core/event_destinations": (EventDestinationCreateParams, EventDestination, "destination"),
    "POST /v2/core/event_destinations/ID": (EventDestinationUpdateParams, EventDestination, "destination"),
}
"""The parameters of each kind of request, and what it is answered with or has a list of."""
TIERS = ("--tier", "1000000:0", "--tier", "inf:0.20")
METER = {"name": "Epsilon", "key": "epsilon", "aggregation": "sum", "event_type": "call", "value_property": "$.n"}


def world_of(folder: Path, version: OpenMeterVersion) -> World:
    return World(folder, NOW, version)


def set_up_all(world: World) -> list[Exchange]:
    """Set up prices of both kinds and the destinations, twice, one of which misses an event; return all exchanges."""
    tiered = [word for word in EPSILON if word not in ("--amount", "0.20")]
    world.stripe.add_event_destination(URL, ["invoice.created"], "snapshot")
    before = len(world.sandbox.requests)
    for arguments in (
        ("price", *EPSILON, "--aggregation", "sum", "--value-property", "$.n"),
        ("price", *EPSILON),
        ("price", *tiered, *TIERS, "--lookup-key", "tiered"),
        ("price", *tiered, *TIERS, "--lookup-key", "tiered"),
        ("webhook", "--url", URL),
        ("webhook", "--url", URL),
    ):
        done = set_up(
            world,
            *arguments,
            "--yes",
            STRIPE_SETUP_API_KEY=world.sandbox.stripe_key,
            STRIPE_API_KEY="",
            STRIPE_WEBHOOK_SECRET_FILE=str(world.folder / "secrets"),
        )
        assert done.code in (0, 4), done.stderr  # 4: the secret of the one that was there
    return [exchange(world.sandbox, seen) for seen in world.sandbox.requests[before:] if seen.server == "stripe"]


def kind_of(each: Exchange) -> str:
    return f"{each.seen.method} {re.sub(r'(ed|prod)_1Sandbox[0-9]+', 'ID', each.seen.path)}"


def sent(request: Request) -> Any:
    if request.content_type.startswith("application/json"):
        return json.loads(request.text)
    return bracketed(parse_qsl(request.query or request.text))


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_everything_it_sends_and_is_answered_is_in_the_published_shapes(
    tmp_path: Path, version: OpenMeterVersion, openmeter_contract: Document, openmeter_v3_contract: Document
) -> None:
    world = world_of(tmp_path, version)
    with world.sandbox.in_background():
        exchanges = set_up_all(world)
    assert {kind_of(each) for each in exchanges} - {"GET /v1/account"} == set(SHAPES)
    listed = set[str]()
    for each in exchanges:
        if each.seen.path == "/v1/account":
            continue
        assert each.version == ENDIVE
        parameters, shape, kind = SHAPES[kind_of(each)]
        check_parameters(sent(each.request), parameters)
        answer = json.loads(each.response.data)
        rows = answer.get("data", [answer])
        listed.update(kind for _ in rows)
        tolerated = {f"missing {place}" for place in NOT_MODELLED}
        assert {fault for row in rows for fault in faults(row, shape, kind)} <= tolerated
    assert listed == {kind for _, _, kind in SHAPES.values()}
    contract = openmeter_contract if version == "v1" else openmeter_v3_contract
    (created,) = [seen for seen in world.seen("POST", "/meters") if seen.server == "openmeter"]
    contract.check_request(Request.seen(created))


@pytest.mark.parametrize("aggregation", ["count", "sum", "unique_count", "avg", "min", "max", "latest"])
def test_meters_are_made_in_the_shape_of_v3(world_v3: Held, aggregation: str) -> None:
    body = {**METER, "aggregation": aggregation, "dimensions": {"model": "$.model"}, "labels": {"team": "core"}}
    shown = world_v3(post("/api/v3/openmeter/meters", body), 201)
    assert (shown["aggregation"], shown["key"]) == (aggregation, "epsilon")


@pytest.fixture
def world_v3(sandbox: Any, openmeter_v3_contract: Document) -> Held:
    return Held(sandbox, openmeter_v3_contract)


@pytest.mark.parametrize(
    "body",
    [
        *({name: value for name, value in METER.items() if name != missing} for missing in list(METER)[:4]),
        {**METER, "key": "Not A Key"},
        {**METER, "key": "k" * 65},
        {**METER, "name": ""},
        {**METER, "aggregation": "SUM"},
        {**METER, "event_type": ""},
        {**METER, "value_property": None},
        {**METER, "dimensions": ["model"]},
        {**METER, "eventType": "call"},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_a_meter_that_the_document_of_v3_refuses_is_refused(world_v3: Held, body: dict[str, Any]) -> None:
    request = post("/api/v3/openmeter/meters", body)
    with pytest.raises((OpenAPIError, Undocumented)):
        world_v3.contract.check_request(request)
    assert world_v3.answered(request, 400)["invalid_parameters"]


def test_products_and_tiers_are_asked_for_and_answered_in_stripes_shape(
    sandbox: Any, stripe_contract: Document
) -> None:
    """In its document, which has both, but for prices on a billing meter."""
    product = sandbox.stripe.add_product(name="Epsilon")
    tiered = {
        "product": product,
        "currency": "usd",
        "recurring[interval]": "month",
        "lookup_key": "tiered",
        "billing_scheme": "tiered",
        "tiers_mode": "volume",
        "tiers[0][up_to]": "1000000",
        "tiers[0][unit_amount_decimal]": "0",
        "tiers[1][up_to]": "inf",
        "tiers[1][unit_amount_decimal]": "0.00002",
        "expand[0]": "tiers",
    }
    for request in (
        stripe_request("POST", "/v1/products", {"name": "Zeta"}),
        stripe_request("GET", "/v1/products", {"active": "true", "limit": 1}),
        stripe_request("POST", "/v1/prices", tiered),
        stripe_request("GET", "/v1/prices", {"lookup_keys[0]": "tiered", "expand[0]": "data.tiers"}),
    ):
        if "tiers" not in request.text:  # in a form a number is text, which the checker does not cast within a list
            stripe_contract.check_request(request)
        response = send("stripe", sandbox, request)
        assert response.status_code == 200, response.data
        stripe_contract.check_answer(request, response)
