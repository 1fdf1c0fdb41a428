"""`meter-sync verify`: what Stripe holds against what OpenMeter says, item by item; it writes nothing."""

import asyncio
import uuid
from functools import partial
from typing import TYPE_CHECKING

import click

from meter_sync.cli.ending import Words, carried_out, exit_with
from meter_sync.cli.globals import Globals, now
from meter_sync.cli.options import output, quiet, selectors
from meter_sync.core.planning.selection import Selection
from meter_sync.errors import MeterSyncError

if TYPE_CHECKING:
    from meter_sync.config import Settings
    from meter_sync.sync.verify import Verification, VerifyRequest

_WORDS = Words(
    cut_off="it",
    then="verify again",
    after_a_bug="nothing was written",
    report="report it with the lines above",
    not_printed="verify again",
)


@click.command()
@selectors
@click.option(
    "--sample",
    "sample_days",
    type=click.IntRange(1, 366),
    metavar="N",
    help="Only today's part of the items, of N: a line that runs daily covers them all in N days. Each item takes one "
    "GET of Stripe, whose quota is 500 for each transaction in 30 days, 10,000 at least.",
)
@output
@quiet("differs, was skipped or failed")
@click.pass_obj
def verify(options: Globals, selection: Selection, sample_days: int | None, output: str, quiet: bool) -> None:
    """Compare what Stripe holds with what OpenMeter says, and write nothing.

    Lists the metered items of living subscriptions, reads what Stripe holds for each one's open period, and compares it
    with its usage in OpenMeter until the last report. Differences are explained where that can be told.
    """
    from meter_sync.cli.verify.output import print_verification
    from meter_sync.sync.verify import VerifyRequest

    options.start_logging()
    request = VerifyRequest(selection, sample_days)
    verification = carried_out(
        lambda: asyncio.run(_verify(options, options.load_settings(), request)), _failed_before_it_began, _WORDS
    )
    printed = partial(print_verification, verification, output, options, quiet=quiet)
    exit_with(verification.exit_code, printed, _WORDS)


def _failed_before_it_began(error: MeterSyncError) -> "Verification":
    from meter_sync.sync.verify import Verification

    at = now()
    return Verification(str(uuid.uuid4()), at, at, at, error=error)


async def _verify(options: Globals, settings: "Settings", request: "VerifyRequest") -> "Verification":
    from meter_sync.cli.progress import progress
    from meter_sync.cli.signals import stop_on_signals
    from meter_sync.sync.verify import verify

    with stop_on_signals() as stop, progress(options) as shown:
        return await verify(settings, request, now, stop, shown)
