"""Answers that are not what they should be: never a traceback, never a write of anything but the true usage.

Each answer is at first a true one, and then changed at a drawn place.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.sandbox import Fault
from meter_sync.sandbox.http.faults import Server
from meter_sync.sandbox.openmeter.api import OpenMeterVersion
from tests.fuzz import command
from tests.fuzz.mutations import Mutation, as_body, mutations, rewriting
from tests.fuzz.profile import examples
from tests.support.world import METER, NOW, PERIOD_START, World

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""What a broken answer runs through is covered by other tests; measuring it would double its time."""

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

KINDS: Mapping[str, Mapping[str, Any] | None] = {
    "record": None,
    "hours": {"formula": "sum", "window": "hour"},
    "last": {"formula": "last"},
    "additions": {"formula": "sum"},
}


@dataclass(frozen=True)
class Route:
    """An answer, what is read of it, and the run that asks for it."""

    path: str
    names: str
    """The names of what may be changed, with spaces between."""
    server: Server = "stripe"
    method: str = "GET"
    before: str = "nothing"
    """What was before the run: nothing, an earlier report whose ledger was lost, or one and then the period's end."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    openmeter_version: OpenMeterVersion = "v1"
    is_rejected_later: bool = False
    """Whether Stripe says only after a run what it rejects of it, so that the next one holds that and names it."""


PRICE = "id object active metadata om_meter_id recurring usage_type product"
SUBSCRIPTION = (
    "id object customer status created metadata items data current_period_start current_period_end price recurring "
    "usage_type subscription"
)
BY_CUSTOMER = {"METER_SYNC_SUBJECT": "openmeter.customer"}
PAGED = "data meta page number size total"


def v3(path: str, names: str, method: str = "GET", *, by_customer: bool = False) -> Route:
    """Return a route of OpenMeter's API v3."""
    environment = BY_CUSTOMER if by_customer else None
    return Route(path, names, "openmeter", method, environment=environment, openmeter_version="v3")


ROUTES = {
    "prices": Route("^/v1/prices$", f"{PRICE} data has_more meter lookup_key"),
    "price": Route("^/v1/prices/", PRICE, arguments=("--customer", "CUSTOMER")),
    "subscriptions": Route("^/v1/subscriptions$", f"{SUBSCRIPTION} has_more billing_thresholds trial_end"),
    "subscription": Route("^/v1/subscriptions/", SUBSCRIPTION, arguments=("--subscription", "SUBSCRIPTION")),
    "items": Route("^/v1/subscription_items$", SUBSCRIPTION),
    "billing meters": Route(
        "^/v1/billing/meters$",
        "data has_more id event_name formula default_aggregation customer_mapping event_payload_key type "
        "value_settings status",
        is_rejected_later=True,
    ),
    "record summaries": Route(
        "/usage_record_summaries$", "data total_usage period start end subscription_item", before="lost"
    ),
    "event summaries": Route(
        "/event_summaries$", "data aggregated_value start_time end_time meter id has_more", before="lost"
    ),
    "usage record": Route("/usage_records$", "id object quantity subscription_item timestamp", method="POST"),
    "meter event": Route(
        "/meter_events$", "object event_name identifier payload timestamp value stripe_customer_id", method="POST"
    ),
    "meters": Route("^/api/v1/meters$", "id slug aggregation", server="openmeter"),
    "query": Route("/query$", "data value subject from to windowStart", server="openmeter", method="POST"),
    "query by customer": Route(
        "/query$",
        "data value customerId groupBy customer_id from to windowStart",
        server="openmeter",
        method="POST",
        environment=BY_CUSTOMER,
    ),
    "customers": Route("^/api/v1/customers$", "items id key", server="openmeter", environment=BY_CUSTOMER),
    "apps": Route("/apps$", "items type stripeCustomerId", server="openmeter", environment=BY_CUSTOMER),
    "meters of v3": v3("/openmeter/meters$", f"{PAGED} id key aggregation events_from"),
    "query of v3": v3("/query$", "data value dimensions subject from to", "POST"),
    "query by customer of v3": v3("/query$", "data value dimensions customer_id from to", "POST", by_customer=True),
    "customers of v3": v3("/openmeter/customers$", f"{PAGED} id key deleted_at", by_customer=True),
    "billing data of v3": v3("/billing$", "app_data stripe customer_id", by_customer=True),
    "error events": Route(
        "^/v2/core/events",
        "data id created reason error_types code error_count sample_errors error_message request identifier "
        "validation_start next_page_url related_object",
    ),
    "invoices": Route(
        "^/v1/invoices$",
        "data has_more id status lines period start end quantity parent subscription_item_details subscription_item "
        "pricing price_details price",
        before="turned",
    ),
    "events": Route(
        "^/v1/events$",
        "data has_more id type created object previous_attributes items",
        before="turned",
    ),
    "fate": Route("^/v1/subscriptions/", f"{SUBSCRIPTION} ended_at", before="turned"),
    "read back": Route(
        "_summaries$",
        "data total_usage period start end subscription_item aggregated_value start_time meter id has_more",
        before="turned",
    ),
}


class Billing:
    """A world with an item of each kind of price, two of them on the same one, and what all of them used."""

    def __init__(self, world: World, route: Route) -> None:
        self.world = world
        self.route = route
        self.customers: dict[str, str] = {}
        self.used: dict[str, int] = {}
        self.held: dict[str, int] = {}
        for number, kind in enumerate(("record", *KINDS), start=1):
            self._subscribe(kind, number)
        if route.before == "turned":
            end = world.stripe.period(next(iter(self.used))).end
            world.sandbox.clock.move_to(datetime.fromtimestamp(end, UTC) - HOUR)
        if route.before != "nothing":
            self._run()
            self.held = dict(self.used)
        if route.before == "turned":
            world.stripe.cancel(self.subscription)  # without an invoice: nothing of it is billed
            self.used.popitem()
            self.held.popitem()
        if route.before != "nothing":
            self._use(4)
        if route.before == "turned":
            world.sandbox.clock.advance(HOUR + 2 * MINUTE)
        if route.before == "lost":
            world.ledger.unlink()

    def _subscribe(self, kind: str, number: int) -> None:
        world, meter = self.world, KINDS[kind]
        price = f"price_{kind}"
        if all(known.id != price for known in world.stripe.state.prices):
            billing_meter = world.stripe.add_meter(f"{kind}_usage", **meter) if meter else None
            world.stripe.add_price(price, meter=billing_meter, metadata={"om_meter_id": METER})
        subscription = world.subscribe(price, *(self._flat_prices() if number == 1 else []))
        customer, item = world.customer_of(subscription), subscription.items[0]
        self.customers[item] = customer
        self.subscription = subscription.id
        self.used[item] = self.held[item] = 0
        keyed = number % 2 or self.route.path not in {"/apps$", "/billing$"}
        world.openmeter.add_customer(
            customer if keyed else f"key_{number}", subjects=[customer], stripe_customer_id=customer
        )
        self._use(2 + number, item)

    def _run(self, output: str = "json") -> int | None:
        """Run as the command does; where it is about a period's end, by the sandbox's clock, which is all there is."""
        if self.route.before != "turned":
            return command.run(self.world, *self.arguments, output=output, **self.environment)
        self.world.execute()
        return None

    def _flat_prices(self) -> list[str]:
        """More prices than a subscription shows items, where it is about those that are listed apart."""
        if self.route.path != ROUTES["items"].path:
            return []
        return [self.world.stripe.add_price(f"price_flat_{number}", usage_type="licensed") for number in range(11)]

    def _use(self, more: int, *items: str) -> None:
        for item in items or self.used:
            self.used[item] += more
            self.world.use(self.customers[item], more)

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.route.environment or {})

    @property
    def arguments(self) -> list[str]:
        names = {"CUSTOMER": next(iter(self.customers.values())), "SUBSCRIPTION": self.subscription}
        return [names.get(argument, argument) for argument in self.route.arguments]

    @property
    def billed(self) -> dict[str, int]:
        return {item: self.world.stripe.total(item, at=PERIOD_START + HOUR) for item in self.used}

    def run_with(self, fault: Mutation | Mapping[str, Any], output: str = "json") -> None:
        """Run while one route's answers are wrong: each item stays as it was, or is as it should be."""
        route = self.route
        effect = {"rewrite": rewriting(fault, route.names.split())} if isinstance(fault, Mutation) else fault
        self.world.sandbox.faults.add(
            Fault(server=route.server, method=route.method, path=route.path, times=None, **effect)
        )
        self._run(output)
        self.world.sandbox.faults.clear()
        for item, billed in self.billed.items():
            assert billed in (self.held[item], self.used[item])

    def run_undisturbed(self) -> None:
        if self.route.before == "turned":
            self.world.execute()
            assert self.billed == self.used
            return
        code = command.run(self.world, **self.environment)
        if self.route.is_rejected_later and code == 4:
            code = command.run(self.world, **self.environment)
        assert code == 0
        assert self.billed == self.used


@contextmanager
def billing(route: Route) -> Iterator[Billing]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), NOW, route.openmeter_version)
        with world.sandbox.in_background():
            yield Billing(world, route)


@pytest.mark.parametrize("name", ROUTES)
@given(st.lists(mutations(), min_size=3, max_size=3), st.sampled_from(["json", "csv", "table"]))
@examples(2)
def test_an_answer_that_is_wrong_somewhere_never_bills_anything_wrong(
    name: str, wrong: list[Mutation], output: str
) -> None:
    with billing(ROUTES[name]) as bills:
        for mutation in wrong:
            bills.run_with(mutation, output)
        bills.run_undisturbed()


@dataclass
class ForEver:
    """Makes a list endless: each page is the first one again, and says that it goes on."""

    pages: int = 0
    first: Any = None

    def __call__(self, body: str) -> bytes:
        document = json.loads(body)
        self.pages += 1
        if self.pages > 20:  # to fail rather than to hang
            return body.encode()
        self.first = self.first or document
        if "meta" in document:
            page = {**document["meta"]["page"], "total": 1000}
            return as_body({**self.first, "meta": {"page": page}})
        if "items" in document:
            return as_body({**self.first, "items": (self.first["items"] * 100)[:100]})
        if "next_page_url" in document:
            return as_body({**self.first, "next_page_url": "/v2/core/events?limit=100"})
        return as_body({**self.first, "has_more": True})


@pytest.mark.parametrize(
    "name",
    [
        *("prices", "subscriptions", "items", "billing meters", "event summaries", "customers", "error events"),
        *("invoices", "meters of v3", "customers of v3"),
    ],
)
def test_a_list_that_never_ends_is_given_up(name: str) -> None:
    route, endless = ROUTES[name], ForEver()
    with billing(route) as bills:
        bills.run_with({"rewrite": endless})

        assert 1 < endless.pages <= 20
        bills.run_undisturbed()


BODIES = st.sampled_from(
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"7",
        b"<html>",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"error": null}',
        b'{"error": "text"}',
        b'{"error": ["x"]}',
        b'{"error": {"type": 7, "code": ["x"], "message": {"a": 1}}}',
        b'{"error": {"message": "\\ud800\\u0000\\u001b[2J", "type": "invalid_request_error", "code": null}}',
        b'{"error": {"type": "idempotency_error", "message": null, "param": 5}}',
        b'{"detail": ["x"], "title": 7}',
        b'{"detail": "\\ud800"}',
    ]
)
STATUSES = (300, 304, 400, 401, 402, 403, 404, 409, 418, 429, 451, 500, 503, 599)


@pytest.mark.parametrize("name", ["prices", "usage record", "meter event", "query", "query of v3"])
@given(
    st.lists(st.tuples(st.sampled_from(STATUSES), BODIES), min_size=3, max_size=3),
    st.sampled_from(["", "nan", "-1", "1e400", "Wed, 21 Oct 2099 07:28:00 GMT", "\u00b2"]),
)
@examples(2)
def test_an_error_that_is_none_of_the_servers_never_bills_anything_wrong(
    name: str, errors: list[tuple[int, bytes]], retry_after: str
) -> None:
    route = ROUTES[name]
    with billing(route) as bills:
        for status, body in errors:
            text, headers = body.decode("latin-1"), {"Retry-After": retry_after}
            bills.run_with({"status": status, "saved": False, "headers": headers, "text": text})
        bills.run_undisturbed()
