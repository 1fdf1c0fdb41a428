"""What workers do: a job is a run of one account, of a kind."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

CLOSING_WITHIN = timedelta(minutes=3)
"""A closing run is about periods that end, or have ended, within so long."""


class Kind(StrEnum):
    """What a job does. Each kind has a queue of its own name, so that none of them waits for another."""

    FULL = "full"
    CLOSING = "closing"
    WEBHOOK = "webhook"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the command is told that does it."""
        match self:
            case Kind.FULL:
                return ("run", "--quiet")
            case Kind.CLOSING:
                return ("run", "--closing", f"{CLOSING_WITHIN // timedelta(seconds=1)}s", "--quiet")
            case Kind.WEBHOOK:
                return ("webhook", "--drain")


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do for an account, which is named as the configuration names it; empty for the only one."""

    kind: Kind
    account: str

    @property
    def queueing_lock(self) -> str:
        """By what the queue knows that such a job waits already."""
        return f"{self.kind}:{self.account}"

    def __str__(self) -> str:
        return f"{self.kind} run of {self.account or 'the account'}"
