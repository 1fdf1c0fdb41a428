"""The accounts that are connected to a platform, as Stripe lists them before a run."""

from meter_sync.config import Settings
from meter_sync.errors import MeterSyncError
from meter_sync.net.stop import Stop
from meter_sync.stripe_api.account import connected_accounts
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable, unreachable
from meter_sync.sync.job import Clock, open_reader


async def list_connected(settings: Settings, clock: Clock, stop: Stop) -> list[str]:
    """Return the ids of the accounts that are connected to the platform, and wanted, in their order.

    Raise MeterSyncError where they cannot be listed: then none of them is worked on.
    """
    try:
        async with open_reader(settings, clock, stop) as stripe:
            return sorted(await connected_accounts(stripe, settings.connect.metadata))
    except StripeUnavailable as failure:
        raise unreachable(failure) from failure
    except StripeRefused as refusal:
        raise MeterSyncError(
            f"Stripe did not list the connected accounts: {refusal.message}; nothing was written for them",
            "run it again; if it lasts, look at Stripe's status",
            code="stripe_error",
        ) from refusal
