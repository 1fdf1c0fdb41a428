"""`meter-sync history`: what the ledger knows; it asks no server."""

import sys
from datetime import timedelta
from functools import partial
from typing import Any

import click

from meter_sync.cli.ending import exit_with
from meter_sync.cli.globals import Globals
from meter_sync.cli.options import Duration, Instant, accounts_of, output, repeatable
from meter_sync.cli.printing import print_error, print_json
from meter_sync.core.telling.history import KEPT_DAYS, Sought
from meter_sync.errors import MeterSyncError

_KEPT = timedelta(days=KEPT_DAYS)


@click.command()
@repeatable("--customer", "cus_x", "All about this customer")
@repeatable("--subscription", "sub_x", "All about this subscription")
@repeatable("--item", "si_x", "All about this subscription item")
@repeatable("--meter", "SLUG", "All that was reported from this meter")
@click.option("--parts", is_flag=True, help="With a selector: each hour, day and addition too.")
@click.option(
    "--since", type=Instant(or_date=True), help="Only what happened at this instant, or date (UTC), or later."
)
@click.option("--until", type=Instant(or_date=True), help="Only what happened before this instant, or date (UTC).")
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
@click.option("--signed", is_flag=True, help="List who has signed which statement.")
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
    type=Duration(f"a number of days of at least {_KEPT.days}, such as 400d", "d", at_least=_KEPT),
    metavar="OLDER_THAN",
    help="Forget what was over so long ago, such as 400d, and no run needs any more; at least 90d.",
)
@output
@accounts_of("Only this account, where there are several")
@click.pass_obj
def history(
    options: Globals,
    /,
    customers: tuple[str, ...],
    subscriptions: tuple[str, ...],
    items: tuple[str, ...],
    meters: tuple[str, ...],
    output: str,
    accounts: tuple[str, ...],
    **asked: Any,
) -> None:
    """Show what the ledger knows: the last runs, or everything about a customer, subscription, item or meter.

    Every quantity that was intended and acknowledged, with its times, run and Stripe's request id, and what held it.
    """
    from meter_sync.cli.history.actions import HistoryRequest, carry_out
    from meter_sync.cli.history.asked import whose

    options.start_logging()
    request = HistoryRequest(Sought(customers, subscriptions, items, meters), **asked)
    request.check()
    try:
        answer = carry_out(whose(options, accounts), request)
    except MeterSyncError as error:
        print_error(error)
        if output == "json":
            print_json({}, error)
        sys.exit(error.exit_code)
    exit_with(answer.exit_code, partial(answer.print, output), "ask again")
