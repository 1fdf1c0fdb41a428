"""Whose second is it: each that somebody claims is billed with one item, or named with one."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import Period, WindowSize
from meter_sync.core.metering.mapping import Filter
from meter_sync.core.ownership import Bills, Claim, MeteredUsage, Share, shares

from .builders import HOUR, SECOND, START, few, many

USAGE = MeteredUsage("requests", (), ("a",))
TAKEN = (Bills.TAKES, Bills.FINAL)


def claim(name: str = "si_1", first: int = 0, last: int = 10, **details: Any) -> Claim:
    """Claim seconds after the start; by default of the usage and the billing meter that all others claim too."""
    start, end = START + first * SECOND, START + last * SECOND
    usual = Claim((name, start), "cus_1", "mtr_1", USAGE, Period(start, end), created=start)
    return replace(usual, **details)


def seconds(stretches: tuple[Period, ...]) -> list[int]:
    """Return the seconds after the start that stretches have."""
    ranges = ((one.start - START, one.end - START) for one in stretches)
    return [second for start, end in ranges for second in range(start // SECOND, end // SECOND)]


def shared(*claims: Claim) -> list[Share]:
    """Return the share of each claim, whatever the order in which they are told."""
    found = shares(claims)
    assert shares(reversed(claims)) == found
    return [found[one.key] for one in claims]


def billed_of(*claims: Claim) -> list[list[int]]:
    return [seconds(share.billed) for share in shared(*claims)]


def own_of(*claims: Claim) -> list[list[int]]:
    return [sorted(seconds((*share.billed, *share.held))) for share in shared(*claims)]


def held_of(*claims: Claim) -> list[list[int]]:
    return [seconds(share.held) for share in shared(*claims)]


# -- what is one's own ------------------------------------------------------------------------------


def test_what_lies_in_one_period_alone_is_billed_with_it() -> None:
    assert billed_of(claim()) == [list(range(10))]
    assert billed_of(claim("si_1", 0, 5), claim("si_2", 5, 10)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_what_lies_in_two_is_named_with_the_one_that_ends_first() -> None:
    a, b = claim("si_1", 0, 8), claim("si_2", 5, 12)
    assert billed_of(a, b) == [[0, 1, 2, 3, 4], [8, 9, 10, 11]]
    assert held_of(a, b) == [[5, 6, 7], []]
    assert [share.is_contested for share in shared(a, b)] == [True, True]


@pytest.mark.parametrize("bills", [Bills.FREE, Bills.NOTHING])
def test_a_trial_and_what_ended_without_an_invoice_take_nothing(bills: Bills) -> None:
    a, b = claim("si_1", 0, 8, bills=bills), claim("si_2", 5, 12)
    assert own_of(a, b) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11]]
    assert billed_of(a, b)[1] == [5, 6, 7, 8, 9, 10, 11]
    assert not any(share.is_contested for share in shared(a, b))


def test_of_what_nobody_bills_it_is_named_with_one() -> None:
    a, b = claim("si_1", 0, 8, bills=Bills.NOTHING), claim("si_2", 5, 12, bills=Bills.NOTHING)
    assert held_of(a, b) == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11]]


def test_what_was_its_own_when_stripe_took_no_more_stays_so() -> None:
    settled = (Period(START, START + 3 * SECOND), Period(START + 6 * SECOND, START + 7 * SECOND))
    for bills in (*TAKEN, Bills.NOTHING):
        a, b = claim("si_1", 0, 8, bills=bills, settled=settled), claim("si_2", 2, 12)
        assert own_of(a, b) == [[0, 1, 2, 6], [3, 4, 5, 7, 8, 9, 10, 11]]
        assert own_of(replace(a, settled=()), b) == [[], list(range(2, 12))]
    assert own_of(claim("si_1", 0, 8, settled=settled)) == [[0, 1, 2, 6]]


def test_two_trials_leave_each_other_alone() -> None:
    both = claim("si_1", bills=Bills.FREE), claim("si_2", bills=Bills.FREE)
    assert billed_of(*both) == [list(range(10))] * 2


def test_when_one_is_gone_and_takes_no_more_the_other_bills_what_lay_in_both() -> None:
    b = claim("si_2", 5, 12)
    for bills, goes_on, expected in (
        (Bills.TAKES, False, [8, 9, 10, 11]),
        (Bills.FINAL, True, [8, 9, 10, 11]),
        (Bills.FINAL, False, [5, 6, 7, 8, 9, 10, 11]),
    ):
        a = claim("si_1", 0, 8, bills=bills, goes_on=goes_on)
        assert billed_of(a, b) == [[0, 1, 2, 3, 4], expected]


def test_what_was_reported_before_the_other_was_there_stays_where_it_is() -> None:
    a, b = claim("si_1", 0, 8, reported=(Period(START, START + 6 * SECOND),)), claim("si_2", 2, 12)
    assert billed_of(a, b) == [[0, 1, 2, 3, 4, 5], [8, 9, 10, 11]]
    gone = replace(a, bills=Bills.FINAL, goes_on=False)
    assert billed_of(gone, b) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_the_owner_bills_what_lies_in_both_unless_stripe_would_bill_it_twice() -> None:
    a = claim("si_1", 0, 8, stripe_meter=None)
    b = claim("si_2", 5, 12, stripe_meter=None, is_owner=True)
    assert billed_of(a, b) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11]]
    on_meter = replace(a, stripe_meter="mtr_1"), replace(b, stripe_meter="mtr_1")
    assert billed_of(*on_meter) == [[0, 1, 2, 3, 4], [8, 9, 10, 11]]


def test_on_one_billing_meter_items_with_other_usage_are_rivals_too() -> None:
    a = claim("si_1", 0, 8)
    for usage in (MeteredUsage("tokens", (), ("a",)), None):
        b = claim("si_2", 5, 12, usage=usage)
        assert held_of(a, b) == [[5, 6, 7], [5, 6, 7]]
        assert shared(a, b)[0].is_by_meter


@pytest.mark.parametrize(
    "other",
    [
        {"customer": "cus_2", "usage": MeteredUsage("requests", (), ("b",))},
        {"stripe_meter": None, "usage": MeteredUsage("tokens", (), ("a",))},
        {"stripe_meter": None, "is_shared": True},
        {"stripe_meter": "mtr_2", "usage": None},
    ],
)
def test_items_that_have_nothing_in_common_are_no_rivals(other: dict[str, Any]) -> None:
    assert billed_of(claim("si_1"), claim("si_2", **other)) == [list(range(10))] * 2


def test_so_many_rivals_that_nobody_means_it_are_all_held() -> None:
    crowd = [claim(f"si_{number}", 0, 10 + number) for number in range(250)]
    assert all(share.held and not share.billed and share.is_contested for share in shared(*crowd))
    assert billed_of(replace(crowd[0], settled=()), *crowd[1:])[0] == []
    assert held_of(replace(crowd[0], settled=()), *crowd[1:])[0] == []


# -- windows ----------------------------------------------------------------------------------------


def hourly(name: str, first_minute: int, last_minute: int, **details: Any) -> Claim:
    start, end = START.replace(minute=0, second=0), START.replace(minute=0, second=0)
    period = Period(start + timedelta(minutes=first_minute), end + timedelta(minutes=last_minute))
    return replace(claim(name), key=(name, period.start), period=period, window=WindowSize.HOUR, **details)


def minutes(*stretches: Period | None) -> list[tuple[int, int]]:
    first = START.replace(minute=0, second=0)
    minute = timedelta(minutes=1)
    return [((one.start - first) // minute, (one.end - first) // minute) for one in stretches if one]


def test_the_window_in_which_one_ends_for_good_goes_to_the_one_that_begins_in_it() -> None:
    a, b = hourly("si_1", 0, 80, goes_on=False, is_invoiced=True), hourly("si_2", 90, 600)
    one, other = shared(a, b)
    assert (minutes(*one.billed), minutes(*other.billed)) == ([(0, 60)], [(90, 600)])
    assert minutes(other.before) == [(60, 80)]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"goes_on": True}, {}),
        ({"is_invoiced": False}, {}),
        ({"bills": Bills.NOTHING}, {}),
        ({"window": None}, {}),
        ({"is_cut": True}, {}),
        ({}, {"bills": Bills.FREE}),
        ({}, {"is_turn": False}),
        ({}, {"customer": "cus_2"}),
        ({}, {"usage": MeteredUsage("tokens", (), ("a",))}),
        ({}, {"period": Period(START + 3 * HOUR, START + 9 * HOUR)}),
    ],
)
def test_in_no_other_case_does_it(a: dict[str, Any], b: dict[str, Any]) -> None:
    one = replace(hourly("si_1", 0, 80, goes_on=False, is_invoiced=True), **a)
    other = replace(hourly("si_2", 90, 600), **b)
    before, after = shared(one, other)
    assert (minutes(*before.billed, *before.held), after.before) == ([(0, 80)], None)


def test_once_it_went_there_it_stays_there() -> None:
    a = hourly("si_1", 0, 80, goes_on=False, bills=Bills.FINAL)
    a = replace(a, settled=(Period(a.period.start, a.period.start + HOUR),))
    _, other = shared(a, hourly("si_2", 90, 600, bills=Bills.NOTHING))
    assert minutes(other.before) == [(60, 80)]
    _, other = shared(replace(a, settled=(a.period,)), hourly("si_2", 90, 600))
    assert other.before is None


def test_a_window_that_is_on_anothers_invoice_too_is_not_billed() -> None:
    one, other = shared(hourly("si_1", 0, 600), hourly("si_2", 90, 700))
    assert minutes(*one.billed) == [(0, 60)]
    assert minutes(*one.held) == [(60, 600)]
    assert minutes(*other.billed) == [(600, 700)]


# -- each second once -------------------------------------------------------------------------------

MODELS, SUBJECTS = ("gpt", "opus"), ("a", "b")
FILTERS: tuple[Filter, ...] = ((), (("model", ("gpt",)),), (("model", ("opus",)),))

claims_of_any_kind = st.lists(
    st.builds(
        lambda first, length, **details: (first, first + length, details),
        st.integers(0, 8),
        st.integers(1, 6),
        customer=st.sampled_from(("cus_1", "cus_2")),
        stripe_meter=st.sampled_from((None, "mtr_1", "mtr_2")),
        usage=st.builds(
            MeteredUsage, st.just("requests"), st.sampled_from(FILTERS), st.sampled_from((("a",), ("b",), ("a", "b")))
        ),
        bills=st.sampled_from(Bills),
        goes_on=st.booleans(),
        is_owner=st.booleans(),
        reported=st.lists(st.tuples(st.integers(0, 13), st.integers(1, 4)), max_size=2).map(
            lambda found: tuple(
                Period(START + first * SECOND, START + (first + length) * SECOND) for first, length in found
            )
        ),
    ),
    max_size=6,
)


Drawn = list[tuple[int, int, dict[str, Any]]]


def made(found: Drawn) -> list[Claim]:
    return [claim(f"si_{number}", first, last, **details) for number, (first, last, details) in enumerate(found)]


@dataclass(frozen=True)
class Event:
    """Something that was used in one second."""

    subject: str
    model: str
    second: int

    def is_claimed(self, by: Claim) -> bool:
        assert by.usage
        admitted = dict(by.usage.filter).get("model", MODELS)
        inside = by.period.start <= START + self.second * SECOND < by.period.end
        return inside and self.subject in by.usage.subjects and self.model in admitted


EVENTS = [Event(*one) for one in product(SUBJECTS, MODELS, range(14))]


def times_of(event: Event, claims: list[Claim], *, of_billed: bool = False) -> int:
    """Return in how many shares of items that are paid for an event is: in what they bill, or are named with too."""
    found = shares(claims)
    times = 0
    for one in claims:
        if one.bills is Bills.FREE or not event.is_claimed(one):
            continue
        share = found[one.key]
        times += event.second in seconds(share.billed if of_billed else (*share.billed, *share.held))
    return times


@few
@given(claims_of_any_kind)
def test_every_second_that_is_claimed_and_not_free_is_billed_or_named(
    drawn: Drawn,
) -> None:
    claims = made(drawn)
    for event in EVENTS:
        by = [one for one in claims if event.is_claimed(one)]
        if by and all(one.bills is not Bills.FREE for one in by):
            assert times_of(event, claims) >= 1


@few
@given(claims_of_any_kind)
def test_no_second_is_billed_twice(drawn: Drawn) -> None:
    claims = made(drawn)
    for event in EVENTS:
        assert times_of(event, [one for one in claims if one.bills in TAKEN], of_billed=True) <= 1


@many
@given(claims_of_any_kind)
def test_where_usages_are_the_same_or_apart_no_second_is_in_two_shares(
    drawn: Drawn,
) -> None:
    by_subject = (MeteredUsage("requests", (), ("a",)), MeteredUsage("requests", (), ("b",)))
    claims = [replace(one, usage=by_subject[number % 2]) for number, one in enumerate(made(drawn))]
    times = Counter(times_of(event, claims) for event in EVENTS)
    assert times.keys() <= {0, 1}


@many
@given(claims_of_any_kind)
def test_stretches_are_in_order_and_inside_the_period(drawn: Drawn) -> None:
    claims = made(drawn)
    for one, share in zip(claims, shared(*claims), strict=True):
        for stretches in (share.billed, share.held):
            assert list(stretches) == sorted(stretches, key=lambda each: each.start)
            assert set(seconds(stretches)) <= set(seconds((one.period,)))
        assert not set(seconds(share.billed)) & set(seconds(share.held))
        assert len(seconds(share.billed)) == len(set(seconds(share.billed)))
