"""What a run tells about how far it is."""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import structlog

from meter_sync.core.outcomes import Outcome
from meter_sync.core.planning.results import outcome_of
from meter_sync.core.planning.stages import Planned, Result

log = structlog.get_logger()


class Progress(Protocol):
    """Told at each step how much there is to do, and each time a part of it is done."""

    def begin(self, step: str, total: int | None) -> None:
        """A step begins; `total` is None where it is not known."""

    def advance(self) -> None:
        """One part of the step is done."""


class NoProgress:
    """Tells nobody."""

    def begin(self, step: str, total: int | None) -> None:
        """Do nothing."""

    def advance(self) -> None:
        """Do nothing."""


def log_counts(step: str, items: Iterable[Planned | Result]) -> None:
    """Log how many items a step leaves in each outcome."""
    outcomes = (one if isinstance(one, Result) else outcome_of(one.write, Outcome.PLANNED) for one in items)
    log.info(step, **Counter(one.outcome.value for one in outcomes))
