"""What is printed of the ledger: words and columns for a person, json and csv, a public interface, for programs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

import click

from meter_sync.cli.printing import Column, Made, Row, Rows, print_csv, print_json, print_list, printable
from meter_sync.core.outcomes import ExitCode
from meter_sync.core.telling.explanation import explain
from meter_sync.core.telling.history import Added, Entry, Held, PastRun, Remainder, Story, Whose, Write, WrittenPart
from meter_sync.core.text import date_and_time, digits, thousands, utc
from meter_sync.ledger.remainders import Unbilled

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
_UNBILLED_FIELDS = (
    "customer,subscription,subscription_item,period_start,period_end,unbilled,settled,carried,waits,named_at,message"
)


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

    def print(self, output: str) -> None:
        """Print it on stdout, as a table, json or csv."""
        if output == "json":
            print_json({self.key: self.rows})
        elif output == "csv":
            print_csv(self.columns.split(","), self.rows if self.csv_rows is None else self.csv_rows)
        else:
            self.print_in_words()


def runs(found: Sequence[PastRun]) -> Answer:
    """Return what there is to say of runs, the newest first."""
    rows, flat, lines = [], [], []
    for one in found:
        row = {
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
        lines.append(Row((began, took, as_of, one.schedule, about, code, one.id, counts)))
    in_words = partial(_print_list, _RUN_HEADINGS, lines, "The ledger knows of no run then.")
    return Answer("runs", rows, _RUN_FIELDS, in_words, csv_rows=flat)


def entries(found: Sequence[Entry]) -> Answer:
    """Return what there is to say of what happened to items."""

    def in_words() -> None:
        rows = [_row_of_entry(one) for one in found]
        headings = _ENTRY_HEADINGS if any(row["carried"] for row in rows) else _ENTRY_HEADINGS.replace("carried,", "")
        amounts = [heading for heading in _AMOUNTS if heading in headings]
        in_order = zip(found, rows, strict=True)
        lines = [Row(_cells_of_entry(one, row, amounts), said=row["message"]) for one, row in in_order]
        _print_list(headings, lines, "Nothing was written, and nothing was held.")

    return Answer("entries", Made(found, _row_of_entry), _ENTRY_FIELDS, in_words)


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


def explanations(stories: Sequence[Story]) -> Answer:
    """Return in words how quantities came about."""
    rows = [
        {
            **_row_of_whose(story.whose),
            "quantity": digits(story.remembered.quantity) if story.remembered else None,
            "acknowledged": digits(story.remembered.acknowledged) if story.remembered else None,
            "sentences": [{"topic": one.topic, "text": one.text} for one in explain(story)],
            "entries": [_row_of_entry(one) for one in story.entries],
        }
        for story in stories
    ]

    def in_words() -> None:
        for number, row in enumerate(rows):
            click.echo("\n" if number else "", nl=False)
            for said in row["sentences"]:
                click.echo(f"{said['topic'] + ':':<13} {printable(said['text'])}")

    flat = [{"subscription_item": row["subscription_item"], **said} for row in rows for said in row["sentences"]]
    return Answer("explanations", rows, "subscription_item,topic,text", in_words, csv_rows=flat)


def unbilled(found: Sequence[Unbilled]) -> Answer:
    """Return what Stripe does not bill, or bills too much: a person should look while there is any."""

    def in_words() -> None:
        for one in found:
            period = f"{utc(one.period.start)} to {utc(one.period.end)}"
            click.echo(f"{printable(one.customer)}  {printable(one.item)}  {period}  {_open_in_words(one)}")
            if one.why:
                click.echo(f"    {printable(one.why)}")
        click.echo(f"{len(found)} open{_some_wait(found)}." if found else "Nothing was left unbilled.")

    code = ExitCode.DONE if all(one.waits and not one.is_unknown for one in found) else ExitCode.ATTENTION
    return Answer("unbilled", [_row_of_unbilled(one) for one in found], _UNBILLED_FIELDS, in_words, exit_code=code)


def _open_in_words(one: Unbilled) -> str:
    if one.is_unknown:
        return "unknown: how much is not billed"
    kind = "not billed" if one.open_quantity > 0 else "billed too much"
    return f"{one.open_quantity:,} {kind}{', waits for the next period of its item' if one.waits else ''}"


def _some_wait(found: Sequence[Unbilled]) -> str:
    waiting = sum(one.waits for one in found)
    return f", {waiting} of them wait for the item's next period" if waiting else ""


def settled(one: Unbilled, note: str) -> Answer:
    """Return what was marked as settled."""
    settled = str((one.settled or 0) + one.open_quantity)
    row = {**_row_of_unbilled(one), "unbilled": "0", "settled": settled, "message": note}
    what = "an unknown quantity" if one.is_unknown else str(one.open_quantity)
    said = f"{what} of {one.item}, period from {utc(one.period.start)}, settled: {note}"
    return Answer("settled", [row], _UNBILLED_FIELDS, partial(click.echo, printable(said)))


def _row_of_unbilled(one: Unbilled) -> dict[str, Any]:
    open_ = None if one.is_unknown else str(one.open_quantity)
    settled = str(one.settled or 0)
    said = {"waits": one.waits, "named_at": _if_known(one.named_at), "message": one.why}
    return {**_row_of_whose(one), "unbilled": open_, "settled": settled, "carried": str(one.carried), **said}


def pruned(before: datetime, gone: Mapping[str, int]) -> Answer:
    """Return how many rows went."""
    rows = [{"table": name, "rows": count} for name, count in gone.items()]
    counted = ", ".join(f"{count:,} {name}" for name, count in gone.items())
    said = f"Forgotten of what was over before {utc(before)}: {counted}."
    return Answer("pruned", rows, "table,rows", partial(click.echo, said))


def _if_known(instant: datetime | None) -> str | None:
    return None if instant is None else utc(instant)
