"""What decides on an account costs what the account is: twice the items take twice the steps, and not four times."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import Period, WindowSize
from meter_sync.core.metering.filters import overlapping
from meter_sync.core.metering.mapping import Filter
from meter_sync.core.ownership import Claim, MeteredUsage, shares
from tests.core.builders import LONG_AGO, START, many
from tests.support.growth import steps_of

_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)


def ended_on_one_meter(number: int) -> Claim:
    """One of the items that a customer had on one billing meter, each of which ended within its last hour."""
    period = Period(START + number * _MINUTE, START + number * _MINUTE + _DAY)
    usage = MeteredUsage("requests", (), ("cus_1",))
    return Claim(
        (f"si_{number}", period.start),
        "cus_1",
        "mtr_1",
        usage,
        period,
        LONG_AGO,
        goes_on=False,
        window=WindowSize.HOUR,
    )


def of_one_subject(number: int) -> Claim:
    """One of the items that bill a subject's usage, each that of another model."""
    usage = MeteredUsage("requests", (("model", (f"model_{number}",)), ("tier", ("paid",))), ("cus_1",))
    return Claim((f"si_{number}", START), "cus_1", None, usage, Period(START, START + _DAY), LONG_AGO)


@pytest.mark.parametrize("claim", [ended_on_one_meter, of_one_subject])
def test_who_bills_what_is_decided_without_comparing_all_with_all(claim: Callable[[int], Claim]) -> None:
    some, twice_as_many = ([claim(number) for number in range(how_many)] for how_many in (400, 800))
    assert steps_of(lambda: shares(twice_as_many)) < 2.5 * steps_of(lambda: shares(some))


_FILTERS = st.sets(
    st.dictionaries(st.sampled_from("abc"), st.sets(st.sampled_from("xyz"), min_size=1), max_size=3).map(
        lambda one: tuple((name, tuple(sorted(values))) for name, values in sorted(one.items()))
    ),
    max_size=12,
)


@many
@given(_FILTERS)
def test_the_same_filters_hang_together_as_if_all_were_compared_with_all(filters: set[Filter]) -> None:
    found = set(overlapping(filters))
    assert all(admit_the_same(one, other) for one, other in found)
    pairs = {(one, other) for one in filters for other in filters if admit_the_same(one, other)}
    assert together(filters, found) == together(filters, pairs)


def admit_the_same(one: Filter, other: Filter) -> bool:
    values = dict(other)
    return all(set(admitted) & set(values.get(name, admitted)) for name, admitted in one)


def together(filters: set[Filter], pairs: set[tuple[Filter, Filter]]) -> set[frozenset[Filter]]:
    groups = {one: frozenset([one]) for one in filters}
    for one, other in pairs:
        both = groups[one] | groups[other]
        groups |= dict.fromkeys(both, both)
    return set(groups.values())
