"""Asking for usage in as few queries as possible, and putting the answers together.

Pure planning: from what each item needs to the queries to send, and from their answers to each item's usage.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.billing.windows import windows_between
from meter_sync.core.metering.mapping import Filter, Grouping
from meter_sync.core.metering.meter import Aggregation

SUBJECTS_PER_QUERY = 100
"""The most subjects that OpenMeter takes in one POST (server source)."""

_CHUNKS_BEFORE_UNFILTERED = 10
"""Beyond so many chunks one unfiltered query is cheaper: 1.35 s for 50,000 subjects (measured)."""

_CHUNKS_OF_ALL_BEFORE_UNFILTERED = 2
"""The same where all subjects of an account are asked for: then they are mostly all that OpenMeter has."""

ROWS_PER_QUERY = 1_000_000
"""The most rows that an answer by the hour or day may have: what 10,000 subjects use in four days of hours."""


@dataclass(frozen=True, slots=True)
class Need:
    """The usage that one subscription item needs: half-open, UTC, whole seconds."""

    item: str
    meter: str
    filter: Filter
    subjects: tuple[str, ...]
    start: datetime
    end: datetime
    aggregation: Aggregation
    grouping: Grouping = Grouping.SUBJECT
    window: WindowSize | None = None
    """Where set, the usage of each hour or day is needed by itself."""
    meter_id: str | None = None
    """OpenMeter's own id of the meter; None where nothing is kept of its usage."""


@dataclass(frozen=True, slots=True)
class Query:
    """One POST to OpenMeter, grouped by subject or customer; `subjects` None asks for all of them."""

    meter: str
    filter: Filter
    start: datetime
    end: datetime
    subjects: tuple[str, ...] | None
    grouping: Grouping = Grouping.SUBJECT
    window: WindowSize | None = None
    dimensions: tuple[str, ...] = ()
    """The meter's dimensions whose values are told apart beside."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """There is no complete answer: not zero usage, but none known. The message says why."""

    message: str


Answer = Mapping[str, Decimal | Unanswered] | Unanswered
"""The value of each subject that has a row, or that there is no answer, for all or for a single one."""

DimensionAnswer = Mapping[str, Mapping[tuple[str | None, ...], Decimal] | Unanswered] | Unanswered
"""The value for each combination of the dimensions' values that has a row, by subject; or that there is no answer."""

WindowAnswer = Mapping[str, Mapping[datetime, Decimal] | Unanswered] | Unanswered
"""The value of each window that has a row, by subject and the window's start; or that there is no answer."""

_Value = TypeVar("_Value", Decimal, Mapping[datetime, Decimal])


class _Plan:
    """The queries to send, and which of them answers for which subject of an item."""

    def __init__(self) -> None:
        self.queries: list[Query] = []
        self._answering: dict[str, Mapping[str, Query]] = {}

    def _share(self, needs: Sequence[Need], window: WindowSize | None, *, unfiltered: bool) -> None:
        """Plan one query for all of these needs, the earliest first, or one for each hundred of their subjects.

        `unfiltered` asks for all subjects that there are.
        """
        first, end = needs[0], max(need.end for need in needs)
        subjects = tuple(_subjects(needs))
        whole = Query(first.meter, first.filter, first.start, end, None, first.grouping, window)
        answering: dict[str, Query] = {}
        for query in [whole] if unfiltered else _by_hundreds(whole, subjects):
            self.queries.append(query)
            answering |= dict.fromkeys(subjects if query.subjects is None else query.subjects, query)
        self._answering |= dict.fromkeys((need.item for need in needs), answering)

    def _values(
        self, need: Need, answers: Mapping[Query, Mapping[str, _Value | Unanswered] | Unanswered]
    ) -> list[_Value] | Unanswered:
        """Return what was answered for those of a need's subjects that have a row, or that one has no answer."""
        values = []
        for subject in need.subjects:
            answer = answers[self._answering[need.item][subject]]
            value = answer if isinstance(answer, Unanswered) else answer.get(subject)
            if isinstance(value, Unanswered):
                return value
            if value is not None:
                values.append(value)
        return values


class QueryPlan(_Plan):
    """The queries to send for needs of one total each; a need's window is of no account."""

    def __init__(self, needs: Sequence[Need]) -> None:
        """Plan the queries: needs with equal meter, filter and span share them."""
        super().__init__()
        self._needs = needs
        for alike in _grouped(needs, lambda need: (need.meter, need.filter, need.start, need.end, need.grouping)):
            self._share(alike, None, unfiltered=_is_cheaper_unfiltered(alike))

    def usages(self, answers: Mapping[Query, Answer]) -> dict[str, Decimal | Unanswered]:
        """Given the answer of each query, return the usage of each item.

        A subject without a row in a complete answer has used nothing; a query without a complete answer leaves
        every item that needs it unanswered.
        """
        return {item: Decimal(0) if total is None else total for item, total in self.totals(answers).items()}

    def totals(self, answers: Mapping[Query, Answer]) -> dict[str, Decimal | Unanswered | None]:
        """Return the same, but None for an item of which there was no event at all."""
        found = [(need, self._values(need, answers)) for need in self._needs]
        return {
            need.item: values if isinstance(values, Unanswered) else _combined_if_any(need.aggregation, values)
            for need, values in found
        }


class WindowQueryPlan(_Plan):
    """The queries to send for needs by the hour or day.

    Items of one meter share queries although each has its own start: whole windows of one query serve them all. Only
    what is left of a window at an item's own boundary is asked for by itself.
    """

    def __init__(self, needs: Sequence[Need]) -> None:
        """Plan the queries: needs with equal meter, filter and window share them."""
        super().__init__()
        latest = max((need.end for need in needs), default=None)
        self._splits = {need.item: _split(need, latest) for need in needs}
        self._left = QueryPlan([part for _, left in self._splits.values() for part in left])
        self.single_queries = self._left.queries
        """The queries for what is left of windows, whose answer is one value for each subject."""
        bodies = sorted((body for body, _ in self._splits.values() if body), key=lambda body: body.start)
        for alike in _grouped(bodies, lambda body: (body.meter, body.filter, body.window, body.grouping)):
            self._plan(alike)

    def _plan(self, needs: Sequence[Need]) -> None:
        """Plan for needs of one kind: all subjects at once where many start together, else a hundred at a time.

        Those that share a query are the ones that start at nearly the same time: it begins with the first of them.
        """
        window = _window(needs[0])
        sharing: list[Need] = []
        subjects: dict[str, None] = {}
        for together in _grouped(needs, lambda need: need.start):
            windows = max(need.end - need.start for need in together) // window.length + 1
            if _is_cheaper_unfiltered(together) and len(_subjects(together)) * windows <= ROWS_PER_QUERY:
                self._share(together, window, unfiltered=True)
                continue
            for need in together:
                if sharing and len(subjects | _subjects([need])) > SUBJECTS_PER_QUERY:
                    self._share(sharing, window, unfiltered=False)
                    sharing, subjects = [], {}
                sharing.append(need)
                subjects |= _subjects([need])
        if sharing:
            self._share(sharing, window, unfiltered=False)

    def usages(
        self, answers: Mapping[Query, WindowAnswer], single_answers: Mapping[Query, Answer]
    ) -> dict[str, Mapping[datetime, Decimal] | Unanswered]:
        """Given the answer of each query, return the usage of each item, by the start of each window.

        A window that is missing from a complete answer has used nothing.
        """
        of_parts = self._left.usages(single_answers)
        return {item: self._usage(*split, answers, of_parts) for item, split in self._splits.items()}

    def _usage(
        self,
        body: Need | None,
        left: Sequence[Need],
        answers: Mapping[Query, WindowAnswer],
        of_parts: Mapping[str, Decimal | Unanswered],
    ) -> Mapping[datetime, Decimal] | Unanswered:
        found: dict[datetime, Decimal] = {}
        for part in left:
            usage = of_parts[part.item]
            if isinstance(usage, Unanswered):
                return usage
            found[part.start] = usage
        if body is None:
            return found
        rows = self._values(body, answers)
        if isinstance(rows, Unanswered):
            return rows
        values: defaultdict[datetime, list[Decimal]] = defaultdict(list)
        for start, value in (row for of_subject in rows for row in of_subject.items()):
            if body.start <= start < body.end:
                values[start].append(value)
        return found | {start: combined(body.aggregation, of_window) for start, of_window in values.items()}


def combined(aggregation: Aggregation, values: Sequence[Decimal]) -> Decimal:
    """Given the values of an item's subjects that have any, return the item's usage.

    SUM and COUNT add, MIN and MAX combine by min and max. AVG, UNIQUE_COUNT and LATEST combine over nothing:
    for them there must be one value at the most, else ValueError. One value that is no finite number makes the
    whole none.
    """
    if not values:
        return Decimal(0)
    if len(values) == 1:
        return values[0]
    if not all(value.is_finite() for value in values):
        return Decimal("NaN")
    if not aggregation.combines_subjects:
        raise ValueError(f"{aggregation} of several subjects cannot be put together")
    if aggregation.adds_up:
        return sum(values, start=Decimal(0))
    return min(values) if aggregation is Aggregation.MIN else max(values)


def queries_for_all(kind: Query, subjects: tuple[str, ...]) -> list[Query]:
    """Given a query for all subjects, return those that tell the totals of these, if any: it alone where they are many.

    It is never alone for customers: OpenMeter tells these apart only where it is given their ids (server source).
    """
    are_many = len(subjects) > SUBJECTS_PER_QUERY * _CHUNKS_OF_ALL_BEFORE_UNFILTERED
    return [kind] if are_many and kind.grouping is Grouping.SUBJECT else _by_hundreds(kind, subjects)


def _by_hundreds(kind: Query, subjects: tuple[str, ...]) -> list[Query]:
    return [
        replace(kind, subjects=subjects[at : at + SUBJECTS_PER_QUERY])
        for at in range(0, len(subjects), SUBJECTS_PER_QUERY)
    ]


def _combined_if_any(aggregation: Aggregation, values: Sequence[Decimal]) -> Decimal | None:
    return combined(aggregation, values) if values else None


def _split(need: Need, latest: datetime | None) -> tuple[Need | None, list[Need]]:
    """Separate what whole windows of a shared query answer from what is left of the need's first and last window.

    The run's instant, the `latest` end of all, needs no care: a shared query ends there, and so does its last window.
    """
    window = _window(need)
    floor = window.floor(need.start)
    start = need.start if need.start == floor else floor + window.length
    end = need.end if need.end == latest else window.floor(need.end)
    body = replace(need, start=start, end=end) if start < end else None
    left = [(need.start, start), (end, need.end)]
    if body is None:
        # No window is whole: there is one part, or two where a boundary lies within it.
        left = [(part.start, part.end) for part in windows_between(need.start, need.end, window)]
    return body, [
        replace(need, item=f"{need.item} {int(since.timestamp())}", start=since, end=until, window=None)
        for since, until in left
        if since < until
    ]


def _window(need: Need) -> WindowSize:
    if need.window is None:
        raise ValueError(f"{need.item} needs no windows")
    return need.window


def _grouped(needs: Iterable[Need], kind: Callable[[Need], object]) -> list[list[Need]]:
    groups: defaultdict[object, list[Need]] = defaultdict(list)
    for need in needs:
        groups[kind(need)].append(need)
    return list(groups.values())


def _subjects(needs: Iterable[Need]) -> dict[str, None]:
    """Return the subjects of needs, each once, in order."""
    return dict.fromkeys(subject for need in needs for subject in need.subjects)


def _is_cheaper_unfiltered(needs: Sequence[Need]) -> bool:
    """Say whether one query without a filter for subjects is cheaper for equal needs than many that name them.

    OpenMeter tells customers apart only where it is given their ids (server source), so those are always named.
    """
    is_many = len(_subjects(needs)) > SUBJECTS_PER_QUERY * _CHUNKS_BEFORE_UNFILTERED
    return is_many and needs[0].grouping is Grouping.SUBJECT
