"""What is due for accounts, by the ledger alone."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.config import read
from meter_sync.fleet.due import AGAIN_AFTER, AGAIN_SOON_AFTER, EVENTS_WAIT_FOR, all_due
from meter_sync.fleet.kinds import Job, Kind
from meter_sync.ledger import Ledger, RunRecord, Scope, open_ledger, open_ledgers_read_only
from meter_sync.ledger.turns import turns_of
from meter_sync.ledger.webhook_queue import WebhookEvent
from tests.proof.test_every_effect import come_to_the_turn
from tests.support.world import NOW, World

MINUTE = timedelta(minutes=1)
SCOPE = Scope("eu", "sandbox")


class Books:
    """A ledger, and the configuration of one account of several."""

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "ledger.sqlite3"
        self._config = folder / "meter-sync.toml"
        self.configure("")

    def configure(self, toml: str) -> None:
        """Have this in the row of the account."""
        self._config.write_text(f'[[accounts]]\nname = "eu"\n{toml}', encoding="utf-8")
        (self.account,) = read(self._config, {}, {"ledger": self.ledger}, ()).accounts

    def due(self, at: datetime) -> list[Kind]:
        with open_ledgers_read_only(self.ledger) as books:
            return [job.kind for job in all_due([self.account], books, at)]

    def ran(self, at: datetime, exit_code: int, scope: Scope = SCOPE) -> None:
        run = RunRecord(f"run-{at}", at, at, "hourly", everything=True)
        with open_ledger(self.ledger, scope) as ledger:
            ledger.runs.begin(run)
            ledger.runs.finish(run.id, at, exit_code, {})

    def turned(self, at: datetime, exit_code: int | None, kind: Kind = Kind.FULL) -> None:
        with open_ledger(self.ledger, turns_of("eu")) as ledger:
            ledger.turns.begin(kind, "a worker", at)
            ledger.turns.end(kind, at, exit_code)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def test_the_first_run_of_an_account_is_due_at_once(books: Books) -> None:
    assert books.due(NOW) == [Kind.FULL]


@pytest.mark.parametrize("exit_code", [0, 3, 4])
def test_a_complete_run_is_due_once_in_each_turn_of_the_schedule(books: Books, exit_code: int) -> None:
    books.ran(NOW, exit_code)
    due = [minutes for minutes in range(121) if books.due(NOW + minutes * MINUTE)]
    assert due == list(range(due[0], 121))
    assert 0 < due[0] <= 60


def test_what_is_due_for_an_account_in_shadow_mode_goes_by_the_books_of_its_shadow(books: Books) -> None:
    books.configure('[accounts.shadow]\napi_key_file = "/shadow_key"\n')
    books.ran(NOW, 0)
    assert books.due(NOW) == [Kind.FULL]
    books.ran(NOW, 0, SCOPE.shadow)
    assert books.due(NOW) == []


@pytest.mark.parametrize("exit_code", [1, 75, 78])
def test_a_run_that_was_not_complete_is_due_again(books: Books, exit_code: int) -> None:
    books.ran(NOW, exit_code)
    assert books.due(NOW + MINUTE) == [Kind.FULL]


@pytest.mark.parametrize(
    ("exit_code", "rest"), [(1, AGAIN_AFTER), (78, AGAIN_AFTER), (-9, AGAIN_AFTER), (75, AGAIN_SOON_AFTER)]
)
def test_what_failed_rests_for_a_while(books: Books, exit_code: int, rest: timedelta) -> None:
    books.turned(NOW, exit_code)
    assert (books.due(NOW + rest - MINUTE / 2), books.due(NOW + rest)) == ([], [Kind.FULL])


def test_what_was_cut_off_is_due_at_once(books: Books) -> None:
    books.turned(NOW, None)
    assert books.due(NOW) == [Kind.FULL]


def test_an_account_whose_settings_are_wrong_has_its_run_all_the_same_which_says_so(books: Books) -> None:
    books.ran(NOW, 0)
    assert books.due(NOW + timedelta(seconds=1)) == []
    books.configure("[accounts.brakes]\nnonsense = 1\n")
    assert books.due(NOW + timedelta(seconds=1)) == [Kind.FULL]


def test_a_closing_run_is_due_where_a_period_ends_and_rests_for_a_minute(world: World) -> None:
    come_to_the_turn(world)
    account = read(None, {}, {"ledger": world.ledger}, ())

    def due(at: datetime) -> list[Job]:
        with open_ledgers_read_only(world.ledger) as books:
            return [job for job in all_due([account], books, at) if job.kind is Kind.CLOSING]

    assert (due(world.now - timedelta(days=3)), due(world.now)) == ([], [Job(Kind.CLOSING, "")])
    with open_ledger(world.ledger, turns_of("")) as ledger:
        ledger.turns.begin(Kind.CLOSING, "a worker", world.now)
        ledger.turns.end(Kind.CLOSING, world.now, 0)
    assert (due(world.now), due(world.now + AGAIN_SOON_AFTER)) == ([], [Job(Kind.CLOSING, "")])


def test_one_of_all_workers_ticks_at_a_time(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"

    def ticks(worker: str, at: datetime) -> bool:
        with open_ledger(ledger, turns_of("")) as books:
            return books.turns.take("tick", worker, at, MINUTE)

    asked = [("one", NOW), ("another", NOW), ("another", NOW + MINUTE / 2), ("another", NOW + MINUTE), ("one", NOW)]
    assert [ticks(*each) for each in asked] == [True, False, False, True, False]


def test_workers_whose_clocks_differ_go_by_that_of_the_ledgers_server(tmp_path: Path) -> None:
    ledger, behind = tmp_path / "ledger.sqlite3", 2 * MINUTE
    with open_ledger(ledger, turns_of("")) as right, open_ledger(ledger, turns_of("")) as slow:
        slow.turns.database.ahead = right.turns.database.ahead + behind  # this machine's clock is behind

        def ticks(books: Ledger, after: timedelta) -> bool:
            clock = NOW + after - (behind if books is slow else timedelta(0))
            return books.turns.take("tick", "a worker", clock, MINUTE)

        asked = [(right, 0), (slow, 30), (right, 59), (slow, 60), (right, 61), (right, 119), (right, 120), (slow, 121)]
        found = [ticks(books, timedelta(seconds=seconds)) for books, seconds in asked]
        assert found == [True, False, False, True, False, False, True, False]
        assert slow.turns.last()["tick"].begun_at == NOW + 2 * MINUTE - behind


def test_events_ask_for_a_report_at_once_and_for_two_hours(books: Books) -> None:
    books.ran(NOW, 0)
    received = NOW + timedelta(seconds=1)
    with open_ledger(books.ledger, SCOPE) as ledger:
        ledger.webhook_queue.enqueue(WebhookEvent("evt_1", "invoice.created", "sub_1", received))
    assert Kind.WEBHOOK in books.due(received)
    books.turned(received, 0, Kind.WEBHOOK)
    assert Kind.WEBHOOK in books.due(received + timedelta(seconds=1))
    books.turned(received, 75, Kind.WEBHOOK)
    assert Kind.WEBHOOK not in books.due(received + timedelta(seconds=1))
    assert Kind.WEBHOOK in books.due(received + AGAIN_SOON_AFTER)
    assert Kind.WEBHOOK not in books.due(received + EVENTS_WAIT_FOR)
