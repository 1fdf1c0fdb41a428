"""One process receives the events of several accounts, each at a path of its own: and one's trouble is no other's."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.ledger import Scope, open_ledger
from meter_sync.ledger.store import row_name
from meter_sync.ledger.webhook_queue import WebhookEvent
from tests.support.accounts import Accounts, accounts
from tests.support.webhook import about, serving

Made = Callable[..., Accounts]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    """Accounts of these names, whose clocks stand still at the real present, each with a webhook secret of its own."""
    present = datetime.now(UTC).replace(microsecond=0)
    opened = []

    def make(*names: str) -> Accounts:
        context = accounts(tmp_path, *names, now=present, period_start=present - timedelta(days=3))
        all_of_them = context.__enter__()
        opened.append(context)
        all_of_them.configure("".join(row(all_of_them, name) for name in names))
        return all_of_them

    yield make
    for context in opened:
        context.__exit__(None, None, None)


def row(world: Accounts, name: str, of_stripe: str = "") -> str:
    """An account's row with a webhook secret of its own, and more of [accounts.stripe]."""
    file = world.file(f"{name}.webhook", secret(name))
    own = f'[accounts.stripe]\nwebhook_secret_file = "{file}"\n{of_stripe}'
    return world.row(name).replace("[accounts.stripe]\n", own)


def secret(name: str) -> str:
    return f"whsec_of_{name}"


NO_COMMON_SECRET = {"STRIPE_WEBHOOK_SECRET": ""}


def test_each_account_has_a_path_a_secret_and_a_queue_of_its_own(made: Made) -> None:
    world = made("eu", "us")
    with serving(world, **NO_COMMON_SECRET) as served:
        event = about(world.subscriptions["us"])
        refused = [served.deliver(event, secret("eu"), to="/webhook/us"), served.deliver(event, secret("us"))]
        refused += [served.deliver(event, secret("us"), to=path) for path in ("/webhook/no", "/webhook/us/")]
        assert (refused, world.billed["us"]) == ([400, 404, 404, 404], 0)
        world.sandboxes["eu"].stripe.keys.clear()  # a wrong key

        assert served.deliver(about(world.subscriptions["eu"]), secret("eu"), to="/webhook/eu") == 200
        served.logged("webhook_try_again", account="eu")
        assert served.deliver(event, secret("us"), to="/webhook/us") == 200
        done = served.logged("webhook_done", account="us")

        assert (done["subscription"], world.billed) == (world.subscriptions["us"], {"eu": 0, "us": 20})
        assert served.health == {"status": "ok", "queued": 1, "accounts": {"eu": 1, "us": 0}}
        assert not served.all_logged("webhook_done", account="eu")


def test_an_account_whose_configuration_is_wrong_is_named_and_its_events_come_again(made: Made) -> None:
    world = made("eu", "us")
    world.configure(row(world, "eu", "rat = 3\n") + row(world, "us"))
    with serving(world, **NO_COMMON_SECRET) as served:
        named = served.logged("webhook_account_not_served")
        assert (named["account"], named["level"], "stripe.rat" in named["because"]) == ("eu", "error", True)
        assert served.deliver(about("sub_1"), secret("eu"), to="/webhook/eu") == 503
        assert served.logged("webhook_not_queued")["account"] == "eu"
        assert served.deliver(about(world.subscriptions["us"]), secret("us"), to="/webhook/us") == 200
        served.logged("webhook_done", account="us")
        assert served.health["unserved"] == ["eu"]
    assert world.billed == {"eu": 0, "us": 20}


def test_where_no_account_can_be_served_it_does_not_begin_and_names_each(made: Made) -> None:
    world = made("eu", "us")
    rows = row(world, "eu", "rat = 3\n") + row(world, "us", "rat = 4\n")
    done = world.meter_sync("webhook", "--port", "0", toml=rows)
    assert (done.code, done.stdout) == (78, "")
    assert all(f"[[accounts]] {name}: stripe.rat" in done.stderr for name in ("eu", "us"))


def test_books_that_are_damaged_keep_no_other_account_waiting(made: Made) -> None:
    world = made("eu", "us")
    for name in ("eu", "us"):
        put(world, name)
    with closing(sqlite3.connect(str(world.ledger))) as database, database:
        database.execute("INSERT INTO bindings VALUES (?, x'00', 'sandbox', 0)", [row_name("eu")])
    with serving(world, **NO_COMMON_SECRET) as served:
        served.logged("webhook_done", account="us")
        assert "bindings" in served.logged("webhook_report_ended", account="eu")["message"]


def test_what_an_earlier_process_left_is_worked_off_and_nothing_is_begun_for_others(made: Made) -> None:
    world = made("eu", "us", "quiet")
    put(world, "eu")
    put(world, "gone")  # its row is there no more
    with serving(world, "--account", "eu", "--account", "quiet", **NO_COMMON_SECRET) as served:
        served.logged("webhook_done", account="eu")
        assert served.deliver(about(world.subscriptions["us"]), secret("us"), to="/webhook/us") == 404
        assert served.health["accounts"] == {"eu": 0, "quiet": 0}
    assert world.billed == {"eu": 10, "us": 0, "quiet": 0}
    assert [name for name, sandbox in world.sandboxes.items() if sandbox.requests] == ["eu"]


def test_one_account_alone_is_served_at_the_common_path_and_at_its_own(made: Made) -> None:
    world = made("eu", "us")
    with serving(world, "--account", "us", **NO_COMMON_SECRET) as served:
        event = about(world.subscriptions["us"])
        assert [served.deliver(event, secret("us"), to=path) for path in ("/webhook", "/webhook/us")] == [200, 200]
        served.logged("webhook_done", account="us")
        assert served.logged("webhook_repeated")["account"] == "us"
        assert served.deliver(about("sub_x", "evt_x", account="acct_1Other"), secret("us")) == 200
        assert "acct_1Other" in served.logged("webhook_ignored", event_id="evt_x", level="warning")["why"]
        assert served.health == {"status": "ok", "queued": 0}
        assert served.deliver(event, secret("eu"), to="/webhook/eu") == 404


def put(world: Accounts, name: str) -> None:
    """Leave an event in an account's queue, as a process does that ended before it was reported."""
    event = WebhookEvent(f"evt_{name}", "invoice.created", world.subscriptions.get(name), datetime.now(UTC))
    with open_ledger(world.ledger, Scope(name, "sandbox")) as ledger:
        ledger.webhook_queue.enqueue(event)
