"""What a person asks `meter-sync history` for, what it does with the ledger, and what it shows of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import click

from meter_sync.cli.globals import now
from meter_sync.cli.history import answers
from meter_sync.cli.history.answers import Answer
from meter_sync.config import Settings
from meter_sync.core.telling.history import Sought
from meter_sync.core.text import utc
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Ledger, books_in_use, open_ledger, open_ledger_read_only, run_lock


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
        alone = {"--explain": self.explain, "--unbilled": self.unbilled, "--settle": self.settle, "--prune": self.prune}
        given = [name for name, value in alone.items() if value not in (None, False)]
        narrows = not self.sought.is_nothing
        if len(given) > 1 or (given and (narrows or self.since or self.until)):
            raise click.UsageError(f"{given[0]} stands alone: leave the other options out.")
        if (self.settle is None) != (self.note is None) or (self.note is not None and not self.note.strip()):
            raise click.UsageError("--settle and --note belong together: say how it was settled.")
        if self.period and self.explain is None:
            raise click.UsageError("--period belongs to --explain.")
        if self.parts and not narrows:
            raise click.UsageError("--parts belongs to a selector: --customer, --subscription, --item or --meter.")


def carry_out(settings: Settings, asked: HistoryRequest) -> Answer:
    """Do what was asked for, and return what there is to say. Raise MeterSyncError, with what to do."""
    scope = books_in_use(settings.ledger, settings.scope)
    if asked.settle is not None:
        with open_ledger(settings.ledger, scope) as ledger:
            return _settle(ledger, *asked.settle, str(asked.note).strip())
    if asked.prune is not None:
        before = now() - asked.prune
        with run_lock(settings.ledger, scope) as lock, open_ledger(settings.ledger, scope, lock) as ledger:
            return answers.pruned(before, ledger.pruning.prune(before))
    with open_ledger_read_only(settings.ledger, scope) as ledger:
        if asked.unbilled:
            return answers.unbilled(ledger.remainders.unbilled())
        if asked.explain is not None:
            return _explain(ledger, asked.explain, asked.period)
        if asked.sought.is_nothing:
            return answers.runs(ledger.runs.past(asked.since, asked.until, asked.limit))
        return _entries(ledger, asked)


def _entries(ledger: Ledger, asked: HistoryRequest) -> Answer:
    unmatched = ledger.history.unmatched(asked.sought)
    if unmatched:
        raise _not_known(f"--{unmatched.kind} {unmatched.value} matches nothing in the ledger", unmatched.known)
    if not ledger.history.matches_together(asked.sought):
        raise _not_known("no item in the ledger matches all the selectors together")
    entries = ledger.history.entries(asked.sought, with_parts=asked.parts)
    return answers.entries([one for one in entries if asked.is_within(one.at)])


def _explain(ledger: Ledger, name: str, period_start: datetime | None) -> Answer:
    stories = ledger.history.stories(name, period_start)
    if not stories:
        newest = [utc(one.whose.period.start) for one in ledger.history.stories(name, None)]
        if not newest:
            raise _not_known(f"the ledger knows no item, subscription or customer {name}")
        start = utc(period_start) if period_start else ""
        raise _not_known(f"the ledger knows no period of {name} that starts at {start}", newest)
    return answers.explanations(stories)


def _not_known(what: str, known: Sequence[str] = ()) -> MeterSyncError:
    some = ", ".join(known)
    hint = f"known are {some}" if some else "check the values, and that the ledger is the one that the runs use"
    return MeterSyncError(what, hint, code="nothing_selected")


def _settle(ledger: Ledger, item: str, period_start: datetime, note: str) -> Answer:
    one = ledger.remainders.of(item, period_start)
    if one is None or not (one.open_quantity or one.is_unknown):
        raise MeterSyncError(
            f"nothing is open of {item} for a period that starts at {utc(period_start)}; nothing was changed",
            "meter-sync history --unbilled lists what is, with the start of its period",
            code="nothing_open",
        )
    ledger.remainders.settle(one, note, now())
    return answers.settled(one, note)
