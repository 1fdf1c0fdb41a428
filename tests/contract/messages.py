"""Requests and answers as they went over the wire, in the shapes that openapi-core reads."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from openapi_core.datatypes import RequestParameters
from werkzeug.datastructures import Headers, ImmutableMultiDict

from meter_sync.sandbox import RequestSeen, Sandbox

ACACIA = "2025-02-24.acacia"
"""The last API version of Stripe with usage records and with periods on the subscription."""

ENDIVE = "2026-10-28.endive"
"""The API version that stripe-python 16 speaks."""

FORM = "application/x-www-form-urlencoded"

# How the two clients frame their requests belongs to the transport.
_FRAMING = {"accept-encoding", "authorization", "connection", "content-length", "host"}


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Request:
    """A request to one of the two servers; `host_url` is replaced by that of the document."""

    method: str
    path: str
    query: str = ""
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    host_url: str = ""
    parameters: RequestParameters = field(init=False)

    def __post_init__(self) -> None:
        self.method = self.method.lower()
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(parse_qsl(self.query, keep_blank_values=True)),
            header=Headers(list(self.headers.items())),
        )

    @property
    def body(self) -> bytes | None:
        return self.text.encode() or None

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    @classmethod
    def seen(cls, seen: RequestSeen) -> "Request":
        return cls(seen.method, seen.path, seen.query, seen.body, seen.headers)


@dataclass(frozen=True)
class Response:
    """An answer."""

    status_code: int
    headers: Headers
    data: bytes

    @property
    def content_type(self) -> str:
        return str(self.headers.get("content-type", ""))


def send(server: str, sandbox: Sandbox, request: Request, *, key: str | None = None) -> Response:
    """Send a request to the sandbox's `stripe` or `openmeter` as it stands, with the right key."""
    of_stripe = server == "stripe"
    base = sandbox.stripe_url if of_stripe else sandbox.openmeter_url
    right = sandbox.stripe_key if of_stripe else sandbox.openmeter_key
    headers = {name: value for name, value in request.headers.items() if name not in _FRAMING}
    url = f"{base}{request.path}?{request.query}" if request.query else base + request.path
    # The address is the sandbox's own, on loopback.
    sent = urllib.request.Request(  # noqa: S310
        url,
        data=request.body,
        headers={**headers, "authorization": f"Bearer {right if key is None else key}"},
        method=request.method.upper(),
    )
    try:
        with _OPENER.open(sent, timeout=10) as answer:
            return Response(answer.status, Headers(list(answer.headers.items())), answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Response(error.code, Headers(list(error.headers.items())), error.read())


def stripe_request(method: str, path: str, params: Mapping[str, Any] | None = None, version: str = ACACIA) -> Request:
    """Return a request to Stripe with its parameters in the query, or in the body of a POST."""
    encoded = urlencode(params or {})
    headers = {"authorization": "Bearer sk", "stripe-version": version}
    if method == "POST":
        return Request(method, path, text=encoded, headers={**headers, "content-type": FORM})
    return Request(method, path, query=encoded, headers=headers)
