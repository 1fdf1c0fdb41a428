"""Errors in words, for a person, and as a field of documents."""

import click

from meter_sync.errors import MeterSyncError


def print_error(error: MeterSyncError) -> None:
    """Print on stderr what ended a command, with what to do; several problems each in a line of its own."""
    click.echo(f"meter-sync: {printable(error.headline)}", err=True)
    for detail in error.details:
        click.echo(f"  - {printable(detail)}", err=True)
    if error.hint:
        click.echo(f"  what to do: {printable(error.hint)}", err=True)


def error_fields(error: MeterSyncError | None) -> dict[str, str] | None:
    """Return the JSON document's `error`: what ended a command before its time, or null."""
    return None if error is None else {"code": error.code, "message": error.message, "hint": error.hint}


def printable(text: str) -> str:
    """Return a text of any server without what could move a terminal's cursor or forge a line."""
    return "".join(character if character.isprintable() else "?" for character in text)
