"""Whose second is it: which item bills which stretch of time, where several could, and which nobody bills.

Two items can bill the same usage: items of one customer on one billing meter, since usage on it is the customer's, and
each item on it bills all events that are stamped inside its period (reported by users); and items, of one customer or
of two, that are mapped to the same usage in OpenMeter. Time decides between them: what lies in one period alone is
billed with it, and what lies in several is billed by one of them or named with one of them.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from meter_sync.core.billing.item import Period, PeriodKey, WindowSize
from meter_sync.core.metering.filters import overlapping
from meter_sync.core.metering.mapping import Filter


class Bills(StrEnum):
    """What is billed of an item's period."""

    TAKES = "takes"
    """What is reported of it: more is taken, or may be."""
    FINAL = "final"
    """What was reported of it: no more is taken."""
    FREE = "free"
    """Nothing, since it is a trial: what is used in it costs nothing."""
    NOTHING = "nothing"
    """Nothing, whatever was reported: it ended without an invoice."""


@dataclass(frozen=True, slots=True)
class MeteredUsage:
    """Usage in OpenMeter that an item is mapped to."""

    meter: str
    filter: Filter
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """An item's period, as far as it may bill what another one bills."""

    key: PeriodKey
    customer: str
    stripe_meter: str | None
    """The billing meter that it is on, if any."""
    usage: MeteredUsage | None
    """None where it is mapped to nothing: Stripe bills the customer's events with it all the same."""
    period: Period
    """From where on, and until when, usage is its own if nobody else's."""
    created: datetime
    bills: Bills = Bills.TAKES
    goes_on: bool = True
    """Whether another period follows this one."""
    is_invoiced: bool = False
    """Whether the invoice of its end is there."""
    window: WindowSize | None = None
    """That of its billing meter, if it has any."""
    is_turn: bool = True
    """Whether it begins with a period of Stripe's, whose first window is billed with it as a whole."""
    is_cut: bool = False
    """Whether it ended in mid-period, with its price or its removal: not even the window of then goes on."""
    reported: tuple[Period, ...] = ()
    """The stretches whose usage was reported and taken."""
    settled: tuple[Period, ...] | None = None
    """What was its own when Stripe took no more of it: that stays so, and nothing else ever is. None before that."""
    is_shared: bool = False
    """Whether it may bill the usage that others bill."""
    is_owner: bool = False
    """Whether it is named as the one that bills what others could bill too."""

    @property
    def is_billed(self) -> bool:
        """Whether what is reported of it costs something."""
        return self.bills in {Bills.TAKES, Bills.FINAL}

    @property
    def on_meter(self) -> tuple[str, str] | None:
        """Whose usage of which billing meter is billed with it, if it is on one."""
        return (self.customer, self.stripe_meter) if self.stripe_meter else None

    @property
    def rank(self) -> tuple[datetime, datetime, PeriodKey]:
        """Which of several comes first: the one that ends first, and then the oldest."""
        return self.period.end, self.created, self.key


@dataclass(frozen=True, slots=True)
class Share:
    """What is an item's own in its period; all other time of it is somebody else's."""

    billed: tuple[Period, ...] = ()
    """Stretches whose usage is reported for it, in order."""
    held: tuple[Period, ...] = ()
    """Stretches that nobody is known to bill alone: they are named with this item, at its end."""
    before: Period | None = None
    """What an item used that ended within this one's first window, which is on this one's invoice as a whole."""
    is_contested: bool = False
    """Whether there is such time in its period, named with it or with another item."""
    rivals: tuple[str, ...] = ()
    """The items that could bill some of its period as well, or bill it instead."""
    is_by_meter: bool = False
    """Whether one of these is on its billing meter, where Stripe bills all of a customer's events with each."""


def shares(claims: Iterable[Claim]) -> dict[PeriodKey, Share]:
    """Given all claims that are known, return what is each item's own, by item and period's start.

    No second of one usage is in two shares, and each second that somebody claims is in one. Not so on trials, which
    cost nothing; for what is said to be shared; and where two usages are neither the same nor apart, but overlap:
    then each of the two items is named with all of its own.
    """
    known, before = _with_whole_windows({claim.key: claim for claim in claims})
    found = {key: Share((claim.period,) if claim.settled is None else claim.settled) for key, claim in known.items()}
    for rivals in _rivalries(known.values()):
        found |= _divided(rivals) if len(rivals) <= _MOST_RIVALS else _all_contested(rivals)
    return {key: replace(share, before=before.get(key)) for key, share in found.items()} if before else found


_MOST_RIVALS = 200
"""Nobody means so many items to be metered by the same usage: it is not gone into whose which second would be."""


def _all_contested(rivals: Sequence[Claim]) -> dict[PeriodKey, Share]:
    items = sorted({claim.key[0] for claim in rivals})[:_MOST_RIVALS]
    return {
        claim.key: Share(
            held=(claim.period,), is_contested=True, rivals=tuple(one for one in items if one != claim.key[0])
        )
        if claim.settled is None
        else Share(claim.settled)
        for claim in rivals
    }


def _with_whole_windows(known: dict[PeriodKey, Claim]) -> tuple[dict[PeriodKey, Claim], dict[PeriodKey, Period]]:
    """Give the last window of what has ended to the item that begins in it, and return what each has from before it.

    Such a window is on the later one's invoice as a whole, as at the turn of a period (`usage_end` says why), and its
    last event counts for all of it.
    """
    claims = defaultdict[Hashable, list[Claim]](list)
    for claim in known.values():
        if claim.window and claim.bills is not Bills.FREE:
            claims[claim.on_meter].append(claim)
    on_meter = {meter: _InTime(several) for meter, several in claims.items()}
    whole, before = dict(known), dict[PeriodKey, Period]()
    for claim in known.values():
        next_one = _next_in_window(claim, on_meter.get(claim.on_meter))
        if claim.window and next_one:
            floor = claim.window.floor(claim.period.end)
            left = Period(max(floor, claim.period.start), claim.period.end)
            whole[claim.key] = replace(claim, period=Period(claim.period.start, left.start))
            if next_one.settled is None:
                before[next_one.key] = left
    return whole, before


class _InTime:
    """Claims, to be asked which of them have part of a stretch: a customer may have had thousands of items."""

    def __init__(self, claims: Iterable[Claim]) -> None:
        self._by_start = sorted(claims, key=lambda one: one.period.start)
        self._starts = [one.period.start for one in self._by_start]
        self._ends = sorted(one.period.end for one in self._by_start)
        self._of_item = defaultdict[str, list[Claim]](list)
        for one in self._by_start:
            self._of_item[one.key[0]].append(one)

    def others_within(self, stretch: Period, item: str) -> int:
        """Return how many claims of other items have part of a stretch: those that began, but for those that ended."""
        every = bisect_left(self._starts, stretch.end) - bisect_right(self._ends, stretch.start)
        return every - sum(
            one.period.start < stretch.end and stretch.start < one.period.end for one in self._of_item[item]
        )

    def begun_within(self, since: datetime, until: datetime) -> Sequence[Claim]:
        """Return the claims that begin at an instant, or after it and before another one."""
        return self._by_start[bisect_left(self._starts, since) : bisect_left(self._starts, until)]


def _next_in_window(claim: Claim, on_meter: _InTime | None) -> Claim | None:
    """Return the item to which the last window of what has ended goes, or None where it goes nowhere.

    While a third one is on the meter, whose invoice may have that window too, it goes nowhere.
    """
    if claim.goes_on or claim.is_cut or not claim.window or not claim.is_billed or on_meter is None:
        return None
    floor, end = claim.window.floor(claim.period.end), claim.period.end
    window = Period(floor, floor + claim.window.length)
    if end == floor or on_meter.others_within(window, claim.key[0]) != 1:
        return None
    begun = [one for one in on_meter.begun_within(end, window.end) if one.key[0] != claim.key[0]]
    later = [one for one in begun if one.is_turn and one.usage == claim.usage]
    if not later:
        return None
    if claim.settled is not None:
        return None if is_within(Period(max(floor, claim.period.start), end), claim.settled) else later[0]
    return later[0] if claim.is_invoiced and later[0].is_billed else None


def _rivalries(claims: Iterable[Claim]) -> list[list[Claim]]:
    """Return the claims that could bill the same usage at some time, those together that hang together."""
    by_usage = defaultdict[Hashable, list[Claim]](list)
    filters = defaultdict[tuple[str, str], set[Filter]](set)
    for claim in claims:
        for one in _keys(claim):
            by_usage[one].append(claim)
        for subject in _subjects(claim):
            if claim.usage:
                filters[claim.usage.meter, subject].add(claim.usage.filter)
    together = _Together()
    for several in by_usage.values():
        for claim in several[1:]:
            together.join(several[0].key, claim.key)
    for (meter, subject), admitted in filters.items():
        for one, other in overlapping(admitted) if len(admitted) > 1 else ():
            together.join(by_usage[meter, subject, one][0].key, by_usage[meter, subject, other][0].key)
    groups = defaultdict[Hashable, list[Claim]](list)
    for claim in {claim.key: claim for several in by_usage.values() for claim in several}.values():
        groups[together.first(claim.key)].append(claim)
    return [group for group in groups.values() if len(group) > 1]


def _subjects(claim: Claim) -> tuple[str, ...]:
    return claim.usage.subjects if claim.usage and not claim.is_shared else ()


def _keys(claim: Claim) -> list[Hashable]:
    """Return what two claims have in common that could bill the same, their filters aside."""
    usage = claim.usage
    of_usage: list[Hashable] = [(usage.meter, subject, usage.filter) for subject in _subjects(claim)] if usage else []
    return [*of_usage, claim.on_meter] if claim.on_meter else of_usage


class _Together:
    """Which things hang together, directly or through others."""

    def __init__(self) -> None:
        self._before: dict[Hashable, Hashable] = {}

    def first(self, one: Hashable) -> Hashable:
        """Return the one thing that stands for all that hang together with this."""
        while (before := self._before.get(one, one)) != one:
            self._before[one] = self._before.get(before, before)
            one = before
        return one

    def join(self, one: Hashable, other: Hashable) -> None:
        """Let two things hang together."""
        self._before[self.first(one)] = self.first(other)


@dataclass(slots=True)
class _Division:
    """What of a period is whose, as far as it was gone through."""

    billed: list[Period] = field(default_factory=list)
    held: list[Period] = field(default_factory=list)
    rivals: dict[str, None] = field(default_factory=dict)
    is_contested: bool = False
    is_by_meter: bool = False


def _divided(rivals: Sequence[Claim]) -> dict[PeriodKey, Share]:
    """Go through time from boundary to boundary, and say of each stretch whose it is."""
    found = {claim.key: _Division() for claim in rivals}
    for start, end in pairwise(sorted({boundary for claim in rivals for boundary in _boundaries(claim)})):
        present = [claim for claim in rivals if claim.period.start <= start and end <= claim.period.end]
        rivalries = _rivalries(present)
        in_rivalry = {claim.key for several in rivalries for claim in several}
        for several in (*rivalries, *([claim] for claim in present if claim.key not in in_rivalry)):
            _divide(several, Period(start, end), found)
    return {claim.key: _share(claim, found[claim.key], rivals) for claim in rivals}


def _boundaries(claim: Claim) -> Iterator[datetime]:
    yield from (claim.period.start, claim.period.end)
    for one in (*claim.reported, *(claim.settled or ())):
        if one.end > claim.period.start and one.start < claim.period.end:
            yield from (max(one.start, claim.period.start), min(one.end, claim.period.end))


def _divide(several: Sequence[Claim], stretch: Period, found: Mapping[PeriodKey, _Division]) -> None:
    """Say whose a stretch is that several could bill: one bills it, or it is named with one that could."""
    settled = [one for one in several if one.settled and is_within(stretch, one.settled)]
    for claim in settled:
        found[claim.key].billed.append(stretch)
    unsettled = [one for one in several if one.settled is None]
    owner = _owner([one for one in unsettled if not any(_has_all_of(other, one) for other in settled)], stretch)
    any_billed = any(claim.is_billed for claim in (*unsettled, *settled))
    named = [*settled, *([owner] if owner else ())]
    for claim in sorted(unsettled, key=lambda one: (not one.is_billed, one.rank)):
        division = found[claim.key]
        if claim is owner or (claim.bills is Bills.FREE and not any_billed):
            division.billed.append(stretch)
            continue
        others = [one for one in several if one is not claim and (one.is_billed or claim.bills is not Bills.FREE)]
        division.rivals |= {one.key[0]: None for one in others}
        division.is_by_meter |= any(_are_on_one_meter(one, claim) for one in others)
        is_named = any(_has_all_of(one, claim) for one in named)
        division.is_contested |= (
            owner is None and claim.is_billed and not any(_has_all_of(one, claim) for one in settled)
        )
        if claim.bills is not Bills.FREE and not is_named:
            division.held.append(stretch)
            named.append(claim)


def is_within(stretch: Period, others: Iterable[Period]) -> bool:
    """Say whether a stretch lies in one of some others."""
    return any(one.start <= stretch.start and stretch.end <= one.end for one in others)


def _owner(several: Sequence[Claim], stretch: Period) -> Claim | None:
    """Return the one that bills a stretch which several could bill, or None where nobody knows.

    - One alone that is billed at all: a trial takes nothing from it, nor does what ended without an invoice.
    - What was reported before the others were there stays with the one that it was reported for.
    - The one that is named as the owner, unless another one on the same billing meter bills its events besides.
    - The one that is left, where the others are gone for good and take no more: nothing of this was reported for them.
    """
    billed = [claim for claim in several if claim.is_billed]
    if len(billed) <= 1:
        return billed[0] if billed else None
    reported = [one for one in billed if is_within(stretch, one.reported)]
    if len(reported) == 1:
        return reported[0]
    owners = [one for one in billed if one.is_owner]
    if len(owners) == 1 and not any(_are_on_one_meter(owners[0], one) for one in billed if one is not owners[0]):
        return owners[0]
    left = [one for one in billed if one.goes_on or one.bills is Bills.TAKES]
    return left[0] if len(left) == 1 else None


def _are_on_one_meter(one: Claim, other: Claim) -> bool:
    """Say whether Stripe bills all events of a customer with both of two items."""
    return one.on_meter is not None and one.on_meter == other.on_meter


def _has_all_of(one: Claim, other: Claim) -> bool:
    """Say whether all usage of the other is usage of the one, too."""
    if one.usage is None or other.usage is None or one.usage.meter != other.usage.meter:
        return False
    admitted = dict(other.usage.filter)
    is_admitted = all(name in admitted and set(admitted[name]) <= set(values) for name, values in one.usage.filter)
    return is_admitted and set(other.usage.subjects) <= set(one.usage.subjects)


def _share(claim: Claim, division: _Division, rivals: Sequence[Claim]) -> Share:
    if claim.settled is not None:
        return Share(claim.settled, rivals=tuple(sorted(division.rivals)), is_by_meter=division.is_by_meter)
    billed, held = joined(division.billed), joined(division.held)
    if claim.window:
        whole = [_to_whole_window(claim, one, rivals) for one in billed]
        held = joined(sorted((*held, *(rest for _, rest in whole if rest)), key=lambda one: one.start))
        billed = tuple(one for one, _ in whole if one)
    return Share(
        billed,
        held,
        is_contested=division.is_contested,
        rivals=tuple(sorted(division.rivals)),
        is_by_meter=division.is_by_meter,
    )


def _to_whole_window(claim: Claim, stretch: Period, rivals: Sequence[Claim]) -> tuple[Period | None, Period | None]:
    """Split off a stretch what lies in a window that is on another one's invoice too."""
    is_cut_short = any(
        one is not claim and one.is_billed and _are_on_one_meter(one, claim)
        for one in rivals
        if one.period.start <= stretch.end < one.period.end and claim.window
        # The window in which the other one ends is on no invoice of it.
        if claim.window.floor(stretch.end) + claim.window.length <= one.period.end
    )
    floor = claim.window.floor(stretch.end) if claim.window and is_cut_short else stretch.end
    whole = Period(stretch.start, floor) if stretch.start < floor else None
    rest = Period(max(floor, stretch.start), stretch.end)
    return whole, rest if rest.start < rest.end else None


def joined(stretches: Iterable[Period]) -> tuple[Period, ...]:
    """Return stretches, which are in order, with those made one that touch."""
    found: list[Period] = []
    for one in stretches:
        if found and found[-1].end == one.start:
            found[-1] = Period(found[-1].start, one.end)
        elif one.start < one.end:
            found.append(one)
    return tuple(found)
