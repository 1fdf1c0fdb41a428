"""How Stripe shows events: with an object as it was right after the change."""

from dataclasses import replace

from meter_sync.sandbox.stripe.protocol.versions import Version
from meter_sync.sandbox.stripe.state.objects import Invoice, StripeEvent
from meter_sync.sandbox.stripe.views.invoices import show_invoice
from meter_sync.sandbox.stripe.views.subscriptions import show_snapshot
from meter_sync.sandbox.stripe.views.view import Json, View


def show_event(view: View, event: StripeEvent, *, version: str | None = None, pending: int = 0) -> Json:
    """Show an event in a version: by default in the account's at its time, whatever the request's (List events).

    `previous_attributes` is what an update changed, as it was. So the turn of a cycle shows `items` and
    `latest_invoice` from 2025-03-31.basil on, and the subscription's own period before.
    """
    name = version or event.api_version
    view = replace(view, version=Version(name))
    if isinstance(event.subject, Invoice):
        data: Json = {"object": show_invoice(view, event.subject)}
    else:
        data = {"object": show_snapshot(view, event.subject)}
    if event.before is not None:
        before = show_snapshot(view, event.before)
        data["previous_attributes"] = {
            attribute: value for attribute, value in before.items() if data["object"].get(attribute) != value
        }
    return {
        "id": event.id,
        "object": "event",
        "api_version": name,
        "created": event.created,
        "data": data,
        "livemode": view.livemode,
        "pending_webhooks": pending,
        "request": {"id": None, "idempotency_key": None},
        "type": event.type,
    }
