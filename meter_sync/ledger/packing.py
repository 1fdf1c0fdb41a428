"""Many writes in one row: as rows of their own, with what finds them, they would be most of the ledger."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from meter_sync.ledger.rows import reading

_STRONGEST = 9


@dataclass(frozen=True, slots=True)
class PastWrite:
    """A write that Stripe has taken, and that a later one of its item's period superseded."""

    run: str
    step: int
    anchor: datetime
    usage: Decimal | None
    quantity: int
    at_anchor: int
    previous: int | None
    intended_at: datetime
    acknowledged_at: datetime
    request_id: str | None
    carried: int

    @property
    def order(self) -> tuple[datetime, int]:
        """When it was, among those of its item's period."""
        return self.intended_at, self.step


_INSTANTS = ("anchor", "intended_at", "acknowledged_at")
_NAMES: tuple[str, ...] = PastWrite.__match_args__


def past_write(row: Row[Any]) -> PastWrite:
    """Return a row of writes as such a write."""
    return PastWrite(*(getattr(row, name) for name in _NAMES))


def packed(written: Sequence[PastWrite]) -> bytes:
    """Return writes as what one row keeps: compressed JSON, column by column, since those repeat themselves."""
    columns = {name: [_stored(getattr(one, name)) for one in written] for name in _NAMES}
    return zlib.compress(json.dumps(columns, separators=(",", ":")).encode(), _STRONGEST)


def unpacked(row: Row[Any]) -> list[PastWrite]:
    """Return the writes of such a row. Raise RowUnread where it has something else."""
    with reading(row.item):
        try:
            columns = json.loads(zlib.decompress(row.content))
            places = zip(*(columns[name] for name in _NAMES), strict=True)
            return [_write(dict(zip(_NAMES, values, strict=True))) for values in places]
        except (zlib.error, KeyError) as error:
            raise ValueError(f"its earlier writes are damaged: {error}") from error


def _stored(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp())
    return format(value, "f") if isinstance(value, Decimal) else value


def _write(values: dict[str, Any]) -> PastWrite:
    instants = {name: datetime.fromtimestamp(values[name], UTC) for name in _INSTANTS}
    usage = None if values["usage"] is None else Decimal(values["usage"])
    return PastWrite(**{**values, **instants, "usage": usage})
