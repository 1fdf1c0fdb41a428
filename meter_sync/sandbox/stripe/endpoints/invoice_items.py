"""Endpoints of the embedded Stripe: invoice items."""

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page
from meter_sync.sandbox.stripe.protocol.parameters import flag, span, text, within
from meter_sync.sandbox.stripe.state.objects import InvoiceItem
from meter_sync.sandbox.stripe.views.invoice_items import show_invoice_item
from meter_sync.sandbox.stripe.views.view import Json


def _list_invoice_items(call: Call) -> Json:
    params, items = call.params, call.state.invoice_items
    shelf = None
    if "customer" in params:
        call.state.customers.find(params["customer"], param="customer", status=400)
        shelf = items.shelf(f"customer:{params['customer']}")

    def matches(one: InvoiceItem) -> bool:
        return (
            params.get("pending") in (None, one.invoice is None)
            and params.get("invoice") in (None, one.invoice)
            and within(params.get("created"), one.created)
        )

    return page(call, items, show_invoice_item, matches, shelf)


ENDPOINTS = (
    Endpoint(
        "GET /v1/invoiceitems",
        "invoices:read",
        _list_invoice_items,
        fields={**PAGING, "created": span, "customer": text, "invoice": text, "pending": flag},
    ),
)
