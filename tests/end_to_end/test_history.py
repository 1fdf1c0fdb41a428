"""`meter-sync history`: what was billed and why, and what was left unbilled until a person has settled it."""

import csv
import io
import json
from datetime import timedelta
from typing import Any

import filelock
import pytest

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.selection import Selection
from meter_sync.core.text import utc
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, by_tier, end_of, metered, subscribed
from tests.support.world import METER, NOW, PERIOD_START, World

START = "2025-06-01T09:30:17Z"
HOUR = timedelta(hours=1)


@pytest.fixture(params=by_tier(ALL_WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def told(world: World, *arguments: str) -> Any:
    """What `meter-sync history` says for programs."""
    done = world.meter_sync("history", "--output", "json", *arguments)
    document = done.document
    assert (done.code, document.pop("error"), bool(document.pop("version"))) == (0, None, True)
    (found,) = document.values()
    return found


def explained(world: World, name: str, *arguments: str) -> dict[str, list[str]]:
    """The sentences about an item by their topics."""
    (one,) = told(world, "--explain", name, *arguments)
    topics = [sentence["topic"] for sentence in one["sentences"]]
    return {topic: [line["text"] for line in one["sentences"] if line["topic"] == topic] for topic in topics}


def named_by_stripe(world: World) -> list[str]:
    """Stripe's names for the requests that wrote something: the sandbox counts all that it answers."""
    answered = [one for one in world.sandbox.requests if one.server == "stripe" and one.status is not None]
    return [f"req_1Sandbox{number:08d}" for number, one in enumerate(answered, start=1) if one.method == "POST"]


# -- runs --------------------------------------------------------------------------------------------


def test_without_a_selector_the_last_runs_are_listed_the_newest_first(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.execute()
    world.sandbox.clock.advance(timedelta(minutes=1))
    world.execute(selection=Selection(customers=(world.customer_of(subscription),)))
    world.run("--dry-run")
    newest, oldest = told(world)
    assert (newest["everything"], newest["counts"]) == (False, {"unchanged": 1})
    assert (oldest["everything"], oldest["counts"], oldest["exit_code"]) == (True, {"reported": 1}, 0)
    assert oldest["as_of"] == oldest["finished_at"] == "2025-06-10T12:00:00Z"
    assert [one["run"] for one in told(world, "--limit", "1")] == [newest["run"]]
    table = world.meter_sync("history").stdout.splitlines()
    assert "1 reported" in table[2]
    rows = list(csv.DictReader(io.StringIO(world.meter_sync("history", "--output", "csv").stdout)))
    assert [row["counts"] for row in rows] == ["1 unchanged", "1 reported"]


def test_a_run_that_was_killed_is_shown_as_unfinished(world: World) -> None:
    world.use(world.subscribe(), 5)
    world.sandbox.faults.add(Fault(method="POST", path="/usage_records$", delay_seconds=60))
    process = world.start("run", METER_SYNC_RETRY_SECONDS="60")
    world.sandbox.wait_for("POST", "/query")
    process.kill()
    process.communicate()
    (one,) = told(world)
    assert (one["finished_at"], one["exit_code"]) == (None, None)
    assert "unfinished" in world.meter_sync("history").stdout


def test_of_a_time_without_a_run_it_says_so(world: World) -> None:
    world.subscribe()
    world.execute()
    earlier = ("--until", utc(NOW - HOUR))
    assert world.meter_sync("history", *earlier).stdout == "The ledger knows of no run then.\n"
    assert told(world, *earlier) == []


# -- what happened to an item ------------------------------------------------------------------------


def test_why_a_customer_is_billed_what_it_is_takes_one_command(world: World, way: str) -> None:
    """For each kind of price, from the usage to Stripe's name for the request, and without any request."""
    subscription = subscribed(world, way)
    world.use(subscription, 7)
    world.execute()
    world.sandbox.clock.advance(HOUR)
    world.use(subscription, 5, at=NOW - 3 * HOUR)
    world.execute()
    before = len(world.sandbox.requests)

    said = explained(world, world.customer_of(subscription))

    assert said["result"] == ["Stripe holds 12 for this period, by its own last answer"]
    assert said["counts from"] == [f"{START}, the start of the period"]
    assert said["query"] == [
        f"OpenMeter's meter {METER}, of {world.customer_of(subscription)}, from {START} up to and without "
        "2025-06-10T13:00:00Z"
    ]
    assert (said["usage"], said["quantity"], said["before"]) == (["12"], ["12, rounded (floor) to 12"], ["7"])
    assert [text[:39] for text in said["write"]] == [
        "2025-06-10T12:00:00Z: 7 in place of 0, ",
        "2025-06-10T13:00:00Z: 12 in place of 7,",
    ]
    names = named_by_stripe(world)
    assert [name in text for name, text in zip(names, said["write"], strict=True)] == [True, True]
    assert len(world.sandbox.requests) == before
    table = world.meter_sync("history", "--explain", subscription.items[0]).stdout
    assert [line.split(":")[0] for line in table.splitlines()][:4] == ["item", "price", "period", "result"]


def test_every_write_is_listed_with_times_numbers_run_and_request(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    for value in (7, 5):
        world.use(subscription, value, at=NOW - 2 * HOUR)
        world.execute()
        world.sandbox.clock.advance(HOUR)
    other = world.subscribe()
    world.use(other, 1)
    world.execute()

    found = told(world, "--item", subscription.items[0])

    assert [one["kind"] for one in found] == ["write", "write"]
    assert [(one["previous"], one["quantity"], one["usage"]) for one in found] == [("0", "7", "7"), ("7", "12", "12")]
    assert [one["acknowledged_at"] for one in found] == ["2025-06-10T12:00:00Z", "2025-06-10T13:00:00Z"]
    assert [one["request_id"] for one in found] == named_by_stripe(world)[:2]
    assert [one["run"] for one in found] == [run["run"] for run in reversed(told(world)[1:])]
    assert {(one["customer"], one["meter"], one["period_start"]) for one in found} == {
        (world.customer_of(subscription), METER, START)
    }


def test_selectors_are_joined_by_or_within_a_kind_and_by_and_between(world: World) -> None:
    first, second = world.subscribe(), world.subscribe()
    for subscription in (first, second):
        world.use(subscription, 5)
    world.execute()
    one, two = (world.customer_of(subscription) for subscription in (first, second))
    assert len(told(world, "--customer", one)) == 1
    assert len(told(world, "--customer", one, "--customer", two)) == 2
    assert len(told(world, "--meter", METER)) == 2
    assert [row["subscription"] for row in told(world, "--meter", METER, "--subscription", first.id)] == [first.id]
    neither = world.meter_sync("history", "--customer", one, "--item", second.items[0], "--output", "json")
    assert (neither.code, neither.error_code) == (1, "nothing_selected")


@pytest.mark.parametrize("selector", ["--customer", "--subscription", "--item", "--meter", "--explain"])
def test_a_selector_that_matches_nothing_is_an_error(world: World, selector: str) -> None:
    world.use(world.subscribe(), 5)
    world.execute()
    done = world.meter_sync("history", selector, "no_such", "--output", "json")
    assert (done.code, done.error_code) == (1, "nothing_selected")
    assert "no_such" in done.stderr
    assert selector == "--explain" or "known are" in done.document["error"]["hint"]


def test_what_happened_can_be_narrowed_in_time(world: World) -> None:
    subscription = world.subscribe()
    for _ in range(3):
        world.use(subscription, 1, at=NOW - HOUR)
        world.execute()
        world.sandbox.clock.advance(HOUR)
    between = ("--since", "2025-06-10T13:00:00Z", "--until", "2025-06-10T14:00:00Z")
    assert [one["quantity"] for one in told(world, "--item", subscription.items[0], *between)] == ["2"]
    assert [one["started_at"] for one in told(world, *between)] == ["2025-06-10T13:00:00Z"]


# -- what held it ------------------------------------------------------------------------------------


def test_what_a_brake_held_stands_among_the_writes_once_for_all_runs_that_said_so(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 7)
    world.execute()
    world.use(subscription, -2)
    for _ in range(3):
        world.sandbox.clock.advance(HOUR)
        world.execute()
    world.execute(dry_run=True)
    world.sandbox.clock.advance(HOUR)
    world.execute(Reason.DECREASE)

    first, held, last = told(world, "--item", subscription.items[0])

    assert (first["kind"], held["kind"], last["kind"]) == ("write", "hold", "write")
    assert (held["outcome"], held["reason"], held["times"]) == ("held", "decrease", 3)
    assert (held["at"], held["last_at"]) == ("2025-06-10T13:00:00Z", "2025-06-10T15:00:00Z")
    assert (held["previous"], held["quantity"], last["quantity"]) == ("7", "5", "5")
    assert "--allow decrease" in held["message"]
    table = world.meter_sync("history", "--item", subscription.items[0]).stdout
    assert "held (decrease), 3 times" in table
    assert explained(world, subscription.items[0])["held"][0].startswith("3 times from 2025-06-10T13:00:00Z")


def test_an_item_that_was_never_reported_tells_why(world: World) -> None:
    subscription = world.subscribe(world.stripe.add_price())
    world.execute()
    (one,) = told(world, "--customer", world.customer_of(subscription))
    assert (one["outcome"], one["reason"], one["quantity"]) == ("skipped", "no_meter_mapping", None)
    said = explained(world, subscription.items[0])
    assert "what kept it from being reported" in said["result"][0]
    assert "no OpenMeter meter is named" in said["skipped"][0]


def test_a_write_without_an_answer_is_told_so_and_the_next_one_has_its_own(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 7)
    path = "/(usage_records|meter_events)$"
    world.sandbox.faults.add(Fault(method="POST", path=path, drop="before"))
    world.execute()
    world.sandbox.clock.advance(HOUR)
    world.execute()
    found = told(world, "--item", subscription.items[0])
    lost, failed = found[:2]
    assert (lost["kind"], lost["request_id"]) == ("write", None)
    assert (failed["kind"], failed["reason"]) == ("hold", "stripe_error")
    assert explained(world, subscription.items[0])["result"][0].startswith("Stripe holds 7")
    if way != "additions":
        assert lost["acknowledged_at"] is None
        assert found[2]["request_id"] == named_by_stripe(world)[-1]


def test_a_write_that_stripe_refused_is_not_told_as_taken(world: World) -> None:
    """The end of the period is then looked at anew by the same run, which sends nothing."""
    subscription = world.subscribe()
    world.use(subscription, 7)
    world.execute()
    end = end_of(world, subscription)
    world.use(subscription, 10, at=end - 24 * HOUR)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    writes = [one for one in told(world, "--item", subscription.items[0]) if one["kind"] == "write"]
    assert [(one["quantity"], one["acknowledged_at"] is None) for one in writes] == [("7", False), ("17", True)]
    said = explained(world, subscription.items[0], "--period", START)
    assert said["result"] == ["Stripe holds 7 for this period, by its own last answer; 10 are not billed"]


# -- hours, days and additions -----------------------------------------------------------------------


@pytest.mark.parametrize(("which", "kind"), [("hours", "part"), ("days", "part"), ("additions", "addition")])
def test_hours_days_and_additions_are_listed_when_asked_for(world: World, which: str, kind: str) -> None:
    subscription = metered(world, which)
    world.use(subscription, 7, at=NOW - 72 * HOUR)
    world.execute()
    world.use(subscription, 5, at=NOW - 24 * HOUR)
    world.sandbox.clock.advance(HOUR)
    world.execute()
    plain = told(world, "--item", subscription.items[0])
    found = [one for one in told(world, "--item", subscription.items[0], "--parts") if one["kind"] == kind]
    assert {one["kind"] for one in plain} == {"write"}
    assert [one["quantity"] for one in found] == ["7", "5"]
    assert [one["request_id"] for one in found] == named_by_stripe(world)
    sent = world.seen("POST", "/meter_events")
    assert [one["identifier"] in request.body for one, request in zip(found, sent, strict=True)] == [True, True]


def test_an_item_whose_price_changed_tells_of_each_stretch_by_itself(world: World) -> None:
    subscription = metered(world, "hours")
    item = subscription.items[0]
    world.use(subscription, 3, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.advance(HOUR)
    changed = world.now
    price = world.stripe.state.prices[world.stripe.state.items[item].price]
    world.stripe.change_price(item, world.stripe.add_price(meter=price.meter, metadata={"om_meter_id": METER}))
    world.use(subscription, 4, at=world.now)
    world.sandbox.clock.advance(HOUR)
    world.execute()
    now = explained(world, item)
    assert "when its price changed within Stripe's period that began" in now["counts from"][0]
    assert "Stripe holds 4" in now["result"][0]
    before = explained(world, item, "--period", utc(PERIOD_START))
    assert "3 are not billed" in before["not billed"][0]
    assert before["period"][0].startswith(f"{utc(PERIOD_START)} to {utc(changed)}")


def test_whose_a_stretch_is_that_two_items_could_bill_is_told(world: World) -> None:
    first = metered(world, "additions")
    world.use(first, 3, at=NOW - HOUR)
    world.execute()
    price = world.stripe.state.items[first.items[0]].price
    second = world.subscribe(price, customer=world.customer_of(first), period_start=world.now)
    world.sandbox.clock.advance(HOUR)
    world.execute()
    one, other = (explained(world, each.items[0])["whose"] for each in (first, second))
    assert (
        f"{second.items[0]} could bill the same; reported for this item: 2025-06-01T09:30:17Z to {utc(NOW)}" in one[0]
    )
    assert f"named with this item: {utc(NOW)} to {utc(end_of(world, first))}" in one[1]
    assert f"{first.items[0]} could bill the same" in other[0]


# -- safety ------------------------------------------------------------------------------------------


def test_what_a_server_says_cannot_move_a_terminals_cursor(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 7)
    said = json.dumps({"error": {"message": "\x1b[2J\x1b[31mall is well\nusage: 0", "type": "api_error"}})
    world.sandbox.faults.add(Fault(method="POST", path="/usage_records$", status=400, text=said))
    world.execute()
    for arguments in (("--item", subscription.items[0]), ("--explain", subscription.items[0])):
        shown = world.meter_sync("history", *arguments).stdout
        assert "all is well" in shown
        assert "\x1b" not in shown
        assert "\nusage: 0" not in shown


def test_no_key_is_in_anything_that_it_tells(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 7)
    keys = (world.sandbox.stripe_key, world.sandbox.openmeter_key)
    texts = [json.dumps({"error": {"message": f"you sent {key}"}, "detail": f"you sent {key}"}) for key in keys]
    world.sandbox.faults.add(Fault(method="POST", path="/usage_records$", status=400, text=texts[0]))
    world.execute()
    world.sandbox.faults.add(Fault(server="openmeter", method="POST", path="/query$", status=400, text=texts[1]))
    world.execute()
    assert [one["reason"] for one in told(world, "--item", subscription.items[0]) if one["kind"] == "hold"] == [
        "stripe_error",
        "openmeter_error",
    ]
    for arguments in ((), ("--item", subscription.items[0], "--parts"), ("--explain", subscription.items[0])):
        for output in ("table", "json", "csv"):
            shown = world.meter_sync("history", *arguments, "--output", output)
            assert not [key for key in keys if key in shown.stdout + shown.stderr]
    assert not [key for key in keys if key.encode() in world.ledger.read_bytes()]


# -- pruning -----------------------------------------------------------------------------------------


def test_pruning_says_what_went_and_keeps_everything_of_a_period_that_goes_on(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 7)
    world.execute()
    before = told(world, "--item", subscription.items[0])
    gone = {row["table"]: row["rows"] for row in told(world, "--prune", "90d")}
    assert {"writes", "parts", "additions", "holds", "item_periods", "seen_periods", "runs"} <= gone.keys()
    assert sum(gone.values()) == 0
    assert told(world, "--item", subscription.items[0]) == before
    assert "0 writes" in world.meter_sync("history", "--prune", "90d").stdout


def test_nothing_younger_than_ninety_days_can_be_pruned(world: World) -> None:
    for older_than in ("89d", "0d", "90", "12w", "-400d"):
        assert world.meter_sync("history", "--prune", older_than).code == 2
    assert not world.ledger.exists()


def test_pruning_waits_for_no_run_and_says_to_try_again(world: World) -> None:
    world.subscribe()
    world.execute()
    with filelock.FileLock(f"{world.ledger}.lock"):
        done = world.meter_sync("history", "--prune", "400d", "--output", "json")
    assert (done.code, done.error_code) == (75, "locked")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--unbilled", "--explain", "si_1"),
        ("--prune", "400d", "--unbilled"),
        ("--explain", "si_1", "--customer", "cus_1"),
        ("--parts",),
        ("--period", START),
        ("--limit", "0"),
        ("--note", "x"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_belong_together_are_refused(world: World, arguments: tuple[str, ...]) -> None:
    assert world.meter_sync("history", *arguments).code == 2


# -- what is not billed ------------------------------------------------------------------------------


@pytest.fixture
def left(world: World) -> SubscriptionView:
    """A subscription of whose ended period 10 are not billed."""
    subscription = world.subscribe()
    world.use(subscription, 1, at=NOW - timedelta(hours=1))
    world.execute()
    end = end_of(world, subscription)
    world.use(subscription, 10, at=end - timedelta(days=1))
    world.sandbox.clock.move_to(end + timedelta(hours=2))
    world.execute()
    return subscription


def test_what_was_left_unbilled_is_listed_in_every_output_and_asks_for_a_look(
    world: World, left: SubscriptionView
) -> None:
    before = len(world.sandbox.requests)
    table = world.meter_sync("history", "--unbilled")
    assert (table.code, "10 not billed" in table.stdout, left.items[0] in table.stdout) == (4, True, True)
    (row,) = json.loads(world.meter_sync("history", "--unbilled", "--output", "json").stdout)["unbilled"]
    assert (row["subscription_item"], row["unbilled"], row["period_start"]) == (left.items[0], "10", START)
    (line,) = csv.DictReader(io.StringIO(world.meter_sync("history", "--unbilled", "--output", "csv").stdout))
    assert line["unbilled"] == "10"
    assert len(world.sandbox.requests) == before


def test_what_was_settled_is_listed_no_more_until_more_is_left(world: World, left: SubscriptionView) -> None:
    settled = world.meter_sync("history", "--settle", left.items[0], START, "--note", "invoice item ii_1")
    assert (settled.code, "10 of" in settled.stdout) == (0, True)
    assert world.meter_sync("history", "--unbilled").code == 0
    world.use(left, 3, at=PERIOD_START + timedelta(days=20))
    world.execute()
    assert world.unbilled() == {left.items[0]: 3}


def test_only_what_is_open_can_be_settled_and_only_with_a_note(world: World, left: SubscriptionView) -> None:
    unknown = world.meter_sync("history", "--settle", "si_other", START, "--note", "x")
    assert (unknown.code, "nothing is open of si_other" in unknown.stderr) == (1, True)
    assert world.meter_sync("history", "--settle", left.items[0], START).code == 2
    assert world.meter_sync("history", "--settle", left.items[0], START, "--note", " ").code == 2
    assert world.unbilled() == {left.items[0]: 10}


def test_the_run_says_how_much_is_not_billed_for_programs_too(world: World, left: SubscriptionView) -> None:
    world.use(left, 5, at=PERIOD_START + timedelta(days=20))
    rows = world.run().document["items"]
    assert [row["unbilled"] for row in rows if row["reason"] == "period_closed"] == ["15"]


@pytest.mark.parametrize("key", ["", "sk_test_1", "sk_live_1"])
@pytest.mark.parametrize("mode", ["live", "sandbox"])
def test_the_books_are_those_of_the_ledger_whatever_the_key_is(world: World, mode: str, key: str) -> None:
    """A key of the other mode, or none, must not make it look as if nothing were unbilled."""
    live = "sk_live_51abcdefghijklmn"
    world.stripe.keys[live] = None
    world.use(world.subscribe(), 5)
    done = world.run(**({"STRIPE_API_KEY": live} if mode == "live" else {}))
    assert done.verdict == ("reported", None)

    told = world.meter_sync("history", "--output", "json", STRIPE_API_KEY=key, STRIPE_API_KEY_FILE="/missing")

    assert told.code == 0
    assert [run["run"] for run in told.document["runs"]] == [done.document["run"]["id"]]
