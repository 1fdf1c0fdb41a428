"""What stands in the ledger's rows, as the core and the steps know it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from sys import intern
from typing import Any, TypeVar

from sqlalchemy import Row

from meter_sync.core.billing.item import Period, PeriodKey, SubscriptionItem
from meter_sync.core.billing.quantity import Rounding
from meter_sync.core.billing.way import Way
from meter_sync.core.metering.mapping import EarlierSubjects, Filter, Grouping, Method
from meter_sync.core.metering.meter import Aggregation, Meter
from meter_sync.core.planning.memory import Remembered, RememberedAdditions, RememberedWindows
from meter_sync.core.planning.sends import WindowQuantity
from meter_sync.core.planning.stages import Write
from meter_sync.errors import LedgerError
from meter_sync.ledger.column_types import UNREADABLE


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run, as the ledger keeps it."""

    id: str
    started_at: datetime
    as_of: datetime
    schedule: str
    everything: bool
    """Whether it was about the whole account, not about what a selector named."""
    is_alone: bool = True
    """Whether it holds the run lock, unlike one that works beside such a run."""
    keeps_schedule: bool = True
    """Whether who schedules runs learns by its end that nothing is billed any more."""


@dataclass(frozen=True, slots=True)
class WindowTaken:
    """Stripe has taken an hour or a day of a write."""

    written: Write
    part: WindowQuantity
    at: datetime
    request_id: str | None


Kind = TypeVar("Kind")

NO_NAMES: Mapping[str, str] = {}

_METHODS = 1000
"""So many ways of metering are kept as they were read, each once."""
_NO_WINDOWS, _NO_ADDITIONS = RememberedWindows(), RememberedAdditions()


class RowUnread(LedgerError):
    """A row of the ledger was written by another version, or damaged: the matter of its item alone."""

    def __init__(self, item: str, why: str) -> None:
        super().__init__(
            f"what the ledger has of {item} cannot be read: {why}",
            "install the version again that wrote it, or bill this item by hand",
        )


@contextmanager
def reading(item: str) -> Iterator[None]:
    """Say of what goes wrong inside that a row about an item could not be read. Raise RowUnread."""
    try:
        yield
    except RowUnread:
        raise
    except LedgerError as error:
        raise RowUnread(item, error.message) from error
    except (ValueError, TypeError, ArithmeticError, OSError) as error:
        raise RowUnread(item, f"it has something else than this version of meter-sync stores ({error})") from error


def read_as(kind: type[Kind], row: Any, **others: Any) -> Kind:
    """Return a row as data of a kind whose fields are named as columns, but for these others."""
    fields: tuple[str, ...] = kind.__match_args__  # type: ignore[attr-defined]
    values = {name: getattr(row, name) for name in fields if name not in others}
    for name, value in values.items():
        if value is UNREADABLE:
            raise ValueError(f"{name} is not readable")
    return kind(**values, **others)


@dataclass(frozen=True, slots=True)
class CompleteRun:
    """A run over the whole account that did its work."""

    id: str
    started_at: datetime


def key(item: SubscriptionItem) -> dict[str, Any]:
    """Return what says in a row which item's period it is about."""
    return {"item": item.id, "period_start": item.period.start}


def keys(places: Iterable[PeriodKey]) -> list[dict[str, Any]]:
    """Return that for items' periods of which only the key is known."""
    return [{"item": item, "period_start": period_start} for item, period_start in places]


def remembered(row: Row[Any], names: Mapping[str, str] = NO_NAMES) -> Remembered:
    """Return what a row remembers of an item, but for its hours or days and its additions, which have their own.

    `names` are in memory already, each by itself. Raise RowUnread.
    """
    with reading(row.item):
        return _remembered(row, names)


def _remembered(row: Row[Any], names: Mapping[str, str]) -> Remembered:
    return read_as(
        Remembered,
        row,
        method=_method(row.way, row.meter, row.filter, row.scale, row.rounding, row.stripe_meter),
        price=intern(row.price),
        run=row.run and intern(row.run),
        earlier_subjects=_earlier_subjects(row.earlier_subjects),
        made_of=_meter(row.meter_id, row.meter, row.aggregation, row.events_from) if row.meter_id else None,
        subjects=subjects_of(row, names),
        grouping=_grouping(row.grouping),
        foreign=row.foreign_quantity,
        lacking=row.closed,
        # Of nearly all they are one number, which then is in memory once.
        acknowledged=row.quantity if row.acknowledged == row.quantity else row.acknowledged,
        windows=_NO_WINDOWS,
        additions=_NO_ADDITIONS,
    )


@lru_cache(_METHODS)
def _method(way: str, meter: str, filter: str, scale: Any, rounding: str, stripe_meter: str | None) -> Method:
    """Return what columns say of how usage is metered: of most items of an account they say the same."""
    if scale is UNREADABLE:
        raise ValueError("scale is not readable")
    return Method(Way(way), meter, _filter(filter), scale, Rounding(rounding), stripe_meter)


@lru_cache(_METHODS)
def _meter(id: str, slug: str, aggregation: str, events_from: datetime | None) -> Meter:
    return Meter(id, slug, Aggregation(aggregation), events_from)


def filter_of(row: Row[Any]) -> Filter:
    """Return the filter that a row keeps as JSON."""
    return _filter(row.filter)


def _filter(stored: str) -> Filter:
    return tuple((name, tuple(values)) for name, values in json.loads(stored))


def subjects_of(row: Row[Any], names: Mapping[str, str] = NO_NAMES) -> tuple[str, ...]:
    """Return the subjects that a row keeps as JSON; `names` are in memory already, each by itself."""
    return tuple([names.get(one, one) for one in json.loads(row.subjects)])


def stored_subjects(earlier: Iterable[EarlierSubjects]) -> str | None:
    """Return earlier subjects as JSON, with Unix seconds, or None for none."""
    return (
        json.dumps([[int(one.until.timestamp()), one.subjects, one.grouping] for one in earlier]) if earlier else None
    )


def _earlier_subjects(stored: str | None) -> tuple[EarlierSubjects, ...]:
    found = json.loads(stored) if stored else []
    return tuple(
        EarlierSubjects(datetime.fromtimestamp(until, UTC), tuple(subjects), *map(_grouping, grouping))
        for until, subjects, *grouping in found
    )


def _grouping(stored: str | None) -> Grouping | None:
    """Return what subjects are in OpenMeter, or None where a version wrote them that did not say."""
    return None if stored is None else Grouping(stored)


def period(row: Row[Any]) -> Period:
    """Return the billing period of a row."""
    return Period(row.period_start, row.period_end)
