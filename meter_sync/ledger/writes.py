"""The ledger's book of writes: each is intended before it is sent, and acknowledged once Stripe has taken it."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from meter_sync.core.billing.item import PeriodKey
from meter_sync.core.planning.stages import Acknowledged, Add, Checked, Intended, WindowQuantity, Write
from meter_sync.ledger import additions, rows, schema, windows, writers
from meter_sync.ledger.database import Book
from meter_sync.ledger.rows import RunRecord, WindowTaken, key
from meter_sync.ledger.schema import forgotten, item_periods, items, writes

_KEPT = ("acknowledged", "seen_at", "read_whole_at", "opening")
"""What an intent leaves as it is in the row of an item and period."""
_REPLACED = [one.name for one in item_periods.c if not one.primary_key and one.name not in _KEPT]


class Writes(Book):
    """What is about to be written, and what became of it."""

    def record_looks(self, looked: Iterable[str], at: datetime) -> None:
        """Record that the items were looked at in Stripe: nothing is held there that this ledger does not know."""
        with self.database.transaction():
            self.database.insert_missing(items, [{"item": item, "looked_at": at} for item in looked])

    def claim(self, run: RunRecord, checked: Sequence[Checked], at: datetime, number: int) -> list[Intended]:
        """Claim the items of writes, record what is about to be written, and return the writes that were granted.

        One whose item another run is writing, or has written since the write was planned, is not. `number` says which
        one of the run's writes for each item it is.
        """
        with self.database.transaction():
            free = writers.claim(self.database, run, checked, at)
            granted = [Intended(one, number) for one in checked if one.item.id in free]
            self._intend(run, granted, at)
        return granted

    def release(self, run: RunRecord, written: Sequence[Write]) -> None:
        """Give claims back: these writes are over."""
        with self.database.transaction():
            writers.release(self.database, run, [one.item.id for one in written])

    def intend_correction(self, run: RunRecord, intended: Intended, write: Write, at: datetime) -> Intended:
        """Record what is about to be written in place of what was intended, once that has shown whose usage it is."""
        correction = Intended(write, intended.number + 1)
        with self.database.transaction():
            self._intend(run, [correction], at)
        return correction

    def _intend(self, run: RunRecord, intended: Sequence[Intended], at: datetime) -> None:
        """Record what is about to be written, with all that is needed to repeat it exactly."""
        planned = [one.write for one in intended]
        states = [rows.state(write, run, at) for write in planned]
        history = [rows.history(one.write, run, at, one.number) for one in intended if one.write.how_many]
        self.database.put(item_periods, states, _REPLACED, completed=("read_whole_at",))
        self.database.insert(writes, history)
        windows.intend(self.database, run.id, planned)
        additions.intend(self.database, run.id, planned, at)

    def acknowledge(self, run: RunRecord, acknowledgements: Sequence[Acknowledged]) -> None:
        """Record what Stripe has taken.

        An item beside which other records were found counts as never looked at in its next period. Where nothing was
        sent, an earlier write of the same run, that Stripe refused, is not taken for acknowledged.
        """
        sent = [rows.acknowledged_write(done, run) for done in acknowledgements if done.intended.write.how_many]
        looked = [
            {"item": done.intended.write.item.id, "looked_at": done.at}
            for done in acknowledgements
            if not done.intended.write.foreign
        ]
        beside_others = [
            {"item": done.intended.write.item.id} for done in acknowledgements if done.intended.write.foreign
        ]
        with self.database.transaction():
            self.database.update(item_periods, [rows.acknowledged_state(done) for done in acknowledgements])
            self.database.update(writes, sent, by=("run", "item", "period_start", "step"))
            self.database.insert_missing(items, looked)
            self.database.delete(items, beside_others)
            additions.acknowledge(self.database, acknowledgements)

    def acknowledge_windows(self, taken: Sequence[WindowTaken]) -> None:
        """Record which hours or days Stripe has taken."""
        with self.database.transaction():
            windows.acknowledge(self.database, taken)

    def record_partly(self, write: Write, standing: int | None, unsent: Sequence[WindowQuantity]) -> None:
        """Record what became of a write of which only some was taken.

        `standing` is what Stripe holds of the item's period with that, None where nothing new was taken; `unsent` is
        what certainly never arrived.
        """
        with self.database.transaction():
            windows.withdraw(self.database, write, unsent)
            if standing is not None:
                self.database.update(item_periods, [{**key(write.item), "acknowledged": standing}])

    def withdraw(self, unsent: Sequence[Write]) -> None:
        """Take back what was intended but never sent, or was refused: Stripe holds what it had acknowledged before.

        Where it had acknowledged nothing the item is unknown again, and is looked at before its next write.
        """
        keys = [key(one.item) for one in unsent]
        guessed = [key(one.item) for one in unsent if isinstance(one.sends, Add) and one.sends.addition.base_is_read]
        with self.database.transaction():
            additions.withdraw(self.database, unsent)
            self.database.delete(item_periods, guessed)
            self.database.delete(item_periods, keys, item_periods.c.acknowledged.is_(None))
            self.database.update(item_periods, keys, quantity=item_periods.c.acknowledged)
            windows.drop_orphans(self.database, keys)

    def forget(self, unknown: Iterable[PeriodKey]) -> None:
        """Forget what Stripe holds of items, each with the start of its period: they are looked at before a write.

        Additions are forgotten with them: what is read then has them in it.
        """
        keys = rows.keys(unknown)
        with self.database.transaction():
            for table in (schema.additions, schema.parts, item_periods):
                self.database.delete(table, keys)
            self.database.delete(items, [{"item": one["item"]} for one in keys])
            self.database.insert_missing(forgotten, keys)
