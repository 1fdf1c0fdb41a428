"""Shadow mode: all is tried in a sandbox that has copies of what an account has, to which nothing is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meter_sync.core.metering.mapping import COPY_OF
from meter_sync.core.planning.stages import Result
from meter_sync.ledger import Scope, run_lock
from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.http.faults import Fault
from meter_sync.sandbox.http.traffic import RequestSeen
from meter_sync.sandbox.stripe.protocol.permissions import EVERY_PERMISSION
from meter_sync.sandbox.stripe.state.objects import Tier
from tests.support.setting_up import set_up
from tests.support.ways import ALL_WAYS, by_tier, end_of, subscribed
from tests.support.world import METER, Outcome, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Shadow:
    """An account, and the sandbox that is its shadow."""

    world: World
    sandbox: Sandbox
    key: Path

    def configure(self, toml: str = "") -> None:
        """Configure shadow mode, and what else is given, above it."""
        self.world.configure(f'{toml}\n[shadow]\napi_key_file = "{self.key}"\napi_base = "{self.sandbox.stripe_url}"\n')

    def set_up(self, *options: str, code: int = 0, **overrides: str) -> Outcome:
        done = self.world.meter_sync("setup", "shadow", "--output", "json", *options, **overrides)
        assert done.code == code, done.stdout + done.stderr
        return done

    def execute(self, **request: Any) -> dict[str, Result]:
        """Do what the command does, by the clock of both sandboxes."""
        self.sandbox.date_skew_seconds = (self.world.now - datetime.now(UTC)).total_seconds()
        done = self.world.execute(**request)
        self.sandbox.date_skew_seconds = 0.0
        return done

    def move_to(self, instant: datetime) -> None:
        for sandbox in (self.world.sandbox, self.sandbox):
            sandbox.clock.move_to(instant)

    @property
    def written(self) -> list[RequestSeen]:
        """What was sent to change the sandbox."""
        return [one for one in self.sandbox.requests if one.server == "stripe" and one.method != "GET"]

    def copies(self) -> dict[str, str]:
        """The items of living subscriptions in the sandbox, by their originals."""
        state = self.sandbox.stripe.state
        living = [one for one in state.subscriptions if not one.ended]
        items = [state.items[id] for subscription in living for id in subscription.items]
        return {item.metadata[COPY_OF]: item.id for item in items}

    def billed(self, original: str) -> int:
        """What the sandbox would bill for the copy of an item."""
        return self.sandbox.stripe.total(self.copies()[original])


@contextmanager
def shadow_of(world: World) -> Iterator[Shadow]:
    sandbox = Sandbox(now=world.now, stripe_key="sk_test_shadow", openmeter_versions=[world.openmeter_version])
    sandbox.stripe.account = "acct_1Shadow"
    key = world.folder / "shadow_key"
    key.write_text("sk_test_shadow\n", encoding="utf-8")
    key.chmod(0o600)
    with sandbox.in_background():
        shadow = Shadow(world, sandbox, key)
        shadow.configure()
        yield shadow
        # The promise of it all: whatever happened, nothing was written to the account.
        assert world.writes == []


@pytest.fixture
def shadow(world: World) -> Iterator[Shadow]:
    """An account in which it is long ago, as for runs in this process."""
    with shadow_of(world) as shadow:
        yield shadow


@pytest.fixture
def shadow_now(tmp_path: Path) -> Iterator[Shadow]:
    """An account in which it is now, as for the command."""
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0))
    with world.sandbox.in_background(), shadow_of(world) as shadow:
        yield shadow


# -- copying -----------------------------------------------------------------------------------------


def test_what_a_run_needs_is_copied_once_and_nothing_personal(shadow: Shadow) -> None:
    world = shadow.world
    customer = world.stripe.add_customer(name="Ada", email="ada@example.com", metadata={"om": "ada"})
    meter = world.stripe.add_meter("calls", window="hour")
    price = world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER}, lookup_key="calls")
    subscription = world.subscribe(world.price, price, customer=customer, metadata={"team": "7"})

    planned = shadow.set_up("--dry-run")
    assert shadow.written == []
    done = shadow.set_up("--yes")
    before = len(shadow.written)
    again = shadow.set_up("--yes")

    steps = [(step["kind"], step["action"]) for step in done.document["steps"]]
    assert steps == [(step["kind"], step["action"]) for step in planned.document["steps"]]
    assert [kind for kind, _ in steps] == [
        "billing_meter",
        *["product"] * 2,
        *["price"] * 2,
        "customer",
        "subscription",
    ]
    assert (again.document["steps"], len(shadow.written)) == ([], before)
    state = shadow.sandbox.stripe.state
    (copy,), (owner,) = state.subscriptions, state.customers
    assert (copy.metadata["team"], owner.metadata["om"]) == ("7", "ada")
    assert "ada@example.com" not in "".join(str(one.body) for one in shadow.written)
    assert {one.lookup_key for one in state.prices} == {None, "calls"}
    periods = {(world.stripe.period(id).start, world.stripe.period(id).end) for id in subscription.items[:1]}
    copied = shadow.copies()[subscription.items[0]]
    period = shadow.sandbox.stripe.period(copied)
    assert periods == {(period.start, period.end)}


def test_the_amounts_of_copied_prices_are_those_of_their_originals(shadow: Shadow) -> None:
    world = shadow.world
    meter = world.stripe.add_meter("calls")
    originals = [
        world.stripe.add_price(unit_amount_decimal="0.000000000002"),
        world.stripe.add_price(transform_quantity={"divide_by": 1000, "round": "up"}, meter=meter),
        world.stripe.add_price(aggregate_usage="max", interval="month", interval_count=3),
        world.stripe.add_price(
            meter=meter,
            unit_amount_decimal="0",
            tiers_mode="graduated",
            tiers=[Tier(100, Decimal("0.000001"), Decimal(500)), Tier(None, Decimal(2), Decimal(0))],
        ),
    ]
    for price in originals:
        world.subscribe(price)

    shadow.set_up("--yes")

    def billing(price: Any) -> tuple[Any, ...]:
        of_period = price.usage_type, price.interval, price.interval_count, price.aggregate_usage
        amounts = price.unit_amount_decimal, price.tiers, price.tiers_mode, price.transform_quantity
        return *amounts, price.currency, *of_period

    copies = {one.metadata[COPY_OF]: billing(one) for one in shadow.sandbox.stripe.state.prices}
    assert copies == {id: billing(world.stripe.state.prices[id]) for id in originals}


def test_a_copy_has_the_billing_mode_of_its_original(shadow: Shadow) -> None:
    price = shadow.world.stripe.add_price(metadata={"om_meter_id": METER}, meter=shadow.world.stripe.add_meter("calls"))
    for mode in ("classic", "flexible"):
        shadow.world.subscribe(price, billing_mode=mode)

    shadow.set_up("--yes")

    assert sorted(one.billing_mode for one in shadow.sandbox.stripe.state.subscriptions) == ["classic", "flexible"]


def test_what_is_new_is_copied_and_what_is_gone_is_taken_away(shadow: Shadow) -> None:
    world = shadow.world
    second = world.stripe.add_price(metadata={"om_meter_id": METER}, aggregate_usage="max")
    ends, stays, shrinks = world.subscribe(), world.subscribe(), world.subscribe(world.price, second)
    shadow.set_up("--yes")
    world.stripe.cancel(ends.id)
    world.stripe.delete_item(shrinks.items[1])
    added = world.stripe.add_item(stays.id, second)
    begins = world.subscribe()

    done = shadow.set_up("--yes")

    assert shadow.copies().keys() == {stays.items[0], shrinks.items[0], added, *begins.items}
    assert [(step["kind"], step["action"]) for step in done.document["steps"]] == [
        ("customer", "create"),
        ("subscription", "remove"),
        ("subscription_item", "remove"),
        ("subscription", "create"),
        ("subscription_item", "create"),
    ]


def test_what_has_changed_in_a_way_that_no_copy_can_follow_has_another_copy_from_then_on(shadow: Shadow) -> None:
    world = shadow.world
    dearer = world.stripe.add_price(metadata={"om_meter_id": METER}, unit_amount_decimal="9")
    moved, restarted, same = (world.subscribe(period_start=world.now - 5 * DAY) for _ in range(3))
    for subscription in (moved, restarted, same):
        world.use(subscription, 5)
    shadow.set_up("--yes")
    shadow.execute()
    before = shadow.copies()
    world.stripe.change_price(moved.items[0], dearer)
    world.stripe.restart_periods(restarted.id)

    shadow.move_to(world.now + HOUR)
    done = shadow.set_up("--yes")
    again = shadow.set_up("--yes")
    for subscription in (moved, restarted, same):
        world.use(subscription, 2, at=world.now + HOUR / 2)
    shadow.move_to(world.now + HOUR)
    shadow.execute()

    steps = [(step["kind"], step["action"]) for step in done.document["steps"]]
    assert steps[2:] == [*[("subscription", "remove")] * 2, *[("subscription", "create")] * 2]
    assert again.document["steps"] == []
    assert shadow.copies()[same.items[0]] == before[same.items[0]]
    assert [shadow.billed(one.items[0]) for one in (moved, restarted, same)] == [2, 2, 7], "nothing is billed twice"
    copy = shadow.sandbox.stripe.period(shadow.copies()[restarted.items[0]])
    assert copy.end == world.stripe.period(restarted.items[0]).end


def test_metadata_that_change_are_taken_over(shadow: Shadow) -> None:
    world = shadow.world
    unmapped = world.stripe.add_price(metadata={"old": "1"})
    customer = world.stripe.add_customer()
    subscription = world.subscribe(unmapped, customer=customer)
    shadow.set_up("--yes")
    with world.stripe.settled() as state:
        state.prices[unmapped].metadata = {"om_meter_id": METER}
        state.customers[customer].metadata = {"om": "ada"}
    world.stripe.set_subscription_metadata(subscription.id, {"team": "7"})
    world.stripe.set_item_metadata(subscription.items[0], {"note": "x"})

    shadow.set_up("--yes")

    state = shadow.sandbox.stripe.state
    (price,), (owner,), (copy,) = state.prices, state.customers, state.subscriptions
    assert {name: price.metadata.get(name) for name in ("om_meter_id", "old")} == {"om_meter_id": METER, "old": None}
    assert (owner.metadata["om"], copy.metadata["team"]) == ("ada", "7")
    assert state.items[copy.items[0]].metadata["note"] == "x"
    assert shadow.set_up("--yes").document["steps"] == []


def test_what_billed_nothing_or_is_not_understood_has_no_copy_that_goes_on(shadow: Shadow) -> None:
    world = shadow.world
    paused, voided = world.subscribe(), world.subscribe()
    shadow.set_up("--yes")
    world.stripe.set_status(paused.id, "paused")
    world.stripe.pause_collection(voided.id, "void")

    done = shadow.set_up("--yes")

    assert shadow.copies() == {}
    named = "".join(done.document["remarks"])
    assert all(item in named for item in (*paused.items, *voided.items))


def test_a_lookup_key_that_moves_to_another_price_moves_in_the_sandbox_too(shadow: Shadow) -> None:
    world = shadow.world
    first = world.stripe.add_price(metadata={"om_meter_id": METER}, lookup_key="k")
    world.subscribe(first)
    shadow.set_up("--yes")
    with world.stripe.settled() as state:
        state.prices[first].lookup_key = None
    world.subscribe(world.stripe.add_price(metadata={"om_meter_id": METER}, lookup_key="k"))

    shadow.set_up("--yes")

    assert len(shadow.copies()) == 2


def test_an_item_with_usage_that_is_removed_is_removed_and_another_takes_its_place(shadow: Shadow) -> None:
    world = shadow.world
    second = world.stripe.add_price(metadata={"om_meter_id": METER}, aggregate_usage="max")
    subscription = world.subscribe(world.price, second)
    world.use(subscription, 5)
    shadow.set_up("--yes")
    shadow.execute()
    world.stripe.delete_item(subscription.items[0], clear_usage=True)
    added = world.stripe.add_item(subscription.id, world.price)

    shadow.set_up("--yes")

    assert shadow.copies().keys() == {subscription.items[1], added}


def test_two_at_once_exclude_each_other(shadow: Shadow) -> None:
    shadow.world.subscribe()

    with run_lock(shadow.world.ledger.with_name("shadow-ledger.sqlite3"), Scope("", "sandbox")):
        done = shadow.set_up("--yes", code=75)

    assert (done.error_code, shadow.written) == ("locked", [])


def test_what_is_not_a_copy_is_none_of_its_business(shadow: Shadow) -> None:
    customer = shadow.sandbox.stripe.add_customer()
    price = shadow.sandbox.stripe.add_price(metadata={"om_meter_id": METER})
    shadow.sandbox.stripe.add_subscription(customer, [price], period_start=shadow.world.now - DAY)
    shadow.world.use(customer, 5)

    done = shadow.execute()

    assert (done, shadow.written) == ({}, [])


def test_what_stripe_refuses_is_named_and_the_rest_is_copied_and_made_up_for_the_next_time(shadow: Shadow) -> None:
    first, second = shadow.world.subscribe(), shadow.world.subscribe()
    shadow.sandbox.faults.add(Fault(server="stripe", method="POST", path="/v1/subscriptions$", status=400))

    refused = shadow.set_up("--yes", code=3)
    assert len(shadow.copies()) == 1
    shadow.set_up("--yes")

    (remark,) = [one for one in refused.document["remarks"] if "refused" in one]
    assert "the subscription, copy of sub_" in remark
    assert shadow.copies().keys() == {*first.items, *second.items}


def test_what_cannot_be_copied_is_named_with_the_reason(shadow: Shadow) -> None:
    paused = shadow.world.subscribe()
    shadow.world.stripe.set_status(paused.id, "paused")

    done = shadow.set_up("--yes")

    assert done.document["steps"] == []
    assert any(f"{paused.items[0]} of cus_" in one and "is paused" in one for one in done.document["remarks"])


def test_a_key_of_the_account_that_may_only_read_is_enough(shadow: Shadow) -> None:
    shadow.world.subscribe()
    reads = [one for one in EVERY_PERMISSION if one.endswith(":read") and not one.startswith("products")]
    shadow.world.stripe.add_restricted_key("rk_test_reads", reads)

    shadow.set_up("--yes", STRIPE_API_KEY="rk_test_reads")

    (product,) = shadow.sandbox.stripe.state.products
    assert product.name == product.id, "its name may not be read"


# -- what is refused ---------------------------------------------------------------------------------


def test_a_shadow_that_is_the_account_itself_is_refused(shadow: Shadow) -> None:
    shadow.world.subscribe()
    shadow.sandbox.stripe.account = shadow.world.stripe.account

    done = shadow.set_up("--yes", code=78)

    assert (done.error_code, shadow.written) == ("shadow_account", [])


@pytest.mark.parametrize("key", ["sk_live_x", "rk_live_x", "", "whsec_x", "sk_test_two words"])
def test_only_a_key_of_a_sandbox_is_taken(shadow: Shadow, key: str) -> None:
    shadow.key.write_text(key, encoding="utf-8")

    done = shadow.world.run()

    assert (done.code, done.error_code) == (78, "configuration")
    assert "shadow" in done.stderr
    assert shadow.world.sandbox.requests == []


@pytest.mark.parametrize("toml", ["[shadow]\n", '[shadow]\napi_base = "http://127.0.0.1:9"\n'])
def test_shadow_mode_without_a_key_is_an_error_and_never_the_account(shadow: Shadow, toml: str) -> None:
    shadow.world.configure(toml)

    done = shadow.world.run()

    assert (done.code, done.error_code) == (78, "configuration")
    assert "[shadow] has no api_key_file" in done.stderr


def test_the_key_of_the_account_itself_is_refused_by_every_command(shadow: Shadow) -> None:
    shadow.key.write_text(shadow.world.sandbox.stripe_key, encoding="utf-8")

    done = shadow.world.run()

    assert (done.code, "[shadow] has the key of the account itself" in done.stderr) == (78, True)


def test_a_key_that_is_handed_over_without_shadow_mode_is_an_error_and_never_silent(shadow: Shadow) -> None:
    """Who goes live takes [shadow] out of the file: units that were made before would go on in the sandbox."""
    shadow.world.configure("")
    credentials = shadow.world.folder / "credentials"
    credentials.mkdir()
    credentials.joinpath("shadow_api_key").write_text("sk_test_shadow", encoding="utf-8")

    done = shadow.world.run(CREDENTIALS_DIRECTORY=str(credentials))

    assert (done.code, "make the schedule anew" in done.stderr) == (78, True)
    assert shadow.world.sandbox.requests == []


def test_nothing_is_set_up_in_the_account_in_shadow_mode(shadow: Shadow) -> None:
    done = set_up(shadow.world, "webhook", "--url", "https://hooks.example.com/webhook", "--yes")

    assert (done.code, "[shadow] is configured" in done.stderr) == (78, True)


def test_setup_shadow_without_shadow_mode_says_what_to_configure(shadow: Shadow) -> None:
    shadow.world.configure("")

    assert "shadow.api_key_file" in shadow.set_up(code=78).document["error"]["hint"]


# -- running -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_a_month_in_the_shadow_bills_there_what_was_used_and_nothing_in_the_account(shadow: Shadow, way: str) -> None:
    world = shadow.world
    subscription = subscribed(world, way)
    (item,) = subscription.items
    world.use(subscription, 7)
    shadow.set_up("--yes")

    shadow.execute()
    assert shadow.billed(item) == 7
    end = end_of(world, subscription)
    world.use(subscription, 5, at=end - DAY)
    shadow.move_to(end - HOUR)
    shadow.execute()
    shadow.move_to(end + HOUR / 2)
    world.use(subscription, 1, at=end + timedelta(minutes=5))
    shadow.execute()

    shadow.move_to(end + 2 * DAY)
    (invoice,) = [one for one in shadow.sandbox.stripe.invoices if one.lines]
    assert [line.quantity for line in invoice.lines] == [12]
    assert shadow.billed(item) == 1
    assert world.unbilled() == {}


def test_rows_name_originals_and_find_their_copies(shadow: Shadow) -> None:
    world = shadow.world
    meter = world.stripe.add_meter("calls")
    by_price, by_meter, by_lookup_key, by_product = (
        world.stripe.add_price(metadata={}),
        world.stripe.add_price(metadata={}, meter=meter),
        world.stripe.add_price(metadata={}, lookup_key="k"),
        world.stripe.add_price(metadata={}),
    )
    product = world.stripe.state.prices[by_product].product
    selectors = {"price": by_price, "stripe_meter": meter, "lookup_key": "k", "product": product}
    shadow.configure("".join(f'[[meters]]\n{n} = "{value}"\nopenmeter = "{METER}"\n' for n, value in selectors.items()))
    originals = [world.subscribe(price) for price in (by_price, by_meter, by_lookup_key, by_product)]
    for number, subscription in enumerate(originals, start=1):
        world.use(subscription, number)
    shadow.set_up("--yes")

    shadow.execute()

    assert [shadow.billed(one.items[0]) for one in originals] == [1, 2, 3, 4]


def test_subjects_are_those_of_the_originals(shadow: Shadow) -> None:
    world = shadow.world
    customer = world.stripe.add_customer(metadata={"om": "ada"})
    subscription = world.subscribe(customer=customer)
    (item,) = subscription.items
    world.use("ada", 3)
    world.use(customer, 4)
    id = world.openmeter.add_customer(key=customer, subjects=["of-openmeter"])
    assert id
    world.use("of-openmeter", 5)
    shadow.set_up("--yes")
    found = {}
    for source in ("customer.metadata.om", "customer.id", "openmeter.customer"):
        shadow.configure(f'[mapping]\nsubject = "{source}"\n')
        world.ledger.with_name("shadow-ledger.sqlite3").unlink(missing_ok=True)
        result = shadow.execute(dry_run=True)[shadow.copies()[item]]
        found[source] = result.found.quantity

    assert found == {"customer.metadata.om": 3, "customer.id": 4, "openmeter.customer": 9}


def test_the_books_of_the_shadow_are_apart_and_go_with_it(shadow_now: Shadow) -> None:
    shadow, world = shadow_now, shadow_now.world
    subscription = world.subscribe(period_start=world.now - 5 * DAY)
    world.use(subscription, 100, at=world.now - DAY)
    shadow.set_up("--yes")

    shown = world.meter_sync("run")
    status = world.meter_sync("status", "--output", "json")

    assert "Shadow mode: " in shown.stdout
    assert (status.document["shadow"], world.meter_sync("status").stdout.startswith("shadow")) == (True, True)
    assert world.meter_sync("run", "--output", "json").document["run"]["shadow"] is True
    assert status.document["ledger"]["path"] == str(world.ledger.with_name("shadow-ledger.sqlite3"))
    assert not world.ledger.exists()
    shadow.world.configure("")
    assert world.meter_sync("status", "--output", "json").error_code == "ledger_missing"
    assert world.meter_sync("run", "--dry-run", "--output", "json").verdict == ("planned", None)


def test_verify_shows_what_the_account_itself_holds(shadow_now: Shadow) -> None:
    shadow, world = shadow_now, shadow_now.world
    meter = world.stripe.add_meter("calls")
    on_meter = world.stripe.add_price(metadata={"om_meter_id": METER}, meter=meter)
    record, event = (world.subscribe(price, period_start=world.now - 5 * DAY) for price in (world.price, on_meter))
    for subscription in (record, event):
        world.use(subscription, 100, at=world.now - DAY)
    shadow.set_up("--yes")
    world.meter_sync("run")
    world.stripe.create_usage_record(record.items[0], 90)
    payload = {"stripe_customer_id": world.customer_of(event), "value": "100"}
    world.stripe.create_meter_event("calls", payload, int((world.now - HOUR).timestamp()))
    new = world.subscribe(period_start=world.now - DAY)

    done = world.meter_sync("verify", "--output", "json")
    shown = world.meter_sync("verify").stdout

    found = {one["original"]: (one["in_shadow"], one["in_account"]) for one in done.document["shadow"]["items"]}
    assert found == {record.items[0]: ("100", "90"), event.items[0]: ("100", "100")}
    assert done.document["shadow"]["not_copied"] == new.items
    assert done.code == 0, "what somebody else has reported is no difference of this program's"
    assert f"{record.items[0]} holds 90 in the account" in shown
    assert "of 2 items, 1 hold as much" in shown
