"""The command in a process of its own that need not import anything first.

Nearly all of what a start of the installed command takes is importing, a second or two each time. Here one process
for each pytest worker imports all that the command may import, and forks for each run: the child gets the arguments,
the environment, the folder and the files for its output, calls the console script's function and ends as any
interpreter does. So the parsing, what is printed where, the exit code, the ledger's file with its locks and the death
by a signal are those of a real process.

What it cannot show is what happens before: the console script itself, what is imported when, and whatever is read
from the environment while starting or importing (`PYTHON...`, `SSL_CERT_FILE`). For these the tests start the
installed command: see `InstalledWorld` and `World.meter_sync`.
"""

import functools
import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_LONGEST_SECONDS = 120
_IMPORTED_BY_USE = ("alembic.command", "alembic.config", "rich.console", "rich.table", "stripe._stripe_client")
"""What the modules of the program, or the SDK of Stripe, import within functions."""


class Template:
    """The process that has imported everything, and is told what to run in a fork of itself."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._folder = tempfile.TemporaryDirectory(prefix="meter-sync-output-")

    def run(
        self, arguments: Sequence[str], environment: dict[str, str], folder: Path
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end in a folder, and return what subprocess.run returns.

        A command that has not ended after two minutes is ended by SIGALRM.
        """
        assert self._process.stdin
        assert self._process.stdout
        output = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        order = {
            "arguments": list(arguments),
            "environment": environment,
            "folder": str(folder),
            "output": [str(path) for path in output],
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, *(path.read_text("utf-8") for path in output))

    def end(self) -> None:
        """Let the process end, which saves what coverage measured in it."""
        self._process.communicate()
        self._folder.cleanup()


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
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            _become_the_command(**json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _import_everything() -> None:
    import meter_sync

    for module in pkgutil.walk_packages(meter_sync.__path__, "meter_sync."):
        if "migrations" not in module.name:
            importlib.import_module(module.name)
    for name in _IMPORTED_BY_USE:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork has only the thread that forked"
    gc.collect()
    gc.freeze()  # what was imported is not searched for garbage again at the end of each fork


def _become_the_command(arguments: list[str], environment: dict[str, str], folder: str, output: list[str]) -> None:
    """Take the place of a console script that was started with these, and run it: this ends the process."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate([os.devnull, *output]):
        file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["meter-sync", *arguments]
    signal.alarm(_LONGEST_SECONDS)
    from meter_sync.cli import main

    main()


if __name__ == "__main__":
    _serve()
