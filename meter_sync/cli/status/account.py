"""What there is to say of an account, by the ledger alone."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from meter_sync.cli.printing import print_csv, print_json, printable
from meter_sync.config import Settings
from meter_sync.core.outcomes import ExitCode
from meter_sync.core.text import date_and_time, utc

_NAMED = 5
"""So many of what is held or unbilled are named; `history` has all."""

FAILING = (ExitCode.FAILED, ExitCode.CONFIGURATION)
"""What a run ends with that did nothing, and that the next one will end with as well."""

_COLUMNS = (
    "kind,customer,subscription,subscription_item,period_start,period_end,meter,outcome,reason,since,unbilled,named_at,"
    "message"
)
"""Those of csv, whose rows are what somebody should look at."""


def print_account(output: str, found: Mapping[str, Any]) -> None:
    """Print what is true of an account, in the format that is asked for."""
    match output:
        case "json":
            print_json(found)
        case "csv":
            print_csv(_COLUMNS.split(","), _lines(found))
        case _:
            _print(found)


def status_of(settings: Settings, at: datetime) -> dict[str, Any]:
    """Return what is true of an account at an instant, by the ledger. Raise MeterSyncError."""
    from meter_sync.ledger import books_in_use, open_ledger_read_only

    with open_ledger_read_only(settings.ledger, books_in_use(settings.ledger, settings.scope)) as ledger:
        failing, overdue = ledger.runs.last_ended_with(), ledger.runs.overdue_since(settings.schedule, at)
        held = [_row_of_held(one) for one in ledger.overview.held()]
        unbilled = [_row_of_unbilled(one) for one in ledger.remainders.for_a_person()]
        ends = ledger.overview.ends(at)
        return {
            **({"shadow": True} if settings.is_shadow else {}),
            "ledger": {
                "path": str(settings.ledger),
                **ledger.overview.size(),
            },
            "runs": {
                "schedule": settings.schedule.value,
                "last_complete_at": if_known(ledger.runs.last_complete()),
                "overdue_since": if_known(overdue),
                "last_ended_with": failing,
                "last": [_row_of_run(one) for one in ledger.runs.past(None, None, _NAMED)],
            },
            "held": held,
            "unbilled": unbilled,
            "waits": len(ledger.remainders.unbilled()) - len(unbilled),
            "due": {
                "next_period_end": if_known(ends.next_end),
                "within_a_day": ends.within_a_day,
                "ended_and_unreported": ends.unreported,
            },
            "exit_code": ExitCode.ATTENTION if overdue or held or unbilled or failing in FAILING else ExitCode.DONE,
        }


def _row_of_run(one: Any) -> dict[str, Any]:
    return {
        "run": one.id,
        "started_at": utc(one.started_at),
        "everything": one.everything,
        "exit_code": one.exit_code,
        "counts": dict(one.counts),
    }


def _row_of_whose(one: Any) -> dict[str, Any]:
    return {
        "customer": one.customer,
        "subscription": one.subscription,
        "subscription_item": one.item,
        "period": {"start": utc(one.period.start), "end": utc(one.period.end)},
    }


def _row_of_held(one: Any) -> dict[str, Any]:
    said = {"outcome": one.outcome, "reason": one.reason, "message": one.message, "since": utc(one.first_at)}
    return {**_row_of_whose(one), "meter": one.meter, **said}


def _row_of_unbilled(one: Any) -> dict[str, Any]:
    quantity = None if one.is_unknown else str(one.open_quantity)
    return {**_row_of_whose(one), "unbilled": quantity, "named_at": if_known(one.named_at), "message": one.why}


def _lines(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [{"kind": kind, **one} for kind in ("held", "unbilled") for one in found[kind]]


def _print(found: Mapping[str, Any]) -> None:
    runs, due, ledger = found["runs"], found["due"], found["ledger"]
    if found.get("shadow"):
        click.echo(f"{'shadow':<9} this is about the sandbox of [shadow]: nobody is billed by it")
    click.echo(_of_runs(runs))
    for one in runs["last"]:
        about = "all" if one["everything"] else "some"
        counts = ", ".join(f"{count} {outcome}" for outcome, count in one["counts"].items()) or "no items"
        code = "unfinished" if one["exit_code"] is None else f"exit code {one['exit_code']}"
        click.echo(f"  {shown(one['started_at'])}  {about:<4}  {code:<12}  {counts}")
    _print_some("held", found["held"], lambda one: f"{one['reason']} since {shown(one['since'])}")
    _print_some("unbilled", found["unbilled"], lambda one: f"{one['unbilled'] or 'unknown'} not billed")
    if found["waits"]:
        click.echo(f"{'waits':<9} {found['waits']} periods' late usage waits for the next period of its item")
    click.echo(
        f"{'due':<9} next period ends {shown(due['next_period_end'])}, {due['within_a_day']} within a day; "
        f"{due['ended_and_unreported']} have ended and are not reported in full"
    )
    size = f"{ledger['bytes'] / 1e6:,.1f} MB, {ledger['items']:,} items, {ledger['periods']:,} periods"
    click.echo(f"{'ledger':<9} {printable(ledger['path'])}: {size}, {ledger['writes']:,} writes")
    click.echo("All is well." if found["exit_code"] == ExitCode.DONE else "Somebody should look.")


def _of_runs(runs: Mapping[str, Any]) -> str:
    complete = f"last complete run {shown(runs['last_complete_at'])} UTC, {runs['schedule']}"
    overdue = runs["overdue_since"]
    ended = runs["last_ended_with"]
    failing = f"; the last run FAILED, with exit code {ended}" if ended in FAILING else ""
    overdue = f"; OVERDUE: nothing was billed since {shown(overdue)} UTC" if overdue else ""
    return f"{'runs':<9} {complete}{failing}{overdue}"


def _print_some(what: str, rows: Sequence[Mapping[str, Any]], said: Any) -> None:
    click.echo(f"{what:<9} {len(rows) or 'nothing'}")
    for one in rows[:_NAMED]:
        named = f"{one['customer']}  {one['subscription_item']}  {said(one)}"
        click.echo(f"  {printable(named)}")
        if one["message"]:
            click.echo(f"    {printable(one['message'])}")
    if len(rows) > _NAMED:
        click.echo(f"  and {len(rows) - _NAMED} more: see meter-sync history --unbilled, or the last run")


def shown(instant: str | None) -> str:
    """Return an instant of a document for a person."""
    return "never" if instant is None else date_and_time(datetime.fromisoformat(instant))


def if_known(instant: datetime | None) -> str | None:
    """Return an instant for a document."""
    return None if instant is None else utc(instant)
