"""What an event of Stripe's is about: from its JSON, and nothing else.

Sources: API reference, Events and Types of events; Stripe documentation, Using webhooks with subscriptions, Event
destinations (thin events) and Connect webhooks. Where a shape moved in API version 2025-03-31.basil both are read: an
endpoint has a version of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meter_sync.stripe_api.events import METER_ERRORS

Json = Mapping[str, Any]


class NotAnEvent(ValueError):
    """What was received has not even an event's id and type."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event, and what it asks for."""

    id: str
    type: str
    is_live: bool
    """Whether it is of the live mode."""
    why: str | None
    """Why it asks for a report; None where it does not."""
    subscription: str | None
    """What is to be reported; None in an event that asks for reading the meters' error events."""
    account: str | None = None
    """The id of the connected account that it happened in; None for the account's own events."""


def understand(received: object) -> Event:
    """Given the JSON of an event, return what it is about. Raise NotAnEvent.

    An event whose object has not the shape of its type asks for nothing.
    """
    if not isinstance(received, dict):
        raise NotAnEvent("it is not a JSON object")
    identifier, kind = _name(received.get("id")), _name(received.get("type"))
    if identifier is None or kind is None:
        raise NotAnEvent("it has no id or no type")
    is_live = received.get("livemode") is True
    if kind in METER_ERRORS:  # thin events: they name no subscription, and what was rejected is read elsewhere
        return Event(identifier, kind, is_live, "meter_error", None, _context(received))
    account = _name(received.get("account"))
    if kind in _READERS:
        data = _object(received.get("data"))
        why, subscription = _READERS[kind](_object(data.get("object")), _object(data.get("previous_attributes")))
        if why and subscription:
            return Event(identifier, kind, is_live, why, subscription, account)
    return Event(identifier, kind, is_live, None, None, account)


def _context(received: Json) -> str | None:
    """Return the account of a thin event: the last one of its context, which may be `acct_platform/acct_shop`."""
    context = _name(received.get("context"))
    return context and (context.rpartition("/")[2] or None)


def _updated(now: Json, before: Json) -> tuple[str | None, str | None]:
    """An update asks for a report if it ended what usage is counted for: a period, an item, a trial, a state.

    So does one that plans such a change: closing runs report what the ledger knows to be planned.
    """
    reasons = {
        "cycle_turned": cycle_turned(now, before),
        "items_changed": items_changed(now, before),
        "status_changed": "status" in before,
        "trial_changed": "trial_start" in before or "trial_end" in before,
        "change_planned": "schedule" in before or "pending_update" in before,
    }
    return next((why for why, is_so in reasons.items() if is_so), None), _name(now.get("id"))


def cycle_turned(now: Json, before: Json) -> bool:
    """Given a subscription and what an update changed, as it was, say whether a new period began.

    From basil on: `latest_invoice` changed, and for every listed item the old `current_period_end` is the new
    `current_period_start`. Before: the subscription's own `current_period_start` changed.
    """
    if "current_period_start" in before:
        return True
    if "latest_invoice" not in before or before["latest_invoice"] == now.get("latest_invoice"):
        return False
    items = {str(item.get("id")): item for item in _items(now)}
    listed = _items(before)
    return bool(listed) and all(
        old.get("current_period_end") is not None
        and old["current_period_end"] == items.get(str(old.get("id")), {}).get("current_period_start")
        for old in listed
    )


def items_changed(now: Json, before: Json) -> bool:
    """Say whether an item was removed, replaced, moved to another price, or given another period.

    The items of one subscription may have periods of different length, so that only some of them turn. Items that were
    added have no usage yet.
    """
    items = [_what_bills(item) for item in _items(now)]
    return any(_what_bills(old) not in items for old in _items(before))


def _what_bills(item: Json) -> tuple[Any, ...]:
    price = _object(item.get("price"))
    return item.get("id"), price.get("id"), item.get("current_period_start"), item.get("current_period_end")


def _invoice_created(now: Json, _before: Json) -> tuple[str | None, str | None]:
    """A draft takes late usage of meters until it is finalized, about an hour later; any other invoice takes none."""
    is_draft = now.get("status") == "draft" or now.get("billing_reason") == "subscription_cycle"
    return "invoice_drafted" if is_draft else None, _subscription_of(now)


def _subscription_of(invoice: Json) -> str | None:
    """Return an invoice's subscription: `parent` has it since basil, the invoice itself had it before."""
    details = _object(_object(invoice.get("parent")).get("subscription_details"))
    return _id_of(details.get("subscription")) or _id_of(invoice.get("subscription"))


_READERS: Mapping[str, Callable[[Json, Json], tuple[str | None, str | None]]] = {
    "customer.subscription.updated": _updated,
    "customer.subscription.deleted": lambda now, _before: ("subscription_deleted", _name(now.get("id"))),
    "invoice.created": _invoice_created,
    "invoice.upcoming": lambda now, _before: ("invoice_upcoming", _subscription_of(now)),
}

SNAPSHOTS = tuple(_READERS)
"""The types to select in Stripe for a destination whose events bring their objects…"""
THIN = METER_ERRORS
"""… and for one whose events are thin."""
RELEVANT = (*SNAPSHOTS, *THIN)
DEAUTHORIZED = "account.application.deauthorized"
"""That an account has ended its connection to the platform."""
OF_CONNECTED = (*SNAPSHOTS, DEAUTHORIZED)
"""The types that bring their objects, to select for events of connected accounts."""


def _items(subscription: Json) -> list[Json]:
    listed = _object(subscription.get("items")).get("data")
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _id_of(value: object) -> str | None:
    """Return an id that is given as such, or as the whole object."""
    return _name(value.get("id") if isinstance(value, dict) else value)


def _name(value: object) -> str | None:
    """Return an id or a type, or None if it can be none: it goes into the ledger, logs and addresses."""
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        return None
    return value if value.isascii() and value.isprintable() and " " not in value else None
