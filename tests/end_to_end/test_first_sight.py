"""An item that the ledger has never seen is looked at in Stripe before its first write."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from meter_sync.sandbox import Fault
from tests.support.world import ANCHOR, METER, World, interrupt

ELSEWHERE = ANCHOR + 3600


def test_a_lost_ledger_costs_requests_and_no_money(world: World, ledger_file: Path) -> None:
    subscription = world.subscribe()
    world.use(subscription, 50)
    world.run()
    ledger_file.unlink()
    world.use(subscription, 7)

    done = world.run()

    assert done.verdict == ("reported", None)
    assert (done.item["previous"], done.item["quantity"]) == ("50", "57")
    assert world.stripe.records(subscription.items[0]) == {ANCHOR: 57}


def test_the_brake_compares_with_stripe_when_the_ledger_is_lost(world: World, ledger_file: Path) -> None:
    subscription = world.subscribe()
    world.use(subscription, 50)
    world.run()
    ledger_file.unlink()
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "20"

    assert world.run().verdict == ("held", "decrease")
    assert world.billed(subscription) == 50


def test_usage_of_another_program_is_found_and_left_as_it_was(world: World) -> None:
    subscription = world.subscribe()
    (item,) = subscription.items
    world.stripe.create_usage_record(item, 30, ELSEWHERE, "set")
    world.stripe.create_usage_record(item, 4, ANCHOR, "set")
    world.use(subscription, 50)

    done = world.run()

    assert (done.code, done.verdict) == (4, ("held", "foreign_usage"))
    assert "30" in done.item["message"]
    assert "50" in done.item["message"]
    assert world.stripe.records(item) == {ELSEWHERE: 30, ANCHOR: 4}


def test_foreign_usage_stays_held_without_being_probed_again(world: World) -> None:
    subscription = world.subscribe()
    world.stripe.create_usage_record(subscription.items[0], 30, ELSEWHERE, "set")
    world.use(subscription, 50)
    world.run()
    world.sandbox.requests.clear()

    assert world.run("-n").verdict == ("held", "foreign_usage")
    assert world.run().verdict == ("held", "foreign_usage")
    assert not world.writes


def test_foreign_usage_that_is_gone_lifts_the_hold(world: World) -> None:
    subscription = world.subscribe()
    world.stripe.create_usage_record(subscription.items[0], 30, ELSEWHERE, "set")
    world.use(subscription, 50)
    world.run()
    world.stripe.create_usage_record(subscription.items[0], 0, ELSEWHERE, "set")

    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == 50


def test_allowed_foreign_usage_is_topped_up_to_the_whole_for_the_rest_of_the_period(world: World) -> None:
    subscription = world.subscribe()
    (item,) = subscription.items
    world.stripe.create_usage_record(item, 30, ELSEWHERE, "set")
    world.use(subscription, 50)

    assert world.run("--allow", "foreign_usage").verdict == ("reported", None)
    assert world.stripe.records(item) == {ELSEWHERE: 30, ANCHOR: 20}
    world.use(subscription, 5)
    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == 55


def test_a_run_with_another_ledger_does_not_mislead_what_is_topped_up(world: World) -> None:
    subscription = world.subscribe()
    (item,) = subscription.items
    world.use(subscription, 100)
    world.run()
    world.stripe.create_usage_record(item, 50, ELSEWHERE, "set")
    other_ledger = {"METER_SYNC_LEDGER": str(world.folder / "other" / "ledger.sqlite3")}
    world.use(subscription, 100)
    assert world.run(**other_ledger).verdict == ("held", "foreign_usage")
    world.use(subscription, 200)
    assert world.run().verdict == ("reported", None)

    lifted = world.run("--allow", "foreign_usage", "--allow", "decrease", **other_ledger)

    assert lifted.verdict == ("reported", None)
    assert world.billed(subscription) == 400


def test_a_hold_may_be_lifted_after_the_fact(world: World) -> None:
    subscription = world.subscribe()
    world.stripe.create_usage_record(subscription.items[0], 30, ELSEWHERE, "set")
    world.use(subscription, 50)
    world.run()

    assert world.run("--allow", "foreign_usage").verdict == ("reported", None)
    assert world.billed(subscription) == 50


@pytest.mark.parametrize("aggregate_usage", ["last_during_period", "max"])
def test_a_price_that_does_not_add_up_is_not_topped_up(world: World, aggregate_usage: str) -> None:
    world.openmeter.add_meter("seats", aggregation="LATEST")
    price = world.stripe.add_price(
        aggregate_usage=aggregate_usage,  # type: ignore[arg-type]
        metadata={"om_meter_id": "seats"},
    )
    subscription = world.subscribe(price)
    world.stripe.create_usage_record(subscription.items[0], 30, ELSEWHERE, "set")
    world.use(subscription, 20, meter="seats")

    done = world.run("--allow", "foreign_usage")

    assert (done.code, done.verdict) == (4, ("held", "foreign_usage"))
    assert world.billed(subscription) == 30


def test_an_interrupted_look_is_finished_by_the_next_run(world: World) -> None:
    subscription = world.subscribe()
    (item,) = subscription.items
    world.stripe.create_usage_record(item, 30, ELSEWHERE, "set")
    world.stripe.create_usage_record(item, 4, ANCHOR, "set")
    world.use(subscription, 50)
    world.sandbox.faults.add(Fault(server="stripe", path="usage_record_summaries", skip=1, times=None, drop="before"))
    broken = world.run(METER_SYNC_RETRY_SECONDS="0.1")
    assert (broken.code, broken.verdict) == (1, ("failed", "stripe_error"))
    assert world.stripe.records(item) == {ELSEWHERE: 30, ANCHOR: 50}
    world.sandbox.faults.clear()

    assert world.run().verdict == ("held", "foreign_usage")
    assert world.stripe.records(item) == {ELSEWHERE: 30, ANCHOR: 4}


@pytest.mark.parametrize("now_says", ["49", "1e300", "50"])
def test_whatever_is_thought_of_an_item_now_an_interrupted_look_is_finished_first(world: World, now_says: str) -> None:
    subscription = world.subscribe()
    (item,) = subscription.items
    world.stripe.create_usage_record(item, 30, ELSEWHERE, "set")
    world.use(subscription, 50)
    world.sandbox.faults.add(Fault(server="stripe", path="usage_record_summaries", skip=1, times=None, drop="before"))
    world.run(METER_SYNC_RETRY_SECONDS="0.1")
    assert world.billed(subscription) == 80
    world.sandbox.faults.clear()
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = now_says

    assert world.run().code == 4
    assert world.billed(subscription) == 30


def test_a_signal_does_not_leave_a_look_half_done(world: World) -> None:
    subscription = world.subscribe()
    world.stripe.create_usage_record(subscription.items[0], 30, ELSEWHERE, "set")
    world.use(subscription, 50)
    world.sandbox.latency.stripe_read = 0.3
    process = world.start("run", "--output", "json", "--as-of", world.now.isoformat())
    world.sandbox.wait_for("POST", "/usage_records")

    ended = interrupt(process)

    assert ended.verdict == ("held", "foreign_usage")
    assert world.billed(subscription) == 30


def test_the_next_period_of_a_topped_up_item_is_looked_at_again(world: World) -> None:
    subscription = world.subscribe()
    (item,) = subscription.items
    world.stripe.create_usage_record(item, 30, ELSEWHERE, "set")
    world.use(subscription, 50)
    world.run("--allow", "foreign_usage")
    world.run()
    world.sandbox.clock.move_to(datetime(2025, 7, 2, 9, 30, 17, tzinfo=UTC))
    world.stripe.create_usage_record(item, 30, int(world.now.timestamp()) - 60, "set")
    world.use(subscription, 50)

    assert world.run().verdict == ("held", "foreign_usage")
    assert world.billed(subscription) == 30


@pytest.mark.parametrize("start", ["1751362217", "null"])
def test_a_total_below_what_was_just_set_says_nothing_of_this_period(world: World, start: str) -> None:
    subscription = world.subscribe()
    (item,) = subscription.items
    world.stripe.create_usage_record(item, 100, ANCHOR, "set")
    world.use(subscription, 120)
    next_period = f'{{"data": [{{"total_usage": 0, "period": {{"start": {start}, "end": null}}}}], "has_more": false}}'
    world.sandbox.faults.add(
        Fault(
            server="stripe",
            path="usage_record_summaries",
            skip=1,
            times=None,
            replace_text=next_period,
            replace_content_type="application/json",
        )
    )

    assert world.run().verdict == ("failed", "stripe_error")
    assert world.stripe.records(item) == {ANCHOR: 120}


def test_one_summary_that_is_not_understood_is_its_items_own_matter(world: World) -> None:
    odd, healthy = world.subscribe(), world.subscribe()
    for subscription in (odd, healthy):
        world.use(subscription, 5)
    world.sandbox.faults.add(
        Fault(
            server="stripe",
            path=f"{odd.items[0]}/usage_record_summaries",
            times=None,
            replace_text='{"data": [{"total_usage": "many"}], "has_more": false}',
            replace_content_type="application/json",
        )
    )

    done = world.run()

    assert done.code == 3
    assert (world.billed(odd), world.billed(healthy)) == (0, 5)


def test_a_customer_without_usage_is_looked_at_once(world: World) -> None:
    world.subscribe()

    assert world.run().verdict == ("unchanged", None)
    assert world.run().verdict == ("unchanged", None)
    assert len(world.seen("GET", "/usage_record_summaries")) == 1
    assert not world.writes
