"""Pings: a service that is told when a run begins and how it ended, and says so where it hears nothing.

The protocol is that of healthchecks.io (its documentation, "Pinging API"): `/start` and `/EXITCODE` after the check's
address, a UUID as `rid` that is the same for both, and in the body up to 10 kB of text.
"""

import re
import ssl
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from meter_sync import __version__
from meter_sync.monitor.ended import MonitorFailed
from meter_sync.net.addresses import is_loopback
from meter_sync.net.session import certificates

_LARGEST_BODY_BYTES = 10_000
_IGNORED = re.compile(rb"OK \(([a-z ]{1,30})\)")
"""How healthchecks.io answers, with status 200, a ping that it ignores, such as one for a check that is not there."""

Ping = Callable[[str, str, float], None]
"""Sends a signal, such as `start`, with a text, for so many seconds at most between two bytes. Raises MonitorFailed."""


def pings(url: str, run: str) -> Ping:
    """Return what sends the pings of a run, whose id is a UUID, to a check's address."""
    parts = urlsplit(url)
    # urllib rather than aiohttp: even a name that no server resolves is given up with its thread.
    # An address of this machine is reached without a proxy, as everywhere.
    proxies = ProxyHandler({}) if is_loopback(parts.hostname or "") else ProxyHandler()
    secure = [HTTPSHandler(context=certificates())] if parts.scheme == "https" else []
    opener = build_opener(proxies, _NoRedirect, *secure)

    def ping(signal: str, body: str, timeout_seconds: float) -> None:
        text = body.encode()[:_LARGEST_BODY_BYTES].decode(errors="ignore").encode()
        headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": f"meter-sync/{__version__}"}
        request = Request(_address(url, signal, run), text, headers, method="POST")  # noqa: S310 (settings admit http)
        try:
            with opener.open(request, timeout=timeout_seconds) as answer:
                said = answer.read(100)
        except (OSError, HTTPException, ValueError) as error:
            raise MonitorFailed(f"the ping /{signal} did not arrive: {_why(error)}") from None
        if ignored := _IGNORED.fullmatch(said):
            raise MonitorFailed(f"the ping /{signal} was ignored: {ignored[1].decode()}")

    return ping


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: the address is a secret of one server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _address(url: str, signal: str, run: str) -> str:
    """Return where a signal goes: what the address has of a query stays."""
    parts = urlsplit(url)
    query = f"{parts.query}&rid={run}" if parts.query else f"rid={run}"
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{signal}", query=query))


def _why(error: Exception) -> str:
    """Return why a ping did not arrive, without the address, which messages of libraries may have."""
    if isinstance(error, HTTPError):
        error.close()
        return f"HTTP status {error.code}"
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the certificate cannot be trusted ({reason.verify_message})"
    if isinstance(reason, TimeoutError):
        return "there was no answer in time"
    return (reason.strerror if isinstance(reason, OSError) else None) or type(reason).__name__
