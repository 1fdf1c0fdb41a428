"""Test clocks: simulations in a sandbox, whose customers live at a time of their own."""

from meter_sync.stripe_api.connection import StripeReader
from meter_sync.stripe_api.paging import by_id, rows
from meter_sync.stripe_api.shapes import Identified, Text, UnixSeconds


class ClockData(Identified):
    """A test clock."""

    frozen_time: UnixSeconds
    livemode: bool
    status: Text


async def clock_of(stripe: StripeReader, id: str) -> ClockData:
    """Return the test clock that has an id. Raise NotUnderstood, or what StripeReader raises."""
    return await by_id(ClockData, stripe, "test_helpers/test_clock", id, {})


async def every_clock(stripe: StripeReader) -> list[ClockData]:
    """Return all test clocks of a sandbox, the newest first.

    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    return await rows(ClockData, stripe, "/v1/test_helpers/test_clocks", "test_helpers/test_clocks", "a test clock", {})
