"""The Stripe account and mode that a ledger is about, fixed at its first use."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from meter_sync.ledger.database import Database
from meter_sync.ledger.schema import bindings

_LEDGER = "ledger"


@dataclass(frozen=True, slots=True)
class Binding:
    """Whose usage a ledger is about."""

    stripe_account: str
    """Empty where no key could read it yet."""
    mode: str
    """`live` or `sandbox`."""


def bound(database: Database) -> Binding | None:
    """Return what the ledger is bound to, or None before its first use."""
    rows = database.rows(sa.select(bindings).where(bindings.c.name == _LEDGER))
    return Binding(rows[0].stripe_account, rows[0].mode) if rows else None


def bind(connection: Connection, binding: Binding, at: datetime) -> None:
    """Bind the ledger; an account that became known is filled in."""
    values = {"stripe_account": binding.stripe_account, "mode": binding.mode, "bound_at": at}
    upsert = sqlite_insert(bindings).values(name=_LEDGER, **values)
    connection.execute(upsert.on_conflict_do_update(index_elements=["name"], set_=values))
