"""Superseded writes take little room, and what `history` tells of open and last periods is the same as before."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.billing.way import Way
from meter_sync.core.planning.brakes import checked_before
from meter_sync.core.planning.conclusion import Billed
from meter_sync.core.planning.memory import Addition
from meter_sync.core.planning.sends import Add
from meter_sync.core.planning.stages import Acknowledged, Intended
from meter_sync.core.telling.history import Entry, Sought
from meter_sync.ledger import Ledger, Place, RunRecord, Scope, open_ledger
from meter_sync.ledger.conclusions import Conclusion
from meter_sync.ledger.rows import RowUnread
from tests.core.builders import make_item, make_metered, make_method, make_write
from tests.ledger import parts
from tests.ledger.steps import compacted
from tests.support.tables import FILE_ONLY, carry_out, place_of, rows
from tests.support.world import NOW

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONTH = 30 * DAY
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
PERIODS = [TODAY + DAY - number * MONTH for number in (6, 5, 4, 3, 2, 1)]
"""When the item's periods of these tests begin: the last one is open until tomorrow."""
*EARLIER, LAST, OPEN = PERIODS


def item_in(start: datetime, item: str = "si_1") -> SubscriptionItem:
    return make_item(item, start=start, end=start + MONTH, created=PERIODS[0])


def run_at(at: datetime) -> RunRecord:
    return RunRecord(f"run of {at.isoformat()}", at, at, "hourly", everything=True)


def write(ledger: Ledger, item: SubscriptionItem, at: datetime, quantity: int, *, taken: bool = True) -> None:
    """Record what a run wrote, or that Stripe did not take it."""
    run, found = run_at(at), make_write(quantity, metered=make_metered(item, as_of=at))
    ledger.runs.begin(run)
    intended = Intended(checked_before(found), 0)
    ledger.writes.intend_correction(run, replace(intended, number=-1), intended.write, at)
    if taken:
        ledger.writes.acknowledge(run, [Acknowledged(intended, at + timedelta(seconds=2), f"req_{quantity}")])
    ledger.runs.finish(run.id, at, 0, {})


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    """A ledger with an item's six periods, in each of which three days were written three times each."""
    with open_ledger(place, Scope("", "sandbox")) as ledger:
        for start in PERIODS:
            item = item_in(start)
            ledger.listed.record([item], start)
            for number, day in enumerate((3, 4, 28)):
                for hour in (1, 2, 3):
                    write(ledger, item, start + day * DAY + hour * HOUR, number * 10 + hour)
            if start != OPEN:
                ledger.listed.conclude([Conclusion("si_1", start, closed_as=Billed())], start + MONTH + 3 * DAY)
        yield ledger


def told(ledger: Ledger, *starts: datetime) -> list[Entry]:
    found = ledger.history.entries(Sought(items=("si_1",)), with_parts=True)
    return [one for one in found if one.whose.period.start in starts]


def test_of_the_open_and_the_last_period_history_tells_every_write_as_before(ledger: Ledger) -> None:
    before = told(ledger, OPEN, LAST)
    compacted(ledger, NOW)
    assert told(ledger, OPEN, LAST) == before
    assert len(before) == 18


def test_a_write_that_is_superseded_only_days_later_joins_those_of_its_day(ledger: Ledger) -> None:
    compacted(ledger, NOW)
    write(ledger, item_in(OPEN), TODAY + HOUR, 60)
    before, packed = told(ledger, OPEN), rows(ledger, "past_writes")
    compacted(ledger, NOW + DAY)
    assert told(ledger, OPEN) == before
    assert (len(before), rows(ledger, "past_writes")) == (10, packed)


def test_of_earlier_periods_it_tells_the_last_write_of_each_day(ledger: Ledger) -> None:
    before = told(ledger, *EARLIER)
    compacted(ledger, NOW)
    last = [one for one in before if one.at.hour == 3]
    assert told(ledger, *EARLIER) == last
    assert (len(before), len(last)) == (9 * len(EARLIER), 3 * len(EARLIER))


def test_what_was_packed_while_a_period_was_open_is_thinned_out_once_two_have_followed(ledger: Ledger) -> None:
    every = told(ledger, *PERIODS)
    compacted(ledger, NOW)
    for later in (1, 2):
        start = OPEN + later * MONTH
        ledger.listed.conclude([Conclusion("si_1", start - MONTH, closed_as=Billed())], start + DAY)
        ledger.listed.record([item_in(start)], start)
        compacted(ledger, start + 5 * DAY)
    assert told(ledger, *PERIODS) == [one for one in every if one.at.hour == 3]
    assert rows(ledger, "past_writes") == len(PERIODS)


def test_a_write_has_a_row_of_its_own_today_and_the_newest_of_a_period_always(ledger: Ledger) -> None:
    for hour in (1, 2, 3):
        write(ledger, item_in(OPEN), TODAY + hour * HOUR, 50 + hour)
    compacted(ledger, NOW)
    assert rows(ledger, "writes") == 3 + len(PERIODS) - 1
    assert ledger.overview.size()["writes"] == 3 + 2 * 9 + 3 * len(EARLIER)


def test_what_is_remembered_for_the_next_plan_is_the_same(ledger: Ledger) -> None:
    items = [item_in(start) for start in PERIODS]
    before = [(ledger.memory.of([one]), ledger.memory.last_intended([one])) for one in items]
    compacted(ledger, NOW)
    assert [(ledger.memory.of([one]), ledger.memory.last_intended([one])) for one in items] == before


def test_what_stripe_has_not_taken_stays_and_so_does_what_it_took_last(ledger: Ledger) -> None:
    start = EARLIER[0]
    for hour in (4, 5):
        write(ledger, item_in(start), start + 28 * DAY + hour * HOUR, 30 + hour, taken=False)
    compacted(ledger, NOW)
    assert rows(ledger, f"writes WHERE period_start = {int(start.timestamp())}") == 3
    assert [(one.at.hour, one.acknowledged_at is not None) for one in told(ledger, start)[-3:]] == [  # type: ignore[union-attr]
        (3, True),
        (4, False),
        (5, False),
    ]


def test_a_write_whose_addition_was_rejected_stays(ledger: Ledger) -> None:
    start, at = EARLIER[0], EARLIER[0] + 3 * DAY + HOUR
    addition = Addition("id_1", base=0, value=7, timestamp=at, intended_at=at, as_of=at, attempted_at=at)
    of_meter = replace(
        make_write(7, metered=make_metered(item_in(start), as_of=at)),
        method=make_method(way=Way.ADDITIONS, stripe_meter="mtr_1"),
        sends=Add(addition),
    )
    ledger.writes.intend_correction(replace(run_at(at), id="adding"), Intended(of_meter, 0), of_meter, at)
    carry_out(place_of(ledger), "UPDATE writes SET acknowledged_at = intended_at")
    carry_out(place_of(ledger), "UPDATE additions SET delivered_at = intended_at, rejected = 'no customer'")
    write(ledger, item_in(start), start + 29 * DAY, 60)
    compacted(ledger, NOW)
    assert rows(ledger, "writes WHERE run = 'adding'") == 1


def test_of_an_item_that_is_gone_one_a_day_is_left_of_all_periods(ledger: Ledger) -> None:
    ledger.listed.conclude([Conclusion("si_1", OPEN, closed_as=Billed())], OPEN + MONTH)
    compacted(ledger, OPEN + MONTH + 39 * DAY)
    assert len(told(ledger, OPEN, LAST)) == 18
    compacted(ledger, OPEN + MONTH + 41 * DAY)
    assert len(told(ledger, OPEN, LAST)) == 6


def test_items_are_gone_through_once_a_day_some_at_a_time(ledger: Ledger) -> None:
    others = [item_in(OPEN, f"si_other_{number:03}") for number in range(150)]
    ledger.listed.record(others, OPEN)
    assert compacted(ledger, NOW) == [9 * len(PERIODS), 0, 0]
    assert compacted(ledger, NOW + HOUR) == []
    assert len(compacted(ledger, NOW + DAY)) == 3


def test_what_is_left_of_a_day_is_gone_through_on_the_next_before_it_begins_anew(ledger: Ledger) -> None:
    ledger.listed.record([item_in(OPEN, f"si_other_{number:03}") for number in range(150)], OPEN)
    assert ledger.compaction.compact_some(NOW) == 9 * len(PERIODS)
    assert compacted(ledger, NOW + DAY) == [0, 0, len(PERIODS), 0, 0]


def test_writes_that_cannot_be_unpacked_are_the_matter_of_their_item_and_stay(ledger: Ledger) -> None:
    compacted(ledger, NOW)
    carry_out(place_of(ledger), "UPDATE past_writes SET content = ?, is_by_day = false", b"\0")
    before = rows(ledger, "past_writes")
    compacted(ledger, NOW + DAY)
    assert rows(ledger, "past_writes") == before
    with pytest.raises(RowUnread, match=r"what the ledger has of si_1 cannot be read: .* damaged"):
        told(ledger, OPEN)


@FILE_ONLY
def test_a_row_that_cannot_be_read_keeps_no_other_item_from_being_packed(ledger: Ledger) -> None:
    for at in (1, 2):
        write(ledger, item_in(OPEN, "si_2"), OPEN + at * HOUR, at)
    ledger.listed.record([item_in(OPEN, f"si_1_{number:03}") for number in range(99)] + [item_in(OPEN, "si_2")], OPEN)
    carry_out(place_of(ledger), "UPDATE writes SET intended_at = 'damaged' WHERE item = 'si_1'")
    assert sum(compacted(ledger, NOW)) > 0
    assert rows(ledger, "past_writes") == 1
    assert rows(ledger, "writes WHERE intended_at = 'damaged'") > 0


def test_what_is_pruned_goes_with_its_packed_writes_and_as_much_at_a_time_as_was_asked_for(ledger: Ledger) -> None:
    compacted(ledger, NOW)
    packed_before = rows(ledger, "past_writes")
    gone = ledger.pruning.prune(NOW + 1000 * DAY, at_most=1)
    assert {gone[name] for name in ("past_writes", "writes", "item_periods", "runs")} == {1}
    assert rows(ledger, "past_writes") == packed_before - 1


def test_of_hours_and_additions_a_run_knows_and_history_tells_the_same(place: Place) -> None:
    sinces = None, parts.START, parts.START + 5 * HOUR, parts.START + 2 * DAY, NOW
    adding = replace(parts.ITEM, id="si_2")
    with open_ledger(place, Scope("", "live")) as ledger:
        for day in (0, 1, 9, 13):
            at = parts.START + (day + 1) * DAY + HOUR
            parts.set_hours(ledger, at, {24 * day + hour: hour for hour in range(24)})
            parts.add(ledger, at + HOUR, 7, item=adding)

        def known() -> list[object]:
            of_hours = [parts.known_since(ledger, since) for since in sinces]
            return [*of_hours, ledger.memory.of([adding]), parts.told(ledger), parts.told(ledger, adding)]

        before = known()
        compacted(ledger, NOW)
        assert known() == before
        packed = [
            f"{table} WHERE item IN ('si_1', 'si_2')"
            for table in ("parts", "past_parts", "additions", "past_additions")
        ]
        assert [rows(ledger, table) for table in packed] == [23, 3, 1, 2]
