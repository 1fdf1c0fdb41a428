"""Several Stripe accounts with keys of their own, each with an OpenMeter of its own, and one configuration for all."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from meter_sync.net.postgres_url import PostgresUrl
from meter_sync.sandbox import Sandbox
from tests.support.forked import Started, template
from tests.support.world import ANCHOR, METER, NOW, PERIOD_START, UNHURRIED, Outcome, outcome_of

__all__ = ["ANCHOR", "METER", "Accounts", "accounts"]


class Accounts:
    """Sandboxes by the names of their accounts, a ledger for all of them, and the command."""

    def __init__(self, folder: Path, names: tuple[str, ...], now: datetime, period_start: datetime) -> None:
        self.folder = folder
        self.now = now
        self.ledger: Path | PostgresUrl = folder / "ledger.sqlite3"
        self.sandboxes = {name: Sandbox(now=now, stripe_key=f"sk_test_{name}") for name in names}
        self.items: dict[str, str] = {}
        """The only item of each account…"""
        self.subscriptions: dict[str, str] = {}
        """… and its subscription."""
        for number, (name, sandbox) in enumerate(self.sandboxes.items(), start=1):
            sandbox.stripe.account = f"acct_1{name.capitalize()}"
            sandbox.openmeter.add_meter(METER, aggregation="SUM")
            price = sandbox.stripe.add_price(metadata={"om_meter_id": METER})
            customer = sandbox.stripe.add_customer()
            subscription = sandbox.stripe.add_subscription(customer, [price], period_start=period_start)
            self.items[name], self.subscriptions[name] = subscription.items[0], subscription.id
            sandbox.openmeter.add_event(METER, customer, now - timedelta(hours=1), value=10 * number)

    def row(self, name: str) -> str:
        """Return the row of an account, whose keys are in files of their own."""
        sandbox = self.sandboxes[name]
        return f"""
            [[accounts]]
            name = "{name}"
            [accounts.stripe]
            api_key_file = "{self.file(f"{name}.stripe", sandbox.stripe_key)}"
            api_base = "{sandbox.stripe_url}"
            [accounts.openmeter]
            url = "{sandbox.openmeter_url}"
            api_key_file = "{self.file(f"{name}.openmeter", sandbox.openmeter_key)}"
            """

    def file(self, name: str, secret: str) -> Path:
        """Write a secret into a file, and return where that is."""
        path = self.folder / name
        path.write_text(secret, encoding="utf-8")
        return path

    def configure(self, toml: str) -> Path:
        """Write the configuration, and return where that is."""
        config = self.folder / "meter-sync.toml"
        config.write_text(toml, encoding="utf-8")
        return config

    def meter_sync(self, *arguments: str, toml: str = "", **variables: str) -> Outcome:
        """Run the command to its end, with the rows of all accounts unless others are given."""
        given = self.given(*arguments, toml=toml)
        return outcome_of(template().run(given, {**self.environment, **variables}, self.folder))

    def start(self, *arguments: str, **variables: str) -> Started:
        """Start the command with the configuration as it was written last."""
        given = ["--config", str(self.folder / "meter-sync.toml"), *arguments]
        return template().start(given, {**self.environment, **variables}, self.folder)

    def given(self, *arguments: str, toml: str = "") -> list[str]:
        """Return arguments after the configuration, which is written."""
        return ["--config", str(self.configure(toml or "".join(map(self.row, self.sandboxes)))), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Where the ledger is, and no more haste than there need be."""
        return {"METER_SYNC_LEDGER": str(self.ledger), **UNHURRIED}

    def run(self, *arguments: str, toml: str = "", **variables: str) -> Outcome:
        """`meter-sync run --output json`, as of the sandboxes' clock."""
        as_of = ["--as-of", self.now.isoformat()]
        return self.meter_sync("run", "--output", "json", *as_of, *arguments, toml=toml, **variables)

    @property
    def billed(self) -> dict[str, int]:
        """What each account's Stripe would bill."""
        return {name: self.sandboxes[name].stripe.total(item) for name, item in self.items.items()}


@contextmanager
def accounts(
    folder: Path, *names: str, now: datetime = NOW, period_start: datetime = PERIOD_START
) -> Iterator[Accounts]:
    """Serve accounts of these names, with usage of 10, 20 and so on."""
    made = Accounts(folder, names, now, period_start)
    with ExitStack() as serving:
        for sandbox in made.sandboxes.values():
            serving.enter_context(sandbox.in_background())
        yield made
