"""What workers need of the configuration, which is read again each time: accounts come and go, and keys are rolled."""

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meter_sync.cli.globals import Globals, chosen, now
from meter_sync.errors import ConfigurationError, MeterSyncError
from meter_sync.net.stop import Stop

if TYPE_CHECKING:
    from meter_sync.config import Configuration, SecretSetting, Settings
    from meter_sync.fleet.processes import Fleet
    from meter_sync.ledger import Place

_LISTED_EACH_SECONDS = 600.0
"""So often a platform's connected accounts are listed to see what is due for them."""


async def with_connected(
    configuration: "Configuration", wanted: "Sequence[SecretSetting]", stop: Stop
) -> "Sequence[Configuration]":
    """Return what there is for the accounts that are named, and for those that Stripe lists. Raise MeterSyncError."""
    from meter_sync.sync.connected import list_connected

    listed = await list_connected(configuration.of_the_account(wanted), now, stop)
    found = configuration.with_connected(listed).accounts
    if not found:
        raise MeterSyncError(
            "the platform has no connected account that is wanted; nothing was written",
            "connect one, or correct connect.metadata",
            code="nothing_selected",
        )
    return found


def with_known(configuration: "Configuration", ledger: "Place") -> "Sequence[Configuration]":
    """Return what there is for the accounts that are named, and for connected ones that have books in the ledger.

    Stripe is not asked. Raise ConfigurationError, LedgerError or TryAgainError, each with what to do.
    """
    from meter_sync.ledger import accounts_with_books

    if configuration.connected is None:
        return configuration.accounts
    ids = [one.account for one in accounts_with_books(ledger) if one.account.startswith("acct_")]
    return configuration.with_connected(ids).accounts


def not_shared(ledger: Path) -> ConfigurationError:
    """Return the error that says why there are no workers with a ledger that is a file."""
    return ConfigurationError(
        f"the ledger {ledger} is a file, and workers share one on a server; nothing was read or written",
        "name a database by METER_SYNC_LEDGER, such as postgresql://user@host/database; meter-sync ledger copy "
        "moves the books there",
        code="ledger_not_shared",
    )


def fleet_of(options: Globals, stop: Stop) -> "tuple[Settings, Fleet]":
    """Return what all accounts have in common, and what workers need. Raise ConfigurationError."""
    from meter_sync.config import needed
    from meter_sync.net.postgres_url import PostgresUrl

    common = options.in_effect(options.read_configuration(needed(for_webhook=False)), ())
    if not isinstance(common.ledger, PostgresUrl):
        raise not_shared(common.ledger)
    try:
        from meter_sync.fleet.processes import Fleet
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"workers need {error.name}, which is not installed; nothing was read or written",
            "pip install 'meter-sync[worker]'",
            code="worker_not_installed",
        ) from error
    name = f"process {os.getpid()} on {socket.gethostname()}"
    return common, Fleet(common.ledger, Accounts(options, stop).now, name, now)


class Accounts:
    """The accounts as they are configured now; those that are connected as they were listed some minutes ago."""

    def __init__(self, options: Globals, stop: Stop) -> None:
        self._options = options
        self._stop = stop
        self._listed: list[str] = []
        self._listed_at: float | None = None

    async def now(self) -> "Sequence[Configuration]":
        """Return what there is for each account. Raise MeterSyncError."""
        from meter_sync.config import needed

        wanted = needed(for_webhook=False)
        configuration = self._options.read_configuration(wanted)
        if configuration.connected is None:
            return chosen(configuration, ())
        if self._listed_at is None or time.monotonic() - self._listed_at > _LISTED_EACH_SECONDS:
            found = await with_connected(configuration, wanted, self._stop)
            named = {one.account for one in configuration.accounts}
            self._listed, self._listed_at = [one.account for one in found if one.account not in named], time.monotonic()
        return configuration.with_connected(self._listed).accounts
