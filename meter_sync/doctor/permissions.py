"""The permissions that runs need of a restricted key, and a read that tries each."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from meter_sync.stripe_api.connection import CURRENT_VERSION, USAGE_RECORD_VERSION, StripeReader
from meter_sync.stripe_api.shapes import Identified, Page

_LIST = {"limit": 1}
_PRICES_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class Read:
    """A GET that a key may send if it has a permission."""

    path: str
    endpoint: str
    params: Mapping[str, Any] = field(default_factory=lambda: _LIST)
    version: str = CURRENT_VERSION


Find = Callable[[StripeReader, datetime], Awaitable[Read | str]]
"""Given now, returns what to read to try a permission, or why there is nothing to read."""


@dataclass(frozen=True, slots=True)
class Permission:
    """A row of the table of permissions in docs/security.md."""

    shown: str
    """Its name in Stripe's Dashboard."""
    in_messages: str
    """Its name in Stripe's messages, such as `rak_plan_read`: that of what runs need."""
    without: str
    """What happens without it."""
    is_needed: bool
    """Whether runs end without it; else they make do."""
    find: Find

    @property
    def access(self) -> Literal["read", "write"]:
        """What runs need; without writing only reading can be tried."""
        return "write" if self.in_messages.endswith("_write") else "read"


def _at(path: str, endpoint: str, params: Mapping[str, Any] | None = None) -> Find:
    async def find(_stripe: StripeReader, _now: datetime) -> Read:
        return Read(path, endpoint, _LIST if params is None else params)

    return find


async def _rows(stripe: StripeReader, read: Read) -> list[dict[str, Any]]:
    """Return the first rows of a list. Raise what StripeReader raises, or NotUnderstood."""
    answer = await stripe.get(read.path, read.endpoint, read.params, read.version)
    return Page[dict[str, Any]].read(answer, f"the list at {read.path}").data


async def _summaries_of_records(stripe: StripeReader, _now: datetime) -> Read | str:
    """Find an item on a legacy price: its summaries can be read with the permission only."""
    metered = {"recurring": {"usage_type": "metered"}, "limit": _PRICES_LOOKED_AT}
    for price in await _rows(stripe, Read("/v1/prices", "prices", metered, USAGE_RECORD_VERSION)):
        if _part(price, "recurring").get("meter"):
            continue
        of_price = {"price": Identified.read(price, "a price").id, "limit": 1}
        for subscription in await _rows(stripe, Read("/v1/subscriptions", "subscriptions", of_price)):
            for item in _part(subscription, "items").get("data") or ():
                if _part(item, "price").get("id") == price["id"]:
                    id = Identified.read(item, "a subscription item").id
                    path = f"/v1/subscription_items/{id}/usage_record_summaries"
                    return Read(path, "usage_record_summaries", _LIST, USAGE_RECORD_VERSION)
    return "no subscription has a legacy price"


async def _summaries_of_events(stripe: StripeReader, now: datetime) -> Read | str:
    """Find a billing meter and a customer: their summaries can be read with the permission only."""
    meters = await _rows(stripe, Read("/v1/billing/meters", "billing_meters"))
    subscriptions = await _rows(stripe, Read("/v1/subscriptions", "subscriptions"))
    if not meters or not subscriptions:
        return f"there is no {'subscription' if meters else 'billing meter'} yet"
    id = Identified.read(meters[0], "a billing meter").id
    minute = int(now.timestamp()) // 60 * 60  # summaries are by whole minutes (API reference)
    asked = {"customer": subscriptions[0].get("customer"), "start_time": minute - 60, "end_time": minute, "limit": 1}
    return Read(f"/v1/billing/meters/{id}/event_summaries", "meter_event_summaries", asked)


def _part(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = row.get(name)
    return part if isinstance(part, dict) else {}


_NO_RUN = "no run works"
_NO_METERS = "items on billing meters are not reported"

PERMISSIONS = (
    Permission("Subscriptions", "rak_subscription_read", _NO_RUN, True, _at("/v1/subscriptions", "subscriptions")),
    Permission("Prices", "rak_plan_read", _NO_RUN, True, _at("/v1/prices", "prices")),
    Permission(
        "Usage records",
        "rak_usage_record_write",
        "items on legacy prices are not reported",
        True,
        _summaries_of_records,
    ),
    Permission("Meters", "rak_billing_meter_read", _NO_METERS, True, _at("/v1/billing/meters", "billing_meters")),
    Permission("Meter events", "rak_billing_meter_event_write", _NO_METERS, True, _summaries_of_events),
    Permission(
        "Customers",
        "rak_customer_read",
        "their metadata, from which subjects come, is not known",
        True,
        _at("/v1/customers", "customers"),
    ),
    Permission(
        "Invoices",
        "rak_invoice_read",
        "what the invoices of ended periods bill is not known",
        False,
        _at("/v1/invoices", "invoices"),
    ),
    Permission(
        "Events",
        "rak_event_read",
        "what went away between two runs, was voided or was rejected is not known",
        False,
        _at("/v1/events", "events"),
    ),
    Permission(
        "Subscription schedules",
        "rak_subscription_schedule_read",
        "when a subscription's phase begins within a period is not known",
        False,
        _at("/v1/subscription_schedules", "subscription_schedules"),
    ),
    Permission(
        "Accounts (Connect)",
        "rak_accounts_kyc_basic_read",
        "another account's key is not noticed",
        False,
        _at("/v1/account", "account", {}),
    ),
    Permission(
        "Test clocks",
        "rak_billing_clock_read",
        "runs at the time of a test clock do not work",
        False,
        _at("/v1/test_helpers/test_clocks", "test_helpers/test_clocks"),
    ),
)
"""In the order of the table in docs/security.md."""
