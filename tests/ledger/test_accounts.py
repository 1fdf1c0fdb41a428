"""Several accounts in one ledger: what is one's own is never another's."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from meter_sync.core.planning.brakes import checked_before
from meter_sync.errors import ArgumentsError, ConfigurationError, LedgerError, TryAgainError
from meter_sync.ledger import Ledger, Place, RunRecord, Scope, lock_holder, open_ledger, run_lock
from meter_sync.ledger.binding import BoundTo
from meter_sync.ledger.checking import check_ledger
from meter_sync.ledger.copying import CopyRequest, copy_ledger
from meter_sync.ledger.renaming import Renaming, rename_account
from tests.core.builders import AS_OF, make_write

EU, US, ONLY = Scope("eu", "live"), Scope("us", "sandbox"), Scope("", "live")
RUN = RunRecord("run", AS_OF, AS_OF, "hourly", everything=True)
LATER = AS_OF + timedelta(minutes=1)


def used(place: Place, *scopes: Scope) -> None:
    """Let a run of each account have used the ledger."""
    for scope in scopes:
        with open_ledger(place, scope) as ledger:
            if ledger.runs.last_begun() is None:
                ledger.runs.begin(replace(RUN, id=f"run {scope.account}"))
            ledger.epochs.begin(AS_OF)
            ledger.epochs.end()


def restored(place: Place, scope: Scope) -> bool:
    """Let a run of an account begin, and say whether it takes its books for restored."""
    with open_ledger(place, scope) as ledger:
        return ledger.epochs.begin(AS_OF)


def test_each_account_finds_out_for_itself_that_the_ledger_was_restored(tmp_path: Path) -> None:
    """Also the books of what is on a test clock: whichever run comes first, no other one goes on as if it knew."""
    path = tmp_path / "ledger.sqlite3"
    scopes = (ONLY, EU, US, EU.on("clock_1"), ONLY.on("clock_1"))
    used(path, *scopes)
    backup = path.read_bytes()
    used(path, *scopes)
    path.write_bytes(backup)
    assert [restored(path, scope) for scope in scopes] == [True] * len(scopes)
    assert [restored(path, scope) for scope in scopes] == [False] * len(scopes)


def test_a_run_of_one_account_makes_no_other_ones_books_look_restored(place: Place) -> None:
    used(place, EU, US)
    used(place, EU)
    assert (restored(place, US), restored(place, EU)) == (False, False)


def test_what_is_forgotten_of_a_restored_ledger_is_its_own_accounts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    used(path, EU, US)
    for scope in (EU, US):
        with open_ledger(path, scope) as ledger:
            reported(ledger)
    (tmp_path / "ledger.sqlite3.epoch").unlink()
    assert restored(path, EU)
    with open_ledger(path, US) as ledger:
        assert ledger.memory.of([make_write(7).item]).remembered
    assert restored(path, US)


def reported(ledger: Ledger) -> None:
    item = make_write(7).item
    ledger.listed.record([item], AS_OF)
    ledger.writes.claim(RUN, [checked_before(make_write(7))], AS_OF, 0)


def test_runs_of_two_accounts_hold_their_locks_at_once(place: Place) -> None:
    with run_lock(place, EU), run_lock(place, US), run_lock(place, ONLY):
        assert lock_holder(place, EU)
        assert lock_holder(place, Scope("shop", "live")) is None
        with pytest.raises(TryAgainError), run_lock(place, EU):
            pass


def test_each_account_is_bound_to_its_own_stripe_account_and_mode(place: Place) -> None:
    with open_ledger(place, EU) as eu, open_ledger(place, US) as us:
        eu.binding.bind(BoundTo("acct_1Eu", "live"), AS_OF)
        us.binding.bind(BoundTo("acct_1Us", "sandbox"), AS_OF)
        assert eu.binding.read() == BoundTo("acct_1Eu", "live")
        assert us.binding.read() == BoundTo("acct_1Us", "sandbox")
        us.binding.check_mode()
        eu.binding.check_alone(BoundTo("acct_1Eu", "live"))
    with open_ledger(place, EU.on("clock_1")) as on_a_clock:
        assert on_a_clock.binding.read() == BoundTo("acct_1Eu", "live")


def test_a_stripe_account_has_books_under_one_name_only(place: Place) -> None:
    """The one that had them first goes on; where both began at once, it is the same one for both."""
    found = BoundTo("acct_1Eu", "live")
    with open_ledger(place, EU) as first, open_ledger(place, Scope("other", "live")) as second:
        first.binding.bind(found, AS_OF)
        with pytest.raises(ConfigurationError) as raised:
            second.binding.check_alone(found)
        assert (raised.value.code, "the account eu" in raised.value.message) == ("account_twice", True)
        second.binding.bind(found, LATER)
        first.binding.check_alone(found)
        with pytest.raises(ConfigurationError):
            second.binding.check_alone(found)
        second.binding.check_alone(BoundTo("acct_1Eu", "sandbox"))
        second.binding.check_alone(BoundTo("", "live"))


def test_a_copy_knows_of_each_account_that_it_is_whole(place: Place, tmp_path: Path) -> None:
    used(place, ONLY, EU, US)
    copy = tmp_path / "copy.sqlite3"
    copied = copy_ledger(CopyRequest(place, copy), AS_OF)
    assert not copied.is_restored
    assert [restored(copy, scope) for scope in (ONLY, EU, US)] == [False] * 3


def test_a_kept_copy_counts_as_restored_for_each_account(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.sqlite3", tmp_path / "copy.sqlite3"
    used(path, ONLY, EU)
    assert copy_ledger(CopyRequest(path, copy, keep=True), AS_OF).is_restored
    assert [restored(copy, scope) for scope in (ONLY, EU)] == [True] * 2


def test_a_ledger_of_several_accounts_is_whole(place: Place) -> None:
    used(place, ONLY, EU, US, EU.on("clock_1"))
    assert [one.check for one in check_ledger(place, AS_OF) if one.status != "ok"] == []


def test_a_check_says_whose_books_count_as_restored(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    used(path, ONLY, EU)
    (tmp_path / "ledger.sqlite3.epoch").write_text("of a later run")
    (books,) = (one for one in check_ledger(path, AS_OF) if one.check == "books")
    assert "of the account without a name, eu" in (books.remark or "")


def test_books_get_another_name_and_are_known_by_it(place: Place) -> None:
    """With all that is on a test clock of them; what is another account's stays."""
    used(place, ONLY, ONLY.on("clock_1"), US)
    with open_ledger(place, ONLY) as ledger:
        ledger.binding.bind(BoundTo("acct_1Eu", "live"), AS_OF)
        reported(ledger)
    rows = rename_account(place, Renaming("", "eu"), AS_OF)
    assert rows > 3
    assert [restored(place, scope) for scope in (EU, EU.on("clock_1"), US)] == [False] * 3
    with open_ledger(place, EU) as ledger:
        assert ledger.binding.read() == BoundTo("acct_1Eu", "live")
        assert ledger.memory.of([make_write(7).item]).remembered
    with open_ledger(place, ONLY) as ledger:
        assert (ledger.runs.last_begun(), ledger.binding.read()) == (None, None)
    assert [one.check for one in check_ledger(place, AS_OF) if one.status != "ok"] == []
    assert rename_account(place, Renaming("eu", "europe"), AS_OF) == rows
    assert not restored(place, Scope("europe", "live"))


def test_books_that_count_as_restored_still_do_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    used(path, ONLY)
    backup = path.read_bytes()
    used(path, ONLY)
    path.write_bytes(backup)
    rename_account(path, Renaming("", "eu"), AS_OF)
    assert restored(path, EU)


def test_books_of_two_accounts_are_never_put_together(place: Place) -> None:
    used(place, EU, US)
    with open_ledger(place, US) as ledger:
        reported(ledger)
    with pytest.raises(ArgumentsError, match="has books in the ledger"):
        rename_account(place, Renaming("eu", "us"), AS_OF)
    assert (restored(place, EU), restored(place, US)) == (False, False)


def test_runs_that_were_refused_are_no_books(place: Place) -> None:
    """Whoever finds out by a run that the books have another name renames them afterwards."""
    used(place, ONLY, EU)
    rename_account(place, Renaming("", "eu"), AS_OF)
    assert not restored(place, EU)


def test_no_books_are_renamed_that_there_are_not_or_that_are_in_use(place: Place) -> None:
    with pytest.raises(LedgerError, match="no books"):
        rename_account(place, Renaming("", "eu"), AS_OF)
    used(place, EU)
    with pytest.raises(LedgerError, match="no books of the account shop"):
        rename_account(place, Renaming("shop", "eu-2"), AS_OF)
    for name in ("eu", "new"):
        with run_lock(place, Scope(name, "live")), pytest.raises(TryAgainError):
            rename_account(place, Renaming("eu", "new"), AS_OF)
