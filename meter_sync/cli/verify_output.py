"""The three outputs of a verification: a table for a person, json and csv for programs."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from meter_sync import __version__
from meter_sync.cli.errors import print_error
from meter_sync.cli.globals import Globals
from meter_sync.cli.output import error_fields, flat, item_cells, item_fields, named, print_csv
from meter_sync.cli.table import Column, Remark, Row, digits, print_remarks, print_rows, thousands, utc
from meter_sync.core.telling.comparison import Comparison, Verdict
from meter_sync.sync.verify import Verification

_COLORS = {
    Verdict.MATCH: None,
    Verdict.MISMATCH: "yellow",
    Verdict.SKIPPED: "yellow",
    Verdict.FAILED: "red",
}


def print_verification(output: str, options: Globals, verification: Verification, *, quiet: bool) -> None:
    """Print what was found out.

    Quiet, no table or csv is printed but of items that are not as they should be. The json document is always printed
    whole. Errors go to stderr in any case.
    """
    formats: dict[str, Callable[[Sequence[Comparison]], None]] = {
        "table": lambda shown: _print_table(options, verification, shown),
        "json": lambda _shown: _print_json(verification),
        "csv": lambda shown: print_csv(CSV_COLUMNS, [flat(_item(one)) for one in shown]),
    }
    if verification.error:
        print_error(verification.error)
    shown = [one for one in verification.comparisons if one.needs_a_look or not quiet]
    nothing_to_show = not shown and (quiet or verification.error)
    if output == "json" or not nothing_to_show:
        formats[output](shown)


def _print_json(verification: Verification) -> None:
    json.dump(document(verification), sys.stdout, indent=2)
    sys.stdout.write("\n")


def document(verification: Verification) -> dict[str, Any]:
    """Return the JSON document of a verification: a public interface."""
    sample = verification.sample
    return {
        "version": __version__,
        "run": {
            "id": verification.id,
            "started_at": utc(verification.started_at),
            "finished_at": utc(verification.finished_at),
            "as_of": utc(verification.as_of),
        },
        "summary": {
            "items": len(verification.comparisons),
            **verification.counts,
            "exit_code": int(verification.exit_code),
            "stripe_requests": verification.stripe_requests,
            "openmeter_requests": verification.openmeter_requests,
            "seconds": round(verification.seconds, 3),
            "sample": sample and {"day": sample.day, "days": sample.days, "of_items": verification.listed},
        },
        "items": [_item(one) for one in verification.comparisons],
        "error": error_fields(verification.error),
    }


def _item(one: Comparison) -> dict[str, Any]:
    span = one.found.span
    return {
        **item_fields(one.found),
        "as_of": utc(span.end) if span and one.expected is not None else None,
        "expected": digits(one.expected),
        "actual": digits(one.actual),
        "difference": digits(one.difference),
        "outcome": one.verdict.value,
        "reason": one.reason.value if one.reason else None,
        "message": one.message,
    }


CSV_COLUMNS = (
    "account",
    "customer",
    "subscription",
    "subscription_item",
    "price",
    "meter",
    "subjects",
    "target",
    "period_start",
    "period_end",
    "usage",
    "as_of",
    "expected",
    "actual",
    "difference",
    "outcome",
    "reason",
    "message",
)

COLUMNS = (
    Column("customer"),
    Column("subscription item"),
    Column("meter"),
    Column("period (UTC)"),
    Column("OpenMeter", is_amount=True),
    Column("Stripe", is_amount=True),
    Column("difference", is_amount=True),
    Column("outcome"),
)


def _print_table(options: Globals, verification: Verification, shown: Sequence[Comparison]) -> None:
    """Print a row for each item, then what needs a person's eye in words, then the sum of it."""
    print_rows(options, COLUMNS, [Row(_cells(one), _COLORS[one.verdict]) for one in shown])
    print_remarks(options, [_remark(one, one.message) for one in shown if one.message])
    click.echo(summary(verification))


def _cells(one: Comparison) -> tuple[str, ...]:
    outcome = f"{one.verdict.value} ({one.reason.value})" if one.reason else one.verdict.value
    amounts = (one.expected, one.actual, one.difference)
    return (*item_cells(one.found), *(thousands(amount) for amount in amounts), outcome)


def _remark(one: Comparison, message: str) -> Remark:
    title = f"{one.verdict.value} ({one.reason.value if one.reason else '-'})"
    return Remark(title, message, named(one.found), _COLORS[one.verdict])


def summary(verification: Verification) -> str:
    """Return what was found out in one line."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verification.counts.items() if count)
    looked_at = len(verification.comparisons)
    sample = verification.sample
    items = "1 item" if looked_at == 1 else f"{looked_at} items"
    if sample:
        items = f"Day {sample.day} of {sample.days}: {looked_at} of {verification.listed} items"
    return (
        f"{items}: {counts or 'nothing to compare'}. Usage until {utc(verification.as_of)}. "
        f"{verification.stripe_requests} requests to Stripe, {verification.openmeter_requests} to OpenMeter, "
        f"{verification.seconds:.1f} s, exit code {int(verification.exit_code)}."
    )
