"""The command line in this process: a whole run over real HTTP in less than a tenth of a second."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from click.testing import CliRunner

from meter_sync.cli import cli
from meter_sync.core.outcomes import ExitCode
from tests.support.world import World


def run(world: World, *arguments: str, output: str = "json", **overrides: str) -> int:
    """Do what `meter-sync run` does as of the sandbox's clock, and return its exit code, one of the contract.

    Nothing may be left uncaught, and what is printed must be whole.
    """
    config = ["--config", str(world.config)] if world.config.exists() else []
    command = [*config, "run", "--output", output, "--as-of", world.now.isoformat(), *arguments]
    of_the_tests: dict[str, str | None] = {name: None for name in os.environ if name.startswith("METER_SYNC_")}
    with _logging_restored():
        done = CliRunner().invoke(cli, command, env={**of_the_tests, **world.environment(**overrides)})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "Traceback" not in done.stderr, done.stderr
    if output == "json":
        document = json.loads(done.stdout)
        assert document["summary"]["exit_code"] == done.exit_code
        assert document["error"] is None or document["error"]["code"] != "internal"
    return ExitCode(done.exit_code)


@contextmanager
def _logging_restored() -> Iterator[None]:
    """Leave nothing behind of the command's logging, whose streams end with it."""
    try:
        yield
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
