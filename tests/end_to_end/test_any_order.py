"""Whatever happens in whatever order, each unit that was used is billed once or named once, for every kind of price.

The runs are the program's own, in this process and over real HTTP; what happens to them is drawn.
"""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import BillingMode
from tests.support.lives import Life
from tests.support.statements import check_statements
from tests.support.ways import ALL_WAYS
from tests.support.world import METER, NOW, PERIOD_START, World

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
SETTLED = (Outcome.REPORTED, Outcome.UNCHANGED)
LAG = 2 * MINUTE
"""How long Stripe's summaries do not show an event."""

KINDS: Mapping[str, Mapping[str, Any] | None] = {
    "record": None,
    "day_records": None,
    "hours": {"formula": "sum", "window": "hour"},
    "days": {"formula": "sum", "window": "day"},
    "last": {"formula": "last"},
    "additions": {"formula": "sum"},
}
WINDOWS = {"hours": HOUR, "days": DAY}

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""What a simulation runs through is covered by other tests; measuring it would double its time."""

NEIGHBOURS = 6
"""Enough that few queries are asked for all of them rather than one for each."""

MOST_USES = 25
"""A value of a meter event has at most 15 digits."""

choices = st.integers(0, 2)
quarters = st.integers(1, 40).map(lambda quarters: Decimal(quarters) / 4)


@dataclass(frozen=True)
class Used:
    """Something that was used, or, negative, that was not."""

    at: datetime
    value: Decimal


class Runs(RuleBasedStateMachine):
    """A world with the program's runs, and what can go wrong with them."""

    kind: str

    def open_world(self) -> None:
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.world = World(self.folder, NOW)
        self.sandbox = self.world.sandbox
        self.stack.enter_context(self.sandbox.in_background())

    @property
    def now(self) -> datetime:
        return self.sandbox.clock.now()

    def run(self) -> None:
        self.world.execute(Reason.DECREASE)

    @rule()
    def the_program_runs(self) -> None:
        self.run()

    @rule(skip=st.integers(0, 6), times=st.integers(1, 8), drop=st.sampled_from(["before", "after"]))
    def answers_are_lost(self, skip: int, times: int, drop: Any) -> None:
        self.sandbox.faults.add(Fault(server="stripe", method="POST", skip=skip, times=times, drop=drop))
        self.run()
        self.sandbox.faults.clear()

    @rule(skip=st.integers(0, 12), times=st.integers(1, 4), status=st.sampled_from([429, 500, 503]))
    def servers_fail(self, skip: int, times: int, status: int) -> None:
        self.sandbox.faults.add(Fault(skip=skip, times=times, status=status))
        self.run()
        self.sandbox.faults.clear()


class AnyOrder(Runs):
    """A customer on one kind of price, and everything that can go wrong: alone, or with others who share queries."""

    beside: str

    @initialize()
    def begin(self) -> None:
        self.open_world()
        self.sandbox.stripe.summary_lag_seconds = int(LAG.total_seconds())
        self.world.configure(f'[[meters]]\nprice = "price_day_records"\nopenmeter = "{METER}"\nrecords = "day"\n')
        self.customer = self.sandbox.stripe.add_customer()
        self.item = self._subscribe()
        self.used: list[Used] = []
        self.periods = 0
        self.is_settled = False
        self.neighbours = [self._neighbour(number) for number in range(NEIGHBOURS)] if self.beside == "others" else []

    def _neighbour(self, number: int) -> str:
        """Let somebody else use much of the same, in a period that begins at a second of its own: earlier, or later."""
        customer = self.sandbox.stripe.add_customer()
        begins = PERIOD_START + (number - 2) * timedelta(minutes=47, seconds=13) - MINUTE
        self.sandbox.stripe.add_subscription(customer, [f"price_{self.kind}"], period_start=begins)
        self.sandbox.openmeter.add_event(METER, customer, begins + HOUR, value=100_000)
        return customer

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.settle()
            assert self.world.wrong_in_books() == {}
            check_statements(self.world, NOW)
            self.stack.close()

    def _subscribe(self) -> str:
        stripe, meter = self.sandbox.stripe, KINDS[self.kind]
        price = stripe.add_price(
            f"price_{self.kind}",
            meter=stripe.add_meter(self.kind, **meter) if meter else None,
            metadata={"om_meter_id": METER},
        )
        return stripe.add_subscription(self.customer, [price], period_start=PERIOD_START).items[0]

    def period(self) -> tuple[datetime, datetime]:
        period = self.sandbox.stripe.period(self.item)
        return datetime.fromtimestamp(period.start, UTC), datetime.fromtimestamp(period.end, UTC)

    def counts_from(self, start: datetime) -> datetime:
        """Where the usage of a period begins: a window that straddles its start is in it as a whole, but the first."""
        window = WINDOWS.get(self.kind)
        return start if window is None or start == PERIOD_START else floor(start, window)

    def counts_until(self, end: datetime) -> datetime:
        window = WINDOWS.get(self.kind)
        return end if window is None else floor(end, window)

    def expected(self, start: datetime, end: datetime) -> int:
        first, until = self.counts_from(start), min(self.now, self.counts_until(end))
        return int(sum((one.value for one in self.used if first <= one.at < until), Decimal(0)))

    # -- what happens -------------------------------------------------------------------------------

    @rule(ago=st.integers(-3600, 2 * 86_400), value=quarters)
    def usage_arrives(self, ago: int, value: Decimal) -> None:
        """Early, from a clock that is ahead, or late."""
        self._use(self.now - ago * SECOND, value)

    @rule(days=st.integers(3, 9), value=quarters)
    def usage_arrives_very_late(self, days: int, value: Decimal) -> None:
        self._use(self.now - days * DAY, value)

    @precondition(lambda self: self.neighbours)
    @rule(days=st.integers(0, 8), value=quarters, which=st.integers(0, NEIGHBOURS - 1))
    def usage_moves_from_another_customer(self, days: int, value: Decimal, which: int) -> None:
        """What was somebody else's is this customer's: so much less there, and so much more here."""
        at = self._use(self.now - days * DAY, value)
        self.sandbox.openmeter.add_event(METER, self.neighbours[which], at, value=str(-value))

    @rule(which=st.integers(0, 100))
    def usage_is_taken_back(self, which: int) -> None:
        start, _ = self.period()
        inside = [one for one in self.used if start <= one.at < self.now and one.value > 0]
        if inside:
            one = inside[which % len(inside)]
            if Used(one.at, -one.value) not in self.used:
                self._use(one.at, -one.value)

    def _use(self, at: datetime, value: Decimal) -> datetime:
        start, end = self.period()
        at = min(max(at, self.counts_from(start)), end - 2 * MINUTE)
        self.is_settled = False
        self.used.append(Used(at, value))
        self.sandbox.openmeter.add_event(METER, self.customer, at, value=str(value))
        return at

    @precondition(lambda self: self.kind not in ("record", "day_records"))
    @rule(is_named=st.booleans(), is_lost=st.booleans())
    def events_are_rejected_later(self, is_named: bool, is_lost: bool) -> None:
        """Stripe takes them, with or without an answer, and says afterwards which or how many it rejected."""
        self.sandbox.stripe.samples_per_error = 3 if is_named else 0
        self.sandbox.stripe.reject_meter_events_as = "meter_event_customer_not_found"
        if is_lost:
            self.sandbox.faults.add(Fault(server="stripe", method="POST", drop="after"))
        self.world.execute(Reason.DECREASE)
        self.sandbox.faults.clear()
        self.sandbox.stripe.reject_meter_events_as = None
        self.is_settled = False

    @rule()
    def the_ledger_is_lost(self) -> None:
        self.world.ledger.unlink(missing_ok=True)
        self.is_settled = False

    @precondition(lambda self: self.kind == "additions")
    @rule(value=quarters)
    def the_ledger_is_lost_while_summaries_lag(self, value: Decimal) -> None:
        """Between two runs that come so close after each other that summaries do not show the first one yet."""
        self._use(self.now - HOUR, value + 1)
        self.world.execute(Reason.DECREASE)
        self.world.ledger.unlink(missing_ok=True)
        self.sandbox.clock.advance(SECOND)
        self._use(self.now - HOUR, value)
        self.world.execute(Reason.DECREASE)

    @rule(minutes=st.sampled_from([1, 3, 60, 61 * 23, 24 * 60 + 1]))
    def time_passes(self, minutes: int) -> None:
        _, end = self.period()
        if self.now + minutes * MINUTE < end - 30 * HOUR:
            self.sandbox.clock.advance(minutes * MINUTE)
            self.is_settled = False

    @precondition(lambda self: self.periods == 0)
    @rule()
    def the_period_ends(self) -> None:
        start, end = self.period()
        self.sandbox.clock.move_to(max(self.now, end - 28 * HOUR))
        self.settle()
        self.sandbox.clock.move_to(end - MINUTE)
        self.settle()
        expected = self.expected(start, end)
        self.sandbox.clock.move_to(end + 5 * MINUTE)
        lines = [line for invoice in self.sandbox.stripe.invoices for line in invoice.lines]
        assert [line.quantity for line in lines if line.item == self.item] == [expected]
        self.periods += 1
        self.is_settled = False

    # -- what must be true --------------------------------------------------------------------------

    @invariant()
    def stripe_holds_what_was_used_after_an_undisturbed_run(self) -> None:
        if getattr(self, "is_settled", False):
            self._compare()

    def settle(self) -> None:
        """Run undisturbed: whatever a summary lags, or an identifier still blocks, clears within a day."""
        for pause in (timedelta(0), 2 * LAG, 2 * LAG, 25 * HOUR):
            if pause < 25 * HOUR or not self.is_settled:
                self.sandbox.clock.move_to(min(self.now + pause, max(self.now, self.period()[1] - MINUTE)))
                self.is_settled = self.world.execute(Reason.DECREASE)[self.item].outcome in SETTLED
        assert self.is_settled
        self._compare()

    def _compare(self) -> None:
        start, end = self.period()
        assert self.sandbox.stripe.total(self.item) == self.expected(start, end)


class AnyChange(Runs):
    """A customer whose subscriptions to one meter follow, overlap and change.

    The ledger is not lost here: what it names is what this is about.
    """

    mode: BillingMode

    @initialize()
    def begin(self) -> None:
        self.open_world()
        self.life = Life(self.world, self.kind, self.mode)
        self.price_before: str | None = None
        self.life.subscribe()
        self.life.run()

    def teardown(self) -> None:
        if hasattr(self, "life"):
            self.life.end()
            self.life.check()
            assert self.world.wrong_in_books() == {}
            check_statements(self.world, NOW)
            self.stack.close()

    def run(self) -> None:
        self.life.run()

    def chosen(self, which: int) -> str:
        return self.life.living[which % len(self.life.living)]

    # -- what happens -------------------------------------------------------------------------------

    @precondition(lambda self: len(self.life.used) < MOST_USES)
    @rule(ago=st.sampled_from([0, 0, 1, 90, 4000, 86_400]))
    def usage_arrives(self, ago: int) -> None:
        """Each by another power of three: were one of them missing and others billed twice, the sum would tell."""
        self.life.use(self.now - ago * SECOND, 3 ** len(self.life.used))

    @rule(pause=st.sampled_from([SECOND, 7 * MINUTE, 3 * HOUR, 20 * HOUR, 25 * HOUR, 9 * DAY]))
    def time_passes(self, pause: timedelta) -> None:
        self.sandbox.clock.advance(pause)

    @precondition(lambda self: len(self.life.living) < 3)
    @rule(trial=st.sampled_from([None, None, 3 * DAY]))
    def a_subscription_begins(self, trial: timedelta | None) -> None:
        self.life.subscribe(trial)

    @precondition(lambda self: self.life.living)
    @rule(which=choices)
    def a_narrowed_run_comes(self, which: int) -> None:
        self.life.run(self.chosen(which))

    @precondition(lambda self: self.life.living)
    @rule(which=choices, invoice_now=st.booleans())
    def a_subscription_is_canceled(self, which: int, invoice_now: bool) -> None:
        self.life.cancel(self.chosen(which), invoice_now=invoice_now)

    @precondition(lambda self: self.life.living)
    @rule(which=choices)
    def a_subscription_is_to_end(self, which: int) -> None:
        self.life.cancel_at_period_end(self.chosen(which))

    @precondition(lambda self: self.life.living)
    @rule(which=choices, is_back=st.booleans())
    def a_price_changes(self, which: int, is_back: bool) -> None:
        self.price_before = self.life.change_price(self.chosen(which), self.price_before if is_back else None)

    @precondition(lambda self: self.life.living)
    @rule(which=choices)
    def an_item_is_added(self, which: int) -> None:
        self.life.add_item(self.chosen(which))

    @precondition(lambda self: self.life.living)
    @rule(which=choices)
    def an_item_is_replaced(self, which: int) -> None:
        self.life.replace_item(self.chosen(which))

    @precondition(lambda self: self.life.living)
    @rule(which=choices, place=choices)
    def an_item_is_removed(self, which: int, place: int) -> None:
        self.life.remove_item(self.chosen(which), place)


def floor(instant: datetime, window: timedelta) -> datetime:
    return instant - (instant - datetime(1970, 1, 1, tzinfo=UTC)) % window


def play(machine: type[Runs], examples: int, steps: int, **details: str) -> None:
    """Draw lives of a kind of machine, and live them."""
    run_state_machine_as_test(
        type(f"{machine.__name__}Of_{'_'.join(details.values())}", (machine,), details),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],  # shrinking would take many minutes
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_invoice_says_what_was_used_whatever_happens(kind: str) -> None:
    play(AnyOrder, 6, 18, kind=kind, beside="nobody")


@pytest.mark.parametrize("kind", ["record", "hours"])
def test_the_invoice_says_what_was_used_whatever_is_kept_of_what_happened_before(kind: str) -> None:
    play(AnyOrder, 8, 18, kind=kind, beside="others")


@pytest.mark.parametrize("mode", ["classic", "flexible"])
@pytest.mark.parametrize("kind", ALL_WAYS)
def test_each_unit_is_billed_once_or_named_once_whatever_changes(kind: str, mode: str) -> None:
    play(AnyChange, 3, 20, kind=kind, mode=mode)
