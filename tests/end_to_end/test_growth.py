"""What a run asks itself costs what there is: twice the subscriptions take twice the steps, and not four times."""

from datetime import timedelta
from pathlib import Path

from tests.support.growth import steps_of
from tests.support.world import NOW, World

_HOUR = timedelta(hours=1)


def steps_to_find_what_is_gone(folder: Path, how_many: int) -> int:
    """Let so many subscriptions end between two runs, and return what finding them took."""
    folder.mkdir()
    world = World(folder, NOW)
    with world.sandbox.in_background():
        subscriptions = [world.subscribe() for _ in range(how_many)]
        world.execute()
        for one in subscriptions:
            world.stripe.cancel(one.id)
        world.sandbox.clock.advance(_HOUR)
        steps = steps_of(lambda: world.execute(), within="ends/find.py")
    assert len(world.last_results) == how_many
    return steps


def test_of_subscriptions_that_have_ended_each_is_looked_for_once(tmp_path: Path) -> None:
    some, twice_as_many = (steps_to_find_what_is_gone(tmp_path / str(number), number) for number in (60, 120))
    assert twice_as_many < 2.3 * some
