"""What a person asked for is what runs, and what matches nothing is said."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import Customer
from meter_sync.core.metering.mapping import MeterRow
from meter_sync.core.planning.selection import Selection
from meter_sync.core.planning.stages import Findings

from .builders import make_item, make_meter, make_price, make_subscription, many


def found_of(customer: str, subscription: str, price: str, meter: str) -> Findings:
    item = make_item(
        f"si_{customer}_{subscription}_{price}_{meter}",
        subscription=make_subscription(subscription, customer=Customer(customer)),
        price=make_price(price),
    )
    return Findings(item=item, meter=make_meter(meter), row=MeterRow(openmeter=meter))


EVERY = [found_of(*names) for names in product(("c1", "c2"), ("s1", "s2"), ("p1", "p2"), ("m1",))]
EVERY += [found_of("c1", "s1", "p1", "m2")]


def picked(*names: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), unique=True).map(tuple)


selections = st.builds(
    Selection,
    customers=picked("c1", "c2", "c9"),
    subscriptions=picked("s1", "s2", "s9"),
    prices=picked("p1", "p2", "p9"),
    meters=picked("m1", "m2", "m9"),
)


@many
@given(selections)
def test_selectors_join_by_and_between_kinds_and_by_or_within_one(selection: Selection) -> None:
    for found in EVERY:
        subscription, price = found.item.subscription, found.item.price
        wanted = (
            (not selection.customers or subscription.customer.id in selection.customers)
            and (not selection.subscriptions or subscription.id in selection.subscriptions)
            and (not selection.prices or price.id in selection.prices)
            and (not selection.meters or found.row.openmeter in selection.meters)
        )
        assert selection.admits(found) == wanted


@many
@given(selections)
def test_a_selector_that_matches_nothing_is_named(selection: Selection) -> None:
    absent = [
        (kind, value)
        for kind, values in (
            ("customer", selection.customers),
            ("subscription", selection.subscriptions),
            ("price", selection.prices),
            ("meter", selection.meters),
        )
        for value in values
        if value.endswith("9")
    ]
    assert selection.unmatched(EVERY) == (absent[0] if absent else None)


def test_no_selector_selects_everything() -> None:
    selection = Selection()
    assert selection.is_everything
    assert not selection.narrows_the_listing
    assert all(selection.admits(found) for found in EVERY)
    assert selection.unmatched([]) is None


@pytest.mark.parametrize(
    ("selection", "narrows"),
    [
        (Selection(customers=("c1",)), True),
        (Selection(subscriptions=("s1",)), True),
        (Selection(prices=("p1",)), True),
        (Selection(meters=("m1",)), False),
    ],
)
def test_only_a_meter_is_selected_out_of_the_whole_listing(selection: Selection, narrows: bool) -> None:
    assert not selection.is_everything
    assert selection.narrows_the_listing == narrows


def test_a_meter_is_selected_by_its_slug_and_by_the_name_that_the_mapping_uses() -> None:
    by_id = Findings(item=make_item(), meter=make_meter("m1"), row=MeterRow(openmeter="01m1"))
    assert Selection(meters=("m1",)).admits(by_id)
    assert Selection(meters=("01m1",)).admits(by_id)
    assert not Selection(meters=("m2",)).admits(by_id)


def test_an_item_whose_meter_is_missing_is_selected_by_the_name_that_was_meant() -> None:
    missing = Findings(item=make_item(), row=MeterRow(openmeter="typo"))
    assert Selection(meters=("typo",)).admits(missing)
    assert Selection(meters=("typo",)).unmatched([missing]) is None


def test_an_item_without_any_mapping_is_in_no_meters_selection() -> None:
    unmapped = Findings(item=make_item())
    assert not Selection(meters=("m1",)).admits(unmapped)
    assert Selection(customers=("cus_1",)).admits(unmapped)
