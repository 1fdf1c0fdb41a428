"""How Stripe shows usage records and their summaries (API reference of 2025-01-27.acacia)."""

from typing import Literal

from meter_sync.sandbox.stripe.rules.usage_record_totals import total_usage
from meter_sync.sandbox.stripe.state.objects import Item, Period
from meter_sync.sandbox.stripe.views.view import Json, View


def show_usage_record(view: View, item: Item, timestamp: int, quantity: int, number: int) -> Json:
    """Show a usage record as it was sent."""
    return {
        "id": f"mbur_{view.state.account.mark}{number:08d}",
        "object": "usage_record",
        "livemode": view.livemode,
        "quantity": quantity,
        "subscription_item": item.id,
        "timestamp": timestamp,
    }


Unbounded = Literal["none", "open", "all"]
"""Which summaries are shown without the bounds of their period."""


def show_summaries(view: View, item: Item, unbounded: Unbounded = "none") -> list[Json]:
    """Show the usage of each period of an item: newest first, the first being the open one.

    After a cancellation no period is open any more.
    """
    rows = [(closed.period, closed.invoice, closed.price) for closed in item.closed]
    if not rows or rows[-1][0].start < item.period.start:
        rows.append((item.period, None, item.price))
    return [
        {
            "id": f"sis_1{item.id.removeprefix('si_1')}x{number:04d}",
            "object": "usage_record_summary",
            "invoice": invoice,
            "livemode": view.livemode,
            "period": _bounds(period, unbounded == "all" or (unbounded == "open" and invoice is None)),
            "subscription_item": item.id,
            "total_usage": total_usage(item, view.state.prices[price].aggregate_usage, period),
        }
        for number, (period, invoice, price) in reversed(list(enumerate(rows)))
    ]


def _bounds(period: Period, is_unbounded: bool) -> Json:
    return {"end": None, "start": None} if is_unbounded else {"end": period.end, "start": period.start}
