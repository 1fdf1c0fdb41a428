"""The HTTP sessions that both SDKs talk through."""

import ssl
import time
from functools import cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import stripe
import structlog

from meter_sync.net.addresses import is_loopback
from meter_sync.net.pace import request_left
from meter_sync.net.retry import attempt_number

log = structlog.get_logger()

CONNECT_TIMEOUT_SECONDS = 10
REQUEST_TIMEOUT_SECONDS = 40
TIMEOUTS = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
"""How long a request may take before its outcome counts as unknown."""

LARGEST_ANSWER_BYTES = 256 * 1024 * 1024
"""More than any true answer has: a query by the hour may have a million rows, of some 200 bytes each.

What goes on beyond that comes from something else, or never ends, and would take the machine's memory with it.
"""

REDIRECT = "answered with a redirect, which is not followed with a key"


class RedirectRefused(aiohttp.ClientError):
    """A server answered with a redirect: neither API does, and a key must not follow one."""


class AnswerTooLarge(aiohttp.ClientPayloadError):
    """A server's answer was larger than any true one; what it was, and whether a write was carried out, is unknown."""


def distrust(error: BaseException, address: str, remedy: str) -> tuple[str, str] | None:
    """Given what a request raised, return why no key goes to the address and what to do, or None if it may pass."""
    for one in (error, error.__cause__):
        if isinstance(one, RedirectRefused):
            return f"{address} {REDIRECT}", remedy
        if isinstance(one, aiohttp.ClientConnectorCertificateError):
            found = one.certificate_error
            why = found.verify_message if isinstance(found, ssl.SSLCertVerificationError) else "it is wrong"
            return (
                f"{address} shows a certificate that cannot be trusted ({why}), so no key was sent there",
                f"{remedy}; the certificates of an authority of your own are added with SSL_CERT_FILE",
            )
    return None


def without_key(said: str, key: str | None) -> str:
    """Given what a server or a library said, return it without the key: some servers repeat what they were sent."""
    return said.replace(key, "****") if key else said


async def _refuse_redirect(_session: object, _context: object, params: aiohttp.TraceRequestRedirectParams) -> None:
    raise RedirectRefused(f"{params.url.host} {REDIRECT}")


async def _begin(_session: object, began: SimpleNamespace, _params: object) -> None:
    began.at = time.monotonic()


async def _has_left(_session: object, _began: object, _params: object) -> None:
    request_left()


async def _log_answer(_session: object, began: SimpleNamespace, params: aiohttp.TraceRequestEndParams) -> None:
    _log_request(began, params, status=params.response.status)


async def _log_no_answer(_session: object, began: SimpleNamespace, params: aiohttp.TraceRequestExceptionParams) -> None:
    _log_request(began, params, status=None, because=type(params.exception).__name__)


def _log_request(
    began: SimpleNamespace,
    params: aiohttp.TraceRequestEndParams | aiohttp.TraceRequestExceptionParams,
    **became: Any,
) -> None:
    """Log a request without what may be secret: no header, no body, no parameters."""
    seconds = round(time.monotonic() - began.at, 3)
    log.debug(
        "request",
        method=params.method,
        host=params.url.host,
        path=params.url.path,
        **became,
        seconds=seconds,
        attempt=attempt_number(),
    )


def open_session(
    address: str, connections: int, largest_answer_bytes: int = LARGEST_ANSWER_BYTES
) -> aiohttp.ClientSession:
    """Return a session for one server, of at most so many connections, to be closed by the caller.

    Reading a larger answer raises AnswerTooLarge, before anything of it is kept where its length is announced.
    TLS is always verified, against the system's certificates (or those that SSL_CERT_FILE and SSL_CERT_DIR name) and
    those that the Stripe SDK ships; the proxy is the environment's; redirects are refused, and cookies are not kept.
    """
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse_redirect)
    trace.on_request_start.append(_begin)
    trace.on_request_headers_sent.append(_has_left)
    trace.on_request_end.append(_log_answer)
    trace.on_request_exception.append(_log_no_answer)
    verified = certificates() if urlsplit(address).scheme == "https" else True
    proxy, proxy_auth = _proxy_for(address)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=verified, limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=TIMEOUTS,
        trace_configs=[trace],
        proxy=proxy,
        proxy_auth=proxy_auth,
        response_class=_bounded(largest_answer_bytes),
    )


def _bounded(largest_bytes: int) -> type[aiohttp.ClientResponse]:
    """Return a kind of response whose body cannot be read beyond so many bytes."""

    class BoundedResponse(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            await super().start(connection)
            if (self.content_length or 0) > largest_bytes:
                raise _too_large(self, largest_bytes)
            self.content: Any = _BoundedBody(self, self.content, largest_bytes)
            return self

    return BoundedResponse


class _BoundedBody:
    """The body of a response, which reads no more than so many bytes, counted after they were decompressed."""

    def __init__(self, response: aiohttp.ClientResponse, body: aiohttp.StreamReader, largest_bytes: int) -> None:
        self._response = response
        self._body = body
        self._largest_bytes = largest_bytes

    async def read(self) -> bytes:
        """Return the whole body, which is how both SDKs read it. Raise AnswerTooLarge, or what reading raises.

        The connection is closed then: the SDK of Stripe would leave it open, and the pool has only so many.
        """
        read = bytearray()
        try:
            while some := await self._body.readany():
                read += some
                if len(read) > self._largest_bytes:
                    raise _too_large(self._response, self._largest_bytes)
        except BaseException:
            self._response.close()
            raise
        return bytes(read)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


def _too_large(response: aiohttp.ClientResponse, largest_bytes: int) -> AnswerTooLarge:
    return AnswerTooLarge(f"{response.host} answered with more than {largest_bytes:,} bytes")


@cache
def certificates() -> ssl.SSLContext:
    """Return what servers are verified against, read once: that takes longer than anything else in a short run."""
    context = ssl.create_default_context()
    context.load_verify_locations(cafile=stripe.ca_bundle_path)
    return context


def _proxy_for(address: str) -> tuple[str | None, aiohttp.BasicAuth | None]:
    """Given a server's address, return the environment's proxy for it, or None; this machine needs none.

    Its password comes by itself: messages name the address of a proxy that fails.

    Asked once and here: aiohttp's `trust_env` asks for every request, and would send what ~/.netrc has for the
    host in place of the key.
    """
    parts = urlsplit(address)
    is_near = is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc)
    found = None if is_near else getproxies().get(parts.scheme)
    if found is None:
        return None, None
    proxy = urlsplit(found)
    password = aiohttp.BasicAuth(unquote(proxy.username), unquote(proxy.password or "")) if proxy.username else None
    return proxy._replace(netloc=proxy.netloc.rpartition("@")[2]).geturl(), password
