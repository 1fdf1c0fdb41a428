"""What a person asks `meter-sync history` for."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import click

from meter_sync.core.telling.history import Sought


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """The options as they were given; times are in UTC."""

    sought: Sought
    parts: bool
    since: datetime | None
    until: datetime | None
    limit: int
    explain: str | None
    """An item, a subscription or a customer."""
    period: datetime | None
    unbilled: bool
    settle: tuple[str, datetime] | None
    """An item and the start of its period."""
    note: str | None
    prune: timedelta | None

    def is_within(self, at: datetime) -> bool:
        """Say whether something happened in the time that was asked for."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def check(self) -> None:
        """Raise UsageError for options that do not belong together."""
        given = {
            "--explain": self.explain is not None,
            "--unbilled": self.unbilled,
            "--settle": self.settle is not None,
            "--prune": self.prune is not None,
        }
        narrows = not self.sought.is_nothing
        alone = [name for name, is_given in given.items() if is_given]
        if len(alone) > 1 or (alone and (narrows or self.since or self.until)):
            raise click.UsageError(f"{alone[0]} stands alone: leave the other options out.")
        if (self.settle is None) != (self.note is None) or (self.note is not None and not self.note.strip()):
            raise click.UsageError("--settle and --note belong together: say how it was settled.")
        if self.period and self.explain is None:
            raise click.UsageError("--period belongs to --explain.")
        if self.parts and not narrows:
            raise click.UsageError("--parts belongs to a selector: --customer, --subscription, --item or --meter.")
