"""Customers of the embedded OpenMeter, and the subjects whose usage is theirs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from meter_sync.sandbox.openmeter.problems import Problem


@dataclass(slots=True)
class Customer:
    """A customer with the subjects whose usage is attributed to it."""

    id: str
    """A ULID."""
    key: str | None
    name: str
    subjects: tuple[str, ...]
    stripe_customer_id: str | None
    created: datetime
    deleted_at: datetime | None = None
    is_only_listed: bool = False
    """Whether it was deleted right after it was listed."""

    @property
    def is_deleted(self) -> bool:
        """Whether it was deleted, listed or not."""
        return self.deleted_at is not None or self.is_only_listed

    @property
    def counted(self) -> tuple[str, ...]:
        """The subjects whose events count for it: its key, and those of its usage attribution."""
        own = (self.key,) if self.key else ()
        return tuple(dict.fromkeys(own + self.subjects))


def named(customers: Mapping[str, Customer], id: str) -> Customer:
    """Return the customer with this id, deleted or not; refuse what never was one."""
    if id not in customers:
        raise Problem(404, f"customer not found: {id}")
    return customers[id]
