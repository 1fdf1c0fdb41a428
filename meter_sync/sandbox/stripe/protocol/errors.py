"""Stripe's errors: what it refuses, in the shape in which it says so (API reference, Errors)."""

import json
from collections.abc import Mapping
from typing import Any

from meter_sync.sandbox.http.traffic import Answer

INVALID_REQUEST = "invalid_request_error"


class Refusal(Exception):
    """A request that Stripe does not carry out."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = INVALID_REQUEST,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def answer(self) -> Answer:
        """Return the error as Stripe's JSON, which leaves out fields without a value."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "param": self.param}
        if self.code is not None:
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        shown = {name: value for name, value in error.items() if value is not None}
        body = json.dumps({"error": {**shown, "type": self.kind}}, indent=2)
        return Answer(status=self.status, body=body, headers=self.headers)


def no_such(kind: str, identifier: str, *, param: str = "id", status: int = 404) -> Refusal:
    """Return Stripe's answer to an unknown id: 404 if it is in the path, 400 if in a parameter."""
    message = f"No such {kind}: '{identifier}'"
    return Refusal(message, status=status, code="resource_missing", param=param)


def no_access(account: str) -> Refusal:
    """Return Stripe's answer about an account that is not connected, or is none."""
    return Refusal(
        f"The provided key does not have access to account '{account}' (or that account"
        " does not exist). Application access may have been revoked.",
        status=403,
        code="account_invalid",
    )


def unrecognized_url(method: str, path: str) -> Refusal:
    """Return Stripe's answer to a route that does not exist, or not in this API version."""
    return Refusal(
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can"
        " help at https://support.stripe.com/.",
        status=404,
    )


def failure_answer(status: int) -> Answer:
    """Return an error of this status as Stripe would word it, for injected faults."""
    if status == 429:
        return rate_limited(None).answer()
    if status >= 500:
        message = "An unknown error occurred"
        return Refusal(message, status=status, kind="api_error").answer()
    if status == 409:
        return locked(status).answer()
    return Refusal("The request was refused.", status=status).answer()


def locked(status: int = 429) -> Refusal:
    """Return the answer about an object that is in use, which is not the limiter's: it names no reason."""
    return Refusal(
        "This object cannot be accessed right now because another API request or Stripe process"
        " is currently accessing it. If you see this error intermittently, retry the request.",
        status=status,
        code="lock_timeout",
    )


def rate_limited(reason: str | None) -> Refusal:
    """Return the answer of Stripe's limiter, which names its reason in a header."""
    return Refusal(
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        status=429,
        code="rate_limit",
        headers={} if reason is None else {"Stripe-Rate-Limited-Reason": reason},
    )
