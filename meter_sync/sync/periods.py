"""The periods that a run is about, and items on their way through it."""

from collections.abc import Sequence
from dataclasses import dataclass

from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.prepare import Metering
from meter_sync.core.planning.stages import Listed, Metered, Result
from meter_sync.ledger.listed import Seen


@dataclass(frozen=True, slots=True)
class Prepared:
    """Items of which each may appear once, with what is remembered of them."""

    items: Sequence[Metered | Result]
    memory: Memory
    is_whole_account: bool = False
    """Whether these are all open periods of an account."""
    taken_no_more: frozenset[str] = frozenset()
    """Those of whose period Stripe takes no more usage."""
    busy: frozenset[str] = frozenset()
    """Those that another run is writing at this moment."""


@dataclass(frozen=True, slots=True)
class Periods:
    """The periods that a run is about."""

    open: Prepared
    ended: Sequence[Seen]
    """Those that have ended and are not closed, the oldest first."""
    metering: Metering
    known: Sequence[Listed]
    """These and all others that may bill the same usage, as far as is known."""
