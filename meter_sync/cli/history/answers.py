"""What is printed of the ledger: words and columns for a person, json and csv, a public interface, for programs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import click

from meter_sync.cli.of_accounts import as_document, of_account
from meter_sync.cli.printing import Column, Made, Row, Rows, print_csv, print_error, print_json, print_list, printable
from meter_sync.core.outcomes import ExitCode, gravest
from meter_sync.core.telling.explanation import explain
from meter_sync.core.telling.history import Added, Entry, Held, PastRun, Remainder, Story, Whose, Write, WrittenPart
from meter_sync.core.text import date_and_time, digits, thousands, utc
from meter_sync.errors import MeterSyncError
from meter_sync.ledger.remainders import Unbilled
from meter_sync.ledger.signatures import Signed

_RUN_FIELDS = "run,started_at,finished_at,as_of,schedule,everything,exit_code,counts"
_RUN_HEADINGS = "began (UTC),took,as of (UTC),schedule,about,exit code,run,items"
_ENTRY_FIELDS = (
    "kind,at,customer,subscription,subscription_item,meter,period_start,period_end,part_start,usage,previous,quantity,"
    "carried,timestamp,acknowledged_at,request_id,identifier,run,outcome,reason,times,last_at,last_run,settled,settled_at,message"
)
_ENTRY_HEADINGS = (
    "time (UTC),customer,subscription item,period start (UTC),what,usage,carried,before,quantity,acknowledged (UTC),"
    "Stripe's request,run"
)
_AMOUNTS = {"usage": "usage", "carried": "carried", "before": "previous", "quantity": "quantity"}
"""By heading, the columns of amounts."""
_SIGNED_FIELDS = "since,until,signed_by,signed_at,digest"
_SIGNED_HEADINGS = "since,until,signed by,at (UTC),digest"
_UNBILLED_FIELDS = (
    "customer,subscription,subscription_item,period_start,period_end,unbilled,settled,carried,waits,named_at,message"
)


Thing = TypeVar("Thing")
Of = tuple[str, Thing]
"""A thing with the name of the account that it is of; empty for books without a name."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is to say, for programs and for a person."""

    key: str
    """Its name in the JSON document…"""
    rows: Rows
    """… and what stands there."""
    columns: str
    """Those of csv, between commas."""
    print_in_words: Callable[[], None]
    csv_rows: Sequence[Mapping[str, Any]] | None = None
    """The rows of csv, where they are others."""
    exit_code: ExitCode = ExitCode.DONE
    accounts: Mapping[str, MeterSyncError | None] | None = None
    """Those that it is about, by name, and why the books of one could not be read; None where it is about one."""

    def over(self, accounts: Mapping[str, MeterSyncError | None]) -> "Answer":
        """Return it as one about several accounts, whose exit code is the gravest."""
        codes = (error.exit_code for error in accounts.values() if error)
        return replace(self, accounts=accounts, exit_code=gravest(self.exit_code, *codes))

    def print(self, output: str) -> None:
        """Print it on stdout, as a table, json or csv; errors of single accounts go to stderr."""
        about = (self.accounts or {}).items()
        for name, error in about:
            if error:
                print_error(of_account(name, error))
        if output == "json":
            rows = [{"name": name or None, "error": error and as_document(error)} for name, error in about]
            print_json({**({} if self.accounts is None else {"accounts": rows}), self.key: self.rows})
        elif output == "csv":
            print_csv(self.columns.split(","), self.rows if self.csv_rows is None else self.csv_rows)
        else:
            self.print_in_words()


def runs(found: Sequence[Of[PastRun]], *, by_account: bool) -> Answer:
    """Return what there is to say of runs, the newest first; `by_account` names the account of each."""
    rows, flat, lines = [], [], []
    for account, one in found:
        row = {
            **_account(account, by_account),
            "run": one.id,
            "started_at": utc(one.started_at),
            "finished_at": _if_known(one.finished_at),
            "as_of": utc(one.as_of),
            "schedule": one.schedule,
            "everything": one.everything,
            "exit_code": one.exit_code,
            "counts": dict(one.counts),
        }
        took = f"{(one.finished_at - one.started_at).total_seconds():.0f} s" if one.finished_at else "unfinished"
        code = "-" if one.exit_code is None else str(one.exit_code)
        about = "all" if one.everything else "some"
        counts = ", ".join(f"{count} {outcome}" for outcome, count in one.counts.items())
        began, as_of = date_and_time(one.started_at), date_and_time(one.as_of)
        rows.append(row)
        flat.append({**row, "counts": counts})
        cells = began, took, as_of, one.schedule, about, code, one.id, counts
        lines.append(Row((*_cells_of_account(account, by_account), *cells)))
    headings = _with_account(_RUN_HEADINGS, by_account)
    in_words = partial(_print_list, headings, lines, "The ledger knows of no run then.")
    return Answer("runs", rows, _with_account(_RUN_FIELDS, by_account), in_words, csv_rows=flat)


def _account(name: str, by_account: bool) -> dict[str, str | None]:
    return {"account": name or None} if by_account else {}


def _cells_of_account(name: str, by_account: bool) -> tuple[str, ...]:
    return (name or "-",) if by_account else ()


def _with_account(columns: str, by_account: bool) -> str:
    return f"account,{columns}" if by_account else columns


def entries(found: Sequence[Of[Entry]], *, by_account: bool) -> Answer:
    """Return what there is to say of what happened to items."""

    def row_of(named: Of[Entry]) -> dict[str, Any]:
        account, one = named
        return {**_account(account, by_account), **_row_of_entry(one)}

    def in_words() -> None:
        rows = [_row_of_entry(one) for _, one in found]
        headings = _ENTRY_HEADINGS if any(row["carried"] for row in rows) else _ENTRY_HEADINGS.replace("carried,", "")
        amounts = [heading for heading in _AMOUNTS if heading in headings]
        lines = [
            Row(
                (*_cells_of_account(account, by_account), *_cells_of_entry(one, row, amounts)),
                said=row["message"],
            )
            for (account, one), row in zip(found, rows, strict=True)
        ]
        _print_list(_with_account(headings, by_account), lines, "Nothing was written, and nothing was held.")

    return Answer("entries", Made(found, row_of), _with_account(_ENTRY_FIELDS, by_account), in_words)


def _print_list(headings: str, lines: Sequence[Row], if_none: str) -> None:
    print_list([Column(heading, is_amount=heading in _AMOUNTS) for heading in headings.split(",")], lines)
    if not lines:
        click.echo(if_none)


def _row_of_entry(one: Entry) -> dict[str, Any]:
    """Return what happened to an item for programs: every column, those of other kinds empty."""
    whose = {**_row_of_whose(one.whose), "meter": one.whose.meter}
    return {**dict.fromkeys(_ENTRY_FIELDS.split(",")), "at": utc(one.at), **whose, **_facts(one)}


def _row_of_whose(whose: Whose | Unbilled) -> dict[str, Any]:
    return {
        "customer": whose.customer,
        "subscription": whose.subscription,
        "subscription_item": whose.item,
        "period_start": utc(whose.period.start),
        "period_end": utc(whose.period.end),
    }


def _facts(one: Entry) -> dict[str, Any]:
    match one:
        case Write():
            amounts = {**_amounts(one.usage, one.previous, one.quantity), "carried": digits(one.carried or None)}
            return {"kind": "write", **amounts, **_sent(one, one.acknowledged_at), "run": one.run}
        case Held():
            amounts = _amounts(one.usage, one.previous, one.quantity)
            why = {"outcome": one.outcome, "reason": one.reason, "message": one.message}
            last = {"times": one.times, "last_at": utc(one.last_at), "last_run": one.last_run}
            return {"kind": "hold", **amounts, "run": one.first_run, **why, **last}
        case Remainder():
            added = digits(one.carried or None)
            amounts = {"quantity": digits(one.quantity), "settled": digits(one.settled), "carried": added}
            note = f"; settled: {one.note}" if one.settled_at else ""
            settled = {"settled_at": _if_known(one.settled_at), "message": f"{one.why or ''}{note}"}
            return {"kind": "carried" if one.waits else "unbilled", **amounts, **settled}
        case WrittenPart():
            part = {"part_start": utc(one.start), "identifier": one.identifier}
            return {"kind": "part", **part, **_amounts(one.total, None, one.value), **_sent(one, one.acknowledged_at)}
        case Added():
            cancelled = f"cancelled at {utc(one.cancelled_at)}" if one.cancelled_at else None
            told = {"identifier": one.identifier, "run": one.run, "message": one.rejected or cancelled}
            return {"kind": "addition", **_amounts(None, one.base, one.value), **_sent(one, one.delivered_at), **told}


def _amounts(usage: Decimal | None, previous: int | None, quantity: int | None) -> dict[str, str | None]:
    return {"usage": digits(usage), "previous": digits(previous), "quantity": digits(quantity)}


def _sent(one: Write | WrittenPart | Added, acknowledged_at: datetime | None) -> dict[str, str | None]:
    timestamp, acknowledged = utc(one.timestamp), _if_known(acknowledged_at)
    return {"timestamp": timestamp, "acknowledged_at": acknowledged, "request_id": one.request_id}


def _cells_of_entry(one: Entry, row: dict[str, Any], amounts: Sequence[str]) -> tuple[str, ...]:
    """Return what happened to an item for a person, given its row for programs and the headings of amounts."""
    whose = one.whose
    about = (date_and_time(one.at), whose.customer, whose.item, date_and_time(whose.period.start), _what(one))
    numbers = (thousands(row[_AMOUNTS[heading]]) for heading in amounts)
    return *about, *numbers, *_answer(one), row["run"] or "-"


def _what(one: Entry) -> str:
    match one:
        case Write():
            return "write"
        case Held():
            often = f", {one.times} times" if one.times > 1 else ""
            return f"{one.outcome} ({one.reason}){often}"
        case Remainder():
            left = "carried" if one.waits else "not billed"
            return "settled" if one.settled == one.quantity - one.carried and one.settled else left
        case WrittenPart():
            return f"part from {date_and_time(one.start)}"
        case Added():
            return "addition"


def _answer(one: Entry) -> tuple[str, str]:
    """Return when Stripe answered, and its name for the request; of a hold, when it was last said."""
    match one:
        case Held():
            return (f"until {date_and_time(one.last_at)}" if one.times > 1 else "-"), "-"
        case Remainder():
            return "-", "-"
        case WrittenPart(acknowledged=None):
            return "not acknowledged", "-"
        case WrittenPart(acknowledged_at=None):
            return "nothing to send", "-"
        case Write(acknowledged_at=at) | WrittenPart(acknowledged_at=at) | Added(delivered_at=at):
            return "not acknowledged" if at is None else date_and_time(at), one.request_id or "-"


def explanations(stories: Sequence[Of[Story]], *, by_account: bool) -> Answer:
    """Return in words how quantities came about."""
    rows = [
        {
            **_account(account, by_account),
            **_row_of_whose(story.whose),
            "quantity": digits(story.remembered.quantity) if story.remembered else None,
            "acknowledged": digits(story.remembered.acknowledged) if story.remembered else None,
            "sentences": [{"topic": one.topic, "text": one.text} for one in explain(story)],
            "entries": [_row_of_entry(one) for one in story.entries],
        }
        for account, story in stories
    ]

    def in_words() -> None:
        for number, row in enumerate(rows):
            click.echo("\n" if number else "", nl=False)
            if by_account:
                click.echo(f"{'account:':<13} {printable(row['account'] or '-')}")
            for said in row["sentences"]:
                click.echo(f"{said['topic'] + ':':<13} {printable(said['text'])}")

    columns = _with_account("subscription_item,topic,text", by_account)
    flat = [
        {**{name: row[name] for name in columns.split(",") if name in row}, **said}
        for row in rows
        for said in row["sentences"]
    ]
    return Answer("explanations", rows, columns, in_words, csv_rows=flat)


def unbilled(found: Sequence[Of[Unbilled]], *, by_account: bool) -> Answer:
    """Return what Stripe does not bill, or bills too much: a person should look while there is any."""

    def in_words() -> None:
        for account, one in found:
            period = f"{utc(one.period.start)} to {utc(one.period.end)}"
            named = *_cells_of_account(account, by_account), one.customer, one.item, period, _open_in_words(one)
            click.echo(printable("  ".join(named)))
            if one.why:
                click.echo(f"    {printable(one.why)}")
        some_wait = _some_wait([one for _, one in found])
        click.echo(f"{len(found)} open{some_wait}." if found else "Nothing was left unbilled.")

    code = ExitCode.DONE if all(one.waits and not one.is_unknown for _, one in found) else ExitCode.ATTENTION
    rows = [{**_account(account, by_account), **_row_of_unbilled(one)} for account, one in found]
    return Answer("unbilled", rows, _with_account(_UNBILLED_FIELDS, by_account), in_words, exit_code=code)


def signatures(found: Sequence[Of[Signed]], *, by_account: bool) -> Answer:
    """Return who has signed which statement, the oldest first."""
    rows, lines = [], []
    for account, one in found:
        time, signed_at = (utc(one.time.start), utc(one.time.end)), utc(one.signed_at)
        told = dict(zip(_SIGNED_FIELDS.split(","), (*time, one.signed_by, signed_at, one.digest), strict=True))
        rows.append({**_account(account, by_account), **told})
        days = (f"{instant:%Y-%m-%d}" for instant in (one.time.start, one.time.end))
        cells = *days, one.signed_by, date_and_time(one.signed_at), one.digest[:16]
        lines.append(Row((*_cells_of_account(account, by_account), *cells)))
    headings = _with_account(_SIGNED_HEADINGS, by_account)
    in_words = partial(_print_list, headings, lines, "Nobody has signed a statement.")
    return Answer("signatures", rows, _with_account(_SIGNED_FIELDS, by_account), in_words)


def _open_in_words(one: Unbilled) -> str:
    if one.is_unknown:
        return "unknown: how much is not billed"
    kind = "not billed" if one.open_quantity > 0 else "billed too much"
    return f"{one.open_quantity:,} {kind}{', waits for the next period of its item' if one.waits else ''}"


def _some_wait(found: Sequence[Unbilled]) -> str:
    waiting = sum(one.waits for one in found)
    return f", {waiting} of them wait for the item's next period" if waiting else ""


def settled(account: str, one: Unbilled, note: str, *, by_account: bool) -> Answer:
    """Return what was marked as settled."""
    settled = str((one.settled or 0) + one.open_quantity)
    whose = _account(account, by_account)
    row = {**whose, **_row_of_unbilled(one), "unbilled": "0", "settled": settled, "message": note}
    what = "an unknown quantity" if one.is_unknown else str(one.open_quantity)
    named = f" of account {account or '-'}" if by_account else ""
    said = f"{what} of {one.item}{named}, period from {utc(one.period.start)}, settled: {note}"
    columns = _with_account(_UNBILLED_FIELDS, by_account)
    return Answer("settled", [row], columns, partial(click.echo, printable(said)))


def _row_of_unbilled(one: Unbilled) -> dict[str, Any]:
    open_ = None if one.is_unknown else str(one.open_quantity)
    settled = str(one.settled or 0)
    said = {"waits": one.waits, "named_at": _if_known(one.named_at), "message": one.why}
    return {**_row_of_whose(one), "unbilled": open_, "settled": settled, "carried": str(one.carried), **said}


def pruned(before: datetime, gone: Sequence[Of[Mapping[str, int]]], *, by_account: bool) -> Answer:
    """Return how many rows went."""
    rows = [
        {**_account(account, by_account), "table": name, "rows": count}
        for account, of_tables in gone
        for name, count in of_tables.items()
    ]

    def in_words() -> None:
        for account, of_tables in gone:
            counted = ", ".join(f"{count:,} {name}" for name, count in of_tables.items())
            whose = f"{account or '-'}: " if by_account else ""
            click.echo(f"{whose}Forgotten of what was over before {utc(before)}: {counted}.")

    return Answer("pruned", rows, _with_account("table,rows", by_account), in_words)


def _if_known(instant: datetime | None) -> str | None:
    return None if instant is None else utc(instant)
