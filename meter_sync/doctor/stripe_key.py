"""The section of Stripe: whose key it is, and each permission that runs need, by a read."""

from collections.abc import AsyncIterator
from dataclasses import replace

from meter_sync.doctor.finding import Finding, obstacle, of_error, ok, skipped, warning
from meter_sync.doctor.installation import Installation
from meter_sync.doctor.permissions import PERMISSIONS, Permission
from meter_sync.errors import MeterSyncError
from meter_sync.stripe_api.account import account_of
from meter_sync.stripe_api.connection import (
    PermissionMissing,
    StripeReader,
    StripeRefused,
    StripeUnavailable,
    unreachable,
)
from meter_sync.sync.job import open_reader

_STREAM_UNTRIED = (
    "whether the key may open sessions of the meter event stream is not tried, since that is no read; where it may "
    "not, runs log meter_event_stream_unusable and send events one by one"
)


async def examine_stripe(installation: Installation) -> AsyncIterator[Finding]:
    """Yield whose key it is, and whether it may do what runs need. Of a key that is refused nothing more is asked."""
    settings = installation.settings
    async with open_reader(settings, installation.clock, installation.stop) as stripe:
        key = await _key(stripe, settings.stripe.mode)
        yield key
        if key.keeps_from_running:
            return
        for permission in PERMISSIONS:
            why_not = _not_needed(permission, installation)
            if why_not:
                yield skipped("stripe_permission", f"{permission.shown}: {why_not}", permission.shown)
            else:
                yield await _tried(permission, stripe, installation)
        if settings.stripe.may_stream:
            yield skipped("stripe_permission", _STREAM_UNTRIED, "Meter event stream")
    if settings.is_shadow:
        account = installation.account
        async with open_reader(account, installation.clock, installation.stop) as stripe:
            yield replace(await _key(stripe, account.stripe.mode), subject="account")


async def _key(stripe: StripeReader, mode: str) -> Finding:
    try:
        account = await account_of(stripe)
    except StripeUnavailable as failure:
        return of_error("stripe_key", unreachable(failure))
    except StripeRefused as refusal:
        return obstacle("stripe_key", f"Stripe refuses the key: {refusal.message}", "correct what Stripe names")
    except MeterSyncError as error:
        return of_error("stripe_key", error)
    whose = f"account {account}" if account else "an account that it may not name"
    return ok("stripe_key", f"the key is of {whose}, in {mode} mode")


def _not_needed(permission: Permission, installation: Installation) -> str | None:
    settings = installation.settings
    if permission.shown == "Customers" and not settings.mapping_rules.needs_customer_metadata:
        return "not needed, since subjects do not come from customer metadata"
    if permission.shown == "Test clocks" and settings.stripe.is_live:
        return "not needed with a live key"
    return None


async def _tried(permission: Permission, stripe: StripeReader, installation: Installation) -> Finding:
    name = permission.shown
    try:
        read = await permission.find(stripe, installation.clock())
        if isinstance(read, str):
            return skipped("stripe_permission", f"{name}: {read}", name)
        await stripe.get(read.path, read.endpoint, read.params, read.version)
    except PermissionMissing:
        return _missing(permission)
    except StripeUnavailable as failure:
        return of_error("stripe_permission", unreachable(failure), name)
    except StripeRefused as refusal:
        said = f"{name}: whether the key may read is not known, Stripe said: {refusal.message}"
        return warning("stripe_permission", said, "look at the key in Stripe's Dashboard", name)
    except MeterSyncError as error:
        return of_error("stripe_permission", error, name)
    also = "; that it may write, only a run can tell" if permission.access == "write" else ""
    return ok("stripe_permission", f"the key may read {name}{also}", name)


def _missing(permission: Permission) -> Finding:
    name = permission.shown
    message = f"the key lacks {name}, {permission.access} ({permission.in_messages}): {permission.without}"
    remedy = f"edit the key in Stripe's Dashboard, and give it {permission.access} on {name}"
    return (obstacle if permission.is_needed else warning)("stripe_permission", message, remedy, name)
