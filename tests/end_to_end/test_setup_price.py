"""`meter-sync setup price`: what it makes is billed exactly, and nothing is made twice or changed."""

import os
import pty
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.http.faults import Server
from meter_sync.sandbox.openmeter.api import OpenMeterVersion
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.permissions import FOR_SETUP, Permission
from tests.support.setting_up import EPSILON, METER, SETUP_KEY, actions, made, price, set_up
from tests.support.world import World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALL = ["openmeter_meter", "product", "billing_meter", "price"]
SUM = ("--aggregation", "sum", "--value-property", "$.value")


@pytest.fixture
def world(tmp_path: Path, openmeter_version: OpenMeterVersion) -> Iterator[World]:
    """A sandbox in which it is now, as it is for the command."""
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0), openmeter_version)
    with world.sandbox.in_background():
        yield world


def subscribed(world: World, made_by: Any) -> SubscriptionView:
    """Subscribe a customer since five days ago to the price that was made."""
    (id,) = (step["id"] for step in made_by.document["steps"] if step["kind"] == "price")
    return world.subscribe(id, period_start=world.now - 5 * DAY)


def cents(world: World, subscription: SubscriptionView) -> int:
    """What the next invoice would bill now."""
    (line,) = world.stripe.invoice_preview(subscription.id)
    return int(line.amount_cents)


def billed_exactly(world: World, subscription: SubscriptionView, quantity: int) -> None:
    """Run and verify: Stripe then holds the quantity, and what OpenMeter says."""
    ran = world.run()
    assert (ran.code, ran.item["quantity"]) == (0, str(quantity)), ran.document
    verified = world.meter_sync("verify", "--output", "json")
    assert (verified.code, verified.item["outcome"]) == (0, "match"), verified.document
    assert world.billed(subscription) == quantity


# -- what is made -------------------------------------------------------------------------------------


@pytest.mark.parametrize("openmeter_version", ["v1", "v3"], indirect=True)
def test_what_it_makes_is_billed_exactly(world: World) -> None:
    done = price(world, *SUM)
    assert (done.code, made(done)) == (0, ALL), done.stderr
    subscription = subscribed(world, done)
    # Packages would be rounded up to 9, which is 180 cents.
    for days, used in ((4, 7_500_000), (1, 250_000)):
        world.use(subscription, used, at=world.now - days * DAY, meter=METER)

    billed_exactly(world, subscription, 7_750_000)

    assert cents(world, subscription) == 155
    (meter,) = world.stripe.state.meters
    assert (meter.event_name, meter.formula, meter.window) == (METER, "sum", "hour")


def test_without_saying_how_events_are_counted_one_by_one(world: World) -> None:
    done = price(world, "--per", "1", "--window", "day", "--event-type", "request")
    subscription = subscribed(world, done)
    for hours in range(3):
        world.use(subscription, "any", at=world.now - timedelta(hours=hours + 30), meter="request")

    billed_exactly(world, subscription, 3)

    assert cents(world, subscription) == 60
    assert [meter.window for meter in world.stripe.state.meters] == ["day"]


def test_what_does_not_add_up_is_billed_by_the_periods_total(world: World) -> None:
    done = price(world, "--per", "1", "--aggregation", "max", "--value-property", "$.value")
    subscription = subscribed(world, done)
    for days, seats in ((4, 12), (2, 9)):
        world.use(subscription, seats, at=world.now - days * DAY, meter=METER)

    billed_exactly(world, subscription, 12)

    assert [(meter.formula, meter.window) for meter in world.stripe.state.meters] == [("last", None)]


def test_what_does_not_add_up_is_refused_with_windows(world: World) -> None:
    done = price(world, "--window", "hour", "--aggregation", "max", "--value-property", "$.value")
    assert (done.code, world.writes) == (2, [])
    assert "leave --window out" in done.document["error"]["hint"]


@pytest.mark.parametrize(("mode", "expected"), [("graduated", 0 + 20 + 20), ("volume", 100)])
def test_tiers_cost_what_they_say(world: World, mode: str, expected: int) -> None:
    tiers = ("--tier", "1000000:0", "--tier", "2000000:0.20", "--tier", "inf:0.40", "--tiers", mode)
    given = [word for word in EPSILON if word not in ("--amount", "0.20")]
    done = set_up(world, "price", *given, *tiers, *SUM, "--yes", "--output", "json")
    subscription = subscribed(world, done)
    world.use(subscription, 2_500_000, at=world.now - DAY, meter=METER)

    assert world.run().code == 0

    assert cents(world, subscription) == expected
    again = set_up(world, "price", *given, *tiers, *SUM, "--yes", "--output", "json")
    assert (again.code, set(actions(again).values())) == (0, {"exists"})
    other = set_up(world, "price", *given, *tiers[:-4], "--tier", "inf:0.11", *tiers[-2:], "-n", "--output", "json")
    assert (other.code, actions(other)["price"]) == (1, "differs")


def test_the_metadata_key_is_the_one_that_is_configured(world: World) -> None:
    price(world, METER_SYNC_METER_KEY="meter")
    (made_price,) = [one for one in world.stripe.state.prices if one.lookup_key == METER]
    assert made_price.metadata == {"meter": METER}


# -- what is there ------------------------------------------------------------------------------------


def test_what_is_there_is_left_as_it_is(world: World) -> None:
    price(world)
    before = len(world.writes)

    done = price(world)

    assert (done.code, actions(done), made(done)) == (0, dict.fromkeys(ALL, "exists"), [])
    assert len(world.writes) == before


def test_what_is_there_already_is_used(world: World) -> None:
    world.openmeter.add_meter(METER, aggregation="SUM")
    product = world.stripe.add_product(name="Epsilon")
    world.stripe.add_product(name="Epsilon", active=False)
    meter = world.stripe.add_meter(METER, window="hour")

    done = price(world)

    assert (done.code, made(done)) == (0, ["price"])
    (made_price,) = [one for one in world.stripe.state.prices if one.lookup_key == METER]
    assert (made_price.product, made_price.meter) == (product, meter)


def test_after_an_answer_that_was_lost_the_rest_is_made_and_nothing_twice(world: World) -> None:
    """Stripe, or OpenMeter, carries each request out, and the connection breaks before the answer comes."""
    for path in ("/meters$", "/products$", "/billing/meters$", "/prices$"):
        server = "openmeter" if path == "/meters$" else "stripe"
        world.sandbox.faults.add(Fault(server=server, method="POST", path=path, drop="after"))  # type: ignore[arg-type]

    codes = [price(world).code for _ in range(5)]

    assert codes == [75, 75, 75, 75, 0]
    assert len(world.openmeter.meters) == 2  # the usual one of the world is there too
    assert [len(store) for store in (world.stripe.state.meters, world.stripe.state.products)] == [1, 2]
    assert [one.lookup_key for one in world.stripe.state.prices].count(METER) == 1


def test_what_was_made_before_it_was_cut_off_is_said_and_the_next_time_the_rest_is_made(world: World) -> None:
    world.sandbox.faults.add(Fault(server="stripe", method="POST", path="/prices$", status=503))

    cut_off, rest = price(world), price(world)

    assert (cut_off.code, made(cut_off), cut_off.error_code) == (75, ALL[:-1], "stripe_unreachable")
    assert (rest.code, made(rest)) == (0, ["price"])


def test_where_nobody_answers_nothing_is_made_and_that_is_said(world: World) -> None:
    for server in get_args(Server):
        world.sandbox.faults.clear()
        world.sandbox.faults.add(Fault(server=server, method="GET", drop="before", times=None))
        done = price(world)
        assert (done.code, world.writes, made(done)) == (75, [], [])
        assert "nothing was" in done.document["error"]["message"]


def test_a_creation_is_tried_again_with_the_same_idempotency_key_also_after_a_500(world: World) -> None:
    """And one of OpenMeter's, which has none, finds by then what it made."""
    world.sandbox.faults.add(Fault(server="openmeter", method="POST", path="/meters$", drop="after"))
    world.sandbox.faults.add(Fault(server="stripe", method="POST", path="/products$", status=500, times=2, saved=False))

    assert price(world, METER_SYNC_RETRY_SECONDS="30").code == 0

    keys = [seen.headers["idempotency-key"] for seen in world.seen("POST", "/products")]
    assert (len(keys), len(set(keys))) == (3, 1)


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        (["--amount", "0.30"], "price", "has the amount 0.00002, not 0.00003"),
        (["--currency", "eur"], "price", "has the currency usd, not eur"),
        (["--interval", "year"], "price", "has the interval and usage metered month 1, not metered year 1"),
        (["--name", "Zeta"], "product", "has the name Epsilon, not Zeta"),
        (["--window", "day"], "billing_meter", "has the window hour, not day"),
        (["--event-type", "hit"], "openmeter_meter", f"has the event type {METER}, not hit"),
        (["--aggregation", "sum"], "openmeter_meter", "has the aggregation COUNT, not SUM"),
    ],
)
def test_what_is_there_and_is_another_is_named_and_never_changed(
    world: World, asked: list[str], kind: str, said: str
) -> None:
    price(world)
    before = len(world.writes)

    done = price(world, *asked)

    (step,) = [step for step in done.document["steps"] if step["action"] == "differs"]
    assert (done.code, done.error_code, step["kind"], step["differences"]) == (1, "setup_differs", kind, [said])
    assert len(world.writes) == before


def test_a_price_that_somebody_made_differently_is_refused(world: World) -> None:
    meter = world.stripe.add_meter(METER, window="hour")
    product = world.stripe.add_product(name="Epsilon")
    divided = {"divide_by": 1_000_000, "round": "up"}
    theirs = world.stripe.add_price(
        product=product, meter=meter, unit_amount_decimal="20", transform_quantity=divided, lookup_key=METER
    )
    world.stripe.state.prices[theirs].active = False

    done = price(world)

    said = " ".join(done.document["steps"][-1]["differences"])
    assert (done.code, world.writes) == (1, [])
    for part in ("is archived", "metadata om_meter_id none", "transform_quantity", "amount 20"):
        assert part in said


def test_two_products_of_the_name_are_told_apart_by_the_id(world: World) -> None:
    one, _other = (world.stripe.add_product(name="Epsilon") for _ in range(2))

    refused, named, unknown = price(world), price(world, "--product", one), price(world, "--product", "prod_none")

    assert (refused.code, one in refused.document["error"]["message"]) == (1, True)
    assert (named.code, made(named)) == (0, ["openmeter_meter", "billing_meter", "price"])
    assert (unknown.code, "no product prod_none" in unknown.document["error"]["message"]) == (1, True)


def test_a_row_of_the_configuration_that_maps_it_otherwise_is_named(world: World) -> None:
    world.configure(f'[[meters]]\nlookup_key = "{METER}"\nopenmeter = "other"\n')
    done = price(world)
    assert (done.code, actions(done)["price"], world.writes) == (1, "differs", [])
    assert "[[meters]] row in the configuration that names the meter other" in done.document["error"]["message"]


# -- whether it is made -------------------------------------------------------------------------------


def test_a_dry_run_shows_the_plan_with_the_exact_amounts_and_makes_nothing(world: World) -> None:
    done = set_up(world, "price", *EPSILON, "--dry-run")
    assert (done.code, world.writes, METER in world.openmeter.meters) == (0, [], False)
    assert "1,000,000 epsilon_requests cost 0.20 USD (unit_amount_decimal 0.00002), each month" in done.stdout
    assert done.stdout.startswith(f"Sandbox mode, account {world.stripe.account}:\n")
    assert done.stdout.endswith("Nothing was made.\n")


def test_without_a_terminal_it_does_not_ask_and_makes_nothing(world: World) -> None:
    done = set_up(world, "price", *EPSILON)
    assert (done.code, world.writes, METER in world.openmeter.meters) == (2, [], False)
    assert "--yes" in done.stderr


def test_on_a_terminal_it_asks(world: World) -> None:
    world.stripe.keys[SETUP_KEY] = None
    for answer, code in (("n", 1), ("y", 0)):
        ours, theirs = pty.openpty()
        os.write(ours, f"{answer}\n".encode())
        asking = subprocess.run(
            world.command("setup", "price", *EPSILON),
            env=world.environment(STRIPE_SETUP_API_KEY=SETUP_KEY),
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        os.close(theirs)
        os.close(ours)
        assert asking.returncode == code, asking.stderr
        assert "Carry out 4 of these 4 steps in the sandbox? [y/N]" in asking.stderr
        assert bool(world.writes) == (answer == "y")


def test_a_plan_in_the_live_mode_says_so(world: World) -> None:
    key = world.stripe.add_restricted_key("rk_live_setup", {one.name for one in FOR_SETUP})
    done = set_up(world, "price", *EPSILON, "-n", STRIPE_SETUP_API_KEY=key, STRIPE_API_KEY="")
    assert (done.code, done.stdout.startswith("LIVE mode")) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--per", "3"], "12 decimal places"),
        (["--currency", "ugx"], "UGX"),
        (["--currency", "dollars"], "not a currency"),
        (["--meter", "Epsilon Requests"], "slug"),
        (["--tier", "inf:1"], "either --amount or --tier"),
        (["--tiers", "volume"], "there is none"),
        (["--amount", "-1"], "not an amount"),
        (["--aggregation", "sum"], "--value-property"),
        (["--value-property", "$.n"], "--aggregation"),
    ],
)
def test_what_makes_no_price_is_refused_before_anything_is_made(world: World, arguments: list[str], said: str) -> None:
    done = price(world, *arguments)
    assert (done.code, world.writes, METER in world.openmeter.meters) == (2, [], False)
    assert said in " ".join(done.stderr.split())


def test_tiers_go_up_and_the_last_one_has_no_end(world: World) -> None:
    given = [word for word in EPSILON if word not in ("--amount", "0.20")]
    for tiers in (["inf:1", "10:1"], ["20:1", "10:1", "inf:1"], ["10:1"], ["10:1", "10:2", "inf:1"]):
        options = [word for tier in tiers for word in ("--tier", tier)]
        assert set_up(world, "price", *given, *options, "--yes").code == 2


# -- the key ------------------------------------------------------------------------------------------


def test_without_its_own_key_it_names_the_permissions(world: World) -> None:
    done = price(world, STRIPE_SETUP_API_KEY="")
    assert (done.code, done.error_code, world.sandbox.requests) == (78, "configuration", [])
    for one in FOR_SETUP:
        assert one.is_optional or one.row in done.document["error"]["message"]


@pytest.mark.parametrize(
    "permission", [one for one in FOR_SETUP if one.name not in ("accounts:read", "webhook_endpoints:write")], ids=str
)
def test_a_permission_that_lacks_is_named(world: World, permission: Permission) -> None:
    world.stripe.keys[SETUP_KEY] = frozenset(one.name for one in FOR_SETUP if one is not permission)
    done = price(world)
    named = permission.in_messages.replace("_write", "_read")
    assert (done.code, done.error_code) == (78, "stripe_permission")
    assert f"rak_{named}" in done.document["error"]["message"]
    assert 'under "The key for setup"' in done.document["error"]["hint"]


def test_to_read_alone_is_enough_for_a_dry_run_and_for_nothing_else(world: World) -> None:
    world.stripe.keys[SETUP_KEY] = frozenset(one.name.replace(":write", ":read") for one in FOR_SETUP)
    assert price(world, "-n").code == 0
    done = price(world)
    assert (done.code, made(done), "rak_product_write" in done.document["error"]["message"]) == (78, ALL[:1], True)


def test_a_key_of_another_mode_than_that_of_the_runs_is_refused(world: World) -> None:
    done = price(world, STRIPE_API_KEY="rk_live_1")
    assert (done.code, done.error_code, world.writes) == (78, "setup_key", [])


def test_a_key_of_another_account_than_that_of_the_runs_is_refused(world: World) -> None:
    other = Fault(server="stripe", path="/account$", rewrite=lambda body: body.replace("acct_1", "acct_2").encode())
    world.sandbox.faults.add(other)
    done = price(world)
    assert (done.code, done.error_code, world.writes) == (78, "setup_key", [])
    assert price(world, STRIPE_API_KEY="").code == 0


def test_what_a_careless_server_says_of_the_key_is_not_printed(world: World) -> None:
    echo = f'{{"error": {{"message": "you sent {SETUP_KEY}"}}}}'
    for status in (400, 401, 403):
        world.sandbox.faults.add(Fault(server="stripe", path="/products$", status=status, text=echo))
        done = price(world)
        assert done.code in (1, 78)
        assert "you sent ****" in done.document["error"]["message"]


def test_the_key_in_the_configuration_file_is_refused_and_config_show_masks_it(world: World) -> None:
    world.configure(f'[stripe]\nsetup_api_key = "{SETUP_KEY}"\n')
    assert "setup_api_key_file" in price(world).stderr
    file = world.folder / "setup_key"
    file.write_text(f"{SETUP_KEY}\n")
    world.configure(f'[stripe]\nsetup_api_key_file = "{file}"\n')
    assert price(world, "-n", STRIPE_SETUP_API_KEY="").code == 0
    shown = world.meter_sync("config", "show", "--output", "json")
    (row,) = [row for row in shown.document["settings"] if row["name"] == "stripe.setup_api_key"]
    assert (row["value"], row["source"]["name"]) == ("********", str(file))
    file.unlink()
    assert world.meter_sync("config", "check").code == 0
