"""Whatever happened to an item, what a run knows of it is the same with and without compaction."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_sync.core.billing import identifiers
from meter_sync.core.planning.brakes import checked_before
from meter_sync.ledger import Ledger, Scope, open_ledger
from meter_sync.ledger.rejections import Written
from tests.ledger.parts import DAY, HOUR, ITEM, START, add, addition_of, known_since, run_at, set_hours, told
from tests.ledger.steps import compacted

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""What is drawn here goes through what other tests cover."""

few = settings(max_examples=10, deadline=None, database=None)
DAYS = 12

hours = st.integers(0, 24 * DAYS - 1)
Step = tuple[str, int]
OF_HOURS = ("set", "set", "correct", "unanswered", "reject", "doubt", "forget")
OF_ADDITIONS = ("add", "add", "take off", "unanswered", "withdraw", "reject", "forget")


def steps_of(kinds: tuple[str, ...]) -> st.SearchStrategy[list[Step]]:
    return st.lists(st.tuples(st.sampled_from(kinds), hours), min_size=3, max_size=14)


def step_of_hours(ledger: Ledger, step: Step, number: int) -> None:
    """Let one thing happen on a day; `number` says which day."""
    (what, hour), at = step, START + (number + 1) * DAY + HOUR
    started = range(24 * number, 24 * number + 24, 5)
    if what in ("set", "unanswered"):
        set_hours(ledger, at, {one: hour + one for one in started}, taken=what == "set")
    elif what == "correct":
        set_hours(ledger, at, {hour % (24 * number + 24): hour})
    elif what == "reject":
        run = run_at(START + (hour % (number + 1) + 1) * DAY + HOUR).id
        of_run = {identifiers.of_set(run, "si_1", START + one * HOUR): "no customer" for one in range(0, 24 * DAYS, 5)}
        ledger.rejections.record(of_run, str(number))
    elif what == "doubt":
        one = Written("si_1", "cus_1", "mtr_1", ITEM.period, ITEM.period, 0, lacks_answer=False)
        ledger.rejections.record_doubt(one, "some", START + hour * HOUR)
    else:
        ledger.writes.forget([ITEM.key])


def step_of_additions(ledger: Ledger, step: Step, number: int) -> None:
    """Let one thing happen on a day; `number` says which day."""
    (what, hour), at = step, START + (number + 1) * DAY + HOUR
    known = ledger.memory.of([ITEM]).remembered.get("si_1")
    if known and known.additions.newest and not known.additions.newest.is_delivered and what != "reject":
        # A run makes sure of that one first.
        for one in ledger.additions.unsettled(["si_1"], run_at(at), at)[0]:
            ledger.additions.settle(one, at)
        return
    if what in ("add", "take off", "unanswered"):
        add(ledger, at, -7 if what == "take off" else 7, taken=what != "unanswered")
    elif what == "withdraw":
        write, run = addition_of(ledger, at, 3), run_at(at)
        (intended,) = ledger.writes.claim(run, [checked_before(write)], at, 0)
        ledger.writes.withdraw([intended.write])
        ledger.writes.release(run, [write])
    elif what == "reject":
        base = 7 * (hour % DAYS)
        start = int(START.timestamp())
        ledger.rejections.record({f"si_1-{start}-{base}-{same}": "no customer" for same in (0, 1)}, str(number))
    else:
        ledger.writes.forget([ITEM.key])


def lives(happen: Callable[[Ledger, Step, int], None], steps: list[Step]) -> None:
    """Let steps happen in two ledgers, of which one is compacted after each, and compare what runs know."""
    with TemporaryDirectory() as folder:
        small, plain = (Path(folder) / name for name in ("small.sqlite3", "plain.sqlite3"))
        scope = Scope("", "live")
        with open_ledger(small, scope) as compact, open_ledger(plain, scope) as every:
            for ledger in (compact, every):
                ledger.listed.record([ITEM], START)
            for number, step in enumerate(steps[:DAYS]):
                happen(compact, step, number)
                happen(every, step, number)
                compacted(compact, START + (number + 1) * DAY + timedelta(hours=30))
                for since in (None, START + HOUR, START + (number // 2) * DAY + 5 * HOUR):
                    assert known_since(compact, since) == known_since(every, since)
                assert compact.memory.last_intended([ITEM]) == every.memory.last_intended([ITEM])
            assert told(compact) == told(every)


@few
@given(steps_of(OF_HOURS))
def test_of_hours(steps: list[Step]) -> None:
    lives(step_of_hours, steps)


@few
@given(steps_of(OF_ADDITIONS))
def test_of_additions(steps: list[Step]) -> None:
    lives(step_of_additions, steps)
