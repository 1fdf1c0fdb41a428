"""`meter-sync ledger rename`: an account's books get another name."""

import sys
from functools import partial

import click

from meter_sync.cli.ending import exit_with
from meter_sync.cli.globals import Globals, now
from meter_sync.cli.printing import print_csv, print_error, print_json
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError
from meter_sync.ledger.renaming import Renaming, rename_account

_COLUMNS = ("from", "to", "rows")


def carry_out(options: Globals, renaming: Renaming, output: str) -> None:
    """Rename, say so, and exit."""
    names = {"from": renaming.before or None, "to": renaming.after}
    try:
        rows = rename_account(options.load_place(), renaming, now())
    except MeterSyncError as error:
        print_error(error)
        if output == "json":
            print_json({**names, "rows": 0}, error)
        sys.exit(error.exit_code)
    exit_with(ExitCode.DONE, partial(_print, renaming, {**names, "rows": rows}, output), "the books were renamed")


def _print(renaming: Renaming, done: dict[str, str | int | None], output: str) -> None:
    if output == "json":
        print_json(done)
    elif output == "csv":
        print_csv(_COLUMNS, [done])
    else:
        whose = f"of {renaming.before}" if renaming.before else "without a name"
        click.echo(f"The books {whose} are those of {renaming.after} now: {done['rows']} rows.")
