"""Changes in mid-period: where an item's price changes to or from a billing meter, a period of its own begins."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from meter_sync.core.billing.item import Period, SubscriptionItem


def stretches(
    listed: SubscriptionItem, before: SubscriptionItem | None, changes: Sequence[datetime], as_of: datetime
) -> list[SubscriptionItem]:
    """Given an item as Stripe lists it, and as it was known before, return it in the periods it was in since.

    The last of them is the one that it is in. `changes` are the instants at which its price changed, as far as Stripe
    tells; a change that was not told of happened by `as_of`. Of several changes in one period only the last one counts:
    by the prices between, nothing was ever reported.

    - With a price on a billing meter only what is stamped from the change on is billed; what was before is an invoice
      item, or nobody's (Stripe documentation, billing modes). So it is for prices that move to or from a meter.
    - Usage records are billed with the period, by the price at its end: between prices without a meter nothing begins.
    """
    found: list[SubscriptionItem] = []
    if before is not None and before.is_followed and before.period.end <= listed.period.start:
        in_its_period = replace(listed, period=before.period, cycle_start=before.cycle_start)
        found += _since_last_change(in_its_period, before, before, changes)
    known = before if before is not None and _is_within(before, listed.period) else None
    changed = _since_last_change(listed, known, before, changes)
    if changed and known is None and listed.created < changed[0].period.start:
        # Nobody saw it in this period before it changed.
        then = before or listed
        found.append(replace(then, period=Period(listed.period.start, changed[0].period.start), **_CUT))
    return [*found, *(changed or [_as_known(listed, known, None if changes else as_of)])]


_CUT: dict[str, Any] = {"is_cut": True, "is_followed": False, "cycle_start": None}


def _since_last_change(
    listed: SubscriptionItem,
    known: SubscriptionItem | None,
    before: SubscriptionItem | None,
    changes: Sequence[datetime],
) -> list[SubscriptionItem]:
    """Return the item since the last change that is told of and was not known before, or nothing.

    `known` is what was known of it in this period of Stripe's, `before` what was known of it at all.
    """
    period = known.period if known else listed.period
    inside = [at for at in changes if period.start < at < listed.period.end]
    return [_begun(listed, max(inside), known)] if inside and _is_by_meter(listed, before) else []


def _as_known(
    listed: SubscriptionItem, before: SubscriptionItem | None, untold_by: datetime | None
) -> SubscriptionItem:
    """Return the item in the period in which it is known; in a new one, where its price has changed untold."""
    if before is None:
        return listed
    has_changed = before.price.id != listed.price.id and _is_by_meter(listed, before)
    if has_changed and untold_by and before.period.start < untold_by < listed.period.end:
        return _begun(listed, untold_by, before)
    return _begun(listed, before.period.start, before)


def _begun(listed: SubscriptionItem, at: datetime, before: SubscriptionItem | None) -> SubscriptionItem:
    """Return an item in what is left of its period from an instant on."""
    if at == listed.period.start:
        return listed
    cycle_start = (before.cycle_start if before else None) or listed.period.start
    return replace(listed, period=Period(at, listed.period.end), cycle_start=cycle_start)


def _is_by_meter(listed: SubscriptionItem, before: SubscriptionItem | None) -> bool:
    return bool(listed.price.stripe_meter or (before and before.price.stripe_meter))


def _is_within(before: SubscriptionItem, period: Period) -> bool:
    """Say whether an item was known before in this very period of Stripe's."""
    return (before.cycle_start or before.period.start) == period.start
