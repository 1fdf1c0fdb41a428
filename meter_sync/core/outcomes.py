"""What became of an item, why, and what that means for the exit code."""

from collections.abc import Iterable
from enum import IntEnum, StrEnum


class Outcome(StrEnum):
    """The one thing that happened to an item in a run."""

    REPORTED = "reported"
    PLANNED = "planned"
    UNCHANGED = "unchanged"
    HELD = "held"
    SKIPPED = "skipped"
    FAILED = "failed"


class Reason(StrEnum):
    """Why an item was held, skipped or failed: stable codes of the public interface."""

    NO_METER_MAPPING = "no_meter_mapping"
    IGNORED = "ignored"
    NO_SUBJECT = "no_subject"
    CUSTOMER_DELETED = "customer_deleted"
    SUBSCRIPTION_PAUSED = "subscription_paused"
    BILLING_THRESHOLDS = "billing_thresholds"
    NOT_STARTED = "not_started"
    METER_NOT_FOUND = "meter_not_found"
    AGGREGATION_MISMATCH = "aggregation_mismatch"
    UNSUPPORTED_METER = "unsupported_meter"
    UNKNOWN_TO_THIS_VERSION = "unknown_to_this_version"
    DUPLICATE_USAGE = "duplicate_usage"
    FOREIGN_USAGE = "foreign_usage"
    MAPPING_CHANGED = "mapping_changed"
    METER_STARTS_LATER = "meter_starts_later"
    INVALID_USAGE = "invalid_usage"
    DECREASE = "decrease"
    JUMP = "jump"
    ALL_ZERO = "all_zero"
    TOO_MANY_HELD = "too_many_held"
    PERIOD_CLOSED = "period_closed"
    REJECTED = "rejected"
    UNSETTLED = "unsettled"
    INTERRUPTED = "interrupted"
    STRIPE_ERROR = "stripe_error"
    OPENMETER_ERROR = "openmeter_error"
    LEDGER_ERROR = "ledger_error"


LIFTABLE = (
    Reason.DECREASE,
    Reason.JUMP,
    Reason.ALL_ZERO,
    Reason.TOO_MANY_HELD,
    Reason.FOREIGN_USAGE,
    Reason.MAPPING_CHANGED,
    Reason.METER_STARTS_LATER,
)
"""The brakes that a person may lift for one run; the rest are facts that no flag changes."""

HARMLESS = frozenset({Reason.IGNORED, Reason.NOT_STARTED, Reason.SUBSCRIPTION_PAUSED})
"""Why an item is skipped that leaves nothing unbilled: nobody need look."""


class ExitCode(IntEnum):
    """The exit codes of the command line; `docs/run.md` has the same table."""

    DONE = 0
    FAILED = 1
    ARGUMENTS = 2
    PARTIAL = 3
    ATTENTION = 4
    TRY_AGAIN = 75
    CONFIGURATION = 78


def exit_code(results: Iterable[tuple[Outcome, Reason | None]]) -> ExitCode:
    """Given what became of each item, return the run's exit code.

    Where several codes hold the gravest wins: failed, partial, look.
    """
    seen = set(results)
    outcomes = {outcome for outcome, _ in seen}
    if any(reason is Reason.INTERRUPTED for _, reason in seen):
        return ExitCode.FAILED
    if Outcome.FAILED in outcomes:
        succeeded = outcomes & {Outcome.REPORTED, Outcome.PLANNED, Outcome.UNCHANGED}
        return ExitCode.PARTIAL if succeeded else ExitCode.FAILED
    if any(_needs_attention(outcome, reason) for outcome, reason in seen):
        return ExitCode.ATTENTION
    return ExitCode.DONE


def _needs_attention(outcome: Outcome, reason: Reason | None) -> bool:
    if outcome is Outcome.SKIPPED:
        return reason not in HARMLESS
    # What was reported although its usage had fallen before has that reason.
    return outcome is Outcome.HELD or reason is Reason.DECREASE


_GRAVEST_FIRST = [
    ExitCode.CONFIGURATION,
    ExitCode.TRY_AGAIN,
    ExitCode.ARGUMENTS,
    ExitCode.FAILED,
    ExitCode.PARTIAL,
    ExitCode.ATTENTION,
    ExitCode.DONE,
]


def gravest(*codes: ExitCode) -> ExitCode:
    """Return the code that wins where several hold."""
    return min(codes, key=_GRAVEST_FIRST.index)
