"""What is printed and logged, where it goes, and what holds when it cannot be written."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from meter_sync.sandbox import Fault
from tests.support.forked import template
from tests.support.world import Outcome, World


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
        ("full_disk", "stdout", ()),
        ("unread_pipe", "stdout", ()),
        ("full_disk", "stderr", ()),
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
        connection.execute("UPDATE item_periods SET quantity = 'many'")
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


@pytest.mark.parametrize("kind", KINDS)
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
        assert {event["run_id"] for event in events} == {document["run"]["id"]}
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
