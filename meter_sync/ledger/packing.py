"""Many things in one row: as rows of their own, with what finds them, they would be most of the ledger."""

import json
import uuid
import zlib
from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import Row

from meter_sync.ledger.rows import RowUnread, reading

DAY_ENDS_LATER = timedelta(minutes=10)
"""What a run writes so soon after midnight is of the day before: it read its usage about then."""
_STRONGEST = 9
_SEPARATOR = ","

Thing = TypeVar("Thing")
Key = TypeVar("Key")
Place = tuple[str, datetime, datetime]
"""An item, the start of its period, and since when a packed row goes."""
_Values = list[Any]
_Columns = dict[str, _Values]

Kept = Literal["steps", "instants", "texts", "decimals", "sums", "run", "plain"]
"""How the values of a column are kept: whole numbers and instants, none of which is missing, by their differences;
texts as they are; decimals as texts, those that grow as the sum of those before by their differences; a run by its
number; what may be missing, or is yes or no, as it is."""


class RunNames(Mapping[int, str]):
    """Runs by their numbers, read when the first one is asked for."""

    def __init__(self, read: Callable[[], Mapping[int, str]]) -> None:
        self._read = read
        self._names: Mapping[int, str] | None = None

    def _known(self) -> Mapping[int, str]:
        if self._names is None:
            self._names = self._read()
        return self._names

    def __getitem__(self, number: int) -> str:
        return self._known()[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())


@dataclass(frozen=True, slots=True)
class Packer(Generic[Thing]):
    """How things of a kind are kept as the content of one row: compressed JSON, column by column."""

    kind: type[Thing]
    kept: Mapping[str, Kept]
    """How each field is."""
    beside: Mapping[str, str]
    """Numbers and instants that are close to another one of the same thing, which is kept itself: they are kept as the
    difference, and may be missing."""
    after: Mapping[str, str] = field(default_factory=dict)
    """The same of those that are close to another one of the thing before."""
    by_name: "Packer[Thing] | None" = None
    """How an earlier version kept such things, which named the columns."""

    def packed(self, things: Sequence[Thing], numbers: Mapping[str, int]) -> bytes:
        """Return things as what one row keeps. `numbers` has those of their runs."""
        columns = {name: [_plain(getattr(one, name)) for one in things] for name in self.kept}
        kept = [self._shortened(name, columns, numbers) for name in self.kept]
        return zlib.compress(json.dumps(kept, separators=(",", ":")).encode(), _STRONGEST)

    def unpacked(self, row: Row[Any], names: Mapping[int, str]) -> list[Thing]:
        """Return the things of such a row; `names` has the runs by their numbers. Raise RowUnread for what is not."""
        with reading(row.item):
            try:
                found = json.loads(zlib.decompress(row.content))
                packer = self.by_name if self.by_name and isinstance(found, dict) else self
                return packer._things(found, names)
            except (zlib.error, KeyError, AttributeError, IndexError) as error:
                raise ValueError(f"what was packed of it is damaged: {error!r}") from error

    def joined(
        self,
        rows: Iterable[Row[Any]],
        found: Mapping[Place, Mapping[Key, Thing]],
        names: Mapping[int, str],
        key_of: Callable[[Thing], Key],
    ) -> dict[Place, dict[Key, Thing]]:
        """Given things by their place and key, return them with those that rows of the same places have already.

        A row that cannot be read stays for who can read it: nothing is put into its place.
        """
        together = {place: dict(things) for place, things in found.items()}
        for row in rows:
            place = row.item, row.period_start, row.since
            if place not in together:
                continue
            try:
                together[place] = {key_of(one): one for one in self.unpacked(row, names)} | together[place]
            except RowUnread:
                del together[place]
        return together

    def _things(self, found: Any, names: Mapping[int, str]) -> list[Thing]:
        kept = found if isinstance(found, dict) else dict(zip(self.kept, found, strict=True))
        columns = _Columns()
        for name in self._in_order():
            columns[name] = self._restored(name, kept[name], columns, names)
        places = zip(*(columns[name] for name in self.kept), strict=True)
        return [self.kind(*map(self._value, self.kept, values)) for values in places]

    def _in_order(self) -> Iterable[str]:
        """Return the columns, those first that others are kept beside."""
        return sorted(self.kept, key=lambda name: name in self.beside or name in self.after)

    def _shortened(self, name: str, columns: _Columns, numbers: Mapping[str, int]) -> Any:
        values, kept = columns[name], self.kept[name]
        if name in self.beside:
            return _less(values, columns[self.beside[name]])
        if name in self.after:
            return _less(values, _before(columns[self.after[name]]))
        if kept == "run":
            return {"numbers": _steps([numbers[run] if run else 0 for run in values])}
        if kept == "sums" and None not in values:
            return {"sums": _steps_of_decimals(values)}
        if kept in ("texts", "decimals", "sums"):
            return _Texts.kept(values)
        return values if kept == "plain" else _steps(values)

    def _restored(self, name: str, found: Any, columns: _Columns, names: Mapping[int, str]) -> _Values:
        kept = self.kept[name]
        if name in self.beside:
            return _more(found, columns[self.beside[name]])
        if name in self.after:
            return _more(found, _before(columns[self.after[name]]))
        if kept == "run":
            return _runs(found, names)
        if kept == "sums" and "sums" in found:
            return [str(one) for one in accumulate(map(Decimal, found["sums"]))]
        if kept in ("texts", "decimals", "sums"):
            return _Texts.values(found)
        return list(found) if kept == "plain" else list(accumulate(found))

    def _value(self, name: str, plain: Any) -> Any:
        kept = self.kept[name]
        if plain is None:
            return None
        if kept == "instants":
            return datetime.fromtimestamp(plain, UTC)
        return Decimal(plain) if kept in ("decimals", "sums") else plain


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


_WRITES_BY_NAME = Packer(
    PastWrite,
    kept={
        "run": "run",
        "step": "steps",
        "anchor": "instants",
        "usage": "decimals",
        "quantity": "steps",
        "at_anchor": "steps",
        "previous": "steps",
        "intended_at": "instants",
        "acknowledged_at": "instants",
        "request_id": "texts",
        "carried": "steps",
    },
    beside={"at_anchor": "quantity", "previous": "quantity", "acknowledged_at": "intended_at"},
)
WRITES = Packer(
    PastWrite,
    kept={**_WRITES_BY_NAME.kept, "usage": "sums"},
    beside={"at_anchor": "quantity", "acknowledged_at": "intended_at"},
    after={"previous": "quantity"},
    by_name=_WRITES_BY_NAME,
)


def past_write(row: Row[Any]) -> PastWrite:
    """Return a row of writes as such a write."""
    return PastWrite(*(getattr(row, name) for name in WRITES.kept))


def runs_of(things: Iterable[Any]) -> Collection[str]:
    """Return the runs of things that are to be packed."""
    return {one.run for one in things if one.run}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp())
    return format(value, "f") if isinstance(value, Decimal) else value


def _runs(found: Any, names: Mapping[int, str]) -> _Values:
    if isinstance(found, dict) and "numbers" in found:
        return [names[number] if number else None for number in accumulate(found["numbers"])]
    # As a version kept them that gave runs no numbers.
    return [_long(short) for short in _Texts.values(found)]


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


def _steps_of_decimals(texts: _Values) -> _Values:
    """Return the differences of decimals, as numbers where they are whole."""
    steps = _steps([Decimal(one) for one in texts])
    return [int(one) if one == one.to_integral_value() else str(one) for one in steps]


def _before(numbers: _Values) -> _Values:
    """Return for each thing the number of the one before."""
    return [0, *numbers[:-1]]


def _less(numbers: _Values, others: _Values) -> _Values:
    return [None if one is None else one - other for one, other in zip(numbers, others, strict=True)]


def _more(numbers: _Values, others: _Values) -> _Values:
    return [None if one is None else one + other for one, other in zip(numbers, others, strict=True)]
