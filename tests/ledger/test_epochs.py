"""The epoch in the ledger and in the marker beside it: what they tell apart, also when runs work beside others."""

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import timedelta
from pathlib import Path

import pytest

from meter_sync import effects
from meter_sync.core.planning.brakes import checked_before
from meter_sync.core.planning.stages import Acknowledged
from meter_sync.errors import ConfigurationError
from meter_sync.ledger import Ledger, RunRecord, Scope, open_ledger, open_ledger_read_only
from tests.core.builders import AS_OF, make_write

SCOPE = Scope("", "live")
RUN = RunRecord("run", AS_OF, AS_OF, "hourly", everything=True)


def marker_of(ledger: Path) -> Path:
    """The file beside a ledger that says which epoch it is."""
    return ledger.with_name(ledger.name + ".epoch")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """Open a ledger that a run has used before."""
    with open_ledger(path, SCOPE) as ledger:
        if ledger.runs.last_begun() is None:
            ledger.runs.begin(RUN)
        yield ledger


def restored_after(path: Path, run: Callable[[Ledger], None]) -> bool:
    """Say whether a ledger that is put back as it is now counts as restored, once there was such a run."""
    with opened(path):
        before = path.read_bytes()
    with opened(path) as ledger:
        run(ledger)
    path.write_bytes(before)
    with opened(path) as ledger:
        return ledger.epochs.begin(AS_OF)


def test_a_ledger_that_nothing_happened_to_is_not_restored(path: Path) -> None:
    for _ in range(3):
        with opened(path) as ledger:
            assert not ledger.epochs.is_restored()
            assert not ledger.epochs.begin(AS_OF)
            ledger.epochs.end()


def test_one_from_before_a_run_is_restored_once(path: Path) -> None:
    with opened(path) as ledger:
        ledger.epochs.begin(AS_OF)
    assert restored_after(path, lambda ledger: ledger.epochs.end())
    with opened(path) as ledger:
        assert not ledger.epochs.begin(AS_OF)


def test_one_from_before_there_were_epochs_is_restored(path: Path) -> None:
    def run(ledger: Ledger) -> None:
        ledger.epochs.begin(AS_OF)

    assert restored_after(path, run)


def test_one_that_no_run_has_used_is_new_whatever_the_marker_says(path: Path) -> None:
    marker_of(path).write_text("of a ledger that was lost")
    with open_ledger(path, SCOPE) as ledger:
        assert not ledger.epochs.begin(AS_OF)


def test_a_marker_that_was_damaged_or_is_missing_says_that_it_is_restored(path: Path) -> None:
    marker = marker_of(path)
    for harm in (lambda: marker.write_bytes(b"\xff\x00"), lambda: marker.write_text(""), marker.unlink):
        with opened(path) as ledger:
            ledger.epochs.begin(AS_OF)
            harm()
            assert ledger.epochs.begin(AS_OF)


def test_a_run_that_ends_does_not_hide_that_the_ledger_was_restored_meanwhile(path: Path) -> None:
    with opened(path) as ledger:
        ledger.epochs.begin(AS_OF)
        marker_of(path).write_text("of a later run")
        ledger.epochs.end()
        assert ledger.epochs.is_restored()


@pytest.mark.parametrize("moment", range(4))
def test_a_run_that_comes_between_any_two_steps_of_another_raises_no_alarm(path: Path, moment: int) -> None:
    """Before and after each of the two changes that one makes when it begins."""
    found: list[bool] = []

    def beside() -> None:
        with opened(path) as ledger:
            found.append(ledger.epochs.begin(AS_OF))
            ledger.epochs.end()

    def begin(ledger: Ledger) -> None:
        told: list[str] = []

        def watch(_place: str, _moment: str) -> None:
            told.append("")
            if len(told) == moment + 1:
                copy_context().run(unwatched, beside)

        effects.watch(watch)
        found.append(ledger.epochs.begin(AS_OF))

    with opened(path) as ledger:
        ledger.epochs.begin(AS_OF)
        copy_context().run(begin, ledger)
        found.append(ledger.epochs.begin(AS_OF))
        found.append(ledger.epochs.is_restored())
    assert found == [False] * 4


def unwatched(run: Callable[[], None]) -> None:
    effects.watch(lambda _place, _moment: None)
    run()


def test_only_its_user_may_read_the_marker_and_nothing_is_left_of_its_making(path: Path) -> None:
    with opened(path) as ledger:
        ledger.epochs.begin(AS_OF)
    assert stat.S_IMODE(marker_of(path).stat().st_mode) == 0o600
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name, marker_of(path).name]


def test_a_marker_that_cannot_be_written_keeps_a_run_from_writing(path: Path) -> None:
    with opened(path) as ledger:
        marker_of(path).mkdir()
        with pytest.raises(ConfigurationError) as raised:
            ledger.epochs.begin(AS_OF)
    assert (raised.value.code, str(marker_of(path)) in raised.value.message) == ("ledger_unwritable", True)


def test_an_opened_ledger_that_cannot_be_changed_tells_it_too(path: Path) -> None:
    with opened(path) as ledger:
        ledger.epochs.begin(AS_OF)
    marker_of(path).write_text("of a later run")
    with open_ledger_read_only(path, SCOPE) as ledger:
        assert ledger.epochs.is_restored()


@pytest.mark.parametrize("hours_after_its_end", [-1, 1])
def test_what_is_forgotten_of_a_period_that_sets_is_what_may_be_asked_for_while_it_is_open(
    path: Path, hours_after_its_end: int
) -> None:
    """After its end it is set again, whatever stands there; and it was reported all the same."""
    item = make_write(7).item
    with opened(path) as ledger:
        ledger.epochs.begin(AS_OF)
        ledger.listed.record([item], AS_OF)
        (intended,) = ledger.writes.claim(RUN, [checked_before(make_write(7))], AS_OF, 0)
        ledger.writes.acknowledge(RUN, [Acknowledged(intended, AS_OF, "req_1")])
        marker_of(path).write_text("of a later run")
        ledger.epochs.begin(item.period.end + timedelta(hours=hours_after_its_end))
        memory = ledger.memory.of([item])
        assert (item.id in memory.remembered) == (hours_after_its_end > 0)
        assert memory.known_items == frozenset()
        assert ledger.memory.reported([item]) == {item.key}
