"""What was found out about one thing that runs need, and what to do about it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError

PLACES = {
    "config": "docs/configuration.md#what-is-in-effect",
    "clock": "docs/doctor.md#the-clock",
    "ledger": "docs/doctor.md#the-ledger",
    "stripe_key": "docs/security.md#the-key-for-stripe",
    "stripe_permission": "docs/security.md#the-key-for-stripe",
    "openmeter": "docs/configuration.md#where-openmeter-is",
    "price_mapping": "docs/mapping.md#the-meter",
    "openmeter_meter": "docs/mapping.md#the-meter",
    "billing_meter": "docs/how-stripe-is-told.md#new-prices",
    "subject": "docs/mapping.md#the-subject",
    "subscription": "docs/run.md#reasons",
    "last_run": "docs/operation.md#what-to-watch",
    "lock": "docs/doctor.md#a-run-that-is-stuck",
    "workers": "docs/workers.md#what-happens-when-something-breaks",
    "held": "docs/run.md#brakes",
    "unbilled": "docs/period-ends.md#what-could-not-be-billed",
    "webhook_endpoint": "docs/setup.md#the-webhook",
    "schedule": "docs/doctor.md#the-schedule",
    "monitor": "docs/monitoring.md#monitoring",
}
"""The id of each check, which is stable, and where the documentation says what to do about it."""


class Status(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """How one check came out."""

    id: str
    status: Status
    message: str
    remedy: str | None = None
    subject: str | None = None
    """What it is about, such as a price or a permission; None where the id says it all."""
    keeps_from_running: bool = False
    """Whether it is a problem with which no run works."""

    @property
    def place(self) -> str | None:
        """Where the documentation says more, of what is not as it should be."""
        return PLACES[self.id] if self.status in (Status.WARNING, Status.PROBLEM) else None


def ok(id: str, message: str, subject: str | None = None) -> Finding:
    """Return the finding of what is as it should be."""
    return Finding(id, Status.OK, message, subject=subject)


def warning(id: str, message: str, remedy: str, subject: str | None = None) -> Finding:
    """Return the finding of what may be right, and should be known."""
    return Finding(id, Status.WARNING, message, remedy, subject)


def problem(id: str, message: str, remedy: str, subject: str | None = None) -> Finding:
    """Return the finding of what leaves, or may leave, something unbilled."""
    return Finding(id, Status.PROBLEM, message, remedy, subject)


def obstacle(id: str, message: str, remedy: str, subject: str | None = None) -> Finding:
    """Return the finding of what keeps every run from working."""
    return Finding(id, Status.PROBLEM, message, remedy, subject, keeps_from_running=True)


def skipped(id: str, message: str, subject: str | None = None) -> Finding:
    """Return the finding of what was not checked."""
    return Finding(id, Status.SKIPPED, message, subject=subject)


def of_error(id: str, error: MeterSyncError, subject: str | None = None) -> Finding:
    """Return the finding of an error that would end a run as well."""
    return obstacle(id, error.message, error.hint or "read the message", subject)


def named(names: Iterable[str], at_most: int = 5) -> str:
    """Return names in a row, and how many there are beyond so many."""
    every: Sequence[str] = list(names)
    more = f" and {len(every) - at_most} more" if len(every) > at_most else ""
    return f"{', '.join(every[:at_most])}{more}"


def exit_code(findings: Iterable[Finding]) -> ExitCode:
    """Return the exit code of an examination: whether runs work, and whether somebody should look."""
    problems = [one for one in findings if one.status is Status.PROBLEM]
    if any(one.keeps_from_running for one in problems):
        return ExitCode.CONFIGURATION
    return ExitCode.ATTENTION if problems else ExitCode.DONE
