"""A plain HTTP client for tests: it hides nothing of what came over the wire."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlencode

from meter_sync.sandbox import Sandbox

ACACIA = "2025-02-24.acacia"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Message
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def send(method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
    # The address is the sandbox's own, on loopback.
    request = urllib.request.Request(  # noqa: S310
        url, data=body, headers=dict(headers), method=method
    )
    try:
        with _OPENER.open(request, timeout=10) as response:
            return Reply(response.status, response.headers, response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers, error.read().decode())


class StripeWire:
    """Requests to the embedded Stripe, by default in the last version with usage records."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def __call__(
        self,
        method: str,
        path: str,
        params: Mapping[str, object] | None = None,
        *,
        key: str | None = None,
        version: str | None = ACACIA,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        sent = {"Authorization": f"Bearer {key or self._sandbox.stripe_key}", **(headers or {})}
        if version is not None:
            sent["Stripe-Version"] = version
        if idempotency_key is not None:
            sent["Idempotency-Key"] = idempotency_key
        encoded = urlencode(params or {})
        url = self._sandbox.stripe_url + path
        if method == "POST":
            return send(method, url, sent, encoded.encode())
        return send(method, f"{url}?{encoded}" if encoded else url, sent)

    def record(self, item: str, quantity: object, **fields: object) -> Reply:
        path = f"/v1/subscription_items/{item}/usage_records"
        return self("POST", path, {"quantity": quantity, **fields})


class OpenMeterWire:
    """Requests to the embedded OpenMeter, with JSON bodies."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = "",
        content_type: str = "application/json",
    ) -> Reply:
        sent = {"Content-Type": content_type}
        if token is not None:
            sent["Authorization"] = f"Bearer {token or self._sandbox.openmeter_key}"
        data = None if body is None else json.dumps(body).encode()
        return send(method, self._sandbox.openmeter_url + path, sent, data)

    def query(self, meter: str, start: str | None, end: str | None, **fields: object) -> Reply:
        bounds = {name: value for name, value in (("from", start), ("to", end)) if value}
        return self("POST", f"/api/v1/meters/{meter}/query", {**bounds, **fields})
