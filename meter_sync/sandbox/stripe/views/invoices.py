"""How Stripe shows invoices and their lines as JSON, in each API version.

Shapes: API reference of 2025-01-27.acacia, and the object types of stripe-python 16 for later
versions. An invoice's link to its subscription and a line's to its item moved in 2025-03-31.basil.
"""

from meter_sync.sandbox.stripe.state.objects import Invoice, InvoiceLine
from meter_sync.sandbox.stripe.views.catalog import Json, Views

LINES_EMBEDDED = 10
"""How many lines an invoice shows; the rest is in the list of its lines."""


def invoice(views: Views, shown: Invoice) -> Json:
    """Show an invoice with its first lines; an upcoming one has no id."""
    total = int(shown.total_cents)
    paid = shown.status == "paid"
    json: Json = {
        "id": shown.id,
        "object": "invoice",
        "amount_due": total,
        "amount_paid": 0,
        "amount_remaining": total,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": not paid and shown.collection is None,
        "automatic_tax": {"enabled": False, "status": None},
        "billing_reason": shown.billing_reason,
        "collection_method": "charge_automatically",
        "created": shown.created,
        "currency": shown.currency,
        "customer": shown.customer,
        "default_tax_rates": [],
        "lines": {
            "object": "list",
            "data": lines(views, shown)[:LINES_EMBEDDED],
            "has_more": len(shown.lines) > LINES_EMBEDDED,
            "total_count": len(shown.lines),
            "url": f"/v1/invoices/{shown.id}/lines",
        },
        "livemode": views.livemode,
        "metadata": {},
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": shown.period.end,
        "period_start": shown.period.start,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0,
        "status": shown.status,
        "status_transitions": {"finalized_at": shown.finalized_at},
        "subtotal": total,
        "total": total,
    }
    if shown.billing_reason == "upcoming":
        del json["id"]
    if views.legacy:
        return {
            **json,
            "paid": paid,
            "paid_out_of_band": False,
            "subscription": shown.subscription,
            "total_tax_amounts": [],
        }
    return {
        **json,
        "automatically_finalizes_at": shown.finalizes_at if shown.status == "draft" else None,
        "parent": {
            "type": "subscription_details",
            "subscription_details": {"metadata": {}, "subscription": shown.subscription},
        },
    }


def lines(views: Views, of: Invoice) -> list[Json]:
    """Show all lines of an invoice, in its order."""
    number = of.id.removeprefix("in_")
    return [_line(views, line, of, f"il_{number}{place:03d}") for place, line in enumerate(of.lines)]


def _line(views: Views, line: InvoiceLine, of: Invoice, identifier: str) -> Json:
    price = views.state.prices[line.price]
    json: Json = {
        "id": identifier,
        "object": "line_item",
        "amount": int(line.amount_cents),
        "currency": of.currency,
        "description": None,
        "discountable": True,
        "livemode": views.livemode,
        "metadata": {},
        "period": {"end": line.period.end, "start": line.period.start},
        "quantity": line.quantity,
    }
    if views.legacy:
        return {
            **json,
            "price": views.price(price),
            "proration": False,
            "subscription": of.subscription,
            "subscription_item": line.item,
            "type": "subscription",
        }
    return {
        **json,
        "parent": {
            "type": "subscription_item_details",
            "subscription_item_details": {
                "proration": False,
                "subscription": of.subscription,
                "subscription_item": line.item,
            },
        },
        "pricing": {
            "type": "price_details",
            "price_details": {"price": price.id, "product": price.product},
            "unit_amount_decimal": format(price.unit_amount_decimal, "f"),
        },
    }
