"""What a run is to do, and what became of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from meter_sync.core.actions import Result
from meter_sync.core.brakes import Thresholds
from meter_sync.core.mapping import MappingRules
from meter_sync.core.outcomes import ExitCode, exit_code
from meter_sync.core.plan import Policy
from meter_sync.core.selection import Selection
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import RunRecord


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is to do."""

    run: RunRecord
    selection: Selection
    rules: MappingRules
    policy: Policy
    thresholds: Thresholds


@dataclass(frozen=True, slots=True)
class RunReport:
    """What became of a run."""

    results: Sequence[Result] = ()
    error: MeterSyncError | None = None
    """What ended it before its time, if anything did."""
    stripe_requests: int = 0
    openmeter_requests: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many items ended in each outcome."""
        return counted(self.results)

    @property
    def exit_code(self) -> ExitCode:
        """The code to exit with: the gravest of the error's and the items'."""
        items = exit_code((one.outcome, one.reason) for one in self.results)
        if self.error is None:
            return items
        return min((self.error.exit_code, items), key=_GRAVEST_FIRST.index)


_GRAVEST_FIRST = [
    ExitCode.CONFIGURATION,
    ExitCode.TRY_AGAIN,
    ExitCode.ARGUMENTS,
    ExitCode.FAILED,
    ExitCode.PARTIAL,
    ExitCode.LOOK,
    ExitCode.DONE,
]


def counted(results: Sequence[Result]) -> dict[str, int]:
    """Return how many items ended in each outcome."""
    return dict(Counter(one.outcome.value for one in results))
