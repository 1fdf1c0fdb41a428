"""One way of printing for all commands: a table for a person, json and csv for programs, errors for both."""

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TextIO, TypeVar

import click

from meter_sync import __version__
from meter_sync.cli.globals import Globals
from meter_sync.cli.streams import are_events, write_event
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.stages import Findings
from meter_sync.core.telling.comparison import Explanation
from meter_sync.core.text import date_and_time, digits, thousands, utc
from meter_sync.errors import MeterSyncError

Found = TypeVar("Found")
Found_co = TypeVar("Found_co", covariant=True)

_WIDER_THAN_ANY_TABLE = 10_000
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
_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_FIRST_COLUMNS = (
    "account,customer,subscription,subscription_item,price,meter,subjects,target,period_start,period_end,usage"
)
_LAST_COLUMNS = "outcome,reason,message"


def print_error(error: MeterSyncError, run_id: str | None = None) -> None:
    """Print on stderr what ended a command, with what to do; several problems each in a line of its own.

    Where stderr is to be JSON it is one line, and `run_id` the run that it ended, if that had begun.
    """
    if are_events():
        write_event("error", "error", run_id=run_id, code=error.code, message=error.message, hint=error.hint)
        return
    click.echo(f"meter-sync: {printable(error.headline)}", err=True)
    for detail in error.details:
        click.echo(f"  - {printable(detail)}", err=True)
    if error.hint:
        click.echo(f"  what to do: {printable(error.hint)}", err=True)


def printable(text: str) -> str:
    """Return a text of any server without what could move a terminal's cursor or forge a line."""
    return "".join(character if character.isprintable() else "?" for character in text)


class Counted(Protocol[Found_co]):
    """What is gone through one by one, as often as one likes."""

    def __len__(self) -> int:
        """Say how many there are."""

    def __iter__(self) -> Iterator[Found_co]:
        """Go through them."""


@dataclass(frozen=True, slots=True)
class Made(Generic[Found]):
    """Rows that are made of what was found one by one, as they are printed.

    All of them at once would be as large as all else in a run.
    """

    found: Counted[Found]
    row: Callable[[Found], Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return map(self.row, self.found)


Rows = Sequence[Mapping[str, Any]] | Made[Any]
"""Rows as the JSON document has them."""


def print_json(document: Mapping[str, Any], error: MeterSyncError | None = None) -> None:
    """Print a document, with the version of the program that made it, and what ended it before its time, or null.

    Rows that are made as they are printed leave one by one.
    """
    fields = error and {"code": error.code, "message": error.message, "hint": error.hint}
    sys.stdout.writelines(_in_pieces({"version": __version__, **document, "error": fields}))


def _in_pieces(document: Mapping[str, Any]) -> Iterator[str]:
    for number, (name, value) in enumerate(document.items()):
        yield f"{',' if number else '{'}\n  {json.dumps(name)}: "
        if isinstance(value, Made) and value:
            for place, row in enumerate(value):
                yield f"{',' if place else '['}\n    {_indented(row, 4)}"
            yield "\n  ]"
        else:
            yield _indented([] if isinstance(value, Made) else value, 2)
    yield "\n}\n"


def _indented(value: Any, by: int) -> str:
    return json.dumps(value, indent=2).replace("\n", "\n" + " " * by)


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a line of column names, and the rows as documents have them: of a field in two, each is a column.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    write_csv(sys.stdout, columns, rows)


def write_csv(stream: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the same to a stream."""
    writer = csv.DictWriter(stream, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(row) for row in rows)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}_{inner}": part for inner, part in value.items()}
        else:
            flat[name] = _no_formula(",".join(value)) if isinstance(value, list) else _no_formula(value)
    return flat


def _no_formula(value: Any) -> Any:
    """Return a cell that no spreadsheet computes: names and messages come from servers, and so from customers."""
    is_formula = isinstance(value, str) and value.startswith(_BEGINS_A_FORMULA) and not _NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    heading: str
    is_amount: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table."""

    cells: tuple[str, ...]
    color: str | None = None
    """That of its last cell, on a terminal."""
    said: str | None = None
    """What stands below it, in a list."""


def print_table(options: Globals, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print a table, if it has any rows."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        # However long: for 20,000 items the terminal's table takes 11 s and 80 MB; on a dumb one it would be cut.
        print_list(columns, rows)
    elif rows:
        _print_for_a_terminal(options, columns, rows)


def _print_for_a_terminal(options: Globals, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print a table; where the terminal is narrower it wraps the lines: an amount is never cut."""
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.heading, justify="right" if column.is_amount else "left", no_wrap=True)
    for row in rows:
        *cells, last = map(printable, row.cells)
        table.add_row(*(Text(cell) for cell in cells), Text(last, style=row.color or ""))
    console = options.console()
    unbounded = console.options.update(max_width=_WIDER_THAN_ANY_TABLE)
    console.width = max(console.width, Measurement.get(console, unbounded, table).maximum)
    console.print(table)


def print_list(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print aligned columns, and under each row what there is to say of it; nothing if there are no rows."""
    if not rows:
        return
    lines = [tuple(column.heading for column in columns), *(tuple(map(printable, row.cells)) for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line, said in zip(lines, (None, *(row.said for row in rows)), strict=True):
        of_line = zip(columns, line, widths, strict=True)
        aligned = (cell.rjust(width) if column.is_amount else cell.ljust(width) for column, cell, width in of_line)
        click.echo("  ".join(aligned).rstrip())
        if said:
            click.echo(f"    {printable(said)}")


Item = Mapping[str, Any]
"""An item as it stands in the JSON document: a public interface, of which all that is printed is made."""


@dataclass(frozen=True, slots=True)
class Results:
    """What a command found out, however far it came."""

    run: Mapping[str, Any]
    summary: Mapping[str, Any]
    """What the JSON document says before the items."""
    items: Rows
    shown: Rows
    """Those that a table or csv has."""
    columns: str
    """Those of csv, but for what names an item and says what became of it: fields of the JSON document."""
    amounts: Mapping[str, str]
    """Those of a table: by heading, the fields of the JSON document."""
    in_words: str
    """The sum of it, in a line; empty where a remark has it."""
    error: MeterSyncError | None
    further: Mapping[str, Any] = field(default_factory=dict)
    """What the JSON document says after the items."""
    remarks: Sequence[str] = ()
    """What is said below a table, beside its items."""
    before_items: Mapping[str, Any] = field(default_factory=dict)
    """What the JSON document says before the items, after the summary."""
    names_accounts: bool = False
    """Whether a table says whose an item is: where there are several accounts."""


def print_results(results: Results, output: str, options: Globals, *, quiet: bool) -> None:
    """Print results on stdout.

    Where it is to be quiet, no table or csv is printed if no item is to be shown. The json document is always printed
    whole, so that a program which reads it never finds nothing. Errors go to stderr in any case.
    """
    if results.error:
        print_error(results.error, results.run["id"])
    if output == "json":
        head = {"run": results.run, "summary": results.summary, **results.before_items}
        print_json({**head, "items": results.items, **results.further}, results.error)
    elif not (results.shown or results.remarks) and (quiet or results.error):
        return
    elif output == "csv":
        print_csv(f"{_FIRST_COLUMNS},{results.columns},{_LAST_COLUMNS}".split(","), results.shown)
    else:
        accounts = ("account",) if results.names_accounts else ()
        columns = (
            *(Column(heading) for heading in (*accounts, "customer", "subscription item", "meter", "period (UTC)")),
            *(Column(heading, is_amount=True) for heading in results.amounts),
            Column("outcome"),
        )
        rows = [
            Row(
                (*(one[name] for name in accounts), *_cells(one, results.amounts.values())), _COLORS.get(one["outcome"])
            )
            for one in results.shown
        ]
        print_table(options, columns, rows)
        _print_remarks(options, results.shown)
        for remark in results.remarks:
            click.echo(printable(remark))
        if results.in_words:
            click.echo(results.in_words)


def item_fields(found: Findings, account: str = "") -> dict[str, Any]:
    """Return the fields of the JSON document that name an item, its period and its usage.

    `account` is the name of its account, where there are several.
    """
    item = found.item
    return {
        "account": account or None,
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


def _cells(one: Item, amounts: Iterable[str]) -> tuple[str, ...]:
    period = " to ".join(date_and_time(datetime.fromisoformat(bound)) for bound in one["period"].values())
    outcome = f"{one['outcome']} ({one['reason']})" if one["reason"] else one["outcome"]
    numbers = (thousands(one[amount]) for amount in amounts)
    return one["customer"], one["subscription_item"], one["meter"] or "-", period, *numbers, outcome


def _print_remarks(options: Globals, items: Rows) -> None:
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
