"""Making a statement: of the ledger, perhaps with what Stripe says of invoices, and perhaps signed."""

import asyncio
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from meter_sync.cli.printing import write_csv
from meter_sync.cli.statement.making import About, statement_of, sums_of
from meter_sync.cli.statement.times import name_of
from meter_sync.config import Settings
from meter_sync.core.billing.item import Period
from meter_sync.core.outcomes import ExitCode
from meter_sync.core.telling.statement.assembly import Invoiced
from meter_sync.core.telling.statement.figures import Judgement, Statement
from meter_sync.errors import ArgumentsError, MeterSyncError
from meter_sync.ledger import Ledger, books_in_use, open_ledger, open_ledger_read_only
from meter_sync.ledger.binding import BoundTo
from meter_sync.ledger.signatures import Signed

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for."""

    time: Period
    customers: Sequence[str] = ()
    output_format: str = "html"
    locale: str = "en"
    asks_stripe: bool = False
    """Whether Stripe is asked what the invoices bill."""
    signed_by: str | None = None

    def check(self, at: datetime) -> None:
        """Raise ArgumentsError for what cannot be signed, or shown."""
        if self.output_format == "html":
            from meter_sync.statement.locales import written_for

            written_for(self.locale)
        if self.signed_by is None:
            return
        if len(self.signed_by) > _LONGEST_NAME or not self.signed_by.isprintable():
            raise ArgumentsError(f"--sign names who signs, in at most {_LONGEST_NAME} characters; nothing was signed")
        if self.customers:
            raise ArgumentsError("a statement of some customers cannot be signed", "leave --customer or --sign out")
        if self.time.end > at:
            raise ArgumentsError(
                f"{name_of(self.time)} is not over yet, and cannot be signed; nothing was signed",
                "leave --sign out, or sign it once it is over",
            )


def exit_code(found: Statement) -> ExitCode:
    """Return what the command ends with: whether somebody should look."""
    return ExitCode.ATTENTION if found.verdict.judgement is Judgement.ATTENTION else ExitCode.DONE


def make(settings: Settings, wanted: Wanted, clock: Callable[[], datetime]) -> tuple[Statement, str]:
    """Return the statement of an account, and what is to be written of it. Raise MeterSyncError."""
    scope = books_in_use(settings.ledger, settings.scope)
    about = About(wanted.time, settings.account, wanted.customers)
    if wanted.asks_stripe:
        with open_ledger_read_only(settings.ledger, scope) as ledger:
            bound = ledger.binding.read()
        about = replace(about, invoices=asyncio.run(_invoices(settings, bound, wanted.time, clock)))
    if wanted.signed_by is None:
        with open_ledger_read_only(settings.ledger, scope) as ledger:
            found = statement_of(ledger, about)
    else:
        with open_ledger(settings.ledger, scope) as ledger:
            found = _signed(ledger, about, wanted.signed_by, clock())
    return found, _text(found, wanted)


def _signed(ledger: Ledger, about: About, signed_by: str, at: datetime) -> Statement:
    """Sign the statement as it is, and return it with the signature."""
    found = statement_of(ledger, about)
    is_looked_at = found.as_of is not None and found.as_of >= found.until
    if found.unread or found.whole.bridge.difference or not is_looked_at:
        raise MeterSyncError(f"nothing was signed: {found.verdict.sentence}", code="not_signed")
    ledger.signatures.sign(Signed(about.time, signed_by, at, found.digest, sums_of(found.whole.bridge)))
    return statement_of(ledger, about)


async def _invoices(settings: Settings, bound: BoundTo | None, time: Period, clock: Callable[[], datetime]) -> Invoiced:
    """Return what invoices bill, by Stripe."""
    from meter_sync.cli.ending import stop_on_signals
    from meter_sync.cli.statement.invoices import invoiced

    with stop_on_signals() as stop:
        return await invoiced(settings, bound, time, clock, stop)


def _text(found: Statement, wanted: Wanted) -> str:
    """Return a statement in the format that is asked for."""
    from meter_sync.statement import document

    match wanted.output_format:
        case "json":
            return json.dumps(document.document(found), ensure_ascii=False, indent=2) + "\n"
        case "csv":
            lines = io.StringIO()
            write_csv(lines, document.COLUMNS, document.rows(found))
            return lines.getvalue()
        case _:
            from meter_sync.statement.page import page

            return page(found, wanted.locale)
