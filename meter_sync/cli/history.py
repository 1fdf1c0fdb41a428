"""`meter-sync history`: what the ledger knows; it asks no server."""

import csv
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from meter_sync.cli.errors import print_error, printable
from meter_sync.cli.globals import Globals
from meter_sync.cli.instant import Instant
from meter_sync.core.outcomes import ExitCode

if TYPE_CHECKING:
    from meter_sync.ledger.seen import Unbilled


@click.command()
@click.option(
    "--unbilled", is_flag=True, help="List what Stripe does not bill, or bills too much, until it is settled."
)
@click.option(
    "--settle",
    nargs=2,
    type=(str, Instant()),
    metavar="ITEM PERIOD",
    help="Mark what is not billed of an item's period, named by its start, as settled by hand.",
)
@click.option("--note", help="How it was settled; kept with it.")
@click.option(
    "--output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    envvar="METER_SYNC_OUTPUT",
    show_envvar=True,
    help="How results are printed on stdout.",
)
@click.pass_obj
def history(
    options: Globals, unbilled: bool, settle: tuple[str, datetime] | None, note: str | None, output: str
) -> None:
    """Show usage that was left unbilled at the end of a period, and mark it as settled.

    Exit code 4 while anything is listed.
    """
    from meter_sync.errors import MeterSyncError

    options.start_logging()
    if unbilled == (settle is not None):
        raise click.UsageError("Give either --unbilled or --settle.")
    if (settle is None) != (note is None) or (note is not None and not note.strip()):
        raise click.UsageError("--settle and --note belong together: say how it was settled.")
    try:
        code = _list(options, output) if settle is None else _settle(options, *settle, str(note))
    except MeterSyncError as error:
        print_error(error)
        code = error.exit_code
    sys.exit(code)


def _list(options: Globals, output: str) -> ExitCode:
    from meter_sync.ledger import Scope, open_ledger_read_only

    settings = options.load_settings({})
    scope = Scope(account="", mode="live" if settings.stripe.is_live else "sandbox")
    with open_ledger_read_only(settings.ledger, scope) as ledger:
        found = ledger.unbilled()
    _PRINTERS[output](found)
    return ExitCode.LOOK if found else ExitCode.DONE


def _settle(options: Globals, item: str, period_start: datetime, note: str) -> ExitCode:
    from meter_sync.errors import MeterSyncError
    from meter_sync.ledger import Scope, open_ledger

    settings = options.load_settings({})
    scope = Scope(account="", mode="live" if settings.stripe.is_live else "sandbox")
    with open_ledger(settings.ledger, scope) as ledger:
        one = ledger.remainder_of(item, period_start)
        if one is None or not one.open_quantity:
            raise MeterSyncError(
                f"nothing is open of {item} for a period that starts at {_utc(period_start)}; nothing was changed",
                "meter-sync history --unbilled lists what is, with the start of its period",
                code="nothing_open",
            )
        ledger.settle_remainder(one, note.strip(), datetime.now(UTC))
    click.echo(f"{one.open_quantity} of {item}, period from {_utc(one.period.start)}, are settled: {note.strip()}")
    return ExitCode.DONE


def _print_table(found: Sequence["Unbilled"]) -> None:
    for one in found:
        kind = "not billed" if one.open_quantity > 0 else "billed too much"
        period = f"{_utc(one.period.start)} to {_utc(one.period.end)}"
        click.echo(f"{printable(one.customer)}  {printable(one.item)}  {period}  {one.open_quantity:,} {kind}")
        if one.why:
            click.echo(f"    {printable(one.why)}")
    click.echo(f"{len(found)} open." if found else "Nothing was left unbilled.")


def _print_json(found: Sequence["Unbilled"]) -> None:
    from meter_sync import __version__

    document = {"version": __version__, "unbilled": [_row(one) for one in found]}
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _print_csv(found: Sequence["Unbilled"]) -> None:
    writer = csv.DictWriter(sys.stdout, fieldnames=_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(one) for one in found)


_COLUMNS = (
    "customer",
    "subscription",
    "subscription_item",
    "period_start",
    "period_end",
    "unbilled",
    "settled",
    "named_at",
    "message",
)
_PRINTERS = {"table": _print_table, "json": _print_json, "csv": _print_csv}


def _row(one: "Unbilled") -> dict[str, Any]:
    return {
        "customer": one.customer,
        "subscription": one.subscription,
        "subscription_item": one.item,
        "period_start": _utc(one.period.start),
        "period_end": _utc(one.period.end),
        "unbilled": str(one.open_quantity),
        "settled": str(one.settled or 0),
        "named_at": one.named_at and _utc(one.named_at),
        "message": one.why,
    }


def _utc(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
