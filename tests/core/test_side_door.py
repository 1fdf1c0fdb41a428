"""What goes no further leaves by one side door, with all that was found of it; only what passed the check goes on."""

from dataclasses import replace
from decimal import Decimal

import pytest

from meter_sync.core.billing.way import Way
from meter_sync.core.metering.mapping import MappingRules, MeterRow
from meter_sync.core.metering.queries import Unanswered
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.brakes import Thresholds, check, check_each, check_whole, checked_before
from meter_sync.core.planning.memory import Memory, PastPeriod
from meter_sync.core.planning.plan import measured, planned
from meter_sync.core.planning.prepare import Metering, prepare
from meter_sync.core.planning.results import failed, gave_way, held, shown, skipped, unchanged, waiting
from meter_sync.core.planning.stages import Findings, Listed, Metered, Moved, Planned, Result

from .builders import (
    AS_OF,
    POLICY,
    SECOND,
    START,
    make_item,
    make_meter,
    make_metered,
    make_planned,
    make_remembered,
    make_write,
    remembering,
)

NO_TOLERANCE = Thresholds()
BY_METADATA = MappingRules(subject="item.metadata.om", rows=(MeterRow(price="price_1", openmeter="requests"),))
METERS = {"requests": make_meter()}
PAST = (PastPeriod(make_item().period, 5),)


def prepared(*items: Listed, rules: MappingRules = BY_METADATA) -> list[Metered | Result]:
    return prepare(items, (), Metering(rules, METERS), Memory(past={"si_1": PAST}), AS_OF)


def left(one: Metered | Planned | Result) -> Findings:
    """Return what is known of an item that went no further."""
    assert isinstance(one, Result)
    return one.found


def test_an_item_that_is_not_mapped_leaves_with_its_span_and_one_without_a_meter_with_its_name_and_subjects() -> None:
    item = Listed(make_item(metadata={"om": "a,b"}))
    unmapped = left(prepared(item, rules=MappingRules())[0])
    assert (unmapped.span, unmapped.slug, unmapped.way) == (make_metered().span, None, None)
    nameless = MappingRules(subject="item.metadata.om", rows=(MeterRow(price="price_1", openmeter="gone"),))
    unknown = left(prepared(item, rules=nameless)[0])
    assert (unknown.meter, unknown.slug, unknown.subjects) == (None, "gone", ("a", "b"))


def test_an_item_that_would_be_billed_twice_leaves_with_all_that_a_metered_one_has() -> None:
    twins = [Listed(make_item(item, metadata={"om": "a"})) for item in ("si_1", "si_2")]
    (alone,) = prepared(twins[0])
    assert isinstance(alone, Metered)
    assert alone.past == PAST
    assert left(prepared(*twins)[0]) == alone.found


def test_an_item_without_an_answer_leaves_with_what_stood_and_its_timestamp() -> None:
    anchor = START + 61 * SECOND
    memory = remembering(make_remembered(100, anchor=anchor))
    found = left(plan_of(make_metered(), Unanswered("HTTP status 500"), memory))
    assert (found.standing, found.usage, found.quantity, found.timestamp) == (100, None, None, anchor)


def plan_of(metered: Metered, usage: Decimal | Unanswered, memory: Memory) -> Planned | Result:
    one = measured(metered, {metered.item.id: usage}, memory, POLICY)
    return planned(one, memory, POLICY)


def test_a_usage_that_cannot_be_billed_leaves_with_that_usage_and_no_quantity() -> None:
    found = left(plan_of(make_metered(), Decimal(-1), remembering(make_remembered(100))))
    assert (found.usage, found.quantity, found.standing) == (Decimal(-1), None, 100)


def test_what_a_brake_holds_leaves_with_its_usage_and_with_the_quantity_that_was_not_written() -> None:
    falling = plan_of(make_metered(), Decimal(90), remembering(make_remembered(100)))
    assert isinstance(falling, Planned)
    (one,) = check_each([falling], NO_TOLERANCE, ())
    assert left(one) == falling.found
    assert (one.found.usage, one.found.quantity, one.found.standing) == (Decimal(90), 90, 100)


def test_whatever_a_run_did_not_come_to_waits_for_the_next_one_and_what_went_no_further_stays_so() -> None:
    metered, stopped = make_metered(), skipped(make_metered().found, Reason.IGNORED, "why")
    waits = waiting(metered)
    assert (waits.outcome, waits.reason, waits.found) == (Outcome.SKIPPED, Reason.INTERRUPTED, metered.found)
    assert waiting(stopped) is stopped


def test_only_what_passed_the_check_goes_on_and_it_is_the_write_that_was_planned() -> None:
    fits, falls = make_planned(7), make_planned(6, metered=make_metered(make_item("si_2")), highest_before=7)
    stopped = failed(make_metered(make_item("si_3")).found, Reason.OPENMETER_ERROR, "why")
    first, second, third = check([fits, falls, stopped], (), NO_TOLERANCE, (), is_everything=False, all_open_at=None)
    assert first is fits.write
    assert isinstance(second, Result)
    assert second.reason is Reason.DECREASE
    assert third is stopped


def test_what_an_earlier_run_had_begun_is_repeated_as_it_was() -> None:
    write = make_write(7)
    assert checked_before(write) is write


def test_what_was_left_to_another_run_is_unchanged_and_does_not_show_that_a_meter_is_dead() -> None:
    silent, busy = (replace(make_metered(make_item(item)), past=PAST) for item in ("si_1", "si_2"))
    zero, late = unchanged(make_write(0, metered=silent)), AS_OF
    (dead,) = check_whole([zero], NO_TOLERANCE, (), late)
    assert isinstance(dead, Result)
    assert dead.reason is Reason.ALL_ZERO
    left_alone = gave_way(make_write(0, metered=busy).told)
    assert (left_alone.outcome, left_alone.reason, left_alone.gave_way) == (Outcome.UNCHANGED, None, True)
    assert check_whole([zero, left_alone], NO_TOLERANCE, (), late) == [zero, left_alone]


def test_two_periods_of_one_item_are_held_each_for_its_own_reason() -> None:
    later = replace(make_item().period, start=make_item().period.end)
    again = held(replace(make_metered().found, item=replace(make_item(), period=later)), Reason.DECREASE, "why")
    now = make_planned(7)
    assert check_whole([now, again], NO_TOLERANCE, (), AS_OF) == [now, again]


@pytest.mark.parametrize("quantity", [0, 7])
def test_what_is_only_shown_is_planned_with_its_quantity_and_says_why_it_was_not_written(quantity: int) -> None:
    one = shown(make_write(quantity))
    assert (one.outcome, one.reason, one.found.quantity, one.moved) == (Outcome.PLANNED, None, quantity, None)
    assert "report = false" in str(one.message)


def test_where_no_hour_or_day_moved_that_is_said_only_of_items_that_are_reported_by_them() -> None:
    by_day = make_write(0, metered=make_metered(way=Way.DAY_RECORDS))
    assert unchanged(by_day, 3).moved == Moved(0, 3)
    assert unchanged(make_write(0)).moved is None
