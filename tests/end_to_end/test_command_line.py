"""The public interface: outputs, streams, options, configuration and exit codes."""

import csv
import io
import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.sandbox import Fault
from tests.support.ways import one_fast
from tests.support.world import METER, NOW, PERIOD_START, UNHURRIED, InstalledWorld, World

DOCUMENT = {"version", "run", "summary", "items", "error"}
RUN = {"id", "started_at", "finished_at", "as_of", "schedule", "dry_run"}
SUMMARY = {
    "items",
    "reported",
    "planned",
    "unchanged",
    "held",
    "skipped",
    "failed",
    "exit_code",
    "stripe_requests",
    "openmeter_requests",
    "seconds",
}
ITEM = {
    "account",
    "customer",
    "subscription",
    "subscription_item",
    "price",
    "meter",
    "subjects",
    "target",
    "period",
    "usage",
    "quantity",
    "previous",
    "carried",
    "unbilled",
    "carried_on",
    "timestamp",
    "outcome",
    "reason",
    "message",
}


@pytest.fixture(params=[World, pytest.param(InstalledWorld, marks=pytest.mark.installed)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """The usual world; and again where the console script is started for each run."""
    world: World = request.param(tmp_path, NOW)
    with world.sandbox.in_background():
        yield world


def test_the_json_document_has_the_promised_keys(either: World) -> None:
    subscription = either.subscribe()
    either.use(subscription, "1234567.5")

    document = either.run().document

    assert set(document) == DOCUMENT
    assert set(document["run"]) == RUN
    assert set(document["summary"]) == SUMMARY
    assert set(document["items"][0]) == ITEM
    assert document["error"] is None
    assert document["run"]["as_of"] == "2025-06-10T12:00:00Z"
    assert document["items"][0] | {"message": None} == {
        "account": None,
        "customer": either.customer_of(subscription),
        "subscription": subscription.id,
        "subscription_item": subscription.items[0],
        "price": either.price,
        "meter": METER,
        "subjects": [either.customer_of(subscription)],
        "target": "usage_record",
        "period": {"start": "2025-06-01T09:30:17Z", "end": "2025-07-01T09:30:17Z"},
        "usage": "1234567.5",
        "quantity": "1234567",
        "previous": "0",
        "carried": None,
        "unbilled": None,
        "carried_on": None,
        "timestamp": "2025-06-01T09:30:18Z",
        "outcome": "reported",
        "reason": None,
        "message": None,
    }


@pytest.mark.parametrize(
    ("overrides", "flags", "code"),
    [
        ({"STRIPE_API_KEY": ""}, (), 78),
        ({"STRIPE_API_KEY": "sk_test_other"}, (), 78),
        ({"METER_SYNC_SCHEDULE": "hourly", "METER_SYNC_LEDGER": "/dev/null/ledger"}, (), 78),
        ({"OPENMETER_URL": "http://127.0.0.1:9"}, (), 75),
        ({}, ("--customer", "cus_nobody"), 1),
        ({}, ("--as-of", "2999-01-01T00:00:00Z"), 2),
    ],
)
def test_stdout_is_one_json_document_however_the_run_ends(
    either: World, overrides: dict[str, str], flags: tuple[str, ...], code: int
) -> None:
    done = either.run(*flags, **{"METER_SYNC_RETRY_SECONDS": "0.1", **overrides})

    assert done.code == done.document["summary"]["exit_code"] == code
    assert set(done.document) == DOCUMENT
    assert set(done.document["error"]) == {"code", "message", "hint"}
    assert "what to do: " in done.stderr


def test_csv_has_a_row_for_each_item(either: World) -> None:
    either.use(either.subscribe(), 5)
    either.subscribe(status="paused")

    done = either.meter_sync("run", "--output", "csv", "--as-of", either.now.isoformat())

    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert sorted((row["outcome"], row["quantity"]) for row in rows) == [("reported", "5"), ("skipped", "")]


def test_the_table_names_every_item_and_says_what_to_do(either: World) -> None:
    healthy = either.subscribe()
    either.use(healthy, 1234567)
    unmapped = either.subscribe(either.stripe.add_price())

    done = either.meter_sync("run", "--as-of", either.now.isoformat())

    assert done.code == 4
    for words in (healthy.items[0], "1,234,567", unmapped.items[0], "no_meter_mapping", "om_meter_id", "exit code 4"):
        assert words in done.stdout


def test_quiet_prints_nothing_unless_something_is_wrong(either: World) -> None:
    subscription = either.subscribe()
    either.use(subscription, 5)
    quiet = ("run", "--quiet", "--as-of", either.now.isoformat())

    assert either.meter_sync(*quiet).stdout == ""
    either.openmeter.value_overrides[METER, either.customer_of(subscription)] = "-1"
    assert "invalid_usage" in either.meter_sync(*quiet).stdout


def test_a_run_without_metered_items_is_done(world: World) -> None:
    assert world.run().code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--output", "xml"),
        ("run", "--as-of", "yesterday"),
        ("run", "--as-of", "2025-06-10T12:00:00"),
        ("run", "--allow", "everything"),
        ("run", "--schedule", "weekly"),
        ("run", "--closing", "soon"),
        ("invoice",),
        ("--log-level", "loud", "run"),
    ],
)
def test_wrong_arguments_exit_with_2(either: World, arguments: tuple[str, ...]) -> None:
    done = either.meter_sync(*arguments)

    assert (done.code, done.stdout) == (2, "")
    assert not either.sandbox.requests


@pytest.mark.parametrize("variable", ["DRY_RUN", "AS_OF", "ALLOW", "RESEND", "CUSTOMER", "METER", "PRICE"])
def test_nothing_left_in_the_environment_narrows_or_unbrakes_the_billing(world: World, variable: str) -> None:
    """There is no such variable: whoever sets one means something, and is told that it means nothing."""
    world.use(world.subscribe(), 5)
    names = [f"METER_SYNC_{variable}", f"METER_SYNC_RUN_{variable}"]

    done = world.run(**dict.fromkeys(names, "1"))

    assert (done.code, done.error_code) == (78, "configuration")
    assert all(f"{name} is no variable" in done.document["error"]["message"] for name in names)
    assert not world.sandbox.requests


def test_all_problems_of_the_configuration_are_named_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(UNHURRIED, "METER_SYNC_STRIPE_RATE")  # a variable would win over the file
    world.configure(
        'scheduel = "hourly"\n[stripe]\nrate = -1\n[mapping]\nsubject = "customer.name"\n'
        '[[meters]]\nopenmeter = "x"\n[[meters]]\nprice = "p"\nopenmeter = "m"\nscale = 0\n'
    )

    done = world.run(
        OPENMETER_URL="http://example.com", METER_SYNC_OPENMETER_CONCURRENCY="many", STRIPE_API_KEY="pk_test_1"
    )

    message = done.document["error"]["message"]
    assert (done.code, done.error_code) == (78, "configuration")
    for named in (
        "scheduel",
        "stripe.rate",
        "mapping.subject",
        "meters.0",
        "meters.1.scale",
        "OPENMETER_URL",
        "publishable",
        "METER_SYNC_OPENMETER_CONCURRENCY",
    ):
        assert named in message
    assert not world.sandbox.requests


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("schedule = ", "is not TOML"),
        ('[stripe]\napi_key = "sk_live_abc"\n', "stripe.api_key"),
        ('[[meters]]\nprice = "p"\nopenmeter = "m"\n[[meters]]\nprice = "p"\nignore = true\n', "two [[meters]] rows"),
        ('[[meters]]\nprice = "p"\nproduct = "q"\nopenmeter = "m"\n', "exactly one of"),
        ('[[meters]]\nprice = "p"\nopenmeter = "m"\nfilter = { model = 3 }\n', "meters.0.filter"),
        ('[[meters]]\nprice = "p"\nopenmeter = "m"\nrecords = "week"\n', "records"),
    ],
)
def test_a_wrong_file_is_named_with_the_place(world: World, toml: str, words: str) -> None:
    world.configure(toml)

    done = world.run()

    assert done.code == 78
    assert words in done.document["error"]["message"]
    assert str(world.config) in done.document["error"]["message"]
    assert "sk_live_abc" not in done.stdout + done.stderr


def test_a_configuration_file_that_is_missing_is_named(world: World) -> None:
    done = world.meter_sync("--config", "nowhere.toml", "run", "--output", "json")

    assert done.code == 78
    assert "nowhere.toml" in done.document["error"]["message"]


def test_option_then_environment_then_file_then_default(world: World) -> None:
    world.configure('schedule = "daily"\n')
    assert world.run("-n").document["run"]["schedule"] == "daily"
    assert world.run("-n", METER_SYNC_SCHEDULE="hourly").document["run"]["schedule"] == "hourly"
    assert world.run("-n", "--schedule", "daily", METER_SYNC_SCHEDULE="hourly").document["run"]["schedule"] == "daily"


def test_secrets_may_lie_in_files_and_in_systemds_credentials(world: World) -> None:
    world.use(world.subscribe(), 5)
    folder = world.folder / "credentials"
    folder.mkdir()
    for name, key in (("stripe_api_key", world.sandbox.stripe_key), ("openmeter_api_key", world.sandbox.openmeter_key)):
        folder.joinpath(name).write_text(f"{key}\n", encoding="utf-8")
    no_keys = {"STRIPE_API_KEY": "", "OPENMETER_API_KEY": ""}

    by_credentials = world.run(**no_keys, CREDENTIALS_DIRECTORY=str(folder))
    by_files = world.run(
        **no_keys,
        STRIPE_API_KEY_FILE=str(folder / "stripe_api_key"),
        OPENMETER_API_KEY_FILE=str(folder / "openmeter_api_key"),
    )

    assert (by_credentials.code, by_files.code) == (0, 0)


@pytest.mark.parametrize("key", ["pk_test_publishable", "whsec_123456", "sk_test_ümlaut", "sk_test_two\nlines"])
def test_what_is_no_secret_key_is_refused_before_it_is_sent_anywhere(world: World, key: str) -> None:
    done = world.run(STRIPE_API_KEY=key)

    assert done.code == 78
    assert key not in done.stdout + done.stderr
    assert not world.sandbox.requests


def test_no_key_is_ever_logged(world: World) -> None:
    world.use(world.subscribe(), 5)
    world.sandbox.faults.add(Fault(server="stripe", path="/usage_records$", status=500))
    world.sandbox.faults.add(Fault(server="openmeter", path="/query$", status=500))

    done = world.meter_sync("--log-level", "debug", "run", "--as-of", world.now.isoformat())

    written = done.stdout + done.stderr + world.ledger.read_bytes().decode("latin-1")
    assert '"event": "report"' in done.stderr
    assert world.sandbox.stripe_key not in written
    assert world.sandbox.openmeter_key not in written


def test_each_step_is_one_log_event_with_the_runs_id(either: World) -> None:
    either.use(either.subscribe(), 5)

    done = either.meter_sync(
        "--log-level", "info", "--log-format", "json", "run", "--output", "json", "--as-of", either.now.isoformat()
    )

    first, *events = [json.loads(line) for line in done.stderr.splitlines()]
    assert first["event"] == "configuration"
    steps = ["list", "query", "plan", "check", "report", "record"]
    assert [event["event"] for event in events] == ["ledger_bound", *steps]
    assert {event["run_id"] for event in events} == {done.document["run"]["id"]}


def test_what_a_server_says_cannot_drive_the_terminal(world: World) -> None:
    world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "\x07evil\rmeter\x1b[2J"}))

    done = world.meter_sync("run", "--as-of", world.now.isoformat())

    assert not {"\x1b", "\x07", "\r"} & set(done.stdout)
    assert "meter_not_found" in done.stdout


def test_a_future_instant_is_a_wrong_argument(world: World) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()

    done = world.run("--as-of", tomorrow)

    assert (done.code, done.error_code) == (2, "arguments")
    assert not world.sandbox.requests


def test_quiet_shows_only_what_needs_a_look(world: World) -> None:
    healthy, held = world.subscribe(), world.subscribe()
    world.subscribe(status="paused")
    for subscription in (healthy, held):
        world.use(subscription, 5)
    world.openmeter.value_overrides[METER, world.customer_of(held)] = "-1"

    shown = world.meter_sync("run", "--quiet", "--as-of", world.now.isoformat()).stdout

    assert held.items[0] in shown
    assert healthy.items[0] not in shown
    assert "subscription_paused" not in shown
    assert "3 items" in shown


def test_quiet_says_nothing_of_items_that_are_skipped_without_harm(world: World) -> None:
    world.subscribe(status="paused")

    assert world.meter_sync("run", "--quiet", "--as-of", world.now.isoformat()).stdout == ""


def test_one_remark_is_made_for_many_items_alike(world: World) -> None:
    price = world.stripe.add_price(metadata={"om_meter_id": "missing"})
    for _ in range(9):
        world.subscribe(price)

    shown = world.meter_sync("run", "--as-of", world.now.isoformat()).stdout

    assert shown.count("OpenMeter has no meter 'missing'") == 1
    assert "and 4 more" in shown


def test_a_dry_run_says_what_it_does_not_know(world: World) -> None:
    world.use(world.subscribe(), 5)

    assert "the run itself looks first" in world.meter_sync("run", "-n", "--as-of", world.now.isoformat()).stdout
    world.run()
    assert "looks first" not in world.meter_sync("run", "-n", "--as-of", world.now.isoformat()).stdout


def test_an_audit_of_the_past_is_no_decrease(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.use(subscription, 3, at=PERIOD_START)
    world.run()

    audit = world.run("-n", "--as-of", (world.now - timedelta(hours=3)).isoformat())

    assert (audit.code, audit.verdict, audit.item["quantity"]) == (0, ("planned", None), "3")


def test_a_row_that_is_for_no_item_is_warned_about(world: World) -> None:
    world.configure('[[meters]]\nprice = "price_misspelt"\nignore = true\n')
    world.subscribe()

    done = world.run()

    assert '"meters_row_unused"' in done.stderr
    assert "price_misspelt" in done.stderr


@pytest.mark.parametrize("redirection", one_fast([">/dev/full", ">&-", "2>&-", ">&- 2>&-"], ">&- 2>&-"))
def test_output_that_cannot_be_written_costs_no_billing(world: World, redirection: str) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    command = " ".join(world.command("run", "--as-of", world.now.isoformat()))

    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} {redirection}"],
        env=world.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert "Traceback" not in done.stderr
    assert done.returncode == (1 if "full" in redirection else 0)
    assert world.billed(subscription) == 5


def test_a_broken_link_to_the_configuration_does_not_mean_the_defaults(world: World) -> None:
    world.folder.joinpath("meter-sync.toml").symlink_to("nowhere")

    done = subprocess.run(
        [world.command()[0], "run", "--output", "json"],
        env=world.environment(),
        cwd=world.folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 78
    assert not world.sandbox.requests


def test_an_address_that_is_not_stripe_says_so(world: World) -> None:
    done = world.run(STRIPE_API_BASE=world.sandbox.openmeter_url)

    assert (done.code, done.error_code) == (78, "stripe_address")


def test_an_unreachable_server_says_why(world: World) -> None:
    done = world.run(STRIPE_API_BASE="http://127.0.0.1:9", METER_SYNC_RETRY_SECONDS="0.1")

    assert "Cannot connect to host 127.0.0.1:9" in done.document["error"]["message"]


def test_progress_is_shown_on_a_terminal_only(world: World) -> None:
    for _ in range(5):
        world.use(world.subscribe(), 5)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        world.command("run", "--output", "json", "--as-of", world.now.isoformat()),
        env=world.environment(TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    stdout, _ = process.communicate(timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode(errors="replace")  # a busy machine shows more than a terminal holds
    os.close(ours)

    assert json.loads(stdout)["summary"]["reported"] == 5
    assert "report" in shown
    assert world.run().stderr == ""


def test_help_loads_no_sdk(world: World) -> None:
    heavy = {"stripe", "openmeter", "sqlalchemy", "aiohttp", "rich", "pydantic", "jinja2", "babel"}
    probe = (
        "import sys; from meter_sync.cli import cli; cli(['--help'], standalone_mode=False); "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    command = world.command()[0]
    python = os.path.join(os.path.dirname(command), "python")

    done = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_the_module_runs_like_the_command(world: World) -> None:
    python = os.path.join(os.path.dirname(world.command()[0]), "python")

    done = subprocess.run([python, "-m", "meter_sync", "--version"], capture_output=True, text=True, check=True)

    assert done.stdout == world.meter_sync("--version").stdout


def test_a_terminal_is_shown_a_table_that_fits_it(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 1234567)
    world.subscribe(world.stripe.add_price())
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        world.command("run", "--as-of", world.now.isoformat()),
        env=world.environment(TERM="xterm", COLUMNS="100"),
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, stderr = process.communicate(timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode(errors="replace")  # a busy machine shows more than a terminal holds
    os.close(ours)

    assert stderr == ""
    assert "1,234,567" in shown
    assert "no_meter_mapping" in shown.replace("\r\n", "")
    assert "\x1b[" in shown


@pytest.mark.parametrize(
    "how", one_fast([{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"METER_SYNC_NO_COLOR": "1"}], {"NO_COLOR": "1"})
)
def test_no_color_is_honoured(world: World, how: dict[str, str]) -> None:
    world.subscribe(world.stripe.add_price())
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        world.command("run", "--as-of", world.now.isoformat()),
        env=world.environment(**{"TERM": "xterm", **how}),
        stdout=theirs,
        stderr=theirs,
    )
    process.wait(timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode(errors="replace")  # a busy machine shows more than a terminal holds
    os.close(ours)

    assert "exit code 4" in shown
    assert not re.search(r"\x1b\[[0-9;]*[34]\dm", shown)
