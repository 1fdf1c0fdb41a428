"""Of several accounts what takes longer to show: shadows, a platform's events, a terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meter_sync.sandbox.stripe.webhooks import Attempt, post
from tests.support.accounts import accounts
from tests.support.permissions import FOR_SETUP
from tests.support.platform import Platform, destinations_of
from tests.support.setting_up import SETUP_KEY
from tests.support.shadowed import EU, US, Shadowed, shadowed_account
from tests.support.webhook import about, serving

pytestmark = pytest.mark.every_way


@pytest.fixture
def shadowed(tmp_path: Path) -> Iterator[Shadowed]:
    with shadowed_account(tmp_path) as found:
        yield found


def test_whoever_looks_is_told_which_accounts_are_in_shadow_mode(shadowed: Shadowed) -> None:
    both, toml = shadowed.both, shadowed.toml()
    shadowed.copied()
    run = both.meter_sync("run", toml=toml)
    status = both.meter_sync("status", toml=toml)
    alone = both.meter_sync("status", "--account", EU, toml=toml)
    examined = both.meter_sync("doctor", "--only", "stripe", "--output", "json", toml=toml)

    assert f"{EU} (shadow mode): 1 item" in run.stdout
    assert "1 in shadow mode, by which nobody is billed: eu" in status.stdout
    assert "nobody is billed by it" in alone.stdout
    keys = [one for one in examined.document["checks"] if one["id"] == "stripe_key"]
    assert [(one["account"], one["subject"]) for one in keys] == [(EU, None), (EU, "account"), (US, None)]


def test_the_books_of_a_shadow_go_with_its_account_to_another_name(shadowed: Shadowed) -> None:
    both = shadowed.both
    shadowed.copied()
    assert both.meter_sync("run", toml=shadowed.toml()).code == 0

    renamed = both.meter_sync("ledger", "rename", "--from", EU, "--to", "europe", toml=shadowed.toml())
    toml = shadowed.toml().replace(f'name = "{EU}"', 'name = "europe"')
    done = both.meter_sync("run", "--output", "json", "--account", "europe", toml=toml)

    assert renamed.code == 0, renamed.stderr
    assert both.meter_sync("ledger", "check", toml=toml).code == 0
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


def test_what_happens_in_connected_accounts_comes_by_the_destinations_that_setup_makes(tmp_path: Path) -> None:
    platform = Platform(tmp_path, now=datetime.now(UTC).replace(microsecond=0))
    world = platform.sandbox.stripe
    world.keys[SETUP_KEY] = frozenset(one.name for one in FOR_SETUP)
    with platform.sandbox.in_background():
        assert destinations_of(platform).code == 0
        secret = (platform.folder / "secrets").read_text()
        with serving(platform, STRIPE_WEBHOOK_SECRET=",".join(secret.split())) as served:
            for shop in platform.shops:
                (subscription,) = shop.state.subscriptions
                shop.cancel(subscription.id)

            def to_the_webhook(attempt: Attempt) -> int | None:
                return post(replace(attempt, url=served.url))

            deleted = [one for one in world.webhooks.pending() if one.event.type == "customer.subscription.deleted"]
            world.webhooks.deliver(send=to_the_webhook)
            for name in ("shop-0", "shop-1"):
                served.logged("webhook_done", account=name)
        assert {one.account for one in deleted} == {shop.account for shop in platform.shops}


def test_progress_of_several_accounts_is_that_of_all_of_them(tmp_path: Path) -> None:
    with accounts(tmp_path, "eu", "us") as both:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "meter_sync", *both.given("run", "--as-of", both.now.isoformat())]
        environment = {"PATH": os.environ["PATH"], **both.environment, "TERM": "xterm", "COLUMNS": "120"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True, check=False)
        os.close(theirs)
        shown = os.read(ours, 100_000).decode(errors="replace")
        os.close(ours)
        billed = both.billed

    assert (done.returncode, billed) == (0, {"eu": 10, "us": 20})
    assert "accounts" in shown
