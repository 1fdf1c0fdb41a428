"""Writers exclude each other item by item, and one whose plan was overtaken gives way."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from meter_sync.core.planning.brakes import checked_before
from meter_sync.core.planning.conclusion import Billed
from meter_sync.core.planning.stages import Acknowledged, Checked, Intended
from meter_sync.ledger import Ledger, Place, RunRecord, Scope, open_ledger
from meter_sync.ledger.conclusions import Conclusion
from meter_sync.ledger.writers import CLAIMED_FOR
from tests.core.builders import AS_OF, make_write


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    with open_ledger(place, Scope("", "live")) as ledger:
        yield ledger


def run(name: str, *, is_alone: bool = False) -> RunRecord:
    return RunRecord(name, AS_OF, AS_OF, "hourly", False, is_alone)


def write(follows: str | None = None) -> Checked:
    return checked_before(make_write(7, follows=follows))


def claim(ledger: Ledger, run: RunRecord, one: Checked, at: datetime = AS_OF) -> list[Intended]:
    return ledger.writes.claim(run, [one], at, 0)


def test_an_item_that_another_run_is_writing_is_not_granted_until_it_is_given_back(ledger: Ledger) -> None:
    assert claim(ledger, run("one"), write()) == [Intended(write(), 0)]
    assert claim(ledger, run("two"), write("one")) == []
    ledger.writes.release(run("one"), [write()])
    assert claim(ledger, run("two"), write("one")) == [Intended(write("one"), 0)]


def test_a_plan_that_another_write_overtook_gives_way(ledger: Ledger) -> None:
    (intended,) = claim(ledger, run("one"), write())
    ledger.writes.acknowledge(run("one"), [Acknowledged(intended, AS_OF, "req_1")])
    ledger.writes.release(run("one"), [write()])
    assert claim(ledger, run("two"), write(None)) == []
    assert claim(ledger, run("two"), write("one")) == [Intended(write("one"), 0)]


def test_what_a_killed_run_leaves_behind_blocks_no_longer_than_a_write_takes(ledger: Ledger) -> None:
    claim(ledger, run("one"), write())
    assert claim(ledger, run("two"), write("one"), AS_OF + CLAIMED_FOR - timedelta(seconds=1)) == []
    assert claim(ledger, run("two"), write("one"), AS_OF + CLAIMED_FOR) == [Intended(write("one"), 0)]


def test_a_run_that_holds_the_lock_knows_that_no_other_one_lives_that_held_it(ledger: Ledger) -> None:
    claim(ledger, run("one", is_alone=True), write())
    assert claim(ledger, run("beside"), write("one")) == []
    assert claim(ledger, run("two", is_alone=True), write("one")) == [Intended(write("one"), 0)]


def test_what_is_not_granted_is_not_intended(ledger: Ledger) -> None:
    claim(ledger, run("one"), write())
    claim(ledger, run("two"), checked_before(make_write(99, follows="one")))
    remembered = ledger.memory.of([write().item]).remembered["si_1"]
    assert (remembered.run, remembered.quantity) == ("one", 7)


def test_a_period_that_was_closed_since_it_was_planned_for_is_written_no_more(ledger: Ledger) -> None:
    """Another item took the place of its item, and has what was reported for it."""
    item = write().item
    ledger.listed.record([item], AS_OF)
    ledger.listed.conclude([Conclusion(item.id, item.period.start, closed_as=Billed())], AS_OF)
    assert claim(ledger, run("one"), write()) == []
