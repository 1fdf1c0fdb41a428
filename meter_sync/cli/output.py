"""The three outputs of a run: a table for a person, json and csv for programs."""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

import click

from meter_sync import __version__
from meter_sync.cli.errors import print_error, printable
from meter_sync.cli.globals import Globals
from meter_sync.core.actions import Result
from meter_sync.core.outcomes import ExitCode, Outcome, Reason, exit_code
from meter_sync.sync.order import Execution

_CHANGED = (Outcome.REPORTED, Outcome.PLANNED, Outcome.UNCHANGED)
_NAMED_ITEMS = 5
_WIDER_THAN_ANY_TABLE = 10_000
_COLORS = {
    Outcome.REPORTED: "green",
    Outcome.PLANNED: "cyan",
    Outcome.UNCHANGED: None,
    Outcome.HELD: "yellow",
    Outcome.SKIPPED: "yellow",
    Outcome.FAILED: "red",
}


class Printer(Protocol):
    """Prints what became of a run on stdout."""

    def __call__(self, execution: Execution, *, dry_run: bool) -> None:
        """Print it."""


def printer(output: str, options: Globals, *, quiet: bool) -> Printer:
    """Return the printer for an output.

    A quiet one prints no table or csv unless an item was held, skipped or failed, and then only those; items that
    are skipped without harm are none of them. The json document is always printed whole, so that a program which reads
    it never finds nothing. Errors go to stderr in any case.
    """
    formats: dict[str, Callable[[Execution, Sequence[Result], bool], None]] = {
        "table": lambda execution, shown, dry_run: _print_table(options, execution, shown, dry_run),
        "json": lambda execution, _shown, dry_run: _print_json(execution, dry_run),
        "csv": lambda _execution, shown, _dry_run: _print_csv(shown),
    }

    def print_execution(execution: Execution, *, dry_run: bool) -> None:
        report = execution.report
        if report.error:
            print_error(report.error)
        shown = [one for one in report.results if _is_noteworthy(one)] if quiet else report.results
        nothing_to_show = not shown and (quiet or report.error)
        if output == "json" or not nothing_to_show:
            formats[output](execution, shown, dry_run)

    return print_execution


def _is_noteworthy(result: Result) -> bool:
    return exit_code([(result.outcome, result.reason)]) is not ExitCode.DONE


def _print_json(execution: Execution, dry_run: bool) -> None:
    json.dump(document(execution, dry_run=dry_run), sys.stdout, indent=2)
    sys.stdout.write("\n")


def document(execution: Execution, *, dry_run: bool) -> dict[str, Any]:
    """Return the JSON document of a run: a public interface."""
    run, report = execution.run, execution.report
    counts = {outcome.value: report.counts.get(outcome.value, 0) for outcome in Outcome}
    return {
        "version": __version__,
        "run": {
            "id": run.id,
            "started_at": _utc(run.started_at),
            "finished_at": _utc(execution.finished_at),
            "as_of": _utc(run.as_of),
            "schedule": run.schedule,
            "dry_run": dry_run,
        },
        "summary": {
            "items": len(report.results),
            **counts,
            "exit_code": int(report.exit_code),
            "stripe_requests": report.stripe_requests,
            "openmeter_requests": report.openmeter_requests,
            "seconds": round(execution.seconds, 3),
        },
        "items": [_item(result) for result in report.results],
        "error": report.error
        and {
            "code": report.error.code,
            "message": report.error.message,
            "hint": report.error.hint,
        },
    }


def _item(result: Result) -> dict[str, Any]:
    line = result.line
    item = line.item
    return {
        "account": None,
        "customer": item.subscription.customer.id,
        "subscription": item.subscription.id,
        "subscription_item": item.id,
        "price": item.price.id,
        "meter": line.meter.slug if line.meter else line.row.openmeter,
        "subjects": list(line.subjects),
        "target": item.price.target.value,
        "period": {"start": _utc(item.period.start), "end": _utc(item.period.end)},
        "usage": _digits(line.usage),
        "quantity": _digits(_standing(result)),
        "previous": _digits(line.previous),
        "unbilled": _digits(result.lacking) if result.lacking else None,
        "timestamp": _utc(line.span.anchor) if line.span and not line.way.is_in_parts else None,
        **_windows(result),
        "outcome": result.outcome.value,
        "reason": result.reason.value if result.reason else None,
        "message": result.message,
    }


def _windows(result: Result) -> dict[str, Any]:
    moved = result.moved
    return {"windows": {"sent": moved.sent, "unchanged": moved.unchanged}} if moved else {}


def _standing(result: Result) -> int | None:
    """Return the quantity that stands after the run: what was not written left what stood before."""
    is_written = result.outcome in _CHANGED or result.moved is not None
    return result.line.quantity if is_written else result.line.previous


def _print_csv(shown: Sequence[Result]) -> None:
    rows = [_flat(_item(result)) for result in shown]
    writer = csv.DictWriter(sys.stdout, fieldnames=CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


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
    "quantity",
    "previous",
    "unbilled",
    "timestamp",
    "windows_sent",
    "windows_unchanged",
    "outcome",
    "reason",
    "message",
)


def _flat(item: dict[str, Any]) -> dict[str, Any]:
    period, windows = item.pop("period"), item.pop("windows", {})
    return {
        **item,
        "windows_sent": windows.get("sent"),
        "windows_unchanged": windows.get("unchanged"),
        "subjects": ",".join(item["subjects"]),
        "period_start": period["start"],
        "period_end": period["end"],
    }


HEADINGS = ("customer", "subscription item", "meter", "period (UTC)", "usage", "before", "quantity", "outcome")
_AMOUNTS = ("usage", "before", "quantity")


def _print_table(options: Globals, execution: Execution, shown: Sequence[Result], dry_run: bool) -> None:
    """Print a row for each item, then what needs a person's eye in words, then the sum of it."""
    on_terminal = sys.stdout.isatty()
    if shown and on_terminal:
        _print_rows_for_a_terminal(options, shown)
    elif shown:
        _print_rows_for_a_file(shown)
    for outcome, remark in _remarks(shown):
        click.secho(remark, fg=_COLORS[outcome], color=options.color and on_terminal)
    click.echo(summary(execution, dry_run=dry_run))


def _print_rows_for_a_terminal(options: Globals, results: Sequence[Result]) -> None:
    """Print a table; where the terminal is narrower it wraps the lines: an amount is never cut."""
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in HEADINGS:
        table.add_column(name, justify="right" if name in _AMOUNTS else "left", no_wrap=True)
    for result in results:
        *cells, outcome = _cells(result)
        table.add_row(*(Text(cell) for cell in cells), Text(outcome, style=_COLORS[result.outcome] or ""))
    console = options.console()
    unbounded = console.options.update(max_width=_WIDER_THAN_ANY_TABLE)
    console.width = max(console.width, Measurement.get(console, unbounded, table).maximum)
    console.print(table)


def _print_rows_for_a_file(results: Sequence[Result]) -> None:
    """Print aligned columns, however long: for 20,000 items the terminal's table takes 11 s and 80 MB."""
    rows = [HEADINGS, *(_cells(result) for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        columns = zip(HEADINGS, row, widths, strict=True)
        aligned = (cell.rjust(width) if name in _AMOUNTS else cell.ljust(width) for name, cell, width in columns)
        click.echo("  ".join(aligned).rstrip())


def _cells(result: Result) -> tuple[str, ...]:
    line = result.line
    item = line.item
    period = f"{item.period.start:%Y-%m-%d %H:%M:%S} to {item.period.end:%Y-%m-%d %H:%M:%S}"
    return (
        printable(item.subscription.customer.id),
        printable(item.id),
        printable(line.meter.slug if line.meter else line.row.openmeter or "-"),
        period,
        _thousands(line.usage),
        _thousands(line.previous),
        _thousands(_standing(result)),
        f"{result.outcome.value} ({result.reason.value})" if result.reason else result.outcome.value,
    )


def _remarks(results: Sequence[Result]) -> list[tuple[Outcome, str]]:
    """Return what is to be said in words, once for all the items that it is about."""
    items: dict[tuple[Outcome, Reason | None, str], list[str]] = {}
    for result in results:
        if result.message:
            key = (result.outcome, result.reason, result.message)
            items.setdefault(key, []).append(f"{result.line.item.id} of {result.line.item.subscription.customer.id}")
    return [
        (outcome, printable(f"{outcome.value} ({reason.value if reason else '-'}): {_named(about)}: {message}"))
        for (outcome, reason, message), about in items.items()
    ]


def _named(items: Sequence[str]) -> str:
    more = f" and {len(items) - _NAMED_ITEMS} more" if len(items) > _NAMED_ITEMS else ""
    return ", ".join(items[:_NAMED_ITEMS]) + more


def summary(execution: Execution, *, dry_run: bool) -> str:
    """Return what became of a run in one line."""
    report = execution.report
    counts = ", ".join(f"{count} {outcome}" for outcome, count in report.counts.items()) or "nothing to bill"
    items = "1 item" if len(report.results) == 1 else f"{len(report.results)} items"
    nothing = f"Dry run, nothing was written. {_not_looked_at(report.results)}" if dry_run else ""
    return (
        f"{nothing}{items}: {counts}. {report.stripe_requests} requests to Stripe, "
        f"{report.openmeter_requests} to OpenMeter, {execution.seconds:.1f} s, exit code {int(report.exit_code)}."
    )


def _not_looked_at(results: Sequence[Result]) -> str:
    """Say what a dry run leaves open: it does not ask Stripe about single items."""
    unknown = sum(1 for one in results if one.outcome is Outcome.PLANNED and one.line.previous is None)
    if not unknown:
        return ""
    return f"What Stripe holds for {unknown} of these items is not in the ledger: the run itself looks first. "


def _utc(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _digits(number: Decimal | int | None) -> str | None:
    """Return an amount as a decimal string, so that no reader rounds it."""
    if number is None:
        return None
    number = Decimal(number)
    return _without_trailing_zeros(f"{number:f}") if number.is_finite() else str(number)


def _thousands(number: Decimal | int | None) -> str:
    if number is None:
        return "-"
    number = Decimal(number)
    return _without_trailing_zeros(f"{number:,f}") if number.is_finite() else str(number)


def _without_trailing_zeros(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
