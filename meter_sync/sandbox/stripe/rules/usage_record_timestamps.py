"""Timestamps of usage records: the bounds within which one is taken, and the grace after a period's end.

Sources: Stripe's API reference of 2025-01-27.acacia (usage records), its legacy guide to metered billing, and the
error message quoted in authgear-server#2430.
"""

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.rules import invoices
from meter_sync.sandbox.stripe.state.objects import ClosedPeriod, Item
from meter_sync.sandbox.stripe.state.stripe_state import StripeState

TOO_OLD = (
    "Cannot create the usage record with this timestamp because timestamps must be after the"
    " subscription's last invoice period (or current period start time)."
)
IN_THE_FUTURE = "Cannot create the usage record with this timestamp because timestamps must not be in the future."
"""Stripe's own words were not found; the rule is Stripe's."""


def check_bounds(
    state: StripeState, item: Item, timestamp: int, *, now: float, grace_seconds: float
) -> ClosedPeriod | None:
    """Return the closed period that a record falls into, None for the open one, or raise Refusal.

    A record lies strictly inside the current period and not in the future; in the grace, strictly inside the last one.
    """
    if timestamp > now:
        raise Refusal(IN_THE_FUTURE, param="timestamp")
    if item.period.strictly_contains(timestamp):
        return None
    last = _period_in_grace(state, item, now, grace_seconds)
    if last is None or not last.period.strictly_contains(timestamp):
        raise Refusal(TOO_OLD, param="timestamp")
    return last


def _period_in_grace(state: StripeState, item: Item, now: float, grace_seconds: float) -> ClosedPeriod | None:
    """Return the last closed period while it still takes records: for a few minutes, and on `sum` prices only.

    Stripe's legacy guide: "we don't guarantee it". Nothing changes an invoice that is final.
    """
    last = item.closed[-1] if item.closed else None
    if last is None or state.price_of(item).aggregate_usage != "sum" or now > last.period.end + grace_seconds:
        return None
    return last if invoices.is_draft(state, last) else None
