"""What all sources of settings say together, and the settings that are in effect by them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from meter_sync.config.accounts import AccountRow
from meter_sync.config.origins import DEFAULT, Origin
from meter_sync.config.secrets import LEDGER_PASSWORD, SHADOW_KEY, STRIPE_KEY, SecretSetting
from meter_sync.config.settings import MonitorSettings, Settings
from meter_sync.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Configuration:
    """What all sources say together."""

    file: Path | None
    origins: Mapping[str, Origin]
    """Where each setting comes from, by its full name."""
    problems: Sequence[str]
    """What is wrong with the settings that are no secrets…"""
    of_secrets: Mapping[str, Sequence[str]]
    """… and with each secret, by its full name."""
    read: Settings | None
    """The settings as far as they could be read; None where they could not."""
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    """Who is told how runs end, also where other settings are wrong; nobody where these are."""
    account: str = ""
    """The name of the account that this is for; empty for the only one, and for what several have in common."""
    stripe_account: str | None = None
    """The id in Stripe that its row names, also where other settings are wrong."""
    accounts: "Sequence[Configuration]" = ()
    """What there is for each of several accounts that the file names."""
    connected: "Callable[[str], Configuration] | None" = None
    """Where connected accounts are worked on that it does not name: returns what there is for one, by its id."""
    row: AccountRow | None = None
    """What the file says of the account alone; None for the only one, and for what several have in common."""

    @property
    def is_of_several(self) -> bool:
        """Whether this is what several accounts have in common."""
        return bool(self.accounts) or self.connected is not None

    def settings(self, needed: Sequence[SecretSetting]) -> Settings:
        """Return the settings in effect, for something that needs some secrets: in shadow mode, those of the shadow.

        Raise ConfigurationError that names every problem at once.
        """
        return _in_effect(self.of_the_account(needed))

    @property
    def in_effect(self) -> Settings | None:
        """What `settings` returns as far as it could be read, whatever is wrong with secrets."""
        return _in_effect(self.read) if self.read else None

    def of_the_account(self, needed: Sequence[SecretSetting]) -> Settings:
        """Return the settings of the account itself, also in shadow mode; it raises what `settings` does."""
        problems = [
            *self.problems,
            *(said for one in (*needed, LEDGER_PASSWORD) for said in self.of_secrets.get(one.path, ())),
        ]
        if STRIPE_KEY in needed and self.read and self.read.stripe.problem_of_key:
            problems.append(self.read.stripe.problem_of_key)
        if not problems and self.read and self.read.is_shadow and SHADOW_KEY in needed and not self.read.has_shadow_key:
            problems = ["[shadow] names a file for its key, and that is empty"]
        if problems or self.read is None:
            raise wrong(problems)
        return self.read

    def with_connected(self, accounts: Sequence[str]) -> "Configuration":
        """Return this with what there is for connected accounts, by their ids, that no row names."""
        if self.connected is None:
            return self
        named = {one.stripe_account for one in self.accounts}
        others = [self.connected(account) for account in accounts if account not in named]
        return replace(self, accounts=[*self.accounts, *others])

    def check(self, needed: Sequence[SecretSetting]) -> Settings:
        """Return the settings of the only account, or what several have in common, for something that needs secrets.

        Raise ConfigurationError that names every problem of every account at once.
        """
        if not self.accounts:
            return self.settings(needed)
        problems = [*self.problems, *self.of_secrets.get(LEDGER_PASSWORD.path, ())]
        for one in self.accounts:
            problems += [*one.problems, *(said for each in needed for said in one.of_secrets.get(each.path, ()))]
        if problems:
            raise wrong(problems)
        return self.of_the_account(())

    def has_its_own(self, secret: SecretSetting) -> bool:
        """Say whether one of several accounts has a secret of its own, or none, whatever all have in common."""
        if self.row is None:
            return False
        origin = self.origins.get(secret.path, DEFAULT)
        credential = f"{secret.credential}.{self.row.name}"
        is_handed_over = origin.kind == "credentials" and Path(origin.name or "").name == credential
        return is_handed_over or self.row.has(secret.path)

    @property
    def is_of_platform(self) -> bool:
        """Whether it is about an account that is connected to the platform whose key all have in common.

        Stripe tells that platform what happens in it. In shadow mode that is not looked at.
        """
        if self.stripe_account is None or self.read is None or self.has_its_own(STRIPE_KEY):
            return False
        return not (self.read.is_shadow or self.read.stripe.is_of_organization)

    def is_configured(self, secret: SecretSetting) -> bool:
        """Say whether any source has a secret, or names where it is."""
        return self.origins.get(secret.path, DEFAULT) is not DEFAULT

    def is_there(self, secret: SecretSetting) -> bool:
        """Say whether a secret is configured, and not in a file that is still to be made."""
        origin = self.origins.get(secret.path, DEFAULT)
        is_to_come = origin.kind == "file" and origin.name is not None and not os.path.lexists(origin.name)
        return origin is not DEFAULT and not is_to_come


def _in_effect(settings: Settings) -> Settings:
    return settings.of_shadow if settings.is_shadow else settings


def wrong(problems: list[str]) -> ConfigurationError:
    """Given everything that is wrong, return the error that says it at once."""
    return ConfigurationError(
        "the configuration is wrong, nothing was read or written",
        "correct what is named; docs/configuration.md lists every setting",
        details=problems,
    )
