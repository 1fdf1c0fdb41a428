"""The outputs of `meter-sync history`: words and columns for a person, json and csv for programs."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from meter_sync import __version__
from meter_sync.cli.errors import printable
from meter_sync.cli.history_rows import (
    ENTRY_COLUMNS,
    RUN_COLUMNS,
    UNBILLED_COLUMNS,
    cells_of_entry,
    cells_of_run,
    counts_in_words,
    row_of_entry,
    row_of_run,
    row_of_unbilled,
)
from meter_sync.core.telling.explanation import explain
from meter_sync.core.telling.history import Entry, PastRun, Story
from meter_sync.core.text import utc

if TYPE_CHECKING:
    from meter_sync.errors import MeterSyncError
    from meter_sync.ledger.remainders import Unbilled

_RUN_HEADINGS = ("began (UTC)", "took", "as of (UTC)", "schedule", "about", "exit code", "run", "items")
_ENTRY_HEADINGS = (
    "time (UTC)",
    "customer",
    "subscription item",
    "period start (UTC)",
    "what",
    "usage",
    "before",
    "quantity",
    "acknowledged (UTC)",
    "Stripe's request",
    "run",
)
_AMOUNTS = ("usage", "before", "quantity")


@dataclass(frozen=True, slots=True)
class Output:
    """Prints on stdout, in one of the formats: table, json or csv."""

    format: str

    def runs(self, found: Sequence[PastRun]) -> None:
        """Print runs, the newest first."""
        if self.format == "json":
            self._print("runs", RUN_COLUMNS, [row_of_run(one) for one in found])
            return
        if self.format == "csv":
            self._print("runs", RUN_COLUMNS, [{**row_of_run(one), "counts": counts_in_words(one)} for one in found])
            return
        _print_columns(_RUN_HEADINGS, [cells_of_run(one) for one in found])
        if not found:
            click.echo("The ledger knows of no run.")

    def entries(self, found: Sequence[Entry]) -> None:
        """Print what happened to items, with the words that belong to it."""
        if self.format != "table":
            self._print("entries", ENTRY_COLUMNS, [row_of_entry(one) for one in found])
            return
        told = [(cells_of_entry(one), row_of_entry(one)["message"]) for one in found]
        _print_columns(_ENTRY_HEADINGS, [cells for cells, _ in told], [message for _, message in told])
        if not found:
            click.echo("Nothing was written, and nothing was held.")

    def explanations(self, stories: Sequence[Story]) -> None:
        """Print in words how quantities came about."""
        if self.format == "table":
            for number, story in enumerate(stories):
                if number:
                    click.echo()
                for sentence in explain(story):
                    click.echo(f"{sentence.topic + ':':<13} {printable(sentence.text)}")
            return
        if self.format == "json":
            self._print("explanations", (), [_explanation(one) for one in stories])
            return
        rows = [
            {"subscription_item": one.whose.item, "topic": sentence.topic, "text": sentence.text}
            for one in stories
            for sentence in explain(one)
        ]
        self._print("explanations", ("subscription_item", "topic", "text"), rows)

    def unbilled(self, found: Sequence["Unbilled"]) -> None:
        """Print what Stripe does not bill, or bills too much."""
        if self.format != "table":
            self._print("unbilled", UNBILLED_COLUMNS, [row_of_unbilled(one) for one in found])
            return
        for one in found:
            kind = "not billed" if one.open_quantity > 0 else "billed too much"
            period = f"{utc(one.period.start)} to {utc(one.period.end)}"
            click.echo(f"{printable(one.customer)}  {printable(one.item)}  {period}  {one.open_quantity:,} {kind}")
            if one.why:
                click.echo(f"    {printable(one.why)}")
        click.echo(f"{len(found)} open." if found else "Nothing was left unbilled.")

    def settled(self, one: "Unbilled", note: str) -> None:
        """Print what was marked as settled."""
        if self.format != "table":
            row = {**row_of_unbilled(one), "unbilled": "0", "settled": str(one.remainder), "message": note}
            self._print("settled", UNBILLED_COLUMNS, [row])
            return
        start = utc(one.period.start)
        click.echo(printable(f"{one.open_quantity} of {one.item}, period from {start}, are settled: {note}"))

    def pruned(self, before: datetime, gone: Mapping[str, int]) -> None:
        """Print how many rows went."""
        if self.format != "table":
            self._print("pruned", ("table", "rows"), [{"table": name, "rows": count} for name, count in gone.items()])
            return
        counted = ", ".join(f"{count:,} {name}" for name, count in gone.items())
        click.echo(f"Forgotten of what was over before {utc(before)}: {counted}.")

    def error(self, error: "MeterSyncError") -> None:
        """Print the document of a command that failed; a person reads stderr."""
        if self.format == "json":
            _print_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}})

    def _print(self, key: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        if self.format == "json":
            _print_json({key: rows, "error": None})
            return
        writer = csv.DictWriter(sys.stdout, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _explanation(story: Story) -> dict[str, Any]:
    whose = story.whose
    return {
        "customer": whose.customer,
        "subscription": whose.subscription,
        "subscription_item": whose.item,
        "period_start": utc(whose.period.start),
        "period_end": utc(whose.period.end),
        "quantity": str(story.remembered.quantity) if story.remembered else None,
        "acknowledged": _acknowledged(story),
        "sentences": [{"topic": one.topic, "text": one.text} for one in explain(story)],
        "entries": [row_of_entry(one) for one in story.entries],
    }


def _acknowledged(story: Story) -> str | None:
    known = story.remembered
    return None if known is None or known.acknowledged is None else str(known.acknowledged)


def _print_json(document: Mapping[str, Any]) -> None:
    json.dump({"version": __version__, **document}, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _print_columns(
    headings: Sequence[str], rows: Sequence[Sequence[str]], words: Iterable[str | None] | None = None
) -> None:
    """Print aligned columns, and under each row what there is to say of it."""
    if not rows:
        return
    cleaned = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cleaned, strict=True)]
    for row, said in zip((headings, *cleaned), (None, *(words or [None] * len(rows))), strict=True):
        columns = zip(headings, row, widths, strict=True)
        cells = (cell.rjust(width) if name in _AMOUNTS else cell.ljust(width) for name, cell, width in columns)
        click.echo("  ".join(cells).rstrip())
        if said:
            click.echo(f"    {printable(said)}")
