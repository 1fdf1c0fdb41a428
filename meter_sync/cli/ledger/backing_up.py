"""What `meter-sync ledger backup` does, and what it says of it."""

import shlex
import sys
from functools import partial
from pathlib import Path

import click

from meter_sync.cli.ending import exit_with
from meter_sync.cli.globals import Globals
from meter_sync.cli.printing import print_csv, print_error, print_json, printable
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import ArgumentsError, MeterSyncError
from meter_sync.ledger.backup import BackedUp, back_up
from meter_sync.net.postgres_url import PostgresUrl


def carry_out(options: Globals, file: Path, output: str) -> None:
    """Make a backup, say so, and exit."""
    try:
        place = options.load_place()
        if isinstance(place, PostgresUrl):
            raise _with_its_own_tools(place, file)
        done = back_up(place, file)
    except MeterSyncError as error:
        print_error(error)
        if output == "json":
            print_json({}, error)
        sys.exit(error.exit_code)
    exit_with(ExitCode.DONE, partial(_print, place, done, output), "the backup was made")


def _with_its_own_tools(place: PostgresUrl, file: Path) -> ArgumentsError:
    command = shlex.join(["pg_dump", "--format=custom", f"--file={file}", f"--dbname={place}"])
    return ArgumentsError(
        f"the ledger {place} is a database of a PostgreSQL server, which has its own tools for backups; nothing was "
        "written",
        f"{command} -- and pg_restore puts it back: the next run then sees that the ledger was restored",
    )


def _print(place: Path, done: BackedUp, output: str) -> None:
    document = {"ledger": str(place), "file": str(done.file), "bytes": done.bytes}
    if output == "json":
        print_json(document)
    elif output == "csv":
        print_csv(tuple(document), [document])
    else:
        click.echo(printable(f"The ledger {place} is in {done.file}, {done.bytes:,} bytes."))
        click.echo(
            "To put it back, leave the file beside the ledger that ends with .epoch where it is: by that the next run "
            "knows that the ledger was restored, and reads what Stripe holds before it writes."
        )
