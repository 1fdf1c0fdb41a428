"""`meter-sync run --enqueue`: queue runs for workers, and say which waited already."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import click

from meter_sync.cli.ending import stop_on_signals
from meter_sync.cli.fleet import fleet_of
from meter_sync.cli.globals import Globals, only
from meter_sync.cli.printing import print_csv, print_error, print_json, printable
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError

if TYPE_CHECKING:
    from meter_sync.fleet.kinds import Job
    from meter_sync.sync.request import Request

_OF_WHOLE = ("closing", "is_beside", "run_id")
"""What a request may say that is about a whole run, or a closing one."""


def queue_runs(
    options: Globals, request: "Request", schedule: str | None, accounts: Sequence[str], output: str
) -> NoReturn:
    """Queue a full run, or a closing one, for each account that is named, or for all, and exit.

    Raise UsageError where more is asked for than that: what workers start knows nothing of it.
    """
    from meter_sync.fleet.kinds import CLOSING_WITHIN

    if schedule is not None or request != replace(type(request)(), **{one: getattr(request, one) for one in _OF_WHOLE}):
        raise click.UsageError("--enqueue is about whole runs: of the options give --account or --closing alone.")
    if request.closing not in (None, CLOSING_WITHIN):
        raise click.UsageError(
            f"closing runs of workers are about {CLOSING_WITHIN.seconds // 60} minutes: --closing 3m."
        )
    closing = request.closing is not None
    try:
        jobs, queued = asyncio.run(_queued(options, accounts, closing=closing))
    except MeterSyncError as error:
        print_error(error)
        if output == "json":
            print_json({}, error)
        sys.exit(error.exit_code)
    rows = [{"account": job.account or None, "kind": job.kind.value, "queued": job in queued} for job in jobs]
    match output:
        case "json":
            print_json({"jobs": rows})
        case "csv":
            print_csv(["account", "kind", "queued"], rows)
        case _:
            for job in jobs:
                click.echo(printable(f"{job} {'is queued' if job in queued else 'was queued already'}"))
    sys.exit(ExitCode.DONE)


async def _queued(options: Globals, accounts: Sequence[str], *, closing: bool) -> "tuple[list[Job], list[Job]]":
    with stop_on_signals() as stop:
        _, fleet = fleet_of(options, stop)
        from meter_sync.fleet.kinds import Job, Kind
        from meter_sync.fleet.worker import enqueue

        kind = Kind.CLOSING if closing else Kind.FULL
        jobs = [Job(kind, one.account) for one in only(await fleet.accounts(), accounts)]
        return jobs, await enqueue(fleet, jobs)
