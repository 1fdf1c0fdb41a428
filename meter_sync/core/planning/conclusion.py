"""What Stripe bills of a period that has ended, in the end: all of it, not all of it, or it is not known.

A period is closed with one of the three, and none of them stands for another: a look that failed says nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Billed:
    """All is billed that was used of the period, or nobody has to pay for it."""


@dataclass(frozen=True, slots=True)
class NotBilled:
    """Stripe does not bill some of it, or bills too much, and takes no more of it."""

    lacking: int
    """How much, by sign."""


@dataclass(frozen=True, slots=True)
class NotKnown:
    """It cannot be known whether Stripe bills it, or how much was used: a person has to look."""

    why: str
    beyond: int = 0
    """What Stripe certainly does not bill beyond that, by sign."""


Concluded = Billed | NotBilled | NotKnown


def of(lacking: int) -> Billed | NotBilled:
    """Return what is concluded of a period of which it is known what Stripe does not bill, by sign."""
    return NotBilled(lacking) if lacking else Billed()


def lacking(concluded: Concluded | None) -> int:
    """Return what Stripe certainly does not bill of a period, by sign; nothing where nothing is concluded."""
    match concluded:
        case NotBilled(quantity) | NotKnown(beyond=quantity):
            return quantity
    return 0
