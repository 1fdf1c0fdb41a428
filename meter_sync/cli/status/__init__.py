"""`meter-sync status`: whether all is well, on one screen; from the ledger alone."""

import sys
from functools import partial

import click

from meter_sync.cli.ending import exit_with
from meter_sync.cli.globals import Globals, chosen, now
from meter_sync.cli.options import accounts_of, output
from meter_sync.cli.printing import print_error, print_json
from meter_sync.cli.status.account import print_account, status_of
from meter_sync.cli.status.fleet import print_fleet, status_of_fleet
from meter_sync.config import needed
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError


@click.command()
@output
@accounts_of("Only this account, where there are several")
@click.pass_obj
def status(options: Globals, output: str, accounts: tuple[str, ...]) -> None:
    """Say on one screen whether all is well: the last runs, what is held or unbilled, and what is due next.

    It reads the ledger alone, and asks no server but the ledger's. Exit code 4 where somebody should look: a run is
    overdue, the last one failed, something is held, or something is unbilled. Of several accounts it has a line for
    each, and what workers do; --account says more of one.
    """
    options.start_logging()
    try:
        configuration = options.read_configuration(needed(for_webhook=False))
        asked = chosen(configuration, accounts)
        if configuration.is_of_several and len(asked) != 1:
            of_fleet = status_of_fleet(options.in_effect(configuration, ()), asked, now())
            code, printed = of_fleet["exit_code"], partial(print_fleet, output, of_fleet)
        else:
            found = status_of(options.in_effect(asked[0], ()), now())
            code, printed = found["exit_code"], partial(print_account, output, found)
    except MeterSyncError as error:
        print_error(error)
        if output == "json":
            print_json({}, error)
        sys.exit(error.exit_code)
    exit_with(ExitCode(code), printed, "ask again")
