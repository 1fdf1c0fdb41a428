"""A small account with everything that can go wrong in one run, and the proof that nothing did."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta

from meter_sync.core.outcomes import ExitCode
from meter_sync.core.telling.history import Added, Entry, Remainder, Sought, Write, WrittenPart
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.runs import executed
from tests.support.ways import WAYS, end_of, metered_price
from tests.support.world import METER, NOW, World

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
INVOICED, OPENED = 7, 8
"""What is to be billed of a period that has just ended, and of the one after it."""
STILL_OPEN = 14
"""What is to be billed of a period that goes on."""

Place = tuple[str, int]
"""An item, and the start of a period in Unix seconds."""


@dataclass(frozen=True)
class Account:
    """A subscription for every way of writing whose period has just ended, and one each whose period goes on.

    Something was reported of each of them before, and more was used since.
    """

    world: World
    turned: list[SubscriptionView]
    going_on: list[SubscriptionView]

    @property
    def found(self) -> list[tuple[int, ...]]:
        """What Stripe bills of each subscription: on its invoice, where there is one, and in its open period."""
        invoiced = {line.item: line.quantity for invoice in self.world.stripe.invoices for line in invoice.lines}
        turned = [(invoiced[one.items[0]], self.world.billed(one)) for one in self.turned]
        return [*turned, *((self.world.billed(one),) for one in self.going_on)]

    @property
    def used(self) -> list[tuple[int, ...]]:
        """What is to be billed of each subscription."""
        return [*[(INVOICED, OPENED)] * len(self.turned), *[(STILL_OPEN,)] * len(self.going_on)]

    def check_promise(self, code: ExitCode) -> None:
        """Given the code of a run that was disturbed, hold it to what it says: done is done."""
        if code is ExitCode.DONE:
            assert self.found == self.used

    def check_after_one_undisturbed_run(self) -> None:
        """Run a minute later; then the bill is the usage, nothing is said to be unbilled, and the ledger is whole."""
        self.world.sandbox.faults.clear()
        self.world.sandbox.clock.advance(MINUTE)
        report = executed(self.world)
        assert (report.error, report.exit_code) == (None, ExitCode.DONE)
        assert self.found == self.used
        self._check_ledger()

    def _check_ledger(self) -> None:
        """The ledger is whole, and tells the same story from beginning to end as Stripe's totals do."""
        assert self.world.wrong_in_books() == {}
        with self.world.books() as ledger:
            assert ledger.remainders.unbilled() == []
            runs = {run.id for run in ledger.runs.past(None, None, 1000)}
            entries = ledger.history.entries(Sought(), with_parts=True)
        assert not [entry for entry in entries if isinstance(entry, Remainder)]
        writes = [entry for entry in entries if isinstance(entry, Write)]
        assert {write.run for write in writes} <= runs
        last = {_place(write): write for write in writes}
        assert all(write.acknowledged_at for write in last.values())
        billed = {place: write.quantity for place, write in last.items()}
        assert sorted(billed.values()) == sorted(number for numbers in self.used for number in numbers)
        sums = _sums(entries)
        assert sums == {place: billed[place] for place in sums}
        assert len(sums) == 4 * 3


def _sums(entries: list[Entry]) -> dict[Place, int]:
    """Return what was written in parts, which add up to a period's quantity."""
    found: defaultdict[Place, int] = defaultdict(int)
    for entry in entries:
        if isinstance(entry, WrittenPart):
            assert entry.acknowledged == entry.value
            found[_place(entry)] += entry.value
        if isinstance(entry, Added) and entry.delivered_at and not (entry.cancelled_at or entry.rejected):
            found[_place(entry)] += entry.value
    return found


def _place(entry: Entry) -> Place:
    return entry.whose.item, int(entry.whose.period.start.timestamp())


def account(world: World) -> Account:
    """Return an account two minutes after some of its periods have ended: Stripe takes usage records for three more."""
    by_day = world.stripe.add_price(metadata={"om_meter_id": METER})
    world.configure(f'[[meters]]\nprice = "{by_day}"\nopenmeter = "{METER}"\nrecords = "day"\n')
    prices = [world.price, by_day, *(metered_price(world, way) for way in WAYS)]
    turned = [world.subscribe(price) for price in prices]
    going_on = [world.subscribe(price, period_start=NOW - 2 * DAY) for price in prices]
    for one in (*turned, *going_on):
        world.use(one, 3, at=NOW - DAY)
    assert executed(world).exit_code is ExitCode.DONE
    end = end_of(world, turned[0])
    world.sandbox.clock.move_to(end + 2 * MINUTE)
    for one in turned:
        world.use(one, INVOICED - 3, at=end - 2 * DAY)
        world.use(one, OPENED, at=end + MINUTE / 2)
    for one in going_on:
        world.use(one, STILL_OPEN - 3, at=end - 2 * DAY)
    world.sandbox.requests.clear()
    return Account(world, turned, going_on)
