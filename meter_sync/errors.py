"""What can go wrong with a whole run, grouped by what the operator can do about it."""

from collections.abc import Sequence

from meter_sync.core.outcomes import ExitCode

RUN_NOTE = "in run "
"""So begins the note that a run gives to a bug that ends it: which run it was."""


def run_of(error: Exception) -> str | None:
    """Return the id of the run that a bug ended, or None if none was under way."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(RUN_NOTE)]
    return notes[0].removeprefix(RUN_NOTE) if notes else None


class MeterSyncError(Exception):
    """A run cannot go on. Each kind has its exit code and a stable code for machines.

    `message` says what happened and what was and was not written; `hint` says what to do. Where several things are
    wrong, `headline` is what they have in common and `details` has each; the message has them all.
    """

    exit_code = ExitCode.FAILED
    code = "failed"

    def __init__(self, headline: str, hint: str = "", *, code: str | None = None, details: Sequence[str] = ()) -> None:
        self.headline = headline
        self.details = tuple(details)
        self.message = f"{headline}: {'; '.join(details)}" if details else headline
        super().__init__(self.message)
        self.hint = hint
        self.code = code or self.code


class ConfigurationError(MeterSyncError):
    """The configuration, a key or the clock is wrong: nothing will work until someone corrects it."""

    exit_code = ExitCode.CONFIGURATION
    code = "configuration"


class TryAgainError(MeterSyncError):
    """Nothing is wrong here; a later run will do."""

    exit_code = ExitCode.TRY_AGAIN
    code = "unreachable"


class ArgumentsError(MeterSyncError):
    """The arguments cannot be followed."""

    exit_code = ExitCode.ARGUMENTS
    code = "arguments"


class LedgerError(MeterSyncError):
    """The ledger cannot be read or written."""

    code = "ledger"


class Interrupted(MeterSyncError):
    """A signal asked the run to end."""

    code = "interrupted"
