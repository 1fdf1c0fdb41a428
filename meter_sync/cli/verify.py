"""`meter-sync verify`: what Stripe holds against what OpenMeter says, item by item; it writes nothing."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from meter_sync.cli.ending import Words, carried_out, exit_with, stop_on_signals
from meter_sync.cli.fleet import with_connected, with_known
from meter_sync.cli.globals import Globals, chosen, now
from meter_sync.cli.options import accounts_of, output, quiet, selectors, test_clock
from meter_sync.cli.progress import progress
from meter_sync.cli.verify_results import exit_code, print_verification, print_verifications
from meter_sync.core.planning.selection import Selection
from meter_sync.errors import MeterSyncError

if TYPE_CHECKING:
    from meter_sync.config import Configuration, SecretSetting, Settings
    from meter_sync.net.stop import Stop
    from meter_sync.shadow.comparison import WithOriginals
    from meter_sync.sync.across_accounts import Across
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
@click.option(
    "--closed",
    "closed_days",
    type=click.IntRange(1, 366),
    metavar="DAYS",
    help="Compare what invoices bill of the periods that ended within so many days, instead of the open ones. It takes "
    "one list of invoices, however many items there are.",
)
@test_clock(but_not="")
@output
@quiet("differs, was skipped or failed")
@accounts_of("Only this account, where there are several")
@click.pass_obj
def verify(
    options: Globals,
    selection: Selection,
    sample_days: int | None,
    closed_days: int | None,
    test_clock: str | None,
    output: str,
    quiet: bool,
    accounts: tuple[str, ...],
) -> None:
    """Compare what Stripe holds with what OpenMeter says, and write nothing.

    Lists the metered items of living subscriptions, reads what Stripe holds for each one's open period, and compares it
    with its usage in OpenMeter until the last report. With --closed it compares the invoices of periods that have ended
    instead. Differences are explained where that can be told.
    """
    from meter_sync.sync.verify import VerifyRequest

    options.start_logging()
    request = VerifyRequest(selection, sample_days, closed_days, test_clock)
    found = carried_out(
        lambda: asyncio.run(_verified(options, request, accounts)),
        lambda error: _Found([_failed(error)]),
        _WORDS,
    )
    if found.across is None:
        (verification,) = found.verifications
        code = verification.exit_code
        printed = partial(print_verification, verification, output, options, quiet=quiet, beside=found.beside)
    else:
        code = exit_code(found.verifications, found.across)
        printed = partial(print_verifications, found.verifications, found.across, output, options, quiet=quiet)
    exit_with(code, printed, _WORDS.not_printed)


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found out of the accounts."""

    verifications: "Sequence[Verification]"
    across: "Across | None" = None
    """What was found out over several; None where one was asked for."""
    beside: "WithOriginals | None" = None
    """What the account itself holds, in shadow mode."""


def _failed(error: MeterSyncError) -> "Verification":
    """Return the verification that an error kept from beginning."""
    from meter_sync.sync.verify import Verification

    at = now()
    return Verification(str(uuid.uuid4()), at, at, at, error=error)


async def _verified(options: Globals, request: "VerifyRequest", names: Sequence[str]) -> _Found:
    """Verify the only account, the one that is named, or several. Raise MeterSyncError."""
    from meter_sync.config import needed

    wanted = needed(for_webhook=False)
    configuration = options.read_configuration(wanted)
    asked = chosen(configuration, names)
    with stop_on_signals() as stop:
        if not configuration.is_of_several:
            return await _verified_one(options, configuration, wanted, request, stop)
        common = options.in_effect(configuration, ())
        request = replace(request, is_among_others=True)
        if len(asked) == 1 and names:
            found = await _verified_one(options, asked[0], wanted, request, stop)
            across = await _looked_across(configuration, common, asked, found.verifications, request, stop)
            return replace(found, verifications=[_with(across, found.verifications[0])])
        if configuration.connected is not None and not names:
            asked = await with_connected(configuration, wanted, stop)
        verifications = await _verified_each(asked, wanted, common, request, stop)
        return _Found(verifications, await _looked_across(configuration, common, asked, verifications, request, stop))


async def _verified_one(
    options: Globals,
    configuration: "Configuration",
    wanted: "Sequence[SecretSetting]",
    request: "VerifyRequest",
    stop: "Stop",
) -> _Found:
    """Verify and, in shadow mode, look at what the account itself holds of the open periods."""
    from meter_sync.sync.verify import verify

    settings = options.in_effect(configuration, wanted)
    with progress(options) as shown:
        verification = await verify(settings, request, now, stop, shown)
        if not settings.is_shadow or request.closed_days is not None:
            return _Found([verification])
        from meter_sync.shadow.comparison import compare_with_originals

        account = configuration.of_the_account(wanted)
        beside = await compare_with_originals(account, verification.comparisons, now, stop)
        is_whole = request.selection.is_everything and request.sample_days is None and not verification.error
        return _Found([verification], beside=beside if is_whole else replace(beside, not_copied=()))


async def _verified_each(
    accounts: "Sequence[Configuration]",
    wanted: "Sequence[SecretSetting]",
    common: "Settings",
    request: "VerifyRequest",
    stop: "Stop",
) -> "Sequence[Verification]":
    """Verify several accounts at once."""
    from meter_sync.cli.run_accounts import found_anywhere, run_each
    from meter_sync.sync.verify import verify

    async def verified(settings: "Settings") -> "Verification":
        return await verify(settings, request, now, stop)

    found = await run_each(accounts, wanted, common.accounts_at_once, verified, _failed, _WORDS)
    return found if request.selection.is_everything else found_anywhere(found)


async def _looked_across(
    configuration: "Configuration",
    common: "Settings",
    asked: "Sequence[Configuration]",
    verifications: "Sequence[Verification]",
    request: "VerifyRequest",
    stop: "Stop",
) -> "Across":
    """Look at what the accounts that were asked for bill together, and with the others, as the ledger knows these."""
    from meter_sync.sync.across_accounts import Account, Across, look_across
    from meter_sync.sync.unbilled import Unbilled

    named = {one.account for one in asked}
    accounts = [
        Account(one.account, one.in_effect, verification.billed)
        for one, verification in zip(asked, verifications, strict=True)
    ]
    if any(one.billed for one in accounts):
        try:
            others = [one for one in with_known(configuration, common.ledger) if one.account not in named]
        except MeterSyncError as error:
            return Across(Unbilled(unknown=[f"what other accounts bill is not known: {error.message}"]))
        accounts += [Account(one.account, one.in_effect, is_asked=False) for one in others]
    return await look_across(common.ledger, accounts, now, stop, for_unbilled=request.looks_for_unbilled)


def _with(across: "Across", verification: "Verification") -> "Verification":
    """Return what was found out of an account, with what was found out over it and the others."""
    return replace(
        verification,
        unbilled=across.unbilled,
        billed_twice=across.billed_twice,
        openmeter_requests=verification.openmeter_requests + across.openmeter_requests,
    )
