"""A price that changes in mid-period: in which periods an item was, and is."""

from dataclasses import replace
from datetime import datetime

import pytest

from meter_sync.core.billing.changes import stretches
from meter_sync.core.billing.item import BillingMeter, Period, SubscriptionItem
from tests.core.builders import AS_OF, END, HOUR, START, make_item, make_price

METER = BillingMeter("mtr_1", "calls", "sum")
MIDDLE = START + 100 * HOUR
NEXT = END + 30 * 24 * HOUR


def on(price: str, *, metered: bool = True, start: datetime = START, end: datetime = END) -> SubscriptionItem:
    return make_item(price=make_price(price, billing_meter=METER if metered else None), start=start, end=end)


def told(found: list[SubscriptionItem]) -> list[tuple[str, Period, bool]]:
    """Return the price and the period of each, and whether it ended with a change."""
    return [(one.price.id, one.period, one.is_cut) for one in found]


OLD, NEW = on("price_old"), on("price_new")


def test_as_long_as_nothing_changes_an_item_is_as_it_is_listed() -> None:
    assert stretches(NEW, None, (), AS_OF) == stretches(NEW, NEW, (), AS_OF) == [NEW]
    assert stretches(NEW, on("price_old", end=START, start=START - HOUR), (), AS_OF) == [NEW]


def test_a_change_begins_a_period_that_remembers_stripes_own() -> None:
    (now,) = stretches(NEW, OLD, (MIDDLE,), AS_OF)
    assert (now.price.id, now.period, now.cycle_start) == ("price_new", Period(MIDDLE, END), START)
    assert now.invoice_key == NEW.key
    assert stretches(NEW, now, (MIDDLE,), AS_OF) == stretches(NEW, now, (), AS_OF) == [now]


def test_of_several_changes_the_last_one_counts() -> None:
    (now,) = stretches(NEW, OLD, (MIDDLE, MIDDLE - HOUR), AS_OF)
    assert now.period.start == MIDDLE
    (later,) = stretches(on("price_newer"), now, (MIDDLE, MIDDLE + HOUR), AS_OF)
    assert (later.period, later.cycle_start) == (Period(MIDDLE + HOUR, END), START)


def test_one_that_was_not_told_of_happened_by_now() -> None:
    (now,) = stretches(NEW, OLD, (), AS_OF)
    assert now.period == Period(AS_OF, END)


@pytest.mark.parametrize(("old", "new", "begins"), [(True, False, True), (False, True, True), (False, False, False)])
def test_only_prices_on_a_meter_begin_one(old: bool, new: bool, begins: bool) -> None:
    before, now = on("price_old", metered=old), on("price_new", metered=new)
    (found,) = stretches(now, before, (MIDDLE,), AS_OF)
    assert found.period == (Period(MIDDLE, END) if begins else Period(START, END))


def test_what_nobody_saw_before_the_change_is_known_all_the_same() -> None:
    """The change came before a run had seen the new period, or the ledger is new."""
    last = on("price_old", start=START - HOUR, end=START)
    for before, price in ((last, "price_old"), (None, "price_new")):
        found = stretches(NEW, before, (MIDDLE,), AS_OF)
        assert told(found) == [(price, Period(START, MIDDLE), True), ("price_new", Period(MIDDLE, END), False)]
        assert not found[0].is_followed


def test_a_change_before_the_turn_that_no_run_saw() -> None:
    now = on("price_new", start=END, end=NEXT)
    found = stretches(now, OLD, (MIDDLE,), END + HOUR)
    assert told(found) == [("price_new", Period(MIDDLE, END), False), ("price_new", Period(END, NEXT), False)]
    assert found[0].cycle_start == START


def test_an_item_that_was_added_since_had_nothing_before_its_change() -> None:
    added = replace(NEW, created=MIDDLE)
    assert [one.period.start for one in stretches(added, None, (MIDDLE,), AS_OF)] == [MIDDLE]
