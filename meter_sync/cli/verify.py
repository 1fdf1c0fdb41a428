"""`meter-sync verify`: what Stripe holds against what OpenMeter says, item by item; it writes nothing."""

import asyncio
import contextlib
import os
import sys
import traceback
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from meter_sync.cli.globals import Globals
from meter_sync.cli.options import selectors
from meter_sync.core.outcomes import ExitCode

if TYPE_CHECKING:
    from meter_sync.config import Settings
    from meter_sync.errors import MeterSyncError
    from meter_sync.sync.verify import Verification, VerifyRequest


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
@click.option(
    "--output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    envvar="METER_SYNC_OUTPUT",
    show_envvar=True,
    help="How results are printed on stdout.",
)
@click.option(
    "--quiet",
    is_flag=True,
    envvar="METER_SYNC_QUIET",
    show_envvar=True,
    help="Print no table or csv unless an item differs, was skipped or failed.",
)
@click.pass_obj
def verify(
    options: Globals,
    customers: tuple[str, ...],
    subscriptions: tuple[str, ...],
    meters: tuple[str, ...],
    prices: tuple[str, ...],
    sample_days: int | None,
    output: str,
    quiet: bool,
) -> None:
    """Compare what Stripe holds with what OpenMeter says, and write nothing.

    Lists the metered items of living subscriptions, reads what Stripe holds for each one's open period, and compares it
    with its usage in OpenMeter until the last report. Differences are explained where that can be told.
    """
    from meter_sync.cli.verify_output import print_verification
    from meter_sync.core.planning.selection import Selection
    from meter_sync.sync.verify import VerifyRequest

    options.start_logging()
    request = VerifyRequest(Selection(customers, subscriptions, prices, meters), sample_days)
    verification = _carried_out(options, request)
    code: int = verification.exit_code
    try:
        print_verification(output, options, verification, quiet=quiet)
        sys.stdout.flush()
    except OSError as error:
        _print_no_more(error)
        code = code or ExitCode.FAILED
    sys.exit(code)


def _print_no_more(error: OSError) -> None:
    """Say that the output was lost, and keep Python from trying to write it once more at its exit."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the end)
    with contextlib.suppress(OSError):
        click.echo(f"meter-sync: the results could not be printed: {error.strerror}; verify again", err=True)


def _carried_out(options: Globals, request: "VerifyRequest") -> "Verification":
    """Load the configuration and verify; whatever goes wrong becomes part of what is printed."""
    from meter_sync.errors import Interrupted, MeterSyncError

    try:
        return asyncio.run(_verify(options, options.load_settings({}), request))
    except MeterSyncError as error:
        return _failed_before_it_began(error)
    except KeyboardInterrupt:
        return _failed_before_it_began(Interrupted("it was cut off by a second signal", "verify again"))
    except Exception as error:
        # A bug must not cost the caller the document that was promised on every exit path.
        traceback.print_exc()
        bug = f"meter-sync itself failed with {type(error).__name__}; nothing was written"
        return _failed_before_it_began(MeterSyncError(bug, "report it with the lines above", code="internal"))


def _failed_before_it_began(error: "MeterSyncError") -> "Verification":
    from meter_sync.sync.verify import Verification

    now = _now()
    return Verification(str(uuid.uuid4()), now, now, now, error=error)


async def _verify(options: Globals, settings: "Settings", request: "VerifyRequest") -> "Verification":
    from meter_sync.cli.progress import progress
    from meter_sync.cli.signals import stop_on_signals
    from meter_sync.sync.verify import verify

    with stop_on_signals() as stop, progress(options) as shown:
        return await verify(settings, request, _now, stop, shown)


def _now() -> datetime:
    return datetime.now(UTC)
