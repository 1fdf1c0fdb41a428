"""How Stripe shows billing meters and what belongs to them (object types of stripe-python 16)."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby

from meter_sync.sandbox.stripe.rules.meters import ERROR_REPORT
from meter_sync.sandbox.stripe.state.objects import ErrorReport, Meter, MeterEvent
from meter_sync.sandbox.stripe.views.catalog import Json

_IN_WORDS = {
    "archived_meter": "The meter is inactive.",
    "meter_event_customer_not_found": "No customer was found for the customer mapping key.",
    "meter_event_dimension_count_too_high": "The event payload has too many dimensions.",
    "meter_event_invalid_value": "The value in the event payload is not a number.",
    "meter_event_no_customer_defined": "The event payload has no customer mapping key.",
    "meter_event_value_too_many_digits": "The value in the event payload has too many digits.",
    "missing_dimension_payload_keys": "The event payload lacks keys of dimensions.",
    "no_meter": "No meter was found with this event name.",
    "timestamp_in_future": "The timestamp is in the future.",
    "timestamp_too_far_in_past": "The timestamp is too far in the past.",
}
"""What is wrong, for each code that Stripe's SDK names; Stripe may add others."""


def meter(shown: Meter, *, livemode: bool) -> Json:
    """Show a billing meter."""
    return {
        "id": shown.id,
        "object": "billing.meter",
        "created": shown.created,
        "customer_mapping": {"event_payload_key": shown.customer_key, "type": "by_id"},
        "default_aggregation": {"formula": shown.formula},
        "display_name": shown.display_name,
        "event_name": shown.event_name,
        "event_time_window": shown.window,
        "livemode": livemode,
        "status": "active" if shown.deactivated_at is None else "inactive",
        "status_transitions": {"deactivated_at": shown.deactivated_at},
        "updated": shown.updated,
        "value_settings": {"event_payload_key": shown.value_key},
    }


def event(shown: MeterEvent, *, livemode: bool) -> Json:
    """Show a meter event as it was sent."""
    return {
        "object": "billing.meter_event",
        "created": shown.received,
        "event_name": shown.event_name,
        "identifier": shown.identifier,
        "livemode": livemode,
        "payload": shown.payload,
        "timestamp": shown.timestamp,
    }


def adjustment(cancelled: MeterEvent, *, livemode: bool) -> Json:
    """Show the cancellation of a meter event."""
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": cancelled.identifier},
        "event_name": cancelled.event_name,
        "livemode": livemode,
        "status": "pending",
        "type": "cancel",
    }


def summary(of: Meter, start: int, end: int, value: Decimal, *, livemode: bool) -> Json:
    """Show what events add up to; Stripe shows it as a float."""
    return {
        "id": f"mtrusg_1{of.id.removeprefix('mtr_1')}x{start}x{end}",
        "object": "billing.meter_event_summary",
        "aggregated_value": float(value),
        "end_time": end,
        "livemode": livemode,
        "meter": of.id,
        "start_time": start,
    }


def report(shown: ErrorReport, samples: int, *, livemode: bool) -> Json:
    """Show an error report with at most so many samples for each kind of error."""
    by_code = sorted(shown.rejected, key=lambda each: each.rejected or "")
    kinds = [(code or "", list(events)) for code, events in groupby(by_code, key=lambda each: each.rejected)]
    json: Json = {
        "id": shown.id,
        "object": "v2.core.event",
        "context": None,
        "created": _rfc3339(shown.created),
        "data": {
            "developer_message_summary": f"There are {len(shown.rejected)} invalid events",
            "reason": {
                "error_count": len(shown.rejected),
                "error_types": [
                    {
                        "code": code,
                        "error_count": len(events),
                        "sample_errors": [
                            {"error_message": _in_words(code), "request": {"identifier": each.identifier}}
                            for each in events[:samples]
                        ],
                    }
                    for code, events in kinds
                ],
            },
            "validation_end": _rfc3339(max(each.received for each in shown.rejected) + 1),
            "validation_start": _rfc3339(min(each.received for each in shown.rejected)),
        },
        "livemode": livemode,
        "reason": None,
        "type": shown.type,
    }
    if shown.type == ERROR_REPORT and shown.meter:
        url = f"/v1/billing/meters/{shown.meter}"
        json["related_object"] = {"id": shown.meter, "type": "billing.meter", "url": url}
    return json


def _in_words(code: str) -> str:
    return _IN_WORDS.get(code, f"The event was rejected: {code}.")


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
