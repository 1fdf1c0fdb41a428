"""Error reports: how meter events that were taken and do not count are told of later.

Source: Stripe's guides of usage-based billing (meter errors).
"""

from meter_sync.sandbox.stripe.state.objects import ErrorReport
from meter_sync.sandbox.stripe.state.stripe_state import StripeState

ERROR_REPORT = "v1.billing.meter.error_report_triggered"
NO_METER_FOUND = "v1.billing.meter.no_meter_found"


def report_rejections(state: StripeState, processing_seconds: int) -> None:
    """Make the error reports of what was rejected so long ago: one for each meter, and one for events without."""
    newest = state.now - processing_seconds
    due = [(meter, event) for meter, event in state.rejected if event.received <= newest]
    if not due:
        return
    state.rejected = [(meter, event) for meter, event in state.rejected if event.received > newest]
    for meter in dict.fromkeys(meter for meter, _ in due):
        rejected = tuple(event for of, event in due if of == meter)
        kind = NO_METER_FOUND if meter is None else ERROR_REPORT
        found_out = max(event.received for event in rejected) + processing_seconds
        report = ErrorReport(state.new_id("evt"), found_out, kind, meter, rejected)
        state.reports.append(report)
        state.news.append(report)
