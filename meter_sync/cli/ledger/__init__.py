"""`meter-sync ledger`: moves the books to another ledger, checks them, and makes backups; it asks no API."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meter_sync.cli.globals import Globals
from meter_sync.cli.options import Matching, output

if TYPE_CHECKING:
    from meter_sync.ledger import Place


ACCOUNT = Matching("NAME", "[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", "the name of an account: a-z, 0-9 and -")


class LedgerPlace(click.ParamType["Place"]):
    """A file, or the URL of a PostgreSQL database without a password in it."""

    name = "URL_OR_FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Place":
        """Tell the two apart, or say what is wrong: a password in an argument would be in the list of processes."""
        from meter_sync.net.postgres_url import PostgresUrl, is_postgres_url, is_with_password, postgres_url

        if isinstance(value, Path | PostgresUrl):
            return value
        if not is_postgres_url(str(value)):
            if "\0" in str(value) or not value:
                self.fail("that is no path.", param, ctx)
            return Path(value).absolute()
        if is_with_password(value):
            self.fail("it has a password in it: leave that to PGPASSFILE, PGPASSWORD or a service file.", param, ctx)
        try:
            return postgres_url(str(value))
        except ValueError as error:
            self.fail(f"it {error}.", param, ctx)


@click.group()
def ledger() -> None:
    """Move the books to another ledger, check whether they are whole, or make a backup.

    Asks neither Stripe nor OpenMeter, and needs no key.
    """


@ledger.command()
@click.option("--from", "source", type=LedgerPlace(), required=True, help="The ledger that has the books.")
@click.option("--to", "target", type=LedgerPlace(), required=True, help="A ledger that has none, or is not there yet.")
@click.option("--keep", is_flag=True, help="Leave the first one in use: the copy then counts as restored.")
@click.option(
    "--without-damaged",
    is_flag=True,
    help="Leave out rows that cannot be copied; what Stripe holds of their items is then read from it again.",
)
@output
@click.pass_obj
def copy(options: Globals, /, source: "Place", target: "Place", output: str, **how: bool) -> None:
    """Copy all books to an empty ledger, from and to files and PostgreSQL databases, as a whole or not at all.

    Runs refuse the ledger that they were copied from afterwards, unless --keep is given.
    """
    from meter_sync.cli.ledger.copying import carry_out
    from meter_sync.ledger.copying import CopyRequest

    options.start_logging()
    carry_out(options, CopyRequest(source, target, **how), output)


@ledger.command()
@click.option("--from", "before", type=ACCOUNT, help="The name that they have. Default: none.")
@click.option("--to", "after", type=ACCOUNT, required=True, help="The name that they get, of a row of [[accounts]].")
@output
@click.pass_obj
def rename(options: Globals, before: str | None, after: str, output: str) -> None:
    """Give an account's books in the ledger in effect another name, or their first one, all or nothing."""
    from meter_sync.cli.ledger.renaming import carry_out
    from meter_sync.ledger.renaming import Renaming

    options.start_logging()
    carry_out(options, Renaming(before or "", after), output)


@ledger.command()
@output
@click.pass_obj
def check(options: Globals, output: str) -> None:
    """Say whether the ledger in effect is whole: its file or database, each row, and what must be true of the books.

    Exit code 4 where something is wrong. It changes nothing, and may be given while runs are at work.
    """
    from meter_sync.cli.ledger.checking import carry_out

    options.start_logging()
    carry_out(options, output)


@ledger.command()
@click.option(
    "--to", "file", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A file that is not there yet."
)
@output
@click.pass_obj
def backup(options: Globals, file: Path, output: str) -> None:
    """Copy the ledger in effect, a file, as it is at one moment, also while runs are at work.

    For a PostgreSQL database it says how its own tools do that, and ends with exit code 2.
    """
    from meter_sync.cli.ledger.backing_up import carry_out

    options.start_logging()
    carry_out(options, file.absolute(), output)


@ledger.command()
@output
@click.pass_obj
def upgrade(options: Globals, output: str) -> None:
    """Make the ledger in effect, or bring it up to date, as runs do, before those of a new version begin."""
    from meter_sync.cli.ledger.upgrading import carry_out

    options.start_logging()
    carry_out(options, output)
