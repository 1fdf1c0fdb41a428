"""Meter events of billing meters: sending and cancelling them, and reading back what they add up to."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from meter_sync.core.billing.item import BillingMeter, Period, WindowSize
from meter_sync.core.billing.quantity import LARGEST_EXACT, InvalidUsage, denoised
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeUnavailable, StripeWriter
from meter_sync.stripe_api.paging import in_doubt, rows
from meter_sync.stripe_api.shapes import Identified, Identifier, NotUnderstood, PathIdentifier, Shape, UnixSeconds

METER_EVENTS = "meter_events"
"""The route that has a rate limit of its own."""

_EXISTS = re.compile(r"already exists with identifier", re.IGNORECASE)
"""Of "An event already exists with identifier X.": what users report; the documentation does not name it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Stripe has an event."""

    request_id: str | None
    was_there: bool = False
    """Whether Stripe said that it had it already…"""
    after_an_attempt: bool = False
    """… in answer to a repeat: the first attempt had no answer."""


@dataclass(frozen=True, slots=True)
class Event:
    """A meter event, exactly as it is sent however often."""

    meter: BillingMeter
    customer: str
    value: int
    timestamp: datetime
    identifier: str

    @property
    def payload(self) -> dict[str, str]:
        """Whose it is and how much, under the meter's own keys: Stripe takes texts only."""
        return {self.meter.customer_key: self.customer, self.meter.value_key: str(self.value)}


class MeterEventData(Shape):
    """A meter event as Stripe has taken it."""

    identifier: Identifier


class EventSummary(Identified):
    """What the events of a customer add up to within some time."""

    meter: PathIdentifier
    start_time: UnixSeconds
    aggregated_value: Annotated[float, Field(allow_inf_nan=False)]


async def send_event(stripe: StripeWriter, event: Event, before_each: Callable[[], None] = lambda: None) -> Delivery:
    """Send an event and return that Stripe has it.

    An identifier that Stripe knows already means that the event was delivered. `before_each` is called before each
    attempt.
    Raise StripeRefused, StripeUnavailable, also for an answer that is about another event, Interrupted or
    ConfigurationError.
    """
    params = {
        "event_name": event.meter.event_name,
        "payload": event.payload,
        "timestamp": int(event.timestamp.timestamp()),
        "identifier": event.identifier,
    }
    try:
        answer = await stripe.post("/v1/billing/meter_events", METER_EVENTS, params, before_each=before_each)
    except (StripeRefused, StripeUnavailable) as error:
        refusal = error.__cause__ if isinstance(error, StripeUnavailable) else error
        if not isinstance(refusal, StripeRefused) or not _EXISTS.search(refusal.message):
            raise
        return Delivery(None, was_there=True, after_an_attempt=refusal is not error)
    with in_doubt():
        if MeterEventData.read(answer.data, "a meter event").identifier != event.identifier:
            raise NotUnderstood(f"meter event {event.identifier}", "it is about another event")
    return Delivery(answer.request_id)


async def cancel_event(stripe: StripeWriter, meter: BillingMeter, identifier: str) -> str | None:
    """Cancel an event that Stripe received less than 24 hours ago, and return Stripe's request id.

    Raise StripeRefused, also where it was cancelled before, StripeUnavailable, Interrupted or ConfigurationError.
    """
    params = {"event_name": meter.event_name, "type": "cancel", "cancel": {"identifier": identifier}}
    answer = await stripe.post("/v1/billing/meter_event_adjustments", "meter_event_adjustments", params)
    return answer.request_id


async def event_total(stripe: StripeReader, meter: str, customer: str, span: Period) -> int:
    """Given a billing meter and a customer, return what Stripe's summary says for whole minutes.

    Summaries are eventually consistent: what was sent lately may be missing.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    if span.start >= span.end:
        return 0
    return sum(_whole(row) for row in await _summaries(stripe, meter, customer, span))


async def past_total(stripe: StripeReader, meter: str, customer: str, span: Period) -> int:
    """Given a billing meter and a customer, return about what was billed for whole minutes that are over.

    It is to be compared with, not billed: fractions, which other programs may have sent, are rounded, and a total
    below zero bills nothing.
    Raise as `event_total` does.
    """
    total = sum(row.aggregated_value for row in await _summaries(stripe, meter, customer, span))
    return min(max(round(total), 0), int(LARGEST_EXACT))


async def window_totals(
    stripe: StripeReader, meter: BillingMeter, customer: str, window: WindowSize, span: Period
) -> dict[datetime, int]:
    """Given a billing meter and a customer, return what Stripe's summaries say for each UTC hour or day with usage.

    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    found = await _summaries(stripe, meter.id, customer, span, value_grouping_window=window.value)
    return {row.start_time: _whole(row) for row in found if row.aggregated_value}


async def _summaries(
    stripe: StripeReader, meter: str, customer: str, span: Period, **grouping: str
) -> list[EventSummary]:
    params: dict[str, Any] = {
        "customer": customer,
        "start_time": int(span.start.timestamp()),
        "end_time": int(span.end.timestamp()),
        **grouping,
    }
    path = f"/v1/billing/meters/{meter}/event_summaries"
    found = await rows(EventSummary, stripe, path, "event_summaries", f"an event summary of {customer}", params)
    if any(row.meter != meter or not span.start <= row.start_time < span.end for row in found):
        raise StripeRefused(f"it answered with a summary of something else than {meter} in the time asked for")
    return found


def _whole(row: EventSummary) -> int:
    """Return a summary's value, which Stripe shows as a float: all that is sent from here is whole."""
    try:
        value = denoised(Decimal(str(row.aggregated_value)))
    except InvalidUsage as error:
        raise StripeRefused(f"its summary holds {row.aggregated_value}") from error
    if abs(value) > LARGEST_EXACT:
        raise StripeRefused(f"its summary holds {row.aggregated_value}")
    if value != value.to_integral_value():
        raise StripeRefused(f"its summary holds {value}, which is not from this program: it sends whole numbers")
    return int(value)
