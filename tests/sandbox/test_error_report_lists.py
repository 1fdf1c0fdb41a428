"""Error reports are listed by instants, kinds and meters, page by page."""

from datetime import datetime, timezone

import pytest

from meter_sync.sandbox import Sandbox

from .instants import DAY, HOUR, MINUTE, NOW, SECOND
from .metering import ERROR_REPORT, ERRORS, NO_METER_FOUND, UNKNOWN, Meter, Metered, errors
from .wire import StripeWire


def reported(sandbox: Sandbox, usage: Metered, count: int) -> list[str]:
    """Let so many error events be made, a minute apart from NOW on; return their ids, newest first."""
    made = []
    for _ in range(count):
        usage.send(1, **UNKNOWN)
        made.append(errors(usage.stripe)[0]["id"])
        sandbox.clock.advance(MINUTE)
    return list(reversed(made))


def pages_of_errors(usage: Metered, **filters: object) -> list[list[str]]:
    """Follow the pages of two error events each; return the ids on each page."""
    page = usage.stripe("GET", ERRORS, {**filters, "limit": 2}).json
    pages = [page]
    while page["next_page_url"] is not None:
        page = usage.stripe("GET", page["next_page_url"]).json
        pages.append(page)
    return [[event["id"] for event in each["data"]] for each in pages]


def test_error_events_are_listed_newest_first_from_and_until_any_instant(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    newest, middle, oldest = reported(sandbox, usage, 3)

    def listed(**bounds: datetime) -> list[str]:
        filters = {f"created[{name}]": instant.isoformat() for name, instant in bounds.items()}
        return [event["id"] for event in errors(usage.stripe, **filters)]

    assert listed() == [newest, middle, oldest]
    assert listed(gt=NOW + MINUTE) == [newest]
    assert listed(gte=NOW + MINUTE) == [newest, middle]
    assert listed(lt=NOW + MINUTE) == [oldest]
    assert listed(lte=NOW + MINUTE) == [middle, oldest]
    assert listed(gt=NOW, lt=NOW + 2 * MINUTE) == [middle]


def test_error_events_are_listed_in_any_time_zone_but_not_without_one(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    newest, _ = reported(sandbox, usage, 2)
    assert [event["id"] for event in errors(usage.stripe, **{"created[gt]": "2026-11-10T13:00:30+01:00"})] == [newest]
    for instant in ("2026-11-10T12:00:30", "2026-11-10", "yesterday", ""):
        refused = usage.stripe("GET", ERRORS, {"created[gt]": instant})
        assert (refused.status, refused.error["param"]) == (400, "created[gt]")


def test_error_events_are_listed_for_30_days_and_read_by_their_ids_afterwards(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    newest, oldest = reported(sandbox, usage, 2)
    sandbox.clock.move_to(NOW + 30 * DAY)
    assert [event["id"] for event in errors(usage.stripe)] == [newest, oldest]
    sandbox.clock.advance(SECOND)
    assert [event["id"] for event in errors(usage.stripe)] == [newest]
    assert [event["id"] for event in errors(usage.stripe, **{"created[gte]": NOW.isoformat()})] == [newest]
    assert usage.stripe("GET", f"{ERRORS}/{oldest}").status == 200


def test_error_events_are_listed_by_the_meter_that_they_are_about(metered: Meter) -> None:
    first, second = metered("first"), metered("second")
    for usage in (first, second):
        usage.send(1, **UNKNOWN)
    first.send(1, event_name="misspelt")
    for usage in (first, second):
        (event,) = errors(usage.stripe, object_id=usage.meter)
        assert event["related_object"]["id"] == usage.meter
    assert errors(first.stripe, object_id="mtr_none") == []


@pytest.mark.parametrize("page", ["x", "-1", "1.5", ""])
def test_a_page_of_error_events_that_makes_no_sense_is_refused(stripe: StripeWire, page: str) -> None:
    refused = stripe("GET", ERRORS, {"page": page})
    assert (refused.status, refused.error["param"]) == (400, "page")


def test_error_events_are_read_on_from_when_the_newest_one_says_that_it_was_made(
    sandbox: Sandbox, metered: Meter
) -> None:
    usage = metered()
    newest, _ = reported(sandbox, usage, 2)
    shown = errors(usage.stripe)[0]
    assert shown["id"] == newest
    assert errors(usage.stripe, **{"created[gt]": shown["created"]}) == []
    (later,) = reported(sandbox, usage, 1)
    assert [event["id"] for event in errors(usage.stripe, **{"created[gt]": shown["created"]})] == [later]


def test_error_events_are_listed_by_their_type(metered: Meter) -> None:
    usage = metered()
    usage.send(1, **UNKNOWN)
    usage.send(1, event_name="misspelt")
    for kind in (ERROR_REPORT, NO_METER_FOUND):
        assert [event["type"] for event in errors(usage.stripe, **{"types[0]": kind})] == [kind]
    both = errors(usage.stripe, **{"types[0]": ERROR_REPORT, "types[1]": NO_METER_FOUND})
    assert [event["type"] for event in both] == [NO_METER_FOUND, ERROR_REPORT]


def test_the_pages_of_error_events_lead_to_every_one_once(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    made = reported(sandbox, usage, 5)
    usage.send(1, event_name="misspelt")
    assert pages_of_errors(usage, **{"types[0]": ERROR_REPORT}) == [made[:2], made[2:4], made[4:]]


def test_the_pages_of_error_events_keep_to_the_instants_and_the_meter_asked_for(
    sandbox: Sandbox, metered: Meter
) -> None:
    usage, other = metered(), metered("other")
    made = reported(sandbox, usage, 6)
    other.send(1, **UNKNOWN)
    plus_one = timezone(HOUR)
    bounds = {"gt": NOW, "lt": (NOW + 5 * MINUTE).astimezone(plus_one)}
    filters = {f"created[{name}]": instant.isoformat() for name, instant in bounds.items()}
    assert pages_of_errors(usage, **filters) == [made[1:3], made[3:5]]
    assert pages_of_errors(usage, object_id=usage.meter) == [made[:2], made[2:4], made[4:]]


def test_error_events_need_a_permission_of_their_own(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    (made,) = reported(sandbox, usage, 1)
    sandbox.stripe.keys["rk_test_without"] = frozenset({"billing_meters:write", "meter_events:write"})
    sandbox.stripe.keys["rk_test_reader"] = frozenset({"events:read"})
    for path in (ERRORS, f"{ERRORS}/{made}"):
        refused = usage.stripe("GET", path, key="rk_test_without")
        assert refused.status == 403
        assert "rak_event_read" in refused.error["message"]
        assert usage.stripe("GET", path, key="rk_test_reader").status == 200


def test_an_error_event_is_read_by_its_id(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    newest, _ = reported(sandbox, usage, 2)
    assert usage.stripe("GET", f"{ERRORS}/{newest}").json == errors(usage.stripe)[0]
    assert usage.stripe("GET", f"{ERRORS}/evt_none").status == 404
