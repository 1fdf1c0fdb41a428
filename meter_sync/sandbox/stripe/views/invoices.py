"""How Stripe shows invoices and their lines as JSON, in each API version.

Shapes: API reference of 2025-01-27.acacia, and the object types of stripe-python 16 for later
versions. An invoice's link to its subscription and a line's to its item moved in 2025-03-31.basil.
"""

from meter_sync.sandbox.stripe.state.objects import Invoice, InvoiceLine
from meter_sync.sandbox.stripe.views.prices import show_price
from meter_sync.sandbox.stripe.views.view import Json, View

LINES_EMBEDDED = 10
"""How many lines an invoice shows; the rest is in the list of its lines."""


def show_invoice(view: View, shown: Invoice) -> Json:
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
        "lines": _first_lines(view, shown),
        "livemode": view.livemode,
        "metadata": {},
        "payment_settings": dict.fromkeys(("default_mandate", "payment_method_options", "payment_method_types")),
        "period_end": shown.period.end,
        "period_start": shown.period.start,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0,
        "status": shown.status,
        "status_transitions": {"finalized_at": shown.finalized_at},
        "subtotal": total,
        "total": total,
        **_by_version(view, shown, paid=paid),
    }
    if shown.billing_reason == "upcoming":
        del json["id"]
    return json


def _by_version(view: View, shown: Invoice, *, paid: bool) -> Json:
    """Show what moved or was removed in 2025-03-31.basil."""
    if view.legacy:
        return {
            "paid": paid,
            "paid_out_of_band": False,
            "subscription": shown.subscription,
            "total_tax_amounts": [],
        }
    return {
        "automatically_finalizes_at": shown.finalizes_at if shown.status == "draft" else None,
        "parent": {
            "type": "subscription_details",
            "subscription_details": {"metadata": {}, "subscription": shown.subscription},
        },
    }


def _first_lines(view: View, shown: Invoice) -> Json:
    return {
        "object": "list",
        "data": show_lines(view, shown)[:LINES_EMBEDDED],
        "has_more": len(shown.lines) > LINES_EMBEDDED,
        "total_count": len(shown.lines),
        "url": f"/v1/invoices/{shown.id}/lines",
    }


def show_lines(view: View, of: Invoice) -> list[Json]:
    """Show all lines of an invoice, in its order."""
    number = of.id.removeprefix("in_")
    return [_line(view, line, of, f"il_{number}{place:03d}") for place, line in enumerate(of.lines)]


def _line(view: View, line: InvoiceLine, of: Invoice, identifier: str) -> Json:
    price = view.state.prices[line.price]
    json: Json = {
        "id": identifier,
        "object": "line_item",
        "amount": int(line.amount_cents),
        "currency": of.currency,
        "description": None,
        "discountable": True,
        "livemode": view.livemode,
        "metadata": {},
        "period": {"end": line.period.end, "start": line.period.start},
        "quantity": line.quantity,
    }
    if view.legacy:
        is_item = line.invoice_item is not None
        return {
            **json,
            **({"invoice_item": line.invoice_item} if is_item else {}),
            "price": show_price(view, price),
            "proration": False,
            "subscription": of.subscription,
            "subscription_item": line.item,
            "type": "invoiceitem" if is_item else "subscription",
        }
    return {
        **json,
        "parent": _parent(line, of),
        "pricing": {
            "type": "price_details",
            "price_details": {"price": price.id, "product": price.product},
            "unit_amount_decimal": format(price.unit_amount_decimal, "f"),
        },
    }


def _parent(line: InvoiceLine, of: Invoice) -> Json:
    """Show what a line comes from: of an invoice item the subscription item is not shown (the SDK's own types)."""
    details: Json = {"proration": False, "subscription": of.subscription}
    if line.invoice_item is None:
        kind = "subscription_item_details"
        details["subscription_item"] = line.item
    else:
        kind = "invoice_item_details"
        details |= {"invoice_item": line.invoice_item, "proration_details": None}
    return {"type": kind, kind: details}
