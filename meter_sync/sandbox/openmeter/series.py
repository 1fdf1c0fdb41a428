"""Events of one subject as a meter reads them, and what they aggregate to.

Sources: OpenMeter's OpenAPI document (Meter, MeterAggregation) and its server: times are floored to
whole seconds, values are numbers or strings that parse as numbers, and COUNT ignores the value.
"""

import math
import operator
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import reduce
from itertools import accumulate
from typing import Any, Literal, get_args

Aggregation = Literal["SUM", "COUNT", "UNIQUE_COUNT", "AVG", "MIN", "MAX", "LATEST"]
AGGREGATIONS: tuple[str, ...] = get_args(Aggregation)

Value = int | float | str

_PATH = re.compile(r"\$(\.[A-Za-z0-9_\-]+)+")
_LARGEST_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class Event:
    """An ingested event."""

    at: int
    """Whole Unix seconds, floored."""
    data: Mapping[str, Any]


def is_path(expression: str) -> bool:
    """Whether this is a JSONPath of the kind `$.a.b`, the only one modelled."""
    return _PATH.fullmatch(expression) is not None


def extract(data: Mapping[str, Any], path: str) -> Any:
    """Return what a path finds in an event's data, None if nothing."""
    found: Any = data
    for part in path.split(".")[1:]:
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _number(found: Any) -> int | float | None:
    if isinstance(found, bool) or found is None:
        return None
    if isinstance(found, str):
        try:
            found = int(found)
        except ValueError:
            try:
                found = float(found)
            except ValueError:
                return None
    return found if isinstance(found, int | float) and math.isfinite(found) else None


def value_of(event: Event, aggregation: str, path: str | None) -> Value | None:
    """Return the value that a meter sees in an event, None if the event does not count."""
    if aggregation == "COUNT":
        return 1
    found = extract(event.data, path or "$.value")
    if aggregation == "UNIQUE_COUNT":
        return None if found is None or isinstance(found, dict | list) else str(found)
    return _number(found)


def dimension_of(event: Event, path: str) -> str | None:
    """Return a group-by value as a string; an empty one is none."""
    found = extract(event.data, path)
    if found is None or found == "" or isinstance(found, dict | list):
        return None
    if isinstance(found, bool):
        return "true" if found else "false"
    return str(found)


class Series:
    """The values of one subject's events for one meter, in order of time."""

    def __init__(self, times: list[int], values: list[Value], dimensions: list[tuple[str | None, ...]]) -> None:
        self.times = times
        self.values = values
        self.dimensions = dimensions
        self._totals = _exact_totals(values)

    def between(self, start: int | None, end: int | None) -> tuple[int, int]:
        """Return the range of indexes with `start <= time < end`."""
        first = 0 if start is None else bisect_left(self.times, start)
        last = len(self.times) if end is None else bisect_left(self.times, end)
        return first, max(first, last)

    def total(self, first: int, last: int) -> float:
        """Return the sum of a range: by plain addition of doubles, or of whole numbers exactly."""
        if self._totals is not None:
            return float(self._totals[last] - self._totals[first])
        return plain_sum(self.values[first:last])


def plain_sum(values: Sequence[Value]) -> float:
    """Add doubles one after the other, and keep the noise of that: 0.30000000000000004.

    The built-in sum is not used: since Python 3.12 it compensates for that noise.
    """
    return float(reduce(operator.add, (float(value) for value in values), 0.0))


def _exact_totals(values: Sequence[Value]) -> list[int] | None:
    """Return running totals if all values are whole and a double holds every sum exactly."""
    if not all(isinstance(value, int) for value in values):
        return None
    whole = [int(value) for value in values]
    if sum(map(abs, whole)) > _LARGEST_EXACT:
        return None
    return list(accumulate(whole, initial=0))


def aggregate(aggregation: str, values: Sequence[Value]) -> float:
    """Return what values, at least one and in order of time, aggregate to."""
    if aggregation == "COUNT":
        return float(len(values))
    if aggregation == "UNIQUE_COUNT":
        return float(len(set(values)))
    if aggregation == "SUM":
        return plain_sum(values)
    numbers = [float(value) for value in values]
    if aggregation == "AVG":
        return plain_sum(numbers) / len(numbers)
    if aggregation == "MIN":
        return min(numbers)
    if aggregation == "MAX":
        return max(numbers)
    return numbers[-1]


def aggregate_exactly(aggregation: str, values: Sequence[Value]) -> Decimal:
    """Return the same in decimals, without noise; 0 for no values."""
    if aggregation in ("COUNT", "UNIQUE_COUNT"):
        return Decimal(len(values) if aggregation == "COUNT" else len(set(values)))
    numbers = [decimal_of(value) for value in values]
    if not numbers:
        return Decimal(0)
    total = sum(numbers, Decimal(0))
    results = {
        "SUM": total,
        "AVG": total / len(numbers),
        "MIN": min(numbers),
        "MAX": max(numbers),
        "LATEST": numbers[-1],
    }
    return results[aggregation]


def decimal_of(value: Value) -> Decimal:
    """Return the decimal that was written in the event: 0.1 is one tenth."""
    try:
        return Decimal(str(value))
    except InvalidOperation as error:
        raise ValueError(f"not a number: {value!r}") from error
