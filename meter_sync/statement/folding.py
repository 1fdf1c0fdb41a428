"""What of a large statement stands on the page, so that a browser, and a person, can still read it.

The page then says what it leaves out; csv and json have it all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from meter_sync.core.telling.statement.figures import Bridge, CustomerFigures, MeterFigures, Statement

MOST_BYTES = 3_000_000
"""Of a page: a browser shows it at once, and it can be sent by mail."""
MOST_ITEMS = 2_000
"""Of all customers together: one with more has no place of its own."""
MOST_MATTERS = 500
MOST_NAMES = 100
"""Of a list of names or of times."""
MOST_DAYS = 3_000
"""Of the charts of all meters together: 96 meters in a month."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much of what makes a page large may stand on it."""

    customers: int
    told_characters: int
    """Of how quantities came about."""


ROOMS = (
    *(Room(1_000, characters) for characters in (2_000_000, 1_000_000, 500_000, 250_000, 0)),
    *(Room(customers, 0) for customers in (500, 100)),
)
"""From the largest to the smallest: the first one with which a page is not too large is taken."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What customers that have no place of their own used of a meter."""

    meter: str | None
    customers: int
    items: int
    bridge: Bridge


@dataclass(frozen=True, slots=True)
class Folded:
    """What stands on the page, and how much more there is."""

    customers: Sequence[CustomerFigures]
    more_customers: int
    rest: Sequence[Rest]
    """What those used, by meter."""
    told_of: int
    """For how many customers it is told how each quantity came about: the first ones."""
    meters: Sequence[MeterFigures]
    more_meters: int


def folded(statement: Statement, room: Room) -> Folded:
    """Return what of a statement stands on the page: the largest customers, and of the others sums by meter."""
    customers, others = _divided(statement.customers, room.customers)
    days = max((len(one.days) for one in statement.meters), default=0)
    meters = max(1, MOST_DAYS // max(1, days))
    return Folded(
        customers,
        len(others),
        _rest(others),
        _told_of(customers, room.told_characters),
        statement.meters[:meters],
        max(0, len(statement.meters) - meters),
    )


def _divided(customers: Sequence[CustomerFigures], most: int) -> tuple[list[CustomerFigures], list[CustomerFigures]]:
    """Return the customers that have a place of their own, and the others."""
    shown, others, room = list[CustomerFigures](), list[CustomerFigures](), MOST_ITEMS
    for one in customers:
        if len(shown) < most and len(one.items) <= room:
            shown.append(one)
            room -= len(one.items)
        else:
            others.append(one)
    return shown, others


def _told_of(customers: Sequence[CustomerFigures], most_characters: int) -> int:
    characters = 0
    for place, customer in enumerate(customers):
        characters += sum(len(one.topic) + len(one.text) for item in customer.items for one in item.told)
        if characters > most_characters:
            return place
    return len(customers)


def _rest(customers: Sequence[CustomerFigures]) -> list[Rest]:
    whose: dict[str | None, set[str]] = {}
    items: dict[str | None, int] = {}
    bridges: dict[str | None, Bridge] = {}
    for customer in customers:
        for item in customer.items:
            whose.setdefault(item.meter, set()).add(customer.customer)
            items[item.meter] = items.get(item.meter, 0) + 1
            bridges[item.meter] = bridges.get(item.meter, Bridge()) + item.bridge
    in_order = sorted(bridges, key=lambda meter: (meter is None, meter or ""))
    return [Rest(meter, len(whose[meter]), items[meter], bridges[meter]) for meter in in_order]
