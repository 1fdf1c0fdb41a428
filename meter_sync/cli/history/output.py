"""What is printed of the ledger: words and columns for a person, json and csv for programs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import click

from meter_sync.cli.history.rows import (
    ENTRY_FIELDS,
    RUN_FIELDS,
    UNBILLED_FIELDS,
    cells_of_entry,
    cells_of_run,
    counts_in_words,
    row_of_entry,
    row_of_run,
    row_of_unbilled,
    row_of_whose,
)
from meter_sync.cli.printing.documents import print_csv, print_json
from meter_sync.cli.printing.errors import printable
from meter_sync.cli.printing.table import Column, Row, print_list
from meter_sync.core.outcomes import ExitCode
from meter_sync.core.telling.explanation import Sentence, explain
from meter_sync.core.telling.history import Entry, PastRun, Story
from meter_sync.core.text import digits, utc
from meter_sync.ledger.remainders import Unbilled

_RUN_HEADINGS = "began (UTC),took,as of (UTC),schedule,about,exit code,run,items"
_ENTRY_HEADINGS = (
    "time (UTC),customer,subscription item,period start (UTC),what,usage,before,quantity,acknowledged (UTC),"
    "Stripe's request,run"
)
_AMOUNTS = ("usage", "before", "quantity")


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is to say, for programs and for a person."""

    key: str
    """Its name in the JSON document…"""
    rows: Sequence[Mapping[str, Any]]
    """… and what stands there."""
    columns: str
    """Those of csv, between commas."""
    print_in_words: Callable[[], None]
    csv_rows: Sequence[Mapping[str, Any]] | None = None
    """The rows of csv, where they are others."""
    exit_code: ExitCode = ExitCode.DONE

    def print(self, output: str) -> None:
        """Print it on stdout, as a table, json or csv."""
        if output == "json":
            print_json({self.key: self.rows, "error": None})
        elif output == "csv":
            print_csv(self.columns.split(","), self.rows if self.csv_rows is None else self.csv_rows)
        else:
            self.print_in_words()


def runs(found: Sequence[PastRun]) -> Answer:
    """Return what there is to say of runs, the newest first."""
    rows = [row_of_run(one) for one in found]
    flat = [{**row, "counts": counts_in_words(one)} for row, one in zip(rows, found, strict=True)]
    lines = [Row(cells_of_run(one)) for one in found]
    in_words = partial(_print_list, _RUN_HEADINGS, lines, "The ledger knows of no run.")
    return Answer("runs", rows, RUN_FIELDS, in_words, csv_rows=flat)


def entries(found: Sequence[Entry]) -> Answer:
    """Return what there is to say of what happened to items."""
    rows = [row_of_entry(one) for one in found]
    lines = [Row(cells_of_entry(one, row), said=row["message"]) for one, row in zip(found, rows, strict=True)]
    in_words = partial(_print_list, _ENTRY_HEADINGS, lines, "Nothing was written, and nothing was held.")
    return Answer("entries", rows, ENTRY_FIELDS, in_words)


def _print_list(headings: str, lines: Sequence[Row], if_none: str) -> None:
    print_list([Column(heading, is_amount=heading in _AMOUNTS) for heading in headings.split(",")], lines)
    if not lines:
        click.echo(if_none)


def explanations(stories: Sequence[Story]) -> Answer:
    """Return in words how quantities came about."""
    told = [(story, explain(story)) for story in stories]
    sentences = [
        {"subscription_item": story.whose.item, "topic": one.topic, "text": one.text}
        for story, said in told
        for one in said
    ]

    def in_words() -> None:
        paragraphs = ("".join(f"{one.topic + ':':<13} {printable(one.text)}\n" for one in said) for _, said in told)
        click.echo("\n".join(paragraphs), nl=False)

    rows = [_explanation(story, said) for story, said in told]
    return Answer("explanations", rows, "subscription_item,topic,text", in_words, csv_rows=sentences)


def _explanation(story: Story, said: Sequence[Sentence]) -> dict[str, Any]:
    known = story.remembered
    return {
        **row_of_whose(story.whose),
        "quantity": digits(known.quantity) if known else None,
        "acknowledged": digits(known.acknowledged) if known else None,
        "sentences": [{"topic": one.topic, "text": one.text} for one in said],
        "entries": [row_of_entry(one) for one in story.entries],
    }


def unbilled(found: Sequence[Unbilled]) -> Answer:
    """Return what Stripe does not bill, or bills too much: a person should look while there is any."""

    def in_words() -> None:
        for one in found:
            kind = "not billed" if one.open_quantity > 0 else "billed too much"
            period = f"{utc(one.period.start)} to {utc(one.period.end)}"
            click.echo(f"{printable(one.customer)}  {printable(one.item)}  {period}  {one.open_quantity:,} {kind}")
            if one.why:
                click.echo(f"    {printable(one.why)}")
        click.echo(f"{len(found)} open." if found else "Nothing was left unbilled.")

    code = ExitCode.ATTENTION if found else ExitCode.DONE
    return Answer("unbilled", [row_of_unbilled(one) for one in found], UNBILLED_FIELDS, in_words, exit_code=code)


def settled(one: Unbilled, note: str) -> Answer:
    """Return what was marked as settled."""
    row = {**row_of_unbilled(one), "unbilled": "0", "settled": str(one.remainder), "message": note}
    said = f"{one.open_quantity} of {one.item}, period from {utc(one.period.start)}, are settled: {note}"
    return Answer("settled", [row], UNBILLED_FIELDS, partial(click.echo, printable(said)))


def pruned(before: datetime, gone: Mapping[str, int]) -> Answer:
    """Return how many rows went."""
    rows = [{"table": name, "rows": count} for name, count in gone.items()]
    counted = ", ".join(f"{count:,} {name}" for name, count in gone.items())
    said = f"Forgotten of what was over before {utc(before)}: {counted}."
    return Answer("pruned", rows, "table,rows", partial(click.echo, said))
