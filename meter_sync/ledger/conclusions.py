"""What a run has found out about the end of a period, and the columns of the ledger that have it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from meter_sync.core.billing.item import Period
from meter_sync.core.metering.mapping import LateUsage
from meter_sync.core.planning import conclusion
from meter_sync.core.planning.conclusion import Concluded, NotKnown


@dataclass(frozen=True, slots=True)
class News:
    """What is said of a period that has ended: what Stripe bills of it, why, and what becomes of what it lacks."""

    concluded: Concluded
    why: str | None = None
    late_usage: LateUsage = LateUsage.NAME


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a run has found out about the end of a period."""

    item: str
    period_start: datetime
    complete_until: datetime | None = None
    is_refused: bool | None = None
    """Whether Stripe takes no more usage of it; False also where that was thought before."""
    is_invoiced: bool | None = None
    is_read_back: bool = False
    news: News | None = None
    """What Stripe bills of it, where that is something else than what was said before."""
    closed_as: Concluded | None = None
    """What Stripe bills of it in the end: with this it is closed, and watched no more."""
    own: tuple[Period, ...] | None = None
    usage: Decimal | None = None
    """What was used of it, as this run has read it…"""
    due: int | None = None
    """… and the quantity that is to be billed for that."""
    invoice: str | None = None
    """The invoice that bills it, as far as that was seen."""


def columns(one: Conclusion, at: datetime) -> dict[str, Any]:
    """Return the columns of an item's period that a conclusion changes, at an instant."""
    found = {
        "complete_until": one.complete_until,
        "is_refused": one.is_refused,
        "is_invoiced": one.is_invoiced,
        "read_back_at": at if one.is_read_back else None,
        "closed_at": at if one.closed_as else None,
        "own": one.own,
        "usage": one.usage,
        "due": one.due,
        "invoice": one.invoice,
    }
    values: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
    return values | _said(one.news, at) if one.news else values


def _said(news: News, at: datetime) -> dict[str, Any]:
    concluded = news.concluded
    return {
        "remainder": conclusion.lacking(concluded),
        "not_known": concluded.why if isinstance(concluded, NotKnown) else None,
        "why": news.why,
        "named_at": at,
        "late_usage": news.late_usage.value,
    }


def concluded_of(row: Row[Any]) -> Concluded | None:
    """Given the row of an item's period, return what Stripe bills of it; None where that is not concluded yet."""
    if row.not_known is not None:
        return NotKnown(row.not_known, row.remainder)
    is_concluded = row.remainder or row.read_back_at or row.closed_at
    return conclusion.of(row.remainder) if is_concluded else None
