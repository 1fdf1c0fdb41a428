"""What is printed of a run."""

from collections.abc import Sequence
from typing import Any

from meter_sync.cli.globals import Globals
from meter_sync.cli.printing.items import Results, costs, item_fields, items_in_words, outcome_fields, print_results
from meter_sync.core.outcomes import ExitCode, Outcome, exit_code
from meter_sync.core.planning.stages import Result
from meter_sync.core.text import digits, utc
from meter_sync.sync.request import Execution

_COLUMNS = "quantity,previous,unbilled,timestamp,windows_sent,windows_unchanged"
_AMOUNTS = {"usage": "usage", "before": "previous", "quantity": "quantity"}
_CHANGED = (Outcome.REPORTED, Outcome.PLANNED, Outcome.UNCHANGED)


def print_execution(execution: Execution, output: str, options: Globals, *, dry_run: bool, quiet: bool) -> None:
    """Print what became of a run; quietly, only the items that were held, were skipped with harm, or failed."""
    run, report = execution.run, execution.report
    items = [_item(one) for one in report.results]
    results = Results(
        run={
            "id": run.id,
            "started_at": utc(run.started_at),
            "finished_at": utc(execution.finished_at),
            "as_of": utc(run.as_of),
            "schedule": run.schedule,
            "dry_run": dry_run,
        },
        summary=_summary(execution),
        items=items,
        shown=[item for item, one in zip(items, report.results, strict=True) if not quiet or _is_noteworthy(one)],
        columns=_COLUMNS,
        amounts=_AMOUNTS,
        in_words=summary(execution, dry_run=dry_run),
        error=report.error,
    )
    print_results(results, output, options, quiet=quiet)


def _is_noteworthy(result: Result) -> bool:
    return exit_code([(result.outcome, result.reason)]) is not ExitCode.DONE


def _summary(execution: Execution) -> dict[str, Any]:
    report = execution.report
    return {
        "items": len(report.results),
        **{outcome.value: report.counts.get(outcome.value, 0) for outcome in Outcome},
        "exit_code": int(report.exit_code),
        "stripe_requests": report.stripe_requests,
        "openmeter_requests": report.openmeter_requests,
        "seconds": round(execution.seconds, 3),
    }


def _item(result: Result) -> dict[str, Any]:
    found, moved = result.found, result.moved
    # What was not written left what stood before.
    stands = found.quantity if result.outcome in _CHANGED or moved else found.standing
    windows = {"windows": {"sent": moved.sent, "unchanged": moved.unchanged}} if moved else {}
    return {
        **item_fields(found),
        "quantity": digits(stands),
        "previous": digits(found.standing),
        "unbilled": digits(result.lacking) if result.lacking else None,
        "timestamp": utc(found.timestamp) if found.timestamp else None,
        **windows,
        **outcome_fields(result.outcome, result.reason, result.message),
    }


def summary(execution: Execution, *, dry_run: bool) -> str:
    """Return what became of a run in one line."""
    results, counted = execution.report.results, execution.report.counts
    counts = ", ".join(f"{count} {outcome}" for outcome, count in counted.items()) or "nothing to bill"
    nothing = f"Dry run, nothing was written. {_not_looked_at(results)}" if dry_run else ""
    return f"{nothing}{items_in_words(len(results))}: {counts}. {costs(_summary(execution))}"


def _not_looked_at(results: Sequence[Result]) -> str:
    """Say what a dry run leaves open: it does not ask Stripe about single items."""
    unknown = sum(1 for one in results if one.outcome is Outcome.PLANNED and one.found.standing is None)
    if not unknown:
        return ""
    return f"What Stripe holds for {unknown} of these items is not in the ledger: the run itself looks first. "
