"""Asking for the usage of each hour or day in few queries, and putting the answers together.

Items of one meter share queries although each has its own start: whole windows of one query serve them all. Only
what is left of a window at an item's own boundary is asked for by itself.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.billing.windows import windows_between
from meter_sync.core.metering.queries import (
    SUBJECTS_PER_QUERY,
    Answer,
    Need,
    Query,
    QueryPlan,
    Unanswered,
    chunks,
    combined,
)

WindowAnswer = Mapping[str, Mapping[datetime, Decimal] | Unanswered] | Unanswered
"""The value of each window that has a row, by subject and the window's start; or that there is no answer."""

ROWS_PER_QUERY = 1_000_000
"""The most rows that an answer may have: what 10,000 subjects use in four days of hours."""

_Kind = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Split:
    """A need: what whole windows of a shared query answer, and what is left of its first and last window."""

    body: Need | None
    ends: tuple[Need, ...]


class WindowQueryPlan:
    """The queries to send for needs by the hour or day, and which of them answers for whom."""

    def __init__(self, needs: Sequence[Need]) -> None:
        """Plan the queries: needs with equal meter, filter and window share them."""
        latest = max((need.end for need in needs), default=None)
        self._splits = {need.item: _split(need, latest) for need in needs}
        self._ends = QueryPlan([end for split in self._splits.values() for end in split.ends])
        self._answering: dict[tuple[str, str], Query] = {}
        self.queries: list[Query] = []
        for same_kind in _by_kind(split.body for split in self._splits.values() if split.body):
            self._plan(same_kind)

    @property
    def single_queries(self) -> Sequence[Query]:
        """The queries for what is left of windows, whose answer is one value for each subject."""
        return self._ends.queries

    def _plan(self, needs: Sequence[Need]) -> None:
        """Plan for needs of one kind: all subjects at once where many start together, else a hundred at a time.

        Those that share a query are the ones that start at nearly the same time: it begins with the first of them.
        """
        by_start: defaultdict[datetime, list[Need]] = defaultdict(list)
        for need in needs:
            by_start[need.start].append(need)
        remaining: list[Need] = []
        for start in sorted(by_start):
            together = by_start[start]
            if _can_ask_for_all(together):
                self._share(together, None)
            else:
                remaining += together
        chunk: dict[str, None] = {}
        sharing: list[Need] = []
        for need in remaining:
            if sharing and len(chunk | dict.fromkeys(need.subjects)) > SUBJECTS_PER_QUERY:
                self._share(sharing, tuple(chunk))
                chunk, sharing = {}, []
            chunk |= dict.fromkeys(need.subjects)
            sharing.append(need)
        if sharing:
            self._share(sharing, tuple(chunk))

    def _share(self, needs: Sequence[Need], subjects: tuple[str, ...] | None) -> None:
        """Plan one query for all of these needs, or a few where one item alone has more subjects than fit."""
        first, end = needs[0], max(need.end for need in needs)
        for some in [None] if subjects is None else _hundreds(subjects):
            query = Query(first.meter, first.filter, first.start, end, some, first.grouping, first.window)
            self.queries.append(query)
            for need in needs:
                for subject in need.subjects:
                    if some is None or subject in some:
                        self._answering[need.item, subject] = query

    def usages(
        self, answers: Mapping[Query, WindowAnswer], single_answers: Mapping[Query, Answer]
    ) -> dict[str, Mapping[datetime, Decimal] | Unanswered]:
        """Given the answer of each query, return the usage of each item, by the start of each window.

        A window that is missing from a complete answer has used nothing.
        """
        ends = self._ends.usages(single_answers)
        return {item: self._usage(split, answers, ends) for item, split in self._splits.items()}

    def _usage(
        self, split: _Split, answers: Mapping[Query, WindowAnswer], ends: Mapping[str, Decimal | Unanswered]
    ) -> Mapping[datetime, Decimal] | Unanswered:
        found: dict[datetime, Decimal] = {}
        for end in split.ends:
            value = ends[end.item]
            if isinstance(value, Unanswered):
                return value
            found[end.start] = value
        if split.body is None:
            return found
        body = self._body(split.body, answers)
        return body if isinstance(body, Unanswered) else {**found, **body}

    def _body(self, need: Need, answers: Mapping[Query, WindowAnswer]) -> dict[datetime, Decimal] | Unanswered:
        values: defaultdict[datetime, list[Decimal]] = defaultdict(list)
        for subject in need.subjects:
            answer = answers[self._answering[need.item, subject]]
            rows = answer if isinstance(answer, Unanswered) else answer.get(subject, {})
            if isinstance(rows, Unanswered):
                return rows
            for start, value in rows.items():
                if need.start <= start < need.end:
                    values[start].append(value)
        return {start: combined(need.aggregation, of_window) for start, of_window in values.items()}


def _split(need: Need, latest: datetime | None) -> _Split:
    """Separate what shared windows can answer from what is left of a window at the need's own boundaries.

    The run's instant, the `latest` end of all, needs no care: a shared query ends there, and so does its last window.
    """
    window = _window(need)
    start = need.start if need.start == window.floor(need.start) else window.floor(need.start) + window.length
    end = need.end if need.end == latest else window.floor(need.end)
    if start >= end:
        return _Split(None, _left_over(need, window))
    left = [(need.start, start), (end, need.end)]
    singles = [_single(need, *bounds) for bounds in left if bounds[0] < bounds[1]]
    return _Split(replace(need, start=start, end=end), tuple(singles))


def _left_over(need: Need, window: WindowSize) -> tuple[Need, ...]:
    """Return the parts of a need that has no whole window: one, or two where a boundary lies within it."""
    return tuple(_single(need, each.start, each.end) for each in windows_between(need.start, need.end, window))


def _single(need: Need, start: datetime, end: datetime) -> Need:
    return replace(need, item=f"{need.item} {int(start.timestamp())}", start=start, end=end, window=None)


def _window(need: Need) -> WindowSize:
    if need.window is None:
        raise ValueError(f"{need.item} needs no windows")
    return need.window


def _by_kind(needs: Iterable[Need]) -> list[list[Need]]:
    kinds: dict[_Kind, list[Need]] = {}
    for need in needs:
        kinds.setdefault((need.meter, need.filter, need.window, need.grouping), []).append(need)
    return list(kinds.values())


def _can_ask_for_all(needs: Sequence[Need]) -> bool:
    """Say whether one query without a filter for subjects is the cheaper way, and its answer bearable."""
    subjects = {subject for need in needs for subject in need.subjects}
    first = needs[0]
    windows = max(need.end - need.start for need in needs) // _window(first).length + 1
    return chunks(tuple(subjects), first.grouping) == [None] and len(subjects) * windows <= ROWS_PER_QUERY


def _hundreds(subjects: Sequence[str]) -> list[tuple[str, ...]]:
    return [
        tuple(subjects[place : place + SUBJECTS_PER_QUERY]) for place in range(0, len(subjects), SUBJECTS_PER_QUERY)
    ]
