"""A plain client of both servers for the other ways: one request after the other, over one connection each."""

import http.client
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from meter_sync.sandbox import Sandbox
from three_months.troubles import Killed

METER = "api_requests"
"""The meter in OpenMeter."""
USAGE_RECORD_VERSION = "2025-02-24.acacia"
"""The last API version with usage records."""
ATTEMPTS = 3
"""As of the SDK with its two retries (at once here): after lost connections, 409 and 5xx, with the same key."""
PER_PAGE = 100


class Failed(Exception):
    """A request failed, and whether it was carried out is not always known; another time it may not."""


class Refused(Exception):
    """A server does not take a request as it is."""


@dataclass(frozen=True, slots=True)
class Item:
    """A metered subscription item, as it is listed."""

    id: str
    customer: str
    event_name: str | None
    """Of the billing meter; None for a legacy price."""
    period_start: datetime


class Plain:
    """What the other ways ask of Stripe and of OpenMeter."""

    def __init__(self, sandbox: Sandbox, event_names: Mapping[str, str], is_killed: Callable[[], bool]) -> None:
        self._stripe = _Connection(sandbox.stripe_url, sandbox.stripe_key, is_killed)
        self._openmeter = _Connection(sandbox.openmeter_url, sandbox.openmeter_key, is_killed)
        self._event_names = event_names
        """By the id of the billing meter."""

    def close(self) -> None:
        """Close the connections."""
        self._stripe.close()
        self._openmeter.close()

    def items(self) -> Iterator[Item]:
        """Yield the items of all active subscriptions, page by page."""
        query: dict[str, Any] = {"status": "active", "limit": PER_PAGE}
        while True:
            page = self._stripe.get("/v1/subscriptions", query)
            for subscription in page["data"]:
                for item in subscription["items"]["data"]:
                    meter = item["price"]["recurring"]["meter"]
                    yield Item(
                        id=item["id"],
                        customer=subscription["customer"],
                        event_name=self._event_names[meter] if meter else None,
                        period_start=datetime.fromtimestamp(item["current_period_start"], UTC),
                    )
            if not page["has_more"]:
                return
            query["starting_after"] = page["data"][-1]["id"]

    def usage(self, customer: str, start: datetime, end: datetime) -> int:
        """Return what a customer used."""
        return sum(int(row["value"]) for row in self._rows(start, end, subject=customer))

    def everyones_usage(self, start: datetime, end: datetime) -> dict[str, int]:
        """Return what was used, by customer."""
        return {row["subject"]: int(row["value"]) for row in self._rows(start, end, groupBy="subject")}

    def everyones_hours(self, start: datetime, end: datetime) -> dict[datetime, dict[str, int]]:
        """Return what was used, by hour and customer."""
        hours: dict[datetime, dict[str, int]] = {}
        for row in self._rows(start, end, groupBy="subject", windowSize="HOUR"):
            hours.setdefault(datetime.fromisoformat(row["windowStart"]), {})[row["subject"]] = int(row["value"])
        return hours

    def _rows(self, start: datetime, end: datetime, **query: str) -> Sequence[dict[str, Any]]:
        if start >= end:
            return []
        span = {"from": start.isoformat(), "to": end.isoformat()}
        rows: Sequence[dict[str, Any]] = self._openmeter.get(f"/api/v1/meters/{METER}/query", {**query, **span})["data"]
        return rows

    def record(self, item: Item, action: str, quantity: int, at: datetime, key: str | None = None) -> None:
        """Create a usage record, under an idempotency key of the caller's or a new one."""
        form = {"quantity": quantity, "timestamp": int(at.timestamp()), "action": action}
        self._stripe.post(f"/v1/subscription_items/{item.id}/usage_records", form, key or str(uuid.uuid4()))

    def event(self, item: Item, value: int, at: datetime, identifier: str | None = None) -> None:
        """Create a meter event, with an identifier of the caller's or a new one. One that was there is delivered."""
        key = identifier or str(uuid.uuid4())
        form = {
            "event_name": item.event_name,
            "payload[stripe_customer_id]": item.customer,
            "payload[value]": value,
            "timestamp": int(at.timestamp()),
            "identifier": key,
        }
        try:
            self._stripe.post("/v1/billing/meter_events", form, str(uuid.uuid4()))
        except Refused as refusal:
            if "already exists" not in str(refusal):
                raise


class _Connection:
    def __init__(self, url: str, key: str, is_killed: Callable[[], bool]) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._is_killed = is_killed

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str, query: dict[str, Any]) -> Any:
        return self._request("GET", f"{path}?{urlencode(query)}", None, {})

    def post(self, path: str, form: dict[str, Any], key: str) -> Any:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Idempotency-Key": key}
        if path.endswith("/usage_records"):
            headers["Stripe-Version"] = USAGE_RECORD_VERSION
        return self._request("POST", path, urlencode(form), headers)

    def _request(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Any:
        status, text = 0, "no answer"
        for _ in range(ATTEMPTS):
            try:
                self._connection.request(method, path, body, {**self._headers, **headers})
                answer = self._connection.getresponse()
                status, text = answer.status, answer.read().decode()
            except (http.client.HTTPException, OSError):
                self._connection.close()
                if self._is_killed():
                    raise Killed from None
            else:
                if status == 200:
                    return json.loads(text)
                if status not in (409, 500, 502, 503, 504):
                    break
        raise Refused(text) if 400 <= status < 500 and status != 429 else Failed(text)
