"""What there is to say of many accounts together, and of the workers that carry out their runs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from meter_sync.cli.printing import print_csv, print_json, printable
from meter_sync.cli.status.account import FAILING, if_known, shown, status_of
from meter_sync.config import Configuration, Settings
from meter_sync.core.outcomes import ExitCode, gravest
from meter_sync.errors import MeterSyncError, TryAgainError
from meter_sync.ledger import lock_holder, open_ledgers_read_only
from meter_sync.ledger.turns import turns_of
from meter_sync.net.postgres_url import PostgresUrl

_COLUMNS = (
    "account,exit_code,last_complete_at,overdue_since,last_ended_with,held,unbilled,holds_the_run_lock,worker,"
    "worked_at,message,shadow"
)
_NAMED = 10


def status_of_fleet(common: Settings, accounts: Sequence[Configuration], at: datetime) -> dict[str, Any]:
    """Return what is true of each account at an instant, and of the workers. Raise MeterSyncError.

    An account of which nothing can be said is one that somebody should look at.
    """
    with open_ledgers_read_only(common.ledger) as books_of:
        turns = {one.account: books_of(turns_of(one.account)).turns.last() for one in accounts}
    rows = [_row(one, at) for one in accounts]
    for row in rows:
        last = max(turns[row["account"]].values(), key=lambda turn: turn.begun_at, default=None)
        row |= {"worker": last and last.worker, "worked_at": if_known(last.begun_at if last else None)}
    workers = _workers(common)
    stuck = [ExitCode.ATTENTION] if workers and workers["stuck"] else []
    return {
        "accounts": rows,
        "workers": workers,
        "exit_code": gravest(ExitCode.DONE, *(row["exit_code"] for row in rows), *stuck),
    }


def _row(account: Configuration, at: datetime) -> dict[str, Any]:
    try:
        settings = account.settings(())
        found, holder = status_of(settings, at), lock_holder(settings.ledger, settings.scope)
    except TryAgainError:
        raise
    except MeterSyncError as error:
        return {"account": account.account, "exit_code": ExitCode.ATTENTION, "message": error.message}
    runs = found["runs"]
    return {
        "account": account.account,
        **({"shadow": True} if settings.is_shadow else {}),
        "exit_code": found["exit_code"],
        **{name: runs[name] for name in ("last_complete_at", "overdue_since", "last_ended_with")},
        "held": len(found["held"]),
        "unbilled": len(found["unbilled"]),
        "holds_the_run_lock": holder and holder.shown,
    }


def _workers(common: Settings) -> dict[str, Any] | None:
    """Return what there is to say of workers; None where there never were any."""
    if not isinstance(common.ledger, PostgresUrl):
        return None
    try:
        from meter_sync.fleet.seen import look
    except ModuleNotFoundError:  # the extra: whoever has it not, starts no workers here
        return None
    seen = look(common.ledger, common.worker.stalled_after_seconds)
    if seen is None:
        return None
    return {
        "heard": seen.heard,
        "silent": seen.silent,
        "jobs": {
            "waiting": sum(not one.is_begun for one in seen.jobs),
            "under_way": sum(one.is_begun and not one.is_lost for one in seen.jobs),
        },
        "stuck": [
            {
                "account": one.job.account,
                "kind": one.job.kind.value,
                "queued_seconds": int(one.age.total_seconds()),
                "is_lost": one.is_lost,
            }
            for one in seen.jobs
            if one.is_stuck
        ],
    }


def print_fleet(output: str, found: Mapping[str, Any]) -> None:
    """Print it, in the format that is asked for."""
    match output:
        case "json":
            print_json(found)
        case "csv":
            print_csv(_COLUMNS.split(","), found["accounts"])
        case _:
            for line in _lines(found):
                click.echo(printable(line))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    rows = found["accounts"]
    unwell = [row for row in rows if row["exit_code"] != ExitCode.DONE]
    yield f"{'accounts':<9} {len(rows)}: {len(rows) - len(unwell)} well, {len(unwell)} for somebody to look at"
    for row in unwell:
        yield f"  {row['account']}: {'; '.join(_troubles(row))}"
    shadows = [row["account"] for row in rows if row.get("shadow")]
    if shadows:
        more = f" and {len(shadows) - _NAMED} more" if len(shadows) > _NAMED else ""
        said = "in shadow mode, by which nobody is billed"
        yield f"{'shadow':<9} {len(shadows)} {said}: {', '.join(shadows[:_NAMED])}{more}"
    at_work = [f"{row['account']}: {row['holds_the_run_lock']}" for row in rows if row.get("holds_the_run_lock")]
    yield f"{'at work':<9} {len(at_work) or 'no full run'}"
    yield from (f"  {one}" for one in at_work[:_NAMED])
    if len(at_work) > _NAMED:
        yield f"  and {len(at_work) - _NAMED} more"
    workers = found["workers"]
    if workers:
        yield from _of_workers(workers, rows)
    yield "All is well." if found["exit_code"] == ExitCode.DONE else "Somebody should look: --account says more of one."


def _troubles(row: Mapping[str, Any]) -> Iterator[str]:
    if row.get("message"):
        yield row["message"]
    if row.get("overdue_since"):
        yield f"OVERDUE: nothing was billed since {shown(row['overdue_since'])} UTC"
    if row.get("last_ended_with") in FAILING:
        yield f"the last run FAILED, with exit code {row['last_ended_with']}"
    if row.get("held"):
        yield f"{row['held']} held"
    if row.get("unbilled"):
        yield f"{row['unbilled']} unbilled"


def _of_workers(workers: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    silent = f", {workers['silent']} not heard of any more" if workers["silent"] else ""
    jobs = workers["jobs"]
    none = ": NOBODY takes jobs, start meter-sync worker" if workers["stuck"] and not workers["heard"] else ""
    yield f"{'workers':<9} {workers['heard']} at work{silent}{none}"
    newest: dict[str, str] = {}
    for row in sorted(rows, key=lambda one: one["worked_at"] or ""):
        if row["worker"]:
            newest[row["worker"]] = row["worked_at"]
    for name, instant in list(newest.items())[-_NAMED:]:
        yield f"  {name} last began a run at {shown(instant)} UTC"
    yield f"{'queue':<9} {jobs['waiting']} wait, {jobs['under_way']} under way"
    for one in workers["stuck"][:_NAMED]:
        why = "its worker is lost" if one["is_lost"] else "nobody takes it"
        yield f"  STUCK: {one['kind']} run of {one['account']}, queued {one['queued_seconds'] // 60} min ago: {why}"
