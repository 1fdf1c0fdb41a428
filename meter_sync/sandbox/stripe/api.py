"""The embedded Stripe's API: from a request to an answer, in the order in which Stripe looks at it.

Key, version, route, rate limit, permission, parameters, idempotency key, lock; then it is carried out.
"""

import base64
import binascii
import itertools
import json
from collections.abc import Callable, Hashable
from dataclasses import replace

from meter_sync.sandbox.http.faults import Fault
from meter_sync.sandbox.http.traffic import Answer, Incoming
from meter_sync.sandbox.stripe.endpoints import (
    account,
    clocks,
    customers,
    error_reports,
    event_destinations,
    events,
    invoice_items,
    invoices,
    meter_event_stream,
    meter_event_summaries,
    meter_events,
    meters,
    prices,
    subscription_changes,
    subscription_items,
    subscription_schedules,
    subscriptions,
    usage_records,
)
from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.protocol.errors import Refusal, failure_answer, locked, rate_limited, unrecognized_url
from meter_sync.sandbox.stripe.protocol.idempotency import is_saved
from meter_sync.sandbox.stripe.protocol.parameters import Tree, parse_form, parse_json, read_parameters
from meter_sync.sandbox.stripe.protocol.rate_limits import METER_EVENTS, RateLimiter, RateLimits
from meter_sync.sandbox.stripe.protocol.versions import Version, parse_version
from meter_sync.sandbox.stripe.rules.meter_events import lock_of
from meter_sync.sandbox.stripe.views.view import View
from meter_sync.sandbox.stripe.world import StripeWorld

ENDPOINTS = (
    *account.ENDPOINTS,
    *clocks.ENDPOINTS,
    *customers.ENDPOINTS,
    *prices.ENDPOINTS,
    *subscriptions.ENDPOINTS,
    *subscription_changes.ENDPOINTS,
    *subscription_items.ENDPOINTS,
    *subscription_schedules.ENDPOINTS,
    *usage_records.ENDPOINTS,
    *invoices.ENDPOINTS,
    *invoice_items.ENDPOINTS,
    *meters.ENDPOINTS,
    *meter_events.ENDPOINTS,
    *meter_event_stream.ENDPOINTS,
    *meter_event_summaries.ENDPOINTS,
    *error_reports.ENDPOINTS,
    *event_destinations.ENDPOINTS,
    *events.ENDPOINTS,
)


class StripeApi:
    """Answers requests to the embedded Stripe."""

    def __init__(self, world: StripeWorld, limits: Callable[[], RateLimits | None]) -> None:
        self._world = world
        self._limits = limits
        self._limiter = RateLimiter()
        self._numbers = itertools.count(1)

    def __call__(self, request: Incoming) -> Answer:
        """Answer one request."""
        try:
            with self._world.lock:
                return self._marked(request, self._answer(request))
        except Refusal as refusal:
            return self._marked(request, refusal.answer())

    def fail(self, request: Incoming, fault: Fault, status: int) -> Answer:
        """Answer with an injected error: without looking at the request, unless Stripe would save it for replays."""
        failure = fault.error(self._marked(request, failure_answer(status)))
        saved = is_saved(status) if fault.saved is None else fault.saved
        return self(replace(request, failure=failure)) if saved else failure

    def locks(self, request: Incoming) -> Hashable | None:
        """Return what only one request at a time may be at: a customer's events on a meter."""
        if not self._world.one_event_at_a_time or f"{request.method} {request.path}" != METER_EVENTS:
            return None
        try:
            with self._world.lock:
                self._authenticate(request)
                sent = _parameters(request)
                return lock_of(self._world.state, sent.get("event_name"), sent.get("payload"))
        except Refusal:
            return None

    def _marked(self, request: Incoming, answer: Answer) -> Answer:
        """Return an answer with the headers that every answer of Stripe has."""
        headers = {
            "Request-Id": f"req_1Sandbox{next(self._numbers):08d}",
            "Stripe-Version": request.headers.get("stripe-version", self._world.api_version),
            **answer.headers,
        }
        if request.method == "POST" and "idempotency-key" in request.headers:
            headers["Idempotency-Key"] = request.headers["idempotency-key"]
        return replace(answer, headers=headers)

    def _answer(self, request: Incoming) -> Answer:
        key = self._authenticate(request)
        version = parse_version(request.headers.get("stripe-version"), self._world.api_version)
        self._check_account(request)
        endpoint, ids = self._route(request, version)
        with self._world.settled() as state:
            call = Call(
                world=self._world,
                state=state,
                view=View(state, version, livemode=key[2:7] == "_live"),
                path=request.path,
                ids=ids,
                params={},
                permissions=self._world.keys[key],
                key=key,
                key_shown=masked(key),
            )
            call.require(endpoint.permission)
            tree = _parameters(request)
            read = read_parameters(tree, endpoint.readers, endpoint.required)
            return self._carry_out_once(request, endpoint, replace(call, params=read), key, tree)

    def _authenticate(self, request: Incoming) -> str:
        """Return the API key: a bearer token, or the user name of basic authentication.

        On the meter event stream it is the key that opened the session of which a token was sent.
        """
        key = _sent_key(request.headers.get("authorization", ""))
        if not key:
            raise Refusal(
                "You did not provide an API key. You need to provide your API key in the"
                " Authorization header, using Bearer auth (e.g. 'Authorization: Bearer"
                " YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details.",
                status=401,
            )
        if request.path == meter_event_stream.STREAM_PATH:
            return self._world.event_sessions.key_of(key, self._world.clock.timestamp())
        if key not in self._world.keys:
            raise Refusal(f"Invalid API Key provided: {masked(key)}", status=401)
        return key

    def _check_account(self, request: Incoming) -> None:
        """Refuse other accounts: connected ones are not modelled."""
        account = request.headers.get("stripe-account", self._world.account)
        if account != self._world.account:
            raise Refusal(
                f"The provided key does not have access to account '{account}' (or that account"
                " does not exist). Application access may have been revoked.",
                status=403,
                code="account_invalid",
            )

    def _route(self, request: Incoming, version: Version) -> tuple[Endpoint, tuple[str, ...]]:
        """Return the endpoint in this API version, if the rate limits let the request pass."""
        for endpoint in ENDPOINTS:
            match = endpoint.pattern.fullmatch(f"{request.method} {request.path}")
            removed = endpoint.legacy_billing and not version.has_legacy_billing
            if match is not None and not removed:
                self._check_rate(endpoint.route)
                return endpoint, match.groups()
        self._check_rate("unknown")
        raise unrecognized_url(request.method, request.path)

    def _check_rate(self, endpoint: str) -> None:
        limits = self._limits()
        if limits is not None:
            reason = self._limiter.reason_to_refuse(limits, endpoint)
            if reason is not None:
                raise rate_limited(reason)

    def _carry_out_once(self, request: Incoming, endpoint: Endpoint, call: Call, key: str, tree: Tree) -> Answer:
        """Carry a request out, or replay what its idempotency key has saved."""

        def run() -> Answer:
            if request.finds_locked:
                raise locked()
            return _carry_out(request, endpoint, call)

        idempotency_key = request.headers.get("idempotency-key")
        if request.method != "POST" or idempotency_key is None or not endpoint.replays:
            return run()
        signature = json.dumps([request.path, tree], sort_keys=True)
        return self._world.saved_answers.replay_or_carry_out(key, idempotency_key, signature, call.state.now, run)


def _carry_out(request: Incoming, endpoint: Endpoint, call: Call) -> Answer:
    """Carry a request out, unless an injected failure answers in its place."""
    if request.failure is not None:
        return request.failure
    try:
        shown = endpoint.carry_out(call)
    except Refusal as refusal:
        return refusal.answer()
    return Answer(status=200, body=json.dumps(shown))


def _parameters(request: Incoming) -> Tree:
    """Return the parameters of a request: a POST has them in its body, others in the query.

    To the second API that body is JSON (API reference, API v2).
    """
    if request.method == "POST" and request.query:
        raise Refusal("Parameters of a POST request belong into its body.")
    if request.method == "POST" and request.path.startswith("/v2/"):
        return parse_json(request.body)
    return parse_form(request.body if request.method == "POST" else request.query or request.body)


def _sent_key(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def masked(key: str) -> str:
    """Return a key as Stripe's messages show it: its beginning and its last four characters."""
    if len(key) <= 12:
        return key[:3] + "*" * (len(key) - 3)
    return f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}"
