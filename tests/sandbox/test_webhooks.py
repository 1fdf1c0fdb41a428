"""Webhooks arrive signed, when and how often a test says, and stay pending until they are taken."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from stripe import InvalidRequestError, SignatureVerificationError, StripeClient, Webhook

from meter_sync.sandbox import Sandbox, StripeWorld

from .instants import PERIOD_END, PERIOD_START
from .wire import ACACIA

START, END = int(PERIOD_START.timestamp()), int(PERIOD_END.timestamp())
TURN = ["invoice.created", "customer.subscription.updated"]


@dataclass
class Receiver:
    """An endpoint over real HTTP that notes what arrives, and answers as a test says."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    """What it answers next; 200 when it is empty."""
    bodies: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)

    @property
    def events(self) -> list[Any]:
        return [json.loads(body) for body in self.bodies]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            receiver.bodies.append(self.rfile.read(length).decode())
            receiver.signatures.append(self.headers["Stripe-Signature"])
            status = receiver.answers.pop(0) if receiver.answers else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        receiver.url = f"http://127.0.0.1:{server.server_port}/webhook"
        try:
            yield receiver
        finally:
            server.shutdown()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


def turn(sandbox: Sandbox) -> str:
    """Let one subscription reach the end of its period, and return its id."""
    world = sandbox.stripe
    view = world.add_subscription(world.add_customer(), [world.add_price()], period_start=PERIOD_START)
    sandbox.clock.move_to(PERIOD_END)
    return view.id


def test_an_event_arrives_signed_so_that_the_sdk_takes_it(sandbox: Sandbox, receiver: Receiver) -> None:
    endpoint = sandbox.stripe.webhooks.add_endpoint(receiver.url, events=TURN)
    subscription = turn(sandbox)
    assert sandbox.stripe.webhooks.deliver() == [200, 200]
    assert receiver.types == TURN
    for body, signature in zip(receiver.bodies, receiver.signatures, strict=True):
        event = Webhook.construct_event(body, signature, endpoint.secrets[0])
        assert event.created == END
        with pytest.raises(SignatureVerificationError):
            Webhook.construct_event(body, signature, "whsec_other")
        with pytest.raises(SignatureVerificationError):
            Webhook.construct_event(body + " ", signature, endpoint.secrets[0])
    updated = receiver.events[1]["data"]
    assert updated["object"]["id"] == subscription
    assert "items" in updated["previous_attributes"]


def test_while_a_secret_is_rolled_both_are_right(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.stripe.webhooks.add_endpoint(receiver.url, secrets=["whsec_new", "whsec_old"], events=TURN[:1])
    turn(sandbox)
    sandbox.stripe.webhooks.deliver()
    for secret in ("whsec_new", "whsec_old"):
        assert Webhook.construct_event(receiver.bodies[0], receiver.signatures[0], secret).type == TURN[0]
    assert receiver.signatures[0].count("v1=") == 2


def test_it_can_be_signed_at_another_time_and_is_then_too_old(sandbox: Sandbox, receiver: Receiver) -> None:
    endpoint = sandbox.stripe.webhooks.add_endpoint(receiver.url, events=TURN[:1])
    turn(sandbox)
    long_ago = int(time.time()) - 400
    sandbox.stripe.webhooks.deliver(signed_at=long_ago)
    assert receiver.signatures[0].startswith(f"t={long_ago},")
    with pytest.raises(SignatureVerificationError, match="tolerance"):
        Webhook.construct_event(receiver.bodies[0], receiver.signatures[0], endpoint.secrets[0])


def test_an_endpoint_of_an_old_version_is_shown_the_old_shape(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.stripe.webhooks.add_endpoint(receiver.url, events=TURN, api_version=ACACIA)
    subscription = turn(sandbox)
    sandbox.stripe.webhooks.deliver()
    invoice, updated = receiver.events
    assert invoice["api_version"] == updated["api_version"] == ACACIA
    assert invoice["data"]["object"]["subscription"] == subscription
    assert updated["data"]["previous_attributes"]["current_period_start"] == START
    assert "items" not in updated["data"]["previous_attributes"]


def test_what_is_not_taken_stays_pending(sandbox: Sandbox, receiver: Receiver) -> None:
    webhooks = sandbox.stripe.webhooks
    webhooks.add_endpoint(receiver.url, events=TURN)
    turn(sandbox)
    receiver.answers = [500, 302, 200]
    assert webhooks.deliver() == [500, 302]
    assert webhooks.deliver() == [200, 200]
    assert receiver.types == TURN * 2
    assert (webhooks.deliver(), webhooks.pending()) == ([], [])


def test_an_endpoint_that_is_down_gets_everything_later(sandbox: Sandbox) -> None:
    webhooks = sandbox.stripe.webhooks
    with receiving() as down:
        pass
    endpoint = webhooks.add_endpoint(down.url, events=TURN)
    turn(sandbox)
    assert webhooks.deliver() == [None, None]
    with receiving() as receiver:
        endpoint.url = receiver.url
        assert webhooks.deliver() == [200, 200]
        assert receiver.types == TURN


def test_deliveries_can_be_repeated_reordered_and_held_back(sandbox: Sandbox, receiver: Receiver) -> None:
    webhooks = sandbox.stripe.webhooks
    webhooks.add_endpoint(receiver.url, events=["invoice.*"])
    turn(sandbox)
    sandbox.clock.advance(timedelta(hours=1))
    ordered = ["invoice.upcoming", "invoice.created", "invoice.finalized", "invoice.paid"]
    assert [delivery.event.type for delivery in webhooks.pending()] == ordered

    webhooks.deliver(repeats=2, hold_back=lambda delivery: delivery.event.type != "invoice.created")
    assert receiver.types == ["invoice.created"] * 2
    assert receiver.bodies[0] == receiver.bodies[1]
    webhooks.deliver(repeats=3, shuffled_by=random.Random(1))  # noqa: S311
    late = receiver.types[2:]
    assert sorted(late) == sorted(each for each in ordered if each != "invoice.created" for _ in range(3))
    assert late != sorted(late, key=ordered.index)
    assert webhooks.pending() == []


def test_an_endpoint_gets_what_happened_since_it_was_there_and_of_the_types_that_it_wants(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    webhooks, world = sandbox.stripe.webhooks, sandbox.stripe
    before = world.add_subscription(world.add_customer(), [world.add_price()])
    everything = webhooks.add_endpoint(receiver.url)
    webhooks.add_endpoint(receiver.url, events=["customer.subscription.deleted"])
    world.add_subscription(world.add_customer(), [world.add_price()])
    world.cancel(before.id)
    deleted = "customer.subscription.deleted"
    assert sorted(each.event.type for each in webhooks.pending()) == ["customer.subscription.created", deleted, deleted]
    webhooks.remove_endpoint(everything)
    assert [each.event.type for each in webhooks.pending()] == [deleted]


def test_errors_of_meters_arrive_as_thin_events_and_can_be_fetched(sandbox: Sandbox, receiver: Receiver) -> None:
    world = sandbox.stripe
    kinds = ["v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"]
    endpoint = world.webhooks.add_endpoint(receiver.url, events=kinds)
    world.webhooks.add_endpoint(receiver.url)  # snapshots only
    meter = world.add_meter("tokens")
    world.create_meter_event("tokens", {"stripe_customer_id": "cus_none", "value": "1"}, identifier="lost")
    world.create_meter_event("nothing", {"stripe_customer_id": "cus_none", "value": "1"})
    assert world.webhooks.deliver() == [200, 200]

    client = StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url})
    notices: list[Any] = [
        client.parse_event_notification(body, signature, endpoint.secrets[0])
        for body, signature in zip(receiver.bodies, receiver.signatures, strict=True)
    ]
    assert [notice.type for notice in notices] == kinds
    assert notices[0].related_object.id == meter
    assert "data" not in receiver.events[0]
    fetched = notices[0].fetch_event()
    sample = fetched.data.reason.error_types[0].sample_errors[0]
    assert sample.request.identifier == "lost"


def test_live_keys_make_live_events(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.stripe.webhooks.add_endpoint(receiver.url, events=TURN)
    turn(sandbox)
    sandbox.stripe.keys["sk_live_key"] = None
    sandbox.stripe.webhooks.deliver()
    assert [event["livemode"] for event in receiver.events] == [True, True]
    assert receiver.events[0]["data"]["object"]["livemode"] is True


def test_a_connect_endpoint_gets_what_happens_in_connected_accounts_and_says_in_which(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    platform, webhooks = sandbox.stripe, sandbox.stripe.webhooks
    earlier = sandbox.connect_account()
    made = ["customer.subscription.created"]

    def subscribe_in(world: StripeWorld) -> str:
        return world.add_subscription(world.add_customer(), [world.add_price()], period_start=PERIOD_START).id

    subscribe_in(earlier)  # before there was an endpoint
    connect = webhooks.add_endpoint(receiver.url, events=made, connect=True, api_version=ACACIA)
    own = webhooks.add_endpoint(receiver.url, events=made)
    later, other = sandbox.connect_account(), sandbox.add_account()
    happened = [(subscribe_in(world), world) for world in (platform, earlier, later, other)]

    assert sorted(each.endpoint.id for each in webhooks.pending()) == sorted([own.id, connect.id, connect.id])
    webhooks.deliver()
    got = {event["data"]["object"]["id"]: event for event in receiver.events}
    assert {id: (event.get("account"), event.get("context")) for id, event in got.items()} == {
        happened[0][0]: (None, None),
        happened[1][0]: (earlier.account, earlier.account),
        happened[2][0]: (later.account, later.account),
    }
    assert "account" not in got[happened[0][0]]
    assert [got[id]["api_version"] for id, _ in happened[1:3]] == [ACACIA] * 2

    sandbox.disconnect_account(later)
    subscribe_in(later)
    assert webhooks.pending() == []


def test_events_of_a_connected_account_are_read_there_and_say_no_account(sandbox: Sandbox) -> None:
    connected = sandbox.connect_account()
    connected.add_subscription(connected.add_customer(), [connected.add_price()], period_start=PERIOD_START)
    client = StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url})
    theirs = client.v1.events.list({}, {"stripe_account": connected.account}).data
    assert [event.type for event in theirs] == ["customer.subscription.created"]
    assert "account" not in theirs[0].to_dict()
    assert client.v1.events.list().data == []
    with pytest.raises(InvalidRequestError, match="No such event"):
        client.v1.events.retrieve(theirs[0].id)


def test_a_thin_event_of_a_connected_account_has_the_context_to_fetch_it_in(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    kind = "v1.billing.meter.no_meter_found"
    destination = sandbox.stripe.add_event_destination(receiver.url, [kind], "thin", events_from=["@self", "@accounts"])
    secret = sandbox.stripe.webhooks.deliver_to(destination)
    connected = sandbox.connect_account()
    for world in (sandbox.stripe, connected):
        world.create_meter_event("nothing", {"stripe_customer_id": "cus_none", "value": "1"})
    assert sandbox.stripe.webhooks.deliver() == [200, 200]
    client = StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url})
    notices: list[Any] = [
        client.parse_event_notification(body, signature, secret)
        for body, signature in zip(receiver.bodies, receiver.signatures, strict=True)
    ]
    assert [notice.context and str(notice.context) for notice in notices] == [None, connected.account]
    assert [notice.fetch_event().type for notice in notices] == [kind, kind]
