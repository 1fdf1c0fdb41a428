"""Writing one item: setting its quantity, and where that is not known, finding out whose usage Stripe holds."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime

from meter_sync.core.billing import identifiers as identifier
from meter_sync.core.billing.item import Target
from meter_sync.core.billing.way import meter_on
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.foreign import foreign_usage, topped_up
from meter_sync.core.planning.known import Addition
from meter_sync.core.planning.stages import Part, Result, Set, result
from meter_sync.ledger import Acknowledgement, Ledger, RunRecord
from meter_sync.ledger.rows import PartTaken
from meter_sync.net.stop import Stop
from meter_sync.stripe_api.connection import StripeRefused, StripeWriter
from meter_sync.stripe_api.meter_events import Event, cancel_event, send_event
from meter_sync.stripe_api.usage_records import period_total, set_quantity
from meter_sync.sync.adapters import Adapters, Clock
from meter_sync.sync.order import Order


@dataclass(frozen=True, slots=True)
class ItemWriter:
    """Writes single items of one run; the intent of each first write is in the ledger already."""

    stripe: StripeWriter
    ledger: Ledger
    run: RunRecord
    allowed: Collection[Reason]
    clock: Clock
    stop: Stop
    taken: list[PartTaken] = field(default_factory=list)
    """The hours and days that Stripe has taken, to be recorded; the writer only adds to it."""
    sent: dict[str, int] = field(default_factory=dict)
    """How many of each item's sends were taken so far."""

    async def write(self, planned: Set, step: int) -> tuple[Result, Acknowledgement]:
        """Set the planned quantity and return what became of it and what Stripe has taken.

        `step` is that of the intent. Raise StripeRefused, StripeUnavailable, Interrupted or MeterSyncError.
        """
        self.stop.check()
        if planned.total_before is not None:
            with self.stop.put_off():
                return await self._probe(planned, planned.total_before, step)
        request_id = await self._set(planned)
        return result(planned, reported=True), Acknowledgement(planned, self.clock(), request_id, step)

    async def _probe(self, planned: Set, total_before: int, step: int) -> tuple[Result, Acknowledgement]:
        """Finish a first look: after the anchor was set, what the total has beyond it is other records'."""
        request_id = await self._set(planned)
        item = planned.line.item
        foreign = await period_total(self.stripe, item) - planned.quantity
        if foreign < 0:
            raise StripeRefused(f"its total is less than the {planned.quantity} that was just set for {item.id}", None)
        if foreign == 0:
            return result(planned, reported=True), Acknowledgement(planned, self.clock(), request_id, step)
        rest = topped_up(planned, foreign, self.allowed)
        if rest:
            return result(rest, reported=True), await self._correct(rest, total_before, step + 1)
        before = _as_it_was(planned, total_before, foreign)
        left = await self._correct(before, total_before, step + 1)
        held = foreign_usage(planned.line, planned.quantity, foreign)
        return result(held), replace(left, foreign_held=True)

    async def _correct(self, write: Set, total_before: int, step: int) -> Acknowledgement:
        """Write once more; until that is acknowledged the look stays unfinished, for the next run to repeat."""
        unfinished = replace(write, total_before=total_before)
        self.ledger.intend(self.run, [unfinished], self.clock(), step)
        return Acknowledgement(write, self.clock(), await self._set(write), step)

    async def _set(self, planned: Set) -> str | None:
        """Send all that is to be sent, one after the other, and return Stripe's name for the last request.

        One call at a time: Stripe takes one per customer and billing meter (rate limit documentation).
        """
        request_id, item = None, planned.line.item.id
        for done, part in enumerate(planned.sends):
            self.sent[item] = done
            self.stop.check()
            request_id = await self._send(planned, part)
            if planned.parts is not None:
                self.taken.append(PartTaken(planned, part, self.clock(), request_id))
        return request_id

    async def _send(self, planned: Set, part: Part) -> str | None:
        if planned.addition:
            return await self._add(planned, planned.addition)
        if planned.method.target is Target.USAGE_RECORD:
            return await set_quantity(self.stripe, planned.line.item.id, part.timestamp, part.value)
        name = identifier.of_set(self.run.id, planned.line.item.id, part.start)
        return (await send_event(self.stripe, _event(planned, part.value, part.timestamp, name))).request_id

    async def _add(self, planned: Set, addition: Addition) -> str | None:
        """Add to what Stripe holds, or cancel what was added.

        The identifier says from what on is added. If Stripe has it already, without this run having sent it for
        certain, then what it holds is not what was read: an earlier run's ledger was lost and the summary lags.
        """
        if addition.is_cancel:
            return await cancel_event(self.stripe, meter_on(planned.line.item), addition.identifier)
        event = _event(planned, addition.value, addition.timestamp, addition.identifier)
        delivery = await send_event(self.stripe, event)
        if delivery.was_there and (addition.base_is_read or not delivery.after_an_attempt):
            raise UnknownAddition(
                f"Stripe has an addition to {addition.base} already that this ledger does not know and its summary "
                "does not show yet; the next run reads it again",
                None,
            )
        return delivery.request_id


class UnknownAddition(StripeRefused):
    """Stripe holds more than was known: nothing was added, and it must be looked at anew."""


def _event(planned: Set, value: int, timestamp: datetime, name: str) -> Event:
    item = planned.line.item
    return Event(meter_on(item), item.subscription.customer.id, value, timestamp, name)


def writer_of(order: Order, adapters: Adapters) -> ItemWriter:
    """Return what writes the items of a run. Raise AssertionError in a dry run, which has nothing that can write."""
    if adapters.writer is None:
        raise AssertionError("a dry run writes nothing")
    return ItemWriter(
        stripe=adapters.writer,
        ledger=adapters.ledger,
        run=order.run,
        allowed=order.policy.allowed,
        clock=adapters.clock,
        stop=adapters.stop,
    )


def _as_it_was(planned: Set, total_before: int, foreign: int) -> Set:
    """Return the write that leaves Stripe's total where the look had found it.

    On a `sum` price the anchor held what the total had beyond the other records. On any other one the anchor's
    record is not what the total came from, so it stays as it was just set.
    """
    if planned.line.item.price.aggregate_usage != "sum":
        return replace(planned, quantity=planned.quantity + foreign, foreign=foreign)
    held_at_anchor = max(0, total_before - foreign)
    before = replace(planned, quantity=held_at_anchor + foreign, foreign=foreign)
    return before if planned.parts is None else replace(before, parts=_all_in_first(planned.parts, held_at_anchor))


def _all_in_first(days: tuple[Part, ...], quantity: int) -> tuple[Part, ...]:
    """Return days that hold a quantity in all. How it was spread over them is not known, and makes no difference."""
    return tuple(replace(day, value=0 if place else quantity) for place, day in enumerate(days))
