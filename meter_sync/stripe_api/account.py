"""The account that a key is of."""

from typing import Literal

from meter_sync.stripe_api.connection import PermissionMissing, StripeReader
from meter_sync.stripe_api.shapes import Shape


class AccountData(Shape):
    """The account of a key."""

    object: Literal["account"]
    id: str


async def account_of(stripe: StripeReader) -> str | None:
    """Return the id of the account that the key is of, or None where the key may not read it.

    Raise StripeRefused, StripeUnavailable, ConfigurationError, or NotUnderstood for another answer than an account.
    """
    try:
        return AccountData.read(await stripe.get("/v1/account", "account", {}), "the account").id
    except PermissionMissing:
        return None
