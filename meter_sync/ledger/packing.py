"""Many writes in one row: as rows of their own, with what finds them, they would be most of the ledger."""

import json
import uuid
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate, pairwise
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


_NAMES: tuple[str, ...] = PastWrite.__match_args__
_INSTANTS = ("anchor", "intended_at", "acknowledged_at")
_BESIDE = {"at_anchor": "quantity", "previous": "quantity", "acknowledged_at": "intended_at"}
"""Numbers that are close to another one of the same write: they are kept as the difference."""
_TEXTS = ("run", "usage", "request_id")
_SEPARATOR = ","

_Values = list[Any]


def past_write(row: Row[Any]) -> PastWrite:
    """Return a row of writes as such a write."""
    return PastWrite(*(getattr(row, name) for name in _NAMES))


def packed(written: Sequence[PastWrite]) -> bytes:
    """Return writes as what one row keeps: compressed JSON, column by column.

    Numbers are differences, and a run is as short as its id can be, since what never repeats is most of it.
    """
    columns = {name: [_plain(name, getattr(one, name)) for one in written] for name in _NAMES}
    kept = {name: _Texts.kept(values) if name in _TEXTS else values for name, values in columns.items()}
    kept |= {name: _less(columns[name], columns[other]) for name, other in _BESIDE.items()}
    kept |= {name: _steps(columns[name]) for name in _NAMES if name not in (*_TEXTS, *_BESIDE)}
    return zlib.compress(json.dumps(kept, separators=(",", ":")).encode(), _STRONGEST)


def unpacked(row: Row[Any]) -> list[PastWrite]:
    """Return the writes of such a row. Raise RowUnread where it has something else."""
    with reading(row.item):
        try:
            kept = json.loads(zlib.decompress(row.content))
            columns = {name: _Texts.values(kept[name]) for name in _TEXTS}
            columns |= {name: list(accumulate(kept[name])) for name in _NAMES if name not in (*_TEXTS, *_BESIDE)}
            columns |= {name: _more(kept[name], columns[other]) for name, other in _BESIDE.items()}
            places = zip(*(columns[name] for name in _NAMES), strict=True)
            return [PastWrite(*map(_value, _NAMES, values)) for values in places]
        except (zlib.error, KeyError, AttributeError) as error:
            raise ValueError(f"its earlier writes are damaged: {error!r}") from error


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp())
    if name == "run":
        return _short(value)
    return format(value, "f") if isinstance(value, Decimal) else value


def _value(name: str, plain: Any) -> Any:
    if name in _INSTANTS:
        return datetime.fromtimestamp(plain, UTC)
    if name == "run":
        return _long(plain)
    return Decimal(plain) if name == "usage" and plain is not None else plain


@lru_cache(maxsize=1024)
def _short(run: str) -> str:
    """Return a run's id, which is a UUID, in the characters that it takes."""
    try:
        is_usual = str(uuid.UUID(run)) == run
    except ValueError:
        is_usual = False
    return urlsafe_b64encode(uuid.UUID(run).bytes).decode().rstrip("=") if is_usual else f"={run}"


def _long(short: str) -> str:
    if short.startswith("="):
        return short[1:]
    return str(uuid.UUID(bytes=urlsafe_b64decode(f"{short}==")))


class _Texts:
    """Texts as one, after what all begin with, if none has a comma and none is missing; else as a list."""

    @staticmethod
    def kept(texts: _Values) -> Any:
        if not all(isinstance(one, str) and _SEPARATOR not in one for one in texts):
            return texts
        first, last = min(texts), max(texts)
        same = next(
            (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first)
        )
        prefix = first[:same]
        return {"of_all": prefix, "rest": _SEPARATOR.join(one[len(prefix) :] for one in texts)}

    @staticmethod
    def values(kept: Any) -> _Values:
        if isinstance(kept, list):
            return kept
        return [kept["of_all"] + rest for rest in kept["rest"].split(_SEPARATOR)]


def _steps(numbers: _Values) -> _Values:
    return [*numbers[:1], *(later - one for one, later in pairwise(numbers))]


def _less(numbers: _Values, others: _Values) -> _Values:
    return [None if one is None else one - other for one, other in zip(numbers, others, strict=True)]


def _more(numbers: _Values, others: _Values) -> _Values:
    return [None if one is None else one + other for one, other in zip(numbers, others, strict=True)]
