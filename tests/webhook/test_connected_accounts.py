"""Events of connected accounts come to one endpoint of their platform: each goes to the account that it names."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.ledger import Scope, open_ledger
from meter_sync.ledger.webhook_queue import WebhookEvent
from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.world import StripeWorld
from meter_sync.webhook.events import DEAUTHORIZED
from tests.support.forked import Started, template
from tests.support.webhook import SECRET, Served, about, serving
from tests.support.world import METER, UNHURRIED

ON = {"meter_sync": "on"}
SECOND = '[[accounts]]\nname = "second"\n[accounts.stripe]\naccount = "acct_1Second"\n'
ALL = '[connect]\nall = true\nmetadata = { meter_sync = "on" }\n'


class Platform:
    """A platform with two connected accounts, at the real present, and a ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = folder / "ledger.sqlite3"
        self.sandbox = Sandbox(now=datetime.now(UTC).replace(microsecond=0))
        self.sandbox.openmeter.add_meter(METER, aggregation="SUM")
        self.named, self.other = self.sandbox.connect_account(), self.sandbox.connect_account(ON)
        self.subscriptions = {shop.account: self.subscribe(shop) for shop in (self.named, self.other)}
        self.items = {shop.account: shop.state.subscriptions[id].items[0] for shop, id in self._shops()}
        self.row = f'[[accounts]]\nname = "shop"\n[accounts.stripe]\naccount = "{self.named.account}"\n'

    def subscribe(self, world: StripeWorld) -> str:
        """Add a customer with one subscription and usage, and return it."""
        now, customer = self.sandbox.clock.now(), world.add_customer()
        price = world.add_price(metadata={"om_meter_id": METER})
        self.sandbox.openmeter.add_event(METER, customer, now - timedelta(hours=1), value=7)
        return world.add_subscription(customer, [price], period_start=now - timedelta(days=3)).id

    def _shops(self) -> list[tuple[StripeWorld, str]]:
        return [(shop, self.subscriptions[shop.account]) for shop in (self.named, self.other)]

    def start(self, *arguments: str, **variables: str) -> Started:
        """Start the command, with the platform's key in the environment."""
        environment = {**self.sandbox.environment(), "METER_SYNC_LEDGER": str(self.ledger), **UNHURRIED, **variables}
        given = ["--config", str(self.folder / "meter-sync.toml"), *arguments]
        return template().start(given, environment, self.folder)

    def configure(self, toml: str) -> None:
        """Write the configuration."""
        (self.folder / "meter-sync.toml").write_text(toml, encoding="utf-8")

    def about(self, world: StripeWorld, identifier: str = "evt_1", **changes: object) -> dict[str, object]:
        """An event of a connected account about its subscription."""
        return about(self.subscriptions[world.account], identifier, account=world.account, **changes)

    def billed(self, world: StripeWorld) -> int:
        """What an account's Stripe would bill."""
        return world.total(self.items[world.account])


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path)
    with made.sandbox.in_background():
        yield made


def why_ignored(served: Served, event: str, level: str) -> str:
    return str(served.logged("webhook_ignored", event_id=event, level=level)["why"])


def test_an_event_goes_to_the_row_or_the_connected_account_that_it_names(platform: Platform) -> None:
    platform.configure(platform.row + ALL)
    webhooks = platform.sandbox.stripe.webhooks
    with serving(platform) as served:
        webhooks.add_endpoint(served.url, secrets=[SECRET], connect=True, events=["customer.subscription.updated"])
        for shop in (platform.named, platform.other):
            soon, price = platform.sandbox.clock.now() + timedelta(minutes=2), shop.add_price()
            shop.plan_change(platform.subscriptions[shop.account], soon, [price])
        assert webhooks.deliver() == [200, 200]
        served.logged("webhook_done", account="shop")
        served.logged("webhook_done", account=platform.other.account)
        assert served.health["accounts"] == {"shop": 0}
    assert [platform.billed(shop) for shop in (platform.named, platform.other)] == [7, 7]


def test_an_event_of_an_account_that_is_not_served_is_answered_and_named(platform: Platform) -> None:
    platform.configure(platform.row + SECOND)
    with serving(platform) as served:
        assert served.deliver(platform.about(platform.other)) == 200
        assert platform.other.account in why_ignored(served, "evt_1", "warning")
        assert served.deliver(about("sub_1", "evt_own")) == 200
        assert "/webhook/NAME" in why_ignored(served, "evt_own", "warning")
        assert served.deliver(platform.about(platform.other, "evt_path"), to="/webhook/shop") == 200
        assert "/webhook/shop" in why_ignored(served, "evt_path", "warning")
        assert served.deliver(platform.about(platform.named, "evt_live", livemode=True)) == 200
        assert "mode" in why_ignored(served, "evt_live", "info")  # a live platform's endpoint gets both
        assert served.queued == 0

        assert served.deliver(platform.about(platform.named, "evt_gone", type=DEAUTHORIZED)) == 200
        gone = served.logged("webhook_deauthorized")
        assert (gone["account"], gone["level"], "take its row out" in gone["message"]) == ("shop", "warning", True)
    assert platform.sandbox.requests == []


def test_an_account_whose_row_has_a_slip_gets_its_events_again_and_no_books_by_its_id(platform: Platform) -> None:
    platform.configure(platform.row + "rat = 3\n" + ALL)
    platform.named.metadata = ON
    with serving(platform) as served:
        assert served.deliver(platform.about(platform.named)) == 503
        assert served.deliver(platform.about(platform.other)) == 200
        served.logged("webhook_done", account=platform.other.account)
    assert [platform.billed(shop) for shop in (platform.named, platform.other)] == [0, 7]


def test_an_account_that_full_runs_leave_out_by_its_metadata_is_left_out_here(platform: Platform) -> None:
    platform.configure(ALL)
    with serving(platform) as served:
        assert served.deliver(platform.about(platform.named)) == 200
        served.logged("webhook_done", account=platform.named.account)
        assert "metadata" in served.logged("webhook_ignored", account=platform.named.account)["why"]
    assert platform.billed(platform.named) == 0
    assert [request.path for request in platform.sandbox.requests] == [f"/v1/accounts/{platform.named.account}"]


def test_the_platforms_own_events_go_to_the_row_that_has_its_key(platform: Platform) -> None:
    own = platform.subscribe(platform.sandbox.stripe)
    platform.configure(platform.row + '[[accounts]]\nname = "platform"\n')
    with serving(platform) as served:
        assert served.deliver(about(own)) == 200
        assert served.logged("webhook_done")["account"] == "platform"
    item = platform.sandbox.stripe.state.subscriptions[own].items[0]
    assert platform.sandbox.stripe.total(item) == 7


def test_what_is_queued_under_an_accounts_id_is_left_where_a_row_names_it_now(platform: Platform) -> None:
    """The row's books have its name: others would bill the same usage again."""
    platform.configure(platform.row + ALL)
    for shop in (platform.named, platform.other):
        event = WebhookEvent("evt_1", "invoice.created", platform.subscriptions[shop.account], datetime.now(UTC))
        with open_ledger(platform.ledger, Scope(shop.account, "sandbox")) as ledger:
            ledger.webhook_queue.enqueue(event)
    with serving(platform) as served:
        served.logged("webhook_done", account=platform.other.account)
        assert not served.all_logged("webhook_done", account=platform.named.account)
    assert [platform.billed(shop) for shop in (platform.named, platform.other)] == [0, 7]


def test_what_happens_in_an_account_itself_is_nothing_to_its_row_in_shadow_mode(platform: Platform) -> None:
    key = platform.folder / "shadow_key"
    key.write_text("sk_test_shadow", encoding="utf-8")
    platform.configure(f'{platform.row}[accounts.shadow]\napi_key_file = "{key}"\n[connect]\nall = true\n')
    with serving(platform) as served:
        assert served.deliver(platform.about(platform.named)) == 200
        assert platform.named.account in why_ignored(served, "evt_1", "warning")
    assert platform.billed(platform.named) == 0


def test_an_account_that_is_not_connected_any_more_is_left_to_full_runs(platform: Platform) -> None:
    platform.configure(platform.row)
    platform.sandbox.disconnect_account(platform.named)
    with serving(platform) as served:
        assert served.deliver(platform.about(platform.named)) == 200
        assert served.logged("webhook_report_ended")["code"] == "stripe_account"
        assert served.logged("webhook_try_again")["because"] == "exit code 1"  # and so not for ever
