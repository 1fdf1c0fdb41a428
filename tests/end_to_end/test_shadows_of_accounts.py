"""Accounts in shadow mode beside others: each has a sandbox and books of its own, and the others are billed."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.core.metering.mapping import COPY_OF
from meter_sync.ledger import Scope, open_ledger_read_only
from meter_sync.sandbox import Sandbox
from tests.support.accounts import Accounts, accounts
from tests.support.webhook import about, serving

EU, US = "eu", "us"
KEY = "sk_test_shadow"


@dataclass(frozen=True)
class Shadowed:
    """Two accounts, of which one is in shadow mode, at the real present."""

    both: Accounts
    sandbox: Sandbox

    def toml(self, *, of_us: str = "") -> str:
        """The rows of both; `of_us` is more of that which is billed."""
        key = self.both.file("shadow_key", KEY)
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


@pytest.fixture
def shadowed(tmp_path: Path) -> Iterator[Shadowed]:
    present = datetime.now(UTC).replace(microsecond=0)
    sandbox = Sandbox(now=present, stripe_key=KEY)
    sandbox.stripe.account = "acct_1Shadow"
    with ExitStack() as served:
        served.enter_context(sandbox.in_background())
        both = served.enter_context(accounts(tmp_path, EU, US, now=present, period_start=present - timedelta(days=3)))
        yield Shadowed(both, sandbox)


def test_one_run_bills_the_shadow_of_an_account_and_another_account_itself(shadowed: Shadowed) -> None:
    both, toml = shadowed.both, shadowed.toml()
    shadowed.copied()

    done = both.meter_sync("run", "--output", "json", toml=toml)
    again = both.meter_sync("run", toml=toml)
    status = both.meter_sync("status", toml=toml)
    alone = both.meter_sync("status", "--account", EU, toml=toml)
    compared = both.meter_sync("verify", "--account", EU, "--output", "json", toml=toml)
    examined = both.meter_sync("doctor", "--only", "stripe", "--output", "json", toml=toml)

    assert (done.code, both.billed) == (0, {EU: 0, US: 20}), done.stderr
    assert (shadowed.sandbox.stripe.total(shadowed.copy), shadowed.written) == (10, [])
    assert [(one["name"], one["run"].get("shadow")) for one in done.document["accounts"]] == [(EU, True), (US, None)]
    assert f"{EU} (shadow mode): 1 item" in again.stdout
    assert "1 in shadow mode, by which nobody is billed: eu" in status.stdout
    assert "nobody is billed by it" in alone.stdout
    (beside,) = compared.document["shadow"]["items"]
    assert (compared.code, beside["in_shadow"], beside["in_account"]) == (0, "10", "0")
    keys = [one for one in examined.document["checks"] if one["id"] == "stripe_key"]
    assert [(one["account"], one["subject"]) for one in keys] == [(EU, None), (EU, "account"), (US, None)]
    assert [shadowed.was_used(name) for name in ("eu/shadow", EU, US)] == [True, False, True]


def test_the_books_of_a_shadow_go_with_its_account_to_another_name(shadowed: Shadowed) -> None:
    both = shadowed.both
    shadowed.copied()
    assert both.meter_sync("run", toml=shadowed.toml()).code == 0

    renamed = both.meter_sync("ledger", "rename", "--from", EU, "--to", "europe", toml=shadowed.toml())
    toml = shadowed.toml().replace(f'name = "{EU}"', 'name = "europe"')
    done = both.meter_sync("run", "--output", "json", "--account", "europe", toml=toml)

    assert renamed.code == 0, renamed.stderr
    assert (done.code, [one["outcome"] for one in done.document["items"]]) == (0, ["unchanged"]), done.stderr
    assert shadowed.was_used("europe/shadow")


def test_a_sandbox_is_the_shadow_of_one_account_only(shadowed: Shadowed) -> None:
    both = shadowed.both
    second = both.file("second_key", "sk_test_second")
    shadowed.sandbox.stripe.keys["sk_test_second"] = None
    of_us = f'[accounts.shadow]\napi_key_file = "{second}"\napi_base = "{shadowed.sandbox.stripe_url}"\n'
    assert both.meter_sync("run", "--account", EU, toml=shadowed.toml()).code == 0

    done = both.meter_sync("run", "--output", "json", toml=shadowed.toml(of_us=of_us))

    error = {one["name"]: one["error"] and one["error"]["code"] for one in done.document["accounts"]}
    assert (done.code, error, both.billed) == (78, {EU: None, US: "account_twice"}, {EU: 0, US: 0})
    assert "the shadow of the account eu" in done.stderr


def test_the_schedule_keeps_the_copies_of_each_account_in_shadow_mode(shadowed: Shadowed) -> None:
    both = shadowed.both
    cron, units = (both.meter_sync("schedule", kind, toml=shadowed.toml()) for kind in ("crontab", "systemd"))

    assert (cron.code, cron.stdout.count("setup shadow --yes --account eu"), cron.stdout.count("setup shadow")) == (
        0,
        1,
        1,
    )
    assert "meter-sync-shadow-eu.timer" in units.stdout
    assert f"LoadCredential=shadow_api_key.eu:{both.folder}/shadow_key" in units.stdout


def test_events_of_a_shadow_come_to_the_path_of_its_account(shadowed: Shadowed) -> None:
    both = shadowed.both
    shadowed.copied()
    secret = both.file("secret", "whsec_shadow")
    own = f'[accounts.stripe]\nwebhook_secret_file = "{secret}"'
    both.configure(shadowed.toml().replace("[accounts.stripe]", own, 1))
    subscription = shadowed.sandbox.stripe.state.items[shadowed.copy].subscription
    with serving(both, STRIPE_WEBHOOK_SECRET="") as served:
        assert served.deliver(about(subscription), "whsec_shadow", to="/webhook/eu") == 200
        served.logged("webhook_done", account=EU)
        assert served.health == {"status": "ok", "queued": 0}
    assert (shadowed.sandbox.stripe.total(shadowed.copy), both.billed[EU], shadowed.written) == (10, 0, [])
