"""A customer on a billing meter of the embedded Stripe, and what its error reports say."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .instants import NOW, PERIOD_END, PERIOD_START, unix
from .wire import Reply, StripeWire

EVENTS = "/v1/billing/meter_events"
ADJUSTMENTS = "/v1/billing/meter_event_adjustments"
ERRORS = "/v2/core/events"
ERROR_REPORT = "v1.billing.meter.error_report_triggered"
NO_METER_FOUND = "v1.billing.meter.no_meter_found"


@dataclass(frozen=True)
class Metered:
    """A customer with one item on a price of a billing meter."""

    stripe: StripeWire
    event_name: str
    meter: str
    customer: str
    subscription: str

    def send(self, value: object, at: datetime = NOW, **fields: Any) -> Reply:
        """Send an event of this customer; `fields` are added to it or replace what is sent."""
        usual = {
            "event_name": self.event_name,
            "payload[stripe_customer_id]": self.customer,
            "payload[value]": value,
            "timestamp": unix(at),
        }
        return self.stripe("POST", EVENTS, {**usual, **fields})

    def cancel(self, identifier: str, **fields: Any) -> Reply:
        usual = {"event_name": self.event_name, "type": "cancel", "cancel[identifier]": identifier}
        return self.stripe("POST", ADJUSTMENTS, {**usual, **fields})

    def summaries(self, start: datetime = PERIOD_START, end: datetime = PERIOD_END, **fields: Any) -> Reply:
        usual = {"customer": self.customer, "start_time": unix(start), "end_time": unix(end)}
        return self.stripe("GET", f"/v1/billing/meters/{self.meter}/event_summaries", {**usual, **fields})

    def summary(self, start: datetime = PERIOD_START, end: datetime = PERIOD_END) -> float:
        """Return what the events of a span add up to, as Stripe's summary says."""
        (shown,) = self.summaries(start, end).json["data"]
        return float(shown["aggregated_value"])

    def upcoming(self) -> int:
        """Return what the open period would bill if it ended now."""
        shown = self.stripe("GET", "/v1/invoices/upcoming", {"subscription": self.subscription}).json
        (line,) = shown["lines"]["data"]
        return int(line["quantity"])

    def invoices(self) -> list[tuple[str, int]]:
        """Return the status of each invoice with the quantity that it bills, oldest first."""
        listed = self.stripe("GET", "/v1/invoices", {"subscription": self.subscription}).json["data"]
        return [(each["status"], each["lines"]["data"][0]["quantity"]) for each in reversed(listed)]

    def billed(self) -> list[int]:
        return [quantity for _, quantity in self.invoices()]


Meter = Callable[..., Metered]


def errors(stripe: StripeWire, **filters: object) -> list[Any]:
    """Return the error events of one page, newest first."""
    reply = stripe("GET", ERRORS, filters)
    assert reply.status == 200, reply.text
    shown: list[Any] = reply.json["data"]
    return shown


def codes(event: Any) -> dict[str, int]:
    """Return how often each error is counted by an error event."""
    return {each["code"]: each["error_count"] for each in event["data"]["reason"]["error_types"]}


def samples(event: Any) -> dict[str, list[str]]:
    """Return the identifiers that an error event names for each error."""
    return {
        each["code"]: [sample["request"]["identifier"] for sample in each["sample_errors"]]
        for each in event["data"]["reason"]["error_types"]
    }


UNKNOWN: dict[str, Any] = {"payload[stripe_customer_id]": "cus_none"}
