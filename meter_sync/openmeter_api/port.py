"""What a version of OpenMeter's API has to offer: nothing that asks for usage knows which one it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from meter_sync.core.metering.meter import Aggregation, Meters
from meter_sync.core.metering.queries import Query
from meter_sync.openmeter_api.answers import Row


@dataclass(frozen=True, slots=True)
class OpenMeterCustomer:
    """A customer as OpenMeter knows it."""

    id: str
    key: str | None
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class MeterDefinition:
    """What a meter counts, and how: all that is needed to make one."""

    slug: str
    """API v3 calls it the key."""
    aggregation: Aggregation
    event_type: str
    value_property: str | None = None
    """A JSONPath into an event's data; a count needs none."""
    name: str | None = None
    """None in what was read, since it bills nothing."""


class Api(Protocol):
    """A version of OpenMeter's API.

    All of it raises Transient where there is no answer, OpenMeterRefused for a no or for what is not its language, and
    ConfigurationError where the address or the key is wrong.
    """

    version: str
    """Its name, such as `v1`."""
    path: str
    """What follows the address in the path of each request."""

    async def meters(self) -> Meters:
        """Return every meter."""
        ...

    async def definition(self, slug: str) -> MeterDefinition | None:
        """Return what a meter counts, or None where there is none of that slug."""
        ...

    async def create_meter(self, wanted: MeterDefinition) -> None:
        """Make a meter. One whose slug is taken, as after an attempt without an answer, is refused."""
        ...

    async def rows(self, query: Query) -> Iterable[Row]:
        """Return the rows that answer a query. They are read one by one, each of which may raise OpenMeterRefused."""
        ...

    async def customers(self) -> list[OpenMeterCustomer]:
        """Return all customers, over all pages."""
        ...

    async def still_counts(self, customer: str) -> bool:
        """Say whether a customer that is in no list any more was deleted, and its usage can still be asked for."""
        ...

    async def stripe_customer(self, customer: str) -> str | None:
        """Return the Stripe customer that the app data of a customer names, or None."""
        ...
