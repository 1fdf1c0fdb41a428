"""Writing one item: setting its quantity, and where that is not known, finding out whose usage Stripe holds."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from meter_sync.core.actions import Result, Set, result
from meter_sync.core.foreign import foreign_usage, topped_up
from meter_sync.core.outcomes import Reason
from meter_sync.ledger import Acknowledgement, Ledger, RunRecord
from meter_sync.stripe_api.connection import StripeRefused, StripeWriter
from meter_sync.stripe_api.usage_records import open_period_total, set_quantity
from meter_sync.sync.adapters import Clock
from meter_sync.waiting import Stop


@dataclass(frozen=True, slots=True)
class ItemWriter:
    """Writes single items of one run; the intent of each first write is in the ledger already."""

    stripe: StripeWriter
    ledger: Ledger
    run: RunRecord
    allowed: Collection[Reason]
    clock: Clock
    stop: Stop

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
        foreign = await open_period_total(self.stripe, item) - planned.quantity
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
        return await set_quantity(self.stripe, planned.line.item.id, planned.anchor, planned.at_anchor)


def _as_it_was(planned: Set, total_before: int, foreign: int) -> Set:
    """Return the write that leaves Stripe's total where the look had found it.

    On a `sum` price the anchor held what the total had beyond the other records. On any other one the anchor's
    record is not what the total came from, so it stays as it was just set.
    """
    if planned.line.item.price.aggregate_usage != "sum":
        return replace(planned, quantity=planned.quantity + foreign, foreign=foreign)
    held_at_anchor = max(0, total_before - foreign)
    return replace(planned, quantity=held_at_anchor + foreign, foreign=foreign)
