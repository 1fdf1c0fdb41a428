"""Pruning forgets what is over, and nothing by which a later run decides: what is billed after it is the same."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.core.billing.item import Period
from meter_sync.core.billing.way import Way
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.brakes import checked_before
from meter_sync.core.planning.conclusion import Billed, NotBilled
from meter_sync.core.planning.memory import Addition, PastPeriod
from meter_sync.core.planning.sends import Add
from meter_sync.core.planning.stages import Acknowledged, Checked, Intended, Result, Write
from meter_sync.core.telling.history import Sought
from meter_sync.ledger import Ledger, Place, RunRecord, Scope, open_ledger
from meter_sync.ledger.conclusions import Conclusion, News
from meter_sync.ledger.webhook_queue import WebhookEvent
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.core.builders import make_item, make_metered, make_method, make_write
from tests.support.ways import ALL_WAYS, by_tier, end_of, metered, metered_price
from tests.support.world import NOW, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = NOW - 400 * DAY
"""When the item of these tests was billed first."""
PERIODS = [(FIRST + number * 30 * DAY, FIRST + (number + 1) * 30 * DAY) for number in range(12)]
SOME = ("writes", "holds", "item_periods", "seen_periods")


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    """A ledger with an item's twelve periods, all closed but the last one."""
    with open_ledger(place, Scope("", "sandbox")) as ledger:
        for start, end in PERIODS:
            live_through(ledger, start, end)
            if end != PERIODS[-1][1]:
                ledger.listed.conclude([Conclusion("si_1", start, closed_as=Billed())], end + 3 * DAY)
        yield ledger


def live_through(ledger: Ledger, start: datetime, end: datetime, item: str = "si_1") -> None:
    """Record a run in a period that wrote something, and one that held something."""
    run = RunRecord(f"{item} {start}", start + DAY, start + DAY, "hourly", everything=True)
    done = write(start, end, item)
    ledger.runs.begin(run)
    ledger.listed.record([done.item], run.as_of)
    (intended,) = ledger.writes.claim(run, [done], run.as_of, 0)
    ledger.writes.acknowledge(run, [Acknowledged(intended, run.as_of, "req_1")])
    ledger.writes.release(run, [done])
    ledger.holds.record(run, [Result(done.found, Outcome.HELD, Reason.DECREASE)], run.as_of)
    ledger.runs.finish(run.id, run.as_of, 4, {"held": 1})


def write(start: datetime, end: datetime, item: str) -> Checked:
    found = make_item(item, start=start, end=end, created=FIRST)
    return checked_before(make_write(metered=make_metered(found, as_of=start + DAY)))


def intend(ledger: Ledger, run: RunRecord, one: Write) -> None:
    """Record a write of a period that is closed, which a run could no longer claim."""
    ledger.writes.intend_correction(run, Intended(one, 0), one, run.as_of)


def starts(ledger: Ledger, item: str = "si_1") -> list[datetime]:
    """The periods of which writes are left."""
    found = ledger.history.entries(Sought(items=(item,)), with_parts=False)
    return sorted({one.whose.period.start for one in found})


def of(number: int) -> datetime:
    return PERIODS[number][0]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A sandbox whose clock stands still, with one meter and one metered price."""
    world = World(tmp_path, NOW)
    with world.sandbox.in_background():
        yield world


# -- what goes ---------------------------------------------------------------------------------------


def test_what_was_over_long_ago_goes_and_is_counted(ledger: Ledger) -> None:
    gone = ledger.pruning.prune(PERIODS[2][1] + 10 * DAY)
    assert starts(ledger) == [start for start, _ in PERIODS[3:]]
    assert {name: gone[name] for name in SOME} == dict.fromkeys(SOME, 3)
    assert gone["runs"] == 4
    assert sum(ledger.pruning.prune(PERIODS[2][1] + 10 * DAY).values()) == 0


def test_a_period_that_was_closed_only_lately_stays(ledger: Ledger) -> None:
    ledger.pruning.prune(PERIODS[2][1] + 3 * DAY - HOUR)
    assert starts(ledger)[0] == of(2)


def test_events_that_came_by_webhook_go_once_they_are_done(ledger: Ledger) -> None:
    for name in ("evt_1", "evt_2"):
        ledger.webhook_queue.enqueue(WebhookEvent(name, "invoice.created", "sub_1", FIRST))
    ledger.webhook_queue.record_done(["evt_1"], FIRST)
    assert ledger.pruning.prune(FIRST + DAY)["webhook_events"] == 1
    assert [event.id for event in ledger.webhook_queue.waiting()] == ["evt_2"]


def test_what_stripe_said_of_earlier_periods_goes_once_no_period_is_compared_with_it(ledger: Ledger) -> None:
    """And what it said of an item that was never listed."""
    said = [("si_1", months_before(PERIODS[-1][0], 0)), ("si_1", months_before(PERIODS[-1][0], 4))]
    ledger.writes.record_past([*said, ("si_gone", said[0][1])])
    ledger.writes.record_past(said)
    assert ledger.pruning.prune(PERIODS[-1][0] + DAY)["past_periods"] == 2
    newest = make_item("si_1", start=PERIODS[-1][0], end=PERIODS[-1][1])
    assert said[0][1][0] in ledger.memory.of([newest]).past["si_1"]


def months_before(start: datetime, number: int) -> list[PastPeriod]:
    """Return a period that ended a day and so many times thirty days before an instant, as Stripe told it."""
    end = start - number * 30 * DAY - DAY
    return [PastPeriod(Period(end - 29 * DAY, end), 100)]


# -- what stays, whatever its age --------------------------------------------------------------------


def test_the_newest_period_and_those_that_brakes_compare_it_with_stay(ledger: Ledger) -> None:
    ledger.pruning.prune(NOW + 1000 * DAY)
    assert starts(ledger) == [start for start, end in PERIODS if end >= of(11) - 100 * DAY]
    assert len(starts(ledger)) == 5


def test_so_does_the_last_period_of_an_item_that_is_gone(ledger: Ledger) -> None:
    live_through(ledger, FIRST, FIRST + 30 * DAY, "si_gone")
    ledger.listed.record_end(make_item("si_gone", start=FIRST, end=FIRST + 30 * DAY), FIRST + 20 * DAY, is_cut=False)
    ledger.listed.conclude([Conclusion("si_gone", FIRST, closed_as=Billed())], FIRST + 40 * DAY)
    ledger.pruning.prune(NOW + 1000 * DAY)
    assert starts(ledger, "si_gone") == [FIRST]


def test_a_period_that_is_not_closed_stays_and_so_do_those_shortly_before(place: Place) -> None:
    with open_ledger(place, Scope("", "sandbox")) as ledger:
        for number, (start, end) in enumerate(PERIODS):
            live_through(ledger, start, end)
            if number != 5:
                ledger.listed.conclude([Conclusion("si_1", start, closed_as=Billed())], end)
        ledger.pruning.prune(NOW + 1000 * DAY)
        assert starts(ledger)[:5] == [of(1), of(2), of(3), of(4), of(5)]
        assert of(6) not in starts(ledger)
        assert [one.item.period.start for one in ledger.listed.ended(NOW)] == [of(5)]


def test_a_remainder_stays_until_a_person_has_settled_it(ledger: Ledger) -> None:
    ledger.listed.conclude([Conclusion("si_1", of(0), news=News(NotBilled(7), "too late"))], PERIODS[0][1])
    ledger.pruning.prune(NOW - 200 * DAY)
    (left,) = ledger.remainders.unbilled()
    assert (left.period.start, left.open_quantity) == (of(0), 7)
    ledger.remainders.settle(left, "ii_1", NOW - 150 * DAY)
    ledger.pruning.prune(NOW - 200 * DAY)
    assert of(0) in starts(ledger)
    ledger.pruning.prune(NOW - 100 * DAY)
    assert of(0) not in starts(ledger)


def test_a_period_with_an_addition_stays_until_it_is_known_whether_it_arrived(ledger: Ledger) -> None:
    run = RunRecord("adding", of(0) + DAY, of(0) + DAY, "hourly", everything=False)
    at = run.as_of
    addition = Addition("id_1", base=0, value=7, timestamp=at, intended_at=at, as_of=at, attempted_at=at)
    method = make_method(way=Way.ADDITIONS, stripe_meter="mtr_1")
    adding = replace(write(*PERIODS[0], "si_1"), method=method, sends=Add(addition))
    intend(ledger, run, adding)
    ledger.pruning.prune(NOW + 1000 * DAY)
    (waiting,), _ = ledger.additions.unsettled(["si_1"], run, at)
    ledger.additions.settle(waiting, at)
    assert ledger.pruning.prune(NOW + 1000 * DAY)["additions"] == 1


def test_the_last_complete_run_and_the_newest_instant_stay(ledger: Ledger) -> None:
    before = ledger.runs.last_complete(), ledger.runs.newest_as_of()
    ledger.pruning.prune(NOW + 1000 * DAY)
    assert (ledger.runs.last_complete(), ledger.runs.newest_as_of()) == before
    assert len(ledger.runs.past(None, None, 100)) == 1


def test_the_newest_instant_stays_also_where_it_is_that_of_an_old_period(ledger: Ledger) -> None:
    late = RunRecord("late", NOW, NOW, "hourly", everything=False)
    intend(ledger, late, write(*PERIODS[0], "si_1"))
    ledger.pruning.prune(NOW + 1000 * DAY)
    assert ledger.runs.newest_as_of() == NOW


# -- the bill ----------------------------------------------------------------------------------------


@contextmanager
def books(world: World) -> Iterator[Ledger]:
    with open_ledger(world.ledger, Scope("", "sandbox")) as ledger:
        yield ledger


def months(world: World, subscription: SubscriptionView, how_many: int) -> int:
    """Use something in each of some months, with a run about it and one that closes the period; return how much."""
    for number in range(how_many):
        end = end_of(world, subscription)
        world.use(subscription, 10 + number, at=world.now - HOUR)
        world.execute()
        world.sandbox.clock.move_to(end + 5 * DAY)
        world.execute()
    return sum(10 + number for number in range(how_many))


def invoiced(world: World) -> int:
    return sum(line.quantity for invoice in world.stripe.invoices for line in invoice.lines)


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_after_pruning_runs_bill_exactly_the_same(world: World, way: str) -> None:
    subscription = world.subscribe() if way == "record" else metered(world, way)
    used = months(world, subscription, 5)
    world.use(subscription, 5, at=world.now - HOUR)
    world.execute()
    with books(world) as ledger:
        gone = ledger.pruning.prune(world.now + 1000 * DAY)
    assert gone["item_periods"] >= 1

    before = len(world.writes)
    world.sandbox.clock.advance(HOUR)
    assert world.verdict(subscription) == "unchanged"
    assert len(world.writes) == before
    world.sandbox.clock.advance(2 * DAY)
    world.use(subscription, 3, at=world.now - 25 * HOUR)
    assert world.verdict(subscription) == "reported"
    world.sandbox.clock.move_to(end_of(world, subscription) + 5 * DAY)
    world.execute()
    assert (invoiced(world), world.unbilled()) == (used + 8, {})


def test_where_the_last_period_ended_is_not_forgotten_after_a_price_has_moved(world: World) -> None:
    """What was used between a whole hour and the period's end was billed by the legacy price."""
    subscription = world.subscribe()
    end = end_of(world, subscription)
    world.use(subscription, 10, at=end - timedelta(minutes=5))
    world.sandbox.clock.move_to(end - timedelta(seconds=10))
    world.execute()
    world.sandbox.clock.move_to(end)
    world.stripe.change_price(subscription.items[0], metered_price(world, "hours"))
    for _ in range(2):
        world.sandbox.clock.move_to(max(world.now, end) + 5 * DAY)
        world.use(subscription, 3, at=world.now - HOUR)
        world.execute()
    with books(world) as ledger:
        ledger.pruning.prune(world.now + 1000 * DAY)
    world.sandbox.clock.advance(HOUR)
    world.execute(resend=True)
    assert world.billed(subscription) == 6


def test_without_the_newest_period_stripe_would_have_to_be_read(world: World) -> None:
    """What pruning must never do, so that the tests above are seen to look at something."""
    subscription = metered(world, "additions")
    months(world, subscription, 2)
    world.use(subscription, 5, at=world.now - HOUR)
    world.execute()
    world.sandbox.clock.advance(2 * DAY)
    connection = sqlite3.connect(world.ledger)
    with connection:
        for table in ("item_periods", "additions"):
            connection.execute(
                f"DELETE FROM {table} WHERE period_start = (SELECT max(period_start) FROM seen_periods)"  # noqa: S608
            )
    connection.close()
    world.sandbox.requests.clear()
    world.execute()
    assert (len(world.seen("GET", "/event_summaries")), world.billed(subscription)) == (1, 5)
