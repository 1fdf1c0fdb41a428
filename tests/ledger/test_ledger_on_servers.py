"""`meter-sync ledger` with ledgers on a PostgreSQL server."""

from pathlib import Path

import pytest

from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Scope, open_ledger
from meter_sync.ledger.checking import check_ledger
from meter_sync.ledger.stores import store_of
from tests.ledger.test_check import BROKEN, check
from tests.ledger.test_check import played as played_in_each_way
from tests.ledger.test_copy import copied, played
from tests.support.postgres import new_ledger, server
from tests.support.world import World

pytestmark = pytest.mark.every_way


def test_to_a_server_from_one_to_the_next_and_back_to_a_file_nothing_is_lost_or_taken_for_restored(
    world: World,
) -> None:
    subscription = played(world)
    billed = world.billed(subscription)
    for target in (server().database(), server().database(), world.folder / "back.sqlite3"):
        assert not copied(world, target).is_restored
        with pytest.raises(MeterSyncError, match="were moved"), open_ledger(world.place, Scope("", "sandbox")):
            pass
        world.place = target
        world.use(subscription, 5)
        world.execute()
        billed += 5
        assert world.billed(subscription) == billed
        assert {one.check for one in check_ledger(target, world.now) if one.status != "ok"} == set()


def test_the_backup_of_a_server_is_left_to_its_own_tools(world: World) -> None:
    world.place = server().database()

    done = world.meter_sync("ledger", "backup", "--to", str(world.folder / "dump"))

    assert done.code == 2
    assert "pg_dump --format=custom" in done.stderr
    assert not Path(world.folder / "dump").exists()


def test_a_check_finds_on_a_server_what_it_finds_in_a_file(world: World) -> None:
    world.place = new_ledger()
    played_in_each_way(world)
    assert {name: one.found for name, one in check(world).items() if one.status != "ok"} == {}
    with store_of(world.place).connected() as connection, connection.begin():
        connection.exec_driver_sql(BROKEN["additions"])

    assert [name for name, one in check(world).items() if one.status != "ok"] == ["additions"]
