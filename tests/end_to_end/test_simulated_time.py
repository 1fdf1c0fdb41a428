"""`--test-clock`: what is on a test clock of Stripe's is reported at its time, and nothing else knows of it."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from meter_sync.core.outcomes import ExitCode
from meter_sync.ledger import Scope, run_lock
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.protocol.permissions import EVERY_PERMISSION
from meter_sync.sandbox.stripe.world import SubscriptionView
from meter_sync.webhook.reporting import reporter
from tests.support import runs
from tests.support.ways import ALL_WAYS, NOT_FOUND, end_of, invoiced, one_fast, subscribed
from tests.support.world import NOW, Outcome, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PAST, FUTURE = datetime.fromisoformat("2023-02-11T12:00:00Z"), datetime.fromisoformat("2131-02-11T12:00:00Z")
"""Before and after the time of day of whatever machine this runs on."""
CLOCKS = "/v1/test_helpers/test_clocks"
EITHER = pytest.mark.parametrize("frozen_time", [PAST, FUTURE], ids=["past", "future"])
COMMANDS = pytest.mark.parametrize("command", [["run"], ["run", "--dry-run"], ["verify"]], ids=" ".join)


def on_clock(
    world: World, frozen_time: datetime, way: str = "record", clock: str | None = None
) -> tuple[str, SubscriptionView]:
    """Return a test clock, and a subscription that began on it ten days before its time."""
    clock = clock or world.stripe.add_test_clock(frozen_time)
    customer = world.stripe.add_customer(test_clock=clock)
    return clock, subscribed(world, way, customer=customer, period_start=frozen_time - 10 * DAY)


def at_clock(world: World, clock: str, *arguments: str, command: str = "run", **overrides: str) -> Outcome:
    return world.meter_sync(command, "--output", "json", "--test-clock", clock, *arguments, **overrides)


def logged(outcome: Outcome, event: str) -> list[dict[str, Any]]:
    """What was logged of an event."""
    entries = [json.loads(line) for line in outcome.stderr.splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry["event"] == event]


def told(outcome: Outcome) -> list[tuple[str, str, str | None]]:
    """Which items a run found, and what became of them."""
    rows = outcome.document["items"]
    return [(row["subscription_item"], row["outcome"], row["quantity"]) for row in rows]


# -- a run at its time ------------------------------------------------------------------------------


@EITHER
@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_usage_until_the_clocks_time_is_reported_and_later_usage_is_not(
    world: World, frozen_time: datetime, way: str
) -> None:
    clock, subscription = on_clock(world, frozen_time, way)
    world.use(subscription, 5, at=frozen_time - 30 * HOUR)
    world.use(subscription, 70, at=frozen_time + 30 * HOUR)

    first, again = at_clock(world, clock), at_clock(world, clock)

    assert (first.code, again.code) == (0, 0), first.stderr + again.stderr
    assert told(first) == [(subscription.items[0], "reported", "5")]
    assert told(again) == [(subscription.items[0], "unchanged", "5")]
    assert world.billed(subscription) == 5
    times = {first.document["run"][name] for name in ("as_of", "started_at", "finished_at")}
    assert times == {frozen_time.isoformat().replace("+00:00", "Z")}


@EITHER
@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_the_rest_of_a_period_is_billed_after_the_clock_was_moved_over_its_end(
    world: World, frozen_time: datetime, way: str
) -> None:
    clock, subscription = on_clock(world, frozen_time, way)
    end = end_of(world, subscription)
    world.use(subscription, 5, at=frozen_time - HOUR)
    assert at_clock(world, clock).code == 0
    world.use(subscription, 30, at=end - 25 * HOUR)
    world.use(subscription, 2, at=end + timedelta(seconds=50))

    world.stripe.advance_test_clock(clock, end + timedelta(minutes=3))
    after = at_clock(world, clock)

    assert after.code == 0, after.stdout
    assert not logged(after, "run_missed")
    assert invoiced(world) == 35
    assert world.billed(subscription) == 2


def test_what_was_canceled_on_a_clock_between_two_runs_is_named(world: World) -> None:
    clock, _ = on_clock(world, FUTURE, "hours")
    assert at_clock(world, clock).code == 0
    world.stripe.advance_test_clock(clock, FUTURE + DAY)
    _, never_seen = on_clock(world, FUTURE + DAY, "record", clock)
    world.use(never_seen, 7, at=FUTURE)
    world.stripe.cancel(never_seen.id)

    world.stripe.advance_test_clock(clock, FUTURE + 2 * DAY)
    after = at_clock(world, clock)

    assert after.items[never_seen.items[0]]["unbilled"] == "7"
    assert after.code == ExitCode.ATTENTION


def test_a_period_that_a_new_ledger_never_saw_is_found_by_its_draft(world: World) -> None:
    clock, subscription = on_clock(world, PAST, "hours")
    end = end_of(world, subscription)
    world.use(subscription, 5, at=PAST)

    world.stripe.advance_test_clock(clock, end + timedelta(minutes=3))

    assert at_clock(world, clock).code == 0
    assert invoiced(world) == 5


def test_rejections_that_stripe_only_counts_are_noticed_on_a_clock_in_the_past(world: World) -> None:
    clock, subscription = on_clock(world, PAST, "last")
    world.use(subscription, 5, at=PAST - HOUR)
    world.stripe.samples_per_error = 0
    world.stripe.reject_meter_events_as = NOT_FOUND
    assert at_clock(world, clock).item["outcome"] == "reported"
    world.stripe.reject_meter_events_as = None

    told_of, after = at_clock(world, clock), at_clock(world, clock)

    assert told_of.verdict == ("held", "rejected")
    assert after.verdict == ("reported", None)
    assert world.billed(subscription) == 5


def test_selectors_choose_among_what_is_on_the_clock(world: World) -> None:
    clock, chosen = on_clock(world, PAST)
    _, other = on_clock(world, PAST, "record", clock)
    ordinary = world.subscribe()
    elsewhere = on_clock(world, PAST)[1]
    for selector in (
        ["--customer", world.customer_of(chosen)],
        ["--subscription", chosen.id],
        ["--price", world.price, "--customer", world.customer_of(chosen)],
    ):
        assert list(at_clock(world, clock, *selector).items) == chosen.items
    assert sorted(at_clock(world, clock, "--price", world.price).items) == sorted([*chosen.items, *other.items])
    for one in (ordinary, elsewhere):
        for selector in (["--customer", world.customer_of(one)], ["--subscription", one.id]):
            missed = at_clock(world, clock, *selector)
            assert (missed.code, missed.error_code) == (ExitCode.FAILED, "nothing_selected")


def test_a_dry_run_shows_the_plan_at_the_clocks_time_and_writes_nothing(world: World) -> None:
    clock, subscription = on_clock(world, PAST)
    world.use(subscription, 5, at=PAST - HOUR)

    planned = at_clock(world, clock, "--dry-run")

    assert told(planned) == [(subscription.items[0], "planned", "5")]
    assert not world.writes
    assert not world.ledger.exists()


def test_every_request_is_counted(world: World) -> None:
    clock, _ = on_clock(world, PAST)

    counted = at_clock(world, clock).document["summary"]["stripe_requests"]

    assert counted == len([one for one in world.sandbox.requests if one.server == "stripe"])


# -- what is refused --------------------------------------------------------------------------------


@COMMANDS
def test_a_live_key_is_refused_before_anything_is_read(world: World, command: list[str]) -> None:
    refused = world.meter_sync(
        *command, "--output", "json", "--test-clock", "clock_1", STRIPE_API_KEY="sk_live_51abcdefghijklmn"
    )

    assert (refused.code, refused.error_code) == (ExitCode.ARGUMENTS, "arguments")
    assert "--test-clock" in refused.stderr
    assert not world.sandbox.requests
    assert not world.ledger.exists()


@COMMANDS
def test_a_clock_of_live_mode_is_refused_whatever_the_key_is_called(world: World, command: list[str]) -> None:
    """An organization's key does not say its mode."""
    clock, _ = on_clock(world, PAST)
    live = Fault(
        server="stripe",
        path=f"{CLOCKS}/{clock}$",
        rewrite=lambda body: body.replace('"livemode": false', '"livemode": true').encode(),
    )
    world.sandbox.faults.add(live)

    refused = world.meter_sync(*command, "--output", "json", "--test-clock", clock)

    assert (refused.code, refused.error_code) == (ExitCode.ARGUMENTS, "arguments")
    assert not world.writes


@pytest.mark.parametrize("option", [["--as-of", NOW.isoformat()], ["--closing", "3m"]], ids=lambda one: one[0])
def test_options_that_say_another_now_are_refused(world: World, option: list[str]) -> None:
    refused = at_clock(world, "clock_1", *option)

    assert refused.code == ExitCode.ARGUMENTS
    assert "--test-clock says what now is" in refused.stderr
    assert not world.sandbox.requests


def test_what_cannot_be_an_id_is_refused(world: World) -> None:
    for odd in ("", "clock_1/advance", "clock 1", "x" * 201):
        assert at_clock(world, odd).code == ExitCode.ARGUMENTS
    assert not world.sandbox.requests


@COMMANDS
def test_a_clock_that_does_not_exist_is_an_error(world: World, command: list[str]) -> None:
    missing = world.meter_sync(*command, "--output", "json", "--test-clock", "clock_none")

    assert (missing.code, missing.error_code) == (ExitCode.FAILED, "nothing_selected")


@COMMANDS
def test_a_clock_that_is_being_moved_is_waited_for(world: World, command: list[str]) -> None:
    clock, subscription = on_clock(world, PAST)
    world.use(subscription, 5, at=PAST - HOUR)
    world.stripe.state.test_clocks[clock].status = "advancing"

    busy = world.meter_sync(*command, "--output", "json", "--test-clock", clock)

    assert (busy.code, busy.error_code) == (ExitCode.TRY_AGAIN, "test_clock_busy")
    assert not world.writes


@COMMANDS
def test_a_key_that_may_not_read_the_clock_is_told_so(world: World, command: list[str]) -> None:
    clock, _ = on_clock(world, PAST)
    key = world.stripe.add_restricted_key("rk_test_1", EVERY_PERMISSION - {"test_clocks:read", "test_clocks:write"})

    lacking = world.meter_sync(*command, "--output", "json", "--test-clock", clock, STRIPE_API_KEY=key)

    assert (lacking.code, lacking.error_code) == (ExitCode.CONFIGURATION, "stripe_permission")
    assert "rak_billing_clock_read" in lacking.stderr


@COMMANDS
def test_this_machines_clock_is_still_held_against_stripes(world: World, command: list[str]) -> None:
    clock, _ = on_clock(world, PAST)
    world.sandbox.date_skew_seconds = 300

    wrong = world.meter_sync(*command, "--output", "json", "--test-clock", clock)

    assert (wrong.code, wrong.error_code) == (ExitCode.CONFIGURATION, "clock")


def test_the_run_lock_is_the_same(world: World) -> None:
    clock, _ = on_clock(world, PAST)
    with run_lock(world.ledger, Scope("", "sandbox")):
        locked = at_clock(world, clock)

    assert (locked.code, locked.error_code) == (ExitCode.TRY_AGAIN, "locked")


# -- beside ordinary runs ---------------------------------------------------------------------------


def test_an_ordinary_full_run_does_not_see_them_and_says_how_many(world: World) -> None:
    clock, _ = on_clock(world, PAST)
    on_clock(world, PAST, "hours", clock)
    other, _ = on_clock(world, FUTURE)
    world.stripe.add_test_clock(PAST)
    unmetered = world.stripe.add_price(usage_type="licensed")
    world.subscribe(unmetered, customer=world.stripe.add_customer(test_clock=clock))
    ordinary = world.subscribe()

    for arguments in ([], ["--dry-run"]):
        done = world.run(*arguments)
        (said,) = logged(done, "test_clocks_unseen")
        assert list(done.items) == ordinary.items
        assert (said["level"], said["subscriptions"], said["is_all"]) == ("warning", 3, True)
        assert said["test_clocks"] == sorted([clock, other])
        seen = [one for one in world.sandbox.requests if one.server == "stripe"]
        assert done.document["summary"]["stripe_requests"] == len(seen)
        world.sandbox.requests.clear()


def test_without_test_clocks_nothing_is_said_for_one_request(world: World) -> None:
    world.subscribe()

    done = world.run()

    assert done.code == 0
    assert not logged(done, "test_clocks_unseen")
    assert [one.query for one in world.seen("GET", CLOCKS)] == ["limit=100"]


def test_of_many_clocks_the_newest_are_looked_at(world: World) -> None:
    on_clock(world, PAST)
    for _ in range(9):
        world.stripe.add_test_clock(PAST)
    assert [one["is_all"] for one in logged(world.run(), "test_clocks_unseen")] == [True]
    on_clock(world, PAST)

    (said,) = logged(world.run(), "test_clocks_unseen")

    assert (said["subscriptions"], said["is_all"]) == (1, False)


def test_only_full_runs_in_a_sandbox_ask(world: World) -> None:
    clock, _ = on_clock(world, PAST)
    ordinary = world.subscribe()
    world.stripe.keys["sk_live_51abcdefghijklmn"] = None

    done = [
        world.run("--subscription", ordinary.id),
        at_clock(world, clock),
        world.run(
            STRIPE_API_KEY="sk_live_51abcdefghijklmn", METER_SYNC_LEDGER=str(world.folder / "live" / "ledger.sqlite3")
        ),
    ]

    assert [one.code for one in done] == [0, 0, 0]
    assert not world.seen("GET", CLOCKS)


@pytest.mark.parametrize("status", [403, 500])
def test_what_is_not_known_of_them_changes_no_run(world: World, status: int) -> None:
    on_clock(world, PAST)
    ordinary = world.subscribe()
    world.use(ordinary, 5)
    key = world.sandbox.stripe_key
    if status == 403:
        key = world.stripe.add_restricted_key("rk_test_1", EVERY_PERMISSION - {"test_clocks:read", "test_clocks:write"})
    else:
        world.sandbox.faults.add(Fault(server="stripe", path=f"{CLOCKS}$", times=None, status=status))

    done = world.run(STRIPE_API_KEY=key)

    assert world.seen("GET", CLOCKS)[0].status == status
    assert (done.code, told(done)) == (0, [(ordinary.items[0], "reported", "5")])
    assert not logged(done, "test_clocks_unseen")


@EITHER
@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_ordinary_runs_and_those_of_a_clock_do_not_know_of_each_other(
    world: World, frozen_time: datetime, way: str
) -> None:
    """Both customers are one and the same in OpenMeter, and on one Stripe meter."""
    world.configure('[mapping]\nsubject = "customer.metadata.tenant"\n')
    tenant = {"tenant": "acme"}
    ordinary = subscribed(world, way, customer=world.stripe.add_customer(metadata=tenant))
    price = world.stripe.state.items[ordinary.items[0]].price
    clock = world.stripe.add_test_clock(frozen_time)
    simulated = world.subscribe(
        price,
        customer=world.stripe.add_customer(metadata=tenant, test_clock=clock),
        period_start=frozen_time - 10 * DAY,
    )
    world.use("acme", 5, at=NOW - 30 * HOUR)
    world.use("acme", 70, at=frozen_time - 30 * HOUR)

    first, between = world.run(), at_clock(world, clock)
    again, once_more = world.run(), at_clock(world, clock)

    assert [one.code for one in (first, between, again, once_more)] == [0] * 4, again.stdout
    assert told(first) == [(ordinary.items[0], "reported", "5")]
    assert told(between) == [(simulated.items[0], "reported", "70")]
    assert told(again) == [(ordinary.items[0], "unchanged", "5")]
    assert told(once_more) == [(simulated.items[0], "unchanged", "70")]
    assert not logged(again, "run_missed")
    with world.books() as ledger:
        assert len(ledger.runs.past(None, None, 9)) == 2
        assert [one.item.id for one in ledger.listed.ended(frozen_time.replace(year=3000))] == ordinary.items
    assert world.meter_sync("history", "--customer", world.customer_of(simulated)).code == ExitCode.FAILED


def test_a_customer_on_a_clock_is_not_reported_by_an_ordinary_run_that_names_it(world: World) -> None:
    _, subscription = on_clock(world, NOW + DAY)
    world.use(subscription, 5)

    for selector in (["--customer", world.customer_of(subscription)], ["--subscription", subscription.id]):
        missed = world.run(*selector)
        assert (missed.code, missed.error_code) == (ExitCode.FAILED, "nothing_selected")
        assert "--test-clock" in missed.document["error"]["hint"]
    assert not world.writes


def test_what_ends_on_a_clock_is_no_matter_of_an_ordinary_run(world: World) -> None:
    clock, subscription = on_clock(world, NOW)
    ordinary = world.subscribe()
    world.execute()
    world.use(subscription, 5)
    world.stripe.cancel(subscription.id)
    world.sandbox.clock.advance(HOUR)

    assert list(world.execute()) == ordinary.items
    assert not world.seen("GET", f"/v1/subscriptions/{subscription.id}")
    assert world.run("--subscription", subscription.id).error_code == "nothing_selected"
    with world.books() as ledger:
        assert [one.item.id for one in ledger.listed.ended(FUTURE)] == ordinary.items
    assert at_clock(world, clock).code == 0


def test_a_webhook_about_a_clocks_subscription_reports_nothing(world: World) -> None:
    _, subscription = on_clock(world, NOW)
    world.use(subscription, 5)

    async def report() -> ExitCode:
        return await reporter(runs.settings(world), world.sandbox.clock.now, Stop())(subscription.id)

    assert asyncio.run(report()) is ExitCode.DONE
    assert not world.writes
    with world.books() as ledger:
        assert ledger.listed.ended(FUTURE) == []


# -- verify -----------------------------------------------------------------------------------------


@EITHER
@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_verify_compares_what_is_on_the_clock_at_its_time(world: World, frozen_time: datetime, way: str) -> None:
    clock, subscription = on_clock(world, frozen_time, way)
    ordinary = world.subscribe()
    world.use(ordinary, 3)
    world.use(subscription, 5, at=frozen_time - 30 * HOUR)
    world.use(subscription, 70, at=frozen_time + 30 * HOUR)

    before = at_clock(world, clock, command="verify")
    at_clock(world, clock)
    after = at_clock(world, clock, command="verify")

    assert before.code == ExitCode.ATTENTION
    assert [before.item[name] for name in ("outcome", "reason", "expected", "actual")] == [
        "mismatch",
        "not_reported",
        "5",
        "0",
    ]
    assert (after.code, after.item["outcome"], after.item["actual"]) == (0, "match", "5")
    assert list(after.items) == subscription.items
    assert after.document["run"]["as_of"] == frozen_time.isoformat().replace("+00:00", "Z")


def test_verify_on_a_clock_calls_nobody_elses_usage_unbilled(world: World) -> None:
    clock, subscription = on_clock(world, PAST)
    world.use("nobody", 5, at=PAST - HOUR)
    world.use(subscription, 5, at=PAST - HOUR)
    at_clock(world, clock)

    done = at_clock(world, clock, command="verify")

    assert done.code == 0
    assert done.document["unbilled_subjects"] is None


def test_an_ordinary_verify_does_not_see_what_is_on_a_clock(world: World) -> None:
    on_clock(world, PAST)
    ordinary = world.subscribe()
    world.run()

    done = world.meter_sync("verify", "--output", "json")

    assert list(done.items) == ordinary.items
