"""What is printed of runs: of the only account, or of several together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from meter_sync.cli import of_accounts
from meter_sync.cli.globals import Globals
from meter_sync.cli.printing import (
    Made,
    Results,
    Rows,
    costs,
    item_fields,
    items_in_words,
    outcome_fields,
    print_error,
    print_results,
    printable,
)
from meter_sync.core.metering.mapping import LateUsage
from meter_sync.core.outcomes import ExitCode, Outcome, exit_code, gravest
from meter_sync.core.planning.stages import Result
from meter_sync.core.text import digits, utc

if TYPE_CHECKING:
    from meter_sync.sync.request import Execution

_NAMED_ITEMS = 5
_CHANGED = (Outcome.REPORTED, Outcome.PLANNED, Outcome.UNCHANGED)
_COLUMNS = "quantity,previous,carried,unbilled,carried_on,timestamp,windows_sent,windows_unchanged"


@dataclass(frozen=True, slots=True)
class _Told:
    """What a table says of a run."""

    shown: Sequence[Result]
    """The items that it has."""
    in_words: str
    remark: str | None
    """What stands in their place of those of which an earlier run has said the same, and of the sum."""


def _told(execution: "Execution", output: str, *, dry_run: bool, quiet: bool) -> _Told:
    report = execution.report
    shown = [one for one in report.results if not quiet or exit_code([(one.outcome, one.reason)]) is not ExitCode.DONE]
    said = [one for one in shown if quiet and output == "table" and _was_said(one, execution)]
    named = said if execution.run.is_alone else []
    is_said = {one.item.key for one in said}
    in_words = summary(execution, dry_run=dry_run)
    remark = f"{_as_before(named)} {in_words}" if named else None
    return _Told([one for one in shown if one.item.key not in is_said], in_words, remark)


def print_execution(
    execution: "Execution", output: str, options: Globals, *, dry_run: bool, quiet: bool, below: Sequence[str] = ()
) -> None:
    """Print what became of a run; quietly, only the items that were held, were skipped with harm, or failed.

    `below` is what is said at the end of a table of the books, unless it is to be quiet.
    """
    told = _told(execution, output, dry_run=dry_run, quiet=quiet)
    row = partial(item, execution.account)
    results = Results(
        run=_run(execution, dry_run=dry_run),
        summary=_summary(execution),
        items=Made(execution.report.results, row),
        shown=Made(told.shown, row),
        columns=_COLUMNS,
        amounts=_amounts([execution]),
        in_words="" if told.remark else "\n".join([told.in_words, *(() if quiet else map(printable, below))]),
        remarks=[told.remark] if told.remark else [],
        error=execution.report.error,
    )
    print_results(results, output, options, quiet=quiet)


def print_executions(
    executions: Sequence["Execution"],
    rows: Rows,
    output: str,
    options: Globals,
    *,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Print what became of the runs of several accounts, as `print_execution` does; errors name their account.

    `rows` are those of all items, as far as they are printed; of the executions only what somebody has to look at is
    needed.
    """
    for one in executions:
        if one.report.error:
            print_error(of_accounts.of_account(one.account, one.report.error), one.run.id)
    told = {one.account: _told(one, output, dry_run=dry_run, quiet=quiet) for one in executions}
    shadows = {one.account for one in executions if one.is_shadow}
    named = {name: f"{name} (shadow mode)" if name in shadows else name for name in told}
    said = [f"{named[name]}: {one.in_words}" for name, one in told.items() if not one.remark]
    every = sums_in_words(executions)
    results = Results(
        run=_run_of_all(executions, dry_run=dry_run),
        summary=_sums(executions),
        items=rows,
        shown=Made([(name, result) for name, one in told.items() for result in one.shown], _item_of) if quiet else rows,
        columns=_COLUMNS,
        amounts=_amounts(executions),
        in_words="\n".join([*([] if quiet else said), every]),
        remarks=[f"{named[name]}: {one.remark}" for name, one in told.items() if one.remark],
        error=None,
        before_items={"accounts": [_account(one, dry_run=dry_run) for one in executions]},
        names_accounts=True,
    )
    print_results(results, output, options, quiet=quiet)


def _sums(executions: Sequence["Execution"]) -> dict[str, Any]:
    return of_accounts.sums([_summary(one) for one in executions], gravest(*_codes(executions).values()))


def _codes(executions: Sequence["Execution"]) -> dict[str, ExitCode]:
    return {one.account: one.report.exit_code for one in executions}


def sums_in_words(executions: Sequence["Execution"]) -> str:
    """Return the sums over accounts in one line, and which of them did not end well."""
    return of_accounts.sums_in_words(_sums(executions), _codes(executions))


def _account(execution: "Execution", *, dry_run: bool) -> dict[str, Any]:
    run = _run(execution, dry_run=dry_run)
    return of_accounts.account_row(execution.account, run, _summary(execution), execution.report.error)


def _run(execution: "Execution", *, dry_run: bool) -> dict[str, Any]:
    run = execution.run
    return {
        "id": run.id,
        "started_at": utc(run.started_at),
        "finished_at": utc(execution.finished_at),
        "as_of": utc(run.as_of),
        "schedule": run.schedule,
        "dry_run": dry_run,
        **({"shadow": True} if execution.is_shadow else {}),
    }


def _run_of_all(executions: Sequence["Execution"], *, dry_run: bool) -> dict[str, Any]:
    whole = of_accounts.run_of_all([_run(one, dry_run=dry_run) for one in executions])
    return {**whole, "schedule": executions[0].run.schedule, "dry_run": dry_run}


def _amounts(executions: Sequence["Execution"]) -> dict[str, str]:
    is_any_carried = any(sort.is_carried for execution in executions for sort in execution.report.tally)
    carried = {"carried": "carried"} if is_any_carried else {}
    return {"usage": "usage", **carried, "before": "previous", "quantity": "quantity"}


def _item_of(named: tuple[str, Result]) -> dict[str, Any]:
    return item(*named)


def _was_said(one: Result, execution: "Execution") -> bool:
    """Say whether an earlier run has said the same of an item: cron has mailed it then.

    A full run does not repeat at length what waits for a person; a closing run, which comes every minute, repeats
    nothing, nor what failed.
    """
    waits = exit_code([(one.outcome, one.reason)]) is ExitCode.ATTENTION
    return (waits or not execution.run.is_alone) and one.item.key in execution.report.said_before


def _as_before(said: Sequence[Result]) -> str:
    """Name in one line the items of which an earlier run has said the same."""
    named = [f"{one.item.id} ({one.reason})" for one in said[:_NAMED_ITEMS]]
    more = f" and {len(said) - _NAMED_ITEMS} more" if len(said) > _NAMED_ITEMS else ""
    return (
        f"As an earlier run has said, {items_in_words(len(said))} held or skipped: {', '.join(named)}{more}; a run "
        "without --quiet says why."
    )


def _summary(execution: "Execution") -> dict[str, Any]:
    report = execution.report
    return {
        "items": report.tally.total(),
        **{outcome.value: report.counts.get(outcome.value, 0) for outcome in Outcome},
        "exit_code": int(report.exit_code),
        "stripe_requests": report.stripe_requests,
        "openmeter_requests": report.openmeter_requests,
        "seconds": round(execution.seconds, 3),
    }


def item(account: str, result: Result) -> dict[str, Any]:
    """Return the row of an item, as the JSON document has it."""
    found, moved = result.found, result.moved
    # What was not written left what stood before.
    stands = found.quantity if result.outcome in _CHANGED or moved else found.standing
    lacking = digits(result.lacking) if result.lacking else None
    windows = {"windows": {"sent": moved.sent, "unchanged": moved.unchanged}} if moved else {}
    return {
        **item_fields(found, account),
        "quantity": digits(stands),
        "previous": digits(found.standing),
        "carried": digits(found.carried) if found.carried else None,
        "unbilled": lacking if result.late_usage is LateUsage.NAME else None,
        "carried_on": lacking if result.late_usage is LateUsage.CARRY else None,
        "timestamp": utc(found.timestamp) if found.timestamp else None,
        **windows,
        **outcome_fields(result.outcome, result.reason, result.message),
    }


def _counted(execution: "Execution") -> Iterator[str]:
    """Say how many items ended in each outcome, and of those that were reported, how many stood so already."""
    tally = execution.report.tally
    for outcome, count in execution.report.counts.items():
        again = sum(many for sort, many in tally.items() if sort.is_again and sort.outcome == outcome)
        yield f"{count} {outcome}" + (f" ({again} of them stood there already)" if again else "")


def summary(execution: "Execution", *, dry_run: bool) -> str:
    """Return what became of a run in one line."""
    tally = execution.report.tally
    counts = ", ".join(_counted(execution)) or (
        "nothing to bill" if execution.report.error is None else "none was looked at"
    )
    said = f"{items_in_words(tally.total())}: {counts}. {costs(_summary(execution))}"
    if not dry_run:
        return said
    unknown = sum(many for sort, many in tally.items() if sort.is_beside_ledger)
    if unknown:
        # A dry run does not ask Stripe about single items.
        open_ = f"What Stripe holds for {unknown} of these items is not in the ledger: the run itself looks first."
        said = f"{open_} {said}"
    return f"Dry run, nothing was written. {said}"
