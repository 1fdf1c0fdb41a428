"""What is made of a schedule is printed, or written into a folder."""

import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from meter_sync.cli.ending import exit_with
from meter_sync.cli.fleet import not_shared
from meter_sync.cli.globals import Globals
from meter_sync.cli.options import Command
from meter_sync.cli.printing import print_error, printable
from meter_sync.cli.schedule.installation import Installation, installation
from meter_sync.config import SECRETS
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError


@dataclass(frozen=True, slots=True)
class Made:
    """The files of a schedule, and what is said with them."""

    files: Mapping[str, str]
    """Their texts by name."""
    printed: str
    """What is printed where nothing is written."""
    notes: Sequence[str]
    """What is still to be done by hand."""
    next_steps: Callable[[Path], Sequence[str]]
    """Given the folder of the files, the commands that install them."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the files go."""

    folder: Path | None
    """None for stdout."""
    may_replace: bool
    """Whether files that have another content are replaced."""


def written(command: Command) -> Command:
    """Give a command the options that say where its files go: it is called with them as a `destination`."""

    @click.option("--write", type=click.Path(path_type=Path), metavar="DIR", help="Write the files into this folder.")
    @click.option("--force", is_flag=True, help="With --write: replace files that have another content.")
    @wraps(command)
    def writing(write: Path | None, force: bool, **others: Any) -> None:
        if force and write is None:
            raise click.UsageError("--force is about files that are there: it goes with --write DIR.")
        command(destination=Destination(write, force), **others)

    return writing


def give(
    options: Globals, destination: Destination, make: Callable[[Installation], Made], workers: int | None = None
) -> None:
    """Make the files for the configuration in effect, print or write them, and say what is still to be done.

    `workers` is how many carry out the runs, if any.
    """
    options.start_logging()
    try:
        # The webhook's secret is among them: where there is one, there is a service for the webhook.
        # What is in their files is not looked at: it may be another user's, or still to come.
        configuration = replace(options.read_configuration(SECRETS), of_secrets={})
        is_of_several = configuration.is_of_several
        settings = (options.checked if is_of_several else options.of_the_account)(configuration, ())
        if workers and isinstance(settings.ledger, Path):
            raise not_shared(settings.ledger)
        made = make(installation(configuration, settings, os.environ, workers or 0))
        if destination.folder is not None:
            _write(made, destination.folder, may_replace=destination.may_replace)
    except MeterSyncError as error:
        print_error(error)
        sys.exit(error.exit_code)
    for note in made.notes:
        click.echo(f"meter-sync: {printable(note)}", err=True)
    if destination.folder is None:
        exit_with(ExitCode.DONE, partial(click.echo, made.printed, nl=False), "print them again")
    exit_with(ExitCode.DONE, partial(_print_what_was_written, made, destination.folder), "the files are written")


def _write(made: Made, folder: Path, *, may_replace: bool) -> None:
    """Write the files, all or none. Raise MeterSyncError where one is there that says something else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = [
            f"{folder / name} is there, and has another content"
            for name, text in made.files.items()
            if (folder / name).exists() and (folder / name).read_text("utf-8", errors="replace") != text
        ]
        if others and not may_replace:
            raise MeterSyncError(
                "nothing was written, so as not to replace what may have been changed by hand",
                "compare it with what is printed without --write, or replace it with --force",
                code="not_written",
                details=others,
            )
        for name, text in made.files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        where = error.filename or folder
        raise MeterSyncError(
            f"the files could not be written: {where}: {error.strerror}", code="not_written"
        ) from error


def _print_what_was_written(made: Made, folder: Path) -> None:
    for name in made.files:
        click.echo(printable(f"wrote {folder / name}"))
    click.echo("\nRead them, then install them with\n")
    for line in made.next_steps(folder):
        click.echo(f"  {printable(line)}")


def comment(*paragraphs: str) -> list[str]:
    """Return the lines of a comment in a file: what is indented stands in a line of its own, however long."""
    lines: list[str] = []
    for text in paragraphs:
        is_code = text.startswith(" ") or not text
        lines += [text] if is_code else textwrap.wrap(text, width=118, break_on_hyphens=False, break_long_words=False)
    return [f"# {line}".rstrip() for line in lines]


def in_folder(folder: Path, name: str) -> str:
    """Return how a shell names a file in a folder."""
    return shlex.quote(str(folder / name))
