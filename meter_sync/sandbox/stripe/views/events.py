"""How Stripe shows events: as snapshots of an object, or as thin notices (object types of stripe-python 16)."""

from meter_sync.sandbox.stripe.protocol.versions import Version
from meter_sync.sandbox.stripe.state.objects import ErrorReport, Invoice, StripeEvent
from meter_sync.sandbox.stripe.state.state import StripeState
from meter_sync.sandbox.stripe.views import invoices, meters
from meter_sync.sandbox.stripe.views.catalog import Json, Views

_THIN = ("id", "object", "context", "created", "livemode", "related_object", "type")


def event(
    state: StripeState, shown: StripeEvent, *, livemode: bool, version: str | None = None, pending: int = 0
) -> Json:
    """Show an event in a version, by default in the account's at its time.

    `previous_attributes` is what an update changed, as it was. So the turn of a cycle shows `items` and
    `latest_invoice` from 2025-03-31.basil on, and the subscription's own period before.
    """
    name = version or shown.api_version
    views = Views(state, Version(name), livemode=livemode)
    if isinstance(shown.subject, Invoice):
        data: Json = {"object": invoices.invoice(views, shown.subject)}
    else:
        data = {"object": views.snapshot(shown.subject)}
    if shown.before is not None:
        before = views.snapshot(shown.before)
        data["previous_attributes"] = {
            attribute: value for attribute, value in before.items() if data["object"].get(attribute) != value
        }
    return {
        "id": shown.id,
        "object": "event",
        "api_version": name,
        "created": shown.created,
        "data": data,
        "livemode": livemode,
        "pending_webhooks": pending,
        "request": {"id": None, "idempotency_key": None},
        "type": shown.type,
    }


def thin(report: ErrorReport, *, livemode: bool) -> Json:
    """Show the notice of an event of the second API: without its data, which is to be fetched."""
    whole = meters.report(report, 0, livemode=livemode)
    return {name: whole[name] for name in _THIN if name in whole}
