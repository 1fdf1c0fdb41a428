"""Whatever happens in whatever order, the invoice says what was used, for every kind of price.

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
from tests.support.world import METER, NOW, PERIOD_START, World

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
LOOKBACK = 3 * DAY
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

quarters = st.integers(1, 40).map(lambda quarters: Decimal(quarters) / 4)


@dataclass(frozen=True)
class Used:
    """Something that was used, or, negative, that was not."""

    at: datetime
    value: Decimal


class AnyOrder(RuleBasedStateMachine):
    """A customer on one kind of price, and everything that can go wrong."""

    kind: str

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.world = World(self.folder, NOW)
        self.sandbox = self.world.sandbox
        self.sandbox.stripe.summary_lag_seconds = int(LAG.total_seconds())
        self.stack.enter_context(self.sandbox.in_background())
        self.world.configure(f'[[meters]]\nprice = "price_day_records"\nopenmeter = "{METER}"\nrecords = "day"\n')
        self.customer = self.sandbox.stripe.add_customer()
        self.item = self._subscribe()
        self.used: list[Used] = []
        self.periods = 0
        self.is_settled = False
        self.needs_a_day = False

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.settle()
            self.stack.close()

    def _subscribe(self) -> str:
        stripe, meter = self.sandbox.stripe, KINDS[self.kind]
        price = stripe.add_price(
            f"price_{self.kind}",
            meter=stripe.add_meter(self.kind, **meter) if meter else None,
            metadata={"om_meter_id": METER},
        )
        return stripe.add_subscription(self.customer, [price], period_start=PERIOD_START).items[0]

    @property
    def now(self) -> datetime:
        return self.sandbox.clock.now()

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
        self.needs_a_day = True
        self._use(self.now - days * DAY, value)

    @rule(which=st.integers(0, 100))
    def usage_is_taken_back(self, which: int) -> None:
        start, _ = self.period()
        inside = [one for one in self.used if start <= one.at < self.now and one.value > 0]
        if inside:
            one = inside[which % len(inside)]
            if Used(one.at, -one.value) not in self.used:
                self.needs_a_day |= one.at < self.now - LOOKBACK + DAY
                self._use(one.at, -one.value)

    def _use(self, at: datetime, value: Decimal) -> None:
        start, end = self.period()
        at = min(max(at, self.counts_from(start)), end - 2 * MINUTE)
        self.is_settled = False
        self.used.append(Used(at, value))
        self.sandbox.openmeter.add_event(METER, self.customer, at, value=str(value))

    @rule()
    def the_program_runs(self) -> None:
        self.world.execute(Reason.DECREASE)

    @rule(skip=st.integers(0, 6), times=st.integers(1, 8), drop=st.sampled_from(["before", "after"]))
    def answers_are_lost(self, skip: int, times: int, drop: Any) -> None:
        self.sandbox.faults.add(Fault(server="stripe", method="POST", skip=skip, times=times, drop=drop))
        self.world.execute(Reason.DECREASE)
        self.sandbox.faults.clear()

    @rule(skip=st.integers(0, 12), times=st.integers(1, 4), status=st.sampled_from([429, 500, 503]))
    def servers_fail(self, skip: int, times: int, status: int) -> None:
        self.sandbox.faults.add(Fault(skip=skip, times=times, status=status))
        self.world.execute(Reason.DECREASE)
        self.sandbox.faults.clear()

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
        (invoice,) = self.sandbox.stripe.invoices
        assert [line.quantity for line in invoice.lines] == [expected]
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
            if pause < 25 * HOUR or self.needs_a_day or not self.is_settled:
                self.sandbox.clock.move_to(min(self.now + pause, max(self.now, self.period()[1] - MINUTE)))
                results = self.world.execute(Reason.DECREASE).values()
                self.is_settled = [result.outcome in SETTLED for result in results] == [True]
        assert self.is_settled
        self.needs_a_day = False
        self._compare()

    def _compare(self) -> None:
        start, end = self.period()
        assert self.sandbox.stripe.total(self.item) == self.expected(start, end)


def floor(instant: datetime, window: timedelta) -> datetime:
    return instant - (instant - datetime(1970, 1, 1, tzinfo=UTC)) % window


@pytest.mark.parametrize("kind", KINDS)
def test_the_invoice_says_what_was_used_whatever_happens(kind: str) -> None:
    of_kind = type(f"AnyOrderOf_{kind}", (AnyOrder,), {"kind": kind})
    run_state_machine_as_test(
        of_kind,
        settings=settings(
            max_examples=6,
            stateful_step_count=18,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],  # shrinking would take many minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
