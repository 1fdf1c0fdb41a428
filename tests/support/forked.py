"""The command in a process of its own that need not import anything first.

Nearly all of what a start of the installed command takes is importing, a second or two each time. Here one process
for each pytest worker imports all that the command may import, carries a run out, so that what Python and libraries
put together at the first use of a thing is there, and forks for each run: the child gets the arguments,
the environment, the folder and the files for its output, calls the console script's function and exits. So the
parsing, what is printed where, the exit code, the ledger's file with its locks, the signals and the death by one are
those of a real process.

What it cannot show is what happens before: the console script itself, what is imported when, and whatever is read
from the environment while starting or importing (`PYTHON...`, `SSL_CERT_FILE`); nor what comes after: the interpreter
that takes itself apart. For these the tests start the installed command: see `InstalledWorld` and `World.meter_sync`.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import io
import itertools
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_LONGEST_SECONDS = 120
_IMPORTED_BY_USE = (
    "alembic.command",
    "alembic.config",
    "apprise",
    "rich.console",
    "rich.table",
    "stripe._stripe_client",
)
"""What the modules of the program, or the SDK of Stripe, import within functions."""


class Template:
    """The process that has imported everything, and is told what to run in a fork of itself."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._folder = tempfile.TemporaryDirectory(prefix="meter-sync-output-")
        self._started = itertools.count()
        self._asking = threading.Lock()

    def run(
        self, arguments: Sequence[str], environment: dict[str, str], folder: Path
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end in a folder, and return what subprocess.run returns.

        A command that has not ended after two minutes is ended by SIGALRM.
        """
        output = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        pid = self._begin(arguments, environment, folder, output)
        return subprocess.CompletedProcess(arguments, self.code(pid), *(path.read_text("utf-8") for path in output))

    def start(self, arguments: Sequence[str], environment: dict[str, str], folder: Path) -> "Started":
        """Start the command, to be read from, signalled or waited for; it too is ended after two minutes."""
        number = next(self._started)
        pipes = [Path(self._folder.name, f"{name}-{number}") for name in ("stdout", "stderr", "life")]
        for pipe in pipes:
            os.mkfifo(pipe)
        return Started(self, self._begin(arguments, environment, folder, pipes), pipes)

    def _begin(
        self, arguments: Sequence[str], environment: dict[str, str], folder: Path, output: Sequence[Path]
    ) -> int:
        order = {
            "arguments": list(arguments),
            "environment": environment,
            "folder": str(folder),
            "output": [str(path) for path in output],
        }
        return self._ask(order)

    def code(self, pid: int) -> int:
        """Wait for the end of a command and return its exit code, or the signal that it died of, negative."""
        return self._ask({"ended": pid})

    def _ask(self, order: dict[str, Any]) -> int:
        assert self._process.stdin
        assert self._process.stdout
        with self._asking:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def end(self) -> None:
        """Let the process end, which saves what coverage measured in it."""
        self._process.communicate()
        self._folder.cleanup()


class Started:
    """A command that was started: of what subprocess.Popen offers, all that the tests use."""

    def __init__(self, template: Template, pid: int, pipes: Sequence[Path]) -> None:
        self._template = template
        self.pid = pid
        self.returncode: int | None = None
        stdout, stderr, life = pipes
        self.stdout = stdout.open(encoding="utf-8")  # each waits for the command to open it too
        self.stderr = stderr.open(encoding="utf-8")
        self._life = life.open("rb")

    def poll(self) -> int | None:
        """Return the exit code if the command has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, so many seconds at most, and return the exit code; raise subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._life], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("meter-sync", timeout or 0)
            self._life.close()  # nothing is written there: it is readable because nobody has it open any more
            self.returncode = self._template.code(self.pid)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end and return what was printed to stdout and stderr, and not read yet."""
        with ThreadPoolExecutor(2) as readers, self.stdout, self.stderr:
            printed = [readers.submit(pipe.read) for pipe in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                self.wait()
                raise
            stdout, stderr = (text.result() for text in printed)
        return stdout, stderr

    def send_signal(self, how: signal.Signals) -> None:
        """Send a signal, unless it is known that the command has ended."""
        if self.poll() is None:
            os.kill(self.pid, how)

    def kill(self) -> None:
        """Let the command die at once."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def template() -> Template:
    """Return this pytest worker's template, started when it is first needed."""
    return Template()


def end_template() -> None:
    """End this worker's template if there is one."""
    if template.cache_info().currsize:
        template().end()
        template.cache_clear()


def _serve() -> None:
    _import_everything()
    _carry_a_run_out()
    assert threading.active_count() == 1, "a fork has only the thread that forked"
    gc.collect()
    gc.freeze()  # what is there now is not searched for garbage again at the end of each fork
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        if "ended" in order:
            _, status = os.waitpid(order["ended"], 0)
            answer = os.waitstatus_to_exitcode(status)
        elif not (answer := os.fork()):
            _become_the_command(**order)
            return
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _import_everything() -> None:
    import meter_sync

    for module in pkgutil.walk_packages(meter_sync.__path__, "meter_sync."):
        if "migrations" not in module.name:
            importlib.import_module(module.name)
    for name in _IMPORTED_BY_USE:
        importlib.import_module(name)


def _carry_a_run_out() -> None:
    """Report once what is told in each way, and find once that it stands so: of SQL, that takes a third of a run."""
    from tests.support.ways import ALL_WAYS, subscribed
    from tests.support.world import NOW, World

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        world = World(Path(folder), NOW)
        with world.sandbox.in_background():
            for way in ALL_WAYS:
                world.use(subscribed(world, way), 1)
            for _ in range(2):
                world.execute()


def _become_the_command(arguments: list[str], environment: dict[str, str], folder: str, output: list[str]) -> None:
    """Take the place of a console script that was started with these, and run it: this ends the process.

    The output is that for stdout, that for stderr, and what is held open as long as the process lives.
    """
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate([os.devnull, *output]):
        file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if number <= 2:
            os.dup2(file, number)
            os.close(file)
    sys.argv = ["meter-sync", *arguments]
    signal.alarm(_LONGEST_SECONDS)
    from meter_sync.cli import main

    try:
        main()
    except SystemExit as end:
        _exit(end.code)


def _exit(code: str | int | None) -> None:
    """End the process as the end of an interpreter would be seen from outside.

    Its memory is not taken apart: all of that is shared with the template, and copied as soon as it is touched, which
    takes a quarter of a run.
    """
    assert isinstance(code, int)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
