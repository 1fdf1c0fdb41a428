"""What only Stripe can still say of an item before it may be written, or before what it lacks is named."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class FirstLook:
    """Nothing was ever written for the item in the period: Stripe's own total must be read first."""

    was_empty: bool = False
    """Whether nothing that this ledger does not know stood there before, so that what is there now is of others."""


@dataclass(frozen=True, slots=True)
class UnfinishedLook:
    """A first look was interrupted after its write; `total_before` is what it had read."""

    total_before: int


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Another program's records were found, or may be there; the record at the anchor was left with `at_anchor`."""

    at_anchor: int
    foreign: int
    """What the other records held."""


@dataclass(frozen=True, slots=True)
class LookBeside:
    """Only what other records lack is billed, by permission: what they hold by now is read whenever it is used."""

    at_anchor: int
    foreign: int
    """What the other records held when this was read last."""


@dataclass(frozen=True, slots=True)
class AfterSilence:
    """Nothing was added for so long that Stripe would take again what a ledger that was restored does not know of."""


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Stripe takes no more of the period: what stands there is read back once, before anything is named."""

    reported: int | None = None
    """What was reported last; None where nothing was…"""
    reported_at: datetime | None = None
    """… and when."""
    was_empty: bool = False
    """Whether nothing was reported for it, so that what stands there is another program's."""


@dataclass(frozen=True, slots=True)
class Resending:
    """A person wants to add again what lacks: what stands in Stripe is read for that."""

    acknowledged: int
    """What Stripe is known to have taken…"""
    added_at: datetime | None
    """… and when something was sent to it last."""
