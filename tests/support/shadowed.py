"""Two accounts of one configuration, of which one is in shadow mode."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from meter_sync.core.metering.mapping import COPY_OF
from meter_sync.ledger import Scope, open_ledger_read_only
from meter_sync.sandbox import Sandbox
from tests.support.accounts import Accounts, accounts

EU, US = "eu", "us"
_KEY = "sk_test_shadow"


@dataclass(frozen=True)
class Shadowed:
    """Two accounts, of which one is in shadow mode, at the real present."""

    both: Accounts
    sandbox: Sandbox

    def toml(self, *, of_us: str = "") -> str:
        """The rows of both; `of_us` is more of that which is billed."""
        key = self.both.file("shadow_key", _KEY)
        shadow = f'[accounts.shadow]\napi_key_file = "{key}"\napi_base = "{self.sandbox.stripe_url}"\n'
        return self.both.row(EU) + shadow + self.both.row(US) + of_us

    @property
    def copy(self) -> str:
        """The item of the sandbox that is the copy of the account's only one."""
        items = self.sandbox.stripe.state.items
        (found,) = [one.id for one in items if one.metadata.get(COPY_OF) == self.both.items[EU]]
        return found

    @property
    def written(self) -> list[str]:
        """What was sent to change the account itself."""
        return [one.path for one in self.both.sandboxes[EU].requests if one.server == "stripe" and one.method != "GET"]

    def copied(self) -> None:
        done = self.both.meter_sync("setup", "shadow", "--account", EU, "--yes", toml=self.toml())
        assert done.code == 0, done.stdout + done.stderr

    def was_used(self, account: str) -> bool:
        with open_ledger_read_only(self.both.ledger, Scope(account, "sandbox")) as ledger:
            return ledger.runs.last_begun() is not None


@contextmanager
def shadowed_account(folder: Path) -> Iterator[Shadowed]:
    """Serve both accounts, and the sandbox that is the shadow of the first."""
    present = datetime.now(UTC).replace(microsecond=0)
    sandbox = Sandbox(now=present, stripe_key=_KEY)
    sandbox.stripe.account = "acct_1Shadow"
    with ExitStack() as served:
        served.enter_context(sandbox.in_background())
        both = served.enter_context(accounts(folder, EU, US, now=present, period_start=present - timedelta(days=3)))
        yield Shadowed(both, sandbox)
