"""`verify` names subjects with usage in OpenMeter that no listed item bills."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meter_sync.core.outcomes import ExitCode
from meter_sync.core.planning.selection import Selection
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Fault
from meter_sync.sync.unbilled import Unbilled
from meter_sync.sync.verify import Verification, VerifyRequest, verify
from tests.support.ways import ALL_WAYS, by_tier, subscribed
from tests.support.world import METER, NOW, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
A_MONTH_AGO = NOW - timedelta(days=31)

pytestmark = pytest.mark.parametrize("openmeter_version", ["v1", "v3"], indirect=True)


def verified(world: World, **request: Any) -> Verification:
    """Do what the command does, in this process and by the sandbox's clock."""
    settings = world._settings(0, "hourly")
    world._agree_on_time()
    done = asyncio.run(verify(settings, VerifyRequest(**request), world.sandbox.clock.now, Stop()))
    world.sandbox.date_skew_seconds = 0.0
    return done


def unbilled(world: World) -> list[tuple[str, int, datetime]]:
    done = verified(world)
    assert done.error is None
    assert done.unbilled is not None
    assert {one.meter for one in done.unbilled.subjects} <= {METER}
    return [(one.subject, int(one.usage), one.since) for one in done.unbilled.subjects]


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_a_subject_without_a_subscription_is_named_with_its_usage(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 5)
    world.use("cus_nobody", 7, at=NOW - 3 * DAY)
    world.use("cus_little", 2)
    world.execute()

    assert unbilled(world) == [("cus_nobody", 7, A_MONTH_AGO), ("cus_little", 2, A_MONTH_AGO)]
    assert verified(world).exit_code is ExitCode.ATTENTION


def test_where_everything_is_billed_nobody_is_named(world: World) -> None:
    world.use(world.subscribe(), 5)
    world.execute()

    done = verified(world)

    assert (done.unbilled, done.exit_code) == (Unbilled(), ExitCode.DONE)


def test_usage_of_more_than_a_month_ago_is_not_looked_at(world: World) -> None:
    world.use("cus_nobody", 7, at=A_MONTH_AGO - HOUR)
    world.subscribe()

    assert unbilled(world) == []


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_a_canceled_customer_who_still_uses_is_named_with_what_was_used_since_the_end(world: World, way: str) -> None:
    gone = subscribed(world, way)
    world.subscribe()
    world.use(gone, 100, at=NOW - DAY)
    world.execute()
    world.stripe.cancel(gone.id, invoice_now=True)
    world.execute()
    assert unbilled(world) == []
    world.sandbox.clock.advance(2 * HOUR)
    world.use(gone, 3)

    assert unbilled(world) == [(world.customer_of(gone), 3, NOW)]


def test_a_customer_whose_price_is_not_mapped_is_named(world: World) -> None:
    unmapped = world.subscribe(world.stripe.add_price(id="price_unmapped"))
    world.subscribe()
    world.use(unmapped, 4)

    assert unbilled(world) == [(world.customer_of(unmapped), 4, A_MONTH_AGO)]


def test_a_customer_whom_other_software_bills_is_not_named(world: World) -> None:
    world.configure('[[meters]]\nprice = "price_theirs"\nignore = true\n')
    theirs = world.subscribe(world.stripe.add_price(id="price_theirs"))
    world.subscribe()
    world.use(theirs, 4)

    assert unbilled(world) == []


def test_a_meter_that_only_a_row_names_is_looked_at_too(world: World) -> None:
    world.configure(f'[[meters]]\nprice = "price_of_nobody"\nopenmeter = "{METER}"\n')
    world.use("cus_nobody", 7)

    assert unbilled(world) == [("cus_nobody", 7, A_MONTH_AGO)]


def test_subjects_that_are_to_be_ignored_are_named_by_patterns(world: World) -> None:
    world.configure('[verify]\nignore_subjects = ["test-*", "cus_demo"]\n')
    world.subscribe()
    for subject in ("test-1", "test-2", "cus_demo", "cus_demo_2"):
        world.use(subject, 7)

    assert unbilled(world) == [("cus_demo_2", 7, A_MONTH_AGO)]


def test_a_part_of_the_items_says_nothing_of_who_is_billed(world: World) -> None:
    subscription = world.subscribe()
    world.use("cus_nobody", 7)
    world.execute()

    selected = verified(world, selection=Selection(subscriptions=(subscription.id,)))

    assert (selected.unbilled, verified(world, sample_days=3).unbilled) == (None, None)
    assert selected.exit_code is ExitCode.DONE


def test_what_openmeter_does_not_say_is_no_all_clear(world: World) -> None:
    world.use(world.subscribe(), 5)
    world.run("--as-of", datetime.now(UTC).isoformat())
    world.sandbox.faults.add(Fault(server="openmeter", path="/query$", skip=1, times=None, status=500))

    as_json = world.meter_sync("verify", "--output", "json")
    world.sandbox.faults.clear()
    world.sandbox.faults.add(Fault(server="openmeter", path="/query$", skip=1, times=None, status=500))
    as_table = world.meter_sync("verify", "--quiet")

    assert (as_json.code, as_table.code) == (3, 3)
    assert (as_json.document["unbilled_subjects"], as_json.document["unbilled_usage"]) == (None, None)
    assert [item["outcome"] for item in as_json.items.values()] == ["match"]
    assert f"which usage of meter {METER} nobody bills is not known" in as_table.stdout


def test_the_command_prints_them_and_exits_with_4(world: World) -> None:
    recently = datetime.now(UTC) - HOUR
    world.use("cus_nobody\x1b[2J", 7, at=recently)
    world.subscribe()
    world.run("--as-of", datetime.now(UTC).isoformat())

    as_json, as_table = world.meter_sync("verify", "--output", "json"), world.meter_sync("verify", "--quiet")

    (one,) = as_json.document["unbilled_subjects"]
    assert (as_json.code, as_table.code) == (4, 4)
    assert one.keys() == {"account", "meter", "subject", "usage", "since"}
    assert (one["meter"], one["subject"], one["usage"]) == (METER, "cus_nobody\x1b[2J", "7")
    assert "nobody bills 7 of meter api_requests" in as_table.stdout
    assert "ignore_subjects" in as_table.stdout
    assert "\x1b[2J" not in as_table.stdout


# -- usage that no filter lets through ---------------------------------------------------------------

GB = "gb"


@pytest.fixture
def priced_by_region(world: World) -> World:
    """A meter with two dimensions, and a price in the EU of large models only."""
    world.openmeter.add_meter(GB, group_by={"region": "$.region", "model": "$.model"})
    world.configure(
        f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{GB}"\n'
        'filter = { model = ["large", "huge"], region = "eu" }\n[verify]\nignore_subjects = ["test-*"]\n'
    )
    return world


def use_in(world: World, subject: str, value: int, **dimensions: str) -> None:
    world.openmeter.add_event(GB, subject, world.now - HOUR, data={"value": value, **dimensions})


def outside(world: World) -> list[tuple[str | None, str | None, int]]:
    done = verified(world)
    assert done.error is None
    assert done.unbilled is not None
    assert done.unbilled.subjects == []
    assert {(one.meter, one.since) for one in done.unbilled.usage} <= {(GB, A_MONTH_AGO)}
    assert done.exit_code is (ExitCode.ATTENTION if done.unbilled.usage else ExitCode.DONE)
    return [(one.values["region"], one.values["model"], int(one.usage or 0)) for one in done.unbilled.usage]


def test_usage_that_a_filter_lets_through_is_not_named(priced_by_region: World) -> None:
    world = priced_by_region
    customer = world.customer_of(world.subscribe())
    use_in(world, customer, 5, region="eu", model="large")
    use_in(world, customer, 6, region="eu", model="huge")
    world.execute()

    assert outside(world) == []


def test_a_value_that_is_new_missing_or_written_otherwise_is_named_with_its_usage(priced_by_region: World) -> None:
    world = priced_by_region
    one, other = (world.customer_of(world.subscribe()) for _ in range(2))
    use_in(world, one, 5, region="eu", model="large")
    use_in(world, one, 1, region="EU", model="large")
    use_in(world, other, 2, region="EU", model="large")
    use_in(world, one, 4, region="eu", model="tiny")
    use_in(world, one, 8, region="eu")
    world.execute()

    assert outside(world) == [("eu", None, 8), ("EU", "large", 3), ("eu", "tiny", 4)]


def test_what_the_filter_of_any_row_lets_through_is_not_named(priced_by_region: World) -> None:
    world = priced_by_region
    world.config.write_text(
        world.config.read_text("utf-8")
        + f'[[meters]]\nprice = "price_us"\nopenmeter = "{GB}"\nfilter = {{ region = "us" }}\n',
        "utf-8",
    )
    customer = world.customer_of(world.subscribe())
    use_in(world, customer, 5, region="us", model="tiny")
    use_in(world, customer, 6, region="asia", model="tiny")
    world.execute()

    assert outside(world) == [("asia", "tiny", 6)]


def test_where_one_row_takes_all_of_a_meter_nothing_is_outside(priced_by_region: World) -> None:
    world = priced_by_region
    whole = world.stripe.add_price(metadata={"om_meter_id": GB})
    customer = world.customer_of(world.subscribe(whole))
    use_in(world, customer, 5, region="asia")
    world.execute()

    assert outside(world) == []


def test_usage_of_ignored_subjects_is_not_named_either(priced_by_region: World) -> None:
    world = priced_by_region
    world.subscribe(customer=world.stripe.add_customer(id="test-1"))
    use_in(world, "test-1", 5, region="asia")

    assert outside(world) == []


def test_the_command_prints_the_values_that_are_not_let_through(priced_by_region: World) -> None:
    world, recently = priced_by_region, datetime.now(UTC) - HOUR
    customer = world.customer_of(world.subscribe())
    world.openmeter.add_event(GB, customer, recently, data={"value": 7, "region": "EU", "model": "large"})
    world.run("--as-of", datetime.now(UTC).isoformat())

    as_json, as_table = world.meter_sync("verify", "--output", "json"), world.meter_sync("verify")

    (one,) = as_json.document["unbilled_usage"]
    assert (as_json.code, as_table.code, as_json.document["unbilled_subjects"]) == (4, 4, [])
    assert one.keys() == {"account", "meter", "values", "usage", "since"}
    assert (one["meter"], one["values"], one["usage"]) == (GB, {"region": "EU", "model": "large"}, "7")
    assert "no filter lets through 7 of meter gb" in as_table.stdout
    assert "region = 'EU'" in as_table.stdout
