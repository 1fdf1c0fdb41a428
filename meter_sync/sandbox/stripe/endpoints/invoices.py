"""Endpoints of the embedded Stripe: invoices and their lines."""

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page, page_of_rows
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.protocol.parameters import choice, span, text, within
from meter_sync.sandbox.stripe.rules.invoices import upcoming
from meter_sync.sandbox.stripe.state.objects import Invoice
from meter_sync.sandbox.stripe.views.invoices import show_invoice, show_lines
from meter_sync.sandbox.stripe.views.view import Json


def _list_invoices(call: Call) -> Json:
    """List invoices; those of test clocks only with `customer` or `subscription` (documentation of test clocks)."""
    params, invoices = call.params, call.state.invoices
    shelf = None
    if "customer" in params:
        call.state.customers.find(params["customer"], param="customer", status=400)
        shelf = invoices.shelf(f"customer:{params['customer']}")
    if "subscription" in params:
        call.state.subscriptions.find(params["subscription"], param="subscription", status=400)
        shelf = invoices.shelf(f"subscription:{params['subscription']}")

    def matches(invoice: Invoice) -> bool:
        return (
            (shelf is not None or call.state.clock_of(invoice.id) is None)
            and invoice.created <= call.state.now_of(call.state.clock_of(invoice.id))
            and params.get("customer") in (None, invoice.customer)
            and params.get("status") in (None, invoice.status)
            and within(params.get("created"), invoice.created)
        )

    return page(call, invoices, show_invoice, matches, shelf)


def _get_invoice(call: Call) -> Json:
    return show_invoice(call.view, call.state.invoices.find(call.ids[0]))


def _list_lines(call: Call) -> Json:
    return page_of_rows(call, "invoice line item", show_lines(call.view, call.state.invoices.find(call.ids[0])))


def _upcoming_invoice(call: Call) -> Json:
    """Show the next invoice as it would be now."""
    subscription = call.state.subscriptions.find(call.params["subscription"], param="subscription")
    if subscription.ended or not subscription.items:
        raise Refusal(
            f"No upcoming invoices for customer: {subscription.customer}", status=404, code="invoice_upcoming_none"
        )
    return show_invoice(call.view, upcoming(call.state, subscription))


ENDPOINTS = (
    Endpoint(
        "GET /v1/invoices",
        "invoices:read",
        _list_invoices,
        fields={
            **PAGING,
            "created": span,
            "customer": text,
            "status": choice("draft", "open", "paid", "uncollectible", "void"),
            "subscription": text,
        },
    ),
    Endpoint(
        "GET /v1/invoices/upcoming",
        "invoices:read",
        _upcoming_invoice,
        fields={"subscription": text},
        required=("subscription",),
        legacy_billing=True,
    ),
    Endpoint("GET /v1/invoices/{}", "invoices:read", _get_invoice),
    Endpoint("GET /v1/invoices/{}/lines", "invoices:read", _list_lines, fields=PAGING),
)
