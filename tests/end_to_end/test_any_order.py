"""Whatever happens in whatever order, the invoice says what was used: every kind of price, side by side.

The runs are the program's own, in this process and over real HTTP; what happens to them is drawn.
"""

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from meter_sync.config import load
from meter_sync.core.outcomes import Reason
from meter_sync.sandbox import Fault, Sandbox
from meter_sync.sync import Execution, Request, execute
from meter_sync.waiting import Stop

METER = "requests"
NOW = datetime(2025, 6, 10, 12, 0, 0, tzinfo=UTC)
PERIOD_START = datetime(2025, 6, 1, 9, 30, 17, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
LOOKBACK = 3 * DAY
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

kinds = st.sampled_from(list(KINDS))
quarters = st.integers(1, 40).map(lambda quarters: Decimal(quarters) / 4)


@dataclass(frozen=True)
class Used:
    """Something that was used, or, negative, that was not."""

    at: datetime
    value: Decimal


@dataclass
class Item:
    """A subscription item with what its customer used, as the test knows it."""

    id: str
    subscription: str
    customer: str
    used: list[Used]


class AnyOrder(RuleBasedStateMachine):
    """A customer on each kind of price, and everything that can go wrong."""

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.sandbox = Sandbox(now=NOW)
        self.sandbox.stripe.summary_lag_seconds = int(LAG.total_seconds())
        self.stack.enter_context(self.sandbox.in_background())
        self.sandbox.openmeter.add_meter(METER, aggregation="SUM")
        self.items = {kind: self._subscribe(kind, meter) for kind, meter in KINDS.items()}
        self.periods = 0
        self.is_settled = False
        self.needs_a_day = False

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.settle()
            self.stack.close()

    def _subscribe(self, kind: str, meter: Mapping[str, Any] | None) -> Item:
        stripe = self.sandbox.stripe
        price = stripe.add_price(
            f"price_{kind}", meter=stripe.add_meter(kind, **meter) if meter else None, metadata={"om_meter_id": METER}
        )
        customer = stripe.add_customer()
        subscription = stripe.add_subscription(customer, [price], period_start=PERIOD_START)
        return Item(subscription.items[0], subscription.id, customer, [])

    @property
    def now(self) -> datetime:
        return self.sandbox.clock.now()

    def period(self) -> tuple[datetime, datetime]:
        period = self.sandbox.stripe.period(self.items["record"].id)
        return datetime.fromtimestamp(period.start, UTC), datetime.fromtimestamp(period.end, UTC)

    def counts_from(self, kind: str, start: datetime) -> datetime:
        """Where the usage of a period begins: a window that straddles its start is in it as a whole, but the first."""
        window = WINDOWS.get(kind)
        return start if window is None or start == PERIOD_START else floor(start, window)

    def counts_until(self, kind: str, end: datetime) -> datetime:
        window = WINDOWS.get(kind)
        return end if window is None else floor(end, window)

    def expected(self, kind: str, start: datetime, end: datetime) -> int:
        first, last = self.counts_from(kind, start), self.counts_until(kind, end)
        until = min(self.now, last)
        return int(sum((one.value for one in self.items[kind].used if first <= one.at < until), Decimal(0)))

    # -- what happens -------------------------------------------------------------------------------

    @rule(kind=kinds, ago=st.integers(-3600, 2 * 86_400), value=quarters)
    def usage_arrives(self, kind: str, ago: int, value: Decimal) -> None:
        """Early, from a clock that is ahead, or late."""
        self._use(kind, self.now - ago * SECOND, value)

    @rule(kind=kinds, days=st.integers(3, 9), value=quarters)
    def usage_arrives_very_late(self, kind: str, days: int, value: Decimal) -> None:
        self.needs_a_day = True
        self._use(kind, self.now - days * DAY, value)

    @rule(kind=kinds, which=st.integers(0, 100))
    def usage_is_taken_back(self, kind: str, which: int) -> None:
        start, _ = self.period()
        inside = [one for one in self.items[kind].used if start <= one.at < self.now and one.value > 0]
        if inside:
            one = inside[which % len(inside)]
            if Used(one.at, -one.value) not in self.items[kind].used:
                self.needs_a_day |= one.at < self.now - LOOKBACK + DAY
                self._use(kind, one.at, -one.value)

    def _use(self, kind: str, at: datetime, value: Decimal) -> None:
        start, end = self.period()
        at = min(max(at, self.counts_from(kind, start)), end - 2 * MINUTE)
        self.is_settled = False
        self.items[kind].used.append(Used(at, value))
        self.sandbox.openmeter.add_event(METER, self.items[kind].customer, at, value=str(value))

    @rule()
    def the_program_runs(self) -> None:
        self._run()

    @rule(skip=st.integers(0, 6), times=st.integers(1, 8), drop=st.sampled_from(["before", "after"]))
    def answers_are_lost(self, skip: int, times: int, drop: Any) -> None:
        self.sandbox.faults.add(Fault(server="stripe", method="POST", skip=skip, times=times, drop=drop))
        self._run()
        self.sandbox.faults.clear()

    @rule(skip=st.integers(0, 12), times=st.integers(1, 4), status=st.sampled_from([429, 500, 503]))
    def servers_fail(self, skip: int, times: int, status: int) -> None:
        self.sandbox.faults.add(Fault(skip=skip, times=times, status=status))
        self._run()
        self.sandbox.faults.clear()

    @rule()
    def the_ledger_is_lost(self) -> None:
        (self.folder / "ledger.sqlite3").unlink(missing_ok=True)
        self.is_settled = False

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
        expected = {kind: self.expected(kind, start, end) for kind in KINDS}
        self.sandbox.clock.move_to(end + 5 * MINUTE)
        invoiced = {line.item: line.quantity for invoice in self.sandbox.stripe.invoices for line in invoice.lines}
        assert {kind: invoiced[item.id] for kind, item in self.items.items()} == expected
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
                self.is_settled = not self._run().report.exit_code
        assert self.is_settled
        self.needs_a_day = False
        self._compare()

    def _compare(self) -> None:
        start, end = self.period()
        billed = {kind: self.sandbox.stripe.total(item.id) for kind, item in self.items.items()}
        assert billed == {kind: self.expected(kind, start, end) for kind in KINDS}

    def _run(self) -> Execution:
        environment = {
            **self.sandbox.environment(),
            "METER_SYNC_LEDGER": str(self.folder / "ledger.sqlite3"),
            "METER_SYNC_STRIPE_RATE": "10000",
            "METER_SYNC_STRIPE_ENDPOINT_RATE": "10000",
            "METER_SYNC_STRIPE_METER_EVENT_RATE": "10000",
            "METER_SYNC_RETRY_SECONDS": "0",
        }
        config = self.folder / "meter-sync.toml"
        config.write_text(f'[[meters]]\nprice = "price_day_records"\nopenmeter = "{METER}"\nrecords = "day"\n')
        self.sandbox.date_skew_seconds = (self.now - datetime.now(UTC)).total_seconds()
        request = Request(allowed=frozenset({Reason.DECREASE}))
        return asyncio.run(execute(load(config, environment, {}), request, self.sandbox.clock.now, Stop()))


def floor(instant: datetime, window: timedelta) -> datetime:
    return instant - (instant - datetime(1970, 1, 1, tzinfo=UTC)) % window


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=12,
    stateful_step_count=14,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
