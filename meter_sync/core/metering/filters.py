"""Which filters may admit the same usage."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from meter_sync.core.metering.mapping import Filter

_Left = tuple[Filter, Mapping[str, Sequence[str]]]
"""A filter, and what it admits of the dimensions that were not gone into yet."""


def overlapping(filters: Iterable[Filter]) -> Iterator[tuple[Filter, Filter]]:
    """Yield pairs of filters that may admit the same usage: all that hang together do so through these.

    A customer may have thousands, each of another value. So only those are looked at together that share a value of
    the dimension that most of them have, and with them those that have not that dimension.
    """
    return _overlapping([(one, dict(one)) for one in sorted(filters)])


def _overlapping(several: Sequence[_Left]) -> Iterator[tuple[Filter, Filter]]:
    """Yield such pairs of filters that nothing keeps apart of what was gone into."""
    free = next((one for one, left in several if not left), None)
    if free is not None:  # nothing keeps any of the others apart from it
        yield from ((free, other) for other, _ in several if other is not free)
        return
    buckets = _by_value(several) if len(several) > 1 else []
    # Filters of many values would be looked at once for each.
    if sum(len(some) ** 2 for some in buckets) >= len(several) ** 2:
        yield from _pairs(several)
        return
    for some in buckets:
        yield from _overlapping(some)


def _by_value(several: Sequence[_Left]) -> list[list[_Left]]:
    """Return those together that share a value of the dimension that most have, or have not that dimension."""
    times = Counter(name for _, left in several for name in left)
    (dimension, _), *_ = times.most_common(1)
    by_value, without = defaultdict[str, list[_Left]](list), list[_Left]()
    for one, left in several:
        rest = {name: values for name, values in left.items() if name != dimension}
        if dimension not in left:
            without.append((one, rest))
        for value in left.get(dimension, ()):
            by_value[value].append((one, rest))
    return [[*some, *without] for some in by_value.values()]


def _pairs(several: Sequence[_Left]) -> Iterator[tuple[Filter, Filter]]:
    for place, (one, left) in enumerate(several):
        for other, admitted in several[place + 1 :]:
            if not are_apart(left, admitted):
                yield one, other


def are_apart(one: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]]) -> bool:
    """Say whether no usage is admitted by each of two filters, given the values that they admit of each dimension."""
    return any(name in other and set(values).isdisjoint(other[name]) for name, values in one.items())
