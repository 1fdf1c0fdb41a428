"""What is printed of verifications: of the only account, or of several together."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from meter_sync.cli.globals import Globals
from meter_sync.cli.of_accounts import account_row, of_account, run_of_all, sums, sums_in_words
from meter_sync.cli.printing import (
    Made,
    Results,
    costs,
    item_fields,
    items_in_words,
    outcome_fields,
    print_error,
    print_results,
)
from meter_sync.core.outcomes import ExitCode, gravest
from meter_sync.core.telling.billed_twice import BilledTwice
from meter_sync.core.telling.comparison import Comparison
from meter_sync.core.telling.unbilled_usage import UnbilledSubject, UnbilledUsage
from meter_sync.core.text import digits, utc

if TYPE_CHECKING:
    from meter_sync.shadow.comparison import WithOriginals
    from meter_sync.sync.across_accounts import Across
    from meter_sync.sync.unbilled import Unbilled
    from meter_sync.sync.verify import Verification

_COLUMNS = "as_of,expected,actual,difference"
_AMOUNTS = {"OpenMeter": "expected", "Stripe": "actual", "difference": "difference"}


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
    account, unbilled, twice = verification.account, verification.unbilled, verification.billed_twice
    known = None if unbilled and unbilled.unknown else unbilled
    row = partial(_item, account)
    results = Results(
        run=_run(verification),
        summary=_summary(verification),
        items=Made(verification.comparisons, row),
        shown=Made(_shown(verification, quiet=quiet), row),
        columns=_COLUMNS,
        amounts=_AMOUNTS,
        in_words=_in_words(verification),
        error=verification.error,
        further={
            **_unbilled_rows(known, account),
            **({"billed_twice": twice and _twice_rows(twice)} if account else {}),
            **({"shadow": _shadow(beside)} if beside else {}),
        },
        remarks=[
            *(_remarks(unbilled) if unbilled else ()),
            *_remarks_of_twice(twice or ()),
            *(_of_original(beside) if beside else ()),
        ],
    )
    print_results(results, output, options, quiet=quiet)


def print_verifications(
    verifications: Sequence["Verification"], across: "Across", output: str, options: Globals, *, quiet: bool
) -> None:
    """Print what was found out of several accounts, and over them, as `print_verification` does.

    Errors name their account.
    """
    for one in verifications:
        if one.error:
            print_error(of_account(one.account, one.error), one.id)
    summaries = [_summary(one) for one in verifications]
    whole = _sums(verifications, across)
    unbilled, twice = across.unbilled, across.billed_twice
    in_words = [f"{one.account}{' (shadow mode)' if one.is_shadow else ''}: {_in_words(one)}" for one in verifications]
    codes = {one.account: one.exit_code for one in verifications}
    results = Results(
        run=run_of_all([_run(one) for one in verifications]),
        summary=whole,
        items=Made([(one.account, item) for one in verifications for item in one.comparisons], _item_of),
        shown=Made([(one.account, item) for one in verifications for item in _shown(one, quiet=quiet)], _item_of),
        columns=_COLUMNS,
        amounts=_AMOUNTS,
        in_words="\n".join([*([] if quiet else in_words), sums_in_words(whole, codes)]),
        error=None,
        further={
            **_unbilled_rows(unbilled if across.is_known else None, ""),
            "unbilled_unknown": unbilled and list(unbilled.unknown),
            "billed_twice": twice if twice is None else _twice_rows(twice),
        },
        remarks=[*(_remarks(unbilled) if unbilled else ()), *_remarks_of_twice(twice or ())],
        before_items={
            "accounts": [
                account_row(one.account, _run(one), summary, one.error)
                for one, summary in zip(verifications, summaries, strict=True)
            ]
        },
        names_accounts=True,
    )
    print_results(results, output, options, quiet=quiet)


def exit_code(verifications: Sequence["Verification"], across: "Across") -> ExitCode:
    """Return the code to exit with: the gravest of all accounts, and of what was found over them."""
    return gravest(*(one.exit_code for one in verifications), across.exit_code)


def _sums(verifications: Sequence["Verification"], across: "Across") -> dict[str, Any]:
    summaries = [{name: value for name, value in _summary(one).items() if name != "sample"} for one in verifications]
    found = sums(summaries, exit_code(verifications, across))
    found["openmeter_requests"] += across.openmeter_requests
    samples = [one.sample for one in verifications if one.sample]
    listed = sum(one.listed for one in verifications)
    return {
        **found,
        "sample": {"day": samples[0].day, "days": samples[0].days, "of_items": listed} if samples else None,
    }


def _shown(verification: "Verification", *, quiet: bool) -> list[Comparison]:
    return [one for one in verification.comparisons if not quiet or one.needs_attention]


def _in_words(verification: "Verification") -> str:
    sample, compared = verification.sample, len(verification.comparisons)
    about = items_in_words(compared)
    if sample:
        about = f"Day {sample.day} of {sample.days}: {compared} of {verification.listed} items"
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verification.counts.items() if count)
    until = f"Usage until {utc(verification.as_of)}."
    return f"{about}: {counts or 'nothing to compare'}. {until} {costs(_summary(verification))}"


def _run(verification: "Verification") -> dict[str, Any]:
    return {
        "id": verification.id,
        "started_at": utc(verification.started_at),
        "finished_at": utc(verification.finished_at),
        "as_of": utc(verification.as_of),
        **({"shadow": True} if verification.is_shadow else {}),
    }


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


def _of_original(beside: "WithOriginals") -> Iterator[str]:
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


def _unbilled_rows(known: "Unbilled | None", account: str) -> dict[str, Any]:
    """Return what the JSON document has of usage that nobody bills; null where that is not known."""
    return {
        "unbilled_subjects": known and [_unbilled(one, account, subject=one.subject) for one in known.subjects],
        "unbilled_usage": known and [_unbilled(one, account, values=one.values) for one in known.usage],
    }


def _unbilled(one: UnbilledSubject | UnbilledUsage, account: str, **whose: Any) -> dict[str, Any]:
    return {
        "account": one.account or account or None,
        "meter": one.meter,
        **whose,
        "usage": digits(one.usage),
        "since": utc(one.since),
    }


def _twice_rows(twice: Sequence[BilledTwice]) -> list[dict[str, Any]]:
    return [{"meter": one.meter, "subject": one.subject, "accounts": list(one.accounts)} for one in twice]


def _remarks_of_twice(twice: Sequence[BilledTwice]) -> Iterator[str]:
    for one in twice:
        yield (
            f"billed twice: subject {one.subject} of meter {one.meter}, by the accounts {', '.join(one.accounts)}; end "
            "the subscription in one of them, or correct the mapping, and credit what was invoiced twice"
        )


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


def _item_of(named: tuple[str, Comparison]) -> dict[str, Any]:
    return _item(*named)


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
