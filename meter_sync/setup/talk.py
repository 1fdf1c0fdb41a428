"""Whom `setup` talks to, and with which key: one of its own, of the mode and account of the runs' one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from pydantic import SecretStr

from meter_sync.config import SETUP_KEY_VARIABLE, Settings
from meter_sync.errors import ConfigurationError
from meter_sync.net.pace import Limiter
from meter_sync.net.session import open_session
from meter_sync.net.stop import Stop
from meter_sync.stripe_api.account import account_of
from meter_sync.stripe_api.connection import Access, StripeReader, StripeWriter

Clock = Callable[[], datetime]
Opened = TypeVar("Opened", bound=StripeReader)

_PERMISSIONS = 'docs/security.md lists under "The key for setup"'
_PERMISSIONS_OF_SHADOW = "docs/shadow.md lists"
_COPIES_AT_ONCE = 20
_OTHER_KEY = f"put a key of the same account and mode into {SETUP_KEY_VARIABLE} (or its file)"


@asynccontextmanager
async def open_reader(settings: Settings, clock: Clock, stop: Stop) -> AsyncIterator[StripeReader]:
    """Open what reads from Stripe with the key for setup."""
    async with _opened(StripeReader, _for_setup(settings), settings, clock, stop) as stripe:
        yield stripe


@asynccontextmanager
async def open_writer(settings: Settings, clock: Clock, stop: Stop) -> AsyncIterator[StripeWriter]:
    """Open what makes things in Stripe with the key for setup: only once somebody has agreed."""
    async with _opened(StripeWriter, _for_setup(settings), settings, clock, stop) as stripe:
        yield stripe


@asynccontextmanager
async def open_shadow_writer(settings: Settings, clock: Clock, stop: Stop) -> AsyncIterator[StripeWriter]:
    """Open what makes copies in a shadow account, whose settings are given: only once somebody has agreed."""
    access = _access(settings, settings.stripe.api_key)
    access = replace(access, key_setting="shadow.api_key_file", permissions=_PERMISSIONS_OF_SHADOW)
    async with _opened(StripeWriter, access, settings, clock, stop, _COPIES_AT_ONCE) as stripe:
        yield stripe


async def checked_account(
    stripe: StripeReader, settings: Settings, clock: Clock, stop: Stop, *, knows_key_of_runs: bool
) -> str | None:
    """Return the account of the key for setup, or None where the key may not read it.

    Raise ConfigurationError where it is of another mode or account than the runs' key, as far as both may read them:
    what was made in another account no run would ever bill. Raise what StripeReader raises, or NotUnderstood.
    """
    if knows_key_of_runs and settings.stripe.is_live != settings.stripe.setup_is_live:
        own = "live" if settings.stripe.setup_is_live else "sandbox"
        raise ConfigurationError(
            f"the key for setup is of the {own} mode, that of the runs of the {settings.stripe.mode} mode; nothing was "
            "made",
            _OTHER_KEY,
            code="setup_key",
        )
    own_account = await account_of(stripe)
    if own_account is None or not knows_key_of_runs:
        return own_account
    access = _access(settings, settings.stripe.api_key)
    async with _opened(StripeReader, access, settings, clock, stop) as of_runs:
        account_of_runs = await account_of(of_runs)
    if account_of_runs not in (None, own_account):
        raise ConfigurationError(
            f"the key for setup is of the account {own_account}, that of the runs of {account_of_runs}; nothing was "
            "made",
            _OTHER_KEY,
            code="setup_key",
        )
    return own_account


@asynccontextmanager
async def _opened(
    kind: type[Opened], access: Access, settings: Settings, clock: Clock, stop: Stop, connections: int = 1
) -> AsyncIterator[Opened]:
    limiter = Limiter(settings.stripe.overall_rate, settings.stripe.endpoint_rate, stop, apart={})
    async with open_session(settings.stripe.api_base, connections) as session:
        yield kind(access, session, limiter, clock, stop)
        await asyncio.sleep(0)


def _for_setup(settings: Settings) -> Access:
    access = _access(settings, settings.stripe.setup_api_key)
    return replace(access, key_setting=SETUP_KEY_VARIABLE, permissions=_PERMISSIONS)


def _access(settings: Settings, key: SecretStr) -> Access:
    return Access(
        key.get_secret_value, settings.stripe.api_base, settings.retry_seconds, account=settings.stripe.account
    )
