"""Which meter and which subjects an item is billed by."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import Customer, Target
from meter_sync.core.billing.quantity import Rounding
from meter_sync.core.metering.mapping import MappingRules, MeterRow, meter_row, subjects

from .builders import make_item, make_price, make_subscription, many

SOURCES = ["customer.metadata.om", "subscription.metadata.om", "item.metadata.om"]

PRICE = make_price("price_1", product="prod_1", lookup_key="calls", metadata={"om_meter_id": "of_price"})


@pytest.mark.parametrize(
    "row",
    [
        MeterRow(price="price_1", openmeter="m"),
        MeterRow(lookup_key="calls", openmeter="m"),
        MeterRow(product="prod_1", openmeter="m"),
    ],
)
def test_a_row_is_for_the_price_that_it_names_in_any_of_its_names(row: MeterRow) -> None:
    assert meter_row(make_item(price=PRICE), MappingRules(rows=(row,))) is row


def test_a_row_for_a_stripe_meter_is_for_the_prices_on_that_meter_only() -> None:
    row = MeterRow(stripe_meter="mtr_1", ignore=True)
    assert row.is_for(make_price(stripe_meter="mtr_1"))
    assert not row.is_for(make_price(stripe_meter="mtr_2"))
    assert not row.is_for(make_price())


def test_a_row_for_another_price_does_not_meter_an_item() -> None:
    others = (
        MeterRow(price="price_2", openmeter="m"),
        MeterRow(lookup_key="price_1", openmeter="m"),
        MeterRow(product="price_1", openmeter="m"),
        MeterRow(openmeter="m"),
    )
    assert meter_row(make_item(), MappingRules(rows=others)) is None


def test_a_price_without_a_lookup_key_is_in_no_row_for_one() -> None:
    row = MeterRow(lookup_key="calls", openmeter="m")
    assert not row.is_for(make_price(lookup_key=None))


def test_the_first_row_for_a_price_wins_over_later_rows_and_over_metadata() -> None:
    first = MeterRow(product="prod_1", openmeter="first")
    second = MeterRow(price="price_1", openmeter="second")
    item = make_item(price=PRICE, metadata={"om_meter_id": "of_item"})
    assert meter_row(item, MappingRules(rows=(first, second))) is first


def test_metadata_of_the_item_wins_over_that_of_its_price() -> None:
    item = make_item(price=PRICE, metadata={"om_meter_id": " of_item "})
    assert meter_row(item, MappingRules()) == MeterRow(openmeter="of_item")
    assert meter_row(make_item(price=PRICE), MappingRules()) == MeterRow(openmeter="of_price")


def test_metadata_of_spaces_names_no_meter() -> None:
    blank = {"om_meter_id": "  "}
    item = make_item(price=make_price(metadata=blank), metadata=blank)
    assert meter_row(item, MappingRules()) is None


def test_the_metadata_key_is_the_one_that_was_configured() -> None:
    item = make_item(metadata={"om_meter_id": "wrong", "usage": "right"})
    row = meter_row(item, MappingRules(meter_key="usage"))
    assert row == MeterRow(openmeter="right")


def test_a_meter_named_in_metadata_is_billed_unscaled_and_rounded_down() -> None:
    row = meter_row(make_item(price=PRICE), MappingRules())
    assert row is not None
    assert (row.scale, row.rounding, row.filter) == (Decimal(1), Rounding.FLOOR, ())
    assert not row.shared
    assert not row.ignore


def test_the_customers_id_is_the_subject_as_it_stands() -> None:
    item = make_item(subscription=make_subscription(customer=Customer("cus_9")))
    assert subjects(item, "customer.id", {}) == ("cus_9",)


@pytest.mark.parametrize("source", SOURCES)
def test_the_subjects_come_from_the_metadata_that_was_named_and_from_no_other(source: str) -> None:
    owner = source.partition(".")[0]
    named = {"om": "wanted"}
    other = {"om": "unwanted"}
    item = make_item(
        subscription=make_subscription(
            customer=Customer("cus_1", metadata=named if owner == "customer" else other),
            metadata=named if owner == "subscription" else other,
        ),
        metadata=named if owner == "item" else other,
    )
    assert subjects(item, source, {}) == ("wanted",)


names = st.sampled_from(["a", "b", "tenant 1", "tenant-2", "Ünicode"])
spaces = st.sampled_from(["", " ", "\t", "  "])
parts = st.one_of(st.tuples(spaces, names, spaces), st.tuples(spaces, st.just(""), spaces))


@many
@given(st.lists(parts, max_size=8))
def test_the_same_subject_named_twice_counts_once_whatever_the_spaces(
    listed: list[tuple[str, str, str]],
) -> None:
    value = ",".join("".join(part) for part in listed)
    once: list[str] = []
    for _, name, _ in listed:
        if name and name not in once:
            once.append(name)
    assert subjects(make_item(metadata={"om": value}), "item.metadata.om", {}) == tuple(once)


@pytest.mark.parametrize("metadata", [{}, {"om": ""}, {"om": " , ,"}, {"OM": "a"}])
def test_a_missing_or_empty_value_names_no_subject(metadata: dict[str, str]) -> None:
    assert subjects(make_item(metadata=metadata), "item.metadata.om", {}) == ()


def test_a_metadata_key_may_have_dots_in_it() -> None:
    item = make_item(metadata={"my.metadata.key": "a"})
    assert subjects(item, "item.metadata.my.metadata.key", {}) == ("a",)


def test_customers_are_fetched_only_where_their_metadata_is_needed() -> None:
    assert MappingRules(subject="customer.metadata.om").needs_customer_metadata
    for subject in ("customer.id", "item.metadata.om", "subscription.metadata.om"):
        assert not MappingRules(subject=subject).needs_customer_metadata


def test_a_price_on_a_billing_meter_takes_meter_events_and_any_other_usage_records() -> None:
    assert make_price().target is Target.USAGE_RECORD
    assert make_price(stripe_meter="mtr_1").target is Target.METER_EVENT
