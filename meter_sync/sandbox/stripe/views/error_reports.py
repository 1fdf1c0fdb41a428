"""How Stripe shows error reports, which are events of its second API (object types of stripe-python 16)."""

from datetime import UTC, datetime
from itertools import groupby

from meter_sync.sandbox.stripe.rules.error_reports import ERROR_REPORT
from meter_sync.sandbox.stripe.state.objects import ErrorReport
from meter_sync.sandbox.stripe.views.view import Json, View

_THIN = ("id", "object", "context", "created", "livemode", "related_object", "type")
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


def show_error_report(view: View, shown: ErrorReport, samples: int) -> Json:
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
        "livemode": view.livemode,
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


def show_thin(view: View, report: ErrorReport) -> Json:
    """Show the notice that a webhook brings: without its data, which is to be fetched."""
    whole = show_error_report(view, report, 0)
    return {name: whole[name] for name in _THIN if name in whole}
