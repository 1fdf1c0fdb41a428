"""The embedded Stripe's API: from a request to an answer, in the order in which Stripe looks at it.

Key, account, version, route, rate limit, permission, parameters, idempotency key, lock; then it is carried out.
"""

import itertools
import json
from collections.abc import Callable, Hashable
from dataclasses import replace

from meter_sync.sandbox.http.faults import Fault
from meter_sync.sandbox.http.traffic import Answer, Incoming
from meter_sync.sandbox.stripe.accounts import Access, Accounts
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
from meter_sync.sandbox.stripe.protocol.keys import is_live, masked
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

    def __init__(self, accounts: Accounts, limits: Callable[[], RateLimits | None]) -> None:
        self._accounts = accounts
        self._limits = limits
        self._limiter = RateLimiter()
        self._numbers = itertools.count(1)

    def __call__(self, request: Incoming) -> Answer:
        """Answer one request."""
        try:
            access = self._accounts.access(request)
        except Refusal as refusal:
            return self._marked(request, refusal.answer(), self._accounts.platform)
        with access.world.lock:
            try:
                answer = self._answer(request, access)
            except Refusal as refusal:
                answer = refusal.answer()
            if len(access.path) > 1:
                # As Stripe's own command line shows it of requests on behalf of a connected account.
                answer = replace(answer, headers={"Stripe-Account": access.world.account, **answer.headers})
            return self._marked(request, answer, access.world)

    def fail(self, request: Incoming, fault: Fault, status: int) -> Answer:
        """Answer with an injected error: without looking at the request, unless Stripe would save it for replays."""
        failure = fault.error(self._marked(request, failure_answer(status), self._accounts.platform))
        saved = is_saved(status) if fault.saved is None else fault.saved
        return self(replace(request, failure=failure)) if saved else failure

    def locks(self, request: Incoming) -> Hashable | None:
        """Return what only one request at a time may be at: a customer's events on a meter, in an account."""
        if f"{request.method} {request.path}" != METER_EVENTS:
            return None
        try:
            world = self._accounts.access(request).world
            sent = _parameters(request)
        except Refusal:
            return None
        if not world.one_event_at_a_time:
            return None
        with world.lock:
            lock = lock_of(world.state, sent.get("event_name"), sent.get("payload"))
        return None if lock is None else (world.account, *lock)

    def _marked(self, request: Incoming, answer: Answer, world: StripeWorld) -> Answer:
        """Return an answer with the headers that every answer of Stripe has."""
        headers = {
            "Request-Id": f"req_1Sandbox{next(self._numbers):08d}",
            "Stripe-Version": request.headers.get("stripe-version", world.api_version),
            **answer.headers,
        }
        if request.method == "POST" and "idempotency-key" in request.headers:
            headers["Idempotency-Key"] = request.headers["idempotency-key"]
        return replace(answer, headers=headers)

    def _answer(self, request: Incoming, access: Access) -> Answer:
        world, key = access.world, access.key
        version = parse_version(request.headers.get("stripe-version"), world.api_version)
        endpoint, ids = self._route(request, version, access)
        with world.settled() as state:
            call = Call(
                world=world,
                state=state,
                view=View(state, version, livemode=is_live(key)),
                path=request.path,
                ids=ids,
                params={},
                permissions=access.permissions,
                key=key,
                key_shown=masked(key),
            )
            call.require(endpoint.permission)
            tree = _parameters(request)
            read = read_parameters(tree, endpoint.readers, endpoint.required)
            return _carry_out_once(request, endpoint, replace(call, params=read), tree)

    def _route(self, request: Incoming, version: Version, access: Access) -> tuple[Endpoint, tuple[str, ...]]:
        """Return the endpoint in this API version, if the rate limits let the request pass."""
        for endpoint in ENDPOINTS:
            match = endpoint.pattern.fullmatch(f"{request.method} {request.path}")
            removed = endpoint.legacy_billing and not version.has_legacy_billing
            if match is not None and not removed:
                self._check_rate(endpoint.route, access)
                return endpoint, match.groups()
        self._check_rate("unknown", access)
        raise unrecognized_url(request.method, request.path)

    def _check_rate(self, endpoint: str, access: Access) -> None:
        """Refuse what is above a limit: of the account that the key is of, or of the one that the request is for."""
        limits = self._limits()
        if limits is not None:
            reason = self._limiter.reason_to_refuse(limits, endpoint, [world.account for world in access.path])
            if reason is not None:
                raise rate_limited(reason)


def _carry_out_once(request: Incoming, endpoint: Endpoint, call: Call, tree: Tree) -> Answer:
    """Carry a request out, or replay what its idempotency key has saved in its account."""

    def run() -> Answer:
        if request.finds_locked:
            raise locked()
        return _carry_out(request, endpoint, call)

    idempotency_key = request.headers.get("idempotency-key")
    if request.method != "POST" or idempotency_key is None or not endpoint.replays:
        return run()
    signature = json.dumps([request.path, tree], sort_keys=True)
    return call.world.saved_answers.replay_or_carry_out(call.key, idempotency_key, signature, call.state.now, run)


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
