"""A ledger on a real PostgreSQL server: who may write, what its trouble means, and what is noticed of it."""

import threading
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlencode

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict

from meter_sync.core.planning.brakes import checked_before
from meter_sync.core.planning.stages import Intended
from meter_sync.errors import ConfigurationError, MeterSyncError, TryAgainError
from meter_sync.ledger import (
    RunRecord,
    Scope,
    ledger_state,
    lock_holder,
    migrate,
    open_ledger,
    open_ledger_read_only,
    run_lock,
    writers,
)
from meter_sync.ledger.schema import metadata
from meter_sync.ledger.server_lock import OVERDUE_AFTER_SECONDS
from meter_sync.net.postgres_url import PostgresUrl, postgres_url
from tests.core.builders import AS_OF, make_write
from tests.support.pooled import pooled
from tests.support.postgres import new_ledger, server
from tests.support.tables import carry_out, make_older, rows

pytestmark = pytest.mark.every_way

SCOPE = Scope("", "live")
WRITE = checked_before(make_write(7))
MINUTE = timedelta(minutes=1)


def run(name: str, *, is_alone: bool = False) -> RunRecord:
    return RunRecord(name, AS_OF, AS_OF, "hourly", True, is_alone)


@pytest.fixture
def url() -> PostgresUrl:
    return new_ledger()


def other(url: PostgresUrl, **parts: str) -> PostgresUrl:
    """The same place, with other parts of its address."""
    return PostgresUrl(f"postgresql:///?{urlencode({**conninfo_to_dict(url.url), **parts})}")


# -- the run lock -----------------------------------------------------------------------------------


def test_of_two_runs_of_one_account_the_second_is_told_to_come_again(url: PostgresUrl) -> None:
    with run_lock(url, SCOPE):
        assert code_of(lambda: locked(url)) == "locked"
    locked(url)


def test_runs_of_two_accounts_do_not_exclude_each_other(url: PostgresUrl) -> None:
    with run_lock(url, SCOPE), run_lock(url, Scope("acct_2", "live")), run_lock(url, Scope("", "sandbox")):
        assert lock_holder(url, SCOPE)
    assert lock_holder(url, SCOPE) is None


def test_a_holder_that_was_not_heard_of_for_a_minute_is_replaced_and_can_commit_nothing_any_more(
    url: PostgresUrl,
) -> None:
    with run_lock(url, SCOPE) as frozen, open_ledger(url, SCOPE, frozen) as its:
        its.writes.claim(run("frozen", is_alone=True), [WRITE], AS_OF, 0)
        carry_out(url, "UPDATE run_locks SET beat_at = beat_at - ?", int(OVERDUE_AFTER_SECONDS) + 1)
        with run_lock(url, SCOPE) as lock, open_ledger(url, SCOPE, lock) as ledger:
            for change in (
                lambda: its.writes.renew(run("frozen", is_alone=True), [WRITE.item.id], AS_OF),
                lambda: its.writes.claim(run("frozen", is_alone=True), [WRITE], AS_OF, 1),
                lambda: its.kept.forget(),
            ):
                assert code_of(change) == "lock_lost"
            newer = checked_before(make_write(8, follows="frozen"))
            assert ledger.writes.claim(run("new", is_alone=True), [newer], AS_OF, 0)


def test_a_holder_that_beats_is_not_replaced_however_long_it_works(url: PostgresUrl) -> None:
    with run_lock(url, SCOPE):
        carry_out(url, "UPDATE run_locks SET taken_at = taken_at - 86400")
        assert code_of(lambda: locked(url)) == "locked"


def test_who_lost_the_connection_of_the_lock_to_another_run_commits_nothing(url: PostgresUrl) -> None:
    with run_lock(url, SCOPE) as lost, open_ledger(url, SCOPE, lost) as its:
        end_connections(url, "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')")
        with run_lock(url, SCOPE):
            assert code_of(lambda: its.kept.forget()) == "lock_lost"


def test_a_pool_in_transaction_mode_is_refused_by_name(url: PostgresUrl) -> None:
    with pooled(url, "transaction") as through:
        assert code_of(lambda: locked(through)) == "ledger_pooled"
    with pooled(url, "session") as through, run_lock(through, SCOPE):
        assert lock_holder(url, SCOPE)


# -- writing at once --------------------------------------------------------------------------------


def test_of_two_who_claim_an_item_at_once_one_has_it(url: PostgresUrl) -> None:
    granted: list[Intended] = []
    with open_ledger(url, SCOPE) as one, open_ledger(url, SCOPE) as two:
        second = threading.Thread(target=lambda: granted.extend(two.writes.claim(run("two"), [WRITE], AS_OF, 0)))
        database = one.writes.database
        with database.transaction():
            assert writers.claim(database, run("one"), [WRITE], AS_OF) == {WRITE.item.id}
            second.start()
            until(lambda: waiting(url) == 1)
        second.join()
    assert granted == []


def test_what_is_read_at_one_moment_does_not_change_while_others_write(url: PostgresUrl) -> None:
    with open_ledger(url, SCOPE) as reader, open_ledger(url, SCOPE) as writer:
        with reader.runs.database.at_one_moment():
            assert reader.runs.last_begun() is None
            writer.runs.begin(run("one"))
            assert reader.runs.last_begun() is None
        assert reader.runs.last_begun() is not None


def test_a_claim_lasts_by_the_clock_of_the_server(url: PostgresUrl) -> None:
    with open_ledger(url, SCOPE) as right, open_ledger(url, SCOPE) as behind:
        behind.writes.database.ahead = right.writes.database.ahead + 2 * MINUTE  # this machine's clock is behind
        right.writes.claim(run("one"), [WRITE], AS_OF, 0)
        follows = checked_before(make_write(7, follows="one"))
        assert behind.writes.claim(run("two"), [follows], AS_OF - 2 * MINUTE, 0) == []
        assert behind.writes.claim(run("two"), [follows], AS_OF, 0)


def test_of_ten_that_open_an_empty_database_each_finds_a_ledger(url: PostgresUrl) -> None:
    empty, found = server().database(), []

    def open_it() -> None:
        with open_ledger(empty, SCOPE) as ledger:
            found.append(ledger.runs.last_begun())

    threads = [threading.Thread(target=open_it) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [None] * 10


# -- the schema -------------------------------------------------------------------------------------


def shape(url: PostgresUrl) -> dict[str, object]:
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url.url))
    inspector = sa.inspect(engine)
    found: dict[str, object] = {
        table: (
            [(one["name"], str(one["type"]), one["nullable"], one["default"]) for one in inspector.get_columns(table)],
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted((str(one["name"]), one["unique"], *one["column_names"]) for one in inspector.get_indexes(table)),
        )
        for table in inspector.get_table_names()
    }
    engine.dispose()
    return found


def test_the_migrations_make_the_same_tables_as_a_new_ledger_has() -> None:
    new, migrated = new_ledger(), server().database()
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(migrated.url))
    with engine.begin() as connection:
        migrate.migrate(connection)
    engine.dispose()

    assert set(metadata.tables) < set(shape(new))
    assert shape(new) == shape(migrated)


def test_an_older_ledger_is_read_as_the_next_run_makes_it_and_is_left_as_it_is(url: PostgresUrl) -> None:
    with open_ledger(url, SCOPE) as ledger:
        ledger.epochs.begin(AS_OF)
        ledger.runs.begin(run("one"))
    make_older(url)

    with open_ledger_read_only(url, SCOPE) as ledger:
        assert ledger.runs.last_begun() == AS_OF
        assert not ledger.epochs.is_restored()
    assert not ledger_state(url).is_current
    with open_ledger(url, SCOPE) as ledger:
        assert ledger.runs.last_begun() == AS_OF
    assert ledger_state(url).is_current


def test_who_opens_it_to_read_can_change_nothing(url: PostgresUrl) -> None:
    with open_ledger_read_only(url, SCOPE) as ledger:
        assert code_of(lambda: ledger.runs.begin(run("one"))) == "ledger_unwritable"


# -- being put back ---------------------------------------------------------------------------------


def test_a_copy_of_the_database_that_takes_its_place_counts_as_restored_once(url: PostgresUrl) -> None:
    with open_ledger(url, SCOPE) as ledger:
        assert not ledger.epochs.begin(AS_OF)
        ledger.runs.begin(run("one"))
        ledger.epochs.end()
    copy = server().database(url)
    for place, is_restored in ((url, False), (copy, True), (copy, False)):
        with open_ledger(place, SCOPE) as ledger:
            assert ledger.epochs.begin(AS_OF) is is_restored


# -- trouble ----------------------------------------------------------------------------------------


def test_what_keeps_the_ledger_from_being_used_is_said_with_what_to_do(url: PostgresUrl) -> None:
    nowhere = postgres_url("postgresql://meter-sync:geheim@127.0.0.1:9/meter_sync")
    for place, code, kind in (
        (nowhere, "ledger_unreachable", TryAgainError),
        (other(url, dbname="not_there"), "ledger_unwritable", ConfigurationError),
        (other(url, user="nobody_of_that_name"), "ledger_unwritable", ConfigurationError),
    ):
        with pytest.raises(kind) as raised, open_ledger(place, SCOPE):
            pass
        assert raised.value.code == code
        assert "geheim" not in f"{raised.value.message} {raised.value.hint} {place!r} {place}"


def test_a_row_that_the_server_does_not_take_is_the_matter_of_its_item(url: PostgresUrl) -> None:
    with open_ledger(url, SCOPE) as ledger:
        database = ledger.writes.database
        with database.own_trouble_of(("si_1", AS_OF)), database.transaction():
            database.insert(metadata.tables["bindings"], [{"name": "n" * 21}])
        assert database.refused.keys() == {("si_1", AS_OF)}
    with open_ledger(url, SCOPE) as ledger:
        assert rows(ledger, "bindings") == 0


def test_a_database_of_another_program_is_refused() -> None:
    foreign = server().database()
    carry_out(foreign, "CREATE TABLE theirs (id integer)")
    with pytest.raises(ConfigurationError) as raised, open_ledger(foreign, SCOPE):
        pass
    assert raised.value.code == "ledger_foreign"


def test_a_connection_that_was_cut_ends_what_used_it_and_nothing_of_its_change_stays(url: PostgresUrl) -> None:
    with open_ledger(url, SCOPE) as ledger:
        ledger.runs.begin(run("one"))
        database = ledger.runs.database

        def cut_off_within_a_change() -> None:
            with database.transaction():
                database.delete_where(metadata.tables["runs"])
                end_connections(url, "true")
                database.delete_where(metadata.tables["runs"])

        assert code_of(cut_off_within_a_change) == "ledger_unreachable"
        assert code_of(lambda: ledger.runs.begin(run("two"))) == "ledger_unreachable"
    assert carry_out(url, "SELECT run FROM runs") == [("one",)]


# -- what these tests have in common ----------------------------------------------------------------


def locked(url: PostgresUrl) -> None:
    """Hold the run lock for a moment."""
    with run_lock(url, SCOPE):
        pass


def code_of(work: Callable[[], object]) -> str:
    """The code of the error that something raises."""
    with pytest.raises(MeterSyncError) as raised:
        work()
    return raised.value.code


def end_connections(url: PostgresUrl, condition: str) -> None:
    """End the connections of others to a database, as the server's administrator may."""
    carry_out(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608
        f" WHERE datname = current_database() AND pid <> pg_backend_pid() AND ({condition})",
    )


def waiting(url: PostgresUrl) -> int:
    """How many wait for a lock in a database."""
    here = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    return int(carry_out(url, f"SELECT count(*) FROM pg_locks WHERE NOT granted AND {here}")[0][0])  # noqa: S608


def until(is_so: Callable[[], bool]) -> None:
    """Ask again until something is so."""
    for _ in range(10_000):
        if is_so():
            return
    raise AssertionError("it never came to be so")
