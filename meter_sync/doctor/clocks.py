"""The section of the clock: what "until now" means, by this machine and by both servers."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp

from meter_sync.doctor.finding import Finding, obstacle, ok, skipped, warning
from meter_sync.doctor.installation import SERVER_SECONDS, Installation
from meter_sync.net.session import open_session
from meter_sync.stripe_api.connection import CLOCK_TOLERANCE_SECONDS

_NOTICED_SECONDS = 5
_REMEDY = "set the clock; systemd-timesyncd or chrony keep it right"


async def examine_clocks(installation: Installation) -> AsyncIterator[Finding]:
    """Yield how this machine's clock stands to each server's. No key is sent: a refusal has the time too."""
    settings = installation.settings
    for server, address in (("Stripe", settings.stripe.api_base), ("OpenMeter", settings.openmeter.url)):
        yield await _examine(installation, server, address)


async def _examine(installation: Installation, server: str, address: str) -> Finding:
    began = time.monotonic()
    try:
        async with open_session(address, 1) as session:
            timeout = aiohttp.ClientTimeout(total=SERVER_SECONDS)
            async with session.head(address, allow_redirects=False, timeout=timeout) as answer:
                theirs = _date(answer.headers.get("Date"))
    except (aiohttp.ClientError, TimeoutError, OSError):
        return skipped("clock", f"{server} did not answer at {address}", server)
    if theirs is None:
        return skipped("clock", f"{server}'s answer has no date", server)
    # The server's second began up to one second before it answered, and the answer was on its way.
    on_its_way = timedelta(seconds=time.monotonic() - began)
    apart_seconds = _apart_seconds(installation.clock() - on_its_way, installation.clock(), theirs)
    if abs(apart_seconds) <= _NOTICED_SECONDS:
        return ok("clock", f"this machine's clock is {server}'s", server)
    ahead = "ahead of" if apart_seconds > 0 else "behind"
    said = f"this machine's clock is {abs(apart_seconds):.0f} s {ahead} {server}'s"
    if server == "Stripe" and abs(apart_seconds) > CLOCK_TOLERANCE_SECONDS:
        return obstacle("clock", f"{said}: runs refuse to bill by it", _REMEDY, server)
    return warning("clock", said, _REMEDY, server)


def _apart_seconds(earliest: datetime, latest: datetime, theirs: datetime) -> float:
    """Given when an answer was made at the earliest and at the latest, by this clock, return how far it is ahead."""
    if latest < theirs:
        return (latest - theirs).total_seconds()
    over = earliest - (theirs + timedelta(seconds=1))
    return max(over.total_seconds(), 0.0)


def _date(header: str | None) -> datetime | None:
    """Return the instant of a Date header, which is always GMT (RFC 9110), or None."""
    try:
        return parsedate_to_datetime(header or "").replace(tzinfo=UTC)
    except ValueError:
        return None
