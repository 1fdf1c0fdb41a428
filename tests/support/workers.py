"""Workers in processes of their own, by what they say in their logs."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol


class Installation(Protocol):
    """What workers are started with."""

    folder: Path

    def given(self, *arguments: str, toml: str = "") -> list[str]:
        """Return arguments after the configuration, which is written."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables."""


PATIENCE_SECONDS = 60.0
_NEWS = threading.Condition()
"""Whether a worker, any of them, has logged something."""
_SURROUNDINGS = {
    name: value for name, value in os.environ.items() if not name.startswith(("METER_SYNC_", "STRIPE_", "OPENMETER_"))
}


class StartedWorker:
    """A worker that was started, and the events that it and its runs have logged."""

    def __init__(self, accounts: Installation, *arguments: str, toml: str = "", **variables: str) -> None:
        options = ("--log-format", "json", "--log-level", "info", "worker", *arguments)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "meter_sync", *accounts.given(*options, toml=toml)],
            env={**_SURROUNDINGS, **accounts.environment, **variables},
            cwd=accounts.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events: list[dict[str, Any]] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                with _NEWS:
                    self.events.append(json.loads(line))
                    _NEWS.notify_all()
        with _NEWS:
            _NEWS.notify_all()

    def wait_for(self, event: str, times: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait until it has logged an event so often, and return the last one. Fail if that does not come."""

        def found() -> list[dict[str, Any]]:
            return [one for one in self.events if one["event"] == event and fields.items() <= one.items()]

        with _NEWS:
            _NEWS.wait_for(lambda: len(found()) >= times or not self._reading.is_alive(), PATIENCE_SECONDS)
            assert len(found()) >= times, (event, fields, self.events)
            return found()[times - 1]

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.terminate()
        return self.ended()

    def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        code = self.process.wait(PATIENCE_SECONDS)
        self._reading.join(PATIENCE_SECONDS)
        return code

    @property
    def address(self) -> str:
        """Where it answers, on a port that it has chosen."""
        return f"http://127.0.0.1:{self.wait_for('worker_listening')['port']}"

    def jobs(self, event: str) -> list[str]:
        """The jobs of which it has logged an event, sorted."""
        return sorted(one["job"] for one in self.events if one["event"] == event)

    def asked(self, path: str) -> tuple[int, str]:
        """Ask it over HTTP, and return the status and the body of its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.wait_for("worker_listening")["port"], timeout=30)
        with closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def kill(self) -> None:
        """Kill it; the runs that it has started go on."""
        self.process.kill()
        self.process.wait()

    def lose(self) -> None:
        """Kill it and the runs that it has started, as if its machine had lost power."""
        self.signal_all(signal.SIGKILL)
        self.process.wait()

    def signal_all(self, how: signal.Signals) -> None:
        """Send a signal to it and to the runs that it has started, as if they were one."""
        runs = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split()
        for one in (self.process.pid, *map(int, runs)):
            with suppress(ProcessLookupError):
                os.kill(one, how)


def how_many(workers: Iterable[StartedWorker], event: str) -> int:
    """How many events of a name workers have logged together."""
    return sum(one["event"] == event for each in workers for one in each.events)


def wait_for_more(workers: Sequence[StartedWorker], event: str, than: int) -> None:
    """Wait until workers have logged more events of a name than so many; or for long enough."""
    with _NEWS:
        _NEWS.wait_for(lambda: how_many(workers, event) > than, PATIENCE_SECONDS)


@contextmanager
def worker(accounts: Installation, *arguments: str, toml: str = "", **variables: str) -> Iterator[StartedWorker]:
    """Start a worker, and see to it that it has ended afterwards."""
    started = StartedWorker(accounts, *arguments, toml=toml, **variables)
    try:
        yield started
    finally:
        started.process.kill()
        started.ended()
