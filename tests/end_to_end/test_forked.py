"""A forked command is what the installed one is, so that what the other tests see of it is true."""

import pytest

from tests.support.world import World


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--version",), 0),
        (("run", "--help"), 0),
        (("run", "--output", "xml"), 2),
        (("--config", "nowhere.toml", "run"), 78),
        (("run", "--dry-run", "--output", "csv", "--as-of", "2025-06-10T12:00:00Z"), 4),
    ],
)
def test_it_prints_and_exits_like_the_installed_one(world: World, arguments: tuple[str, ...], code: int) -> None:
    world.use(world.subscribe(), 5)
    world.subscribe(world.stripe.add_price())

    forked, installed = world.meter_sync(*arguments), world.installed_meter_sync(*arguments)

    assert forked == installed
    assert forked.code == code


def test_it_leaves_nothing_to_the_next_one(world: World) -> None:
    world.configure('schedule = "daily"\n')

    hourly, daily = world.run("-n", METER_SYNC_SCHEDULE="hourly"), world.run("-n")

    assert [done.document["run"]["schedule"] for done in (hourly, daily)] == ["hourly", "daily"]


def test_it_works_in_its_own_folder(world: World) -> None:
    world.folder.joinpath("here.toml").write_text('schedule = "daily"\n', encoding="utf-8")

    done = world.meter_sync("--config", "here.toml", "run", "--output", "json", "--as-of", world.now.isoformat())

    assert done.document["run"]["schedule"] == "daily"
