"""How Stripe shows event destinations, which are of its second API (object types of stripe-python 16)."""

from collections.abc import Collection
from datetime import UTC, datetime

from meter_sync.sandbox.stripe.state.objects import EventDestination
from meter_sync.sandbox.stripe.views.view import Json, View

URL, SECRET = "webhook_endpoint.url", "webhook_endpoint.signing_secret"


def show_event_destination(
    view: View, shown: EventDestination, included: Collection[str], secret: str | None = None
) -> Json:
    """Show a destination; its address and its secret only where they are asked for, the secret only as it is made."""
    endpoint = {"url": shown.url if URL in included else None, "signing_secret": secret if SECRET in included else None}
    return {
        "id": shown.id,
        "object": "v2.core.event_destination",
        "created": _rfc3339(shown.created),
        "description": shown.description,
        "enabled_events": list(shown.events),
        "event_payload": shown.payload,
        "events_from": list(shown.events_from),
        "livemode": view.livemode,
        "metadata": shown.metadata,
        "name": shown.name,
        "snapshot_api_version": shown.snapshot_api_version,
        "status": "disabled" if shown.is_disabled else "enabled",
        "status_details": {"disabled": {"reason": "user"}} if shown.is_disabled else None,
        "type": "webhook_endpoint",
        "updated": _rfc3339(shown.updated),
        "webhook_endpoint": endpoint,
    }


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
