"""What of runs, writes, holds and remainders stands in the rows of `meter-sync history`: a public interface."""

from datetime import datetime
from typing import Any

from meter_sync.core.telling.history import Added, Entry, Held, PastRun, Remainder, Whose, Write, WrittenPart
from meter_sync.core.text import date_and_time, digits, thousands, utc
from meter_sync.ledger.remainders import Unbilled

RUN_FIELDS = "run,started_at,finished_at,as_of,schedule,everything,exit_code,counts"
ENTRY_FIELDS = (
    "kind,at,customer,subscription,subscription_item,meter,period_start,period_end,part_start,usage,previous,quantity,"
    "timestamp,acknowledged_at,request_id,identifier,run,outcome,reason,times,last_at,last_run,settled,settled_at,message"
)
UNBILLED_FIELDS = "customer,subscription,subscription_item,period_start,period_end,unbilled,settled,named_at,message"


def row_of_run(one: PastRun) -> dict[str, Any]:
    """Return a run for programs."""
    return {
        "run": one.id,
        "started_at": utc(one.started_at),
        "finished_at": _if_known(one.finished_at),
        "as_of": utc(one.as_of),
        "schedule": one.schedule,
        "everything": one.everything,
        "exit_code": one.exit_code,
        "counts": dict(one.counts),
    }


def cells_of_run(one: PastRun) -> tuple[str, ...]:
    """Return a run for a person."""
    took = "unfinished" if one.finished_at is None else f"{(one.finished_at - one.started_at).total_seconds():.0f} s"
    code = "-" if one.exit_code is None else str(one.exit_code)
    about = "all" if one.everything else "some"
    began, as_of = date_and_time(one.started_at), date_and_time(one.as_of)
    return began, took, as_of, one.schedule, about, code, one.id, counts_in_words(one)


def counts_in_words(one: PastRun) -> str:
    """Return how many items ended in each outcome, in words."""
    return ", ".join(f"{count} {outcome}" for outcome, count in one.counts.items())


def row_of_entry(one: Entry) -> dict[str, Any]:
    """Return what happened to an item for programs: every column, those of other kinds empty."""
    whose = {**row_of_whose(one.whose), "meter": one.whose.meter}
    return {**dict.fromkeys(ENTRY_FIELDS.split(",")), "at": utc(one.at), **whose, **_facts(one)}


def row_of_whose(whose: Whose | Unbilled) -> dict[str, Any]:
    """Return an item and its period for programs."""
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
            return _of_write(one)
        case Held():
            return _of_hold(one)
        case Remainder():
            return _of_remainder(one)
        case WrittenPart():
            return _of_part(one)
        case Added():
            return _of_addition(one)


def _of_write(one: Write) -> dict[str, Any]:
    return {
        "kind": "write",
        "usage": digits(one.usage),
        "previous": digits(one.previous),
        "quantity": digits(one.quantity),
        "timestamp": utc(one.timestamp),
        "acknowledged_at": _if_known(one.acknowledged_at),
        "request_id": one.request_id,
        "run": one.run,
    }


def _of_hold(one: Held) -> dict[str, Any]:
    return {
        "kind": "hold",
        "usage": digits(one.usage),
        "previous": digits(one.previous),
        "quantity": digits(one.quantity),
        "run": one.first_run,
        "outcome": one.outcome,
        "reason": one.reason,
        "times": one.times,
        "last_at": utc(one.last_at),
        "last_run": one.last_run,
        "message": one.message,
    }


def _of_remainder(one: Remainder) -> dict[str, Any]:
    note = f"; settled: {one.note}" if one.settled_at else ""
    return {
        "kind": "unbilled",
        "quantity": digits(one.quantity),
        "settled": digits(one.settled),
        "settled_at": _if_known(one.settled_at),
        "message": f"{one.why or ''}{note}",
    }


def _of_part(one: WrittenPart) -> dict[str, Any]:
    return {
        "kind": "part",
        "part_start": utc(one.start),
        "usage": digits(one.total),
        "quantity": digits(one.value),
        "timestamp": utc(one.timestamp),
        "acknowledged_at": _if_known(one.acknowledged_at),
        "request_id": one.request_id,
        "identifier": one.identifier,
    }


def _of_addition(one: Added) -> dict[str, Any]:
    cancelled = f"cancelled at {utc(one.cancelled_at)}" if one.cancelled_at else None
    return {
        "kind": "addition",
        "previous": digits(one.base),
        "quantity": digits(one.value),
        "timestamp": utc(one.timestamp),
        "acknowledged_at": _if_known(one.delivered_at),
        "request_id": one.request_id,
        "identifier": one.identifier,
        "run": one.run,
        "message": one.rejected or cancelled,
    }


def cells_of_entry(one: Entry, row: dict[str, Any]) -> tuple[str, ...]:
    """Return what happened to an item for a person, given its row for programs."""
    whose = one.whose
    about = (date_and_time(one.at), whose.customer, whose.item, date_and_time(whose.period.start), _what(one))
    amounts = (thousands(row[name]) for name in ("usage", "previous", "quantity"))
    return *about, *amounts, *_answer(one), row["run"] or "-"


def _what(one: Entry) -> str:
    match one:
        case Write():
            return "write"
        case Held():
            often = f", {one.times} times" if one.times > 1 else ""
            return f"{one.outcome} ({one.reason}){often}"
        case Remainder():
            return "settled" if one.settled == one.quantity else "not billed"
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


def row_of_unbilled(one: Unbilled) -> dict[str, Any]:
    """Return what is not billed for programs."""
    return {
        **row_of_whose(one),
        "unbilled": str(one.open_quantity),
        "settled": str(one.settled or 0),
        "named_at": _if_known(one.named_at),
        "message": one.why,
    }


def _if_known(instant: datetime | None) -> str | None:
    return None if instant is None else utc(instant)
