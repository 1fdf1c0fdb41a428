"""What keys of the embedded Stripe may do: restricted keys have none, read or write for each resource.

The resources are the rows of the page on which Stripe's Dashboard makes a restricted key; what an endpoint needs is
in Stripe's documentation, API permissions reference.
"""

from collections.abc import Iterable
from typing import Final

from meter_sync.sandbox.stripe.protocol.errors import Refusal

Permissions = frozenset[str] | None
"""Names like `usage_records:write`; None for a secret key, which may do everything."""

_IN_MESSAGES: Final = {
    "accounts": "accounts_kyc_basic",
    "billing_meters": "billing_meter",
    "connected_accounts": "connected_account",
    "customers": "customer",
    "events": "event",
    "invoices": "invoice",
    "meter_events": "billing_meter_event",
    "prices": "plan",
    "products": "product",
    "subscription_schedules": "subscription_schedule",
    "subscriptions": "subscription",
    "test_clocks": "billing_clock",
    "usage_records": "usage_record",
    "webhook_endpoints": "webhook",
}
"""Resources as this sandbox names them, and as Stripe names them in `rak_..._read`."""

_READ_ONLY: Final = frozenset({"accounts", "connected_accounts", "events"})

EVERY_PERMISSION: Final = frozenset(f"{resource}:read" for resource in _IN_MESSAGES) | frozenset(
    f"{resource}:write" for resource in _IN_MESSAGES if resource not in _READ_ONLY
)
"""All that a restricted key can have here."""


def known(permissions: Iterable[str]) -> frozenset[str]:
    """Return permissions as a key has them. Raise ValueError for one that Stripe does not have."""
    given = frozenset(permissions)
    if unknown := given - EVERY_PERMISSION:
        raise ValueError(f"there is no permission {', '.join(sorted(unknown))}")
    return given


def check_permission(needed: str, given: Permissions, *, key_shown: str, account: str) -> None:
    """Given a permission that a request needs, raise Refusal unless the key has it; `write` includes `read`."""
    resource, _, access = needed.partition(":")
    if given is None or {needed, f"{resource}:write"} & given:
        return
    raise _lacks(f"rak_{_IN_MESSAGES[resource]}_{access}", key_shown, account)


def _lacks(permission: str, key_shown: str, account: str) -> Refusal:
    """Return Stripe's answer to a key without a permission (its words as users have reported them)."""
    return Refusal(
        f"The provided key '{key_shown}' does not have the required permissions for this endpoint on account"
        f" '{account}'. Having the '{permission}' permission would allow this request to continue.",
        status=403,
    )
