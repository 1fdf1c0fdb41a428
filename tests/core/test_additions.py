"""Additions come to the wanted total exactly, and nothing is added twice."""

from dataclasses import replace
from datetime import timedelta

import pytest

from meter_sync.core.billing.item import BillingMeter
from meter_sync.core.billing.way import Way
from meter_sync.core.planning.additions import (
    added,
    can_be_repeated,
    look_after_silence,
    shows_in_summary,
    sums_alone,
)
from meter_sync.core.planning.first_sight import looked_at_events
from meter_sync.core.planning.looks import AfterSilence
from meter_sync.core.planning.memory import Addition, RememberedAdditions
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.sends import Add, Cancel, SendNothing
from meter_sync.core.planning.stages import Metered, Planned, Write

from .builders import AS_OF, END, HOUR, POLICY, START, make_item, make_metered, make_price, make_write

METER = BillingMeter("mtr_1", "used", "sum")
NOTHING = RememberedAdditions()


def on_meter() -> Metered:
    return make_metered(make_item(price=make_price(billing_meter=METER)), way=Way.ADDITIONS)


def planned(quantity: int) -> Write:
    return make_write(quantity, metered=on_meter())


def sent(write: Write) -> Addition:
    """Return what is added or cancelled."""
    assert isinstance(write.sends, Add | Cancel)
    assert write.sends.addition.is_cancel is isinstance(write.sends, Cancel)
    return write.sends.addition


def earlier(base: int, value: int, *, hours_ago: int = 1, is_delivered: bool = True) -> Addition:
    then = AS_OF - hours_ago * HOUR
    return Addition("id", base, value, then, then, then, then, is_delivered=is_delivered)


def addition(quantity: int, base: int, known: RememberedAdditions = NOTHING) -> Addition:
    return sent(added(planned(quantity), base, known, AS_OF, AS_OF))


def test_the_difference_is_added_inside_the_period() -> None:
    found = addition(12, 7)
    assert (found.base, found.value, found.timestamp) == (7, 5, AS_OF - timedelta(minutes=1))
    assert not found.is_cancel


def test_nothing_is_added_where_nothing_is_lacking() -> None:
    assert added(planned(7), 7, NOTHING, AS_OF, AS_OF).sends == SendNothing()


def test_a_run_that_reads_the_same_base_comes_to_the_same_identifier_whatever_it_adds() -> None:
    assert addition(12, 7).identifier == addition(99, 7).identifier
    others = {addition(12, 6).identifier, addition(12, 7, RememberedAdditions(None, 1)).identifier}
    assert addition(12, 7).identifier not in others
    assert len(addition(2**53, 2**52).identifier) <= 100


def test_what_is_too_much_is_cancelled_if_it_is_exactly_the_newest_event() -> None:
    found = addition(7, 12, RememberedAdditions(earlier(7, 5)))
    assert (found.identifier, found.is_cancel, found.is_delivered) == ("id", True, False)


@pytest.mark.parametrize("newest", [earlier(6, 6), earlier(7, 5, hours_ago=23), replace(earlier(7, 5), is_cancel=True)])
def test_what_is_too_much_is_subtracted_otherwise(newest: Addition) -> None:
    found = addition(7, 12, RememberedAdditions(newest))
    assert (found.value, found.is_cancel) == (-5, False)


@pytest.mark.parametrize(
    ("as_of", "stamp"),
    [
        (START, START + timedelta(seconds=43)),
        (END, END - timedelta(seconds=60)),
        (END + HOUR, END - timedelta(seconds=18)),
    ],
)
def test_no_addition_is_stamped_into_a_boundary_minute(as_of: object, stamp: object) -> None:
    found = sent(added(planned(7), 0, NOTHING, AS_OF, as_of))  # type: ignore[arg-type]
    assert found.timestamp == stamp


def test_an_addition_is_repeated_only_while_stripe_knows_its_identifier() -> None:
    pending = earlier(0, 5, hours_ago=22, is_delivered=False)
    assert can_be_repeated(pending, AS_OF, AS_OF)
    assert not can_be_repeated(pending, AS_OF + HOUR, AS_OF)
    assert not can_be_repeated(pending, AS_OF, AS_OF + HOUR)
    assert not can_be_repeated(replace(pending, in_doubt=True), AS_OF, AS_OF)


def test_an_identifier_is_told_from_a_summary_only_by_a_run_that_read_one() -> None:
    found = sent(added(planned(12), 7, None, AS_OF, AS_OF))
    assert found.base_is_read
    assert not addition(12, 7).base_is_read
    assert found.identifier == addition(12, 7).identifier


def test_a_summary_is_believed_only_long_after_the_last_attempt() -> None:
    repeated = replace(earlier(7, 5, hours_ago=30), attempted_at=AS_OF - HOUR)
    assert not shows_in_summary(repeated, AS_OF)
    assert not shows_in_summary(repeated, AS_OF + 21 * HOUR)
    assert shows_in_summary(repeated, AS_OF + 22 * HOUR)


# -- a ledger that may have been restored ------------------------------------------------------------


def look(quantity: int, newest: Addition | None, metered: Metered | None = None) -> AfterSilence | None:
    """Return the look that is needed before coming to a quantity from 7."""
    write = added(planned(quantity), 7, RememberedAdditions(newest), AS_OF, AS_OF)
    return look_after_silence(metered or on_meter(), write, newest, POLICY)


@pytest.mark.parametrize(("hours_ago", "expected"), [(22, None), (23, AfterSilence())])
def test_what_is_added_after_a_silence_needs_a_look(hours_ago: int, expected: AfterSilence | None) -> None:
    assert look(12, earlier(0, 7, hours_ago=hours_ago)) == expected


@pytest.mark.parametrize(("hours_since_its_start", "expected"), [(22, None), (23, AfterSilence())])
def test_so_does_the_first_addition_to_a_period_that_began_long_ago(
    hours_since_its_start: int, expected: AfterSilence | None
) -> None:
    then = START + hours_since_its_start * HOUR
    write = added(planned(12), 0, NOTHING, then, then)
    assert look_after_silence(on_meter(), write, None, Policy(then, then)) == expected


def test_what_is_not_added_needs_none() -> None:
    assert look(7, earlier(0, 7, hours_ago=48)) is None


def test_where_other_items_events_are_in_the_summary_it_is_not_asked() -> None:
    metered = on_meter()
    shared = replace(metered, row=replace(metered.row, shared=True))
    beside_another = replace(metered, listed=replace(metered.listed, is_read_back=True))
    ending = replace(metered, listed=replace(metered.listed, item=replace(metered.item, is_followed=False)))
    assert [look(12, None, one) for one in (shared, beside_another, ending)] == [None, None, AfterSilence()]
    assert [sums_alone(one.found) for one in (metered, shared, ending)] == [True, False, False]


@pytest.mark.parametrize(
    ("holds", "value", "is_read"), [(7, 5, False), (9, 3, True), (0, 12, True)], ids=["the same", "more", "less"]
)
def test_what_stripe_holds_by_then_is_what_is_added_to(holds: int, value: int, is_read: bool) -> None:
    write = added(planned(12), 7, RememberedAdditions(earlier(0, 7, hours_ago=48)), AS_OF, AS_OF)
    found = looked_at_events(Planned(on_meter(), write, highest_before=7, look=AfterSilence()), holds, POLICY)
    assert isinstance(found, Planned)
    addition = sent(found.write)
    assert (addition.base, addition.value, addition.base_is_read, found.look) == (holds, value, is_read, None)
    assert (found.found.standing, found.highest_before) == (holds, holds)
