"""The embedded OpenMeter answers in the shapes that OpenMeter publishes.

Its document is wrong in two places that matter here. It calls `to` inclusive, but the server counts
`time < to`: that is no matter of shape, so here it is only seen that an event at `to` is in no row.
And it requires `detail` in every problem, but a 5xx has none: 5xx answers are held against the
document with that put right. Properties that the document does not know are refused as well as
missing and mistyped ones.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from openapi_core.exceptions import OpenAPIError

from meter_sync.sandbox import Fault, Sandbox

from .documents import Document, with_terse_server_errors
from .held import EVENT, Held, post
from .messages import Request, Response, send
from .traffic import PERIOD_START

END = PERIOD_START + timedelta(days=2)
SPAN = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-03T00:00:00Z"}
QUERY = "/api/v1/meters/tokens/query"


@pytest.fixture
def openmeter(sandbox: Sandbox, openmeter_contract: Document) -> Held:
    sandbox.openmeter.add_meter("tokens", group_by={"model": "$.model"}, description="Tokens")
    for time, model in ((PERIOD_START, "large"), (END - timedelta(seconds=1), "small")):
        data = {"value": 0.5, "model": model}
        sandbox.openmeter.add_event("tokens", "acme", time, data=data)
    sandbox.openmeter.add_event("tokens", "acme", END, data={"value": 100, "model": "large"})
    return Held(sandbox, openmeter_contract)


def test_meters_are_answered_in_openmeters_shape(sandbox: Sandbox, openmeter: Held) -> None:
    identifier = sandbox.openmeter.add_meter(
        "calls", "COUNT", event_from=PERIOD_START, metadata={"team": "core"}, name="Calls"
    )
    listed = openmeter(Request("GET", "/api/v1/meters"))
    assert [each["slug"] for each in listed] == ["tokens", "calls"]
    for name in ("calls", identifier):
        assert openmeter(Request("GET", f"/api/v1/meters/{name}")) == listed[1]


@pytest.mark.parametrize("aggregation", ["SUM", "COUNT", "UNIQUE_COUNT", "AVG", "MIN", "MAX", "LATEST"])
def test_meters_of_every_aggregation_are_answered_in_openmeters_shape(openmeter: Held, aggregation: str) -> None:
    meter = {"slug": "m", "aggregation": aggregation, "eventType": "e"}
    value = {} if aggregation == "COUNT" else {"valueProperty": "$.value"}
    assert openmeter(post("/api/v1/meters", {**meter, **value}), 201)["aggregation"] == aggregation


@pytest.mark.parametrize(
    ("asked", "values"),
    [
        ({}, [1]),
        ({"groupBy": ["subject"], "subject": ["acme"]}, [1]),
        ({"groupBy": ["subject", "model"]}, [0.5, 0.5]),
        ({"filterGroupBy": {"model": ["small", "other"]}}, [0.5]),
        ({"windowSize": "DAY", "windowTimeZone": "UTC"}, [0.5, 0.5]),
        ({"subject": ["nobody"]}, []),
    ],
)
def test_queries_are_answered_in_openmeters_shape(openmeter: Held, asked: dict[str, Any], values: list[float]) -> None:
    """The event at `to`, which would add 100, is in no row: `to` is exclusive."""
    answer = openmeter(post(QUERY, {**SPAN, **asked}))
    assert sorted(row["value"] for row in answer["data"]) == values


@pytest.mark.parametrize(
    ("asked", "values"),
    [
        ([], [1]),
        ([("subject", "acme"), ("subject", "other"), ("groupBy", "subject")], [1]),
        ([("filterGroupBy[model]", "small")], [0.5]),
        ([("windowSize", "HOUR")], [0.5, 0.5]),
    ],
)
def test_queries_in_the_address_are_answered_in_openmeters_shape(
    openmeter: Held, asked: list[tuple[str, str]], values: list[float]
) -> None:
    answer = openmeter(Request("GET", QUERY, query=urlencode([*SPAN.items(), *asked])))
    assert sorted(row["value"] for row in answer["data"]) == values


@pytest.mark.parametrize("group_by", [["customer_id"], ["customer_id", "subject"], ["customer_id", "model"]])
def test_queries_by_customer_are_answered_in_openmeters_shape(
    sandbox: Sandbox, openmeter: Held, group_by: list[str]
) -> None:
    customer = sandbox.openmeter.add_customer("acme")
    answer = openmeter(post(QUERY, {**SPAN, "filterCustomerId": [customer], "groupBy": group_by}))
    assert {row["customerId"] for row in answer["data"]} == {customer}
    address = urlencode([*SPAN.items(), ("filterCustomerId", customer), *(("groupBy", each) for each in group_by)])
    assert openmeter(Request("GET", QUERY, query=address)) == answer


def test_customers_are_answered_in_openmeters_shape(sandbox: Sandbox, openmeter: Held) -> None:
    """With and without a key, and deleted."""
    sandbox.openmeter.add_customer("acme", name="Acme", subjects=["a", "b"])
    sandbox.openmeter.add_customer(name="Bare")
    sandbox.openmeter.delete_customer(sandbox.openmeter.add_customer("deleted"))
    asked = {"page": 1, "pageSize": 2, "orderBy": "id", "order": "ASC", "includeDeleted": "true"}
    first, second = (
        openmeter(Request("GET", "/api/v1/customers", query=urlencode({**asked, "page": page}))) for page in (1, 2)
    )
    names = [each["name"] for page in (first, second) for each in page["items"]]
    assert names == ["Acme", "Bare", "deleted"]


def test_the_app_data_of_a_customer_is_answered_in_openmeters_shape(sandbox: Sandbox, openmeter: Held) -> None:
    customer = sandbox.openmeter.add_customer("acme", stripe_customer_id="cus_acme")
    for id_or_key in (customer, "acme"):
        (shown,) = openmeter(Request("GET", f"/api/v1/customers/{id_or_key}/apps"))["items"]
        assert (shown["type"], shown["stripeCustomerId"]) == ("stripe", "cus_acme")


def test_a_customer_without_apps_is_answered_in_openmeters_shape(sandbox: Sandbox, openmeter: Held) -> None:
    customer = sandbox.openmeter.add_customer("acme")
    assert openmeter(Request("GET", f"/api/v1/customers/{customer}/apps"))["items"] == []
    openmeter.answered(Request("GET", "/api/v1/customers/01SANDB0X09999999999999999/apps"), 404)


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/cloudevents+json", EVENT),
        ("application/cloudevents-batch+json", [EVENT, {**EVENT, "id": "2", "time": None}]),
        ("application/json", EVENT),
        ("application/json", [EVENT]),
    ],
)
def test_events_are_taken_in_openmeters_shape(
    sandbox: Sandbox, openmeter: Held, content_type: str, content: Any
) -> None:
    assert openmeter(post("/api/v1/events", content, content_type), 204) is None
    early = sandbox.openmeter.usage("tokens", "acme", PERIOD_START, datetime(2026, 11, 2, tzinfo=UTC))
    assert str(early) == "3.5"


@pytest.mark.parametrize(
    ("request_sent", "status"),
    [
        (Request("GET", "/api/v1/meters/none"), 404),
        (post("/api/v1/meters/none/query", SPAN), 404),
        (post(QUERY, {"from": SPAN["to"], "to": SPAN["from"]}), 400),
        (post(QUERY, {**SPAN, "groupBy": ["size"]}), 400),
        (post(QUERY, {**SPAN, "filterCustomerId": ["none"]}), 404),
        (Request("GET", QUERY, query="from=yesterday"), 400),
        (post("/api/v1/events", {**EVENT, "specversion": "0.3"}), 400),
        (post("/api/v1/meters", {"slug": "tokens", "aggregation": "COUNT", "eventType": "e"}), 400),
    ],
)
def test_refusals_are_problems_in_openmeters_shape(openmeter: Held, request_sent: Request, status: int) -> None:
    assert openmeter.answered(request_sent, status)["status"] == status


def test_a_refused_key_is_a_problem_in_openmeters_shape(openmeter: Held) -> None:
    for request in (Request("GET", "/api/v1/meters"), post(QUERY, SPAN)):
        assert openmeter.answered(request, 401, key="wrong")["status"] == 401


@pytest.mark.parametrize("status", [500, 503])
def test_server_errors_are_problems_without_the_detail_that_the_document_requires(
    sandbox: Sandbox, openmeter: Held, openmeter_contract: Document, status: int
) -> None:
    request = post(QUERY, SPAN)
    sandbox.faults.add(Fault(server="openmeter", status=status))
    response = send("openmeter", sandbox, request)
    assert response.status_code == status
    with pytest.raises(OpenAPIError):
        openmeter_contract.check_answer(request, response)
    corrected = with_terse_server_errors(openmeter_contract)
    corrected.check_answer(request, response)
    with pytest.raises(OpenAPIError):
        corrected.check_answer(request, replace(response, data=b'{"status": 500}'))


@pytest.mark.parametrize(
    "change",
    [
        lambda shown: shown.pop("data"),
        lambda shown: shown.update(windowSize="WEEK"),
        lambda shown: shown.update({"from": "yesterday"}),
        lambda shown: shown.update(total=1),
        lambda shown: shown["data"][0].pop("windowEnd"),
        lambda shown: shown["data"][0].update(value="1"),
        lambda shown: shown["data"][0].update(value=None),
        lambda shown: shown["data"][0].update(subject=7),
        lambda shown: shown["data"][0].update(groupBy={"model": 7}),
    ],
)
def test_a_query_answer_in_another_shape_is_refused(
    sandbox: Sandbox,
    openmeter: Held,
    openmeter_contract: Document,
    change: Callable[[Any], None],
) -> None:
    """These checks can fail: a right answer passes, and does not once it is changed."""
    request = post(QUERY, SPAN)
    right = send("openmeter", sandbox, request)
    openmeter_contract.check_answer(request, right)
    shown = json.loads(right.data)
    change(shown)
    wrong: Response = replace(right, data=json.dumps(shown).encode())
    with pytest.raises(OpenAPIError):
        openmeter_contract.check_answer(request, wrong)


@pytest.mark.parametrize("content_type", ["text/plain", "application/problem+json"])
def test_an_answer_of_another_content_type_is_refused(
    sandbox: Sandbox, openmeter: Held, openmeter_contract: Document, content_type: str
) -> None:
    request = post(QUERY, SPAN)
    right = send("openmeter", sandbox, request)
    headers = right.headers.copy()
    headers["content-type"] = content_type
    with pytest.raises(OpenAPIError):
        openmeter_contract.check_answer(request, replace(right, headers=headers))
