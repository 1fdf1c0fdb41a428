"""`meter-sync worker`: carry out the runs of many accounts, with any number of workers on any number of machines."""

import asyncio
import sys
from collections.abc import Sequence

import click

from meter_sync.cli.ending import stop_on_signals
from meter_sync.cli.fleet import fleet_of
from meter_sync.cli.globals import Globals
from meter_sync.cli.printing import print_error
from meter_sync.core.outcomes import ExitCode, gravest
from meter_sync.errors import Interrupted, MeterSyncError

_LARGEST_PORT = 65535


class Address(click.ParamType[tuple[str, int]]):
    """A host and a port."""

    name = "ADDRESS:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Take the two apart, or say how they should look."""
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or int(port) > _LARGEST_PORT:
            self.fail(f"{value!r} is no address and port, such as 127.0.0.1:8432", param, ctx)
        return host.strip("[]"), int(port)


@click.command()
@click.option("--drain", is_flag=True, help="Take what is queued now, and end: what is due is not queued.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    envvar="METER_SYNC_WORKER_CONCURRENCY",
    show_envvar=True,
    help="How many accounts it works on at once, each in a process of its own; as many closing runs, and reports of "
    "events, may come beside.",
)
@click.option(
    "--listen",
    type=Address(),
    envvar="METER_SYNC_WORKER_LISTEN",
    show_envvar=True,
    help="Answer there on /healthz and /metrics.",
)
@click.pass_obj
def worker(options: Globals, drain: bool, concurrency: int, listen: tuple[str, int] | None) -> None:
    """Carry out the runs of all accounts as they become due.

    The ledger is in PostgreSQL, and the queue beside it. Each minute one of all workers queues what is due: full runs
    by the schedule, spread over the hour, and closing runs. Any number of workers may be started, on any number of
    machines with the same configuration, and ended at any time.
    """
    options.start_logging()
    try:
        code = asyncio.run(_work(options, drain=drain, at_once=concurrency, listens_on=listen))
    except MeterSyncError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print_error(Interrupted("cut off by a second signal; what was under way is due by the ledger"))
        sys.exit(ExitCode.FAILED)
    sys.exit(code)


async def _work(options: Globals, *, drain: bool, at_once: int, listens_on: tuple[str, int] | None) -> ExitCode:
    with stop_on_signals() as stop:
        settings, fleet = fleet_of(options, stop)
        from meter_sync.fleet import worker as of_fleet  # whose engine `fleet_of` has found installed

        how = of_fleet.Work(_command(options), at_once, settings.worker.stalled_after_seconds, listens_on)
        if drain:
            return gravest(ExitCode.DONE, *map(_code, await of_fleet.drain(fleet, how, stop)))
        await of_fleet.work(fleet, how, stop)
        return ExitCode.DONE


def _code(of_run: int) -> ExitCode:
    """Return the exit code that a run ended with; a failure where a signal ended it."""
    return ExitCode(of_run) if of_run in list(ExitCode) else ExitCode.FAILED


def _command(options: Globals) -> Sequence[str]:
    """Return what is started for a run: this program, with the options that stand before the command."""
    given = (("--config", options.config), ("--log-format", options.log_format), ("--log-level", options.log_level))
    said = [part for name, value in given if value is not None for part in (name, value)]
    return [sys.executable, "-m", "meter_sync", *said, *(["--no-color"] if options.no_color else [])]
