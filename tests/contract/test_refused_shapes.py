"""What contradicts the shape of an answer, however deep, is refused, and the message says where."""

from typing import Any

import pytest

from meter_sync.stripe_api.invoices import InvoiceLineData
from meter_sync.stripe_api.shapes import NotUnderstood, Shape
from meter_sync.stripe_api.subscriptions import ItemData, NamedItem, NamedSubscription, SubscriptionData
from meter_sync.stripe_api.usage_records import UsageRecordSummary

LINE = {"id": "il_1", "period": {"start": 0, "end": 1}}
SUMMARY = {"subscription_item": "si_1", "total_usage": 7}
ITEM = {
    "id": "si_1",
    "subscription": "sub_1",
    "created": 0,
    "current_period_start": 0,
    "current_period_end": 1,
    "metadata": {},
    "price": {"id": "price_1", "recurring": {"usage_type": "metered"}},
}
SUBSCRIPTION = {"id": "sub_1", "customer": "cus_1", "status": "canceled", "created": 0, "metadata": {}}


def items(item: dict[str, Any]) -> dict[str, Any]:
    return {"items": {"data": [item], "has_more": False}}


@pytest.mark.parametrize(
    ("shape", "answer", "fault"),
    [
        (InvoiceLineData, {**LINE, "pricing": {"price_details": {}}}, "pricing.price_details.price: "),
        (InvoiceLineData, {**LINE, "pricing": {"price_details": {"price": None}}}, "pricing.price_details.price: "),
        (InvoiceLineData, {**LINE, "pricing": "price_1"}, "pricing: "),
        (InvoiceLineData, {**LINE, "parent": []}, "parent: "),
        (
            InvoiceLineData,
            {**LINE, "parent": {"subscription_item_details": {"subscription_item": "../si_1"}}},
            "parent.subscription_item_details.subscription_item: ",
        ),
        (InvoiceLineData, {**LINE, "period": {"start": 0, "end": True}}, "period.end: "),
        (UsageRecordSummary, {**SUMMARY, "period": None}, "period: "),
        (UsageRecordSummary, {**SUMMARY, "period": {"start": None, "end": "later"}}, "period.end: "),
        (UsageRecordSummary, {**SUMMARY, "period": {"start": 1.0}}, "period.start: "),
        (ItemData, {**ITEM, "current_period_end": "1"}, "current_period_end: "),
        (ItemData, {**ITEM, "current_period_start": 2}, ": Value error, its period ends before it starts"),
        (NamedItem, {**ITEM, "current_period_start": 2}, ": Value error, its period ends before it starts"),
        (NamedItem, {**ITEM, "id": "../si_1"}, "id: "),
        (ItemData, {**ITEM, "metadata": {"\ud800": "x"}}, "metadata."),
        (SubscriptionData, {**SUBSCRIPTION, **items(ITEM), "metadata": {"seats": 3}}, "metadata.seats: "),
        (NamedSubscription, {**SUBSCRIPTION, **items(ITEM), "id": "../sub_1"}, "id: "),
        (NamedSubscription, {**SUBSCRIPTION, "items": {"data": [1], "has_more": False}}, "items.data.0: "),
    ],
)
def test_what_has_another_shape_is_refused_by_its_place(shape: type[Shape], answer: dict[str, Any], fault: str) -> None:
    with pytest.raises(NotUnderstood) as refused:
        shape.read(answer, "it")
    assert refused.value.why.startswith(f"Stripe's answer for it was not understood: {fault}")


@pytest.mark.parametrize(
    ("shape", "answer"),
    [
        (InvoiceLineData, LINE),
        (InvoiceLineData, {**LINE, "parent": None, "pricing": {"price_details": None}}),
        (UsageRecordSummary, SUMMARY),
        (UsageRecordSummary, {**SUMMARY, "period": {"start": 0, "end": None}}),
        (SubscriptionData, {**SUBSCRIPTION, **items(ITEM)}),
        (NamedSubscription, {**SUBSCRIPTION, **items({"id": 7}), "metadata": None, "status": 7, "test_clock": 7}),
        (ItemData, ITEM),
        (NamedItem, {**ITEM, "subscription": None, "metadata": 7, "price": {"id": "price_1", "recurring": None}}),
    ],
)
def test_what_may_be_left_out_or_null_is_understood(shape: type[Shape], answer: dict[str, Any]) -> None:
    shape.read(answer, "it")
