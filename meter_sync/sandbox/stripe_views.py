"""How Stripe shows its objects as JSON, in each API version.

Shapes: API reference of 2025-01-27.acacia, and the object types of stripe-python 16 for later
versions.
"""

from typing import Any

from meter_sync.sandbox import stripe_usage
from meter_sync.sandbox.billing_periods import Period
from meter_sync.sandbox.stripe_objects import (
    Customer,
    Invoice,
    InvoiceLine,
    Item,
    Price,
    Product,
    StripeState,
    Subscription,
)
from meter_sync.sandbox.stripe_versions import Version

Json = dict[str, Any]

ITEMS_EMBEDDED = 10
"""How many items a subscription shows; the rest is in the list of subscription items."""


class Views:
    """Stripe's objects as one request sees them: by its API version and its mode."""

    def __init__(self, state: StripeState, version: Version, *, livemode: bool) -> None:
        self._state = state
        self._legacy = version.has_legacy_billing
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
        return {**shown, "features": []} if self._legacy else shown

    def price(self, price: Price) -> Json:
        """Show a price; `aggregate_usage` is readable only before 2025-03-31.basil."""
        recurring: Json = {
            "interval": price.interval,
            "interval_count": price.interval_count,
            "meter": price.meter,
            "trial_period_days": None,
            "usage_type": price.usage_type,
        }
        if self._legacy:
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
            "price": self.price(self._state.price_of(item)),
            "subscription": item.subscription,
            "tax_rates": [],
        }
        if item.quantity is not None:
            shown["quantity"] = item.quantity
        if not self._legacy:
            shown["current_period_start"] = item.period.start
            shown["current_period_end"] = item.period.end
        return shown

    def subscription(self, subscription: Subscription, *, expand_customer: bool = False) -> Json:
        """Show a subscription, with its period before 2025-03-31.basil, and its newest items."""
        newest_first = list(reversed(subscription.items))
        customer: str | Json = subscription.customer
        if expand_customer:
            customer = self.customer(self._state.customers[subscription.customer])
        shown: Json = {
            "id": subscription.id,
            "object": "subscription",
            "application": None,
            "automatic_tax": {"enabled": False, "liability": None},
            "billing_cycle_anchor": subscription.anchor,
            "billing_thresholds": subscription.billing_thresholds,
            "cancel_at": None,
            "cancel_at_period_end": False,
            "canceled_at": subscription.canceled_at,
            "collection_method": "charge_automatically",
            "created": subscription.created,
            "currency": self._currency(subscription),
            "customer": customer,
            "description": None,
            "discounts": [],
            "ended_at": subscription.canceled_at,
            "items": {
                "object": "list",
                "data": [self.item(self._state.items[each]) for each in newest_first[:ITEMS_EMBEDDED]],
                "has_more": len(newest_first) > ITEMS_EMBEDDED,
                "total_count": len(newest_first),
                "url": f"/v1/subscription_items?subscription={subscription.id}",
            },
            "latest_invoice": subscription.latest_invoice,
            "livemode": self.livemode,
            "metadata": subscription.metadata,
            "start_date": subscription.start_date,
            "status": subscription.status,
            "test_clock": subscription.test_clock,
            "trial_end": subscription.trial_end,
            "trial_start": subscription.trial_start,
        }
        if self._legacy:
            period = self._period(subscription)
            shown["current_period_start"] = period.start
            shown["current_period_end"] = period.end
        return shown

    def _currency(self, subscription: Subscription) -> str:
        for identifier in subscription.items:
            return self._state.price_of(self._state.items[identifier]).currency
        return "usd"

    def _period(self, subscription: Subscription) -> Period:
        """Return the subscription's period: its items had but one before 2025-03-31.basil."""
        for identifier in subscription.items:
            return self._state.items[identifier].period
        return Period(subscription.start_date, subscription.start_date)

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
        """Show the usage of each period of an item: newest first, the first being the open one."""
        aggregation = self._state.price_of(item).aggregate_usage
        periods: list[tuple[Period, str | None]] = [(closed.period, closed.invoice) for closed in item.closed]
        periods.append((item.period, None))
        return [
            {
                "id": f"sis_1{item.id.removeprefix('si_1')}x{number:04d}",
                "object": "usage_record_summary",
                "invoice": invoice,
                "livemode": self.livemode,
                "period": {"end": period.end, "start": period.start},
                "subscription_item": item.id,
                "total_usage": stripe_usage.total_usage(item, aggregation, period),
            }
            for number, (period, invoice) in reversed(list(enumerate(periods)))
        ]

    def invoice(self, invoice: Invoice) -> Json:
        """Show an invoice; its link to the subscription moved in 2025-03-31.basil."""
        total = int(invoice.total_cents)
        paid = invoice.status == "paid"
        shown: Json = {
            "id": invoice.id,
            "object": "invoice",
            "amount_due": total,
            "amount_paid": 0,
            "amount_remaining": total,
            "amount_shipping": 0,
            "attempt_count": 0,
            "attempted": False,
            "auto_advance": not paid,
            "automatic_tax": {"enabled": False, "status": None},
            "billing_reason": "subscription_cycle",
            "collection_method": "charge_automatically",
            "created": invoice.created,
            "currency": invoice.currency,
            "customer": invoice.customer,
            "default_tax_rates": [],
            "lines": {
                "object": "list",
                "data": [
                    self._line(line, invoice, f"il_{invoice.id.removeprefix('in_')}{place:03d}")
                    for place, line in enumerate(invoice.lines)
                ],
                "has_more": False,
                "total_count": len(invoice.lines),
                "url": f"/v1/invoices/{invoice.id}/lines",
            },
            "livemode": self.livemode,
            "metadata": {},
            "payment_settings": {
                "default_mandate": None,
                "payment_method_options": None,
                "payment_method_types": None,
            },
            "period_end": invoice.period.end,
            "period_start": invoice.period.start,
            "post_payment_credit_notes_amount": 0,
            "pre_payment_credit_notes_amount": 0,
            "starting_balance": 0,
            "status": invoice.status,
            "status_transitions": {"finalized_at": invoice.finalized_at},
            "subtotal": total,
            "total": total,
        }
        if self._legacy:
            return {
                **shown,
                "paid": paid,
                "paid_out_of_band": False,
                "subscription": invoice.subscription,
                "total_tax_amounts": [],
            }
        details = {"metadata": {}, "subscription": invoice.subscription}
        parent = {"type": "subscription_details", "subscription_details": details}
        return {**shown, "parent": parent}

    def _line(self, line: InvoiceLine, invoice: Invoice, identifier: str) -> Json:
        price = self._state.prices[line.price]
        shown: Json = {
            "id": identifier,
            "object": "line_item",
            "amount": int(line.amount_cents),
            "currency": invoice.currency,
            "description": None,
            "discountable": True,
            "livemode": self.livemode,
            "metadata": {},
            "period": {"end": line.period.end, "start": line.period.start},
            "quantity": line.quantity,
        }
        if self._legacy:
            return {
                **shown,
                "price": self.price(price),
                "proration": False,
                "subscription": invoice.subscription,
                "subscription_item": line.item,
                "type": "subscription",
            }
        return {
            **shown,
            "parent": {
                "type": "subscription_item_details",
                "subscription_item_details": {
                    "proration": False,
                    "subscription": invoice.subscription,
                    "subscription_item": line.item,
                },
            },
            "pricing": {
                "type": "price_details",
                "price_details": {"price": price.id, "product": price.product},
                "unit_amount_decimal": format(price.unit_amount_decimal, "f"),
            },
        }
