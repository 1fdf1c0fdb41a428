"""A run that has ended, as monitors are told of it."""

import re
from dataclasses import dataclass

from meter_sync.config import Settings
from meter_sync.core.outcomes import ExitCode
from meter_sync.sync.request import Execution

_CUSTOMER = re.compile(r"\bcus_\w+")


class MonitorFailed(Exception):
    """A monitor could not be told. The message says why, and nothing that is secret."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a run."""

    execution: Execution
    summary: str
    """It in one line."""
    settings: Settings | None
    """Those that it had; None where they could not be read."""
    is_full: bool = True
    """Whether it was about the whole account, not only about what ends soon."""

    @property
    def exit_code(self) -> ExitCode:
        """How it ended."""
        return self.execution.report.exit_code

    @property
    def in_words(self) -> str:
        """What ended it, with what to do, and its summary: no customer is named outside the house.

        Parts of it may be what a server said.
        """
        error = self.execution.report.error
        account = self.execution.account
        whose = [f"Account {account}:"] if account else []
        said = [*whose, *([error.message, f"What to do: {error.hint}"] if error else [])]
        shown = "".join(one if one.isprintable() or one == "\n" else "?" for one in "\n".join([*said, self.summary]))
        return _CUSTOMER.sub("cus_…", shown)
