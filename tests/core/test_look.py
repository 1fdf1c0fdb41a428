"""What Stripe holds before the first write, and that usage of another program is found, not billed twice."""

from dataclasses import replace
from typing import TypeGuard

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import Period
from meter_sync.core.outcomes import LIFTABLE, Outcome, Reason
from meter_sync.core.planning.brakes import Thresholds, check, check_each
from meter_sync.core.planning.first_sight import looked_at_events, looked_at_records, with_past
from meter_sync.core.planning.foreign import foreign_usage, not_looked, topped_up
from meter_sync.core.planning.looks import LookAgain, UnfinishedLook
from meter_sync.core.planning.memory import PastPeriod
from meter_sync.core.planning.results import result
from meter_sync.core.planning.stages import Metered, Planned, Result

from .builders import (
    END,
    FIRST_LOOK,
    POLICY,
    START,
    make_item,
    make_metered,
    make_planned,
    make_price,
    make_write,
    many,
)

NOTHING: frozenset[Reason] = frozenset()
FOREIGN = frozenset({Reason.FOREIGN_USAGE})
NOT_SUMS = ["max", "last_during_period", "last_ever"]
AGGREGATES = ["sum", *NOT_SUMS]


def is_held(one: Planned | Result) -> TypeGuard[Result]:
    return isinstance(one, Result) and one.outcome is Outcome.HELD


def of(item: str) -> Metered:
    return make_metered(make_item(item))


def on(aggregate: str) -> Metered:
    return make_metered(make_item(price=make_price(aggregate_usage=aggregate)))


# --- The first look -------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_where_stripe_holds_nothing_the_first_write_goes_on(aggregate: str) -> None:
    action = looked_at_records(make_planned(100, metered=on(aggregate), look=FIRST_LOOK), 0, NOTHING)
    assert isinstance(action, Planned)
    assert (action.write.quantity, action.write.at_anchor, action.look) == (100, 100, None)
    assert (action.found.standing, action.highest_before, action.write.total_before) == (0, 0, None)


@pytest.mark.parametrize("aggregate", ["sum", "max", "last_during_period"])
def test_where_stripe_holds_nothing_and_nothing_was_used_nothing_is_written(aggregate: str) -> None:
    action = looked_at_records(make_planned(0, metered=on(aggregate), look=FIRST_LOOK), 0, NOTHING)
    assert isinstance(action, Result)
    assert (action.outcome, action.found.standing) == (Outcome.UNCHANGED, 0)


def test_a_last_ever_price_gets_its_zero_on_the_first_look_too() -> None:
    action = looked_at_records(make_planned(0, metered=on("last_ever"), look=FIRST_LOOK), 0, NOTHING)
    assert isinstance(action, Planned)
    assert action.write.quantity == 0


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("quantity", [0, 60, 100])
def test_where_stripe_holds_something_the_first_write_has_to_find_out_whose_it_is(
    aggregate: str, quantity: int
) -> None:
    action = looked_at_records(make_planned(quantity, metered=on(aggregate), look=FIRST_LOOK), 60, FOREIGN)
    assert isinstance(action, Planned)
    assert (action.write.total_before, action.look, action.write.foreign) == (60, None, 0)
    assert (action.found.standing, action.write.quantity) == (60, quantity)


def test_a_lost_ledger_does_not_let_a_lower_quantity_pass_the_brake() -> None:
    action = looked_at_records(make_planned(90, look=FIRST_LOOK), 100, NOTHING)
    (checked,) = check_each([action], Thresholds(), NOTHING)
    assert is_held(checked)
    assert checked.reason is Reason.DECREASE


LAST = PastPeriod(Period(START - (END - START), START), 100)


@pytest.mark.parametrize(("quantity", "reason"), [(1000, None), (1_000_000_000, Reason.JUMP)])
def test_what_stripe_said_of_the_last_period_is_compared_with(quantity: int, reason: Reason | None) -> None:
    planned = with_past(make_planned(quantity, look=FIRST_LOOK), [LAST])
    (checked,) = check_each([looked_at_records(planned, 0, NOTHING)], Thresholds(), NOTHING)
    assert (checked.reason if isinstance(checked, Result) else None) is reason
    assert checked.found.past == (LAST,)


def test_an_item_for_which_nothing_is_to_be_written_has_a_past_as_well_and_is_held_with_its_meter() -> None:
    """Such items leave by the side door at the look, before anything is checked."""
    looked = [
        looked_at_records(with_past(make_planned(0, metered=of(item), look=FIRST_LOOK), [LAST]), 0, NOTHING)
        for item in ("si_1", "si_2")
    ]
    checked = check(looked, (), Thresholds(), NOTHING, is_everything=True, all_open_at=START + (END - START) / 2)
    assert [result(one).reason for one in checked] == [Reason.ALL_ZERO] * 2


def test_an_event_that_is_not_needed_has_one_too() -> None:
    looked = looked_at_events(with_past(make_planned(0, look=FIRST_LOOK), [LAST]), 0, POLICY)
    assert looked.found.past == (LAST,)


def test_what_the_ledger_knows_of_the_past_counts_before_what_stripe_says() -> None:
    known = replace(LAST, quantity=5)
    planned = make_planned(metered=replace(make_metered(), past=(known,)), look=FIRST_LOOK)
    assert with_past(planned, [LAST]).metered.past == (known,)


# --- An interrupted look --------------------------------------------------------------------------


@pytest.mark.parametrize("total_before", [0, 30])
def test_an_interrupted_look_goes_on_from_the_number_read_before_its_write(
    total_before: int,
) -> None:
    action = looked_at_records(make_planned(100, look=UnfinishedLook(total_before)), total_before, NOTHING)
    assert isinstance(action, Planned)
    assert (action.write.total_before, action.look, action.write.quantity) == (total_before, None, 100)


def test_an_interrupted_look_is_finished_even_where_the_usage_is_gone() -> None:
    action = looked_at_records(make_planned(0, look=UnfinishedLook(0)), 0, NOTHING)
    assert isinstance(action, Planned)


def test_the_write_of_an_interrupted_look_counts_as_what_stripe_may_hold() -> None:
    interrupted = make_planned(500, highest_before=1000, look=UnfinishedLook(5))
    (checked,) = check_each([looked_at_records(interrupted, 5, NOTHING)], Thresholds(), NOTHING)
    assert is_held(checked)


# --- Looking again at an item that is held for foreign usage --------------------------------------


def again(quantity: int = 100, aggregate: str = "sum") -> Planned:
    """Return the write of an item whose anchor was left holding 40 beside another program's 60."""
    return make_planned(quantity, metered=on(aggregate), look=LookAgain(at_anchor=40, foreign=60))


def test_when_the_other_program_took_its_records_back_the_whole_is_billed() -> None:
    action = looked_at_records(again(), 40, NOTHING)
    assert isinstance(action, Planned)
    assert (action.write.at_anchor, action.write.foreign, action.write.total_before) == (100, 0, 40)


def test_nothing_used_is_written_over_what_the_anchor_was_left_holding() -> None:
    action = looked_at_records(again(0), 40, NOTHING)
    assert isinstance(action, Planned)
    assert action.write.at_anchor == 0


@pytest.mark.parametrize("allowed", [NOTHING, frozenset(LIFTABLE) - FOREIGN])
def test_while_other_records_are_there_the_item_stays_held_with_both_numbers(
    allowed: frozenset[Reason],
) -> None:
    action = looked_at_records(again(), 115, allowed)
    assert is_held(action)
    assert action.reason is Reason.FOREIGN_USAGE
    assert "OpenMeter says 100" in str(action.message)
    assert "hold 75" in str(action.message)
    assert action.found.standing == 115


def test_with_permission_the_write_finds_out_afresh_whose_the_total_is() -> None:
    """Another ledger's run may have moved the anchor since: the remembered part is never subtracted unread."""
    action = looked_at_records(again(), 100, FOREIGN)
    assert isinstance(action, Planned)
    assert (action.write.quantity, action.write.foreign, action.write.at_anchor) == (100, 0, 100)
    assert (action.look, action.write.total_before) == (None, 100)


@pytest.mark.parametrize("aggregate", NOT_SUMS)
def test_a_price_that_does_not_add_up_stays_held_even_with_permission(aggregate: str) -> None:
    action = looked_at_records(again(aggregate=aggregate), 115, FOREIGN)
    assert is_held(action)
    assert f"a {aggregate} price" in str(action.message)
    assert "--allow" not in str(action.message)


@many
@given(
    quantity=st.integers(0, 100),
    total=st.integers(0, 200),
    at_anchor=st.integers(0, 100),
    aggregate=st.sampled_from(AGGREGATES),
    permitted=st.booleans(),
)
def test_a_second_look_goes_on_only_where_nothing_foreign_seems_left_or_with_permission(
    quantity: int, total: int, at_anchor: int, aggregate: str, permitted: bool
) -> None:
    planned = make_planned(quantity, metered=on(aggregate), look=LookAgain(at_anchor, foreign=1))
    action = looked_at_records(planned, total, FOREIGN if permitted else NOTHING)
    others = total - at_anchor
    may_top_up = permitted and aggregate == "sum" and 0 <= others <= quantity
    somebody_lowered_our_own_record = others < 0 and not aggregate.startswith("last")
    is_higher_by_now = aggregate == "max" and total <= quantity
    goes_on = others == 0 or may_top_up or somebody_lowered_our_own_record or is_higher_by_now
    if others == 0 and total == quantity and aggregate != "sum":
        assert isinstance(action, Result)
        assert action.outcome is Outcome.UNCHANGED
        return
    assert isinstance(action, Planned) if goes_on else is_held(action)
    if isinstance(action, Planned):
        assert (action.write.at_anchor, action.write.total_before) == (quantity, total)


@many
@given(
    quantity=st.integers(0, 100),
    foreign=st.integers(-20, 120),
    aggregate=st.sampled_from(AGGREGATES),
    permitted=st.booleans(),
)
def test_only_a_sum_price_is_topped_up_only_with_permission_and_never_below_zero(
    quantity: int, foreign: int, aggregate: str, permitted: bool
) -> None:
    rest = topped_up(make_write(quantity, metered=on(aggregate)), foreign, FOREIGN if permitted else NOTHING)
    possible = permitted and aggregate == "sum" and 0 <= foreign <= quantity
    assert (rest is not None) == possible
    if rest:
        assert (rest.quantity, rest.at_anchor) == (quantity, quantity - foreign)
        assert rest.at_anchor >= 0


def test_topping_up_ends_the_look() -> None:
    looking = replace(make_write(100), total_before=60)
    rest = topped_up(looking, 60, FOREIGN)
    assert rest is not None
    assert (rest.total_before, rest.foreign) == (None, 60)


def test_a_hold_for_foreign_usage_offers_the_permission_only_where_it_helps() -> None:
    assert "--allow foreign_usage" in str(foreign_usage(make_write(100), 60).message)
    for aggregate in NOT_SUMS:
        assert "--allow" not in str(foreign_usage(make_write(100, metered=on(aggregate)), 60).message)


@pytest.mark.parametrize("foreign", [101, -20])
def test_a_permission_that_cannot_help_is_not_offered(foreign: int) -> None:
    assert topped_up(make_write(100), foreign, FOREIGN) is None
    assert "--allow" not in str(foreign_usage(make_write(100), foreign).message)


# --- A dry run looks at nothing -------------------------------------------------------------------


@pytest.mark.parametrize("look", [FIRST_LOOK, UnfinishedLook(30)])
def test_a_dry_run_plans_what_a_look_would_have_to_find_out(
    look: UnfinishedLook,
) -> None:
    planned = make_planned(100, look=look)
    assert not_looked(planned, NOTHING) is planned
    assert planned.found.standing is None


def test_a_dry_run_judges_foreign_usage_by_what_the_ledger_remembers() -> None:
    held = not_looked(again(), NOTHING)
    assert is_held(held)
    assert "hold 60" in str(held.message)
    rest = not_looked(again(), FOREIGN)
    assert isinstance(rest, Planned)
    assert rest.write.quantity == 100
    assert is_held(not_looked(again(99, aggregate="max"), FOREIGN))
    assert is_held(not_looked(again(59), FOREIGN))


def test_a_dry_run_plans_what_needs_no_look_as_it_is() -> None:
    planned = make_planned(100)
    assert not_looked(planned, NOTHING) is planned
