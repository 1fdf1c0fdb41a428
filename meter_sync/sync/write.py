"""Writing one item: setting its quantity, and where that is not known, finding out whose usage stands in Stripe."""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from meter_sync.core.billing import identifiers
from meter_sync.core.billing.item import SubscriptionItem, Target
from meter_sync.core.billing.way import meter_on
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.additions import sums_alone
from meter_sync.core.planning.foreign import cannot_be_told, foreign_usage, may_bill_less, topped_up
from meter_sync.core.planning.memory import Addition
from meter_sync.core.planning.results import outcome_of
from meter_sync.core.planning.sends import Add, Cancel, SendNothing, SetTotal, SetWindows, WindowQuantity
from meter_sync.core.planning.stages import Acknowledged, Intended, Result, Write
from meter_sync.core.planning.windows import windows_of, with_windows
from meter_sync.ledger import Ledger, RunRecord
from meter_sync.ledger.rows import WindowTaken
from meter_sync.net.stop import Stop
from meter_sync.stripe_api.connection import StripeRefused, StripeWriter
from meter_sync.stripe_api.meter_events import Event, cancel_event, send_event
from meter_sync.stripe_api.usage_records import RecordedPeriod, period_total, set_quantity
from meter_sync.sync.claims import Claims
from meter_sync.sync.job import Clock, Job


@dataclass(frozen=True, slots=True)
class Streamed:
    """What became of events that were sent many at a time, before each item's turn: by their identifiers."""

    taken: dict[str, str | None] = field(default_factory=dict)
    """Stripe's name for the request, of each that it has taken."""
    in_doubt: set[str] = field(default_factory=set)
    """Those that may have arrived: a request had no answer."""


@dataclass(slots=True)
class _Windows:
    """The hours or days of an item that were not taken so far; the first one is on its way, or is to be sent next."""

    untaken: deque[WindowQuantity]
    request_id: str | None = None
    """Stripe's name for the last request that it took."""


@dataclass(frozen=True, slots=True)
class ItemWriter:
    """Writes single items of one run; it takes nothing but what the ledger has as intended."""

    stripe: StripeWriter
    ledger: Ledger
    run: RunRecord
    allowed: Collection[Reason]
    clock: Clock
    stop: Stop
    claims: Claims
    """What this run has to itself: nothing that sets is sent without."""
    taken: list[WindowTaken] = field(default_factory=list)
    """The hours and days that Stripe has taken, to be recorded; the writer only adds to it."""
    under_way: dict[str, "_Windows"] = field(default_factory=dict)
    """The hours or days of each item that is being written."""
    streamed: Streamed = field(default_factory=Streamed)
    unsure: set[str] = field(default_factory=set)
    """The items whose addition Stripe has, but perhaps as an earlier run had sent it that the ledger does not know."""

    async def write(self, intended: Intended) -> tuple[Result, Acknowledged]:
        """Send what is intended, and return what became of it and what Stripe has taken.

        Raise StripeRefused, StripeUnavailable, ClaimLost, Interrupted or MeterSyncError.
        """
        if not self.is_taken(intended.write):
            self.stop.check()
        total_before = intended.write.total_before
        if total_before is not None:
            with self.stop.put_off():
                return await self._probe(intended, total_before)
        return outcome_of(intended.write, Outcome.REPORTED), await self._acknowledged(intended)

    async def _acknowledged(self, intended: Intended) -> Acknowledged:
        request_id = await self._send(intended.write)
        return Acknowledged(intended, self.clock(), request_id, is_in_doubt=intended.write.item.id in self.unsure)

    async def _probe(self, intended: Intended, total_before: int) -> tuple[Result, Acknowledged]:
        """Finish a first look: after the anchor was set, what the total has beyond it is other records'.

        Where the latest record counts, the total may be less as well. Where it was the same before, nothing is told
        yet: it is looked at again until a write differs.
        """
        write, item = intended.write, intended.write.item
        done = await self._acknowledged(intended)
        period = RecordedPeriod(item, item.period.end <= self.run.as_of, write.invoice)
        foreign = await period_total(self.stripe, period) - write.quantity
        if foreign < 0 and not may_bill_less(write):
            raise StripeRefused(f"its total is less than the {write.quantity} that was just set for {item.id}", None)
        if foreign == 0:
            is_untold = cannot_be_told(write, total_before)
            return outcome_of(write, Outcome.REPORTED), replace(done, at=self.clock(), is_foreign_held=is_untold)
        rest = topped_up(write, foreign, self.allowed)
        if rest:
            return outcome_of(rest, Outcome.REPORTED), await self._correct(intended, rest, total_before)
        left = await self._correct(intended, _as_it_was(write, total_before, foreign), total_before)
        return foreign_usage(write, foreign), replace(left, is_foreign_held=True)

    async def _correct(self, intended: Intended, write: Write, total_before: int) -> Acknowledged:
        """Write once more; until that is acknowledged the look stays unfinished, for the next run to repeat."""
        unfinished = replace(write, total_before=total_before)
        return await self._acknowledged(
            self.ledger.writes.intend_correction(self.run, intended, unfinished, self.clock())
        )

    async def _send(self, write: Write) -> str | None:
        """Send all that is to be sent, one after the other, and return Stripe's name for the last request.

        One call at a time: Stripe takes one per customer and billing meter (rate limit documentation).
        """
        match write.sends:
            case SetTotal():
                return await self._set(write, write.anchor, write.anchor, write.at_anchor)
            case SetWindows():
                return await self._set_windows(write, write.sends)
            case Add(addition):
                return await self._add(write, addition)
            case Cancel(addition):
                return await cancel_event(self.stripe, meter_on(write.item), addition.identifier)
            case SendNothing():
                return None

    async def _set_windows(self, write: Write, windows: SetWindows) -> str | None:
        under_way = self.under_way.setdefault(write.item.id, _Windows(deque(windows.sent)))
        while under_way.untaken:
            window = under_way.untaken[0]
            under_way.request_id = await self._set(write, window.start, window.timestamp, window.value)
            self.taken.append(WindowTaken(write, window, self.clock(), under_way.request_id))
            under_way.untaken.popleft()
        del self.under_way[write.item.id]
        return under_way.request_id

    async def _set(self, write: Write, start: datetime, timestamp: datetime, value: int) -> str | None:
        name = self._name(write, start)
        if name in self.streamed.taken:
            return self.streamed.taken.pop(name)
        self.stop.check()
        is_mine = partial(self.claims.check, write.item.id)
        if write.method.way.target is Target.USAGE_RECORD:
            return await set_quantity(self.stripe, write.item.id, timestamp, value, is_mine)
        delivery = await send_event(self.stripe, _event(write, value, timestamp, name), is_mine)
        self.streamed.in_doubt.discard(name)
        return delivery.request_id

    def _name(self, write: Write, start: datetime) -> str:
        return identifiers.of_set(self.run.id, write.item.id, start)

    def events_of(self, write: Write) -> Iterator[Event]:
        """Yield the events that set what a write on a billing meter is to set, as they are sent singly too."""
        match write.sends:
            case SetTotal():
                yield _event(write, write.at_anchor, write.anchor, self._name(write, write.anchor))
            case SetWindows():
                for one in write.sends.sent:
                    yield _event(write, one.value, one.timestamp, self._name(write, one.start))

    def keep_streamed(self, write: Write) -> None:
        """Note which hours or days of a write the stream has taken: that stays, whatever becomes of the rest."""
        streamed = self.streamed.taken
        if not (streamed and isinstance(write.sends, SetWindows)):
            return
        under_way = self.under_way[write.item.id] = _Windows(deque())
        for window in write.sends.sent:
            name = self._name(write, window.start)
            if name not in streamed:
                under_way.untaken.append(window)
                continue
            under_way.request_id = streamed.pop(name)
            self.taken.append(WindowTaken(write, window, self.clock(), under_way.request_id))

    def is_taken(self, write: Write) -> bool:
        """Whether the stream has taken all of a write: nothing is left to be sent, and it is to be acknowledged."""
        match write.sends:
            case SetTotal():
                return self._name(write, write.anchor) in self.streamed.taken
            case SetWindows():
                under_way = self.under_way.get(write.item.id)
                return under_way is not None and not under_way.untaken
        return False

    def missing(self, item: SubscriptionItem, windows: SetWindows) -> tuple[WindowQuantity, ...]:
        """Return the hours or days of an item that were not taken, in order."""
        under_way = self.under_way.get(item.id)
        return windows.sent if under_way is None else tuple(under_way.untaken)

    def may_be_there(self, write: Write, start: datetime) -> bool:
        """Whether an event of a write may have arrived, though no answer says so."""
        return self._name(write, start) in self.streamed.in_doubt

    async def _add(self, write: Write, addition: Addition) -> str | None:
        """Add to what stands in Stripe.

        The identifier says from what on is added. If Stripe has it already, without this run having sent it for
        certain, then what stands there is not what was thought: an earlier run's ledger was lost and the summary lags,
        or the ledger was restored from a backup. Where the first attempt had no answer it most likely arrived, and the
        next run makes sure of it.
        """
        event = _event(write, addition.value, addition.timestamp, addition.identifier)
        delivery = await send_event(self.stripe, event)
        if delivery.was_there and (addition.base_is_read or not delivery.after_an_attempt):
            raise UnknownAddition(
                f"Stripe has an addition to {addition.base} already that this ledger does not know, as one that was "
                "lost or restored from a backup does not; nothing was added, and the next run reads what Stripe holds",
                None,
            )
        if delivery.was_there and sums_alone(write.found):
            self.unsure.add(write.item.id)
        return delivery.request_id


class UnknownAddition(StripeRefused):
    """Stripe holds more than was known: nothing was added, and it must be looked at anew."""


def _event(write: Write, value: int, timestamp: datetime, name: str) -> Event:
    return Event(meter_on(write.item), write.item.subscription.customer.id, value, timestamp, name)


def writer_of(job: Job) -> ItemWriter:
    """Return what writes the items of a run. Raise AssertionError in a dry run, which has nothing that can write."""
    if job.writer is None:
        raise AssertionError("a dry run writes nothing")
    claims = Claims(job.ledger, job.run, job.clock)
    return ItemWriter(job.writer, job.ledger, job.run, job.policy.allowed, job.clock, job.stop, claims)


def _as_it_was(write: Write, total_before: int, foreign: int) -> Write:
    """Return the write that leaves Stripe's total where the look had found it.

    On a `sum` price the anchor held what the total had beyond the other records. On any other one the anchor's
    record is not what the total came from, so it stays as it was just set.
    """
    if write.item.price.aggregate_usage != "sum":
        return replace(write, quantity=write.quantity + foreign, foreign=foreign)
    held_at_anchor = max(0, total_before - foreign)
    before = replace(write, quantity=held_at_anchor + foreign, foreign=foreign)
    # How it was spread over the days is not known, and makes no difference: the first one holds it all.
    days = (replace(day, value=0 if place else held_at_anchor) for place, day in enumerate(windows_of(before)))
    return with_windows(before, tuple(days))
