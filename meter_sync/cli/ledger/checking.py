"""What `meter-sync ledger check` says."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import click

from meter_sync.cli.ending import exit_with
from meter_sync.cli.globals import Globals, now
from meter_sync.cli.printing import Column, Row, print_csv, print_error, print_json, print_table, printable
from meter_sync.core.outcomes import ExitCode
from meter_sync.core.text import utc
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Place
from meter_sync.ledger.checking import CheckResult, check_ledger

_COLUMNS = ("check", "status", "account", "mode", "subscription_item", "period_start", "message")
_NAMED = 20


def carry_out(options: Globals, output: str) -> None:
    """Check, print what was found, and exit."""
    try:
        place = options.load_place()
        checked = check_ledger(place, now())
    except MeterSyncError as error:
        print_error(error)
        if output == "json":
            print_json({"checks": []}, error)
        sys.exit(error.exit_code)
    code = ExitCode.ATTENTION if any(one.status != "ok" for one in checked) else ExitCode.DONE
    exit_with(code, partial(_print, options, place, checked, output), "ask again")


def _print(options: Globals, place: Place, checked: Sequence[CheckResult], output: str) -> None:
    if output == "json":
        print_json({"ledger": str(place), "checks": [_document(one) for one in checked]})
    elif output == "csv":
        print_csv(_COLUMNS, (row for one in checked for row in _rows(one)))
    else:
        rows = [Row((one.check, one.status, _said(one))) for one in checked]
        print_table(options, [Column("check"), Column("status"), Column("found")], rows)
        for one in checked:
            _name(one)
        is_whole = all(one.status == "ok" for one in checked)
        click.echo(printable(f"The ledger {place} is whole." if is_whole else f"{place}: {_REMEDY}"))


_REMEDY = (
    "something is wrong. Stop the schedule, make a backup, and look at the items with meter-sync history --explain; "
    "where their quantity in Stripe is wrong too, meter-sync verify says so."
)


def _said(one: CheckResult) -> str:
    return one.skipped or one.remark or (f"{len(one.found)} times" if one.found else "-")


def _name(one: CheckResult) -> None:
    for row in _rows(one)[:_NAMED] if one.found else ():
        place = " ".join(str(row[name]) for name in ("subscription_item", "period_start") if row[name])
        click.echo(printable(f"{one.check}: {place}{': ' if place else ''}{row['message']}"))
    if len(one.found) > _NAMED:
        click.echo(f"{one.check}: and {len(one.found) - _NAMED} more, which --output json names")


def _document(one: CheckResult) -> dict[str, Any]:
    found = [{name: row[name] for name in _COLUMNS[2:]} for row in _found(one)]
    return {"check": one.check, "status": one.status, "message": one.skipped or one.remark, "found": found}


def _rows(one: CheckResult) -> list[dict[str, Any]]:
    """Return what csv has of a check: a row for each finding, or one for none."""
    none = dict.fromkeys(_COLUMNS) | {"message": one.skipped or one.remark}
    return [{**row, "check": one.check, "status": one.status} for row in [*_found(one)] or [none]]


def _found(one: CheckResult) -> Iterator[dict[str, Any]]:
    for scope, wrong in one.found:
        yield {
            "account": scope and scope.account,
            "mode": scope and scope.mode,
            "subscription_item": wrong.item,
            "period_start": wrong.period_start and utc(wrong.period_start),
            "message": wrong.said,
        }
