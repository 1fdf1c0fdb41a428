"""A meter event that is cancelled counts nowhere."""

import pytest

from meter_sync.sandbox import Sandbox

from .instants import DAY, HOUR, NOW, PERIOD_END, SECOND
from .metering import Meter


@pytest.mark.parametrize(
    ("meter", "left"),
    [({}, 5), ({"formula": "last"}, 5), ({"formula": "count"}, 1), ({"window": "hour"}, 5), ({"window": "day"}, 5)],
    ids=str,
)
def test_a_cancelled_event_counts_nowhere(metered: Meter, meter: dict[str, str], left: int) -> None:
    usage = metered(**meter)
    usage.send(5)
    usage.send(7, NOW + SECOND, identifier="wrong")
    cancelled = usage.cancel("wrong")
    assert (cancelled.status, cancelled.json["cancel"]) == (200, {"identifier": "wrong"})
    assert (usage.upcoming(), usage.summary()) == (left, left)


def test_an_event_is_cancelled_within_24_hours_of_its_receipt_whatever_its_timestamp(
    sandbox: Sandbox, metered: Meter
) -> None:
    usage = metered()
    usage.send(5, NOW - 3 * DAY, identifier="first")
    usage.send(7, NOW - 3 * DAY, identifier="second")
    sandbox.clock.advance(DAY - SECOND)
    assert usage.cancel("first").status == 200
    sandbox.clock.advance(SECOND)
    refused = usage.cancel("second")
    assert (refused.status, refused.error["param"]) == (400, "cancel[identifier]")
    assert usage.upcoming() == 7


def test_an_event_is_cancelled_once(metered: Meter) -> None:
    usage = metered()
    usage.send(5, identifier="wrong")
    assert usage.cancel("wrong").status == 200
    again = usage.cancel("wrong")
    assert (again.status, again.error["param"]) == (400, "cancel[identifier]")


def test_an_event_is_cancelled_by_its_own_name_and_identifier(metered: Meter) -> None:
    usage, other = metered(), metered("other")
    usage.send(5, identifier="right")
    refused = (usage.cancel("unknown"), other.cancel("right"), usage.cancel("right", type="range"))
    assert [reply.status for reply in refused] == [400, 400, 400]
    assert usage.upcoming() == 5


def test_a_cancellation_changes_a_draft_and_no_final_invoice(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    sandbox.clock.move_to(PERIOD_END - HOUR)
    for value, identifier in ((1, "kept"), (2, "early"), (4, "late")):
        usage.send(value, identifier=identifier)
    sandbox.clock.move_to(PERIOD_END + HOUR - SECOND)
    assert usage.cancel("early").status == 200
    assert usage.invoices() == [("draft", 5)]
    sandbox.clock.advance(SECOND)
    assert usage.cancel("late").status == 200
    assert usage.invoices() == [("open", 5)]
