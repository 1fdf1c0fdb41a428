"""Tables for a person."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from meter_sync.cli.globals import Globals
from meter_sync.cli.printing.errors import printable

_WIDER_THAN_ANY_TABLE = 10_000


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
    if not sys.stdout.isatty():
        # However long: for 20,000 items the terminal's table takes 11 s and 80 MB.
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
