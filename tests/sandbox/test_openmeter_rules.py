"""The embedded OpenMeter keeps the rules of OpenMeter's server."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.clock import SandboxClock
from meter_sync.sandbox.openmeter.query import Query, run
from meter_sync.sandbox.openmeter.series import Aggregation
from meter_sync.sandbox.openmeter.world import OpenMeterWorld

from .wire import OpenMeterWire

T0 = datetime(2026, 11, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def shown(seconds: int) -> str:
    return at(seconds).isoformat().replace("+00:00", "Z")


def values(reply: Any) -> dict[str | None, Any]:
    return {row["subject"]: row["value"] for row in reply.json["data"]}


def event(**changes: object) -> dict[str, object]:
    return {
        "id": "1",
        "source": "test",
        "specversion": "1.0",
        "type": "tokens",
        "subject": "acme",
        "time": shown(10),
        "data": {"value": 5},
        **changes,
    }


@pytest.fixture
def tokens(sandbox: Sandbox) -> str:
    """A SUM meter over `tokens` with two dimensions; returns its ULID."""
    return sandbox.openmeter.add_meter("tokens", group_by={"model": "$.model", "region": "$.place.region"})


# -- meters and events ---------------------------------------------------------------------------


def test_a_meter_is_found_by_slug_and_by_id(openmeter: OpenMeterWire, tokens: str) -> None:
    by_slug = openmeter("GET", "/api/v1/meters/tokens").json
    assert by_slug == openmeter("GET", f"/api/v1/meters/{tokens}").json
    assert openmeter("GET", "/api/v1/meters").json == [by_slug]
    assert by_slug["valueProperty"] == "$.value"
    missing = openmeter("GET", "/api/v1/meters/nothing")
    assert missing.status == 404
    assert missing.headers["Content-Type"].startswith("application/problem+json")


def test_a_meter_is_created_over_http_and_counts_events_sent_over_http(
    openmeter: OpenMeterWire,
) -> None:
    meter = {
        "slug": "calls",
        "aggregation": "SUM",
        "eventType": "call",
        "valueProperty": "$.size.bytes",
    }
    assert openmeter("POST", "/api/v1/meters", meter).status == 201
    assert openmeter("POST", "/api/v1/meters", meter).status == 400
    sent = event(type="call", data={"size": {"bytes": "12"}})
    for content_type, body in (
        ("application/cloudevents+json", sent),
        ("application/cloudevents-batch+json", [sent, sent]),
        ("application/json", sent),
        ("application/json", [sent]),
    ):
        assert openmeter("POST", "/api/v1/events", body, content_type=content_type).status == 204
    # Nothing is deduplicated: the same id counted five times.
    assert values(openmeter.query("calls", shown(0), shown(60))) == {None: 60}


@pytest.mark.parametrize(
    "bad",
    [
        event(subject=""),
        event(id=None),
        event(specversion="2.0"),
        event(time="yesterday"),
        event(time="2026-11-01T00:00:10"),
        event(data=[5]),
    ],
)
def test_a_batch_with_a_bad_event_is_refused_as_a_whole(
    sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str, bad: dict[str, object]
) -> None:
    assert openmeter("POST", "/api/v1/events", [event(), bad]).status == 400
    assert sandbox.openmeter.usage("tokens", None, at(0), at(60)) == 0


def test_an_event_without_a_time_happens_now(sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str) -> None:
    assert openmeter("POST", "/api/v1/events", event(time=None)).status == 204
    now = sandbox.clock.now()
    assert sandbox.openmeter.usage("tokens", "acme", now, now + timedelta(seconds=1)) == 5


@pytest.mark.parametrize("token", [None, "om_wrong"])
def test_requests_need_the_token_if_the_server_has_one(
    sandbox: Sandbox, openmeter: OpenMeterWire, token: str | None
) -> None:
    assert openmeter("GET", "/api/v1/meters", token=token).status == 401
    sandbox.openmeter.token = None
    assert openmeter("GET", "/api/v1/meters", token=token).status == 200


# -- ranges --------------------------------------------------------------------------------------


def test_from_is_inclusive_to_is_exclusive_and_times_are_floored_to_the_second(
    sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str
) -> None:
    sandbox.openmeter.add_events("tokens", "a", [(at(9.999), 1), (at(10), 10), (at(19.999), 100)])
    sandbox.openmeter.add_event("tokens", "a", at(20), 1000)
    assert values(openmeter.query("tokens", shown(10), shown(20), subject=["a"])) == {"a": 110}
    assert values(openmeter.query("tokens", shown(9), shown(10), subject=["a"])) == {"a": 1}


@pytest.mark.parametrize("bounds", [(10, 10), (11, 10)])
def test_an_empty_range_is_an_error(openmeter: OpenMeterWire, tokens: str, bounds: tuple[int, int]) -> None:
    reply = openmeter.query("tokens", shown(bounds[0]), shown(bounds[1]))
    assert reply.status == 400
    assert reply.json["detail"]


def test_without_from_all_of_history_counts(sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str) -> None:
    sandbox.openmeter.add_events("tokens", "a", [(at(-1e8), 1), (at(0), 2)])
    assert values(openmeter.query("tokens", None, shown(60))) == {None: 3}


def test_an_old_server_refuses_instants_that_are_not_on_a_minute(
    sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str
) -> None:
    sandbox.openmeter.requires_minutes = True
    reply = openmeter.query("tokens", shown(1), shown(60))
    assert reply.status == 400
    assert reply.json["detail"] == "from must be rounded to MINUTE like YYYY-MM-DDTHH:mm:00"
    assert openmeter.query("tokens", shown(0), shown(60)).status == 200


# -- subjects, groups and filters ----------------------------------------------------------------


def test_no_usage_is_no_row(sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str) -> None:
    sandbox.openmeter.add_event("tokens", "a", at(5), 1)
    reply = openmeter.query("tokens", shown(0), shown(60), subject=["a", "b"])
    assert values(reply) == {"a": 1}
    assert openmeter.query("tokens", shown(60), shown(120)).json["data"] == []


def test_subjects_are_rows_of_their_own_only_if_filtered_or_grouped_by(
    sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str
) -> None:
    for subject, value in (("a", 1), ("b", 2)):
        sandbox.openmeter.add_event("tokens", subject, at(5), value)
    ask = openmeter.query
    assert values(ask("tokens", shown(0), shown(60))) == {None: 3}
    assert values(ask("tokens", shown(0), shown(60), groupBy=["subject"])) == {"a": 1, "b": 2}
    assert values(ask("tokens", shown(0), shown(60), subject=["b"])) == {"b": 2}


def test_the_get_query_answers_as_the_post_query(sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str) -> None:
    for model, value in (("large", 1), ("small", 2)):
        sandbox.openmeter.add_event("tokens", "a", at(5), data={"value": value, "model": model})
    path = f"/api/v1/meters/tokens/query?from={shown(0)}&to={shown(60)}&subject=a&subject=b"
    filtered = openmeter("GET", f"{path}&groupBy=model&filterGroupBy[model]=large").json
    posted = openmeter.query(
        "tokens",
        shown(0),
        shown(60),
        subject=["a", "b"],
        groupBy=["model"],
        filterGroupBy={"model": ["large"]},
    ).json
    assert filtered == posted
    assert [row["groupBy"] for row in posted["data"]] == [{"model": "large"}]


def test_more_than_100_subjects_are_refused(openmeter: OpenMeterWire, tokens: str) -> None:
    subjects = [f"s{number}" for number in range(101)]
    assert openmeter.query("tokens", shown(0), shown(1), subject=subjects).status == 400
    assert openmeter.query("tokens", shown(0), shown(1), subject=subjects[:100]).status == 200


def test_dimensions_filter_and_group_and_unknown_ones_are_refused(
    sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str
) -> None:
    sandbox.openmeter.add_events(
        "tokens",
        "a",
        [
            (at(1), {"value": 1, "model": "large", "place": {"region": "eu"}}),
            (at(2), {"value": 2, "model": "small", "place": {"region": "eu"}}),
            (at(3), {"value": 4, "model": "large"}),
        ],
    )
    ask = openmeter.query
    bounds = (shown(0), shown(60))
    assert values(ask("tokens", *bounds, filterGroupBy={"model": ["large"]})) == {None: 5}
    both = {"model": ["large", "small"], "region": ["eu"]}
    assert values(ask("tokens", *bounds, filterGroupBy=both)) == {None: 3}
    rows = ask("tokens", *bounds, groupBy=["region"]).json["data"]
    assert {row["groupBy"]["region"]: row["value"] for row in rows} == {"eu": 3, None: 4}
    assert ask("tokens", *bounds, filterGroupBy={"colour": ["red"]}).status == 400
    assert ask("tokens", *bounds, groupBy=["colour"]).status == 400
    assert ask("tokens", *bounds, filterGroupby={"model": ["large"]}).status == 400
    assert ask("tokens", *bounds, filterCustomerId=["01SANDB0X"]).status == 404


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [
        ("SUM", 14),
        ("COUNT", 5),
        ("UNIQUE_COUNT", 3),
        ("AVG", 3.5),
        ("MIN", 2),
        ("MAX", 7),
        ("LATEST", 3),
    ],
)
def test_every_aggregation(sandbox: Sandbox, openmeter: OpenMeterWire, aggregation: Aggregation, value: float) -> None:
    sandbox.openmeter.add_meter("m", aggregation)
    events: Sequence[tuple[datetime, Any]] = [
        (at(4), 3),
        (at(1), "2"),
        (at(2), 7),
        (at(3), 2),
        (at(5), {"other": 1}),
    ]
    sandbox.openmeter.add_events("m", "a", events)
    assert values(openmeter.query("m", shown(0), shown(60))) == {None: value}
    exact = sandbox.openmeter.usage("m", "a", at(0), at(60))
    assert exact == Decimal(str(value))


def test_decimals_carry_the_noise_of_doubles_and_usage_does_not(
    sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str
) -> None:
    sandbox.openmeter.add_events("tokens", "a", [(at(1), 0.1), (at(2), 0.2), (at(3), 0.3)])
    reply = openmeter.query("tokens", shown(0), shown(60), subject=["a"])
    assert '"value": 0.6000000000000001' in reply.text
    assert sandbox.openmeter.usage("tokens", "a", at(0), at(60)) == Decimal("0.6")


def test_whole_numbers_are_written_without_a_fraction(sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str) -> None:
    sandbox.openmeter.add_events("tokens", "a", [(at(1), 2**53 - 1), (at(2), 1)])
    reply = openmeter.query("tokens", shown(0), shown(60))
    assert '"value": 9007199254740992,' in reply.text


def test_a_late_event_changes_a_range_long_past(sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str) -> None:
    sandbox.openmeter.add_event("tokens", "a", at(100), 1)
    assert values(openmeter.query("tokens", shown(0), shown(60))) == {}
    sandbox.openmeter.add_event("tokens", "a", at(5), 1)
    assert values(openmeter.query("tokens", shown(0), shown(60))) == {None: 1}


@pytest.mark.parametrize("raw", ["-5", "1e300", "NaN", "null", '"x"'])
def test_any_value_can_be_served_in_place_of_the_true_one(
    sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str, raw: str
) -> None:
    sandbox.openmeter.add_event("tokens", "a", at(1), 1)
    sandbox.openmeter.value_overrides["tokens", "a"] = raw
    reply = openmeter.query("tokens", shown(0), shown(60), subject=["a"])
    assert f'"value": {raw},' in reply.text


# -- windows -------------------------------------------------------------------------------------


def test_the_first_and_the_last_window_are_partial_but_carry_whole_bounds(
    sandbox: Sandbox, openmeter: OpenMeterWire, tokens: str
) -> None:
    hour = 3600
    sandbox.openmeter.add_events("tokens", "a", [(at(10), 1), (at(hour - 1), 2), (at(hour), 4), (at(2 * hour + 5), 8)])
    reply = openmeter.query("tokens", shown(11), shown(2 * hour + 5), windowSize="HOUR")
    assert reply.json["windowSize"] == "HOUR"
    rows = [(row["windowStart"], row["windowEnd"], row["value"]) for row in reply.json["data"]]
    assert rows == [(shown(0), shown(hour), 2), (shown(hour), shown(2 * hour), 4)]


@pytest.mark.parametrize(
    ("size", "zone", "start", "end"),
    [
        ("MINUTE", "UTC", "2026-11-10T12:34:00Z", "2026-11-10T12:35:00Z"),
        ("DAY", "UTC", "2026-11-10T00:00:00Z", "2026-11-11T00:00:00Z"),
        ("MONTH", "UTC", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("DAY", "Asia/Kolkata", "2026-11-09T18:30:00Z", "2026-11-10T18:30:00Z"),
        ("HOUR", "Asia/Kolkata", "2026-11-10T12:30:00Z", "2026-11-10T13:30:00Z"),
    ],
)
def test_windows_are_those_of_the_time_zone(
    sandbox: Sandbox,
    openmeter: OpenMeterWire,
    tokens: str,
    size: str,
    zone: str,
    start: str,
    end: str,
) -> None:
    sandbox.openmeter.add_event("tokens", "a", datetime(2026, 11, 10, 12, 34, 56, tzinfo=UTC), 1)
    reply = openmeter.query("tokens", None, None, windowSize=size, windowTimeZone=zone)
    (row,) = reply.json["data"]
    assert (row["windowStart"], row["windowEnd"]) == (start, end)


@given(
    events=st.lists(st.tuples(st.integers(0, 7200), st.integers(-1000, 1000), st.sampled_from("abc"))),
    cuts=st.lists(st.integers(1, 7200), max_size=4),
    aggregation=st.sampled_from(["SUM", "COUNT"]),
    windows=st.booleans(),
)
def test_the_parts_of_any_split_of_a_period_add_up_to_the_whole(
    events: list[tuple[int, int, str]], cuts: list[int], aggregation: Aggregation, windows: bool
) -> None:
    world = OpenMeterWorld(SandboxClock(T0), token=None)
    world.add_meter("m", aggregation)
    for second, value, subject in events:
        world.add_event("m", subject, at(second), value)
    meter = world.meter("m")
    assert meter is not None
    start = int(T0.timestamp())

    def totals(first: int, last: int) -> Counter[str]:
        query = Query(
            start=start + first,
            end=start + last,
            group_by=("subject",),
            window_size="MINUTE" if windows else None,
        )
        found: Counter[str] = Counter()
        for row in run(world, meter, query):
            found[str(row.subject)] += int(row.value)
        return found

    bounds = sorted({0, 7201, *cuts})
    whole = totals(0, 7201)
    parts: Counter[str] = Counter()
    for first, last in pairwise(bounds):
        for subject, value in totals(first, last).items():
            parts[subject] += value
    expected: Counter[str] = Counter()
    for _, value, subject in events:
        expected[subject] += value if aggregation == "SUM" else 1
    assert {**whole} == {**parts} == {**expected}
