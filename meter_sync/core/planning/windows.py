"""The plan for items that are reported by the hour or day: which parts have to be sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from meter_sync.core.billing.item import Ending, Window
from meter_sync.core.billing.quantity import InvalidUsage, billable, within_digits
from meter_sync.core.billing.span import anchor, usage_end
from meter_sync.core.billing.way import Way, part_of
from meter_sync.core.billing.windows import Portion, carried_back, joined, portions, stretches
from meter_sync.core.metering.queries import Unanswered
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.foreign import can_be_topped_up, foreign_usage, lowered
from meter_sync.core.planning.known import Memory, Remembered, RememberedPart, RememberedParts
from meter_sync.core.planning.stages import Action, Fail, FirstLook, Line, Part, Set, Unchanged, span_of
from meter_sync.core.planning.totals import (
    Policy,
    closing,
    held_back,
    highest_before,
    invalid,
    look_of,
    method,
    recalled,
)

READ_WHOLE_EVERY = timedelta(days=1)
_LAST_RUNS = 2
EVENTS_ARE_TAKEN_FOR = timedelta(days=35) - timedelta(hours=1)
"""An event may be 35 days old (API reference, meter events); the hour is for the run itself."""


def read_from(line: Line, remembered: Remembered | None, policy: Policy) -> datetime | None:
    """Given a line by the hour or day, return from where on its usage must be read, or None for the whole period.

    Late events mostly come within the trailing stretch; the whole period is read once a day, whenever something other
    than usage changed, and in the last runs before its end, after which it may be too late.
    """
    if remembered is None or remembered.read_whole_at is None or policy.resend:
        return None
    if line.item.period.end - policy.as_of <= _LAST_RUNS * policy.cadence:
        return None
    recently = policy.as_of - remembered.read_whole_at < READ_WHOLE_EVERY
    is_same = (method(line), line.subjects) == (remembered.method, remembered.subjects)
    if not recently or not is_same or _must_write_all(remembered):
        return None
    since = part_of(line.way, line.item.price).floor(policy.as_of - policy.lookback)
    return since if since > span_of(line).start else None


def _must_write_all(remembered: Remembered) -> bool:
    return look_of(remembered) is not None or remembered.foreign > 0


def decide_parts(line: Line, usage: Mapping[datetime, Decimal] | Unanswered, memory: Memory, policy: Policy) -> Action:
    """Given a line by the hour or day, and its usage by the start of each, return what should happen to its item."""
    remembered = memory.remembered.get(line.item.id)
    line = recalled(line, remembered)
    if isinstance(usage, Unanswered):
        return Fail(line, Reason.OPENMETER_ERROR, usage.message)
    known = _known(line, remembered)
    try:
        found = _portions(line, usage, known)
        quantity = billable(_total(found, known), line.row.scale, line.row.rounding)
    except InvalidUsage as error:
        return invalid(line, error)
    line = replace(line, usage=_total(found, known), quantity=quantity)
    if line.ending is not Ending.OPEN:
        return closing(line, quantity, remembered, is_known=line.item.id in memory.known_items)
    if remembered:
        return held_back(line, remembered, policy) or _next_report(line, found, remembered, policy)
    return _first_report(line, found, policy, known=line.item.id in memory.known_items)


def _known(line: Line, remembered: Remembered | None) -> RememberedParts:
    """Return what is remembered of the parts, without a total before the first one where the whole period is read."""
    if remembered is None:
        return RememberedParts()
    return remembered.parts if line.read_from else replace(remembered.parts, total_before=Decimal(0))


def _portions(line: Line, usage: Mapping[datetime, Decimal], known: RememberedParts) -> list[Portion]:
    span, row = span_of(line), line.row
    window = part_of(line.way, line.item.price)
    whole = stretches(line.read_from or span.start, span.end, window)
    split, usage = joined(whole, usage, window.floor(line.item.period.start))
    found = portions(split, usage, known.total_before, row.scale, row.rounding)
    if line.way is not Way.WINDOWS:
        return carried_back(found)
    for portion in found:
        within_digits(portion.value)
    return found


def _total(found: Sequence[Portion], known: RememberedParts) -> Decimal:
    return found[-1].total if found else known.total_before


@dataclass(frozen=True, slots=True)
class _Sorted:
    """The parts of a plan: those to be sent or recorded, and what is lacking in those that are closed."""

    parts: tuple[Part, ...]
    kept: int
    closed: int


def _first_report(line: Line, found: Sequence[Portion], policy: Policy, *, known: bool) -> Set:
    """Plan for an item that was not reported in this period yet."""
    planned = Set(
        line=replace(line, previous=0 if known else None),
        quantity=0,
        method=method(line),
        anchor=span_of(line).anchor,
        look=None if known else FirstLook(),
    )
    return _planned(planned, _sorted(line, found, {}, policy, held=0 if known else None))


def _next_report(line: Line, found: Sequence[Portion], remembered: Remembered, policy: Policy) -> Action:
    """Plan for an item that was reported in this period before."""
    look = look_of(remembered)
    foreign = 0 if look else remembered.foreign
    if foreign and not can_be_topped_up(line, line.quantity or 0, foreign):
        return foreign_usage(line, line.quantity or 0, foreign)
    anew = look is not None or foreign > 0 or policy.resend or remembered.method.way is not line.way
    then = remembered.parts.parts
    news = _sorted(line, found, then, policy, held=None if anew and line.way is not Way.WINDOWS else 0, anew=anew)
    if foreign:
        news = replace(news, parts=_beside_foreign(news.parts, foreign, {} if policy.resend else then))
    if line.read_from:
        news = replace(news, closed=remembered.closed)
    planned = Set(
        line=line,
        quantity=0,
        method=method(line),
        anchor=span_of(line).anchor,
        highest_before=highest_before(line, remembered, policy),
        foreign=foreign,
        look=look,
        closed_before=remembered.closed,
    )
    planned = _planned(planned, news)
    if remembered.method.way is not line.way:
        # The one record of the period until now is the first day's: it is set again even if that day used nothing.
        planned = replace(planned, parts=all_days(planned))
    return planned if planned.parts or planned.is_whole else Unchanged(planned.line, planned.kept)


def _planned(base: Set, news: _Sorted) -> Set:
    quantity = (base.line.quantity or 0) - news.closed
    return replace(
        base,
        line=replace(base.line, quantity=quantity),
        quantity=quantity,
        parts=news.parts,
        kept=news.kept,
        closed=news.closed,
        is_whole=base.line.read_from is None,
    )


def _beside_foreign(parts: tuple[Part, ...], foreign: int, then: Mapping[datetime, RememberedPart]) -> tuple[Part, ...]:
    """Given all days, return them less what other records hold, and with what ours hold already."""
    return tuple(
        replace(part, held=then[part.start].held if part.start in then else None) for part in lowered(parts, foreign)
    )


def _sorted(
    line: Line,
    found: Sequence[Portion],
    then: Mapping[datetime, RememberedPart],
    policy: Policy,
    *,
    held: int | None,
    anew: bool = False,
) -> _Sorted:
    """Sort out which parts are new, which are as they were, and which Stripe takes no more.

    `held` is what Stripe holds of a part that is not remembered, None where that is not known; `anew` has those that
    are remembered written again.
    """
    parts, kept, closed = _unsettled(line, then, policy), 0, 0
    for portion in found:
        before = then.get(portion.stretch.start)
        is_trials = _was_on_trial(line, portion)
        if not (before or portion.usage or is_trials):
            continue
        part = _part(line, portion, before, None if before is None and is_trials else held)
        part = replace(part, held=None) if before and anew else part
        if (before or held is not None) and not _is_taken(line, part.timestamp, policy):
            part, lacking = _as_it_stands(part, before.held if before and _is_billed(line, part.timestamp) else 0)
            closed += lacking
        is_sent = part.held != part.value
        kept += not is_sent
        if is_sent or before is None or (before.total, before.value) != (part.total, part.value):
            parts.append(part)
    return _Sorted(tuple(parts), kept, closed)


def _was_on_trial(line: Line, portion: Portion) -> bool:
    """Say whether a window has what was used on a trial: it is set anew when the trial ends, if only to zero."""
    item = line.item
    starts_here = line.way is Way.WINDOWS and portion.stretch.start == item.period.start
    return starts_here and item.subscription.trial_end == item.period.start


def _part(line: Line, portion: Portion, before: RememberedPart | None, held: int | None) -> Part:
    start = portion.stretch.start
    return Part(
        start=start,
        timestamp=_timestamp(line, start),
        value=portion.value,
        held=before.held if before else held,
        total=portion.total,
    )


def _timestamp(line: Line, start: datetime) -> datetime:
    """Return the timestamp of a part: inside the part, and inside the billing period that it belongs to."""
    period = line.item.period
    inside = max(start, period.start)
    return inside if line.way is Way.WINDOWS else anchor(inside, period.end)


def _unsettled(line: Line, then: Mapping[datetime, RememberedPart], policy: Policy) -> list[Part]:
    """Return the parts before those that were read whose last write was not acknowledged."""
    read_since = line.read_from or span_of(line).start
    return [
        Part(start, before.timestamp, before.value, before.held, before.total)
        for start, before in sorted(then.items())
        if start < read_since and before.held != before.value and _is_taken(line, before.timestamp, policy)
    ]


def _is_taken(line: Line, timestamp: datetime, policy: Policy) -> bool:
    """Say whether Stripe still takes, and bills, what has this timestamp."""
    if line.way is not Way.WINDOWS:
        return True
    return _is_billed(line, timestamp) and timestamp >= policy.as_of - EVENTS_ARE_TAKEN_FOR


def _is_billed(line: Line, timestamp: datetime) -> bool:
    """Say whether an invoice has the window of this timestamp: the last one has only those that end before it does."""
    return line.item.is_followed or timestamp < usage_end(line.item.period, part_of(line.way, line.item.price))


def _as_it_stands(part: Part, held: int | None) -> tuple[Part, int]:
    """Given a part that Stripe takes no more, return it as it stands, and what it lacks."""
    standing = held or 0
    return replace(part, value=standing, held=standing), part.value - standing


SUMMARIES_LAG_AT_MOST = timedelta(days=1)
"""Stripe's summaries are eventually consistent (API reference): what is younger is not believed, but sent again."""


def looked_at_windows(planned: Set, found: Mapping[datetime, int], policy: Policy) -> Set:
    """Given a first write by windows, and what Stripe holds of each window, return it with what really is to be sent.

    What Stripe holds in windows of the period in which nothing was used is set to zero: the last event of a window
    counts.
    """
    line, span = planned.line, span_of(planned.line)
    window = part_of(line.way, line.item.price)
    wanted = {window.floor(part.timestamp): part for part in planned.parts or ()}
    since = window.floor(max(span.start, line.item.period.start))
    inside = {start: held for start, held in found.items() if since <= start < span.end}
    parts, total, closed = [], Decimal(0), 0
    for start in sorted(wanted.keys() | inside.keys()):
        first = max(start, span.start)
        part = wanted.get(start) or Part(first, _timestamp(line, first), 0, None, total)
        total, held = part.total, inside.get(start, 0)
        part = replace(part, held=held)
        if not _is_taken(line, part.timestamp, policy):
            part, lacking = _as_it_stands(part, held)
            closed += lacking
        elif (part.value or held) and start > policy.as_of - SUMMARIES_LAG_AT_MOST:
            part = replace(part, held=None)
        parts.append(part)
    previous = sum(inside.values())
    quantity = planned.quantity - closed
    return replace(
        planned,
        line=replace(line, previous=previous, quantity=quantity),
        quantity=quantity,
        highest_before=previous,
        look=None,
        parts=tuple(parts),
        closed=closed,
        kept=len(parts) - sum(part.held != part.value for part in parts),
    )


def all_days(planned: Set) -> tuple[Part, ...]:
    """Given a write by days, return a part for every day until now, those without usage too.

    What an earlier ledger may have set is set again: what remains is other programs'.
    """
    line, span = planned.line, span_of(planned.line)
    wanted = {part.start: part for part in planned.parts or ()}
    parts, total = [], Decimal(0)
    for stretch in stretches(span.start, span.end, Window.DAY):
        part = wanted.get(stretch.start) or Part(stretch.start, _timestamp(line, stretch.start), 0, None, total)
        total = part.total
        parts.append(replace(part, held=None))
    return tuple(parts)
