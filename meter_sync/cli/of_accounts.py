"""What is said of several accounts together: sums, errors that name their account, and what the JSON document has."""

from collections.abc import Mapping, Sequence
from typing import Any

from meter_sync.cli.printing import costs, items_in_words
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError

_NAMED = 5

Document = Mapping[str, Any]
"""What the JSON document says of a run, or a sum of one."""


def of_account(name: str, error: MeterSyncError) -> MeterSyncError:
    """Return what ended an account's run, as it is said among others."""
    return MeterSyncError(f"account {name}: {error.headline}", error.hint, code=error.code, details=error.details)


def as_document(error: MeterSyncError) -> dict[str, str]:
    """Return an error as the JSON document has it."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


def account_row(name: str, run: Document, summary: Document, error: MeterSyncError | None) -> dict[str, Any]:
    """Return what the JSON document says of an account."""
    return {
        "name": name,
        "run": run,
        "summary": summary,
        "error": error and as_document(error),
    }


def run_of_all(runs: Sequence[Document]) -> dict[str, Any]:
    """Return what there is to say of the runs of several accounts as if they were one: each has an id of its own."""
    return {
        "id": None,
        "started_at": min(one["started_at"] for one in runs),
        "finished_at": max(one["finished_at"] for one in runs),
        "as_of": min(one["as_of"] for one in runs),
    }


def sums(summaries: Sequence[Document], code: ExitCode) -> dict[str, Any]:
    """Return the sums over accounts; the exit code is that of all, the time that of who took longest."""
    added = {name: sum(one[name] for one in summaries) for name in summaries[0]}
    return {**added, "exit_code": int(code), "seconds": max(one["seconds"] for one in summaries)}


def sums_in_words(whole: Document, codes: Mapping[str, ExitCode]) -> str:
    """Return the sums over accounts in one line, and by the codes of each which of them did not end well."""
    others = [f"{account} {int(code)}" for account, code in codes.items() if code]
    named = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if others[_NAMED:] else "")
    trouble = f" Exit codes: {named}." if others else ""
    accounts = "1 account" if len(codes) == 1 else f"{len(codes)} accounts"
    return f"{accounts}, {items_in_words(whole['items'])}. {costs(whole)}{trouble}"
