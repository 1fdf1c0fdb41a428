"""How Stripe shows invoice items as JSON.

Shapes: API reference of 2025-01-27.acacia, and the object types of stripe-python 16 for later versions.
"""

from meter_sync.sandbox.stripe.state.objects import InvoiceItem
from meter_sync.sandbox.stripe.views.prices import show_price
from meter_sync.sandbox.stripe.views.view import Json, View


def show_invoice_item(view: View, shown: InvoiceItem) -> Json:
    """Show an invoice item, from 2025-03-31.basil on with the subscription item that it comes from."""
    line, price = shown.line, view.state.prices[shown.line.price]
    json: Json = {
        "id": shown.id,
        "object": "invoiceitem",
        "amount": int(line.amount_cents),
        "currency": shown.currency,
        "customer": shown.customer,
        "date": shown.created,
        "description": None,
        "discountable": True,
        "discounts": [],
        "invoice": shown.invoice,
        "livemode": view.livemode,
        "metadata": {},
        "period": {"end": line.period.end, "start": line.period.start},
        "proration": False,
        "quantity": line.quantity,
        "tax_rates": [],
        "test_clock": None,
    }
    if view.legacy:
        whose = {"subscription": shown.subscription, "subscription_item": line.item}
        return {**json, **whose, "price": show_price(view, price), "unit_amount": None, "unit_amount_decimal": None}
    details = {"subscription": shown.subscription, "subscription_item": line.item}
    return {
        **json,
        "net_amount": int(line.amount_cents),
        "parent": {"type": "subscription_details", "subscription_details": details},
        "pricing": {
            "type": "price_details",
            "price_details": {"price": price.id, "product": price.product},
            "unit_amount_decimal": format(price.unit_amount_decimal, "f"),
        },
        "quantity_decimal": str(line.quantity),
    }
