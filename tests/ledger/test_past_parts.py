"""What is packed of hours, days and additions becomes rows again where it matters: in the slow tier, one by one.

That runs decide the same with and without it, `test_compaction.py` holds in the fast one.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from meter_sync.core.billing import identifiers
from meter_sync.core.planning.brakes import checked_before
from meter_sync.core.planning.conclusion import Billed
from meter_sync.ledger import Ledger, Place, Scope, open_ledger
from meter_sync.ledger.conclusions import Conclusion
from meter_sync.ledger.packing import WRITES, RunNames
from meter_sync.ledger.rejections import Written
from tests.core.builders import make_item
from tests.ledger.parts import (
    DAY,
    HOUR,
    ITEM,
    SECOND,
    START,
    add,
    addition_of,
    known_since,
    run_at,
    set_hours,
    told,
    windows_known,
)
from tests.ledger.steps import compacted
from tests.support.tables import carry_out, place_of, rows
from tests.support.world import NOW

pytestmark = pytest.mark.simulation

DAYS = 14
HOURS = range(0, 24 * DAYS, 6)
SINCES = (None, START, START + HOUR, START + 4 * DAY, START + 8 * DAY + 3 * HOUR, START + 13 * DAY, NOW)


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    with open_ledger(place, Scope("", "live")) as ledger:
        yield ledger


@pytest.fixture
def hours(ledger: Ledger) -> Ledger:
    """A ledger with an item of which each day four hours were set, and the last one was corrected the day after."""
    for day in range(DAYS):
        of_day = {number: 10 + number for number in HOURS if number // 24 == day}
        set_hours(ledger, set_at(day), of_day | ({24 * day - 6: 1} if day else {}))
    return ledger


def set_at(day: int) -> datetime:
    return START + (day + 1) * DAY + HOUR


def test_late_usage_in_a_packed_hour_is_written_as_before_and_packed_again(hours: Ledger) -> None:
    compacted(hours, NOW)
    run = set_hours(hours, NOW, {7: 70, 42: 41})
    known = windows_known(hours)
    assert [known[START + number * HOUR].value for number in (6, 7, 12, 42)] == [16, 70, 22, 41]
    assert known_since(hours, NOW).remembered["si_1"].windows.total_before == sum(one.value for one in known.values())
    before = [known_since(hours, since) for since in SINCES], told(hours)
    compacted(hours, NOW + DAY)
    assert ([known_since(hours, since) for since in SINCES], told(hours)) == before
    assert hours.rejections.record({identifiers.of_set(run, "si_1", START + 7 * HOUR): "too old"}, "1") == 1


def test_a_rejected_hour_is_sent_again_also_if_it_is_packed_and_a_superseded_event_matters_no_more(
    hours: Ledger,
) -> None:
    compacted(hours, NOW)
    start = START + 2 * DAY - 6 * HOUR
    first, last = (identifiers.of_set(run_at(set_at(day)).id, "si_1", start) for day in (1, 2))
    assert hours.rejections.record({first: "no customer", "of-another-program-1": "no customer"}, "1") == 0
    assert hours.rejections.record({last: "no customer"}, "2") == 1
    assert [start for start, one in windows_known(hours).items() if one.standing is None] == [start]
    assert hours.memory.of([ITEM]).remembered["si_1"].rejected == "no customer"


def test_what_is_in_doubt_stays_a_row_and_what_comes_in_doubt_becomes_one(hours: Ledger) -> None:
    set_hours(hours, NOW - 2 * DAY, {3: 1}, taken=False)
    compacted(hours, NOW)
    assert rows(hours, "parts WHERE acknowledged IS NULL") == 1
    one = Written("si_1", "cus_1", "mtr_1", ITEM.period, ITEM.period, 0, lacks_answer=False)
    hours.rejections.record_doubt(one, "some", START + 10 * DAY)
    doubted = [start for start, part in windows_known(hours).items() if part.standing is None]
    assert doubted == [START + number * HOUR for number in (3, *HOURS) if number in (3, *range(240, 400))]


def test_an_item_that_is_forgotten_or_pruned_leaves_nothing_packed(hours: Ledger) -> None:
    compacted(hours, NOW)
    hours.listed.conclude([Conclusion("si_1", START, closed_as=Billed())], NOW + 20 * DAY)
    later = make_item(start=START + 400 * DAY, end=START + 430 * DAY, created=START - 90 * DAY)
    set_hours(hours, START + 401 * DAY, {0: 1}, item=later)
    between = Conclusion("si_1", START + 30 * DAY, closed_as=Billed())
    hours.listed.conclude([between], NOW + 20 * DAY)
    gone = hours.pruning.prune(NOW + 500 * DAY)
    assert (gone["past_parts"], rows(hours, "past_parts"), rows(hours, "parts")) == (2, 0, 1)


def test_a_damaged_row_is_the_matter_of_its_item_and_stays(hours: Ledger) -> None:
    compacted(hours, NOW)
    carry_out(place_of(hours), "UPDATE past_parts SET content = ?", b"\0")
    assert "what the ledger has of si_1 cannot be read" in known_since(hours, None).unreadable["si_1"]
    compacted(hours, NOW + DAY)
    assert rows(hours, "past_parts WHERE content = ?", b"\0") == 2


# -- additions --------------------------------------------------------------------------------------


@pytest.fixture
def added(ledger: Ledger) -> list[str]:
    """The identifiers of an addition of 7 each day."""
    return [add(ledger, START + day * DAY + HOUR, 7) for day in range(14)]


def test_a_rejected_addition_is_taken_off_also_if_it_is_packed_and_the_next_one_has_another_identifier(
    ledger: Ledger, added: list[str]
) -> None:
    compacted(ledger, NOW)
    assert ledger.rejections.record({added[3]: "no customer", added[5]: "no customer"}, "1") == 2
    compacted(ledger, NOW + DAY)
    known = ledger.memory.of([ITEM]).remembered["si_1"]
    assert (known.acknowledged, known.additions.to_same_base) == (12 * 7, 1)
    assert add(ledger, NOW + DAY, 7) == f"si_1-{int(START.timestamp())}-84-1"
    assert rows(ledger, "additions WHERE rejected IS NOT NULL") == 2
    assert ledger.rejections.record({added[3]: "no customer"}, "2") == 0


def test_additions_that_may_be_asked_about_stay_rows(ledger: Ledger, added: list[str]) -> None:
    changes = ("in_doubt = true", "rejected = 'x'", "cancel_intended_at = 1", "delivered_at = NULL")
    for number, change in enumerate(changes, start=2):
        carry_out(place_of(ledger), f"UPDATE additions SET {change} WHERE number = ?", number)  # noqa: S608
    at = int((START + 6 * DAY + HOUR).timestamp())
    carry_out(place_of(ledger), "UPDATE writes SET acknowledged_at = NULL WHERE intended_at = ?", at)
    before = ledger.memory.of([ITEM]), told(ledger)
    compacted(ledger, NOW)
    assert (ledger.memory.of([ITEM]), told(ledger)) == before
    assert rows(ledger, "additions WHERE number IN (2, 3, 4, 5, 7, 14)") == rows(ledger, "additions") == 6


def test_an_addition_that_is_found_to_have_arrived_counts_with_those_that_are_packed(
    ledger: Ledger, added: list[str]
) -> None:
    add(ledger, NOW, 1, taken=False)
    compacted(ledger, NOW)
    assert rows(ledger, "past_additions") == 2
    (unsettled,), _ = ledger.additions.unsettled(["si_1"], run_at(NOW + HOUR), NOW + HOUR)
    ledger.additions.settle(unsettled, NOW + HOUR)
    assert ledger.memory.of([ITEM]).remembered["si_1"].acknowledged == 14 * 7 + 1


def test_what_is_withdrawn_leaves_the_newest_that_has_arrived_a_row(ledger: Ledger, added: list[str]) -> None:
    newest = ledger.memory.of([ITEM]).remembered["si_1"].additions.newest
    assert newest is not None
    write = addition_of(ledger, NOW, 1)
    run = run_at(NOW)
    (intended,) = ledger.writes.claim(run, [checked_before(write)], NOW, 0)
    compacted(ledger, NOW)
    ledger.writes.withdraw([intended.write])
    assert ledger.memory.of([ITEM]).remembered["si_1"].additions.newest == newest


def test_a_write_that_an_earlier_version_packed_is_read(ledger: Ledger) -> None:
    class Stored:
        item = "si_1"
        content = bytes.fromhex(PACKED_BEFORE)

    first, second = WRITES.unpacked(Stored, RunNames(dict))  # type: ignore[arg-type]
    assert (first.run, first.at_anchor, first.previous) == ("0a6f2c1e-5d4b-4c3a-9f2e-1b0c9d8e7f60", 10, None)
    assert (second.run, second.quantity, second.previous, second.usage) == ("run of tests", 15, 12, None)
    assert second.intended_at - first.acknowledged_at == timedelta(hours=1) - 2 * SECOND


PACKED_BEFORE = (
    "78da558e4d4b03311086ff4a99f3ac6cd2aed5851ea41e3cd49b97222584cd6c1b4c936e3e1429fdef4e2a16bccdbc3ccfcc7b86583cf4"
    "6708a3d2ce410f801029659ed6c787f4e2c4e6ed791a3787f4eab79dda3ee18a8d59186799a904178494e904fd7b8b6287a0fd70089157"
    "b17c5cc8a55cb41db69c97a4f7c4310879d701fae21ca753d13edbfc5d7989f3ea67753bd1c8ab7a8af46943499c540d9bca599fc91b32"
    "4ae7ffcfe6f76d95f4f0e1c39723b3ff637e8f459a0a1757d6d432bc292d6e75061da32573851bb9bbfc00893058d2"
)
