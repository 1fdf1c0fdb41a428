"""What statements of a world's ledger must say, whatever has happened: a check that any simulation may end with."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

from meter_sync.cli.statement.making import About, statement_of
from meter_sync.core.billing.item import Period
from meter_sync.core.telling.statement.figures import ItemFigures, State, Statement
from meter_sync.core.telling.statement.position import Position, state_of
from tests.support.world import World

ALL_TIME = Period(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def months(world: World, since: datetime) -> Iterator[Period]:
    """Yield the months from an instant until one after that in which it is now."""
    start = since.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while start <= world.now:
        end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        yield Period(start, end)
        start = end


def statements(world: World, since: datetime) -> list[Statement]:
    with world.books() as books:
        return [statement_of(books, About(time)) for time in months(world, since)]


def positions(world: World) -> list[Position]:
    with world.books() as books:
        return [*books.statements.positions(ALL_TIME)]


def check_statements(world: World, since: datetime) -> None:
    """Each month adds up, bills what its invoices have, and all months together have what was used."""
    every, all_ = statements(world, since), positions(world)
    assert [one.whole.bridge.difference for one in every] == [0] * len(every)
    assert [one.unread for one in every] == [()] * len(every)
    assert sum(one.whole.cuts.in_time for one in every) == sum((one.used for one in all_), Decimal(0))
    check_invoices(world, every, all_)
    check_unbilled(world, all_)


def check_invoices(world: World, every: list[Statement], all_: list[Position]) -> None:
    """What is billed of a period, as far as that is known, is what its invoice has of it.

    Of items that were changed in mid-period, whose lines are of other stretches, that is so over all their periods.
    """
    lines = Counter[tuple[str, int]]()
    for invoice in world.stripe.invoices:
        if invoice.status != "void":
            for line in invoice.lines:
                lines[line.item, line.period.start] += line.quantity
    items = [item for one in every for customer in one.customers for item in customer.items]
    changed = {one.whose.item for one in all_ if one.item.is_cut or one.item.cycle_start is not None}
    said = {_key(one): one.bridge.billed for one in items if _is_plain(one)}
    wrong = {
        key: (billed, lines[key]) for key, billed in said.items() if key[0] not in changed and billed != lines[key]
    }
    for item in changed - {one.item for one in items if not _is_plain(one)}:
        both = tuple(sum(of[key] for key in of if key[0] == item) for of in (said, lines))
        wrong |= {(item, 0): both} if both[0] != both[1] else {}  # type: ignore[dict-item]
    assert wrong == {}


def check_unbilled(world: World, all_: list[Position]) -> None:
    """What waits for a person is what `history --unbilled` has."""
    as_of = world.now
    found = Counter[str]()
    for one in all_:
        if state_of(one, as_of) is not State.FREE and one.lacking.named_at is not None:
            found[one.whose.item] += one.lacking.open_quantity
    assert {item: quantity for item, quantity in found.items() if quantity} == {
        item: quantity for item, quantity in world.unbilled().items() if quantity
    }


def _is_plain(one: ItemFigures) -> bool:
    return one.state is State.BILLED and not (one.bridge.unknown or one.bridge.settled)


def _key(one: ItemFigures) -> tuple[str, int]:
    return one.item, int(one.period.start.timestamp())
