"""`meter-sync verify`: what Stripe holds against what OpenMeter says, item by item; it writes nothing."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from meter_sync.cli.ending import Words, carried_out, exit_with, stop_on_signals
from meter_sync.cli.globals import Globals, now
from meter_sync.cli.options import accounts_of, output, quiet, selectors, test_clock
from meter_sync.cli.printing import Made, Results, costs, item_fields, items_in_words, outcome_fields, print_results
from meter_sync.cli.progress import progress
from meter_sync.core.planning.selection import Selection
from meter_sync.core.telling.comparison import Comparison
from meter_sync.core.telling.unbilled_usage import UnbilledSubject, UnbilledUsage
from meter_sync.core.text import digits, utc
from meter_sync.errors import MeterSyncError

if TYPE_CHECKING:
    from meter_sync.shadow.comparison import WithOriginals
    from meter_sync.sync.unbilled import Unbilled
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
@accounts_of("The account that it is about, where there are several")
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
    from meter_sync.sync.verify import Verification, VerifyRequest

    options.start_logging()
    request = VerifyRequest(selection, sample_days, closed_days, test_clock)

    def failed_before_it_began(error: MeterSyncError) -> Verification:
        at = now()
        return Verification(str(uuid.uuid4()), at, at, at, error=error)

    verification, beside = carried_out(
        lambda: asyncio.run(_verify(options, request, accounts)),
        lambda error: (failed_before_it_began(error), None),
        _WORDS,
    )
    printed = partial(print_verification, verification, output, options, quiet=quiet, beside=beside)
    exit_with(verification.exit_code, printed, _WORDS.not_printed)


async def _verify(
    options: Globals, request: "VerifyRequest", accounts: Sequence[str]
) -> "tuple[Verification, WithOriginals | None]":
    """Verify and, in shadow mode, look at what the account itself holds of the open periods."""
    from meter_sync.config import needed
    from meter_sync.sync.verify import verify

    wanted = needed(for_webhook=False)
    configuration = options.read_account(wanted, accounts)
    settings = options.in_effect(configuration, wanted)
    with stop_on_signals() as stop, progress(options) as shown:
        verification = await verify(settings, request, now, stop, shown)
        if not settings.is_shadow or request.closed_days is not None:
            return verification, None
        from meter_sync.shadow.comparison import compare_with_originals

        account = configuration.of_the_account(wanted)
        beside = await compare_with_originals(account, verification.comparisons, now, stop)
        is_whole = request.selection.is_everything and request.sample_days is None and not verification.error
        return verification, beside if is_whole else replace(beside, not_copied=())


def print_verification(
    verification: "Verification",
    output: str,
    options: Globals,
    *,
    quiet: bool,
    beside: "WithOriginals | None" = None,
) -> None:
    """Print what was found out; quietly, only the items that are not as they should be.

    `beside` is what the account itself holds, in shadow mode.
    """
    account = verification.account
    compared, sample, unbilled = verification.comparisons, verification.sample, verification.unbilled
    known = None if unbilled and unbilled.unknown else unbilled
    summary = _summary(verification)
    about = items_in_words(len(compared))
    if sample:
        about = f"Day {sample.day} of {sample.days}: {len(compared)} of {verification.listed} items"
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verification.counts.items() if count)
    row = partial(_item, account)
    until = f"Usage until {utc(verification.as_of)}."
    results = Results(
        run={
            "id": verification.id,
            "started_at": utc(verification.started_at),
            "finished_at": utc(verification.finished_at),
            "as_of": utc(verification.as_of),
        },
        summary=summary,
        items=Made(compared, row),
        shown=Made([one for one in compared if not quiet or one.needs_attention], row),
        columns="as_of,expected,actual,difference",
        amounts={"OpenMeter": "expected", "Stripe": "actual", "difference": "difference"},
        in_words=f"{about}: {counts or 'nothing to compare'}. {until} {costs(summary)}",
        error=verification.error,
        further={
            "unbilled_subjects": known and [_unbilled(one, account, subject=one.subject) for one in known.subjects],
            "unbilled_usage": known and [_unbilled(one, account, values=one.values) for one in known.usage],
            **({"shadow": _shadow(beside)} if beside else {}),
        },
        remarks=[*(_remarks(unbilled) if unbilled else ()), *(_of_account(beside) if beside else ())],
    )
    print_results(results, output, options, quiet=quiet)


def _summary(verification: "Verification") -> dict[str, Any]:
    sample = verification.sample
    return {
        "items": len(verification.comparisons),
        **verification.counts,
        "exit_code": int(verification.exit_code),
        "stripe_requests": verification.stripe_requests,
        "openmeter_requests": verification.openmeter_requests,
        "seconds": round(verification.seconds, 3),
        "sample": sample and {"day": sample.day, "days": sample.days, "of_items": verification.listed},
    }


def _shadow(beside: "WithOriginals") -> dict[str, Any]:
    items = [
        {
            "subscription_item": one.copy.id,
            "original": one.original,
            "in_shadow": digits(one.in_shadow),
            "in_account": digits(one.in_account),
            "difference": digits(one.difference),
            "message": one.why,
        }
        for one in beside.items
    ]
    return {"items": items, "not_copied": list(beside.not_copied), "error": beside.error and beside.error.message}


def _of_account(beside: "WithOriginals") -> Iterator[str]:
    """Say what the account itself holds, in which somebody else may report: no difference there is a fault."""
    if beside.error:
        yield f"The account itself could not be compared: {beside.error.message}"
        return
    same = sum(one.difference == 0 for one in beside.items)
    yield f"Shadow mode: of {items_in_words(len(beside.items))}, {same} hold as much as their originals in the account."
    for one in beside.items:
        if one.difference:
            yield (
                f"{one.original} holds {digits(one.in_account)} in the account, its copy {one.copy.id} "
                f"{digits(one.in_shadow)}: {digits(abs(one.difference))} {'more' if one.difference > 0 else 'less'}"
            )
        elif one.why:
            yield f"{one.original} in the account could not be compared: {one.why}"
    if beside.not_copied:
        yield f"{items_in_words(len(beside.not_copied))} of the account without a copy: meter-sync setup shadow"


def _unbilled(one: UnbilledSubject | UnbilledUsage, account: str, **whose: Any) -> dict[str, Any]:
    return {
        "account": account or None,
        "meter": one.meter,
        **whose,
        "usage": digits(one.usage),
        "since": utc(one.since),
    }


def _remarks(unbilled: "Unbilled") -> Iterator[str]:
    for subject in unbilled.subjects:
        yield (
            f"nobody bills {digits(subject.usage)} of meter {subject.meter} since {utc(subject.since)}: subject "
            f"{subject.subject}; subscribe its customer, correct the mapping, or name it under [verify] ignore_subjects"
        )
    for outside in unbilled.usage:
        values = ", ".join(
            f"{name} = {'none' if value is None else repr(value)}" for name, value in outside.values.items()
        )
        yield (
            f"no filter lets through {digits(outside.usage) or 'the usage'} of meter {outside.meter} since "
            f"{utc(outside.since)} with {values}; add it to the filter of a [[meters]] row"
        )
    yield from unbilled.unknown


def _item(account: str, one: Comparison) -> dict[str, Any]:
    span = one.found.span
    return {
        **item_fields(one.found, account),
        "as_of": utc(span.end) if span and one.expected is not None else None,
        "expected": digits(one.expected),
        "actual": digits(one.actual),
        "difference": digits(one.difference),
        **outcome_fields(one.verdict, one.reason, one.message),
    }
