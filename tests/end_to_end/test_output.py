"""What is printed and logged, where it goes, and what holds when it cannot be written."""

import csv
import io
import json
import os
import pty
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pytest

from meter_sync.cli.printing import Made, print_json
from meter_sync.cli.streams import Lossy
from meter_sync.sandbox import Fault
from tests.support.forked import template
from tests.support.ways import end_of, one_fast
from tests.support.world import METER, Outcome, World


@contextmanager
def full_disk() -> Iterator[IO[bytes]]:
    """Yield a file on which there is no room."""
    with Path("/dev/full").open("wb") as file:
        yield file


@contextmanager
def unread_pipe() -> Iterator[IO[bytes]]:
    """Yield a pipe that nobody reads any more, as `head` leaves it."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as file:
        yield file


PLACES = {"full_disk": full_disk, "unread_pipe": unread_pipe}
AGAIN = pytest.mark.installed


def into(world: World, place: str, streams: str, *arguments: str) -> Outcome:
    """Run the installed command with streams that go to a place where nothing can be written."""
    with PLACES[place]() as file:
        stdout, stderr = (file if name in streams else subprocess.PIPE for name in ("stdout", "stderr"))
        done = subprocess.run(
            world.command(*arguments),
            env=world.environment(),
            stdout=stdout,
            stderr=stderr,
            text=True,
            timeout=60,
            check=False,
        )
    return Outcome(done.returncode, done.stdout or "", done.stderr or "")


@pytest.mark.parametrize(
    ("place", "streams", "arguments"),
    [
        pytest.param("full_disk", "stdout", (), marks=AGAIN),
        ("unread_pipe", "stdout", ()),
        pytest.param("full_disk", "stderr", (), marks=AGAIN),
        ("full_disk", "stdout stderr", ()),
        pytest.param("unread_pipe", "stderr", (), marks=AGAIN),
        pytest.param("unread_pipe", "stdout stderr", (), marks=AGAIN),
        *(
            pytest.param(place, "stdout", ("--output", output), marks=AGAIN)
            for place in PLACES
            for output in ("json", "csv")
        ),
    ],
)
@pytest.mark.parametrize("log_format", ["json", pytest.param("console", marks=AGAIN)])
def test_a_run_that_cannot_say_anything_bills_all_the_same(
    world: World, place: str, streams: str, arguments: tuple[str, ...], log_format: str
) -> None:
    subscriptions = [world.subscribe() for _ in range(3)]
    for one in subscriptions:
        world.use(one, 5)
    options = ("--log-level", "debug", "--log-format", log_format)

    done = into(world, place, streams, *options, "run", "--as-of", world.now.isoformat(), *arguments)

    assert done.code == 1
    assert [world.billed(one) for one in subscriptions] == [5, 5, 5]
    with world.books() as ledger:
        (run,) = ledger.runs.past(None, None, 2)
    assert (run.exit_code, run.counts) == (0, {"reported": 3})
    assert_is_quiet(done)
    is_told = place == "full_disk" and streams == "stdout"
    assert ("could not be printed: No space left on device" in done.stderr) is is_told
    assert ("3 items: 3 reported" in done.stdout) is (streams == "stderr")


def assert_is_quiet(done: Outcome) -> None:
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("history",), *(pytest.param(one, marks=AGAIN) for one in [("--help",), ("history", "--output", "json")])],
)
@pytest.mark.parametrize("place", PLACES)
def test_other_commands_say_by_their_exit_code_that_nothing_could_be_printed(
    world: World, place: str, arguments: tuple[str, ...]
) -> None:
    world.run()

    done = into(world, place, "stdout", *arguments)

    assert done.code == 1
    assert_is_quiet(done)
    assert ("No space left on device" in done.stderr) is (place == "full_disk")
    assert len(done.stderr.splitlines()) == (1 if place == "full_disk" else 0)


def healthy(world: World) -> None:
    world.use(world.subscribe(), 5)


def nobody_answers(world: World) -> None:
    world.sandbox.faults.add(Fault(server="stripe", status=500, times=None))


def one_item_fails(world: World) -> None:
    world.use(world.subscribe(), 5)
    world.sandbox.faults.add(Fault(server="stripe", method="POST", status=400, times=None))


def a_file_is_wrong(world: World) -> None:
    world.configure("this is no TOML")


def the_ledger_has_nonsense(world: World) -> None:
    """Somebody wrote into the ledger what nobody thought of: the program crashes."""
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.run()
    world.use(subscription, 5)
    with sqlite3.connect(world.ledger) as connection:
        connection.execute("UPDATE item_periods SET subjects = ?", ["[" * 100_000])
    connection.close()


RUN = ("run",)
KINDS: dict[str, tuple[Callable[[World], None], tuple[str, ...], int, dict[str, str]]] = {
    "well": (healthy, RUN, 0, {}),
    "failed": (one_item_fails, RUN, 1, {}),
    "unanswered": (nobody_answers, RUN, 75, {}),
    "unreachable": (healthy, RUN, 75, {"OPENMETER_URL": "http://127.0.0.1:9"}),
    "key": (healthy, RUN, 78, {"STRIPE_API_KEY": "sk_test_other"}),
    "no key": (healthy, RUN, 78, {"STRIPE_API_KEY": ""}),
    "file": (a_file_is_wrong, RUN, 78, {}),
    "nobody": (healthy, ("run", "--customer", "cus_nobody"), 1, {}),
    "crash": (the_ledger_has_nonsense, RUN, 1, {}),
    "verify": (nobody_answers, ("verify",), 75, {}),
    "history": (a_file_is_wrong, ("history",), 78, {}),
    "webhook": (healthy, ("webhook",), 78, {}),
    "no such option": (healthy, ("run", "--no-such"), 2, {}),
    "no such command": (healthy, ("runn",), 2, {}),
    "no such level": (healthy, ("--log-level", "loud", "run"), 2, {}),
    "no such value": (healthy, ("run", "--as-of", "yesterday"), 2, {}),
    "not together": (healthy, ("run", "--closing", "3m", "--customer", "cus_x"), 2, {}),
}


def events_of(stderr: str) -> list[dict[str, Any]]:
    """Return what stderr says, each line of which is to be a JSON object."""
    events = [json.loads(line) for line in stderr.splitlines()]
    for event in events:
        assert {"event", "level", "timestamp", "run_id"} <= set(event), event
        assert event["event"] != "stderr", event
    return events


SOME = ("well", "failed", "crash", "not together")


@pytest.mark.parametrize("kind", [pytest.param(one, marks=() if one in SOME else AGAIN) for one in KINDS])
def test_with_json_every_line_on_stderr_is_a_json_object(world: World, kind: str) -> None:
    prepare, arguments, code, variables = KINDS[kind]
    prepare(world)
    as_of = ("--as-of", world.now.isoformat()) if arguments[0] == "run" and "--closing" not in arguments else ()
    output = ("--output", "json") if arguments[0] in ("run", "verify") else ()
    asked = ("--log-format", "json", "--log-level", "debug", *arguments[:1], *as_of, *output, *arguments[1:])

    given = world.environment(METER_SYNC_RETRY_SECONDS="0.1", **variables)
    config = ("--config", str(world.config)) if world.config.exists() else ()
    done = template().run([*config, *asked], given, world.folder)

    assert done.returncode == code
    events = events_of(done.stderr)
    document = json.loads(done.stdout) if done.stdout else None
    if document and "run" in document:
        of_run = [event for event in events if event["event"] != "configuration"]  # which comes before the run
        assert {event["run_id"] for event in of_run} == {document["run"]["id"]}
    errors = [event for event in events if event["event"] == "error"]
    if code not in (0, 3, 4) and kind != "failed":
        assert [set(one) >= {"code", "message", "hint"} for one in errors] == [True]
    if kind == "crash":
        (crash,) = [event for event in events if event["event"] == "crash"]
        assert "Traceback" in crash["traceback"]


def test_what_a_library_or_python_itself_says_is_an_event_too(world: World) -> None:
    said = "import sys, warnings; from meter_sync.cli.streams import *; make_lossy(); make_events_of_stderr(); "
    said += "warnings.warn('beware'); print('of a', 'library', file=sys.stderr)"
    python = Path(world.command()[0]).with_name("python")

    done = subprocess.run([python, "-c", said], capture_output=True, text=True, check=True)

    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {event["event"] for event in events} == {"stderr"}
    assert [any(words in event["message"] for event in events) for words in ("beware", "of a library")] == [True, True]


def test_debug_shows_each_request_with_its_attempt_and_no_secret(world: World) -> None:
    world.use(world.subscribe(), 5)
    world.sandbox.faults.add(Fault(server="stripe", method="POST", path="/usage_records$", status=500))
    options = ("--log-level", "DEBUG", "--log-format", "json")

    done = world.meter_sync(
        *options, "run", "--output", "json", "--as-of", world.now.isoformat(), METER_SYNC_RETRY_SECONDS="5"
    )

    requests = [event for event in events_of(done.stderr) if event["event"] == "request"]
    summary = done.document["summary"]
    assert len(requests) == summary["stripe_requests"] + summary["openmeter_requests"]
    assert {one["run_id"] for one in requests} == {done.document["run"]["id"]}
    written = [one for one in requests if one["path"].endswith("/usage_records")]
    assert [(one["method"], one["status"], one["attempt"]) for one in written] == [("POST", 500, 1), ("POST", 200, 2)]
    assert all(one["seconds"] >= 0 and one["host"] == "127.0.0.1" for one in requests)
    for key in (world.sandbox.stripe_key, world.sandbox.openmeter_key):
        assert key not in done.stderr
    quieter = world.meter_sync("--log-level", "info", "--log-format", "json", "run", "-n")
    assert '"request"' not in quieter.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("runn",), "Did you mean 'run'?"),
        (("histroy",), "Did you mean 'history'?"),
        (("run", "--custmer", "cus_x"), "'--customer'"),
        (("--log-levl", "info", "run"), "Did you mean '--log-level'?"),
    ],
)
def test_what_was_meant_is_asked(world: World, arguments: tuple[str, ...], words: str) -> None:
    done = world.meter_sync(*arguments)

    assert done.code == 2
    assert words in done.stderr


def test_a_plain_date_is_its_midnight_in_utc(world: World) -> None:
    world.use(world.subscribe(), 5)
    day = f"{world.now:%Y-%m-%d}"

    audit = world.run("-n", "--as-of", day)
    world.run()
    (run,) = world.meter_sync("history", "--output", "json").document["runs"]
    began, tomorrow = datetime.fromisoformat(run["started_at"]), timedelta(days=1)
    told = [
        world.meter_sync("history", *narrowed, "--output", "json").document["runs"]
        for narrowed in (
            ("--since", f"{began:%Y-%m-%d}"),
            ("--until", f"{began + tomorrow:%Y-%m-%d}"),
            ("--until", f"{began:%Y-%m-%d}"),
            ("--since", f"{began + tomorrow:%Y-%m-%d}"),
        )
    ]

    assert audit.document["run"]["as_of"] == f"{day}T00:00:00Z"
    assert told == [[run], [run], [], []]
    assert world.meter_sync("history", "--since", "2026-02-30").code == 2
    assert world.meter_sync("history", "--explain", "si_x", "--period", day).code == 2


@pytest.mark.parametrize("subject", one_fast(["=1+1", "+1", "-1+1", "@x"], "=1+1"))
def test_no_text_in_csv_is_a_formula(world: World, subject: str) -> None:
    world.configure('[mapping]\nsubject = "customer.metadata.tenant"\n')
    world.subscribe(customer=world.stripe.add_customer("cus_x", {"tenant": subject}))
    world.use(subject, 5)
    world.openmeter.value_overrides[METER, subject] = "-7"

    done = world.meter_sync("run", "--output", "csv", "--as-of", world.now.isoformat())

    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (row["subjects"], row["usage"]) == (f"'{subject}", "-7")


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "xterm", "COLUMNS": "40"}])
def test_a_poor_terminal_shows_quantity_and_outcome(world: World, environment: dict[str, str]) -> None:
    world.use(world.subscribe(), 1234567)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        world.command("run", "--as-of", world.now.isoformat()),
        env=world.environment(**environment),
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    process.communicate(timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)

    table = re.sub(r"\x1b\[[0-9;]*m", "", shown.partition("1 item:")[0])
    assert re.search(r"1,234,567 +0 +1,234,567", table)
    assert "reported" in table


def test_one_remark_is_made_of_all_that_have_no_subject(world: World) -> None:
    world.configure('[mapping]\nsubject = "customer.metadata.tenant"\n')
    items = [world.subscribe().items[0] for _ in range(3)]

    shown = world.meter_sync("run", "--as-of", world.now.isoformat()).stdout
    rows = world.run().items

    (remark,) = [line for line in shown.splitlines() if "customer.metadata.tenant is empty" in line]
    assert all(item in remark for item in items)
    assert {row["reason"] for row in rows.values()} == {"no_subject"}
    assert set(rows) == set(items)


def test_the_footer_tells_what_is_new_from_what_stood_there_already(world: World) -> None:
    for _ in range(3):
        world.use(world.subscribe(), 5)
    world.run()
    world.use(world.subscribe(), 5)

    shown = world.meter_sync("run", "--resend", "--as-of", world.now.isoformat()).stdout

    assert "4 items: 4 reported (3 of them stood there already)." in shown
    assert "stood there already" not in world.meter_sync("run", "--as-of", world.now.isoformat()).stdout


@pytest.mark.parametrize("shell", one_fast(["bash", "zsh", "fish"], "bash"))
def test_a_shell_is_given_what_completes_commands_and_options(world: World, shell: str) -> None:
    script = world.meter_sync(_METER_SYNC_COMPLETE=f"{shell}_source").stdout
    completed = world.meter_sync(
        _METER_SYNC_COMPLETE="bash_complete", COMP_WORDS="meter-sync run --cust", COMP_CWORD="2"
    ).stdout

    assert "_METER_SYNC_COMPLETE" in script
    assert completed == "plain,--customer\n"


def test_quietly_what_is_held_is_said_in_full_once_and_again_when_it_changes(world: World) -> None:
    held, well = world.subscribe(), world.subscribe()
    for one in (held, well):
        world.use(one, 100)

    def printed(usage: str | None = None, *arguments: str) -> list[str]:
        if usage is not None:
            world.openmeter.value_overrides[METER, world.customer_of(held)] = usage
        world.sandbox.clock.advance(timedelta(hours=1))
        as_of = ("--as-of", world.now.isoformat())
        done = world.meter_sync("run", *as_of, *(arguments or ("--quiet",)))
        assert done.code == (0 if usage == "100" else 4)
        return done.stdout.splitlines()

    in_full, once_more, fell_further = printed("-1"), printed(), printed("-2")
    assert any(("held (invalid_usage)" in line and "below zero" in line) or "negative" in line for line in in_full)
    assert len(once_more) == len(fell_further) == 1
    assert f"{held.items[0]} (invalid_usage)" in once_more[0]
    assert "exit code 4" in once_more[0]
    assert well.items[0] not in once_more[0]
    assert len(printed(None, "--output", "table")) > 3
    assert printed("100") == []
    assert len(printed("-1")) == len(in_full)
    world.openmeter.value_overrides[METER, world.customer_of(held)] = "10"
    assert any("held (decrease)" in line for line in printed())
    assert len(printed("9")) == 1


def let_a_minute_pass(world: World) -> None:
    """Let all that the ledger knows be a minute older by the machine's clock, which no test waits for."""
    with closing(sqlite3.connect(world.ledger)) as connection, connection:
        connection.execute("UPDATE runs SET started_at = started_at - 60")
        connection.execute("UPDATE holds SET last_at = last_at - 60")


@pytest.mark.parametrize(
    ("usage", "code", "reason", "full_says_it_at_length"),
    [("-1", 4, "invalid_usage", False), ("7", 1, "stripe_error", True), ("7", 3, "stripe_error", True)],
    ids=["held", "all failed", "some failed"],
)
def test_a_closing_run_says_nothing_of_what_an_earlier_run_has_said(
    world: World, usage: str, code: int, reason: str, full_says_it_at_length: bool
) -> None:
    """It comes every minute: what a full run, or the one before, has said would be mailed each minute."""
    subscription = world.subscribe()
    (item,) = subscription.items
    others = [] if code == 1 else [world.subscribe()]
    for one in (subscription, *others):
        world.use(one, 5)
    world.run()
    world.sandbox.clock.move_to(end_of(world, subscription) - timedelta(minutes=2))
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = usage
    if reason == "stripe_error":
        world.sandbox.faults.add(Fault(method="POST", path=f"{item}/usage_records", status=400, times=None))

    def printed(*options: str) -> list[str]:
        let_a_minute_pass(world)
        world.sandbox.clock.advance(timedelta(seconds=10))
        for one in others:
            world.use(one, 1, at=world.now)
        done = world.meter_sync("run", *options, "--quiet", "--as-of", world.now.isoformat())
        assert done.code == code
        return done.stdout.splitlines()

    each_minute = ("--closing", "3m")
    in_full = printed(*each_minute)
    assert any(f"({reason})" in line for line in in_full)
    if usage != "-1":  # what grows until the end is no news
        world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "8"
    assert printed(*each_minute) == []
    assert (len(printed()) > 1) is full_says_it_at_length
    assert printed(*each_minute) == []


def test_a_pipe_that_does_not_block_and_is_full_is_waited_for() -> None:
    """As `ssh` and some terminals hand on: a write that must wait there fails, and is nothing lost."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    raw, much = Lossy(writing), b"x" * 1_000_000

    def write_all() -> None:
        try:
            io.BufferedWriter(raw, buffer_size=1).write(much)
        finally:
            os.close(writing)

    with ThreadPoolExecutor(1) as pool, os.fdopen(reading, "rb") as reader:
        written = pool.submit(write_all)
        read = reader.read()
        written.result()

    assert (len(read), raw.lost) == (len(much), None)


@pytest.mark.parametrize("items", one_fast([0, 3], 3))
def test_a_document_that_leaves_in_pieces_is_the_one_that_it_is_as_a_whole(world: World, items: int) -> None:
    for _ in range(items):
        world.use(world.subscribe(), 5)
    told = [
        world.run(),
        *(world.meter_sync(*one, "--output", "json") for one in (["verify"], ["history", "--meter", METER])),
    ]
    for said in told:
        assert said.stdout == json.dumps(said.document, indent=2) + "\n"


def test_of_many_rows_each_leaves_before_the_next_is_made() -> None:
    said = io.StringIO()

    def row(number: int) -> dict[str, int]:
        return {"number": number, "lines_before": said.getvalue().count("\n")}

    with redirect_stdout(said):
        print_json({"items": Made([1, 2, 3], row)})
    lines_before = [one["lines_before"] for one in json.loads(said.getvalue())["items"]]
    assert lines_before == sorted(set(lines_before))
