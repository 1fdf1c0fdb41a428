"""The Stripe account and mode that a ledger is about, fixed at its first use."""

from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

import sqlalchemy as sa

from meter_sync.core.scope import Scope
from meter_sync.errors import ConfigurationError
from meter_sync.ledger.database import Book, Database
from meter_sync.ledger.moved import PLACE
from meter_sync.ledger.schema import bindings
from meter_sync.ledger.store import account_of, row_name


@dataclass(frozen=True, slots=True)
class BoundTo:
    """Whose usage a ledger is about."""

    stripe_account: str
    """Empty where no key could read it yet."""
    mode: str
    """`live` or `sandbox`."""


class Binding(Book):
    """What an account's books are bound to."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._name = row_name(Scope(**database.scope).of_key.account)

    def read(self) -> BoundTo | None:
        """Return what the ledger is bound to, or None before its first use."""
        rows = self.database.rows(sa.select(bindings).where(bindings.c.name == self._name))
        return BoundTo(rows[0].stripe_account, rows[0].mode) if rows else None

    def every(self) -> list[Scope]:
        """Return whose books there are in the ledger, that of whichever account this is about."""
        rows = self.database.rows(sa.select(bindings).order_by(bindings.c.name))
        return [Scope(account_of(row.name), row.mode) for row in rows]

    def check_not_moved(self) -> None:
        """Raise ConfigurationError where the books were moved to another ledger."""
        self.database.check_not_moved()

    def moved_to(self) -> str | None:
        """Return where the books were moved to, or None where they were not."""
        place: str | None = self.database.value(PLACE)
        return place

    def check_mode(self) -> None:
        """Raise ConfigurationError where the ledger is bound to the other mode than the key's; no request is needed.

        So where it is not the ledger of anything any more, since its books were moved.
        """
        self.check_not_moved()
        bound, mode = self.read(), self.database.scope["mode"]
        if bound and bound.mode != mode:
            raise bound_otherwise(bound, BoundTo("", mode))

    def bind(self, to: BoundTo, at: datetime) -> None:
        """Bind the ledger; an account that became known is filled in."""
        row = {"name": self._name, "stripe_account": to.stripe_account, "mode": to.mode, "bound_at": at}
        with self.database.transaction():
            self.database.put(bindings, [row], ("stripe_account", "mode", "bound_at"))

    def check_alone(self, to: BoundTo) -> None:
        """Raise ConfigurationError where books of another name are about the same Stripe account, and were before.

        Two books of one account would bill additions twice, and undo each other's totals.
        """
        same = (bindings.c.stripe_account == to.stripe_account, bindings.c.mode == to.mode)
        rows = self.database.rows(sa.select(bindings).where(*same).order_by(bindings.c.bound_at, bindings.c.name))
        before = list(takewhile(lambda row: row.name != self._name, rows))
        if to.stripe_account and before:
            raise _bound_twice(to.stripe_account, before[0].name)


def _bound_twice(stripe_account: str, name: str) -> ConfigurationError:
    scope = Scope(account_of(name), "")
    whose = f"the account {scope.owner}" if scope.account else "the account that has no name"
    whose = f"the shadow of {whose}" if scope.owner != scope.account else whose
    return ConfigurationError(
        f"Stripe account {stripe_account} has books in this ledger already, as those of {whose}; nothing was written",
        "give each Stripe account one name, that of its books; meter-sync ledger rename gives these another one: two "
        "books of one account would bill twice",
        code="account_twice",
    )


def bound_otherwise(bound: BoundTo, found: BoundTo) -> ConfigurationError:
    """Return the error of a key that is of another account or mode than the ledger."""
    return ConfigurationError(
        f"the ledger is about {_in_words(bound)}, and the key is of {_in_words(found)}; nothing was written",
        "use that account's ledger, or name a new file with METER_SYNC_LEDGER",
        code="ledger_bound",
    )


def _in_words(binding: BoundTo) -> str:
    account = f"Stripe account {binding.stripe_account}" if binding.stripe_account else "a Stripe account"
    return f"{account} in {binding.mode} mode"
