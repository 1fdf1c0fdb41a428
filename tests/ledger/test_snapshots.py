"""Items that any version has stored are read as they were, and written again as the same bytes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from meter_sync.core.billing.item import (
    BillingMeter,
    Customer,
    Period,
    Price,
    Subscription,
    SubscriptionItem,
    WindowSize,
)
from meter_sync.errors import LedgerError
from meter_sync.ledger.snapshot import item_from, stored

STORED = {
    json.loads(line)["id"]: line
    for line in (Path(__file__).parent / "snapshots_of_183eab5.jsonl").read_text("utf-8").removesuffix("\n").split("\n")
}
"""What the ledger of commit 183eab5 had stored, by item. Never changed: installed ledgers have such rows."""

PERIOD = Period(datetime(2026, 11, 1, 9, 30, 17, tzinfo=UTC), datetime(2026, 12, 1, 9, 30, 17, tzinfo=UTC))
CREATED = datetime(2025, 2, 28, 23, 59, 59, tzinfo=UTC)
LEGACY = Price("price_1", "prod_1")
SUBSCRIPTION = Subscription("sub_1", Customer("cus_1"), "active", CREATED)


def item(name: str, price: Price = LEGACY, subscription: Subscription = SUBSCRIPTION, **more: Any) -> SubscriptionItem:
    return replace(SubscriptionItem(f"si_{name}", subscription, price, PERIOD, CREATED), **more)


def aggregated(how: str) -> SubscriptionItem:
    return item(how, Price(f"price_{how}", "prod_1", aggregate_usage=how))


def metered(name: str, formula: str = "sum", **more: Any) -> SubscriptionItem:
    meter = BillingMeter(f"mtr_{name}", "requests", formula, **more)
    return item(name, Price(f"price_{name}", "prod_1", stripe_meter=meter.id, billing_meter=meter))


WITH_METADATA = item(
    "metadata",
    Price(
        "price_metadata",
        "prod_1",
        lookup_key="gb-é",
        metadata={"unit": "GB", "note": '"quoted" \\ \n\u2028 \U0001f30d'},
    ),
    replace(
        SUBSCRIPTION, metadata={"z": "1", "a": "2"}, customer=Customer("cus_1", metadata={"openmeter": "zoë & co"})
    ),
    metadata={"openmeter_subjects": "a,b"},
)
ITEMS = [
    aggregated("sum"),
    aggregated("max"),
    aggregated("last_during_period"),
    aggregated("last_ever"),
    metered("hours", window=WindowSize.HOUR),
    metered("days", "count", window=WindowSize.DAY),
    metered("no_window", "last"),
    metered(
        "odd",
        unknown_window="week",
        customer_key="who",
        customer_mapping="by_email",
        value_key="units",
        is_active=False,
    ),
    item("meter_not_read", Price("price_meter_not_read", "prod_1", stripe_meter="mtr_not_read")),
    WITH_METADATA,
    item("deleted_customer", subscription=replace(SUBSCRIPTION, customer=Customer("cus_gone", deleted=True))),
    item(
        "trial",
        subscription=replace(SUBSCRIPTION, status="trialing", trial_end=datetime(2026, 11, 15, tzinfo=UTC)),
    ),
    item("thresholds", subscription=replace(SUBSCRIPTION, has_billing_thresholds=True)),
    item("paused", subscription=replace(SUBSCRIPTION, status="paused")),
    item("last", period=Period(PERIOD.start, datetime(2026, 11, 28, 9, 30, 17, tzinfo=UTC)), is_followed=False),
]


def test_every_stored_item_is_looked_at_here() -> None:
    assert [one.id for one in ITEMS] == list(STORED)


@pytest.mark.parametrize("expected", ITEMS, ids=lambda one: one.id)
def test_what_an_earlier_version_stored_is_read_as_the_item_that_it_was(expected: SubscriptionItem) -> None:
    assert item_from(STORED[expected.id]) == expected


@pytest.mark.parametrize("one", ITEMS, ids=lambda one: one.id)
def test_it_is_stored_again_as_the_same_bytes_so_that_no_row_is_written_anew(one: SubscriptionItem) -> None:
    assert stored(one) == STORED[one.id]
    assert stored(item_from(STORED[one.id])) == STORED[one.id]


def objects(found: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object of a stored item that has fields, with its place."""
    if isinstance(found, dict) and not where.endswith("metadata"):
        yield where, found
        for name, value in found.items():
            yield from objects(value, f"{where}.{name}".removeprefix("."))


PLACES = [where for where, _ in objects(json.loads(STORED["si_hours"]))]


def changed(where: str, change: Callable[[dict[str, Any]], object]) -> str:
    """Return a stored item after a change of the object in that place."""
    found = json.loads(STORED["si_hours"])
    change(dict(objects(found))[where])
    return json.dumps(found)


@pytest.mark.parametrize("where", PLACES)
def test_a_field_that_is_missing_is_refused_rather_than_read_as_its_default(where: str) -> None:
    for name in dict(objects(json.loads(STORED["si_hours"])))[where]:
        with pytest.raises(LedgerError, match="not as this version of meter-sync stores it") as refused:
            item_from(changed(where, lambda one, name=name: one.pop(name)))  # type: ignore[misc]
        assert f"{where}.{name}: Field required".removeprefix(".") in refused.value.message


@pytest.mark.parametrize("where", PLACES)
def test_a_field_that_no_version_has_stored_is_refused_rather_than_lost(where: str) -> None:
    with pytest.raises(LedgerError, match=r"another: Extra inputs are not permitted"):
        item_from(changed(where, lambda one: one.update(another="x")))


@pytest.mark.parametrize("snapshot", ["", "{", "[]", "null", changed("price", lambda one: one.update(id=7))])
def test_what_is_no_stored_item_is_refused(snapshot: str) -> None:
    with pytest.raises(LedgerError, match="an item in the ledger"):
        item_from(snapshot)


def test_every_field_of_an_item_is_stored() -> None:
    """A field that the core gets anew has to be stored with the others."""
    full = replace(
        WITH_METADATA,
        is_followed=False,
        is_cut=True,
        cycle_start=CREATED,
        changes_at=CREATED,
        may_change_until=CREATED,
        not_understood="its end was not understood",
        price=replace(
            WITH_METADATA.price,
            aggregate_usage="max",
            is_per_unit=True,
            stripe_meter="mtr_1",
            billing_meter=BillingMeter(
                "mtr_1", "e", "sum", WindowSize.DAY, "week", "who", "by_email", "units", False, "asleep"
            ),
        ),
        subscription=Subscription(
            "sub_1",
            Customer("cus_1", deleted=True, metadata={"a": "b"}),
            "trialing",
            CREATED,
            {"a": "b"},
            has_billing_thresholds=True,
            trial_end=CREATED,
            voids_invoices=True,
            is_flexible=True,
            unknown_billing_mode="hybrid",
        ),
    )
    assert list(fields_at_their_default(full)) == []
    assert item_from(stored(full)) == full


def fields_at_their_default(one: Any, where: str = "item") -> Iterator[str]:
    for field in fields(one):
        value = getattr(one, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if value == default:
            yield f"{where}.{field.name}"
        if is_dataclass(value):
            yield from fields_at_their_default(value, f"{where}.{field.name}")
