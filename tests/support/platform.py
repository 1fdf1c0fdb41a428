"""A platform whose connected accounts are billed with its one key."""

from datetime import datetime, timedelta
from pathlib import Path

from meter_sync.net.postgres_url import PostgresUrl
from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.world import StripeWorld
from tests.support.forked import Started, template
from tests.support.setting_up import SETUP_KEY, URL
from tests.support.world import METER, NOW, PERIOD_START, UNHURRIED, Outcome, outcome_of


class Platform:
    """A platform with connected accounts, whose customers are in one OpenMeter, and a ledger."""

    def __init__(self, folder: Path, shops: int = 2, now: datetime = NOW) -> None:
        self.folder = folder
        self.ledger: Path | PostgresUrl = folder / "ledger.sqlite3"
        self.now = now
        self.sandbox = Sandbox(now=now)
        self.sandbox.openmeter.add_meter(METER, aggregation="SUM")
        self.shops = [self.sandbox.connect_account() for _ in range(shops)]
        self.items = [self.subscribe(shop, 10 * number) for number, shop in enumerate(self.shops, start=1)]

    def subscribe(self, world: StripeWorld, usage: int) -> str:
        """Add a customer with one subscription and usage, and return its item."""
        price = world.add_price(metadata={"om_meter_id": METER})
        customer = world.add_customer()
        start = self.now - (NOW - PERIOD_START)
        subscription = world.add_subscription(customer, [price], period_start=start)
        self.sandbox.openmeter.add_event(METER, customer, self.now - timedelta(hours=1), value=usage)
        return subscription.items[0]

    @property
    def toml(self) -> str:
        """A row for each connected account."""
        rows = (f'[[accounts]]\nname = "shop-{number}"\n' for number, _ in enumerate(self.shops))
        accounts = (f'[accounts.stripe]\naccount = "{shop.account}"\n' for shop in self.shops)
        return "".join(row + account for row, account in zip(rows, accounts, strict=True))

    def run(self, *arguments: str, toml: str = "", **variables: str) -> Outcome:
        """`meter-sync run --output json`, with the platform's key in the environment."""
        as_of = ["--as-of", self.now.isoformat()]
        return self.meter_sync("run", "--output", "json", *as_of, *arguments, toml=toml, **variables)

    def meter_sync(self, *arguments: str, toml: str = "", **variables: str) -> Outcome:
        """Run the command to its end."""
        given = self.given(*arguments, toml=toml)
        return outcome_of(template().run(given, {**self.environment, **variables}, self.folder))

    def start(self, *arguments: str, **variables: str) -> Started:
        """Start the command with the configuration as it was written last."""
        given = ["--config", str(self.folder / "meter-sync.toml"), *arguments]
        return template().start(given, {**self.environment, **variables}, self.folder)

    def given(self, *arguments: str, toml: str = "") -> list[str]:
        """Return arguments after the configuration, which is written."""
        config = self.folder / "meter-sync.toml"
        config.write_text(toml or self.toml, encoding="utf-8")
        return ["--config", str(config), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """The platform's key, where the ledger is, and no more haste than there need be."""
        return {**self.sandbox.environment(), "METER_SYNC_LEDGER": str(self.ledger), **UNHURRIED}

    @property
    def billed(self) -> list[int]:
        """What each shop's Stripe would bill."""
        return [shop.total(item) for shop, item in zip(self.shops, self.items, strict=True)]


def destinations_of(platform: Platform, *arguments: str, toml: str = "") -> Outcome:
    """`meter-sync setup webhook` for the usual address, in JSON and without asking; secrets go into a file."""
    file = platform.folder / "secrets"
    given = {"STRIPE_SETUP_API_KEY": SETUP_KEY, "STRIPE_WEBHOOK_SECRET_FILE": str(file), "STRIPE_WEBHOOK_SECRET": ""}
    options = ("webhook", "--url", URL, "--yes", "--output", "json")
    return platform.meter_sync("setup", *options, *arguments, toml=toml, **given)
