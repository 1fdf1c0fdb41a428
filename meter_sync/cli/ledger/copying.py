"""What `meter-sync ledger copy` does, and what it says of it."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import click

from meter_sync.cli.ending import exit_with
from meter_sync.cli.globals import Globals, now
from meter_sync.cli.printing import Column, Row, print_csv, print_error, print_json, print_table, printable
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Place
from meter_sync.ledger.copying import Copied, CopyRequest, RowsDamaged, copy_ledger
from meter_sync.ledger.values import Damaged

_COLUMNS = ("table", "rows", "left_out", "total")


def carry_out(options: Globals, asked: CopyRequest, output: str) -> None:
    """Copy, print what was copied, and exit."""
    places = {"from": str(asked.source), "to": str(asked.target)}
    try:
        asked = _with_password(options, asked)
        done = copy_ledger(asked, now())
    except MeterSyncError as error:
        print_error(error)
        if output == "json":
            print_json({**places, "damaged": _rows(error.damaged if isinstance(error, RowsDamaged) else ())}, error)
        sys.exit(error.exit_code)
    code = ExitCode.ATTENTION if done.damaged else ExitCode.DONE
    exit_with(code, partial(_print, options, asked, done, output), "the books were copied")


def _with_password(options: Globals, asked: CopyRequest) -> CopyRequest:
    """Give the ledger that is in effect the password that is configured for it."""
    configured = options.load_place()

    def place(one: Place) -> Place:
        return configured if str(one) == str(configured) else one

    return replace(asked, source=place(asked.source), target=place(asked.target))


def _print(options: Globals, asked: CopyRequest, done: Copied, output: str) -> None:
    tables = [{name: getattr(one, name) for name in _COLUMNS} for one in done.tables]
    if output == "json":
        # Sums as strings, so that no reader rounds them.
        print_json(
            {
                "from": str(asked.source),
                "to": str(asked.target),
                "kept": asked.keep,
                "restored": done.is_restored,
                "tables": [{**one, "total": str(one["total"])} for one in tables],
                "damaged": _rows(done.damaged),
            }
        )
        return
    if output == "csv":
        print_csv(_COLUMNS, tables)
        return
    columns = [Column("table"), *(Column(name, is_amount=True) for name in ("rows", "left out", "sum"))]
    print_table(options, columns, [Row(tuple(str(one[name]) for name in _COLUMNS)) for one in tables if one["rows"]])
    for line in _said(asked, done):
        click.echo(printable(line))


def _said(asked: CopyRequest, done: Copied) -> Iterable[str]:
    for one in done.damaged:
        yield f"Left out: {one}."
    yield f"The books of {asked.source} are in {asked.target}; what was written was read again, and is the same."
    if done.is_restored:
        yield "The copy counts as restored: the next run on it reads what Stripe holds before it writes."
    if asked.keep:
        yield f"{asked.source} stays in use. Never let runs use both: additions would be billed twice."
    else:
        yield f"Runs refuse {asked.source} from now on. Name the new one with METER_SYNC_LEDGER or `ledger`."


def _rows(damaged: Iterable[Damaged]) -> list[dict[str, Any]]:
    return [{"table": one.table, "key": {**one.key}, "why": list(one.why)} for one in damaged]
