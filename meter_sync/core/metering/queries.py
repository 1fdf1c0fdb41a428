"""Asking for usage in as few queries as possible, and putting the answers together.

Pure planning: from what each item needs to the queries to send, and from their answers to each item's usage.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from itertools import islice

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.metering.mapping import Filter
from meter_sync.core.metering.meter import Aggregation

SUBJECTS_PER_QUERY = 100
"""The most subjects that OpenMeter takes in one POST (server source)."""

_CHUNKS_BEFORE_UNFILTERED = 10
"""Beyond so many chunks one unfiltered query is cheaper: 1.35 s for 50,000 subjects (measured)."""


def _added(values: Sequence[Decimal]) -> Decimal:
    return sum(values, start=Decimal(0))


_COMBINE: dict[Aggregation, Callable[[Sequence[Decimal]], Decimal]] = {
    Aggregation.SUM: _added,
    Aggregation.COUNT: _added,
    Aggregation.MIN: min,
    Aggregation.MAX: max,
}


class Grouping(StrEnum):
    """Whose usage a query tells apart: the value is OpenMeter's name for it."""

    SUBJECT = "subject"
    CUSTOMER = "customer_id"


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


@dataclass(frozen=True, slots=True)
class Unanswered:
    """There is no complete answer: not zero usage, but none known. The message says why."""

    message: str


Answer = Mapping[str, Decimal | Unanswered] | Unanswered
"""The value of each subject that has a row, or that there is no answer, for all or for a single one."""


class QueryPlan:
    """The queries to send, and which of them answers for which subject."""

    def __init__(self, needs: Sequence[Need]) -> None:
        """Plan the queries: needs with equal meter, filter and span share them."""
        self._needs = needs
        self._answering: dict[tuple[tuple[object, ...], str], Query] = {}
        self.queries: list[Query] = []
        for group in _grouped(needs):
            self._plan_group(group)

    def _plan_group(self, group: Sequence[Need]) -> None:
        wanted = list(dict.fromkeys(subject for need in group for subject in need.subjects))
        first = group[0]
        for chunk in chunks(wanted, first.grouping):
            query = Query(first.meter, first.filter, first.start, first.end, chunk, first.grouping)
            self.queries.append(query)
            for subject in wanted if chunk is None else chunk:
                self._answering[_span_key(first), subject] = query

    def usages(self, answers: Mapping[Query, Answer]) -> dict[str, Decimal | Unanswered]:
        """Given the answer of each query, return the usage of each item.

        A subject without a row in a complete answer has used nothing; a query without a complete answer leaves
        every item that needs it unanswered.
        """
        return {need.item: self._usage(need, answers) for need in self._needs}

    def _usage(self, need: Need, answers: Mapping[Query, Answer]) -> Decimal | Unanswered:
        values: list[Decimal] = []
        for subject in need.subjects:
            answer = answers[self._answering[_span_key(need), subject]]
            if isinstance(answer, Unanswered):
                return answer
            value = answer.get(subject)
            if isinstance(value, Unanswered):
                return value
            if value is not None:
                values.append(value)
        return combined(need.aggregation, values)


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
    return _COMBINE[aggregation](values)


def _span_key(need: Need) -> tuple[object, ...]:
    return (need.meter, need.filter, need.start, need.end, need.grouping)


def _grouped(needs: Iterable[Need]) -> list[list[Need]]:
    groups: dict[tuple[object, ...], list[Need]] = {}
    for need in needs:
        groups.setdefault(_span_key(need), []).append(need)
    return list(groups.values())


def chunks(subjects: Sequence[str], grouping: Grouping) -> list[tuple[str, ...] | None]:
    """Given the subjects of equal needs, return those of each query; None asks for all that there are.

    OpenMeter tells customers apart only where it is given their ids (server source), so those are always named.
    """
    if grouping is Grouping.SUBJECT and len(subjects) > SUBJECTS_PER_QUERY * _CHUNKS_BEFORE_UNFILTERED:
        return [None]
    remaining = iter(subjects)
    return list(iter(lambda: tuple(islice(remaining, SUBJECTS_PER_QUERY)), ()))
