"""What is asked of the ledger costs what is asked about: twice the items take twice the steps, and not four times."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.metering.mapping import Grouping
from meter_sync.core.planning.brakes import checked_before
from meter_sync.core.planning.conclusion import Billed
from meter_sync.ledger import Ledger, RunRecord, Scope, open_ledger
from meter_sync.ledger.conclusions import Conclusion
from tests.core.builders import make_item, make_metered, make_write
from tests.support.growth import database_steps_of, kept_bytes
from tests.support.world import NOW

DAY = timedelta(days=1)
RUN = RunRecord("run", NOW, NOW, "hourly", everything=True)


def items(how_many: int, months_ago: int) -> list[SubscriptionItem]:
    """One item for each of so many customers, in a period that ended some months ago."""
    end = NOW - DAY - 30 * months_ago * DAY
    one = make_item(start=end - 30 * DAY, end=end, created=NOW - 400 * DAY)
    return [_of_customer(one, number) for number in range(how_many)]


def _of_customer(one: SubscriptionItem, number: int) -> SubscriptionItem:
    customer = replace(one.subscription.customer, id=f"cus_{number:06}")
    subscription = replace(one.subscription, id=f"sub_{number:06}", customer=customer)
    return replace(one, id=f"si_{number:06}", subscription=subscription)


def fill(ledger: Ledger, how_many: int) -> None:
    """Record two periods of each item, of which something was written and the earlier one is closed."""
    for months_ago in (1, 0):
        listed = items(how_many, months_ago)
        ledger.listed.record(listed, NOW)
        found = [make_write(metered=make_metered(one, as_of=one.period.end)) for one in listed]
        of_customers = [replace(one, found=replace(one.found, grouping=Grouping.CUSTOMER)) for one in found]
        ledger.writes.claim(RUN, [checked_before(one) for one in of_customers], NOW, months_ago)
        ledger.writes.release(RUN, of_customers)
        if months_ago:
            ledger.listed.conclude([Conclusion(*one.key, closed_as=Billed()) for one in listed], NOW)


def customers(how_many: int) -> Iterable[str]:
    return {f"cus_{number:06}" for number in range(how_many)}


Ask = Callable[[Ledger, int], object]

ASKED: dict[str, Ask] = {
    "what_else_a_customer_has_had": lambda ledger, how_many: ledger.listed.closed_since(
        set(customers(how_many)), NOW - 100 * DAY
    ),
    "whose_usage_it_was_last": lambda ledger, how_many: ledger.memory.openmeter_customers(set(customers(how_many))),
    "what_is_remembered": lambda ledger, how_many: ledger.memory.of(items(how_many, 0)),
    "how_it_was_before": lambda ledger, how_many: ledger.memory.of(items(how_many, -1)),
    "what_has_ended": lambda ledger, _: ledger.listed.ended(NOW),
    "what_is_missing": lambda ledger, _: ledger.listed.missing(set(), NOW),
    "what_is_not_closed": lambda ledger, _: ledger.listed.beside(set()),
    "what_waits_in_vain": lambda ledger, _: ledger.listed.waiting_in_vain(),
    "what_can_go": lambda ledger, _: ledger.pruning.prune(NOW + 200 * DAY),
    "compaction": lambda ledger, _: ledger.compaction.compact_some(NOW),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Ledgers of so many items, each by its number."""
    folder = tmp_path_factory.mktemp("growth")
    found = {}
    for how_many in (500, 1000):
        found[how_many] = folder / f"{how_many}.sqlite3"
        with open_ledger(found[how_many], Scope("", "sandbox")) as ledger:
            fill(ledger, how_many)
    return found


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
def test_twice_the_items_take_twice_the_steps(paths: dict[int, Path], ask: Ask) -> None:
    steps = []
    for how_many, path in paths.items():
        with open_ledger(path, Scope("", "sandbox")) as ledger:
            connection: sa.Connection = ledger.compaction.database._connection
            steps.append(database_steps_of(connection, lambda: ask(ledger, how_many)))  # noqa: B023
    assert steps[1] <= 2.3 * steps[0]


def test_what_is_remembered_of_an_item_is_little(paths: dict[int, Path]) -> None:
    how_many = 1000
    listed = items(how_many, 0)
    with open_ledger(paths[how_many], Scope("", "sandbox")) as ledger:
        assert kept_bytes(lambda: ledger.memory.of(listed)) < how_many * 1_000


def test_an_item_that_is_as_it_was_is_kept_once(paths: dict[int, Path]) -> None:
    as_it_was, *same = items(500, 0)
    changed = replace(as_it_was, metadata={"plan": "pro"})
    with open_ledger(paths[500], Scope("", "sandbox")) as ledger:
        known = ledger.listed.as_known([changed, *same])
    assert known.pop(changed.id) == as_it_was
    assert all(known[one.id] is one for one in same)
