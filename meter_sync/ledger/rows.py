"""What stands in the ledger's rows, as the core and the steps know it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Row

from meter_sync.core.billing import identifiers
from meter_sync.core.billing.event_times import summary_span, summary_windows
from meter_sync.core.billing.item import Period, PeriodKey, SubscriptionItem, WindowSize
from meter_sync.core.billing.quantity import Rounding
from meter_sync.core.billing.way import Way, window_of
from meter_sync.core.metering.mapping import Filter, Method
from meter_sync.core.ownership import BilledUsage
from meter_sync.core.planning.memory import Remembered
from meter_sync.core.planning.stages import Acknowledged, SetWindows, WindowQuantity, Write


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


@dataclass(frozen=True, slots=True)
class WindowTaken:
    """Stripe has taken an hour or a day of a write."""

    written: Write
    part: WindowQuantity
    at: datetime
    request_id: str | None


Kind = TypeVar("Kind")


def read_as(kind: type[Kind], row: Row[Any], **others: Any) -> Kind:
    """Return a row as data of a kind whose fields are named as columns, but for these others."""
    named = [field.name for field in fields(kind) if field.name not in others]  # type: ignore[arg-type]
    return kind(**{name: getattr(row, name) for name in named}, **others)


def key(item: SubscriptionItem) -> dict[str, Any]:
    """Return what says in a row which item's period it is about."""
    return {"item": item.id, "period_start": item.period.start}


def keys(places: Iterable[PeriodKey]) -> list[dict[str, Any]]:
    """Return that for items' periods of which only the key is known."""
    return [{"item": item, "period_start": period_start} for item, period_start in places]


def state(write: Write, run: RunRecord, at: datetime) -> dict[str, Any]:
    """Return the row of an item and period that is about to be written."""
    found, item, method = write.found, write.item, write.method
    is_whole = isinstance(write.sends, SetWindows) and write.sends.is_whole
    return {
        **key(item),
        "period_end": item.period.end,
        "subscription": item.subscription.id,
        "customer": item.subscription.customer.id,
        "price": item.price.id,
        "run": run.id,
        "target": method.target.value,
        "meter": method.meter,
        "filter": json.dumps(method.filter),
        "scale": method.scale,
        "rounding": method.rounding.value,
        "subjects": json.dumps(found.subjects),
        "shared": found.row.shared,
        "usage_start": found.span.start if found.span else item.period.start,
        "anchor": write.anchor,
        "quantity": write.quantity,
        "as_of": run.as_of,
        "acknowledged": found.standing if method.way is Way.ADDITIONS else None,
        "acknowledged_at": None,
        "foreign_quantity": write.foreign,
        "foreign_held": False,
        "total_before": write.total_before,
        "seen_at": at,
        "way": method.way.value,
        "stripe_meter": method.stripe_meter,
        "window": window_of(method.way, item.price).value if method.way is Way.WINDOWS else None,
        "identifier": _identifier(write, run),
        "read_whole_at": run.as_of if is_whole else None,
        "closed": write.named_before,
        "rejected": None,
        "opening": found.standing or 0 if method.way is Way.ADDITIONS else 0,
    }


def _identifier(write: Write, run: RunRecord) -> str | None:
    """Return the identifier of an event that sets a whole period's total; other events have their own rows."""
    is_one_event = write.method.way is Way.LAST and write.how_many
    return identifiers.of_set(run.id, write.item.id, write.anchor) if is_one_event else None


def history(write: Write, run: RunRecord, at: datetime, number: int) -> dict[str, Any]:
    """Return the row of a write that is about to be sent."""
    return {
        **key(write.item),
        "run": run.id,
        "step": number,
        "anchor": write.anchor,
        "usage": write.found.usage,
        "quantity": write.quantity,
        "at_anchor": write.at_anchor,
        "previous": write.found.standing,
        "intended_at": at,
    }


def acknowledged_state(done: Acknowledged) -> dict[str, Any]:
    """Return what becomes of the row of an item and period once Stripe has taken a write."""
    write = done.intended.write
    return {
        **key(write.item),
        "acknowledged": write.quantity,
        "acknowledged_at": done.at,
        "foreign_held": done.is_foreign_held,
        "total_before": None,
        "closed": write.lacking,
    }


def acknowledged_write(done: Acknowledged, run: RunRecord) -> dict[str, Any]:
    """Return what becomes of the row of a write once Stripe has taken it."""
    return {
        **key(done.intended.write.item),
        "run": run.id,
        "step": done.intended.number,
        "acknowledged_at": done.at,
        "request_id": done.request_id,
    }


def remembered(row: Row[Any]) -> Remembered:
    """Return what a row remembers of an item."""
    return Remembered(
        method=Method(
            way=Way(row.way),
            meter=row.meter,
            filter=_filter(row.filter),
            scale=row.scale,
            rounding=Rounding(row.rounding),
            stripe_meter=row.stripe_meter,
        ),
        price=row.price,
        subjects=tuple(json.loads(row.subjects)),
        anchor=row.anchor,
        quantity=row.quantity,
        as_of=row.as_of,
        run=row.run,
        acknowledged=row.acknowledged,
        acknowledged_at=row.acknowledged_at,
        foreign=row.foreign_quantity,
        foreign_held=row.foreign_held,
        total_before=row.total_before,
        read_whole_at=row.read_whole_at,
        lacking=row.closed,
        rejected=row.rejected,
    )


def summarized(row: Row[Any]) -> Period:
    """Return the time for which Stripe's summary has what the events of a row's item add up to."""
    window = _window(row)
    return summary_windows(period(row), row.usage_start, window) if window else summary_span(period(row))


def period(row: Row[Any]) -> Period:
    """Return the billing period of a row."""
    return Period(row.period_start, row.period_end)


def _window(row: Row[Any]) -> WindowSize | None:
    return WindowSize(row.window) if row.window else None


def billed_usage(row: Row[Any]) -> BilledUsage:
    """Return the usage that the item of a row bills."""
    return BilledUsage(
        item=row.item,
        meter=row.meter,
        filter=_filter(row.filter),
        subjects=tuple(json.loads(row.subjects)),
        start=row.usage_start,
        end=row.period_end,
        customer=row.customer,
        stripe_meter=row.stripe_meter,
        shared=row.shared,
    )


def _filter(stored: str) -> Filter:
    return tuple((name, tuple(values)) for name, values in json.loads(stored))
