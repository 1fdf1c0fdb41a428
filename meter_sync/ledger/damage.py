"""Rows that have what no version of this program stores: whose matter each is."""

from collections.abc import Iterable, Iterator, MutableMapping
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy import ColumnElement, Row, Select, Table
from sqlalchemy.sql import visitors

from meter_sync.errors import LedgerError
from meter_sync.ledger.column_types import DAMAGED, UtcSeconds, Whole

log = structlog.get_logger()

_READ_ANEW = frozenset({"callers", "claims", "kept_series", "kept_totals", "kept_usages", "prices", "webhook_events"})
"""Tables of what is asked for again where it is not there, or is of the moment."""
_LAST_INSTANT, _LARGEST = 253_402_300_799, 2**63 - 1
"""The end of the year 9999, and what a column holds at the most."""
_PLACE = frozenset({"item", "period_start", "period_end", "subscription", "customer"})
"""What must be known of a listed period, so that it can be named."""


def sorted_out(
    query: Select[Any], found: Iterable[Row[Any]], ledger: str, damaged: MutableMapping[str, str]
) -> Iterator[Row[Any]]:
    """Yield the rows that can be read of what a query has found in the ledger of that name.

    One about an item is the item's matter: that is kept in `damaged`, by item, and nothing is written for it. One of
    what can be asked for anew is left out.
    Raise LedgerError for any other one.
    """
    tables = {one.name for one in visitors.iterate(query) if isinstance(one, Table)}
    for row in found:
        columns = [name for name, value in zip(row._fields, row, strict=True) if value is DAMAGED]
        if not columns:
            yield row
        elif not tables <= _READ_ANEW:
            of, what = " and ".join(sorted(tables)), ", ".join(columns)
            why = f"a row of {of} has something else in {what} than is stored there"
            item = getattr(row, "item", DAMAGED)
            if not isinstance(item, str):
                raise unreadable(ledger, why)
            note(damaged, item, why)
            if "seen_periods" in tables and "snapshot" in row._fields and not _PLACE & {*columns}:
                yield _mended(row, why)


def is_damaged(table: Table) -> ColumnElement[bool]:
    """Return the condition that a row has something else than is stored in a column of numbers, or in the item's.

    SQLite orders whatever is no number after all numbers, and what is no text after all texts (SQLite: Datatypes).
    No query by these columns finds such a row where it should.
    """
    found: list[ColumnElement[bool]] = [sa.type_coerce(table.c.item, sa.LargeBinary) >= b""]
    for column in table.columns:
        number = sa.type_coerce(column, sa.BigInteger)
        if isinstance(column.type, UtcSeconds):
            found += [number > _LAST_INSTANT, number < 0]
        elif isinstance(column.type, Whole):
            found.append(number > _LARGEST)
    return sa.or_(*found)


def note(damaged: MutableMapping[str, str], item: str, why: str) -> None:
    """Keep that a row about an item is damaged."""
    if item not in damaged:
        log.warning("row_damaged", item=item, message=why)
    damaged[item] = (
        f"what the ledger has of {item} cannot be read: {why}; install the version again that wrote it, put a backup "
        "back, or bill this item by hand"
    )


def unreadable(ledger: str, why: str) -> LedgerError:
    """Return the error of a row that is about the books themselves, or about nobody knows what."""
    return LedgerError(
        f"the ledger {ledger} is damaged: {why}; nothing was written",
        "put a backup back, or keep a copy and move the file away: the next run then reads back from Stripe what it "
        "needs, so nothing is billed twice or lost",
        code="ledger_damaged",
    )


def _mended(row: Row[Any], why: str) -> Any:
    """Return a listed period without what is damaged, and without what was known of it: it is named as unreadable."""
    values = {name: None if value is DAMAGED else value for name, value in zip(row._fields, row, strict=True)}
    return SimpleNamespace(**{**values, "snapshot": why})
