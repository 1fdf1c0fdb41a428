"""The digest of a statement's figures: who signs it has signed these."""

import hashlib
from collections.abc import Iterator

from meter_sync.core.billing.item import Period
from meter_sync.core.telling.statement.assembly import Figures
from meter_sync.core.telling.statement.figures import Bridge, ItemFigures
from meter_sync.core.text import digits, utc


def digest_of(figures: Figures, time: Period) -> str:
    """Return the SHA-256 of all that the figures of a time say of quantities, as 64 hexadecimal digits.

    It is of every item's period with the terms of its bridge; not of what becomes older by itself, nor of words, nor of
    days, of which the ledger keeps less after some time. A later version computes it in the same way.
    """
    return hashlib.sha256("\n".join(_lines(figures, time)).encode()).hexdigest()


def _lines(figures: Figures, time: Period) -> Iterator[str]:
    yield f"statement 1 {utc(time.start)} {utc(time.end)}"
    items = (item for customer in figures.customers for item in customer.items)
    for item in sorted(items, key=lambda one: (one.item, one.period.start)):
        yield _line(item)


def _line(one: ItemFigures) -> str:
    return f"item {one.item} {utc(one.period.start)} {utc(one.period.end)} {one.meter or '-'} {_numbers(one.bridge)}"


def _numbers(terms: Bridge) -> str:
    return " ".join(digits(getattr(terms, name)) for name in terms.__match_args__)
