"""Whose books these are."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose books these are: the account, as it is named (empty for the only one), and `live` or `sandbox`."""

    account: str
    mode: str

    def on(self, test_clock: str | None) -> "Scope":
        """Return the scope of what is on a test clock, which nothing else of the account has; for None this one.

        Time is another there: neither instants nor quantities of the two may meet.
        """
        return self if test_clock is None else Scope(f"{self.account}/{test_clock}", self.mode)
