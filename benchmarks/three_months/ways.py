"""The ways of reporting that are compared: what each is asked to do."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

Named = Mapping[tuple[str, datetime], int]
"""By item and start of the period: what is billed too little, or, negative, too much."""


class Way(Protocol):
    """Someone who reports usage to Stripe."""

    def run(self) -> None:
        """Report everything, as cron asks for every hour. Raise Killed if that is what happens."""

    def run_twice_at_once(self) -> None:
        """Do the same, started twice at the same time."""

    def close(self) -> None:
        """Do what is to be done in the minutes around the end of a period, if anything."""

    def named(self) -> Named:
        """Return what is known not to be billed."""
