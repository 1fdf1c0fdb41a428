"""Additions come to the wanted total exactly, and nothing is added twice."""

from dataclasses import replace
from datetime import timedelta

import pytest

from meter_sync.core.actions import Set
from meter_sync.core.additions import Arrived, added, arrived, can_be_repeated
from meter_sync.core.memory import Addition, RememberedAdditions
from meter_sync.core.model import BillingMeter
from meter_sync.core.way import Way

from .builders import AS_OF, END, HOUR, START, make_item, make_line, make_method, make_price, make_set

METER = BillingMeter("mtr_1", "used", "sum")
NOTHING = RememberedAdditions()


def planned(quantity: int) -> Set:
    line = replace(make_line(make_item(price=make_price(billing_meter=METER))), way=Way.ADDITIONS)
    return replace(make_set(quantity, line=line), method=make_method(way=Way.ADDITIONS, stripe_meter="mtr_1"))


def earlier(base: int, value: int, *, hours_ago: int = 1, is_delivered: bool = True) -> Addition:
    then = AS_OF - hours_ago * HOUR
    return Addition("id", base, value, then, then, then, is_delivered=is_delivered)


def addition(quantity: int, base: int, known: RememberedAdditions = NOTHING) -> Addition:
    found = added(planned(quantity), base, known, AS_OF, AS_OF).addition
    assert found
    return found


def test_the_difference_is_added_inside_the_period() -> None:
    found = addition(12, 7)
    assert (found.base, found.value, found.timestamp) == (7, 5, AS_OF)
    assert not found.is_cancel


def test_nothing_is_added_where_nothing_is_lacking() -> None:
    assert added(planned(7), 7, NOTHING, AS_OF, AS_OF).sends == ()


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
    ("as_of", "minute"),
    [(START, START + timedelta(seconds=43)), (END - timedelta(seconds=1), END - timedelta(seconds=18))],
)
def test_no_addition_is_stamped_into_a_boundary_minute(as_of: object, minute: object) -> None:
    found = added(planned(7), 0, NOTHING, AS_OF, as_of).addition  # type: ignore[arg-type]
    assert found
    assert found.timestamp == minute


def test_an_addition_is_repeated_only_while_stripe_knows_its_identifier() -> None:
    pending = earlier(0, 5, hours_ago=22, is_delivered=False)
    assert can_be_repeated(pending, AS_OF, AS_OF)
    assert not can_be_repeated(pending, AS_OF + HOUR, AS_OF)
    assert not can_be_repeated(pending, AS_OF, AS_OF + HOUR)
    assert not can_be_repeated(replace(pending, in_doubt=True), AS_OF, AS_OF)


@pytest.mark.parametrize(
    ("total", "hours_ago", "verdict"),
    [
        (12, 1, Arrived.YES),
        (12, 30, Arrived.YES),
        (7, 30, Arrived.NO),
        (7, 1, Arrived.UNTOLD),
        (9, 30, Arrived.UNTOLD),
    ],
)
def test_a_summary_proves_that_an_addition_is_there_and_only_an_old_one_that_it_is_not(
    total: int, hours_ago: int, verdict: Arrived
) -> None:
    assert arrived(earlier(7, 5, hours_ago=hours_ago), total, AS_OF, AS_OF) is verdict


def test_a_cancelled_event_is_missing_from_the_summary() -> None:
    pending = replace(earlier(7, 5, hours_ago=30), is_cancel=True)
    assert arrived(pending, 7, AS_OF, AS_OF) is Arrived.YES
    assert arrived(pending, 12, AS_OF, AS_OF) is Arrived.NO
