"""The three outputs of a run: a table for a person, json and csv for programs."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import click

from meter_sync import __version__
from meter_sync.cli.errors import print_error, printable
from meter_sync.cli.globals import Globals
from meter_sync.cli.table import Column, Remark, Row, digits, print_remarks, print_rows, thousands, utc
from meter_sync.core.outcomes import ExitCode, Outcome, exit_code
from meter_sync.core.planning.stages import Findings, Result
from meter_sync.errors import MeterSyncError
from meter_sync.sync.request import Execution

_CHANGED = (Outcome.REPORTED, Outcome.PLANNED, Outcome.UNCHANGED)
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
            "started_at": utc(run.started_at),
            "finished_at": utc(execution.finished_at),
            "as_of": utc(run.as_of),
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
        "error": error_fields(report.error),
    }


def error_fields(error: MeterSyncError | None) -> dict[str, str] | None:
    """Return the JSON document's `error`: what ended a command before its time, or null."""
    return None if error is None else {"code": error.code, "message": error.message, "hint": error.hint}


def _item(result: Result) -> dict[str, Any]:
    found = result.found
    return {
        **item_fields(found),
        "quantity": digits(_standing(result)),
        "previous": digits(found.standing),
        "unbilled": digits(result.lacking) if result.lacking else None,
        "timestamp": utc(found.timestamp) if found.timestamp else None,
        **_windows(result),
        "outcome": result.outcome.value,
        "reason": result.reason.value if result.reason else None,
        "message": result.message,
    }


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


def _windows(result: Result) -> dict[str, Any]:
    moved = result.moved
    return {"windows": {"sent": moved.sent, "unchanged": moved.unchanged}} if moved else {}


def _standing(result: Result) -> int | None:
    """Return the quantity that stands after the run: what was not written left what stood before."""
    is_written = result.outcome in _CHANGED or result.moved is not None
    return result.found.quantity if is_written else result.found.standing


def _print_csv(shown: Sequence[Result]) -> None:
    print_csv(CSV_COLUMNS, [_with_windows(flat(_item(result))) for result in shown])


def print_csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Print rows of values as CSV with a line of column names."""
    writer = csv.DictWriter(sys.stdout, fieldnames=columns, lineterminator="\n")
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


def flat(item: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an item in the JSON document as those of a CSV row."""
    period = item.pop("period")
    return {
        **item,
        "subjects": ",".join(item["subjects"]),
        "period_start": period["start"],
        "period_end": period["end"],
    }


def _with_windows(row: dict[str, Any]) -> dict[str, Any]:
    windows = row.pop("windows", {})
    return {**row, "windows_sent": windows.get("sent"), "windows_unchanged": windows.get("unchanged")}


COLUMNS = (
    Column("customer"),
    Column("subscription item"),
    Column("meter"),
    Column("period (UTC)"),
    Column("usage", is_amount=True),
    Column("before", is_amount=True),
    Column("quantity", is_amount=True),
    Column("outcome"),
)


def _print_table(options: Globals, execution: Execution, shown: Sequence[Result], dry_run: bool) -> None:
    """Print a row for each item, then what needs a person's eye in words, then the sum of it."""
    print_rows(options, COLUMNS, [Row(_cells(one), _COLORS[one.outcome]) for one in shown])
    print_remarks(options, [_remark(one, one.message) for one in shown if one.message])
    click.echo(summary(execution, dry_run=dry_run))


def _cells(result: Result) -> tuple[str, ...]:
    found = result.found
    outcome = f"{result.outcome.value} ({result.reason.value})" if result.reason else result.outcome.value
    amounts = (found.usage, found.standing, _standing(result))
    return (*item_cells(found), *(thousands(amount) for amount in amounts), outcome)


def item_cells(found: Findings) -> tuple[str, str, str, str]:
    """Return what names an item in a table: customer, item, meter and period."""
    item = found.item
    return (
        printable(item.subscription.customer.id),
        printable(item.id),
        printable(found.slug or "-"),
        f"{item.period.start:%Y-%m-%d %H:%M:%S} to {item.period.end:%Y-%m-%d %H:%M:%S}",
    )


def _remark(result: Result, message: str) -> Remark:
    title = f"{result.outcome.value} ({result.reason.value if result.reason else '-'})"
    return Remark(title, message, named(result.found), _COLORS[result.outcome])


def named(found: Findings) -> str:
    """Return an item and its customer, in words."""
    return f"{found.item.id} of {found.item.subscription.customer.id}"


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
    unknown = sum(1 for one in results if one.outcome is Outcome.PLANNED and one.found.standing is None)
    if not unknown:
        return ""
    return f"What Stripe holds for {unknown} of these items is not in the ledger: the run itself looks first. "
