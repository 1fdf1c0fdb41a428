"""The book of usage that is kept between runs: what was read, never what was billed. Without it a run asks for all."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from sqlalchemy import Row, Table

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.metering.mapping import Grouping
from meter_sync.core.metering.meter import Aggregation
from meter_sync.core.metering.sharing import Kept, KeptUsage, NeedKey, Series, Total
from meter_sync.core.planning.stages import Metered
from meter_sync.ledger.column_types import number
from meter_sync.ledger.database import Book
from meter_sync.ledger.schema import kept_series, kept_totals, kept_usages

_KEY_DIGITS = 16
_NOT_READ = (ValueError, TypeError, ArithmeticError, OSError)


class KeptUsages(Book):
    """What is kept of each series."""

    def read(self, items: Iterable[Metered] = ()) -> dict[Series, Kept]:
        """Return what is kept. What cannot be read is not there: it is asked for anew.

        Nearly all of it is about `items`: what is theirs is in memory already, and is not held twice.
        """
        with self.database.at_one_moment():
            series = self.database.rows(self.database.of(kept_series))
            if not series:
                return {}
            once = _Once(items)
            totals, usages = self._totals(once), self._usages(once)
        found = {}
        for row in series:
            try:
                joints = _joints(row.joints)
                found[_series(row)] = Kept(row.read_at, row.as_of, joints, totals[row.series], usages[row.series])
            except _NOT_READ:
                continue
        return found

    def _totals(self, once: "_Once") -> Mapping[str, dict[str, tuple[Total, ...]]]:
        found = defaultdict[str, dict[str, tuple[Total, ...]]](dict)
        for row in self.database.each(self.database.of(kept_totals, "series", "subject", "totals")):
            try:
                found[row.series][once.name(row.subject)] = tuple(
                    None if one is None else _finite(number(one)) for one in json.loads(row.totals)
                )
            except _NOT_READ:
                continue
        return found

    def _usages(self, once: "_Once") -> Mapping[str, dict[NeedKey, KeptUsage]]:
        found = defaultdict[str, dict[NeedKey, KeptUsage]](dict)
        for row in self.database.each(self.database.of(kept_usages)):
            try:
                window = WindowSize(row.window) if row.window else None
                usage = None if row.usage is None else _finite(row.usage)
                kept = KeptUsage(once.subjects(json.loads(row.subjects)), once.instant(row.end), usage, window)
            except _NOT_READ:
                continue
            found[row.series][once.name(row.need), once.instant(row.start)] = kept
        return found

    def record(self, before: Mapping[Series, Kept], after: Mapping[Series, Kept]) -> None:
        """Record what is kept after a run, given what it had read before. What is as it was is not written again.

        Nothing stays of a series that is not among them. Raise LedgerError, ConfigurationError or TryAgainError.
        """
        gone = [{"series": _key(series)} for series in before.keys() - after.keys()]
        changed = {series: kept for series, kept in after.items() if before.get(series) != kept}
        if not gone and not changed:
            return
        with self.database.transaction():
            for table in (kept_series, kept_totals, kept_usages):
                self.database.delete(table, gone)
            for series, kept in changed.items():
                self._write(series, before.get(series), kept)

    def forget(self) -> None:
        """Keep nothing any more."""
        with self.database.transaction():
            for table in (kept_series, kept_totals, kept_usages):
                self.database.delete_where(table)

    def _write(self, series: Series, before: Kept | None, kept: Kept) -> None:
        key = {"series": _key(series)}
        joints = json.dumps([int(joint.timestamp()) for joint in kept.joints])
        row = {**key, **_columns(series), "read_at": kept.read_at, "as_of": kept.as_of, "joints": joints}
        if before is None:  # nothing may stay of what could not be read
            for table in (kept_totals, kept_usages):
                self.database.delete(table, [key])
        self.database.put(kept_series, [row], ("read_at", "as_of", "joints"))
        totals_then, usages_then = (before.totals, before.usages) if before else ({}, {})
        self._write_changed(
            kept_totals,
            {
                (subject,): {"totals": _in_json(of)}
                for subject, of in kept.totals.items()
                if totals_then.get(subject) != of
            },
            [(subject,) for subject in totals_then.keys() - kept.totals.keys()],
            key,
            ("subject",),
        )
        self._write_changed(
            kept_usages,
            {at: _usage_columns(one) for at, one in kept.usages.items() if usages_then.get(at) != one},
            list(usages_then.keys() - kept.usages.keys()),
            key,
            ("need", "start"),
        )

    def _write_changed(
        self,
        table: Table,
        changed: Mapping[tuple[Any, ...], Mapping[str, Any]],
        gone: list[tuple[Any, ...]],
        of: Mapping[str, str],
        by: tuple[str, ...],
    ) -> None:
        rows = [{**of, **dict(zip(by, at, strict=True)), **columns} for at, columns in changed.items()]
        if rows:
            self.database.put(table, rows, tuple(next(iter(changed.values()))))
        self.database.delete(table, [{**of, **dict(zip(by, at, strict=True))} for at in gone])


class _Once:
    """Holds of equal names, instants and tuples of subjects the first one, so that each is in memory once."""

    def __init__(self, items: Iterable[Metered]) -> None:
        self._instants = dict[datetime, datetime]()
        self._names = dict[str, str]()
        self._subjects = dict[tuple[str, ...], tuple[str, ...]]()
        for one in items:
            self.instant(one.span.start)
            self.name(one.item.id)
            self.subjects(one.subjects)

    def instant(self, instant: datetime) -> datetime:
        return self._instants.setdefault(instant, instant)

    def name(self, name: str) -> str:
        return self._names.setdefault(name, name)

    def subjects(self, subjects: Iterable[str]) -> tuple[str, ...]:
        named = tuple([self.name(one) for one in subjects])
        return self._subjects.setdefault(named, named)


def _joints(text: str) -> tuple[datetime, ...]:
    """Return the instants that are stored. Raise ValueError for what no run has kept."""
    joints = tuple(datetime.fromtimestamp(at, UTC) for at in json.loads(text))
    if not joints or any(one >= other for one, other in pairwise(joints)):
        raise ValueError("there is none, or they are in no order")
    return joints


def _finite(usage: Decimal) -> Decimal:
    """Return a usage. Raise TypeError for what could not be read, and ValueError for what is no number."""
    if not isinstance(usage, Decimal):
        raise TypeError("it was not read")
    if not usage.is_finite():
        raise ValueError(f"{usage} is no usage")
    return usage


def _columns(series: Series) -> dict[str, str]:
    return {
        "meter_id": series.meter_id,
        "meter": series.meter,
        "filter": json.dumps(series.filter),
        "grouping": series.grouping.value,
        "aggregation": series.aggregation.value,
    }


def _key(series: Series) -> str:
    """Return what names a series in keys: all that it is, in a fixed length."""
    return hashlib.sha256(json.dumps(_columns(series)).encode()).hexdigest()[:_KEY_DIGITS]


def _series(row: Row[Any]) -> Series:
    filter = tuple((dimension, tuple(values)) for dimension, values in json.loads(row.filter))
    return Series(row.meter_id, row.meter, filter, Grouping(row.grouping), Aggregation(row.aggregation))


def _in_json(totals: tuple[Total, ...]) -> str:
    return json.dumps([None if one is None else format(one, "f") for one in totals])


def _usage_columns(one: KeptUsage) -> dict[str, Any]:
    window = one.window.value if one.window else None
    return {"subjects": json.dumps(one.subjects), "end": one.end, "window": window, "usage": one.usage}
