"""What becomes of an item, and the words for it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from meter_sync.core.metering.mapping import LateUsage
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning import period_closed
from meter_sync.core.planning.lost import lost
from meter_sync.core.planning.sends import SetWindows
from meter_sync.core.planning.stages import Checked, Findings, Metered, Moved, Planned, Result, Write


def held(found: Findings, reason: Reason, message: str) -> Result:
    """Return that a safety rule forbids to write: a person has to look."""
    return Result(found, Outcome.HELD, reason, message)


def skipped(found: Findings, reason: Reason, message: str) -> Result:
    """Return that there is nothing that could be written."""
    return Result(found, Outcome.SKIPPED, reason, message)


def failed(found: Findings, reason: Reason, message: str) -> Result:
    """Return that something that had to be known, or done, could not be."""
    return Result(found, Outcome.FAILED, reason, message)


def unchanged(write: Write, kept: int = 0) -> Result:
    """Return that Stripe holds the quantity already; `kept` of its hours or days were read and are as they were."""
    is_by_window = write.found.way is not None and write.found.way.is_by_window
    moved = Moved(0, kept) if is_by_window else None
    return as_suspected(Result(write.told, Outcome.UNCHANGED, message=write.found.note, moved=moved))


def gave_way(found: Findings) -> Result:
    """Return that an item was left to another run, which is writing it at this moment."""
    return Result(found, Outcome.UNCHANGED, gave_way=True)


def interrupted(found: Findings) -> Result:
    """Return what becomes of an item that a signal came before."""
    return skipped(found, Reason.INTERRUPTED, "the run ended before this item; the next run reports it")


def shown(write: Write) -> Result:
    """Return what would be written, if the item's `[[meters]]` row did not say `report = false`."""
    said = "not written: its [[meters]] row says report = false"
    return Result(write.told, Outcome.PLANNED, message=said, moved=_moved(write))


def result(one: Write | Result) -> Result:
    """Given what the check left of a plan, return what becomes of the item if nothing is sent."""
    return one if isinstance(one, Result) else outcome_of(one, Outcome.PLANNED)


def outcome_of(write: Write, if_sent: Outcome) -> Result:
    """Given a write, return what became of its item: `if_sent`, where something was to be sent."""
    moved, lacking, late_usage = _moved(write), write.lacking, write.late_usage
    is_news, waits = lacking != write.named_before, late_usage is LateUsage.CARRY
    if is_news and not waits:
        message = period_closed.message(write.intake, lacking)
        if write.foreign:
            message = f"{write.foreign} that are not from this program stand in Stripe: {message}"
            return Result(write.told, Outcome.HELD, Reason.FOREIGN_USAGE, message, moved, lacking)
        message += f"; {lost(write.found.falls)}" if write.found.falls else ""
        return Result(write.told, Outcome.HELD, Reason.PERIOD_CLOSED, message, moved, lacking)
    outcome = if_sent if write.how_many else Outcome.UNCHANGED
    said = period_closed.carried_on(write.intake, lacking) if is_news else write.found.note
    return as_suspected(Result(write.told, outcome, message=said, moved=moved, lacking=lacking, late_usage=late_usage))


def as_suspected(result: Result) -> Result:
    """Return what became of an item that is as OpenMeter says, with what was lost of it before."""
    if not result.found.falls:
        return result
    said = (lost(result.found.falls), result.message)
    return replace(result, reason=Reason.DECREASE, message="; ".join(one for one in said if one))


def counts(items: Iterable[Planned | Checked | Result]) -> dict[str, int]:
    """Return how many items there are in each outcome, if all that is planned is sent."""
    writes = (one.write if isinstance(one, Planned) else one for one in items)
    return dict(Counter(result(one).outcome.value for one in writes))


def waiting(one: Metered | Result) -> Result:
    """Return what becomes of an item if nothing more is done."""
    return one if isinstance(one, Result) else interrupted(one.found)


def _moved(write: Write) -> Moved | None:
    if write.found.way is None or not write.found.way.is_by_window:
        return None
    return Moved(write.how_many, write.sends.kept if isinstance(write.sends, SetWindows) else 0)
