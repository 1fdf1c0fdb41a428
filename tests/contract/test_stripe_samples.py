"""Stripe's own sample objects pass the checks of this folder, and are understood by the program.

The samples are of API version 2023-08-16. Their subscription has its period on itself; the program
lists subscriptions in a later version, in which it is on the items, so it is moved there first, as
Stripe did with 2025-03-31.basil.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from openapi_core.exceptions import OpenAPIError

from meter_sync.errors import MeterSyncError
from meter_sync.stripe_api.prices import PriceData, to_price
from meter_sync.stripe_api.shapes import Page
from meter_sync.stripe_api.subscriptions import (
    CustomerData,
    ItemData,
    NamedItem,
    SubscriptionData,
    to_item,
    to_subscription,
)
from meter_sync.stripe_api.usage_records import UsageRecordSummary

from .documents import Document

Samples = Mapping[str, Any]

KINDS = (
    "customer",
    "deleted_customer",
    "invoice",
    "line_item",
    "price",
    "product",
    "subscription",
    "subscription_item",
    "usage_record",
    "usage_record_summary",
)


def with_periods_on_items(subscription: Mapping[str, Any]) -> dict[str, Any]:
    """Return a subscription of 2023 in the shape since 2025-03-31.basil."""
    moved = {name: subscription[name] for name in ("current_period_start", "current_period_end")}
    items = subscription["items"]
    return {
        **{name: value for name, value in subscription.items() if name not in moved},
        "items": {**items, "data": [{**item, **moved} for item in items["data"]]},
    }


def page(*rows: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(rows), "has_more": False, "url": "/v1/things"}


@pytest.mark.parametrize("kind", KINDS)
def test_stripes_sample_passes_the_check_of_its_kind(samples: Samples, stripe_contract: Document, kind: str) -> None:
    """The checks are no stricter than Stripe is with itself, and refuse another kind of object."""
    stripe_contract.check_object(kind, samples[kind])
    other = samples["coupon"]
    with pytest.raises(OpenAPIError):
        stripe_contract.check_object(kind, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_without_a_required_property_is_refused(
    samples: Samples, stripe_contract: Document, kind: str
) -> None:
    required = stripe_contract.content["components"]["schemas"][kind]["required"]
    assert required
    for name in required:
        rest = {key: value for key, value in samples[kind].items() if key != name}
        with pytest.raises(OpenAPIError):
            stripe_contract.check_object(kind, rest)


def test_stripes_sample_of_a_price_is_understood(samples: Samples) -> None:
    sample = samples["price"]
    price = to_price(PriceData.read(sample, "a price"))
    assert (price.id, price.product, price.metadata) == (
        sample["id"],
        sample["product"],
        sample["metadata"],
    )


@pytest.mark.parametrize("aggregate", ["sum", "last_during_period", "last_ever", "max"])
def test_stripes_sample_of_a_price_is_understood_as_a_metered_one(
    samples: Samples, stripe_contract: Document, aggregate: str
) -> None:
    """The sample is no recurring price; the recurrence added here has the document's shape."""
    recurring = {
        "aggregate_usage": aggregate,
        "interval": "month",
        "interval_count": 1,
        "usage_type": "metered",
    }
    sample = {**samples["price"], "type": "recurring", "recurring": recurring}
    stripe_contract.check_object("price", sample)
    data = PriceData.read(sample, "a price")
    assert data.is_metered
    assert to_price(data).aggregate_usage == aggregate


def test_stripes_sample_of_a_subscription_is_understood(samples: Samples) -> None:
    sample = samples["subscription"]
    data = SubscriptionData.read(with_periods_on_items(sample), "a subscription")
    subscription = to_subscription(data)
    assert (subscription.id, subscription.status) == (sample["id"], sample["status"])
    assert subscription.customer.id == sample["customer"]
    assert len(data.items.data) == len(sample["items"]["data"]) > 0
    price = to_price(PriceData.read(samples["price"], "a price"))
    for row in data.items.data:
        period = to_item(ItemData.read(row, "an item"), subscription, price).period
        assert (period.start, period.end) == (
            datetime.fromtimestamp(sample["current_period_start"], UTC),
            datetime.fromtimestamp(sample["current_period_end"], UTC),
        )


@pytest.mark.parametrize("kind", ["customer", "deleted_customer"])
def test_stripes_sample_of_a_subscription_with_its_customer_is_understood(samples: Samples, kind: str) -> None:
    sample = with_periods_on_items({**samples["subscription"], "customer": samples[kind]})
    customer = to_subscription(SubscriptionData.read(sample, "a subscription")).customer
    assert customer.id == samples[kind]["id"]
    assert customer.deleted is (kind == "deleted_customer")
    assert CustomerData.read(samples[kind], "a customer").id == customer.id


def test_stripes_sample_of_a_subscription_without_periods_on_its_items_is_refused(
    samples: Samples,
) -> None:
    """In its own version's shape the listing would lack what is billed by: that is never guessed."""
    with pytest.raises(MeterSyncError, match="current_period_start"):
        NamedItem.read(samples["subscription"]["items"]["data"][0], "an item")
    with pytest.raises(MeterSyncError, match="current_period_start"):
        ItemData.read(samples["subscription_item"], "an item")


def test_stripes_sample_of_a_usage_record_summary_is_understood(samples: Samples) -> None:
    sample = samples["usage_record_summary"]
    shown = Page[UsageRecordSummary].read(page(sample, sample), "summaries")
    assert [each.total_usage for each in shown.data] == [sample["total_usage"]] * 2


@pytest.mark.parametrize("total", [None, "7", 7.5])
def test_a_usage_record_summary_with_another_total_is_refused(samples: Samples, total: object) -> None:
    sample = {**samples["usage_record_summary"], "total_usage": total}
    with pytest.raises(MeterSyncError, match="total_usage"):
        Page[UsageRecordSummary].read(page(sample), "summaries")
