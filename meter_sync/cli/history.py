"""`meter-sync history`: what the ledger knows; it asks no server."""

import sys
from datetime import datetime, timedelta

import click

from meter_sync.cli.errors import print_error
from meter_sync.cli.globals import Globals
from meter_sync.cli.history_request import HistoryRequest
from meter_sync.cli.instant import Days, Instant
from meter_sync.core.telling.history import Sought

_KEPT_DAYS = 90
"""Nothing younger is ever forgotten: invoices are asked about, and brakes look back, for months."""


@click.command()
@click.option("--customer", "customers", multiple=True, metavar="cus_x", help="All about this customer; repeatable.")
@click.option(
    "--subscription", "subscriptions", multiple=True, metavar="sub_x", help="All about this subscription; repeatable."
)
@click.option("--item", "items", multiple=True, metavar="si_x", help="All about this subscription item; repeatable.")
@click.option(
    "--meter", "meters", multiple=True, metavar="SLUG", help="All that was reported from this meter; repeatable."
)
@click.option("--parts", is_flag=True, help="With a selector: each hour, day and addition too.")
@click.option("--since", type=Instant(), help="Only what happened at this instant or later.")
@click.option("--until", type=Instant(), help="Only what happened before this instant.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Without a selector: so many runs."
)
@click.option(
    "--explain",
    metavar="ITEM",
    help="Say in words how the quantity of an item came about, or of each item of a subscription or a customer.",
)
@click.option("--period", type=Instant(), help="With --explain: the period that starts then. Default: the newest one.")
@click.option(
    "--unbilled",
    is_flag=True,
    help="List what Stripe does not bill, or bills too much, until it is settled; exit code 4 while there is any.",
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
    "--prune",
    type=Days(at_least=_KEPT_DAYS),
    metavar="OLDER_THAN",
    help="Forget what was over so long ago, such as 400d, and no run needs any more; at least 90d.",
)
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
    options: Globals,
    customers: tuple[str, ...],
    subscriptions: tuple[str, ...],
    items: tuple[str, ...],
    meters: tuple[str, ...],
    parts: bool,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    explain: str | None,
    period: datetime | None,
    unbilled: bool,
    settle: tuple[str, datetime] | None,
    note: str | None,
    prune: timedelta | None,
    output: str,
) -> None:
    """Show what the ledger knows: the last runs, or everything about a customer, subscription, item or meter.

    Every quantity that was intended and acknowledged, with its times, run and Stripe's request id, and what held it.
    """
    from meter_sync.cli.history_actions import carry_out
    from meter_sync.cli.history_output import Output
    from meter_sync.errors import MeterSyncError

    options.start_logging()
    sought = Sought(customers, subscriptions, items, meters)
    asked = HistoryRequest(sought, parts, since, until, limit, explain, period, unbilled, settle, note, prune)
    _check(asked)
    shown = Output(output)
    try:
        code = carry_out(options, asked, shown)
    except MeterSyncError as error:
        print_error(error)
        shown.error(error)
        code = error.exit_code
    sys.exit(code)


def _check(asked: HistoryRequest) -> None:
    """Raise UsageError for options that do not belong together."""
    given = {
        "--explain": asked.explain is not None,
        "--unbilled": asked.unbilled,
        "--settle": asked.settle is not None,
        "--prune": asked.prune is not None,
    }
    narrows = not asked.sought.is_nothing
    alone = [name for name, is_given in given.items() if is_given]
    if len(alone) > 1 or (alone and (narrows or asked.since or asked.until)):
        raise click.UsageError(f"{alone[0]} stands alone: leave the other options out.")
    if (asked.settle is None) != (asked.note is None) or (asked.note is not None and not asked.note.strip()):
        raise click.UsageError("--settle and --note belong together: say how it was settled.")
    if asked.period and asked.explain is None:
        raise click.UsageError("--period belongs to --explain.")
    if asked.parts and not narrows:
        raise click.UsageError("--parts belongs to a selector: --customer, --subscription, --item or --meter.")
