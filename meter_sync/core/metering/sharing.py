"""Usage that is kept, and few queries for all subjects at once that tell what came to it, and whether it still holds.

Nearly every period begins at a second of its own, so that one query would be asked for each. Instead time is cut at a
few instants that all items of a series have in common. Of each stretch between two of them the totals of all subjects
are asked for at once. What is an item's alone, from its own start up to the next of these instants, is asked for once
and kept. As long as the total of a stretch is what it was, what was kept of parts of it holds; usage that came late, of
whatever age, changes that total, and then what lies in the stretch is asked for again.

Pure planning, as `queries` is. What cannot be seen in this way is usage of one subject that came and went by as much
within one stretch, before an item's start and after it: it is seen when everything is read, which is once a day.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from meter_sync.core.billing.item import Period, WindowSize
from meter_sync.core.billing.quantity import LARGEST_EXACT, denoised
from meter_sync.core.metering.mapping import Filter, Grouping
from meter_sync.core.metering.meter import Aggregation
from meter_sync.core.metering.queries import Answer, Need, Query, Unanswered, combined, queries_for_all

RECENT = timedelta(minutes=15)
"""Events of so long ago have mostly arrived: what is younger is not kept, but read by each run."""

BACKLOG = timedelta(days=1)
"""What arrives later than that is rare. Of younger usage nothing is kept for itself but that of periods that began in
it: then it costs nothing that much of it comes late."""

Total = Decimal | None
"""The usage of some time; None where there was no event at all."""

NeedKey = tuple[str, datetime]
"""Which need of an item it is, and where it starts."""


@dataclass(frozen=True, slots=True)
class Series:
    """What can share queries, and what is kept is bound to: usage that is counted and told apart in one way."""

    meter_id: str
    """OpenMeter's own id of the meter: one that was deleted and made anew under the same slug is another one."""
    meter: str
    filter: Filter
    grouping: Grouping
    aggregation: Aggregation


@dataclass(frozen=True, slots=True)
class KeptUsage:
    """What is known of a need from its start up to an instant."""

    subjects: tuple[str, ...]
    end: datetime
    usage: Total = None
    window: WindowSize | None = None
    """Where set it is the hours or days that are known, which are kept elsewhere."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a series."""

    read_at: datetime
    """The instant of the run that read all of it last."""
    as_of: datetime
    """The instant of the run that kept it."""
    joints: tuple[datetime, ...]
    """The instants that its items have in common, in order."""
    totals: Mapping[str, tuple[Total, ...]] = field(default_factory=dict)
    """By subject, the total of each stretch between two joints, as what is kept was read with."""
    usages: Mapping[NeedKey, KeptUsage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Corrected:
    """How far what was kept was from what was read, although nothing showed it."""

    needs: int = 0
    usage: Decimal = Decimal(0)
    """The sum of the differences, without their signs."""


def series_of(need: Need) -> Series | None:
    """Return the series of a need, or None where its usage does not follow from that of parts of its time.

    AVG and UNIQUE_COUNT of a span do not: they are asked for exactly, item by item.
    """
    if need.meter_id is None or not need.aggregation.follows_from_parts:
        return None
    return Series(need.meter_id, need.meter, need.filter, need.grouping, need.aggregation)


@dataclass(frozen=True, slots=True)
class _Own:
    """A need's own part: its usage up to `end`, from which shared totals go on."""

    need: Need
    end: datetime
    usage: Total


class Sharing:
    """The needs of one series in one run.

    First `queries` says what to ask for all subjects, then `parts` what has still to be asked for single needs: never
    the other way round, or what arrives in between would be in the totals and nowhere else.
    """

    def __init__(self, series: Series, kept: Kept | None, *, begins: datetime, as_of: datetime, is_whole: bool) -> None:
        """Begin a run up to `as_of`. No need that is to be kept starts before `begins`.

        `is_whole` says to believe nothing that is kept, but to compare it with what is read. What is kept must not be
        of later than `as_of`.
        """
        self.series = series
        self._kept = kept
        self._as_of = as_of
        self._believes = kept is not None and not is_whole
        self._joints, self._joints_after = _joints(kept, begins, as_of, is_whole=is_whole)
        self._stretches = [Period(*two) for two in pairwise((*self._joints, as_of))]
        self._totals: list[dict[str, Total | Unanswered]] = [{} for _ in self._stretches]
        self._after: dict[NeedKey, KeptUsage] = {}
        self._windows: dict[NeedKey, Need] = {}
        self.corrected = Corrected()

    @property
    def is_compared(self) -> bool:
        """Whether what is kept was not believed, but compared with what was read."""
        return self._kept is not None and not self._believes

    @property
    def day(self) -> datetime | None:
        """Up to where hours and days are taken for known after this run; None where none are that old."""
        return self._joints_after[1] if len(self._joints_after) > 2 else None

    def queries(self, needs: Sequence[Need]) -> list[Query]:
        """Return what to ask for all subjects of these needs at once, as far as that was not asked before."""
        asked = []
        for number, stretch in enumerate(self._stretches):
            known = self._totals[number]
            lacking = {
                subject: None
                for need in needs
                if self._concerns(stretch, need)
                for subject in need.subjects
                if subject not in known
            }
            of_all = Query(
                self.series.meter, self.series.filter, stretch.start, stretch.end, None, self.series.grouping
            )
            asked += queries_for_all(of_all, tuple(lacking))
        return asked

    def _concerns(self, stretch: Period, need: Need) -> bool:
        if need.start < self._joints[0]:
            return False
        return need.window is None or (self.day is not None and stretch.end <= self.day)

    def answered(self, needs: Sequence[Need], answers: Mapping[Query, Answer]) -> None:
        """Take the answers for these needs. What was not answered is not known of any of its subjects."""
        numbers = {stretch.start: number for number, stretch in enumerate(self._stretches)}
        for query, answer in answers.items():
            totals = self._totals[numbers[query.start]]
            every = (subject for need in needs for subject in need.subjects)
            for subject in every if query.subjects is None else query.subjects:
                if subject not in totals:
                    total = answer if isinstance(answer, Unanswered) else answer.get(subject)
                    is_told = isinstance(total, Unanswered) or _is_exact(total)
                    totals[subject] = total if is_told else _NOT_EXACT

    def parts(self, needs: Iterable[Need]) -> list[Need]:
        """Return what has to be asked for these needs one by one: their own parts, as far as they are not known.

        A need of which nothing is shared is its own part.
        """
        found = []
        for need in needs:
            end = self._own_end(need)
            if need.start < end and self._believed(need, end) is None:
                found.append(replace(need, end=end))
        return found

    def usages(
        self, needs: Sequence[Need], answers: Mapping[str, Total | Unanswered]
    ) -> dict[str, Decimal | Unanswered]:
        """Given what was answered for the parts of needs, return the usage of each need."""
        usages: dict[str, Decimal | Unanswered] = {}
        for need in needs:
            end = self._own_end(need)
            believed = self._believed(need, end)
            if believed:
                own: Total | Unanswered = believed.usage
            else:
                own = answers[need.item] if need.start < end else None
            if isinstance(own, Unanswered):
                usages[need.item] = own
                continue
            part = _Own(need, end, own)
            if self._kept and not self._believes:
                self._compare(part, self._kept)
            if after := self._as_kept(part, believed):
                self._after[need.item, need.start] = after
            whole = self._until(part, need.end)
            usages[need.item] = Decimal(0) if whole is None else whole
        return usages

    def is_kept(self, need: Need) -> bool:
        """Say whether a need's usage was made of what is kept."""
        return self._believed(need, self._own_end(need)) is not None

    def forget(self, need: Need) -> None:
        """Let a need be asked for exactly by the next run."""
        self._after.pop((need.item, need.start), None)

    def windows_known_until(self, need: Need, written: datetime) -> datetime | None:
        """Return up to where the hours or days of a need are as they were when they were read last, or None.

        `written` is the instant of the run that meant to write them last. A later one than kept them may have told
        Stripe of usage that came and went since then, which no total shows any more.
        """
        if self._kept is None or not self._believes or written > self._kept.as_of:
            return None
        kept = self._kept.usages.get((need.item, need.start))
        if kept is None or kept.window is not need.window or not self._holds(need, kept):
            return None
        return kept.end

    def windows_read(self, need: Need) -> None:
        """Let the hours or days of a need be known from now on: what was read of them is what Stripe was told."""
        self._windows[need.item, need.start] = need

    def kept(self) -> Kept:
        """Return what is to be kept after this run."""
        read_at = self._kept.read_at if self._kept and self._believes else self._as_of
        totals = {subject: of for subject in self._totals[0] if (of := self._known_totals(subject))}
        for key, need in self._windows.items():
            if self.day is not None and self._joints[0] <= need.start < self.day:
                self._after[key] = KeptUsage(need.subjects, min(need.end, self.day), window=need.window)
        return Kept(read_at, self._as_of, self._joints_after, totals, self._after)

    def _own_end(self, need: Need) -> datetime:
        """Return where the part of a need ends that is its own; from there on it has totals that are shared."""
        if need.end < self._as_of or need.start < self._joints[0]:
            return need.end
        end = next((joint for joint in self._joints if joint >= need.start), need.end)
        shared = (self._total(one, Period(end, need.end)) for one in need.subjects)
        return need.end if end == need.end or any(isinstance(total, Unanswered) for total in shared) else end

    def _believed(self, need: Need, end: datetime) -> KeptUsage | None:
        """Return what is kept of a need up to an instant, if it holds."""
        kept = self._kept.usages.get((need.item, need.start)) if self._kept and self._believes else None
        if kept is None or kept.end != end or kept.window is not None or not self._holds(need, kept):
            return None
        return kept

    def _holds(self, need: Need, kept: KeptUsage) -> bool:
        """Say whether what was kept of a need is still so, as far as the totals show: those of each of its subjects."""
        if self._kept is None or kept.subjects != need.subjects:
            return False
        for number, stretch in enumerate(_between(self._kept.joints)):
            if stretch.start >= kept.end or stretch.end <= need.start:
                continue
            for subject in need.subjects:
                before, now = self._kept.totals.get(subject, ()), self._total(subject, stretch)
                if number >= len(before) or isinstance(now, Unanswered) or not _is_same(before[number], now):
                    return False
                if not _shows(self.series.aggregation, kept, now, reaches_end=kept.end == stretch.end):
                    return False
        return True

    def _total(self, subject: str, span: Period) -> Total | Unanswered:
        """Return a subject's total of a span that ends and begins at joints, or with the run."""
        found = []
        for number, stretch in enumerate(self._stretches):
            if span.start <= stretch.start and stretch.end <= span.end:
                total = self._totals[number].get(subject, _NOT_ASKED)
                if isinstance(total, Unanswered):
                    return total
                found.append(total)
        return total_in_order(self.series.aggregation, found)

    def _until(self, own: _Own, instant: datetime) -> Total | Unanswered:
        """Return a need's usage up to an instant from which its totals are shared, or up to its end."""
        totals = [own.usage]
        for subject in own.need.subjects if own.end < instant else ():
            total = self._total(subject, Period(own.end, instant))
            if isinstance(total, Unanswered):
                return total
            totals.append(total)
        return total_in_order(self.series.aggregation, totals)

    def _known_totals(self, subject: str) -> tuple[Total, ...]:
        """Return a subject's totals of the stretches that are kept, from the first one on, as far as they are known."""
        found = list[Total]()
        for stretch in _between(self._joints_after):
            total = self._total(subject, stretch)
            if isinstance(total, Unanswered):
                break
            found.append(total)
        totals, before = tuple(found), self._kept.totals.get(subject) if self._kept else None
        return before if before == totals else totals

    def _as_kept(self, own: _Own, believed: KeptUsage | None) -> KeptUsage | None:
        """Return what is to be kept of a need: what is believed, where it goes on to the same instant."""
        need, joints = own.need, self._joints_after
        if need.start < joints[0]:
            return None
        if need.end < self._as_of:
            end = need.end if need.end <= joints[-1] else None
        else:
            end = next((joint for joint in joints if joint >= need.start), None)
        if end is None or not need.start < end or own.end > end:
            return None
        if believed is not None and believed.end == end:
            return believed
        usage = self._until(own, end)
        return None if isinstance(usage, Unanswered) or not _is_exact(usage) else KeptUsage(need.subjects, end, usage)

    def _compare(self, own: _Own, kept: Kept) -> None:
        """Add up by how much what is kept of a need is wrong, where it would have been believed."""
        need = own.need
        then = kept.usages.get((need.item, need.start))
        if then is None or then.window is not None or not own.end <= then.end or not self._holds(need, then):
            return
        now = self._until(own, then.end)
        if isinstance(now, Unanswered) or not _is_exact(now) or _is_same(then.usage, now):
            return
        difference = abs(denoised((now or Decimal(0)) - (then.usage or Decimal(0))))
        self.corrected = Corrected(self.corrected.needs + 1, self.corrected.usage + difference)


_NOT_ASKED = Unanswered("its total was not asked for")
_NOT_EXACT = Unanswered("its total is beyond what an answer holds exactly")


def total_in_order(aggregation: Aggregation, totals: Iterable[Total]) -> Total:
    """Given totals of parts of a time, in their order, return that of the whole."""
    values = [one for one in totals if one is not None]
    if not values:
        return None
    return values[-1] if aggregation is Aggregation.LATEST else combined(aggregation, values)


def _joints(
    kept: Kept | None, begins: datetime, as_of: datetime, *, is_whole: bool
) -> tuple[tuple[datetime, ...], tuple[datetime, ...]]:
    """Return at which instants a run cuts time, and those of them that are kept after it.

    Within a day only the last one moves on. A run that reads everything takes new ones beside those that were.
    """
    recent, day = (_minute(as_of - before) for before in (RECENT, BACKLOG))
    if kept is None or is_whole:
        after = sorted({begins, *(one for one in (day, recent) if one > begins)})
        return tuple(sorted({*after, *(kept.joints if kept else ())})), tuple(after)
    first, *rest = kept.joints
    recent = max(recent, kept.joints[-1])
    return tuple(sorted({*kept.joints, recent})), tuple(sorted({first, *rest[:-1], recent}))


def _minute(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)


def _between(joints: Sequence[datetime]) -> list[Period]:
    return [Period(*two) for two in pairwise(joints)]


def _is_exact(total: Total) -> bool:
    """Say whether a total is a number that others may be added to: beyond 2^53 answers are not exact any more."""
    return total is None or (total.is_finite() and abs(total) <= LARGEST_EXACT)


def _is_same(one: Total, other: Total) -> bool:
    if one is None or other is None:
        return one is other
    return denoised(one) == denoised(other)


def _shows(aggregation: Aggregation, kept: KeptUsage, total: Total, *, reaches_end: bool) -> bool:
    """Say whether a stretch's total would be another one if what is kept of a part of the stretch were.

    Sums are. The largest value hides all that are smaller, so it must be that of the part, and so must the smallest;
    and the latest one is the part's only where that goes on to the end of the stretch, and has any.
    """
    if aggregation.adds_up or total is None:
        return True
    if kept.window is not None or kept.usage is None:
        return False
    if aggregation is Aggregation.LATEST:
        return reaches_end
    return kept.usage >= total if aggregation is Aggregation.MAX else kept.usage <= total
