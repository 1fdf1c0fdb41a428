"""How Stripe shows its objects as JSON, in each API version.

Shapes: API reference of 2025-01-27.acacia, and the object types of stripe-python 16 for later
versions.
"""

from collections.abc import Sequence
from typing import Any

from meter_sync.sandbox.stripe.protocol.versions import Version
from meter_sync.sandbox.stripe.rules import usage_records
from meter_sync.sandbox.stripe.rules.billing_periods import Period
from meter_sync.sandbox.stripe.state.objects import (
    Customer,
    Item,
    Price,
    Product,
    Subscription,
    SubscriptionSnapshot,
)
from meter_sync.sandbox.stripe.state.state import StripeState

Json = dict[str, Any]

ITEMS_EMBEDDED = 10
"""How many items a subscription shows; the rest is in the list of subscription items."""


class Views:
    """Stripe's objects as one request sees them: by its API version and its mode."""

    def __init__(self, state: StripeState, version: Version, *, livemode: bool) -> None:
        self.state = state
        self.legacy = version.has_legacy_billing
        self.livemode = livemode

    def customer(self, customer: Customer) -> Json:
        """Show a customer; of a deleted one only a stub is left."""
        if customer.deleted:
            return {"id": customer.id, "object": "customer", "deleted": True}
        return {
            "id": customer.id,
            "object": "customer",
            "address": None,
            "balance": 0,
            "created": customer.created,
            "currency": None,
            "delinquent": False,
            "description": customer.description,
            "email": customer.email,
            "livemode": self.livemode,
            "metadata": customer.metadata,
            "name": customer.name,
            "phone": None,
            "shipping": None,
            "test_clock": customer.test_clock,
        }

    def product(self, product: Product) -> Json:
        """Show a product."""
        shown: Json = {
            "id": product.id,
            "object": "product",
            "active": product.active,
            "created": product.created,
            "description": None,
            "images": [],
            "livemode": self.livemode,
            "metadata": product.metadata,
            "name": product.name,
            "updated": product.created,
        }
        # Renamed to marketing_features in 2024-04-10; the 2023 shape requires it.
        return {**shown, "features": []} if self.legacy else shown

    def price(self, price: Price) -> Json:
        """Show a price; `aggregate_usage` is readable only before 2025-03-31.basil."""
        recurring: Json = {
            "interval": price.interval,
            "interval_count": price.interval_count,
            "meter": price.meter,
            "trial_period_days": None,
            "usage_type": price.usage_type,
        }
        if self.legacy:
            recurring["aggregate_usage"] = price.aggregate_usage
        transform = price.transform_quantity
        unit = price.unit_amount_decimal
        return {
            "id": price.id,
            "object": "price",
            "active": price.active,
            "billing_scheme": "per_unit",
            "created": price.created,
            "currency": price.currency,
            "custom_unit_amount": None,
            "livemode": self.livemode,
            "lookup_key": price.lookup_key,
            "metadata": price.metadata,
            "nickname": price.nickname,
            "product": price.product,
            "recurring": recurring,
            "tax_behavior": "unspecified",
            "tiers_mode": None,
            "transform_quantity": (
                None if transform is None else {"divide_by": transform.divide_by, "round": transform.round}
            ),
            "type": "recurring",
            "unit_amount": int(unit) if unit == int(unit) else None,
            "unit_amount_decimal": format(unit, "f"),
        }

    def item(self, item: Item) -> Json:
        """Show a subscription item, with its own period from 2025-03-31.basil on."""
        shown: Json = {
            "id": item.id,
            "object": "subscription_item",
            "billing_thresholds": None,
            "created": item.created,
            "discounts": [],
            "metadata": item.metadata,
            "price": self.price(self.state.price_of(item)),
            "subscription": item.subscription,
            "tax_rates": [],
        }
        if item.quantity is not None:
            shown["quantity"] = item.quantity
        if not self.legacy:
            shown["current_period_start"] = item.period.start
            shown["current_period_end"] = item.period.end
        return shown

    def snapshot(self, snapshot: SubscriptionSnapshot) -> Json:
        """Show a subscription as it was."""
        items = [snapshot.items[identifier] for identifier in snapshot.subscription.items]
        return self.subscription(snapshot.subscription, items)

    def subscription(
        self, subscription: Subscription, items: Sequence[Item] | None = None, *, expand_customer: bool = False
    ) -> Json:
        """Show a subscription with its newest items (default: as they are now).

        Before 2025-03-31.basil, when its items had but one period, that is the subscription's.
        """
        if items is None:
            items = self.state.items_of(subscription)
        newest_first = list(reversed(items))
        paused = subscription.pause_collection
        ending = "pause" if subscription.pauses_after_trial else "create_invoice"
        customer: str | Json = subscription.customer
        if expand_customer:
            customer = self.customer(self.state.customers[subscription.customer])
        shown: Json = {
            "id": subscription.id,
            "object": "subscription",
            "application": None,
            "automatic_tax": {"enabled": False, "liability": None},
            "billing_cycle_anchor": subscription.anchor,
            "billing_thresholds": subscription.billing_thresholds,
            "cancel_at": subscription.cancel_at,
            "cancel_at_period_end": subscription.cancel_at_period_end,
            "canceled_at": subscription.canceled_at,
            "collection_method": "charge_automatically",
            "created": subscription.created,
            "currency": self.state.price_of(items[0]).currency if items else "usd",
            "customer": customer,
            "description": None,
            "discounts": [],
            "ended_at": subscription.ended_at,
            "items": {
                "object": "list",
                "data": [self.item(each) for each in newest_first[:ITEMS_EMBEDDED]],
                "has_more": len(newest_first) > ITEMS_EMBEDDED,
                "total_count": len(newest_first),
                "url": f"/v1/subscription_items?subscription={subscription.id}",
            },
            "latest_invoice": subscription.latest_invoice,
            "livemode": self.livemode,
            "metadata": subscription.metadata,
            "pause_collection": paused and {"behavior": paused.behavior, "resumes_at": paused.resumes_at},
            "start_date": subscription.start_date,
            "status": subscription.status,
            "test_clock": subscription.test_clock,
            "trial_end": subscription.trial_end,
            "trial_settings": {"end_behavior": {"missing_payment_method": ending}},
            "trial_start": subscription.trial_start,
        }
        if self.legacy:
            period = items[0].period if items else Period(subscription.start_date, subscription.start_date)
            shown["current_period_start"] = period.start
            shown["current_period_end"] = period.end
        return shown

    def usage_record(self, item: Item, timestamp: int, quantity: int, number: int) -> Json:
        """Show a usage record as it was sent."""
        return {
            "id": f"mbur_1Sandbox{number:08d}",
            "object": "usage_record",
            "livemode": self.livemode,
            "quantity": quantity,
            "subscription_item": item.id,
            "timestamp": timestamp,
        }

    def summaries(self, item: Item) -> list[Json]:
        """Show the usage of each period of an item: newest first, the first being the open one.

        After a cancellation no period is open any more.
        """
        rows = [(closed.period, closed.invoice, closed.price) for closed in item.closed]
        if not rows or rows[-1][0].start < item.period.start:
            rows.append((item.period, None, item.price))
        return [
            {
                "id": f"sis_1{item.id.removeprefix('si_1')}x{number:04d}",
                "object": "usage_record_summary",
                "invoice": invoice,
                "livemode": self.livemode,
                "period": {"end": period.end, "start": period.start},
                "subscription_item": item.id,
                "total_usage": usage_records.total_usage(item, self.state.prices[price].aggregate_usage, period),
            }
            for number, (period, invoice, price) in reversed(list(enumerate(rows)))
        ]
