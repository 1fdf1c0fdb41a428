"""The ways of reporting that are compared: what each is asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

Place = tuple[str, datetime]
"""An item, and the start of a period of it, or of the stretch of one in which it had one price."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a way says of usage that is not on the invoice of its own period; negative is billed too much."""

    named: Mapping[Place, int] = field(default_factory=dict)
    """What a person is to bill, or to credit."""
    waiting: Mapping[Place, int] = field(default_factory=dict)
    """What waits for the item's next period."""
    carried: Mapping[tuple[Place, datetime], int] = field(default_factory=dict)
    """What was added to a later period of the item, by the start of that one too."""


class Way(Protocol):
    """Someone who reports usage to Stripe."""

    def run(self) -> None:
        """Report everything, as cron asks for every hour. Raise Killed if that is what happens."""

    def run_twice_at_once(self) -> None:
        """Do the same, started twice at the same time."""

    def close(self) -> None:
        """Do what is to be done in the minutes around the end of a period, if anything."""

    def said(self) -> Said:
        """Return what is known not to be on the invoice of its own period."""
