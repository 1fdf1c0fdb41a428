"""`meter-sync statement`: a page of what was billed and what was not, for finance to read, print and sign."""

import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from meter_sync.cli.ending import exit_with
from meter_sync.cli.globals import Globals, chosen, now
from meter_sync.cli.options import Matching, accounts_of, repeatable
from meter_sync.cli.printing import print_error, printable
from meter_sync.core.outcomes import ExitCode, gravest
from meter_sync.errors import ArgumentsError, MeterSyncError

if TYPE_CHECKING:
    from meter_sync.cli.statement.conduct import Wanted
    from meter_sync.config import Configuration, Settings
    from meter_sync.core.telling.statement.figures import Statement

_ON_STDOUT = Path("-")
_MONTH = Matching("YYYY-MM", r"[1-9]\d{3}-(0[1-9]|1[0-2])", "a month, such as 2026-11")
_DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--month", type=_MONTH, metavar="YYYY-MM", help="The month (UTC). Default: the last whole one.")
@click.option("--since", type=_DAY, metavar="DATE", help="In place of a month: the first day (UTC).")
@click.option("--until", type=_DAY, metavar="DATE", help="The first day that is not in it any more. Default: today.")
@repeatable("--customer", "cus_x", "Only this customer; such a statement cannot be signed")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where it is written; - is stdout. Default: statement-2026-11.html, with the account's name where there are "
    "several, in the folder that is named by statement.folder, or else here.",
)
@click.option(
    "--output-format",
    type=click.Choice(["html", "csv", "json"]),
    default="html",
    show_default=True,
    help="A page, or the same figures for programs; csv has a line for each item's period.",
)
@click.option("--open", "is_opened", is_flag=True, help="Show it in the browser.")
@click.option(
    "--locale",
    default="en",
    show_default=True,
    metavar="LOCALE",
    help="How the page writes numbers and dates, such as en-US or de-CH; its words are English.",
)
@click.option(
    "--check-invoices", is_flag=True, help="Ask Stripe what the invoices bill, and say where that is something else."
)
@click.option("--sign", "signed_by", metavar="NAME", help="Record in the ledger that this person has signed it.")
@accounts_of("Only this account, where there are several")
@click.pass_obj
def statement(
    options: Globals,
    month: str | None,
    since: datetime | None,
    until: datetime | None,
    customers: tuple[str, ...],
    output: Path | None,
    output_format: str,
    is_opened: bool,
    locale: str,
    check_invoices: bool,
    signed_by: str | None,
    accounts: tuple[str, ...],
) -> None:
    """Make a page of what was used, billed and not billed in a time, and why the three agree.

    It is made from the ledger alone, and the same ledger always gives the same page. Exit code 4 says that something on
    it waits for somebody.
    """
    from meter_sync.cli.statement.conduct import Wanted
    from meter_sync.cli.statement.times import time_of

    options.start_logging()
    try:
        time = time_of(month, since, until, now())
        wanted = Wanted(time, customers, output_format, locale, check_invoices, _name(signed_by))
        wanted.check(now())
        found = _chosen(options, accounts)
        if output is not None and len(found) > 1:
            raise ArgumentsError(
                "--output names one file, and there are several accounts; nothing was written",
                "name one with --account, or a folder for all by statement.folder",
            )
    except MeterSyncError as error:
        print_error(error)
        sys.exit(error.exit_code)
    _end([_made(options, one, wanted, output) for one in found], is_opened=is_opened)


def _name(signed_by: str | None) -> str | None:
    if signed_by is not None and not signed_by.strip():
        raise ArgumentsError("--sign names who signs, and the name is empty; nothing was signed")
    return signed_by and signed_by.strip()


def _chosen(options: Globals, names: Sequence[str]) -> "Sequence[Configuration]":
    """Return the configuration of each account that is named, or of all, with the connected ones that have books."""
    from meter_sync.config import needed
    from meter_sync.ledger import accounts_with_books

    configuration = options.read_configuration(needed(for_webhook=False))
    found = chosen(configuration, names)
    if configuration.connected is None or names:
        return found
    rows = {one.account for one in found}
    books = accounts_with_books(options.in_effect(configuration, ()).ledger)
    connected = [one.account for one in books if one.account.startswith("acct_") and one.account not in rows]
    return [*found, *map(configuration.connected, connected)]


def _made(
    options: Globals, configuration: "Configuration", wanted: "Wanted", output: Path | None
) -> "tuple[ExitCode, Path | None]":
    """Make the statement of an account and write it; return how that ended, and where it is.

    What goes wrong with one account is its own.
    """
    from meter_sync.cli.of_accounts import of_account
    from meter_sync.cli.statement.conduct import exit_code, make
    from meter_sync.cli.statement.writing import file_for, written
    from meter_sync.config import needed

    try:
        settings = options.in_effect(configuration, needed(for_webhook=False) if wanted.asks_stripe else ())
        made, text = make(settings, wanted, now)
        if output == _ON_STDOUT:
            exit_with(exit_code(made), partial(click.echo, text, nl=False), "print it again")
        file = output or file_for(settings.statement.folder, settings.account, wanted.time, wanted.output_format)
        written(file, text)
    except MeterSyncError as error:
        print_error(of_account(configuration.account, error) if configuration.account else error)
        return error.exit_code, None
    _tell(settings, made, file, wanted)
    return exit_code(made), file


def _tell(settings: "Settings", made: "Statement", file: Path, wanted: "Wanted") -> None:
    account = f"{settings.account}: " if settings.account else ""
    click.echo(printable(f"{account}{made.verdict.sentence}"))
    signed = f", signed by {wanted.signed_by}" if wanted.signed_by else ""
    click.echo(printable(f"{account}wrote {file}{signed}, digest {made.digest[:16]}"))


def _end(made: "Sequence[tuple[ExitCode, Path | None]]", *, is_opened: bool) -> NoReturn:
    if is_opened:
        for _, file in made:
            if file is not None:
                click.launch(str(file))
    exit_with(gravest(*(code for code, _ in made)), lambda: None, "the files are written")
