"""The accounts that events are received for, and whose an event is."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import SecretStr
from structlog.contextvars import bound_contextvars

from meter_sync.config import Settings
from meter_sync.config.servers import ACCOUNT_ID
from meter_sync.errors import ConfigurationError
from meter_sync.ledger import Scope
from meter_sync.webhook.events import Event


@dataclass(frozen=True, slots=True)
class Account:
    """An account whose events are taken, and reported."""

    settings: Settings
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What a connected account that no row names must have in its metadata, else nothing is reported for it."""

    @property
    def name(self) -> str:
        """Its name, empty for the only one."""
        return self.settings.account

    @property
    def stripe_account(self) -> str | None:
        """Its id in Stripe, where the key is not its own."""
        return self.settings.stripe.account

    @property
    def scope(self) -> Scope:
        """Whose books it has."""
        return self.settings.scope

    def is_about(self, event: Event) -> bool:
        """Say whether an event that came to its own address is about it, and not about an account connected to it.

        Which one it is itself, a key of its own does not tell; then a thin event may name it or not.
        """
        if self.stripe_account is None:
            return event.account is None or event.why == "meter_error"
        return event.account in (None, self.stripe_account)


@dataclass(frozen=True, slots=True)
class Unserved:
    """An account whose configuration is wrong: its events are to be delivered again, until it is right."""

    name: str
    stripe_account: str | None
    """Its id in Stripe, as its row names it."""
    error: ConfigurationError


@dataclass(frozen=True, slots=True)
class Door:
    """A path that events come to, and what they are signed with there."""

    path: str
    secrets: Sequence[SecretStr]
    account: Account | Unserved | None
    """Whose events come here; None where each one says it itself."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The accounts of a platform that no row names."""

    platform: Settings
    """The settings of the platform itself."""
    settings_of: Callable[[str], Settings]
    """Returns those of an account, by its id; raises ConfigurationError."""
    named: frozenset[str] = frozenset()
    """The accounts that rows name, by their ids. In shadow mode nothing that happens in the account itself counts."""


class Accounts:
    """All accounts that events are received for."""

    def __init__(
        self, accounts: Sequence[Account | Unserved], platform_key: SecretStr | None, connected: Connected | None
    ) -> None:
        """Begin with those that are named; the platform's key is the one that they have in common, if there is one."""
        self._by_name = {one.name: one for one in accounts}
        self._by_id = {one.stripe_account: one for one in accounts if one.stripe_account}
        self._of_key = next((one for one in self.served if _has_key(one, platform_key)), None)
        # The key or the id in a row that cannot be read may be any.
        self._unclear = next((one for one in self.unserved if not _is_id(one.stripe_account)), None)
        self.connected = connected
        self._found = dict[str, Account]()

    @property
    def only(self) -> Account | None:
        """The account, where it is the only one."""
        one = next(iter(self._by_name.values()), None)
        return one if len(self._by_name) == 1 and self.connected is None and isinstance(one, Account) else None

    @property
    def served(self) -> Sequence[Account]:
        """Those that are named, and can be served."""
        return [one for one in self._by_name.values() if isinstance(one, Account)]

    @property
    def unserved(self) -> Sequence[Unserved]:
        """Those that are named, and cannot."""
        return [one for one in self._by_name.values() if isinstance(one, Unserved)]

    def whose(self, event: Event) -> Account | Unserved | None:
        """Return whose an event is that came to the address that all have in common, or None where nobody knows."""
        if self.only:
            return self.only if self.only.is_about(event) else None
        if event.account is None:
            return self._of_key or self._unclear
        return self._by_id.get(event.account) or self._connected(event.account) or self._unclear

    def named(self, name: str) -> Account | None:
        """Return the account of a name that has a queue in the ledger, or None where it is not served here."""
        one = self._by_name.get(name)
        if one is not None:
            return one if isinstance(one, Account) else None
        # A row may have been written for it since: then its books have that name.
        found = None if name in self._by_id else self._connected(name)
        return found if isinstance(found, Account) else None

    def of(self, scope: Scope) -> Account | None:
        """Return the account whose queue in the ledger this is, or None where it is not served here."""
        account = self.named(scope.owner)
        return account if account and account.scope == scope else None

    def _connected(self, id: str) -> Account | Unserved | None:
        if self.connected is None or id in self.connected.named or not _is_id(id):
            return None
        if id not in self._found:
            try:
                settings = self.connected.settings_of(id)
            except ConfigurationError as error:
                return Unserved(id, id, error)
            self._found[id] = Account(settings, settings.connect.metadata)
        return self._found[id]


@contextmanager
def named_in_log(account: str) -> Iterator[None]:
    """Let each line of the log name the account, where there are several."""
    with bound_contextvars(**({"account": account} if account else {})):
        yield


def _has_key(account: Account, key: SecretStr | None) -> bool:
    return account.stripe_account is None and key == account.settings.stripe.api_key


def _is_id(text: str | None) -> bool:
    return text is not None and re.fullmatch(ACCOUNT_ID, text) is not None
