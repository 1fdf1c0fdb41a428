"""No key is printed, logged, kept or shown to other users, whatever goes wrong and however much is logged."""

import asyncio
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stripe
import structlog

from meter_sync.cli.globals import Globals
from meter_sync.config import load
from meter_sync.core.outcomes import ExitCode
from meter_sync.ledger import Scope, open_ledger
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Fault
from meter_sync.sync.job import open_job
from meter_sync.sync.progress import NoProgress
from meter_sync.sync.request import Request, run_record
from tests.security.tls import CERTIFICATE, listening
from tests.support.forked import template
from tests.support.permissions import EXACTLY
from tests.support.ways import one_fast
from tests.support.webhook import about, serving
from tests.support.world import NOW, Outcome, World

STRIPE_KEY = "rk_test_51TheKeyOfStripeThatNobodySees"
OPENMETER_KEY = "om_TheKeyOfOpenMeterThatNobodySees"
WEBHOOK_SECRET = "whsec_TheSecretOfTheWebhookThatNobodySees"
UNSEEN = b"ThatNobodySees"
"""What no output and no file may have: part of each of the three."""
AS_TALKATIVE_AS_CAN_BE = {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1"}
ECHO = f'{{"error": {{"message": "you sent {STRIPE_KEY}"}}, "detail": "you sent {OPENMETER_KEY}"}}'
"""What a careless server, or a proxy before it, may answer: Stripe's message, and OpenMeter's detail."""

ON_THE_WIRE: dict[str, dict[str, Any]] = {
    "401": {"status": 401},
    "429": {"status": 429},
    "400 with the key": {"status": 400, "text": ECHO},
    "401 with the key": {"status": 401, "text": ECHO},
    "403 with the key": {"status": 403, "text": ECHO},
    "500 with the key": {"status": 500, "text": ECHO},
    "no answer": {"drop": "before"},
    "half an answer": {"truncate": True},
    "no JSON": {"replace_text": "{", "replace_content_type": "application/json"},
}
IN_THE_ENVIRONMENT: dict[str, dict[str, str]] = {
    "keys in the wrong place": {
        "STRIPE_API_KEY": OPENMETER_KEY,
        "OPENMETER_URL": OPENMETER_KEY,
        "STRIPE_API_BASE": STRIPE_KEY,
        "STRIPE_WEBHOOK_SECRET": STRIPE_KEY,
        "METER_SYNC_STRIPE_RATE": STRIPE_KEY,
        "METER_SYNC_OPENMETER_CONCURRENCY": OPENMETER_KEY,
        "METER_SYNC_SUBJECT": OPENMETER_KEY,
    },
    "keys in addresses": {
        "OPENMETER_URL": f"https://user:{OPENMETER_KEY}@example.com",
        "STRIPE_API_BASE": f"https://user:{STRIPE_KEY}",
    },
    "keys with a space": {
        "STRIPE_API_KEY": f"{STRIPE_KEY} x",
        "OPENMETER_API_KEY": f"{OPENMETER_KEY} x",
        "STRIPE_WEBHOOK_SECRET": f"{WEBHOOK_SECRET} x",
    },
}
IN_TOML = {
    "keys that belong into files": f'[stripe]\napi_key = "{STRIPE_KEY}"\nwebhook_secret = "{WEBHOOK_SECRET}"\n',
    "keys for tables": f'mapping = "{STRIPE_KEY}"\nmeters = ["{OPENMETER_KEY}"]\n',
    "a key without quotes": f"[stripe]\napi_key = {STRIPE_KEY}\n",
}


@contextmanager
def secretive(folder: Path, now: datetime) -> Iterator[World]:
    """A world with keys that can be told apart from everything else, and a folder for all that is written."""
    folder.mkdir()
    world = World(folder, now)
    world.sandbox.stripe_key = world.stripe.add_restricted_key(STRIPE_KEY, EXACTLY)
    world.sandbox.openmeter_key = world.openmeter.token = OPENMETER_KEY
    with world.sandbox.in_background():
        yield world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with secretive(tmp_path / "world", NOW) as world:
        world.use(world.subscribe(), 5)
        yield world


def talkative(world: World, **overrides: str) -> dict[str, str]:
    """An environment in which everything says as much as it can, and writes where it is found."""
    homes = dict.fromkeys(("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"), str(world.folder))
    settings = {"STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET, "METER_SYNC_RETRY_SECONDS": "0.1", **homes}
    return {**settings, **overrides}


def run(world: World, *arguments: str, log_format: str = "console", **overrides: str) -> Outcome:
    """Run the command, also where it ends in a traceback."""
    environment = world.environment(**talkative(world, **overrides))
    done = template().run(_told(arguments, log_format), environment, world.folder)
    return Outcome(done.returncode, done.stdout, done.stderr)


def run_installed(world: World, *arguments: str, **overrides: str) -> Outcome:
    """Run the installed command, in an interpreter that says all that it can."""
    done = subprocess.run(
        world.command(*_told(arguments, "console")),
        env=world.environment(**talkative(world, **AS_TALKATIVE_AS_CAN_BE, **overrides)),
        cwd=world.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def _told(arguments: Sequence[str], log_format: str) -> list[str]:
    return ["--log-level", "debug", "--log-format", log_format, *arguments]


def about_now(world: World) -> list[str]:
    return ["run", "--output", "json", "--as-of", world.now.isoformat()]


def reported(world: World, **overrides: str) -> Outcome:
    return run(world, *about_now(world), **overrides)


def is_unseen(world: World, *outcomes: Outcome, but: Path | None = None) -> bool:
    """Whether no output and no file but one has a part of a key; there must be both to look at."""
    files = [path for path in world.folder.rglob("*") if path.is_file() and path != but]
    outputs = [text.encode() for one in outcomes for text in (one.stdout, one.stderr)]
    assert any(outputs)
    return not any(UNSEEN in text for text in (*outputs, *(path.read_bytes() for path in files)))


def test_what_the_sdk_logs_when_it_is_asked_to_shows_no_key(world: World) -> None:
    done = run_installed(world, *about_now(world), STRIPE_LOG="debug")

    assert "Request to Stripe api" in done.stderr
    assert (done.code, is_unseen(world, done)) == (0, True)


def test_what_history_tells_shows_no_key(world: World) -> None:
    assert reported(world).code == 0

    assert is_unseen(world, run(world, "history"), run(world, "history", "--unbilled", "--output", "json"))


@pytest.mark.parametrize("server", one_fast(["stripe", "openmeter"], "stripe"))
@pytest.mark.parametrize("fault", ON_THE_WIRE)
def test_no_answer_makes_the_program_say_a_key(world: World, server: Any, fault: str) -> None:
    effect = ON_THE_WIRE[fault]
    world.sandbox.faults.add(Fault(server=server, times=None, saved=False, **effect))

    done = reported(world)

    assert done.code in (ExitCode.FAILED, ExitCode.TRY_AGAIN, ExitCode.CONFIGURATION)
    assert is_unseen(world, done)


@pytest.mark.parametrize("fault", ["400 with the key", "403 with the key", "500 with the key", "half an answer"])
def test_no_answer_to_a_write_brings_a_key_into_the_ledger(world: World, fault: str) -> None:
    world.sandbox.faults.add(Fault(method="POST", path="/usage_records$", times=None, **ON_THE_WIRE[fault]))

    done = reported(world)

    assert done.code in (ExitCode.FAILED, ExitCode.CONFIGURATION)
    assert world.ledger.stat().st_size > 0
    assert is_unseen(world, done)


@pytest.mark.parametrize("address", ["STRIPE_API_BASE", "OPENMETER_URL"])
def test_no_connection_that_fails_makes_the_program_say_a_key(world: World, address: str) -> None:
    with listening(CERTIFICATE) as listener:
        urls = ("http://127.0.0.1:9", f"https://localhost:{listener.port}", "https://no-such-host.invalid")
        done = [reported(world, **{address: url}) for url in urls]

    assert [one.code for one in done] == [75, 78, 75]
    assert is_unseen(world, *done)


@pytest.mark.parametrize("command", [("run",), ("run", "--closing", "3m"), ("webhook", "--port", "0")], ids=" ".join)
@pytest.mark.parametrize("mistake", IN_THE_ENVIRONMENT)
def test_no_mistake_in_the_environment_makes_the_program_say_a_key(
    world: World, mistake: str, command: tuple[str, ...]
) -> None:
    done = run(world, *command, log_format="json", **IN_THE_ENVIRONMENT[mistake])

    assert done.code == ExitCode.CONFIGURATION
    assert is_unseen(world, done)


@pytest.mark.parametrize("mistake", IN_TOML)
def test_no_mistake_in_the_file_makes_the_program_say_a_key(world: World, mistake: str) -> None:
    world.configure(IN_TOML[mistake])

    done = reported(world)

    assert done.code == ExitCode.CONFIGURATION
    assert is_unseen(world, done, but=world.config)


def test_a_crash_shows_no_key(world: World) -> None:
    """A ledger that somebody wrote into is what nobody thought of."""
    assert reported(world).code == 0
    with sqlite3.connect(world.ledger) as connection:
        connection.execute("UPDATE item_periods SET subjects = ?", ["[" * 100_000])
    connection.close()
    (customer,) = world.stripe.state.customers
    world.use(customer.id, 1)

    crashed = run_installed(world, *about_now(world))

    assert (crashed.code, crashed.error_code) == (ExitCode.FAILED, "internal")
    assert "Traceback" in crashed.stderr
    assert is_unseen(world, crashed)


def test_the_webhook_shows_no_secret(tmp_path: Path) -> None:
    """Not for a wrong signature, nor for a body that has one."""
    with secretive(tmp_path / "world", datetime.now(UTC).replace(microsecond=0)) as world:
        subscription = world.subscribe(period_start=world.now - timedelta(days=3))
        world.use(subscription, 5)
        with serving(world, **talkative(world)) as served:
            body = f'{{"id": "{WEBHOOK_SECRET}"}}'.encode()
            forged = {"Stripe-Signature": f"t=1,v1={WEBHOOK_SECRET}"}
            assert served.request("POST", "/webhook", body, forged)[0] == 400
            assert served.deliver(about(subscription.id), "whsec_of_a_forger") == 400
            assert served.deliver(b"{", WEBHOOK_SECRET) == 400
            assert served.deliver(about(subscription.id), WEBHOOK_SECRET) == 200
            served.done(1)
            served.logged("webhook_refused", times=3)

        assert world.billed(subscription) == 5
        assert is_unseen(world, Outcome(0, "", served.output))


def test_the_process_list_shows_no_key_and_what_a_kill_leaves_has_none(world: World) -> None:
    world.sandbox.faults.add(Fault(method="POST", path="/usage_records$", times=None, delay_seconds=60))
    arguments = ("--log-level", "debug", "run", "--as-of", world.now.isoformat())
    process = world.start(*arguments, **talkative(world, METER_SYNC_RETRY_SECONDS="60"))
    world.sandbox.wait_for("POST", "/query")
    shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    process.kill()
    stdout, stderr = process.communicate()

    assert b"meter-sync" in shown
    assert UNSEEN not in shown
    assert world.ledger.exists()
    assert is_unseen(world, Outcome(process.wait(), stdout, stderr))


def test_nothing_that_holds_a_key_shows_it(tmp_path: Path) -> None:
    """Neither the settings nor what is made of them, down to the objects of the SDKs."""
    keys = {"STRIPE_API_KEY": STRIPE_KEY, "OPENMETER_API_KEY": OPENMETER_KEY, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET}
    settings = load(None, {**keys, "METER_SYNC_LEDGER": str(tmp_path / "ledger")}, {}, for_webhook=True)

    async def shown() -> list[str]:
        clock = partial(datetime.now, UTC)
        with open_ledger(settings.ledger, Scope("", "sandbox")) as ledger:
            asked = Request()
            run = run_record(asked, "hourly", clock())
            async with open_job(settings, asked, run, ledger, clock, Stop(), NoProgress()) as job:
                held = list(held_by(job))
                assert any(isinstance(one, stripe.StripeClient) for one in held)
                return [repr(one) for one in (settings, settings.stripe, settings.openmeter, job, *held)]

    assert not [text for text in asyncio.run(shown()) if UNSEEN.decode() in text]


def held_by(thing: object) -> Iterator[object]:
    """What an object of this program is made of, with what that is made of."""
    names = [*vars(thing)] if hasattr(thing, "__dict__") else [*getattr(type(thing), "__slots__", ())]
    for one in (getattr(thing, name) for name in names):
        yield one
        if type(one).__module__.startswith("meter_sync.") and not type(one).__module__.startswith("meter_sync.ledger"):
            yield from held_by(one)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_in_the_log_shows_no_variables(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    def fail(headers: dict[str, str]) -> None:
        raise RuntimeError(f"{len(headers)} header")

    Globals(log_format=log_format, log_level="debug").start_logging()
    try:
        fail({"Authorization": f"Bearer {STRIPE_KEY}"})
    except RuntimeError:
        structlog.get_logger().exception("failed")
    finally:
        structlog.reset_defaults()

    logged = capsys.readouterr().err
    assert "failed" in logged
    assert ("RuntimeError: 1 header" in logged) is (log_format == "console")
    assert UNSEEN.decode() not in logged
