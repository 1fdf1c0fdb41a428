"""Shadow mode: all is tried in a sandbox that has copies of what an account has, to which nothing is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meter_sync.core.metering.mapping import COPY_OF
from meter_sync.core.planning.stages import Result
from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.http.faults import Fault
from meter_sync.sandbox.http.traffic import RequestSeen
from meter_sync.sandbox.stripe.protocol.permissions import EVERY_PERMISSION
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
    ]
    for price in originals:
        world.subscribe(price)

    shadow.set_up("--yes")

    def billing(price: Any) -> tuple[Any, ...]:
        of_period = price.usage_type, price.interval, price.interval_count, price.aggregate_usage
        return price.unit_amount_decimal, price.transform_quantity, price.currency, *of_period

    copies = {one.metadata[COPY_OF]: billing(one) for one in shadow.sandbox.stripe.state.prices}
    assert copies == {id: billing(world.stripe.state.prices[id]) for id in originals}


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
        ("subscription", "create"),
        ("subscription_item", "create"),
        ("subscription_item", "remove"),
        ("subscription", "remove"),
    ]


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
    assert "shadow.api_key_file" in done.stderr
    assert shadow.world.sandbox.requests == []


@pytest.mark.parametrize("toml", ["[shadow]\n", '[shadow]\napi_base = "http://127.0.0.1:9"\n'])
def test_shadow_mode_without_a_key_is_an_error_and_never_the_account(shadow: Shadow, toml: str) -> None:
    shadow.world.configure(toml)

    done = shadow.world.run()

    assert (done.code, done.error_code) == (78, "configuration")
    assert "[shadow] has no api_key_file" in done.stderr


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
