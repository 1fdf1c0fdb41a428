"""What is implausible is held before it changes a bill: falls, jumps, dead meters, too much that was held."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import Period
from meter_sync.core.metering.meter import Aggregation
from meter_sync.core.outcomes import LIFTABLE, Outcome, Reason
from meter_sync.core.planning.brakes import Thresholds, check, check_each, decrease, jump, postponable
from meter_sync.core.planning.memory import PastPeriod
from meter_sync.core.planning.results import failed, held, result, shown, skipped, unchanged
from meter_sync.core.planning.sends import SendNothing
from meter_sync.core.planning.stages import Findings, Metered, Planned, Result

from .builders import END, FIRST_LOOK, HOUR, START, make_item, make_meter, make_metered, make_planned, make_write, many

NEVER_FALL = [Aggregation.SUM, Aggregation.COUNT, Aggregation.UNIQUE_COUNT, Aggregation.MAX]
GAUGES = [Aggregation.LATEST, Aggregation.AVG, Aggregation.MIN]
NO_TOLERANCE = Thresholds()


def falling(before: int | None, quantity: int, aggregation: Aggregation = Aggregation.SUM) -> Planned:
    metered = make_metered(meter=make_meter("requests", aggregation))
    return make_planned(quantity, metered=metered, highest_before=before)


def said(one: Planned | Result, reason: Reason) -> str:
    """Return the words for an item that was held for this reason."""
    assert isinstance(one, Result)
    assert (one.outcome, one.reason) == (Outcome.HELD, reason)
    assert one.message
    return one.message


@pytest.mark.parametrize("aggregation", NEVER_FALL)
def test_a_running_total_that_fell_by_one_is_held(aggregation: Aggregation) -> None:
    (one,) = check_each([falling(100, 99, aggregation)], NO_TOLERANCE, ())
    message = said(one, Reason.DECREASE)
    assert "from 100 to 99" in message
    assert "--allow decrease" in message


@pytest.mark.parametrize("aggregation", GAUGES)
def test_a_gauge_may_fall_even_to_zero(aggregation: Aggregation) -> None:
    planned = falling(100, 0, aggregation)
    assert check_each([planned], NO_TOLERANCE, ()) == [planned]


@pytest.mark.parametrize("aggregation", NEVER_FALL)
@pytest.mark.parametrize("quantity", [100, 101, 10**15])
def test_a_total_that_stayed_or_grew_is_written(aggregation: Aggregation, quantity: int) -> None:
    planned = falling(100, quantity, aggregation)
    assert check_each([planned], NO_TOLERANCE, ()) == [planned]


@pytest.mark.parametrize("before", [None, 0])
def test_where_stripe_holds_nothing_nothing_can_fall(before: int | None) -> None:
    assert decrease(falling(before, 0), NO_TOLERANCE) is None


def test_the_whole_bill_falling_to_zero_is_held() -> None:
    (one,) = check_each([falling(2**53, 0)], NO_TOLERANCE, ())
    assert "(-100.0 %)" in said(one, Reason.DECREASE)


def test_one_unit_of_the_largest_quantity_is_still_a_fall() -> None:
    assert decrease(falling(2**53, 2**53 - 1), NO_TOLERANCE)


@pytest.mark.parametrize(
    ("percent", "quantity", "held"),
    [("10", 90, False), ("10", 89, True), ("9.99", 90, True), ("100", 0, False), ("0", 100, False)],
)
def test_a_fall_of_exactly_the_percentage_passes_and_one_beyond_it_is_held(
    percent: str, quantity: int, held: bool
) -> None:
    thresholds = Thresholds(decrease_percent=Decimal(percent))
    assert (decrease(falling(100, quantity), thresholds) is not None) == held


@many
@given(st.integers(1, 2**53), st.integers(0, 2**53), st.integers(0, 1000))
def test_the_percentage_is_of_what_stripe_holds(before: int, quantity: int, permille: int) -> None:
    thresholds = Thresholds(decrease_percent=Decimal(permille) / 10)
    beyond = Fraction(before - quantity, before) > Fraction(permille, 1000)
    assert (decrease(falling(before, quantity), thresholds) is not None) == beyond


@pytest.mark.parametrize(("units", "held"), [(9, True), (10, False), (11, False)])
def test_a_fall_of_so_many_units_passes_whatever_its_percentage(units: int, held: bool) -> None:
    assert (decrease(falling(20, 10), Thresholds(decrease_units=units)) is not None) == held


def past(*quantities: int, days: int = 30) -> tuple[PastPeriod, ...]:
    """Return earlier periods of the item, the newest first."""
    ends = [START - timedelta(days=days * number) for number in range(len(quantities))]
    return tuple(
        PastPeriod(Period(end - timedelta(days=days), end), quantity)
        for end, quantity in zip(ends, quantities, strict=True)
    )


def jumping(quantity: int, *quantities: int, days: int = 30, highest_before: int | None = None) -> Planned:
    metered = replace(make_metered(), past=past(*quantities, days=days))
    return make_planned(quantity, metered=metered, highest_before=highest_before)


@pytest.mark.parametrize(("quantity", "held"), [(2000, False), (20_000, False), (20_001, True)])
def test_more_than_ten_times_the_largest_of_the_last_periods_is_held(quantity: int, held: bool) -> None:
    assert (jump(jumping(quantity, 500, 2000, 1000), NO_TOLERANCE) is not None) == held


@pytest.mark.parametrize(("quantity", "held"), [(1010, False), (1011, True)])
def test_a_jump_of_few_units_is_none(quantity: int, held: bool) -> None:
    assert (jump(jumping(quantity, 10), NO_TOLERANCE) is not None) == held


def test_a_shorter_period_counts_as_if_it_had_been_as_long() -> None:
    assert jump(jumping(29_999, 1000, days=10), NO_TOLERANCE) is None
    assert jump(jumping(30_001, 1000, days=10), NO_TOLERANCE)


def test_without_usage_in_earlier_periods_nothing_is_a_jump() -> None:
    assert jump(jumping(10**9), NO_TOLERANCE) is None
    assert jump(jumping(10**9, 0, 0), NO_TOLERANCE) is None


def test_what_was_let_pass_once_is_no_jump_any_more() -> None:
    assert jump(jumping(60_000, 1000, highest_before=50_000), NO_TOLERANCE) is None


def test_what_is_not_sent_is_no_jump() -> None:
    """A quantity of a period that Stripe has closed is named, not written."""
    planned = jumping(60_000, 1000)
    assert jump(replace(planned, write=replace(planned.write, sends=SendNothing())), NO_TOLERANCE) is None


LATE = START + (END - START) / 2


def with_past(item: str, before: int = 5, meter: str = "requests", *, report: bool = True) -> Metered:
    """Return an item with a quantity in its last period; `report` is what its row says of it."""
    metered = make_metered(make_item(item), meter=make_meter(meter))
    return replace(metered, row=replace(metered.row, report=report), past=past(before))


def silent(item: str, usage: int = 0, before: int = 5, meter: str = "requests", *, report: bool = True) -> Result:
    return unchanged(make_planned(usage, metered=with_past(item, before, meter, report=report)).write)


def whole(
    plan: Sequence[Planned | Result], *allowed: Reason, as_of: datetime = LATE, **thresholds: int
) -> list[Reason | None]:
    limits = Thresholds(**thresholds)  # type: ignore[arg-type]
    return [result(one).reason for one in check(plan, (), limits, allowed, is_everything=True, all_open_at=as_of)]


def test_a_meter_of_which_no_item_shows_usage_is_held() -> None:
    zero = make_planned(0, metered=with_past("si_2"))
    others = silent("si_3", usage=4, meter="tokens")
    assert whole([silent("si_1"), zero, others]) == [Reason.ALL_ZERO, Reason.ALL_ZERO, None]


def test_it_is_not_where_one_item_shows_usage_or_it_cannot_be_told() -> None:
    unanswered = failed(silent("si_2").found, Reason.OPENMETER_ERROR, "")
    assert whole([silent("si_1"), silent("si_2", usage=1)]) == [None, None]
    assert whole([silent("si_1"), unanswered]) == [None, Reason.OPENMETER_ERROR]


def test_nor_early_in_the_period_nor_without_usage_in_the_last_one() -> None:
    assert whole([silent("si_1")], as_of=START + HOUR) == [None]
    assert whole([silent("si_1", before=0)]) == [None]


def test_nor_for_fewer_items_than_are_to_be_noticed_nor_when_it_is_allowed() -> None:
    assert whole([silent("si_1")], all_zero_items=2) == [None]
    assert whole([silent("si_1")], Reason.ALL_ZERO) == [None]


def test_what_is_only_shown_neither_shows_that_a_meter_lives_nor_counts_as_held() -> None:
    planned = make_planned(4, metered=with_past("si_2", report=False))
    assert whole([silent("si_1"), shown(planned.write)]) == [Reason.ALL_ZERO, None]
    many_shown = [silent(f"si_s{number}", usage=1, report=False) for number in range(30)]
    assert whole([*held_items(10), *writes(1), *many_shown])[10] is Reason.TOO_MANY_HELD


def found_of(item: str) -> Findings:
    return make_metered(make_item(item)).found


def held_items(count: int) -> list[Planned | Result]:
    return [held(found_of(f"si_h{number}"), Reason.DECREASE, "") for number in range(count)]


def writes(count: int) -> list[Planned | Result]:
    return [make_planned(1, metered=make_metered(make_item(f"si_w{number}"))) for number in range(count)]


def test_nothing_of_a_meter_is_written_where_too_much_of_it_is_held() -> None:
    assert whole([*held_items(10), *writes(9)])[10:] == [Reason.TOO_MANY_HELD] * 9
    assert whole([*held_items(9), *writes(8)])[9:] == [None] * 8
    assert whole([*held_items(10), *writes(10)])[10:] == [None] * 10


def test_what_could_not_be_asked_for_says_nothing_of_what_was() -> None:
    unanswered = [failed(found_of(f"si_f{number}"), Reason.OPENMETER_ERROR, "") for number in range(30)]
    assert whole([*unanswered, *writes(5)])[30:] == [None] * 5
    assert whole([*held_items(9), *unanswered, *writes(5)])[39:] == [None] * 5


def of_meter(slug: str, one: str) -> Planned:
    return make_planned(1, metered=make_metered(make_item(one), meter=make_meter(slug)))


def test_a_meter_stops_no_other_one_unless_both_are_small() -> None:
    others = [of_meter("other", f"si_o{number}") for number in range(3)]
    assert whole([*held_items(10), *writes(1), *others])[10:] == [Reason.TOO_MANY_HELD, None, None, None]
    small = [held(of_meter(f"m{number}", f"si_s{number}").found, Reason.DECREASE, "") for number in range(10)]
    assert whole([*small, *others])[10:] == [Reason.TOO_MANY_HELD] * 3


def test_a_period_of_which_nothing_is_sent_is_not_stopped() -> None:
    closed = make_planned(1, metered=make_metered(make_item("si_c"), intake=Intake.CLOSED))
    closed = replace(closed, write=replace(closed.write, intake=Intake.CLOSED))
    assert whole([*held_items(10), closed])[10:] == [None]


def test_few_items_of_a_small_account_are_not_too_many() -> None:
    assert whole([*held_items(9), *writes(1)])[9:] == [None]
    assert whole([*held_items(9), *writes(1)], held_items=9)[9:] == [Reason.TOO_MANY_HELD]


@st.composite
def plans(draw: st.DrawFn) -> list[Planned | Result]:
    """Return items of a few meters: held, as they were, to be written, or to be looked at first."""
    found: list[Planned | Result] = []
    for number in range(draw(st.integers(0, 24))):
        slug = draw(st.sampled_from(["large", "large", "large", "small", "other"]))
        metered = with_past(f"si_{number}", draw(st.integers(0, 1)), slug)
        planned = make_planned(draw(st.integers(0, 2)), metered=metered)
        kind = draw(st.sampled_from(["held", "unchanged", "written", "looked at", "looked at"]))
        if kind == "held":
            found.append(held(planned.found, Reason.DECREASE, ""))
        elif kind == "unchanged":
            found.append(unchanged(planned.write))
        else:
            found.append(replace(planned, look=FIRST_LOOK) if kind == "looked at" else planned)
    return found


@many
@given(plans(), st.integers(1, 6), st.integers(0, 100), st.randoms())
def test_whatever_a_postponed_look_finds_the_others_are_as_they_would_be(
    plan: list[Planned | Result], held_items: int, held_percent: int, random: Random
) -> None:
    thresholds = Thresholds(held_items=held_items, held_percent=Decimal(held_percent), all_zero_items=1)
    postponed = {one.item.id for one in postponable(plan, thresholds, ())}

    def looked(one: Planned | Result, *, is_held: bool) -> Planned | Result:
        if not isinstance(one, Planned):
            return one
        return held(one.found, Reason.FOREIGN_USAGE, "") if is_held else replace(one, look=None)

    def decided(plan: Sequence[Planned | Result]) -> dict[str, Reason | None]:
        checked = check(plan, (), thresholds, (), is_everything=True, all_open_at=LATE)
        return {one.item.id: result(one).reason for one in checked}

    first = [looked(one, is_held=one.item.id in postponed) for one in plan]
    found = [looked(one, is_held=one.item.id in postponed and random.random() < 0.5) for one in plan]
    before, in_the_end = decided(first), decided(found)
    assert {id: before[id] for id in before if id not in postponed} == {
        id: in_the_end[id] for id in before if id not in postponed
    }
    assert Reason.TOO_MANY_HELD not in {in_the_end[id] for id in postponed} or postponed == set()


def test_a_few_looks_wait_and_where_most_of_a_meter_is_looked_at_so_does_a_part() -> None:
    looks = [replace(one, look=FIRST_LOOK) for one in writes(40) if isinstance(one, Planned)]
    assert len(postponable(looks[:9], Thresholds(), ())) == 9
    assert 10 <= len(postponable(looks, Thresholds(), ())) <= 20
    assert not postponable([*held_items(10), *looks[:5]], Thresholds(), ())


def test_it_is_lifted_by_its_own_reason() -> None:
    assert whole([*held_items(10), *writes(1)], Reason.TOO_MANY_HELD)[10:] == [None]


def test_the_brake_is_lifted_by_its_own_reason_and_by_no_other() -> None:
    planned = falling(100, 10)
    assert check_each([planned], NO_TOLERANCE, {Reason.DECREASE}) == [planned]
    others = set(LIFTABLE) - {Reason.DECREASE}
    assert said(check_each([planned], NO_TOLERANCE, others)[0], Reason.DECREASE)


def test_only_writes_are_checked_and_one_held_write_holds_no_other() -> None:
    found = make_metered().found
    others: list[Planned | Result] = [
        unchanged(make_write()),
        held(found, Reason.DUPLICATE_USAGE, ""),
        skipped(found, Reason.IGNORED, ""),
        failed(found, Reason.OPENMETER_ERROR, ""),
    ]
    grown = falling(100, 200)
    checked = check_each([*others, falling(100, 50), grown], NO_TOLERANCE, ())
    assert checked[:4] == others
    assert said(checked[4], Reason.DECREASE)
    assert checked[5] is grown
