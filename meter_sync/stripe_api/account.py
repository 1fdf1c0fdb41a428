"""The account that a key is of."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from meter_sync.stripe_api.connection import PermissionMissing, StripeReader
from meter_sync.stripe_api.paging import rows
from meter_sync.stripe_api.shapes import Identified, Shape


class ConnectedData(Identified):
    """An account that is connected to a platform."""

    metadata: dict[str, str] = Field(default_factory=dict)


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


async def connected_account(stripe: StripeReader, account: str) -> ConnectedData:
    """Return an account that is connected to the key's, by its id.

    Raise StripeRefused, also for what is not understood, StripeUnavailable or ConfigurationError.
    """
    answer = await stripe.get(f"/v1/accounts/{account}", "accounts", {})
    return ConnectedData.read(answer, "a connected account")


async def connected_accounts(stripe: StripeReader, metadata: Mapping[str, str]) -> list[str]:
    """Return the ids of the accounts that are connected to the key's, and have all of this in their metadata.

    Raise StripeRefused, also for what is not understood, StripeUnavailable or ConfigurationError.
    """
    every = await rows(ConnectedData, stripe, "/v1/accounts", "accounts", "a connected account", {})
    return [one.id for one in every if metadata.items() <= one.metadata.items()]
