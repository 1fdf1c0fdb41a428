"""What both servers answer fits their published OpenAPI documents.

Runs where the environment variable CONTRACT_SPECS names a folder with `stripe-*.openapi.json` (of
2023-08-16) and `openmeter.openapi.yaml`.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox

from .wire import OpenMeterWire, StripeWire

SPECS = os.environ.get("CONTRACT_SPECS")
pytestmark = pytest.mark.skipif(SPECS is None, reason="CONTRACT_SPECS names no folder")

STRIPE_VERSION = "2023-08-16"
PERIOD_START = datetime(2026, 11, 1, tzinfo=UTC)


def as_json_schema(node: Any) -> Any:
    """Turn OpenAPI's `nullable` into JSON Schema, and leave out what only documents."""
    if isinstance(node, list):
        return [as_json_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    left = {key: as_json_schema(value) for key, value in node.items() if key not in ("discriminator", "example")}
    if left.pop("nullable", False):
        return {"anyOf": [left, {"type": "null"}]}
    return left


class Contract:
    """One OpenAPI document."""

    def __init__(self, document: Any) -> None:
        self._document = as_json_schema(document)

    def check(self, schema: str, answer: Any) -> None:
        jsonschema: Any = pytest.importorskip("jsonschema")
        whole = {**self._document, "$ref": f"#/components/schemas/{schema}"}
        jsonschema.Draft202012Validator(whole).validate(answer)


@pytest.fixture(scope="module")
def stripe_contract() -> Contract:
    (path,) = Path(str(SPECS)).glob("stripe-*.openapi.json")
    return Contract(json.loads(path.read_text()))


@pytest.fixture(scope="module")
def openmeter_contract() -> Contract:
    yaml: Any = pytest.importorskip("yaml")
    text = (Path(str(SPECS)) / "openmeter.openapi.yaml").read_text()
    return Contract(yaml.load(text, Loader=yaml.CSafeLoader))


def test_stripe_shows_its_objects_as_documented(
    sandbox: Sandbox, stripe: StripeWire, stripe_contract: Contract
) -> None:
    world = sandbox.stripe
    price = world.add_price(transform_quantity={"divide_by": 3, "round": "up"})
    view = world.add_subscription(world.add_customer(), [price], period_start=PERIOD_START)
    gone = world.add_customer()
    world.delete_customer(gone)
    item = f"/v1/subscription_items/{view.items[0]}"

    def get(path: str) -> Any:
        return stripe("GET", path, version=STRIPE_VERSION).json

    record = stripe("POST", f"{item}/usage_records", {"quantity": 3}, version=STRIPE_VERSION).json
    sandbox.clock.advance(timedelta(days=30))
    for schema, answer in (
        ("usage_record", record),
        ("usage_record_summary", get(f"{item}/usage_record_summaries")["data"][0]),
        ("subscription_item", get(item)),
        ("subscription", get(f"/v1/subscriptions/{view.id}")),
        ("price", get(f"/v1/prices/{price}")),
        ("customer", get("/v1/customers")["data"][0]),
        ("deleted_customer", get(f"/v1/customers/{gone}")),
        ("invoice", get("/v1/invoices")["data"][0]),
        ("account", get("/v1/account")),
        ("error", get("/v1/prices/price_none")),
    ):
        stripe_contract.check(schema, answer)


def test_openmeter_answers_as_documented(
    sandbox: Sandbox, openmeter: OpenMeterWire, openmeter_contract: Contract
) -> None:
    sandbox.openmeter.add_meter("tokens", group_by={"model": "$.model"}, description="Tokens")
    sandbox.openmeter.add_event("tokens", "acme", PERIOD_START, 3)
    grouped = openmeter.query(
        "tokens",
        "2026-11-01T00:00:00Z",
        "2026-11-02T00:00:00Z",
        groupBy=["model"],
        windowSize="DAY",
    )
    for schema, reply in (
        ("Meter", openmeter("GET", "/api/v1/meters/tokens")),
        ("MeterQueryResult", grouped),
        ("NotFoundProblemResponse", openmeter("GET", "/api/v1/meters/none")),
        ("UnauthorizedProblemResponse", openmeter("GET", "/api/v1/meters", token=None)),
        ("BadRequestProblemResponse", openmeter("POST", "/api/v1/events", {})),
    ):
        openmeter_contract.check(schema, reply.json)
