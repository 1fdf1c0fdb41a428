"""What a command found out about items: a table for a person, json and csv for programs."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from meter_sync.cli.globals import Globals
from meter_sync.cli.printing.documents import print_csv, print_json
from meter_sync.cli.printing.errors import error_fields, print_error, printable
from meter_sync.cli.printing.table import Column, Row, print_table
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.stages import Findings
from meter_sync.core.telling.comparison import Explanation
from meter_sync.core.text import date_and_time, digits, thousands, utc
from meter_sync.errors import MeterSyncError

_COLORS = {
    "reported": "green",
    "planned": "cyan",
    "held": "yellow",
    "skipped": "yellow",
    "failed": "red",
    "mismatch": "yellow",
}
"""By outcome; the others are as they should be."""
_NAMED_ITEMS = 5
_FIRST_COLUMNS = (
    "account,customer,subscription,subscription_item,price,meter,subjects,target,period_start,period_end,usage"
)
_LAST_COLUMNS = "outcome,reason,message"

Item = Mapping[str, Any]
"""An item as it stands in the JSON document: a public interface, of which all that is printed is made."""


@dataclass(frozen=True, slots=True)
class Results:
    """What a command found out, however far it came."""

    run: Mapping[str, Any]
    summary: Mapping[str, Any]
    """What the JSON document says before the items."""
    items: Sequence[Item]
    shown: Sequence[Item]
    """Those that a table or csv has."""
    columns: str
    """Those of csv, but for what names an item and says what became of it: fields of the JSON document."""
    amounts: Mapping[str, str]
    """Those of a table: by heading, the fields of the JSON document."""
    in_words: str
    """The sum of it, in a line."""
    error: MeterSyncError | None


def print_results(results: Results, output: str, options: Globals, *, quiet: bool) -> None:
    """Print results on stdout.

    Where it is to be quiet, no table or csv is printed if no item is to be shown. The json document is always printed
    whole, so that a program which reads it never finds nothing. Errors go to stderr in any case.
    """
    if results.error:
        print_error(results.error)
    if output == "json":
        head = {"run": results.run, "summary": results.summary}
        print_json({**head, "items": results.items, "error": error_fields(results.error)})
    elif not results.shown and (quiet or results.error):
        return
    elif output == "csv":
        print_csv(f"{_FIRST_COLUMNS},{results.columns},{_LAST_COLUMNS}".split(","), results.shown)
    else:
        _print_table(options, results)


def item_fields(found: Findings) -> dict[str, Any]:
    """Return the fields of the JSON document that name an item, its period and its usage."""
    item = found.item
    return {
        "account": None,
        "customer": item.subscription.customer.id,
        "subscription": item.subscription.id,
        "subscription_item": item.id,
        "price": item.price.id,
        "meter": found.slug,
        "subjects": list(found.subjects),
        "target": item.price.target.value,
        "period": {"start": utc(item.period.start), "end": utc(item.period.end)},
        "usage": digits(found.usage),
    }


def outcome_fields(outcome: str, reason: Reason | Explanation | None, message: str | None) -> dict[str, Any]:
    """Return the last fields of an item: what became of it, why, and what there is to say of it."""
    return {"outcome": str(outcome), "reason": reason and reason.value, "message": message}


def items_in_words(count: int) -> str:
    """Return how many items there are."""
    return "1 item" if count == 1 else f"{count} items"


def costs(summary: Mapping[str, Any]) -> str:
    """Return in words what the JSON document's `summary` says of what a command took, and its exit code."""
    return (
        f"{summary['stripe_requests']} requests to Stripe, {summary['openmeter_requests']} to OpenMeter, "
        f"{summary['seconds']:.1f} s, exit code {summary['exit_code']}."
    )


def _print_table(options: Globals, results: Results) -> None:
    """Print a row for each item, then what needs a person's eye in words, then the sum of it."""
    columns = (
        *(Column(heading) for heading in ("customer", "subscription item", "meter", "period (UTC)")),
        *(Column(heading, is_amount=True) for heading in results.amounts),
        Column("outcome"),
    )
    rows = [Row(_cells(one, results.amounts.values()), _COLORS.get(one["outcome"])) for one in results.shown]
    print_table(options, columns, rows)
    _print_remarks(options, results.shown)
    click.echo(results.in_words)


def _cells(one: Item, amounts: Iterable[str]) -> tuple[str, ...]:
    period = " to ".join(date_and_time(datetime.fromisoformat(bound)) for bound in one["period"].values())
    outcome = f"{one['outcome']} ({one['reason']})" if one["reason"] else one["outcome"]
    numbers = (thousands(one[amount]) for amount in amounts)
    return one["customer"], one["subscription_item"], one["meter"] or "-", period, *numbers, outcome


def _print_remarks(options: Globals, items: Sequence[Item]) -> None:
    """Print what is to be said in words, once for all the items that it is about."""
    about: dict[tuple[str, str | None, str], list[str]] = {}
    for one in items:
        if one["message"]:
            named = f"{one['subscription_item']} of {one['customer']}"
            about.setdefault((one["outcome"], one["reason"], one["message"]), []).append(named)
    for (outcome, reason, message), names in about.items():
        more = f" and {len(names) - _NAMED_ITEMS} more" if len(names) > _NAMED_ITEMS else ""
        said = f"{outcome} ({reason or '-'}): {', '.join(names[:_NAMED_ITEMS])}{more}: {message}"
        click.secho(printable(said), fg=_COLORS.get(outcome), color=options.color and sys.stdout.isatty())
