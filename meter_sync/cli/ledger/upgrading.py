"""`meter-sync ledger upgrade`: the ledger is made, or brought up to date, before anybody works with it."""

import sys
from functools import partial

import click

from meter_sync.cli.ending import exit_with
from meter_sync.cli.globals import Globals
from meter_sync.cli.printing import print_csv, print_error, print_json, printable
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Place, ledger_is_there, ledger_state, make_ledger

_COLUMNS = ("ledger", "before", "after")


def carry_out(options: Globals, output: str) -> None:
    """Upgrade, say so, and exit."""
    try:
        done = _upgraded(options.load_place())
    except MeterSyncError as error:
        print_error(error)
        if output == "json":
            print_json({}, error)
        sys.exit(error.exit_code)
    exit_with(ExitCode.DONE, partial(_print, done, output), "the ledger is up to date")


def _upgraded(place: Place) -> dict[str, str | None]:
    """Return which revision the ledger had before, None for none, and which it has. Raise MeterSyncError."""
    before = ledger_state(place).revision if ledger_is_there(place) else None
    make_ledger(place)
    return {"ledger": str(place), "before": before, "after": ledger_state(place).revision}


def _print(done: dict[str, str | None], output: str) -> None:
    if output == "json":
        print_json(done)
    elif output == "csv":
        print_csv(_COLUMNS, [done])
    else:
        had = {None: ", which is new", done["after"]: ", as it was"}
        click.echo(
            printable(f"{done['ledger']} has revision {done['after']}{had.get(done['before'], '')}.")
            if done["before"] in had
            else printable(f"{done['ledger']} has revision {done['after']}; it had {done['before']}.")
        )
