"""The third version of the embedded OpenMeter's API counts usage as OpenMeter's server does."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.openmeter.series import Aggregation

from .wire import OpenMeterWire, Reply

T0 = datetime(2026, 11, 1, tzinfo=UTC)
SPAN = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"}
NOBODY = "01SANDB0X09999999999999999"

Ask = Callable[..., Reply]


@pytest.fixture
def ask(sandbox: Sandbox, openmeter: OpenMeterWire) -> Ask:
    """Query a meter that five subjects have used in steps of an hour, filtering by dimensions."""
    meter = sandbox.openmeter.add_meter("tokens", group_by={"model": "$.model"})
    for hour, subject in enumerate(("acme", "a", "b", "other", "nobody")):
        data = {"value": 2**hour, "model": "large" if hour % 2 else "small"}
        sandbox.openmeter.add_event("tokens", subject, T0 + timedelta(hours=hour), data=data)

    def query(dimensions: dict[str, Any] | None = None, **fields: object) -> Reply:
        filters = {} if dimensions is None else {"filters": {"dimensions": dimensions}}
        return openmeter("POST", f"/api/v3/openmeter/meters/{meter}/query", {**SPAN, **filters, **fields})

    return query


@pytest.fixture
def acme(sandbox: Sandbox) -> str:
    return sandbox.openmeter.add_customer("acme", subjects=["a", "b"])


def rows(reply: Reply) -> list[tuple[str, dict[str, str]]]:
    """Return the value and the dimensions of each row."""
    assert reply.status == 200, reply.text
    return [(row["value"], row["dimensions"]) for row in reply.json["data"]]


def refusal(reply: Reply) -> str:
    """Return the field that a 400 names."""
    assert reply.status == 400, reply.text
    (told,) = reply.json["invalid_parameters"]
    assert told["reason"]
    return str(told["field"])


# -- whose usage ---------------------------------------------------------------------------------


def test_without_a_filter_all_usage_is_one_row(ask: Ask) -> None:
    assert rows(ask()) == [("31", {})]


@pytest.mark.parametrize("condition", [{"in": ["b", "acme", "idle"]}, {"in": ["acme", "b", "b"]}])
def test_filtering_by_subject_groups_by_it(ask: Ask, condition: dict[str, Any]) -> None:
    found = [("1", {"subject": "acme"}), ("4", {"subject": "b"})]
    assert sorted(rows(ask({"subject": condition})), key=str) == found
    assert rows(ask({"subject": {"eq": "b"}})) == found[1:]
    assert rows(ask({"subject": {"eq": "idle"}})) == []


def test_filtering_by_customer_groups_by_it(sandbox: Sandbox, ask: Ask, acme: str) -> None:
    other, idle = sandbox.openmeter.add_customer(subjects=["other"]), sandbox.openmeter.add_customer("idle")
    assert rows(ask({"customer_id": {"eq": acme}})) == [("7", {"customer_id": acme})]
    both = ask({"customer_id": {"in": [acme, other, idle]}}, group_by_dimensions=["customer_id"])
    assert rows(both) == [("7", {"customer_id": acme}), ("8", {"customer_id": other})]


def test_subjects_and_customers_together_are_what_is_both(ask: Ask, acme: str) -> None:
    found = ask({"subject": {"in": ["b", "other"]}, "customer_id": {"eq": acme}})
    assert rows(found) == [("4", {"subject": "b", "customer_id": acme})]


def test_rows_by_customer_need_a_filter_by_customer(ask: Ask) -> None:
    assert refusal(ask(group_by_dimensions=["customer_id"])) == "group_by_dimensions"


@pytest.mark.parametrize("how", ["delete_customer", "delete_after_listing"])
def test_a_deleted_customer_is_counted(sandbox: Sandbox, ask: Ask, acme: str, how: str) -> None:
    getattr(sandbox.openmeter, how)(acme)
    assert rows(ask({"customer_id": {"eq": acme}})) == [("7", {"customer_id": acme})]


@pytest.mark.parametrize("unknown", [NOBODY, "acme"])
def test_one_unknown_customer_refuses_the_whole_query(ask: Ask, acme: str, unknown: str) -> None:
    refused = ask({"customer_id": {"in": [acme, unknown]}})
    assert refused.status == 404
    assert unknown in refused.json["detail"]


@pytest.mark.parametrize("name", ["subject", "customer_id", "model"])
def test_more_than_100_values_are_refused(sandbox: Sandbox, ask: Ask, name: str) -> None:
    values = [sandbox.openmeter.add_customer(f"customer_{number}") for number in range(101)]
    assert ask({name: {"in": values[:100]}}).status == 200
    assert refusal(ask({name: {"in": values}})) == f"filters.dimensions.{name}.in"


def test_more_than_10_dimensions_are_refused(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    names = [f"d{number}" for number in range(11)]
    meter = sandbox.openmeter.add_meter("wide", group_by={name: f"$.{name}" for name in names})

    def ask(count: int) -> Reply:
        filters = {"dimensions": {name: {"eq": "x"} for name in names[:count]}}
        return openmeter("POST", f"/api/v3/openmeter/meters/{meter}/query", {"filters": filters})

    assert rows(ask(10)) == []
    assert refusal(ask(11)) == "filters.dimensions"


# -- dimensions ----------------------------------------------------------------------------------


def test_dimensions_filter_and_group(ask: Ask) -> None:
    assert rows(ask({"model": {"in": ["small", "tiny"]}})) == [("21", {})]
    assert rows(ask({"model": {"eq": "large"}, "subject": {"eq": "a"}})) == [("2", {"subject": "a"})]
    grouped = ask(group_by_dimensions=["model"])
    assert sorted(rows(grouped), key=str) == [("10", {"model": "large"}), ("21", {"model": "small"})]


@pytest.mark.parametrize("model", [None, "", "absent"])
def test_a_dimension_without_a_value_is_left_out_of_its_row_and_is_in_no_filtered_one(
    sandbox: Sandbox, ask: Ask, model: str | None
) -> None:
    data = {"value": 100} if model == "absent" else {"value": 100, "model": model}
    sandbox.openmeter.add_event("tokens", "new", T0, data=data)
    assert ("100", {}) in rows(ask(group_by_dimensions=["model"]))
    assert rows(ask({"model": {"in": ["small", "large"]}})) == [("31", {})]
    assert rows(ask()) == [("131", {})]


def test_a_dimension_that_the_meter_does_not_have_is_refused(ask: Ask) -> None:
    assert refusal(ask({"colour": {"eq": "red"}})) == "filters.dimensions"
    assert refusal(ask(group_by_dimensions=["colour"])) == "group_by_dimensions"


@pytest.mark.parametrize("operator", ["neq", "nin", "contains", "ncontains", "and", "or", "exists"])
def test_other_operators_are_refused(ask: Ask, operator: str) -> None:
    for name in ("subject", "customer_id", "model"):
        assert refusal(ask({name: {operator: "x"}})) == f"filters.dimensions.{name}.{operator}"


@pytest.mark.parametrize("condition", [{}, {"eq": "a", "in": ["a"]}])
def test_a_filter_has_exactly_one_operator(ask: Ask, condition: dict[str, Any]) -> None:
    assert refusal(ask({"subject": condition})) == "filters.dimensions.subject"


# -- ranges and buckets --------------------------------------------------------------------------


def test_from_is_inclusive_and_to_is_exclusive(sandbox: Sandbox, ask: Ask) -> None:
    sandbox.openmeter.add_event("tokens", "edge", T0 + timedelta(days=1), 1000)
    assert rows(ask()) == [("31", {})]
    assert rows(ask(**{"from": "2026-11-02T00:00:00Z", "to": "2026-11-02T00:00:01Z"})) == [("1000", {})]
    shown = ask().json
    assert {shown["from"], shown["data"][0]["from"]} == {SPAN["from"]}
    assert {shown["to"], shown["data"][0]["to"]} == {SPAN["to"]}


def test_an_empty_range_is_refused(ask: Ask) -> None:
    assert refusal(ask(to=SPAN["from"])) == "from"


@pytest.mark.parametrize(
    ("granularity", "zone", "start", "end"),
    [
        ("PT1M", "UTC", "2026-11-10T12:34:00Z", "2026-11-10T12:35:00Z"),
        ("PT1H", "UTC", "2026-11-10T12:00:00Z", "2026-11-10T13:00:00Z"),
        ("P1D", "UTC", "2026-11-10T00:00:00Z", "2026-11-11T00:00:00Z"),
        ("P1M", "UTC", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("P1D", "Asia/Kolkata", "2026-11-09T18:30:00Z", "2026-11-10T18:30:00Z"),
        ("P1D", None, "2026-11-10T00:00:00Z", "2026-11-11T00:00:00Z"),
    ],
)
def test_buckets_are_those_of_the_time_zone(
    sandbox: Sandbox, ask: Ask, granularity: str, zone: str | None, start: str, end: str
) -> None:
    sandbox.openmeter.add_event("tokens", "one", datetime(2026, 11, 10, 12, 34, 56, tzinfo=UTC), 1)
    asked = {"from": "2026-11-10T12:34:56Z", "to": "2026-11-10T12:34:57Z", "granularity": granularity}
    (row,) = ask(**asked, **({"time_zone": zone} if zone else {})).json["data"]
    assert (row["from"], row["to"], row["value"]) == (start, end, "1")


@pytest.mark.parametrize(
    ("field", "value"),
    [("granularity", "HOUR"), ("granularity", "P1Y"), ("time_zone", "Mars/Olympus"), ("from", "yesterday")],
)
def test_what_is_no_bucket_zone_or_instant_is_refused(ask: Ask, field: str, value: str) -> None:
    assert refusal(ask(**{field: value})) == field


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [("SUM", "14"), ("COUNT", "5"), ("UNIQUE_COUNT", "3"), ("AVG", "3.5"), ("MIN", "2"), ("MAX", "7"), ("LATEST", "3")],
)
def test_every_aggregation(sandbox: Sandbox, openmeter: OpenMeterWire, aggregation: Aggregation, value: str) -> None:
    meter = sandbox.openmeter.add_meter("m", aggregation)
    events: tuple[tuple[int, Any], ...] = ((4, 3), (1, "2"), (2, 7), (3, 2), (5, {"other": 1}))
    sandbox.openmeter.add_events("m", "a", [(T0 + timedelta(seconds=at), each) for at, each in events])
    assert rows(openmeter("POST", f"/api/v3/openmeter/meters/{meter}/query", SPAN)) == [(value, {})]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0.1, 0.2, 0.3), "0.6000000000000001"),
        ((2**53 - 1, 1), "9007199254740992"),
        ((1e-7, 0), "0.0000001"),
        ((1e22, 0.5), "10000000000000000000000"),
        ((-5, 2.5), "-2.5"),
        ((5, -5), "0"),
    ],
)
def test_a_value_is_a_double_in_digits(sandbox: Sandbox, ask: Ask, values: tuple[float, ...], shown: str) -> None:
    sandbox.openmeter.add_events("tokens", "one", [(T0, value) for value in values])
    assert rows(ask({"subject": {"eq": "one"}})) == [(shown, {"subject": "one"})]


@pytest.mark.parametrize(
    ("raw", "shown"), [("-5", '"-5"'), ("1e300", '"1e300"'), ("NaN", '"NaN"'), ("null", "null"), ('"x"', '"x"')]
)
def test_any_value_can_be_served_in_place_of_the_true_one(sandbox: Sandbox, ask: Ask, raw: str, shown: str) -> None:
    sandbox.openmeter.value_overrides["tokens", "a"] = raw
    assert f'"value": {shown},' in ask({"subject": {"eq": "a"}}).text


# -- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"filterCustomerId": []}, "filterCustomerId"),
        ({"windowSize": "HOUR"}, "windowSize"),
        ({"to": None}, "to"),
        ({"filters": {"subject": {"eq": "a"}}}, "filters.subject"),
        ({"filters": {"dimensions": {"subject": {"equals": "a"}}}}, "filters.dimensions.subject.equals"),
        ({"filters": {"dimensions": {"subject": None}}}, "filters.dimensions.subject"),
    ],
)
def test_what_the_server_does_not_know_is_refused_by_its_place(ask: Ask, body: dict[str, Any], field: str) -> None:
    assert refusal(ask(**body)) == field


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_query_is_json(sandbox: Sandbox, openmeter: OpenMeterWire, content_type: str) -> None:
    path = f"/api/v3/openmeter/meters/{sandbox.openmeter.add_meter('tokens')}/query"
    assert openmeter("POST", path, SPAN).status == 200
    assert refusal(openmeter("POST", path, SPAN, content_type=content_type)) == "content-type"
    assert openmeter("POST", path, [SPAN]).status == 400
    assert openmeter("GET", path).status == 405
