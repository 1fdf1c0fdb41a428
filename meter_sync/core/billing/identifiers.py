"""The identifiers of meter events, which Stripe takes only once within 24 hours."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

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
    return f"{of_any_addition(item.id, item.period.start, base)}{to_same_base}"


def of_any_addition(item: str, period_start: datetime, base: int) -> str:
    """Return what the identifiers of all events begin with that add to `base` in an item's period."""
    return f"{item[-_LONGEST_ITEM:]}-{int(period_start.timestamp())}-{base}-"


@dataclass(frozen=True, slots=True)
class Named:
    """What an identifier names, by its form: whether there is anything like it, it does not say."""

    item: str
    part: datetime | None = None
    """Of an event that sets: the start of what it sets."""
    period_start: datetime | None = None
    """Of one that adds: the start of the item's period."""


_RUN = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OF_SET = re.compile(rf"{_RUN}-(?P<item>.+)-(?P<at>\d{{1,11}})")
_OF_ADDITION = re.compile(r"(?P<item>.+)-(?P<at>\d{1,11})--?\d+-\d+")


def named(identifier: str) -> Named | None:
    """Return what an identifier names, or None for one of another form: other programs send events as well."""
    if of_set := _OF_SET.fullmatch(identifier):
        return Named(of_set["item"], part=_instant(of_set["at"]))
    if of_addition := _OF_ADDITION.fullmatch(identifier):
        return Named(of_addition["item"], period_start=_instant(of_addition["at"]))
    return None


def _instant(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
