"""The embedded OpenMeter answers in the shapes of the third version that OpenMeter publishes, and refuses what it does.

Properties that the document does not know are refused as well as missing and mistyped ones. A customer without a key,
which the first version allows and this document does not, is in no answer here.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from openapi_core.exceptions import OpenAPIError

from meter_sync.sandbox import Fault, Sandbox

from .documents import Document, Undocumented, at_konnect
from .held import EVENT, Held, post
from .messages import Request, send
from .traffic import NOW, PERIOD_START

SPAN = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-03T00:00:00Z"}
END = PERIOD_START + timedelta(days=2)
BASE = "/api/v3/openmeter"
NOBODY = "01SANDB0X09999999999999999"
REFUSED = (OpenAPIError, Undocumented)


def get(path: str, **asked: object) -> Request:
    return Request("GET", BASE + path, query=urlencode(asked))


@dataclass(frozen=True)
class OpenMeter(Held):
    """A meter, and a customer in Stripe who has used it."""

    meter: str
    customer: str

    def query(self, **asked: Any) -> Request:
        return post(f"{BASE}/meters/{self.meter}/query", {**SPAN, **asked})


def used(sandbox: Sandbox, contract: Document) -> OpenMeter:
    world = sandbox.openmeter
    meter = world.add_meter("tokens", group_by={"model": "$.model"}, description="Tokens")
    customer = world.add_customer("acme", name="Acme", subjects=["a", "b"], stripe_customer_id="cus_acme")
    for subject, model in (("acme", "large"), ("a", "small"), ("other", None)):
        world.add_event("tokens", subject, PERIOD_START, data={"value": 0.5, "model": model})
    world.add_event("tokens", "acme", END, data={"value": 100, "model": "large"})
    return OpenMeter(sandbox, contract, meter, customer)


@pytest.fixture
def openmeter(sandbox: Sandbox, openmeter_v3_contract: Document) -> OpenMeter:
    return used(sandbox, openmeter_v3_contract)


def filtered(**dimensions: Any) -> dict[str, Any]:
    return {"filters": {"dimensions": dimensions}}


@pytest.mark.parametrize("aggregation", ["SUM", "COUNT", "UNIQUE_COUNT", "AVG", "MIN", "MAX", "LATEST"])
def test_meters_are_answered_in_openmeters_shape(sandbox: Sandbox, openmeter: OpenMeter, aggregation: Any) -> None:
    identifier = sandbox.openmeter.add_meter(
        "calls", aggregation, event_from=PERIOD_START, metadata={"team": "core"}, name="Calls"
    )
    asked = {"page[number]": 1, "page[size]": 2, "sort": "key desc", "filter[name][contains]": "s"}
    for query in (asked, {"filter[key]": "calls"}, {"filter[key][oeq]": "calls,tokens"}, {}):
        listed = openmeter(get("/meters", **query))
        assert identifier in [each["id"] for each in listed["data"]]
    shown = openmeter(get(f"/meters/{identifier}"))
    assert (shown["aggregation"], shown["events_from"]) == (aggregation.lower(), "2026-11-01T00:00:00Z")


@pytest.mark.parametrize(
    ("asked", "values"),
    [
        ({}, ["1.5"]),
        ({"group_by_dimensions": ["subject", "model"]}, ["0.5", "0.5", "0.5"]),
        ({"granularity": "P1D", "time_zone": "Asia/Kolkata"}, ["1.5"]),
        (filtered(model={"in": ["small", "other"]}), ["0.5"]),
        (filtered(subject={"eq": "acme"}, model={"eq": "large"}), ["0.5"]),
        (filtered(subject={"in": ["nobody"]}), []),
    ],
)
def test_queries_are_answered_in_openmeters_shape(
    openmeter: OpenMeter, asked: dict[str, Any], values: list[str]
) -> None:
    """The event at `to`, which would add 100, is in no row: `to` is exclusive, as in the first version."""
    answer = openmeter(openmeter.query(**asked))
    assert sorted(row["value"] for row in answer["data"]) == values


@pytest.mark.parametrize("value", [2**53, 1e300, 1e-30, -0.25, 0.1])
def test_every_value_is_a_number_in_openmeters_shape(sandbox: Sandbox, openmeter: OpenMeter, value: float) -> None:
    sandbox.openmeter.add_event("tokens", "one", PERIOD_START, value)
    (row,) = openmeter(openmeter.query(**filtered(subject={"eq": "one"})))["data"]
    assert float(row["value"]) == value


@pytest.mark.parametrize("group_by", [[], ["customer_id"], ["customer_id", "subject"], ["customer_id", "model"]])
def test_queries_by_customer_are_answered_in_openmeters_shape(openmeter: OpenMeter, group_by: list[str]) -> None:
    asked = {**filtered(customer_id={"in": [openmeter.customer]}), "group_by_dimensions": group_by}
    answer = openmeter(openmeter.query(**asked))
    assert {row["dimensions"]["customer_id"] for row in answer["data"]} == {openmeter.customer}


def test_customers_are_answered_in_openmeters_shape(sandbox: Sandbox, openmeter: OpenMeter) -> None:
    """With and without subjects, and deleted."""
    bare = sandbox.openmeter.add_customer("bare")
    deleted = sandbox.openmeter.add_customer("deleted")
    sandbox.openmeter.delete_customer(deleted)
    listed = openmeter(get("/customers", **{"page[size]": 100, "sort": "id"}))
    assert [each["id"] for each in listed["data"]] == [openmeter.customer, bare]
    for asked in ({"filter[key][eq]": "bare"}, {"filter[name][eq]": "bare"}):
        assert openmeter(get("/customers", **asked))["data"] == [listed["data"][1]]
    for customer in (openmeter.customer, bare, deleted):
        assert openmeter(get(f"/customers/{customer}"))["id"] == customer


def test_billing_data_are_answered_in_openmeters_shape(sandbox: Sandbox, openmeter: OpenMeter) -> None:
    plain = sandbox.openmeter.add_customer("plain")
    billing = openmeter(get(f"/customers/{openmeter.customer}/billing"))
    assert billing["app_data"]["stripe"]["customer_id"] == "cus_acme"
    assert openmeter(get(f"/customers/{plain}/billing"))["app_data"] == {}


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/cloudevents+json", EVENT),
        ("application/cloudevents-batch+json", [EVENT]),
        ("application/json", EVENT),
    ],
)
def test_events_are_taken_in_openmeters_shape(
    sandbox: Sandbox, openmeter: OpenMeter, content_type: str, content: Any
) -> None:
    assert openmeter(post(f"{BASE}/events", content, content_type), 202) is None
    assert sandbox.openmeter.usage("tokens", "acme", PERIOD_START, END) == 3.5


def test_konnects_address_has_the_same_answers(openmeter_v3_contract: Document) -> None:
    sandbox = Sandbox(now=NOW, openmeter_versions={"v3"})
    with sandbox.in_background():
        openmeter = used(sandbox, openmeter_v3_contract)
        konnect = Held(sandbox, at_konnect(openmeter_v3_contract))
        for request in (get("/meters"), openmeter.query(), get(f"/customers/{openmeter.customer}")):
            here = openmeter(request)
            assert konnect(replace(request, path=request.path.removeprefix("/api"))) == here


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"filter": {"dimensions": {}}},
        {"subject": ["acme"]},
        {"windowSize": "HOUR"},
        {"from": "yesterday"},
        {"from": None},
        {"to": 1},
        {"granularity": "P2D"},
        {"granularity": "HOUR"},
        {"granularity": 1},
        {"time_zone": None},
        {"time_zone": 3},
        {"group_by_dimensions": "subject"},
        {"group_by_dimensions": [1]},
        {"group_by_dimensions": ["model"] * 101},
        {"filters": []},
        {"filters": {"subject": {"eq": "acme"}}},
        {"filters": {"dimensions": []}},
        filtered(subject="acme"),
        filtered(subject=["acme"]),
        filtered(subject={"equals": "acme"}),
        filtered(subject={"eq": ["acme"]}),
        filtered(subject={"eq": None}),
        filtered(subject={"in": "acme"}),
        filtered(subject={"in": []}),
        filtered(subject={"in": [1]}),
        filtered(subject={"in": ["acme"] * 101}),
        filtered(customer_id={"in": [NOBODY] * 101}),
        filtered(**{f"dimension_{number}": {"eq": "x"} for number in range(11)}),
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_a_query_that_the_document_refuses_is_refused(openmeter: OpenMeter, body: dict[str, Any]) -> None:
    request = openmeter.query(**body)
    with pytest.raises(REFUSED):
        openmeter.contract.check_request(request)
    (told,) = openmeter.answered(request, 400)["invalid_parameters"]
    assert told["field"].startswith(next(iter(body)))


@pytest.mark.parametrize("collection", ["meters", "customers"])
@pytest.mark.parametrize(
    "asked",
    [
        {"page[number]": "one"},
        {"page[size]": "many"},
        {"page[limit]": 10},
        {"pageSize": 100},
        {"limit": 100},
        {"filter[slug]": "tokens"},
        {"filter[key][is]": "tokens"},
    ],
)
def test_a_list_that_the_document_refuses_is_refused(
    openmeter: OpenMeter, collection: str, asked: dict[str, object]
) -> None:
    request = get(f"/{collection}", **asked)
    with pytest.raises(REFUSED):
        openmeter.contract.check_request(request)
    (told,) = openmeter.answered(request, 400)["invalid_parameters"]
    assert next(iter(asked)).startswith(told["field"])


@pytest.mark.parametrize(
    "request_sent",
    [
        get("/meters/tokens"),
        get(f"/meters/{NOBODY.lower()}"),
        get(f"/meters/{NOBODY}1"),
        post(f"{BASE}/meters/tokens/query", SPAN),
        get("/customers/acme"),
        get("/customers/cus_acme/billing"),
    ],
    ids=lambda request: request.path,
)
def test_what_is_no_ulid_is_refused_where_the_document_has_one(openmeter: OpenMeter, request_sent: Request) -> None:
    with pytest.raises(REFUSED):
        openmeter.contract.check_request(request_sent)
    assert openmeter.answered(request_sent, 404)["status"] == 404


@pytest.mark.parametrize(
    "request_sent",
    [
        get(f"/meters/{NOBODY}"),
        post(f"{BASE}/meters/{NOBODY}/query", SPAN),
        get(f"/customers/{NOBODY}"),
        get(f"/customers/{NOBODY}/billing"),
    ],
    ids=lambda request: request.path,
)
def test_what_is_not_there_is_a_problem_in_openmeters_shape(openmeter: OpenMeter, request_sent: Request) -> None:
    assert NOBODY in openmeter(request_sent, 404)["detail"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"from": SPAN["to"], "to": SPAN["from"]}, 400),
        ({"time_zone": "Mars/Olympus"}, 400),
        ({"group_by_dimensions": ["size"]}, 400),
        ({"group_by_dimensions": ["customer_id"]}, 400),
        (filtered(size={"eq": "large"}), 400),
        (filtered(customer_id={"eq": NOBODY}), 404),
    ],
)
def test_refusals_of_what_the_document_allows_are_problems_in_openmeters_shape(
    openmeter: OpenMeter, asked: dict[str, Any], status: int
) -> None:
    assert openmeter(openmeter.query(**asked), status)["instance"].startswith("kong:trace:")


def test_a_refused_key_is_a_problem_in_openmeters_shape(openmeter: OpenMeter) -> None:
    for request in (get("/meters"), openmeter.query(), get(f"/customers/{openmeter.customer}/billing")):
        assert openmeter.answered(request, 401, key="wrong")["status"] == 401


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_injected_errors_are_problems_in_openmeters_shape(openmeter: OpenMeter, status: int) -> None:
    openmeter.sandbox.faults.add(Fault(server="openmeter", status=status))
    assert openmeter(openmeter.query(), status)["status"] == status


@pytest.mark.parametrize(
    "change",
    [
        lambda shown: shown.pop("data"),
        lambda shown: shown.update({"from": "yesterday"}),
        lambda shown: shown.update(total=1),
        lambda shown: shown["data"][0].pop("dimensions"),
        lambda shown: shown["data"][0].update(value=1.5),
        lambda shown: shown["data"][0].update(value="1.5e3"),
        lambda shown: shown["data"][0].update(windowStart="2026-11-01T00:00:00Z"),
        lambda shown: shown["data"][0].update(dimensions={"model": None}),
    ],
)
def test_a_query_answer_in_another_shape_is_refused(openmeter: OpenMeter, change: Callable[[Any], None]) -> None:
    """These checks can fail: a right answer passes, and does not once it is changed."""
    request = openmeter.query()
    right = send("openmeter", openmeter.sandbox, request)
    openmeter.contract.check_answer(request, right)
    shown = json.loads(right.data)
    change(shown)
    with pytest.raises(OpenAPIError):
        openmeter.contract.check_answer(request, replace(right, data=json.dumps(shown).encode()))


@pytest.mark.parametrize("name", ["status", "title", "instance", "detail", "invalid_parameters"])
def test_a_problem_that_lacks_something_is_refused(openmeter: OpenMeter, name: str) -> None:
    request = openmeter.query(granularity="P2D")
    right = send("openmeter", openmeter.sandbox, request)
    openmeter.contract.check_answer(request, right)
    shown = json.loads(right.data)
    del shown[name]
    with pytest.raises(OpenAPIError):
        openmeter.contract.check_answer(request, replace(right, data=json.dumps(shown).encode()))
