"""What is printed of a verification."""

from typing import Any

from meter_sync.cli.globals import Globals
from meter_sync.cli.printing.items import Results, costs, item_fields, items_in_words, outcome_fields, print_results
from meter_sync.core.telling.comparison import Comparison
from meter_sync.core.text import digits, utc
from meter_sync.sync.verify import Verification

_COLUMNS = "as_of,expected,actual,difference"
_AMOUNTS = {"OpenMeter": "expected", "Stripe": "actual", "difference": "difference"}


def print_verification(verification: Verification, output: str, options: Globals, *, quiet: bool) -> None:
    """Print what was found out; quietly, only the items that are not as they should be."""
    items = [_item(one) for one in verification.comparisons]
    summary = _summary(verification)
    results = Results(
        run={
            "id": verification.id,
            "started_at": utc(verification.started_at),
            "finished_at": utc(verification.finished_at),
            "as_of": utc(verification.as_of),
        },
        summary=summary,
        items=items,
        shown=[
            item for item, one in zip(items, verification.comparisons, strict=True) if not quiet or one.needs_attention
        ],
        columns=_COLUMNS,
        amounts=_AMOUNTS,
        in_words=f"{_in_words(verification)}. Usage until {utc(verification.as_of)}. {costs(summary)}",
        error=verification.error,
    )
    print_results(results, output, options, quiet=quiet)


def _summary(verification: Verification) -> dict[str, Any]:
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


def _item(one: Comparison) -> dict[str, Any]:
    span = one.found.span
    return {
        **item_fields(one.found),
        "as_of": utc(span.end) if span and one.expected is not None else None,
        "expected": digits(one.expected),
        "actual": digits(one.actual),
        "difference": digits(one.difference),
        **outcome_fields(one.verdict, one.reason, one.message),
    }


def _in_words(verification: Verification) -> str:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verification.counts.items() if count)
    looked_at, sample = len(verification.comparisons), verification.sample
    items = items_in_words(looked_at)
    if sample:
        items = f"Day {sample.day} of {sample.days}: {looked_at} of {verification.listed} items"
    return f"{items}: {counts or 'nothing to compare'}"
