"""What is added to a period of what earlier ones do not bill, as a rule of arithmetic."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.metering.mapping import LateUsage, MappingRules, MeterRow
from meter_sync.core.planning.carrying import (
    LaterPeriods,
    becomes_of_late,
    carried_into,
    lives_on,
    named_before,
    offered,
    periods_of,
    total_of,
)
from meter_sync.core.planning.memory import Memory, Waiting
from meter_sync.core.planning.stages import Listed, Metered
from tests.core.builders import END, START, make_item, make_metered, make_price, many

MONTH = END - START
ONE = Decimal(1)


def waiting(*quantities: int, taken: int = 0) -> Memory:
    """Earlier periods, the oldest first, each with what of it waits."""
    starts = (START - place * MONTH for place in range(len(quantities), 0, -1))
    found = (Waiting(at, "price_1", ONE, quantity, taken) for at, quantity in zip(starts, quantities, strict=True))
    return Memory(waiting={"si_1": tuple(found)})


def in_intake(intake: Intake, *, goes_on: bool) -> Metered:
    return replace(make_metered(intake=intake), lives_on=goes_on)


quantities = st.lists(st.integers(-50, 50), max_size=5)


@many
@given(st.integers(0, 100), quantities)
def test_all_that_waits_is_added_as_far_as_it_takes_no_quantity_below_zero(own: int, left: list[int]) -> None:
    carried = carried_into(make_metered(), own, waiting(*left))
    assert own + total_of(carried) == max(0, own + sum(left))


@many
@given(st.integers(0, 100), quantities)
def test_no_period_gives_more_than_waits_of_it_nor_of_the_other_sign(own: int, left: list[int]) -> None:
    memory = waiting(*left)
    by_start = {one.period_start: one.quantity for one in memory.waiting["si_1"]}
    carried = carried_into(make_metered(), own, memory)
    assert len({one.period_start for one in carried}) == len(carried)
    for one in carried:
        waits = by_start[one.period_start]
        assert one.quantity * waits > 0
        assert abs(one.quantity) <= abs(waits)


@many
@given(st.integers(0, 100), quantities)
def test_what_was_taken_counts_for_nothing_while_more_is_taken(own: int, left: list[int]) -> None:
    assert carried_into(make_metered(), own, waiting(*left, taken=7)) == carried_into(
        make_metered(), own, waiting(*left)
    )


@many
@given(quantities, st.integers(1, 9))
def test_a_closed_period_keeps_what_it_took_and_the_last_one_takes_all(left: list[int], taken: int) -> None:
    memory = waiting(*left, taken=taken)
    kept = carried_into(in_intake(Intake.CLOSED, goes_on=True), 0, memory)
    assert total_of(kept) == taken * len(left)
    last = carried_into(in_intake(Intake.CLOSED, goes_on=False), 0, memory)
    assert total_of(last) == sum(left)


def test_another_unit_is_left_where_it_is() -> None:
    others = [Waiting(START - MONTH, "price_2", ONE, 5), Waiting(START - 2 * MONTH, "price_1", Decimal("0.1"), 7)]
    assert offered(make_metered(), Memory(waiting={"si_1": tuple(others)})) == ()


RULES = MappingRules(rows=(MeterRow(price="price_1", openmeter="requests"),))
ROW = RULES.rows[0]


def periods(*items: SubscriptionItem) -> LaterPeriods:
    return periods_of([Listed(one) for one in items], RULES, {})


def test_an_item_lives_on_where_a_later_period_has_its_unit_or_none_is_known_and_one_follows() -> None:
    item, next_one = make_item(), make_item(start=END, end=END + MONTH)
    assert lives_on(item, ROW, periods(item))
    assert lives_on(item, ROW, periods(item, next_one))
    assert not lives_on(replace(item, is_followed=False), ROW, periods(item))
    assert not lives_on(replace(item, is_cut=True), ROW, periods(item))


def test_a_next_period_of_another_price_or_scale_or_another_item_is_no_life_in_the_unit() -> None:
    item, start = make_item(), END
    of_other_price = make_item(price=make_price("price_2"), start=start, end=start + MONTH)
    assert not lives_on(item, ROW, periods(item, of_other_price))
    assert not lives_on(item, replace(ROW, scale=Decimal(2)), periods(item, make_item(start=start)))
    gone = replace(item, is_followed=False)
    assert not lives_on(gone, ROW, periods(gone, make_item("si_2", start=start, end=start + MONTH)))


def test_a_next_period_goes_on_by_the_scale_that_it_began_with_and_one_that_had_nothing_takes_nothing() -> None:
    item, next_one = make_item(), make_item(start=END, end=END + MONTH)
    began = periods_of([Listed(item), Listed(next_one)], RULES, {next_one.key: Decimal(2)})
    assert (lives_on(item, ROW, began), lives_on(item, replace(ROW, scale=Decimal(2)), began)) == (False, True)
    empty = periods_of([Listed(item), Listed(next_one, settled=())], RULES, {})
    assert not lives_on(item, ROW, empty)


def told(left: LateUsage | None, *, row: LateUsage, intake: Intake = Intake.CLOSED, goes_on: bool = True) -> Metered:
    metered = in_intake(intake, goes_on=goes_on)
    listed = Listed(metered.item, intake, left=left)
    return replace(metered, listed=listed, row=replace(metered.row, late_usage=row))


NAME, CARRY = LateUsage.NAME, LateUsage.CARRY


def test_late_usage_waits_only_where_its_row_says_so_its_item_lives_on_and_something_bills_the_period() -> None:
    assert becomes_of_late(told(None, row=CARRY)) is CARRY
    assert becomes_of_late(told(None, row=NAME)) is NAME
    assert becomes_of_late(told(None, row=CARRY, goes_on=False)) is NAME
    for intake in (Intake.UNBILLED, Intake.VOIDED):
        assert becomes_of_late(told(None, row=CARRY, intake=intake)) is NAME


def test_what_was_said_of_late_usage_stays_so_when_the_setting_changes() -> None:
    assert becomes_of_late(told(NAME, row=CARRY)) is NAME
    assert becomes_of_late(told(CARRY, row=NAME)) is CARRY


def test_what_waited_and_can_wait_no_more_is_still_to_be_named() -> None:
    assert named_before(told(CARRY, row=CARRY, goes_on=False), 5) == 0
    assert named_before(told(CARRY, row=CARRY), 5) == 5
    assert named_before(told(NAME, row=CARRY, goes_on=False), 5) == 5
    assert named_before(told(None, row=NAME, goes_on=False), 5) == 5
