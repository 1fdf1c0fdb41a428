"""Usage records for each UTC day: the same bill as one record for the period, exact at its partial days."""

from datetime import UTC, datetime, timedelta

import pytest

from meter_sync.sandbox import Fault
from tests.support.world import METER, NOW, PERIOD_START, World

DAY = timedelta(days=1)
MIDNIGHT = NOW.replace(hour=0)


@pytest.fixture(autouse=True)
def by_day(world: World) -> None:
    world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nrecords = "day"\n')


def test_each_day_has_its_record_strictly_inside_the_period(world: World) -> None:
    subscription = world.subscribe()
    for at, value in ((PERIOD_START, 1), (MIDNIGHT - DAY, 2), (MIDNIGHT - timedelta(seconds=1), 3), (MIDNIGHT, 4)):
        world.use(subscription, value, at=at)
    world.use(subscription, 100, at=PERIOD_START - timedelta(seconds=1))

    done = world.run()

    assert (done.code, done.item["quantity"]) == (0, "10")
    assert done.item["windows"] == {"sent": 3, "unchanged": 0}
    expected = {PERIOD_START: 1, MIDNIGHT - DAY: 5, MIDNIGHT: 4}
    records = world.stripe.records(subscription.items[0])
    assert records == {int(at.timestamp()) + 1: value for at, value in expected.items()}
    assert world.billed(subscription) == 10


def test_only_days_that_changed_are_set_again(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 1, at=MIDNIGHT - DAY)
    world.use(subscription, 2, at=MIDNIGHT)
    world.run()
    world.use(subscription, 5, at=MIDNIGHT - DAY)

    again = world.run()

    assert again.item["windows"] == {"sent": 1, "unchanged": 1}
    assert world.billed(subscription) == 8


def test_days_are_rounded_as_running_totals(world: World) -> None:
    subscription = world.subscribe()
    for days in range(1, 6):
        world.use(subscription, 0.5, at=MIDNIGHT - days * DAY)
    world.run()
    assert world.billed(subscription) == 2


def test_the_last_day_ends_with_the_period(world: World) -> None:
    start = datetime(2025, 5, 10, 12, 0, 30, tzinfo=UTC)
    subscription = world.subscribe(period_start=start)
    end = datetime(2025, 6, 10, 12, 0, 30, tzinfo=UTC)
    world.use(subscription, 3, at=end - timedelta(seconds=31))
    world.run()
    world.sandbox.clock.move_to(end + timedelta(minutes=1))
    (invoice,) = world.stripe.invoices
    assert [line.quantity for line in invoice.lines] == [3]


def test_a_lost_ledger_changes_nothing(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 1, at=MIDNIGHT - 3 * DAY)
    world.use(subscription, 2, at=MIDNIGHT)
    world.run()
    world.ledger.unlink()
    world.use(subscription, 4, at=MIDNIGHT - DAY)

    done = world.run()

    assert (done.code, done.item["previous"], done.item["quantity"]) == (0, "3", "7")
    assert world.billed(subscription) == 7


def test_records_of_another_program_are_found_and_left_as_they_are(world: World) -> None:
    subscription = world.subscribe()
    world.stripe.create_usage_record(subscription.items[0], 20, int((PERIOD_START + DAY).timestamp()), "set")
    world.use(subscription, 7)
    world.use(subscription, 2, at=MIDNIGHT - DAY)

    held = world.run()

    assert (held.code, held.verdict) == (4, ("held", "decrease"))
    held = world.run("--allow", "decrease")
    assert (held.code, held.verdict) == (4, ("held", "foreign_usage"))
    assert world.billed(subscription) == 20


def test_by_permission_only_the_rest_is_billed_beside_another_program(world: World) -> None:
    subscription = world.subscribe()
    world.stripe.create_usage_record(subscription.items[0], 5, int((PERIOD_START + DAY).timestamp()), "set")
    world.use(subscription, 7)
    world.use(subscription, 2, at=MIDNIGHT - DAY)
    assert world.run("--allow", "foreign_usage").code == 0
    assert world.billed(subscription) == 9
    world.use(subscription, 3, at=MIDNIGHT)
    assert world.run().code == 0
    assert world.billed(subscription) == 12


def test_a_fall_is_looked_at_over_the_whole_period(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 10, at=MIDNIGHT - DAY)
    world.run()
    world.use(subscription, -3, at=MIDNIGHT - DAY)
    world.use(subscription, 3, at=MIDNIGHT)
    assert world.run().item["outcome"] == "reported"
    world.use(subscription, -1, at=MIDNIGHT)
    assert world.run().verdict == ("held", "decrease")


@pytest.mark.parametrize("back", [False, True])
def test_changing_to_days_and_back_by_permission_bills_the_same(world: World, back: bool) -> None:
    toml = world.config.read_text()
    subscription = world.subscribe()
    world.use(subscription, 1, at=MIDNIGHT - 3 * DAY)
    world.use(subscription, 2, at=MIDNIGHT)
    one, other = (toml, toml.replace('"day"', '"period"')) if back else (toml.replace('"day"', '"period"'), toml)
    world.configure(one)
    world.run()
    world.configure(other)
    assert world.run().verdict == ("held", "mapping_changed")
    assert world.run("--allow", "mapping_changed").code == 0
    assert world.billed(subscription) == 3


def test_days_without_an_answer_are_set_again(world: World) -> None:
    subscription = world.subscribe()
    for days in range(4):
        world.use(subscription, 1, at=MIDNIGHT - days * DAY)
    world.sandbox.faults.add(Fault(path="usage_records$", skip=2, drop="before", times=None))
    broken = world.run()
    assert (broken.code, broken.verdict) == (1, ("failed", "stripe_error"))
    assert world.billed(subscription) == 2
    world.sandbox.faults.clear()
    mended = world.run()
    assert (mended.code, mended.item["previous"]) == (0, "2")
    assert world.billed(subscription) == 4
