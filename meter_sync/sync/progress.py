"""What a run tells about how far it is."""

from typing import Protocol


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
