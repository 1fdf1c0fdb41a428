"""Endpoints of the embedded Stripe: invoices and their lines."""

from meter_sync.sandbox.stripe.endpoints.endpoint import PAGING, Call, Endpoint, page, page_of_rows
from meter_sync.sandbox.stripe.protocol.errors import Refusal, no_such
from meter_sync.sandbox.stripe.protocol.parameters import choice, span, text, within
from meter_sync.sandbox.stripe.rules import invoices as stripe_invoices
from meter_sync.sandbox.stripe.state.objects import Invoice
from meter_sync.sandbox.stripe.views import invoices as show
from meter_sync.sandbox.stripe.views.catalog import Json


def _list_invoices(call: Call) -> Json:
    params, invoices = call.params, call.state.invoices
    shelf = invoices.everything
    if "customer" in params:
        call.state.customer(params["customer"], param="customer", status=400)
        shelf = invoices.shelf(f"customer:{params['customer']}")
    if "subscription" in params:
        call.state.subscription(params["subscription"], param="subscription", status=400)
        shelf = invoices.shelf(f"subscription:{params['subscription']}")

    def matches(invoice: Invoice) -> bool:
        return (
            params.get("customer") in (None, invoice.customer)
            and params.get("status") in (None, invoice.status)
            and within(params.get("created"), invoice.created)
        )

    def shown(invoice: Invoice) -> Json:
        return show.invoice(call.views, invoice)

    return page(call, "invoice", invoices, shelf, shown, matches)


def _found(call: Call) -> Invoice:
    invoice = call.state.invoices.get(call.ids[0])
    if invoice is None:
        raise no_such("invoice", call.ids[0])
    return invoice


def _get_invoice(call: Call) -> Json:
    return show.invoice(call.views, _found(call))


def _list_lines(call: Call) -> Json:
    return page_of_rows(call, "invoice line item", show.lines(call.views, _found(call)))


def _upcoming_invoice(call: Call) -> Json:
    """Show the next invoice as it would be now."""
    subscription = call.state.subscription(call.params["subscription"], param="subscription", status=404)
    if subscription.ended or not subscription.items:
        raise Refusal(
            f"No upcoming invoices for customer: {subscription.customer}",
            status=404,
            code="invoice_upcoming_none",
        )
    return show.invoice(call.views, stripe_invoices.upcoming(call.state, subscription))


ENDPOINTS = (
    Endpoint(
        method="GET",
        template="/v1/invoices",
        permission="invoices:read",
        fields={
            **PAGING,
            "created": span,
            "customer": text,
            "status": choice("draft", "open", "paid", "uncollectible", "void"),
            "subscription": text,
        },
        carry_out=_list_invoices,
    ),
    Endpoint(
        method="GET",
        template="/v1/invoices/upcoming",
        permission="invoices:read",
        fields={"subscription": text},
        required=("subscription",),
        legacy_billing=True,
        carry_out=_upcoming_invoice,
    ),
    Endpoint(
        method="GET",
        template="/v1/invoices/{}",
        permission="invoices:read",
        carry_out=_get_invoice,
    ),
    Endpoint(
        method="GET",
        template="/v1/invoices/{}/lines",
        permission="invoices:read",
        fields=PAGING,
        carry_out=_list_lines,
    ),
)
