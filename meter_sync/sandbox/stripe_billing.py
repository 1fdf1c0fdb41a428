"""Endpoints of the embedded Stripe: usage records, their summaries, and invoices."""

from meter_sync.sandbox import stripe_invoices
from meter_sync.sandbox.billing_periods import Period
from meter_sync.sandbox.stripe_endpoints import PAGING, Call, Endpoint, list_json, page
from meter_sync.sandbox.stripe_errors import Refusal, no_such
from meter_sync.sandbox.stripe_objects import Invoice
from meter_sync.sandbox.stripe_parameters import choice, instant_or_now, text, whole
from meter_sync.sandbox.stripe_views import Json


def _create_usage_record(call: Call) -> Json:
    quantity = call.params["quantity"]
    timestamp = call.world.create_usage_record(
        call.ids[0],
        quantity,
        call.params.get("timestamp"),
        call.params.get("action", "increment"),
    )
    number = call.state.new_number("usage_record")
    return call.views.usage_record(call.state.items[call.ids[0]], timestamp, quantity, number)


def _list_summaries(call: Call) -> Json:
    """List the usage of each period: newest first, the first being the open one."""
    item = call.state.item(call.ids[0], param="subscription_item")
    everything = call.views.summaries(item)
    ids = [summary["id"] for summary in everything]
    limit = call.params.get("limit", 10)
    for name in ("starting_after", "ending_before"):
        if name in call.params and call.params[name] not in ids:
            raise no_such("usage_record_summary", call.params[name], param=name, status=400)
    if "ending_before" in call.params:
        end = ids.index(call.params["ending_before"])
        start = max(0, end - limit)
        return list_json(call.path, everything[start:end], has_more=start > 0)
    start = ids.index(call.params["starting_after"]) + 1 if "starting_after" in call.params else 0
    shown = everything[start : start + limit]
    return list_json(call.path, shown, has_more=start + limit < len(everything))


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
        return params.get("customer") in (None, invoice.customer) and params.get("status") in (
            None,
            invoice.status,
        )

    return page(call, "invoice", invoices, shelf, call.views.invoice, matches)


def _get_invoice(call: Call) -> Json:
    invoice = call.state.invoices.get(call.ids[0])
    if invoice is None:
        raise no_such("invoice", call.ids[0])
    return call.views.invoice(invoice)


def _upcoming_invoice(call: Call) -> Json:
    """Show the next invoice as it would be now; it has no id, since it does not exist yet."""
    subscription = call.state.subscription(call.params["subscription"], param="subscription", status=404)
    if subscription.ended or not subscription.items:
        raise Refusal(
            f"No upcoming invoices for customer: {subscription.customer}",
            status=404,
            code="invoice_upcoming_none",
        )
    periods = [call.state.items[each].period for each in subscription.items]
    end = min(period.end for period in periods)
    invoice = Invoice(
        id="in_upcoming",
        created=end,
        subscription=subscription.id,
        customer=subscription.customer,
        currency=call.state.price_of(call.state.items[subscription.items[0]]).currency,
        period=Period(min(period.start for period in periods), end),
        lines=stripe_invoices.preview(call.state, subscription),
    )
    shown = call.views.invoice(invoice)
    del shown["id"]
    return {**shown, "billing_reason": "upcoming"}


ENDPOINTS = (
    Endpoint(
        method="POST",
        template="/v1/subscription_items/{}/usage_records",
        permission="usage_records:write",
        fields={
            "action": choice("increment", "set"),
            "quantity": whole(0),
            "timestamp": instant_or_now,
        },
        required=("quantity",),
        legacy_billing=True,
        carry_out=_create_usage_record,
    ),
    Endpoint(
        method="GET",
        template="/v1/subscription_items/{}/usage_record_summaries",
        permission="usage_records:read",
        fields=PAGING,
        legacy_billing=True,
        carry_out=_list_summaries,
    ),
    Endpoint(
        method="GET",
        template="/v1/invoices",
        permission="invoices:read",
        fields={
            **PAGING,
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
)
