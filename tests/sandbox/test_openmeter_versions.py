"""Both versions of the embedded OpenMeter's API show one world, and either can be served alone."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from meter_sync.sandbox import Fault, Sandbox

from .instants import NOW
from .wire import OpenMeterWire, Reply

T0 = datetime(2026, 11, 1, tzinfo=UTC)
V1, V3, KONNECT = "/api/v1/meters", "/api/v3/openmeter/meters", "/v3/openmeter/meters"
PROBLEM = "application/problem+json"
NAIVE = datetime(2026, 11, 1)  # noqa: DTZ001 (that it has no zone is the point)

Version = Literal["v1", "v3"]
EACH = pytest.mark.parametrize("version", ["v1", "v3"])


def query(openmeter: OpenMeterWire, version: Version, meter: str, start: datetime | None, end: datetime) -> Any:
    """Return the answer to a query by the id of a meter."""
    bounds = {"to": end.isoformat(), **({"from": start.isoformat()} if start else {})}
    reply = openmeter("POST", f"{V1 if version == 'v1' else V3}/{meter}/query", bounds)
    assert reply.status == 200, reply.text
    return reply.json


@pytest.mark.parametrize(
    ("versions", "served"),
    [({"v1", "v3"}, {V1, V3}), ({"v1"}, {V1}), ({"v3"}, {V3, KONNECT})],
    ids=["both", "v1", "v3"],
)
def test_what_is_not_served_is_an_unknown_route(versions: set[Version], served: set[str]) -> None:
    sandbox = Sandbox(now=NOW, openmeter_versions=versions)
    with sandbox.in_background():
        openmeter = OpenMeterWire(sandbox)
        for path in (V1, V3, KONNECT):
            reply = openmeter("GET", path)
            assert reply.status == (200 if path in served else 404)
            if path not in served:
                assert reply.headers["Content-Type"] == PROBLEM
                assert reply.json["instance"]


@pytest.mark.parametrize("versions", [set(), {"v2"}, {"v1", "v2"}])
def test_a_version_that_there_is_not_is_refused(versions: Any) -> None:
    with pytest.raises(ValueError, match="not versions"):
        Sandbox(openmeter_versions=versions)


@pytest.mark.parametrize(("versions", "end"), [({"v1", "v3"}, ""), ({"v1"}, ""), ({"v3"}, "/api/v3")])
def test_the_environment_points_at_a_version_that_is_served(versions: set[Version], end: str) -> None:
    sandbox = Sandbox(now=NOW, openmeter_versions=versions)
    with sandbox.in_background():
        assert sandbox.environment()["OPENMETER_URL"] == sandbox.openmeter_url + end
        assert sandbox.openmeter_v3_url == sandbox.openmeter_url + "/api/v3"


@pytest.mark.parametrize("token", [None, "om_wrong"])
def test_each_version_needs_the_token_if_the_server_has_one(
    sandbox: Sandbox, openmeter: OpenMeterWire, token: str | None
) -> None:
    replies = [openmeter("GET", path, token=token) for path in (V1, V3)]
    assert [reply.status for reply in replies] == [401, 401]
    assert replies[0].json["detail"] == replies[1].json["detail"]
    sandbox.openmeter.token = None
    assert [openmeter("GET", path, token=token).status for path in (V1, V3)] == [200, 200]


@pytest.mark.parametrize(
    ("path", "status"), [("/api/v3/openmeter/plans", 404), ("/api/v3/openmeter/meters/", 404), ("/api/v3/meters", 404)]
)
def test_a_route_that_there_is_not_is_a_problem(openmeter: OpenMeterWire, path: str, status: int) -> None:
    reply = openmeter("GET", path)
    assert (reply.status, reply.headers["Content-Type"], reply.json["status"]) == (status, PROBLEM, status)


@pytest.mark.parametrize("path", ["events", "meters", "customers"])
def test_a_method_that_a_route_does_not_have_is_a_problem(openmeter: OpenMeterWire, path: str) -> None:
    assert openmeter("DELETE", f"/api/v3/openmeter/{path}").status == 405


def test_an_event_sent_to_one_version_is_usage_in_both(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    meter = sandbox.openmeter.add_meter("tokens")
    event = {
        "id": "1",
        "source": "test",
        "specversion": "1.0",
        "type": "tokens",
        "subject": "acme",
        "time": "2026-11-01T00:00:10Z",
        "data": {"value": 5},
    }
    assert openmeter("POST", "/api/v1/events", event).status == 204
    assert openmeter("POST", "/api/v3/openmeter/events", event).status == 202
    refused = openmeter("POST", "/api/v3/openmeter/events", {**event, "specversion": "2.0"})
    assert refused.status == 400
    assert refused.json["invalid_parameters"]
    shown = [query(openmeter, version, meter, T0, NOW)["data"][0]["value"] for version in ("v1", "v3")]
    assert shown == [10, "10"]


def test_no_two_problems_have_the_same_id(openmeter: OpenMeterWire) -> None:
    replies: list[Reply] = [openmeter("GET", f"{path}/none") for path in (V1, V3, V1, V3)]
    assert {reply.status for reply in replies} == {404}
    assert len({reply.json["instance"].rpartition(":")[2].rpartition("/")[2] for reply in replies}) == 4


@pytest.mark.parametrize("status", [400, 410, 429, 500, 503])
def test_an_injected_failure_is_shown_as_the_version_that_is_asked_shows_it(
    sandbox: Sandbox, openmeter: OpenMeterWire, status: int
) -> None:
    sandbox.faults.add(Fault(server="openmeter", status=status, times=2))
    first, third = openmeter("GET", V1), openmeter("GET", V3)
    assert {first.status, third.status} == {status}
    assert ("detail" in first.json) == (status < 500)
    assert third.json["detail"]
    assert ("invalid_parameters" in third.json) == (status == 400)
    assert third.json["instance"].startswith("kong:trace:")


# -- from when on a meter counts -----------------------------------------------------------------


@EACH
def test_a_meter_counts_from_its_instant_on_and_no_answer_says_so(
    sandbox: Sandbox, openmeter: OpenMeterWire, version: Version
) -> None:
    meter = sandbox.openmeter.add_meter("tokens", event_from=T0 + timedelta(hours=1))
    for hour, value in ((0, 1), (0.999, 10), (1, 100), (2, 1000)):
        sandbox.openmeter.add_event("tokens", "acme", T0 + timedelta(hours=hour), value)

    def counted(start: datetime | None) -> float:
        answer = query(openmeter, version, meter, start, NOW)
        (row,) = answer["data"]
        if start is not None:
            starts = {answer["from"], row["windowStart" if version == "v1" else "from"]}
            assert starts == {start.isoformat().replace("+00:00", "Z")}
        return float(row["value"])

    assert [counted(start) for start in (None, T0, T0 + timedelta(hours=1))] == [1100, 1100, 1100]
    assert counted(T0 + timedelta(hours=2)) == 1000
    assert query(openmeter, version, meter, T0, T0 + timedelta(hours=1))["data"] == []


@EACH
def test_a_meters_instant_is_floored_to_the_second_as_the_times_of_events_are(
    sandbox: Sandbox, openmeter: OpenMeterWire, version: Version
) -> None:
    meter = sandbox.openmeter.add_meter("tokens", event_from=T0 + timedelta(seconds=10.5))
    sandbox.openmeter.add_events("tokens", "acme", [(T0 + timedelta(seconds=s), 2**s) for s in (9, 10, 11)])
    (row,) = query(openmeter, version, meter, T0, NOW)["data"]
    assert float(row["value"]) == 2**10 + 2**11


@EACH
def test_a_meter_that_is_made_anew_counts_from_its_own_instant_on(
    sandbox: Sandbox, openmeter: OpenMeterWire, version: Version
) -> None:
    before = sandbox.openmeter.add_meter("tokens")
    sandbox.openmeter.add_events("tokens", "acme", [(T0, 1), (T0 + timedelta(hours=1), 10)])
    assert float(query(openmeter, version, before, T0, NOW)["data"][0]["value"]) == 11
    sandbox.openmeter.delete_meter("tokens")
    anew = sandbox.openmeter.add_meter("tokens", event_from=T0 + timedelta(hours=1))
    assert float(query(openmeter, version, anew, T0, NOW)["data"][0]["value"]) == 10


def test_each_version_says_from_when_on_a_meter_counts(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    always = sandbox.openmeter.add_meter("always")
    since = sandbox.openmeter.add_meter("since", event_from=T0)
    for path, name in ((V1, "eventFrom"), (V3, "events_from")):
        assert openmeter("GET", f"{path}/{since}").json[name] == "2026-11-01T00:00:00Z"
        assert name not in openmeter("GET", f"{path}/{always}").json


def test_a_meters_instant_has_a_zone(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="aware"):
        sandbox.openmeter.add_meter("tokens", event_from=NAIVE)


METER_IN_V3 = {"key": "made", "name": "Made", "aggregation": "sum", "event_type": "call", "value_property": "$.n"}


def test_a_meter_that_is_made_in_one_version_is_there_in_the_other(openmeter: OpenMeterWire) -> None:
    made = openmeter("POST", "/api/v3/openmeter/meters", {**METER_IN_V3, "dimensions": {"model": "$.model"}})
    assert made.status == 201
    shown = openmeter("GET", "/api/v1/meters/made").json
    assert (shown["id"], shown["aggregation"], shown["valueProperty"]) == (made.json["id"], "SUM", "$.n")
    old = {"slug": "old", "aggregation": "COUNT", "eventType": "call"}
    assert openmeter("POST", "/api/v1/meters", old).status == 201
    keys = {one["key"] for one in openmeter("GET", "/api/v3/openmeter/meters").json["data"]}
    assert keys >= {"made", "old"}


@pytest.mark.parametrize(
    "change",
    [
        {"key": "Not A Key"},
        {"key": "k" * 65},
        {"key": None},
        {"name": ""},
        {"name": "n" * 257},
        {"aggregation": "SUM"},
        {"event_type": 1},
        {"value_property": "n"},
        {"events_from": "yesterday"},
        {"dimensions": ["model"]},
        {"slug": "made"},
    ],
    ids=str,
)
def test_a_meter_that_makes_no_sense_in_v3_is_refused(openmeter: OpenMeterWire, change: dict[str, object]) -> None:
    assert openmeter("POST", "/api/v3/openmeter/meters", {**METER_IN_V3, **change}).status == 400


def test_a_meter_in_v3_lacks_nothing(openmeter: OpenMeterWire) -> None:
    for name in METER_IN_V3:
        without = {key: value for key, value in METER_IN_V3.items() if key != name}
        assert openmeter("POST", "/api/v3/openmeter/meters", without).status == 400


def test_two_meters_cannot_have_one_key(openmeter: OpenMeterWire) -> None:
    replies = [openmeter("POST", "/api/v3/openmeter/meters", METER_IN_V3) for _ in range(2)]
    assert [reply.status for reply in replies] == [201, 400]
