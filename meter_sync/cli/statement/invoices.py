"""What Stripe's invoices bill of the periods of a statement: the only part of it that asks a server."""

from collections.abc import Callable
from datetime import datetime, timedelta

from meter_sync.config import Settings
from meter_sync.core.billing.item import Period
from meter_sync.core.telling.statement.assembly import Invoiced
from meter_sync.errors import MeterSyncError
from meter_sync.ledger.binding import BoundTo, bound_otherwise
from meter_sync.net.stop import Stop
from meter_sync.stripe_api import invoices
from meter_sync.stripe_api.account import account_of
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeUnavailable, unreachable
from meter_sync.sync.job import open_reader

_BEFORE_THE_END = timedelta(hours=1)
"""An invoice is not made before the end of its period; the hour is for clocks."""


async def invoiced(
    settings: Settings, bound: BoundTo | None, time: Period, clock: Callable[[], datetime], stop: Stop
) -> Invoiced:
    """Return what the invoices bill that were made since a time began.

    Nothing is said of a line that does not say how much it bills, nor of a draft; what is voided bills nothing. `bound`
    is the account that the books are about: raise ConfigurationError for a key of another one, or MeterSyncError.
    """
    async with open_reader(settings, clock, stop) as stripe:
        try:
            return await _invoiced(stripe, settings, bound, time)
        except StripeUnavailable as failure:
            raise unreachable(failure) from failure
        except StripeRefused as refusal:
            raise MeterSyncError(
                f"Stripe did not say what its invoices bill: {refusal.message}; no statement was made",
                "allow the key to read invoices, or leave --check-invoices out",
                code="stripe_error",
            ) from refusal


async def _invoiced(stripe: StripeReader, settings: Settings, bound: BoundTo | None, time: Period) -> Invoiced:
    account = await account_of(stripe)
    if bound and account and bound.stripe_account not in ("", account):
        raise bound_otherwise(bound, BoundTo(account, settings.stripe.mode))
    found = await invoices.invoices_since(stripe, time.start - _BEFORE_THE_END, None)
    lines = {}
    for key, one in invoices.by_start(found.lines).items():
        is_said = one.says_quantity and one.is_draft is False
        quantity = 0 if one.is_void else one.quantity if is_said else None
        lines[key] = quantity, one.invoice
    return Invoiced(lines, frozenset(found.not_understood))
