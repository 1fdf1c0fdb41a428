"""The identifiers of meter events, which Stripe takes only once within 24 hours."""

from datetime import datetime

from meter_sync.core.billing.item import SubscriptionItem

_LONGEST_ITEM = 40
"""Stripe takes 100 characters in all (API reference, meter events)."""


def of_set(run: str, item: str, part: datetime) -> str:
    """Return the identifier of an event that sets: its own in each run, so that a later value is never a repeat."""
    return f"{run}-{item[-_LONGEST_ITEM:]}-{int(part.timestamp())}"


def of_addition(item: SubscriptionItem, base: int, to_same_base: int) -> str:
    """Return the identifier of an event that adds to `base`.

    It depends on nothing but what Stripe holds before it. So a run that has lost its ledger, and reads from a summary
    that lags what Stripe held before the last addition, comes to the identifier of that very addition, and Stripe
    refuses it: nothing is added twice. `to_same_base` counts the additions that the ledger knows to have begun
    there.
    """
    return f"{item.id[-_LONGEST_ITEM:]}-{int(item.period.start.timestamp())}-{base}-{to_same_base}"
