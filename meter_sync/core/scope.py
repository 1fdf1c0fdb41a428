"""Whose books these are."""

from dataclasses import dataclass, replace

_SHADOW = "shadow"
"""No test clock is named so: their ids begin with `clock_`."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose books these are: the account, as it is named (empty for the only one), and `live` or `sandbox`.

    What belongs to an account and has books of its own stands after its name: `eu/shadow`, `eu/clock_1`.
    """

    account: str
    mode: str

    def on(self, test_clock: str | None) -> "Scope":
        """Return the scope of what is on a test clock, which nothing else of the account has; for None this one.

        Time is another there: neither instants nor quantities of the two may meet.
        """
        return self if test_clock is None else replace(self, account=f"{self.account}/{test_clock}")

    @property
    def shadow(self) -> "Scope":
        """The scope of an account's shadow, a sandbox with a key of its own: what is written there is never billed."""
        return Scope(f"{self.account}/{_SHADOW}", "sandbox")

    @property
    def of_key(self) -> "Scope":
        """The scope of the account, or of its shadow, that has a Stripe account and a run lock of its own.

        What is on a test clock is in one of these.
        """
        account, _, within = self.account.partition("/")
        is_of_shadow = within.partition("/")[0] == _SHADOW
        return replace(self, account=f"{account}/{_SHADOW}" if is_of_shadow else account)

    @property
    def owner(self) -> str:
        """The name of the account whose these books are, as the configuration has it."""
        return self.account.partition("/")[0]
