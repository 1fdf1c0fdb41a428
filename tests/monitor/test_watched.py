"""Whatever becomes of monitors, the run is as it would be without, and no monitor keeps another from its work."""

import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from meter_sync.config import Configuration, MonitorSettings, load
from meter_sync.core.schedule import Schedule
from meter_sync.errors import MeterSyncError
from meter_sync.monitor.beside import READ_SECONDS
from meter_sync.monitor.watched import Watched
from meter_sync.sync.request import Request, failed_before_it_began
from tests.support.listening import Listener, listening
from tests.support.world import NOW, World

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Apprise imports what Python 3.13 has not

LIMIT_SECONDS = 0.4


def watched_by(listener: Listener, folder: Path) -> MonitorSettings:
    folder.joinpath("notify").write_text(f"json://{listener.address}\n")
    return MonitorSettings.model_validate(
        {
            "ping_url": f"http://{listener.address}/check",
            "textfile": folder / "meter_sync.prom",
            "notify_file": folder / "notify",
        }
    )


def told(settings: MonitorSettings, limit_seconds: float = LIMIT_SECONDS) -> dict[str, str]:
    """Do what the command does around a run that fails; return why each monitor did."""
    request = Request(run_id=str(uuid.uuid4()))
    with capture_logs() as logged:
        watched = Watched(request, limit_seconds)
        watched.begin(Configuration(None, {}, [], {}, None, settings))
        watched.end(failed_before_it_began(MeterSyncError("no"), request, Schedule.HOURLY, NOW), "0 items.")
    assert {one["event"] for one in logged} <= {"monitor_failed"}
    assert {one["run_id"] for one in logged} <= {request.run_id}
    return {one["monitor"]: one["message"] for one in logged}


def test_each_is_told(tmp_path: Path, listener: Listener) -> None:
    assert told(watched_by(listener, tmp_path), limit_seconds=8) == {}

    assert [path for path in listener.paths if path != "/"] == ["/check/start", "/check/1"]
    assert "/" in listener.paths
    assert "meter_sync_run_exit_code 1.0" in (tmp_path / "meter_sync.prom").read_text()


def test_what_hangs_is_given_up_and_keeps_nobody_else(tmp_path: Path, listener: Listener) -> None:
    listener.may_answer.clear()
    began = time.monotonic()

    failed = told(watched_by(listener, tmp_path))

    assert time.monotonic() - began < 5 * LIMIT_SECONDS
    assert failed.keys() == {"ping_url", "notify_file"}
    assert "meter_sync_run_exit_code 1.0" in (tmp_path / "meter_sync.prom").read_text()


@pytest.mark.parametrize("broken", ["ping_url", "textfile", "notify_file"])
def test_one_that_is_broken_hides_no_other(tmp_path: Path, listener: Listener, broken: str) -> None:
    wrong = {
        "ping_url": "http://127.0.0.1:9/check",
        "textfile": tmp_path / "missing" / "meter_sync.prom",
        "notify_file": tmp_path / "missing",
    }
    right = watched_by(listener, tmp_path).model_dump()

    failed = told(MonitorSettings.model_validate({**right, broken: wrong[broken]}), limit_seconds=8)

    assert failed.keys() == {broken}
    arrived = {
        "ping_url": "/check/1" in listener.paths,
        "textfile": (tmp_path / "meter_sync.prom").exists(),
        "notify_file": "/" in listener.paths,
    }
    assert [monitor for monitor, has in arrived.items() if not has] == [broken]


def test_a_library_that_is_broken_is_the_trouble_of_one_monitor(world: World, listener: Listener) -> None:
    file = world.folder / "notify"
    file.write_text(f"json://{listener.address}\n")
    world.configure(
        f'[monitor]\nping_url = "http://{listener.address}/check"\ntextfile = "x.prom"\nnotify_file = "{file}"\n'
    )
    without = "import sys; sys.modules['prometheus_client'] = None; from meter_sync.cli import main; main()"
    command = [sys.executable, "-c", without, "--config", str(world.config), "run"]

    done = subprocess.run(
        command, env=world.environment(STRIPE_API_KEY="pk_test_1"), capture_output=True, text=True, check=False
    )

    assert done.returncode == 78
    assert sorted(listener.paths) == ["/", "/check/78", "/check/start"]
    (warning,) = [line for line in done.stderr.splitlines() if "monitor_failed" in line]
    assert '"monitor": "textfile"' in warning
    assert "failed with ModuleNotFoundError" in warning


def test_a_ledger_that_another_program_has_locked_keeps_nobody_from_being_told(
    tmp_path: Path, listener: Listener, world: World
) -> None:
    world.subscribe()
    world.execute()
    settings = load(None, world.environment(), {})
    request = Request(run_id=str(uuid.uuid4()))
    watched = Watched(request)
    watched.begin(Configuration(None, {}, [], {}, settings, watched_by(listener, tmp_path)))
    failed = failed_before_it_began(MeterSyncError("no"), request, Schedule.HOURLY, NOW)
    lock = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]); connection.execute('BEGIN EXCLUSIVE'); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", lock, str(world.ledger)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"locked\n"
        began = time.monotonic()
        watched.end(failed, "0 items.")
        took_seconds = time.monotonic() - began
        other.kill()

    assert READ_SECONDS < took_seconds < 10
    assert "/" in listener.paths
    assert "meter_sync_run_exit_code 1.0" in (tmp_path / "meter_sync.prom").read_text()


def test_a_run_that_nobody_watches_imports_nothing_for_it(world: World) -> None:
    world.subscribe()
    probe = (
        "import sys\nfrom meter_sync.cli import cli\n"
        "try: cli(['run', '--as-of', sys.argv[1]], standalone_mode=False)\n"
        "except SystemExit as end: print(end.code, sorted(\n"
        "    {'prometheus_client', 'apprise', 'meter_sync.monitor.pings'} & set(sys.modules)\n"
        "))"
    )
    command = [sys.executable, "-c", probe, world.now.isoformat()]

    done = subprocess.run(command, env=world.environment(), capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "0 []"


def test_a_run_prints_before_anybody_is_waited_for(world: World) -> None:
    with listening() as listener:
        listener.may_answer.clear()
        world.configure(f'[monitor]\nping_url = "http://{listener.address}/check"\n')
        process = world.start("run", "--output", "json", "--as-of", world.now.isoformat())
        assert process.stdout
        first = process.stdout.readline()
        assert process.poll() is None
        listener.may_answer.set()
        printed, _ = process.communicate(timeout=60)

    assert (first, process.returncode) == ("{\n", 0)
    assert '"exit_code": 0' in printed
    assert listener.paths == ["/check/start", "/check/0"]
