"""The first look: what Stripe already holds for an item, and whose it is."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from meter_sync.core.billing.event_times import end_of_its_minute
from meter_sync.core.billing.item import Target
from meter_sync.core.billing.way import Way
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.additions import added, added_again
from meter_sync.core.planning.draft import closed_with
from meter_sync.core.planning.foreign import cannot_be_told, foreign_usage, looked_again, looked_beside
from meter_sync.core.planning.looks import (
    AfterSilence,
    FirstLook,
    LookAgain,
    LookBeside,
    ReadBack,
    Resending,
    UnfinishedLook,
)
from meter_sync.core.planning.memory import Carried, PastPeriod, Remembered, compared
from meter_sync.core.planning.obstacles import later_total
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import held, unchanged
from meter_sync.core.planning.sends import SetTotal, SetWindows, WindowQuantity
from meter_sync.core.planning.stages import Findings, LookWhole, Planned, Result, Write
from meter_sync.core.planning.totals import is_zero_without_record, stamped
from meter_sync.core.planning.windows import SUMMARIES_LAG_AT_MOST, windows_of, with_all_days, with_windows


def with_past(planned: Planned, past: Iterable[PastPeriod]) -> Planned:
    """Given a write and what Stripe says of its item's earlier periods, return it with those that it is compared with.

    Where the ledger knows any, those count.
    """
    read = planned.metered.past or compared(past, planned.item.period.start)
    write = replace(planned.write, found=replace(planned.found, past=read))
    return replace(planned, metered=replace(planned.metered, past=read), write=write)


def looked_at_records(planned: Planned, total: int, allowed: Collection[Reason]) -> Planned | Result:
    """Given a write that needs a look and Stripe's total for the open period, return what to do now.

    After a first look nothing was ever there, or the first write has to find out whose it is. An unfinished look
    goes on with the total that it had read, which the caller passes as `total`; what it had written since may be
    there or not.
    """
    if total and _was_empty(planned):
        return foreign_usage(planned.write.stands(total), total)
    if isinstance(planned.look, LookWhole):
        return _compared_with_all_days(planned, planned.look, total)
    if isinstance(planned.look, LookBeside):
        return looked_beside(replace(planned, write=_by_days(planned, total)), planned.look, total)
    is_unfinished = isinstance(planned.look, UnfinishedLook)
    highest = max(total, planned.highest_before or 0) if is_unfinished else total
    write = _by_days(planned, total).stands(total)
    known = replace(planned, write=write, look=None, highest_before=highest)
    if isinstance(planned.look, LookAgain):
        if cannot_be_told(write, total) and total == planned.look.at_anchor:
            return unchanged(write)
        known = replace(known, write=replace(write, total_before=total))
        return looked_again(known, planned.look, total, allowed)
    if total > 0 or is_unfinished:
        return replace(known, write=replace(write, total_before=total))
    if isinstance(planned.look, FirstLook) and is_zero_without_record(write):
        return unchanged(write)
    return known


def _compared_with_all_days(planned: Planned, look: LookWhole, total: int) -> Planned:
    """Given Stripe's total, return the write as it is where that is what was taken; else of all days.

    If somebody else reports beside, the write finds that out.
    """
    if total == look.acknowledged:
        return replace(planned, look=None)
    every = replace(with_all_days(planned.metered, look.every).stands(total), total_before=total)
    return replace(planned, write=every, look=None)


def _by_days(planned: Planned, total: int) -> Write:
    """Return the write with the days to write: all of them, unless Stripe holds nothing yet."""
    write = planned.write
    if write.method.way is not Way.DAY_RECORDS:
        return write
    if total or not isinstance(planned.look, FirstLook):
        return with_all_days(planned.metered, write)
    return with_windows(write, tuple(replace(day, standing=0) for day in windows_of(write)))


def looked_at_events(planned: Planned, total: int, policy: Policy) -> Planned | Result:
    """Given a write by events that needs a look, and what Stripe's summary of the period says, return what to do now.

    Whose events they are needs no telling: a later timestamp overrules them, or they are what is added to. Where an
    addition was planned after a silence, and Stripe holds what the ledger knows, it stays as it is.
    """
    if isinstance(planned.look, Resending):
        return added_again(planned, planned.look, total, policy)
    if isinstance(planned.look, AfterSilence) and total == planned.found.standing:
        return replace(planned, look=None)
    write = planned.write.stands(total)
    if total and _was_empty(planned):
        return foreign_usage(write, total)
    if write.method.way is Way.ADDITIONS:
        write = added(write, total, None, policy.now, policy.as_of)
    elif total == write.quantity == 0:
        return unchanged(write)
    return replace(planned, write=write, look=None, highest_before=total)


def overruling(planned: Planned, later: int) -> Planned | Result:
    """Given a write of a total in whose minute another one may be stamped, return it as the latest of that minute.

    `later` is the total that is stamped after that minute, 0 where none is. The event with the latest timestamp
    counts (Stripe documentation, formula `last`), so nothing that is sent now would count beside that one.
    """
    write = planned.write
    if later:
        return held(write.told, Reason.UNSETTLED, later_total(later, write.quantity))
    return replace(planned, write=stamped(write, end_of_its_minute(write.anchor)))


def read_back_as(planned: Planned, read_back: ReadBack, standing: int, policy: Policy) -> Planned | Result:
    """Given a period of which Stripe takes no more, and what was read back of it, return what it lacks.

    Summaries of meter events lag (API reference: eventually consistent). One that shows less than was reported within
    the last day says nothing yet: it is read again by the next runs.
    """
    reported, at = read_back.reported, read_back.reported_at
    is_young = at is not None and policy.now - at < SUMMARIES_LAG_AT_MOST
    if reported is not None and standing < reported and is_young and planned.metered.way.target is Target.METER_EVENT:
        message = (
            f"Stripe's summary shows {standing} of the {reported} that were reported, and it lags: nothing is said yet "
            "of what the period lacks; the next runs read it again, for a day"
        )
        return Result(planned.write.told, Outcome.UNCHANGED, message=message)
    write = closed_with(planned.write, standing)
    foreign = max(0, standing) if read_back.was_empty else write.foreign
    return replace(planned, write=replace(write, foreign=foreign), look=None)


def _was_empty(planned: Planned) -> bool:
    return isinstance(planned.look, FirstLook) and planned.look.was_empty


def unfinished(found: Findings, remembered: Remembered, carried: tuple[Carried, ...]) -> Write | None:
    """Given an item and what is remembered of it, return the write that finishes an interrupted look, or None.

    It repeats what was intended then, by the method of then: whatever is thought of the item now, Stripe must first
    hold what it should have held.
    """
    if remembered.total_before is None:
        return None
    return Write(
        found=replace(
            found,
            subjects=remembered.subjects,
            grouping=remembered.grouping or found.grouping,
            standing=remembered.total_before,
        ),
        quantity=remembered.quantity,
        method=remembered.method,
        anchor=remembered.anchor,
        sends=_sends_of_then(remembered),
        follows=remembered.run,
        total_before=remembered.total_before,
        carried=carried,
    )


def _sends_of_then(remembered: Remembered) -> SetTotal | SetWindows:
    if not remembered.method.way.is_by_window:
        return SetTotal()
    then = sorted(remembered.windows.by_start.items())
    return SetWindows(tuple(WindowQuantity(start, one.timestamp, one.value, None, one.total) for start, one in then))
