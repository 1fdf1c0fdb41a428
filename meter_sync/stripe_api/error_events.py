"""What Stripe says it has rejected after it had taken it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import structlog
from pydantic import AliasPath, Field, StringConstraints

from meter_sync.stripe_api.connection import PermissionMissing, StripeReader, StripeRefused, StripeUnavailable
from meter_sync.stripe_api.paging import refusing
from meter_sync.stripe_api.shapes import (
    Identified,
    Identifier,
    Instant,
    NotUnderstood,
    PathIdentifier,
    Quantity,
    Shape,
    Text,
    read,
)

log = structlog.get_logger()

METER_ERRORS = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")

_PAGE_SIZE = 100
_WHAT = "the error events"


@dataclass(frozen=True, slots=True)
class Uncounted:
    """Rejections of which only the number is known: those of a billing meter, or of any, since `start`."""

    stripe_meter: str | None
    start: datetime
    message: str


@dataclass(frozen=True, slots=True)
class Rejections:
    """What was rejected since the events were last read."""

    position: str | None = None
    """From where to read on: when the newest event was made, as Stripe wrote it, and the ids of those made then.

    None where there was nothing new. Two events may be of the same instant.
    """
    by_identifier: dict[str, str] = field(default_factory=dict)
    """Why, for each event that is named."""
    uncounted: list[Uncounted] = field(default_factory=list)


class SampleError(Shape):
    """An event that Stripe rejected."""

    error_message: Text
    identifier: Identifier = Field(validation_alias=AliasPath("request", "identifier"))


class Cause(Shape):
    """Rejections for one cause, of which only samples are named."""

    code: Text
    error_count: Annotated[Quantity, Field(ge=0)]
    sample_errors: list[SampleError]


class ErrorData(Shape):
    """What an error event reports."""

    causes: list[Cause] = Field(validation_alias=AliasPath("reason", "error_types"))
    validation_start: Instant
    validation_end: Instant


class ErrorReport(Shape):
    """An event of Stripe's that reports rejected meter events."""

    id: PathIdentifier
    created: Identifier
    related_object: Identified | None = None
    data: ErrorData | None = None


class EventPage(Shape):
    """A page of events, in the shape of Stripe's second API."""

    data: list[ErrorReport]
    next_page_url: Annotated[str, StringConstraints(pattern=r"^/v2/core/events[?]")] | None = None


async def rejections(stripe: StripeReader, position: str | None) -> Rejections | None:
    """Return what Stripe has rejected after `position`, that of an earlier reading, or None where it cannot be read.

    A key may lack the permission for events: everything else goes on without. Stripe keeps events for 30 days.
    Raise Interrupted, or ConfigurationError for what is wrong with more than that permission.
    """
    try:
        since, *read = position.split() if position else [None]
        with refusing():
            reports = await _reports(stripe, since)
    except (PermissionMissing, StripeRefused, StripeUnavailable) as error:
        log.warning("error_events_unread", message=f"what Stripe rejected after the fact is not known: {error.message}")
        return None
    new = [report for report in reports if report.id not in read]
    return _understood(new, _position(reports)) if new else Rejections()


async def _reports(stripe: StripeReader, since: str | None) -> list[ErrorReport]:
    params: dict[str, Any] = {"types": list(METER_ERRORS), "limit": _PAGE_SIZE}
    if since:
        params["created"] = {"gte": since}
    path: str | None = "/v2/core/events"
    found: list[ErrorReport] = []
    asked: set[str] = set()
    while path:
        if path in asked:
            raise NotUnderstood(_WHAT, "a page follows itself")
        asked.add(path)
        page = read(EventPage, await stripe.get(path, "events", params), _WHAT)
        found += [report if report.data else await _with_data(stripe, report) for report in page.data]
        path, params = page.next_page_url, {}
    return found


async def _with_data(stripe: StripeReader, report: ErrorReport) -> ErrorReport:
    """Fetch an event by itself: a list may hold the events without their data."""
    return read(ErrorReport, await stripe.get(f"/v2/core/events/{report.id}", "event", {}), _WHAT)


def _understood(reports: Sequence[ErrorReport], position: str) -> Rejections:
    by_identifier: dict[str, str] = {}
    uncounted: list[Uncounted] = []
    for report in reports:
        if report.data is None:
            continue
        causes = report.data.causes
        for cause in causes:
            for sample in cause.sample_errors:
                by_identifier.setdefault(sample.identifier, f"{cause.code}: {sample.error_message}")
        unnamed = sum(cause.error_count - len(cause.sample_errors) for cause in causes)
        if unnamed > 0:
            codes = ", ".join(dict.fromkeys(cause.code for cause in causes))
            meter = report.related_object.id if report.related_object else None
            uncounted.append(Uncounted(meter, report.data.validation_start, codes))
    return Rejections(position, by_identifier, uncounted)


def _position(reports: Sequence[ErrorReport]) -> str:
    newest = max(report.created for report in reports)
    return " ".join([newest, *(report.id for report in reports if report.created == newest)])
