"""The plan for items that are reported by the hour or day: which of these have to be sent."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from meter_sync.core.billing.anchor import anchor
from meter_sync.core.billing.event_times import summary_windows, window_timestamp
from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import Period, WindowSize
from meter_sync.core.billing.quantity import InvalidUsage, billable, so_far, within_digits
from meter_sync.core.billing.span import usage_end
from meter_sync.core.billing.way import Way, window_of
from meter_sync.core.billing.windows import Share, carried_back, joined, shares, windows_between
from meter_sync.core.ownership import is_within
from meter_sync.core.planning.carrying import carried_into, named_before, offered, total_of
from meter_sync.core.planning.draft import drafted, found_before, look_of, shows_others
from meter_sync.core.planning.foreign import lowered
from meter_sync.core.planning.memory import Memory, Remembered, RememberedWindow
from meter_sync.core.planning.obstacles import invalid
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import unchanged
from meter_sync.core.planning.sends import SetWindows, WindowQuantity
from meter_sync.core.planning.stages import LookWhole, Metered, Planned, Result, WindowUsage, Write

READ_WHOLE_EVERY = timedelta(days=1)
_LAST_RUNS = 2
EVENTS_ARE_TAKEN_FOR = timedelta(days=35) - timedelta(hours=1)
"""An event may be 35 days old (API reference, meter events); the hour is for the run itself."""
SUMMARIES_LAG_AT_MOST = timedelta(days=1)
"""Stripe's summaries are eventually consistent (API reference): what is younger is not believed, but sent again."""


def read_since(metered: Metered, memory: Memory, policy: Policy, known_until: datetime | None) -> datetime | None:
    """Given an item by the hour or day, return from where on its usage must be read, or None for the whole period.

    `known_until` is up to where its usage is as it was when it was read last; None: not known. The whole period is read
    once a day too, whenever something other than usage changed, and in the last runs before its end,
    after which it may be too late.
    """
    remembered = memory.remembered.get(metered.item.id)
    if known_until is None or remembered is None or remembered.read_whole_at is None:
        return None
    if policy.resend or metered.item.period.end - policy.as_of <= _LAST_RUNS * policy.cadence:
        return None
    is_same = metered.method == remembered.method and remembered.is_of(metered.subjects, metered.grouping)
    must_write_all = look_of(remembered) is not None or remembered.foreign > 0
    is_carried_anew = offered(metered, memory) != memory.carried_into(metered.item.id)
    if _is_due(remembered, policy) or not is_same or must_write_all or is_carried_anew:
        return None
    since = _window(metered).floor(known_until)
    # What was not the item's own when it was reported last is read in whole.
    earlier = [Period(one.start, min(one.end, since)) for one in metered.read if one.start < since]
    was_own = remembered.reported is None or all(is_within(one, remembered.reported) for one in earlier)
    return since if since > metered.span.start and was_own else None


def plan_windows(metered: Metered, usage: WindowUsage, memory: Memory, policy: Policy) -> Planned | Result:
    """Given an item by the hour or day, and its usage by the start of each, return what should happen to it."""
    remembered, row = memory.remembered.get(metered.item.id), metered.row
    found = found_before(metered, remembered)
    # Where the whole period is read, nothing is before its first window.
    before = remembered.windows.total_before if remembered and metered.read_since else Decimal(0)
    try:
        split = _shares(metered, usage, before, memory)
        total, doubt = (split[-1].total, split[-1].doubt) if split else (before, Decimal(0))
        own = billable(total, row.scale, row.rounding, doubt)
    except InvalidUsage as error:
        return invalid(found, error)
    carried = carried_into(metered, own, memory)
    draft = drafted(metered, found, total, own + total_of(carried), carried, memory, policy)
    if isinstance(draft, Result) or not draft.write.intake.is_open:
        return draft
    return _by_window(draft, split, remembered, policy)


def _shares(metered: Metered, usage: WindowUsage, before: Decimal, memory: Memory) -> list[Share]:
    """Return what is billed for each hour or day; what earlier periods do not bill is in the first ones.

    Less than zero is so taken off until none of it is left.
    """
    span, row, window = metered.span, metered.row, _window(metered)
    parts = [part for stretch in metered.read for part in windows_between(stretch.start, stretch.end, window)]
    split, usage = joined(parts, usage, window, window.floor(span.stamps.start))
    carried = total_of(offered(metered, memory)) if metered.listed.intake.is_open else 0

    def quantity_of(total: Decimal, doubt: Decimal) -> int:
        return max(0, so_far(total, row.scale, row.rounding, doubt) + carried)

    found = shares(split, usage, before, quantity_of, quantity_of(before, Decimal(0)) if metered.read_since else 0)
    if metered.way is not Way.WINDOWS:
        return carried_back(found)
    for share in found:
        within_digits(share.value)
    return found


def _window(metered: Metered) -> WindowSize:
    return window_of(metered.way, metered.item.price)


def _by_window(
    draft: Planned, split: Sequence[Share], remembered: Remembered | None, policy: Policy
) -> Planned | Result:
    """Given the draft of an item, and its usage by hours or days, return which of these are to be sent."""
    metered, write, foreign = draft.metered, draft.write, draft.write.foreign
    is_other_way = remembered is not None and remembered.method.way is not metered.way
    anew = draft.look is not None or foreign > 0 or policy.resend or is_other_way
    then = remembered.windows.by_start if remembered else {}
    standing = write.found.standing
    if remembered:
        standing = None if anew and metered.way is not Way.WINDOWS else 0
        write = replace(write, named_before=named_before(metered, remembered.lacking))
    taken = _with_too_old_ones(metered, split, then, policy) if write.foreign == 0 else split
    news, lacking = _sorted(metered, taken, then, policy, standing=standing, anew=anew)
    news = replace(news, is_whole=news.is_whole and _is_due(remembered, policy))
    if foreign:
        news = replace(news, windows=_beside_foreign(news.windows, foreign, {} if policy.resend else then))
    if remembered and metered.read_since:
        lacking = remembered.lacking
    look = draft.look or _look_whole(metered, replace(write, sends=news), taken, remembered, policy)
    draft, write = replace(draft, look=look), _lacking(replace(write, sends=news), lacking)
    if is_other_way:
        # The one record of the period until now is the first day's: it is set again even if that day used nothing.
        write = with_all_days(metered, write)
    if news.windows or news.is_whole or is_other_way:
        return replace(draft, write=write)
    return unchanged(write, news.kept)


def _look_whole(
    metered: Metered, write: Write, split: Sequence[Share], remembered: Remembered | None, policy: Policy
) -> LookWhole | None:
    """Return the look that finds out what others have changed in hours or days, once they are read as a whole; or None.

    Totals are set again after `resend_after`; of hours and days it is read whether that is needed. What is taken for
    others' must not be another item's of the same customer and meter.
    """
    if remembered is None or remembered.read_whole_at is None or remembered.acknowledged is None or write.foreign:
        return None
    is_same = metered.method == remembered.method and metered.read_since is None
    is_running = write.intake is Intake.RUNNING
    if not (_is_due(remembered, policy) and is_same and is_running and shows_others(metered)):
        return None
    every, _ = _sorted(metered, split, {}, policy, standing=None, anew=True)
    return LookWhole(remembered.acknowledged, replace(write, sends=every))


def _is_due(remembered: Remembered | None, policy: Policy) -> bool:
    """Say whether an item's period is to be read whole, and compared with what Stripe holds: once a day at least.

    One that is read whole more often, for want of anything kept, is compared no more often, nor recorded for it.
    """
    if remembered is None or remembered.read_whole_at is None:
        return True
    return policy.as_of - remembered.read_whole_at >= min(READ_WHOLE_EVERY, policy.resend_after)


def _lacking(write: Write, lacking: int) -> Write:
    """Return a write without what Stripe takes no more of it."""
    quantity = write.quantity - lacking
    return replace(write, found=replace(write.found, quantity=quantity), quantity=quantity, lacking=lacking)


def _beside_foreign(
    days: tuple[WindowQuantity, ...], foreign: int, then: Mapping[datetime, RememberedWindow]
) -> tuple[WindowQuantity, ...]:
    """Given all days, return them less what other records hold, and with what stands in ours already."""
    return tuple(
        replace(day, standing=then[day.start].standing if day.start in then else None) for day in lowered(days, foreign)
    )


def _sorted(
    metered: Metered,
    split: Sequence[Share],
    then: Mapping[datetime, RememberedWindow],
    policy: Policy,
    *,
    standing: int | None,
    anew: bool,
) -> tuple[SetWindows, int]:
    """Sort out which windows are new, which are as they were, and what is lacking in those that Stripe takes no more.

    `standing` is what stands in one that is not remembered, None where that is not known; `anew` has those that are
    remembered written again.
    """
    windows, kept, closed = _unacknowledged(metered, then, policy), 0, 0
    for share in split:
        before = then.get(share.window.start)
        is_trials = _was_on_trial(metered, share)
        if not (before or share.usage or share.value or is_trials):
            continue
        one = _quantity(metered, share, before, None if before is None and is_trials else standing)
        one = replace(one, standing=None) if before and anew else one
        if (before or standing is not None) and not _is_taken(metered, one.timestamp, policy):
            stood = before.standing if before and _is_billed(metered, one.timestamp) else 0
            one, lacking = _as_it_stands(one, stood)
            closed += lacking
        kept += not one.is_sent
        if one.is_sent or before is None or (before.total, before.value) != (one.total, one.value):
            windows.append(one)
    return SetWindows(tuple(windows), kept, is_whole=metered.read_since is None), closed


def _with_too_old_ones(
    metered: Metered, split: Sequence[Share], then: Mapping[datetime, RememberedWindow], policy: Policy
) -> Sequence[Share]:
    """Given all hours or days, return them with what those lack that Stripe takes no more in the oldest other one.

    The invoice sums them all the same. What stands there once that one is too old itself makes up for them.
    """
    stamped = [(share, _timestamp(metered, share.window.start)) for share in split]
    is_young = [at >= policy.as_of - EVENTS_ARE_TAKEN_FOR for _, at in stamped]
    if metered.way is not Way.WINDOWS or metered.read_since or all(is_young) or not any(is_young):
        return split
    place = is_young.index(True)
    stood = [then[share.window.start].standing or 0 if share.window.start in then else 0 for share in split[:place]]
    lacking = sum(share.value for share in split[:place]) - sum(stood)
    value = split[place].value + lacking
    if lacking == 0 or value < 0 or not _is_billed(metered, stamped[place][1]):
        return split
    as_it_stands = [replace(share, value=standing) for share, standing in zip(split, stood, strict=False)]
    return [*as_it_stands, replace(split[place], value=value), *split[place + 1 :]]


def _was_on_trial(metered: Metered, share: Share) -> bool:
    """Say whether a window has what was used on a trial: it is set anew when the trial ends, if only to zero."""
    item = metered.item
    starts_here = metered.way is Way.WINDOWS and share.window.start == item.period.start
    return starts_here and item.subscription.trial_end == item.period.start


def _quantity(metered: Metered, share: Share, before: RememberedWindow | None, standing: int | None) -> WindowQuantity:
    start = share.window.start
    return WindowQuantity(
        start=start,
        timestamp=_timestamp(metered, start),
        value=share.value,
        standing=before.standing if before else standing,
        total=share.total,
    )


def _timestamp(metered: Metered, start: datetime) -> datetime:
    """Return the timestamp of a window: inside it, and where it is billed with the item."""
    item, stamps = metered.item, metered.span.stamps
    if metered.way is Way.WINDOWS:
        return window_timestamp(stamps, start, _window(metered), is_turn=metered.begins_with_turn)
    return anchor(max(start, item.period.start), item.period.end)


def _unacknowledged(
    metered: Metered, then: Mapping[datetime, RememberedWindow], policy: Policy
) -> list[WindowQuantity]:
    """Return the windows before those that were read whose last write was not acknowledged."""
    since = metered.read_since or metered.span.start
    return [
        WindowQuantity(start, before.timestamp, before.value, before.standing, before.total)
        for start, before in sorted(then.items())
        if start < since and before.standing != before.value and _is_taken(metered, before.timestamp, policy)
    ]


def _is_taken(metered: Metered, timestamp: datetime, policy: Policy) -> bool:
    """Say whether Stripe still takes, and bills, what has this timestamp."""
    if metered.way is not Way.WINDOWS:
        return True
    return _is_billed(metered, timestamp) and timestamp >= policy.as_of - EVENTS_ARE_TAKEN_FOR


def _is_billed(metered: Metered, timestamp: datetime) -> bool:
    """Say whether an invoice has the window of this timestamp: the last one has only those that end before it does."""
    item, stamps = metered.item, metered.span.stamps
    is_followed = item.is_followed and stamps.end == item.period.end
    return is_followed or timestamp < usage_end(stamps, _window(metered))


def _as_it_stands(one: WindowQuantity, standing: int | None) -> tuple[WindowQuantity, int]:
    """Given a window that Stripe takes no more, return it as it stands, and what it lacks."""
    stood = standing or 0
    return replace(one, value=stood, standing=stood), one.value - stood


def with_standing_windows(planned: Planned, found: Mapping[datetime, int], policy: Policy) -> Planned:
    """Given a first write by windows, and what stands in each, return it with what really is to be sent.

    What stands in windows of the period in which nothing was used is set to zero: the last event of a window counts.
    """
    metered, write, span = planned.metered, planned.write, planned.metered.span
    window = _window(metered)
    wanted = {window.floor(one.timestamp): one for one in windows_of(write)}
    stretches = metered.read
    inside = {
        start: standing
        for start, standing in found.items()
        if _is_own(metered, start) and any(one.start < start + window.length and start < one.end for one in stretches)
    }
    windows, total, closed = [], Decimal(0), 0
    for start in sorted(wanted.keys() | inside.keys()):
        first = max(start, span.start)
        one = wanted.get(start) or WindowQuantity(first, _timestamp(metered, first), 0, None, total)
        total, standing = one.total, inside.get(start, 0)
        one = replace(one, standing=standing)
        if not _is_taken(metered, one.timestamp, policy):
            one, lacking = _as_it_stands(one, standing)
            closed += lacking
        elif (one.value or standing) and start > policy.as_of - SUMMARIES_LAG_AT_MOST:
            one = replace(one, standing=None)
        windows.append(one)
    stood = sum(inside.values())
    sends = SetWindows(tuple(windows), sum(not one.is_sent for one in windows), is_whole=metered.read_since is None)
    news = _lacking(replace(write.stands(stood), sends=sends), closed)
    return replace(planned, write=news, highest_before=stood, look=None)


def _is_own(metered: Metered, start: datetime) -> bool:
    """Say whether all that stands in a window is the item's; of the one in which its price changed, some may not be."""
    stamps, is_turn = metered.span.stamps, metered.begins_with_turn
    return summary_windows(stamps, _window(metered), is_turn=is_turn).start <= start


def windows_of(write: Write) -> tuple[WindowQuantity, ...]:
    """Return the hours or days of a write, if it has any."""
    return write.sends.windows if isinstance(write.sends, SetWindows) else ()


def with_all_days(metered: Metered, write: Write) -> Write:
    """Given a write by days, return it with every day until now, those without usage too.

    What an earlier ledger may have set is set again: what remains is other programs'.
    """
    wanted = {day.start: day for day in windows_of(write)}
    days, total = [], Decimal(0)
    for window in windows_between(metered.span.start, metered.span.end, WindowSize.DAY):
        start = window.start
        day = wanted.get(start) or WindowQuantity(start, _timestamp(metered, start), 0, None, total)
        total = day.total
        days.append(replace(day, standing=None))
    return with_windows(write, tuple(days))


def with_windows(write: Write, windows: tuple[WindowQuantity, ...]) -> Write:
    """Return a write by the hour or day with other ones."""
    return replace(write, sends=replace(write.sends, windows=windows)) if isinstance(write.sends, SetWindows) else write
