"""Writers exclude each other item by item, and one whose plan was overtaken gives way."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from meter_sync.core.planning.stages import Set
from meter_sync.ledger import Acknowledgement, Ledger, RunRecord, Scope, open_ledger
from meter_sync.ledger.listed import Conclusion
from meter_sync.ledger.writers import HELD_FOR
from tests.core.builders import AS_OF, make_line, make_set

ITEM = frozenset({"si_1"})
NONE: frozenset[str] = frozenset()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(tmp_path / "ledger.sqlite3", Scope("", "live")) as ledger:
        yield ledger


def run(name: str, *, is_alone: bool = False) -> RunRecord:
    return RunRecord(name, AS_OF, AS_OF, "hourly", False, is_alone)


def write(follows: str | None = None) -> Set:
    return make_set(7, line=replace(make_line(), follows=follows))


def test_an_item_that_another_run_is_writing_is_not_granted_until_it_is_given_back(ledger: Ledger) -> None:
    assert ledger.writes.claim(run("one"), [write()], AS_OF) == ITEM
    assert ledger.writes.claim(run("two"), [write("one")], AS_OF) == NONE
    ledger.writes.release(run("one"), [write()])
    assert ledger.writes.claim(run("two"), [write("one")], AS_OF) == ITEM


def test_a_plan_that_another_write_overtook_gives_way(ledger: Ledger) -> None:
    ledger.writes.claim(run("one"), [write()], AS_OF)
    ledger.writes.acknowledge(run("one"), [Acknowledgement(write(), AS_OF, "req_1")])
    ledger.writes.release(run("one"), [write()])
    assert ledger.writes.claim(run("two"), [write(None)], AS_OF) == NONE
    assert ledger.writes.claim(run("two"), [write("one")], AS_OF) == ITEM


def test_what_a_killed_run_leaves_behind_blocks_no_longer_than_a_write_takes(ledger: Ledger) -> None:
    ledger.writes.claim(run("one"), [write()], AS_OF)
    assert ledger.writes.claim(run("two"), [write("one")], AS_OF + HELD_FOR - timedelta(seconds=1)) == NONE
    assert ledger.writes.claim(run("two"), [write("one")], AS_OF + HELD_FOR) == ITEM


def test_a_run_that_holds_the_lock_knows_that_no_other_one_lives_that_held_it(ledger: Ledger) -> None:
    ledger.writes.claim(run("one", is_alone=True), [write()], AS_OF)
    assert ledger.writes.claim(run("beside"), [write("one")], AS_OF) == NONE
    assert ledger.writes.claim(run("two", is_alone=True), [write("one")], AS_OF) == ITEM


def test_what_is_not_granted_is_not_intended(ledger: Ledger) -> None:
    ledger.writes.claim(run("one"), [write()], AS_OF)
    ledger.writes.claim(run("two"), [replace(write("one"), quantity=99)], AS_OF)
    remembered = ledger.memory.of([write().line.item]).remembered["si_1"]
    assert (remembered.run, remembered.quantity) == ("one", 7)


def test_a_period_that_was_closed_since_it_was_planned_for_is_written_no_more(ledger: Ledger) -> None:
    """Another item took the place of its item, and has what was reported for it."""
    item = write().line.item
    ledger.listed.record([item], AS_OF)
    ledger.listed.conclude([Conclusion(item.id, item.period.start, is_closed=True)], AS_OF)
    assert ledger.writes.claim(run("one"), [write()], AS_OF) == NONE
