"""The accounts that are connected to a platform, as Stripe knows them before a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from meter_sync.config import Settings
from meter_sync.errors import MeterSyncError
from meter_sync.net.stop import Stop
from meter_sync.stripe_api.account import connected_account, connected_accounts
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable, unreachable
from meter_sync.sync.job import Clock, open_reader


async def list_connected(settings: Settings, clock: Clock, stop: Stop) -> list[str]:
    """Return the ids of the accounts that are connected to the platform, and wanted, in their order.

    Raise MeterSyncError where they cannot be listed: then none of them is worked on.
    """
    with _told("did not list the connected accounts"):
        async with open_reader(settings, clock, stop) as stripe:
            return sorted(await connected_accounts(stripe, settings.connect.metadata))


async def has_metadata(settings: Settings, account: str, clock: Clock, stop: Stop) -> bool:
    """Say whether an account that is connected to the platform has what is wanted in its metadata.

    Raise MeterSyncError where Stripe does not tell.
    """
    with _told(f"did not tell the metadata of the connected account {account}"):
        async with open_reader(settings, clock, stop) as stripe:
            found = await connected_account(stripe, account)
    return settings.connect.metadata.items() <= found.metadata.items()


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except StripeUnavailable as failure:
        raise unreachable(failure) from failure
    except StripeRefused as refusal:
        raise MeterSyncError(
            f"Stripe {what}: {refusal.message}; nothing was written for them",
            "run it again; if it lasts, look at Stripe's status",
            code="stripe_error",
        ) from refusal
