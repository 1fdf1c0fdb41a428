"""What the operator decided for a run."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from meter_sync.core.outcomes import Reason


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided for this run."""

    now: datetime
    """When the run began, in UTC."""
    as_of: datetime
    """The instant that the run is about: the same, unless another one was asked for."""
    reads_everything: bool = False
    """Whether everything is read again, whatever is kept of it."""
    resend: bool = False
    resend_after: timedelta = timedelta(hours=24)
    """An acknowledged quantity is sent again after so long, which heals what others changed in Stripe."""
    lookback: timedelta = timedelta(days=3)
    """How long periods that have ended are watched for usage that comes late."""
    cadence: timedelta = timedelta(hours=1)
    """How often runs are promised to come."""
    allowed: frozenset[Reason] = frozenset()
    forgives_voided: bool = False
    """Whether what a voided invoice held is nobody's to pay, rather than named."""
