"""What `meter-sync history` does with the ledger, and what it shows of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta

from meter_sync.cli.globals import Globals
from meter_sync.cli.history_output import Output
from meter_sync.cli.history_request import HistoryRequest
from meter_sync.core.outcomes import ExitCode
from meter_sync.core.text import utc
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Ledger, Scope, open_ledger, open_ledger_read_only, run_lock


def carry_out(options: Globals, asked: HistoryRequest, shown: Output) -> ExitCode:
    """Do what was asked for, and return the exit code. Raise MeterSyncError, with what to do."""
    if asked.settle is not None:
        return _settle(options, *asked.settle, str(asked.note).strip(), shown)
    if asked.prune is not None:
        return _prune(options, asked.prune, shown)
    with _books(options) as ledger:
        if asked.unbilled:
            return _unbilled(ledger, shown)
        if asked.explain is not None:
            return _explain(ledger, asked.explain, asked.period, shown)
        if asked.sought.is_nothing:
            shown.runs(ledger.runs.past(asked.since, asked.until, asked.limit))
            return ExitCode.DONE
        return _entries(ledger, asked, shown)


@contextmanager
def _books(options: Globals, *, is_read_only: bool = True, is_alone: bool = False) -> Iterator[Ledger]:
    """Open the ledger, only to read unless told otherwise, and where it must be alone, under the run lock."""
    settings = options.load_settings({})
    scope = Scope(account="", mode="live" if settings.stripe.is_live else "sandbox")
    opened = open_ledger_read_only if is_read_only else open_ledger
    with run_lock(settings.ledger) if is_alone else nullcontext(), opened(settings.ledger, scope) as ledger:
        yield ledger


def _entries(ledger: Ledger, asked: HistoryRequest, shown: Output) -> ExitCode:
    unmatched = ledger.history.unmatched(asked.sought)
    if unmatched:
        raise _not_known(f"--{unmatched.kind} {unmatched.value} matches nothing in the ledger", unmatched.known)
    if not ledger.history.matches_together(asked.sought):
        raise _not_known("no item in the ledger matches all the selectors together")
    entries = ledger.history.entries(asked.sought, with_parts=asked.parts)
    shown.entries([one for one in entries if asked.is_within(one.at)])
    return ExitCode.DONE


def _explain(ledger: Ledger, name: str, period_start: datetime | None, shown: Output) -> ExitCode:
    stories = ledger.history.stories(name, period_start)
    if not stories:
        newest = [utc(one.whose.period.start) for one in ledger.history.stories(name, None)]
        if not newest:
            raise _not_known(f"the ledger knows no item, subscription or customer {name}")
        start = utc(period_start) if period_start else ""
        raise _not_known(f"the ledger knows no period of {name} that starts at {start}", newest)
    shown.explanations(stories)
    return ExitCode.DONE


def _not_known(what: str, known: Sequence[str] = ()) -> MeterSyncError:
    some = ", ".join(known)
    hint = f"known are {some}" if some else "check the values, and that the ledger is the one that the runs use"
    return MeterSyncError(what, hint, code="nothing_selected")


def _unbilled(ledger: Ledger, shown: Output) -> ExitCode:
    found = ledger.remainders.unbilled()
    shown.unbilled(found)
    return ExitCode.LOOK if found else ExitCode.DONE


def _settle(options: Globals, item: str, period_start: datetime, note: str, shown: Output) -> ExitCode:
    with _books(options, is_read_only=False) as ledger:
        one = ledger.remainders.of(item, period_start)
        if one is None or not one.open_quantity:
            raise MeterSyncError(
                f"nothing is open of {item} for a period that starts at {utc(period_start)}; nothing was changed",
                "meter-sync history --unbilled lists what is, with the start of its period",
                code="nothing_open",
            )
        ledger.remainders.settle(one, note, datetime.now(UTC))
    shown.settled(one, note)
    return ExitCode.DONE


def _prune(options: Globals, older_than: timedelta, shown: Output) -> ExitCode:
    before = datetime.now(UTC) - older_than
    with _books(options, is_read_only=False, is_alone=True) as ledger:
        gone = ledger.pruning.prune(before)
    shown.pruned(before, gone)
    return ExitCode.DONE
