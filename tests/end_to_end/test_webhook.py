"""`meter-sync webhook`: signed events over real HTTP, until their subscription's usage is in Stripe."""

import json
import random
import re
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meter_sync.ledger import Scope, open_ledger, run_lock
from meter_sync.ledger.ledger import Ledger
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.webhooks import THIN_EVENTS
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.backups import Restore, back_up, either_way, restore_ledger
from tests.support.ways import metered, one_fast
from tests.support.webhook import ACACIA, SECRET, Served, about, serving, signed
from tests.support.world import Outcome, World

RECORDS = "/usage_records"
WEEK = timedelta(days=7)
UPDATED = "customer.subscription.updated"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A sandbox whose clock stands still at the real present: without --as-of a report is about now."""
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0))
    with world.sandbox.in_background():
        yield world


def subscribe(world: World, usage: int = 5) -> SubscriptionView:
    subscription = world.subscribe(period_start=world.now - timedelta(days=3))
    world.use(subscription, usage)
    return subscription


def in_ledger(world: World, use: Callable[[Ledger], Any]) -> Any:
    with open_ledger(world.ledger, Scope(account="", mode="sandbox")) as ledger:
        return use(ledger)


def waiting(world: World) -> list[str]:
    return [event.id for event in in_ledger(world, lambda ledger: ledger.webhook_queue.waiting())]


# -- what an event brings about --------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, ACACIA], ids=["since basil", "before basil"])
def test_a_period_that_turned_is_reported_at_once(world: World, version: str | None) -> None:
    present = world.now
    world.sandbox.clock.move_to(present - timedelta(hours=2))
    price = world.stripe.add_price(interval="week", metadata={"om_meter_id": "api_requests"})
    subscription = world.subscribe(price, period_start=present - WEEK - timedelta(hours=1))
    with serving(world) as served:
        endpoint = world.stripe.webhooks.add_endpoint(
            served.url, secrets=[SECRET], events=[UPDATED], api_version=version
        )
        world.sandbox.clock.move_to(present)
        world.use(subscription, 7, at=present - timedelta(minutes=30))

        assert world.stripe.webhooks.deliver() == [200]

        assert served.logged("webhook_queued", why="cycle_turned")["subscription"] == subscription.id
        served.logged("webhook_done", subscription=subscription.id)
        assert world.billed(subscription) == 7
        world.stripe.webhooks.remove_endpoint(endpoint)


def test_a_change_that_is_planned_is_known_to_the_next_closing_run(world: World) -> None:
    subscription = subscribe(world)
    assert world.run().code == 0
    price = world.stripe.add_price(metadata={"om_meter_id": "api_requests"})
    with serving(world) as served:
        world.stripe.webhooks.add_endpoint(served.url, secrets=[SECRET], events=[UPDATED])
        world.stripe.plan_change(subscription.id, world.now + timedelta(minutes=2), [price])
        assert world.stripe.webhooks.deliver() == [200]
        served.logged("webhook_queued", why="change_planned")
        served.logged("webhook_done", subscription=subscription.id)
    due = in_ledger(world, lambda ledger: ledger.listed.due(world.now, timedelta(minutes=3), WEEK))
    assert [one.item.id for one in due] == subscription.items


def test_only_the_subscription_concerned_is_reported(world: World) -> None:
    concerned, other = subscribe(world), subscribe(world)
    with serving(world) as served:
        assert served.deliver(about(concerned.id)) == 200
        served.logged("webhook_done")

    assert (world.billed(concerned), world.billed(other)) == (5, 0)
    assert world.seen("GET", "/v1/subscriptions") == []


@either_way
def test_on_a_ledger_that_was_restored_from_a_backup_nothing_is_added_twice(world: World, restore: Restore) -> None:
    subscription = metered(world, "additions", period_start=world.now - timedelta(days=3))
    world.use(subscription, 10)
    world.run()
    backup = back_up(world)
    world.use(subscription, 5)
    world.run()
    restore(world, backup)
    world.use(subscription, 1)
    with serving(world) as served:
        assert served.deliver(about(subscription.id)) == 200
        served.logged("webhook_done")

    assert len(served.all_logged("ledger_restored")) == (restore is restore_ledger)
    assert world.billed(subscription) == 16


def test_repeated_and_reordered_deliveries_change_nothing(world: World) -> None:
    subscriptions = [subscribe(world, usage) for usage in (1, 2, 3)]
    events = [about(one.id, f"evt_{place}_{n}") for n in range(3) for place, one in enumerate(subscriptions)]
    deliveries = events * 3
    random.Random(1).shuffle(deliveries)  # noqa: S311
    with serving(world) as served:
        assert {served.deliver(event) for event in deliveries} == {200}

        served.settled(27)
        assert len(served.all_logged("webhook_queued")) == 9
        assert len(served.all_logged("webhook_repeated")) == 18
        assert [world.billed(one) for one in subscriptions] == [1, 2, 3]
        written = len(world.writes)
    with serving(world) as again:
        assert {again.deliver(event) for event in reversed(deliveries)} == {200}

        again.settled(27)
        assert again.queued == 0
        assert again.all_logged("webhook_queued") == []
    assert len(world.writes) == written
    assert [world.billed(one) for one in subscriptions] == [1, 2, 3]


def test_what_the_embedded_stripe_delivers_at_a_turn_three_times_and_in_any_order_bills_once(world: World) -> None:
    present = world.now
    world.sandbox.clock.move_to(present - timedelta(days=2))
    price = world.stripe.add_price(interval="week", metadata={"om_meter_id": "api_requests"})
    subscriptions = [
        world.subscribe(price, period_start=present - WEEK - timedelta(hours=hours)) for hours in (1, 2, 3)
    ]
    with serving(world) as served:
        world.stripe.webhooks.add_endpoint(served.url, secrets=[SECRET])
        world.sandbox.clock.move_to(present)
        for subscription in subscriptions:
            world.use(subscription, 4, at=present - timedelta(minutes=5))

        statuses = world.stripe.webhooks.deliver(repeats=3, shuffled_by=random.Random(2))  # noqa: S311

        assert len(statuses) >= 18
        assert set(statuses) == {200}
        served.settled(len(statuses))
    assert [world.billed(one) for one in subscriptions] == [4, 4, 4]


def test_the_meters_error_events_are_read_and_what_was_rejected_is_named(world: World) -> None:
    meter = world.stripe.add_meter("requests", formula="last")
    price = world.stripe.add_price(meter=meter, metadata={"om_meter_id": "api_requests"})
    subscription = world.subscribe(price, period_start=world.now - timedelta(days=3))
    world.use(subscription, 5)
    world.stripe.reject_meter_events_as = "meter_event_customer_not_found"
    with serving(world) as served:
        world.stripe.webhooks.add_endpoint(served.url, secrets=[SECRET], events=THIN_EVENTS)
        served.deliver(about(subscription.id))
        served.done(1)
        assert world.billed(subscription) == 0
        world.stripe.reject_meter_events_as = None

        assert world.stripe.webhooks.deliver() == [200]

        assert served.logged("webhook_queued", why="meter_error")["subscription"] is None
        served.logged("webhook_done", subscription=None)
        assert served.logged("rejections")["named"] == 1
        assert served.logged("webhook_item")["reason"] == "rejected"


@pytest.mark.parametrize("subscription", ["sub_unknown", "sub/../x?y"])
def test_a_subscription_that_stripe_does_not_know_is_done(world: World, subscription: str) -> None:
    with serving(world) as served:
        assert served.deliver(about(subscription)) == 200

        served.logged("webhook_nothing_to_report", subscription=subscription)
        served.logged("webhook_done", subscription=subscription)
        assert served.queued == 0


def test_one_without_metered_items_is_done(world: World) -> None:
    subscription = world.subscribe(world.stripe.add_price(usage_type="licensed"))
    with serving(world) as served:
        served.deliver(about(subscription.id))

        served.logged("webhook_done", subscription=subscription.id)
    assert waiting(world) == []


def test_what_is_held_is_said_and_done(world: World) -> None:
    subscription = subscribe(world)
    with serving(world) as served:
        served.deliver(about(subscription.id))
        served.done(1)
        world.openmeter.value_overrides["api_requests", world.customer_of(subscription)] = "4"

        served.deliver(about(subscription.id, "evt_2"))

        item = served.logged("webhook_item")
        assert (item["outcome"], item["reason"], item["level"]) == ("held", "decrease", "warning")
        served.done(2)
    assert world.billed(subscription) == 5


# -- answers ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The command with two secrets, for deliveries that bring about nothing."""
    world = World(tmp_path_factory.mktemp("idle"), datetime.now(UTC).replace(microsecond=0))
    with (
        world.sandbox.in_background(),
        serving(world, STRIPE_WEBHOOK_SECRET=f"whsec_other,{SECRET}") as served,
    ):
        yield served


IGNORED = {"id": "evt_ignored", "object": "event", "type": "charge.succeeded", "data": {"object": {}}}


def test_what_needs_no_report_is_answered_and_ignored(idle: Served) -> None:
    assert idle.deliver(IGNORED) == 200
    assert idle.queued == 0
    assert idle.logged("webhook_ignored", event_id="evt_ignored")["why"] == "nothing to report"


@pytest.mark.parametrize(
    "data", [None, [], {"object": None}, {"object": []}, {"object": {"id": 3}}, {"object": {"items": {"data": "x"}}}]
)
@pytest.mark.parametrize("kind", [UPDATED, "customer.subscription.deleted", "invoice.created", "invoice.upcoming"])
def test_an_object_of_the_wrong_shape_is_ignored(idle: Served, kind: str, data: Any) -> None:
    assert idle.deliver({"id": "evt_shape", "type": kind, "data": data}) == 200
    assert idle.queued == 0


def test_an_event_of_the_other_mode_is_ignored_with_a_warning(idle: Served) -> None:
    assert idle.deliver(about("sub_1", "evt_live", livemode=True)) == 200
    assert idle.queued == 0
    assert "mode" in idle.logged("webhook_ignored", event_id="evt_live", level="warning")["why"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"evt_1"',
        b"{}",
        b'{"id": "evt_1"}',
        b'{"id": [], "type": {}}',
        b"[" * 99999,
    ],
    ids=range(10),
)
def test_what_is_no_event_is_refused(idle: Served, body: bytes) -> None:
    assert idle.deliver(body) == 400


def test_without_a_right_signature_nothing_is_taken(idle: Served) -> None:
    body = json.dumps(IGNORED).encode()
    refused: list[dict[str, str]] = [
        {},
        {"Stripe-Signature": ""},
        {"Stripe-Signature": "nonsense"},
        {"Stripe-Signature": "t=1,v1=\xe9"},
        signed(body, "whsec_wrong"),
        signed(body + b" ", SECRET),
        signed(body, SECRET, seconds_ago=400),
    ]

    assert [idle.request("POST", "/webhook", body, headers)[0] for headers in refused] == [400] * len(refused)
    idle.logged("webhook_refused", why="it has no Stripe-Signature")
    idle.until(lambda: any("tolerance" in refusal["why"] for refusal in idle.all_logged("webhook_refused")))


def test_a_signature_counts_for_300_seconds(idle: Served) -> None:
    assert idle.deliver(IGNORED, seconds_ago=270) == 200
    assert idle.deliver(IGNORED, seconds_ago=330) == 400


def test_while_a_secret_is_rolled_both_are_right(idle: Served) -> None:
    assert idle.deliver(IGNORED, "whsec_other") == 200
    assert idle.deliver(IGNORED, SECRET) == 200
    assert idle.deliver(IGNORED, "whsec_third", SECRET) == 200
    assert idle.deliver(IGNORED, "whsec_third") == 400


def test_a_body_over_1_mb_is_refused_however_it_is_sent(idle: Served) -> None:
    largest = json.dumps({**IGNORED, "x": ""}).encode()
    largest = largest.replace(b'"x": ""', b'"x": "' + b"x" * (1_000_000 - len(largest)) + b'"')
    assert len(largest) == 1_000_000
    assert idle.deliver(largest) == 200

    too_large = largest + b" "
    assert idle.deliver(too_large) == 413
    assert idle.request("POST", "/webhook", iter([too_large]))[0] == 413  # in chunks, without saying how much
    assert idle.deliver(IGNORED) == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/", 404),
        ("POST", "/webhook/", 404),
        ("POST", "/webhooks", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/webhook", 405),
        ("PUT", "/webhook", 405),
        ("DELETE", "/webhook", 405),
        ("POST", "/healthz", 405),
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
    ],
)
def test_there_is_one_path_for_events_and_one_for_health(idle: Served, method: str, path: str, status: int) -> None:
    assert idle.request(method, path, b"" if method == "POST" else None)[0] == status


def test_health_says_how_much_waits(world: World) -> None:
    subscription = subscribe(world)
    world.sandbox.faults.add(Fault(server="stripe", times=None, drop="before"))
    with serving(world) as served:
        assert served.queued == 0
        served.deliver(about(subscription.id))
        served.logged("webhook_try_again")

        assert json.loads(served.request("GET", "/healthz")[1]) == {"status": "ok", "queued": 1}


def test_what_is_no_http_leaves_the_server_well(idle: Served) -> None:
    for rubbish in (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET / HTTP/9.9\r\nX: \x00\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nno gz",
    ):
        with socket.create_connection(("127.0.0.1", idle.port), 60) as connection:
            connection.sendall(rubbish)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass

    assert idle.deliver({**IGNORED, "id": "evt_after_rubbish"}) == 200
    idle.logged("webhook_ignored", event_id="evt_after_rubbish")
    assert idle.all_logged("webhook_failed") == []


def test_an_event_that_cannot_be_queued_is_to_be_delivered_again(world: World) -> None:
    subscription = subscribe(world)
    aside = world.ledger.with_name("aside")
    with serving(world) as served:
        world.ledger.rename(aside)
        world.ledger.write_text("something else" * 1000)
        assert served.deliver(about(subscription.id)) == 503
        assert served.request("GET", "/healthz")[0] == 503
        assert "damaged" in served.logged("webhook_not_queued")["because"]

        aside.rename(world.ledger)
        assert served.deliver(about(subscription.id)) == 200
        served.done(1)
    assert world.billed(subscription) == 5


# -- what happens in between -----------------------------------------------------------------------------


def test_what_was_queued_survives_a_kill_and_is_reported_by_the_next(world: World) -> None:
    subscription = subscribe(world)
    fault = Fault(server="stripe", times=None, drop="before")
    world.sandbox.faults.add(fault)
    killed = Served(world)
    assert killed.deliver(about(subscription.id)) == 200
    world.sandbox.wait_for("GET", "/v1/account")

    assert killed.end(signal.SIGKILL) == -signal.SIGKILL

    assert waiting(world) == ["evt_1"]
    world.sandbox.faults.clear()
    with serving(world) as served:
        served.logged("webhook_done", subscription=subscription.id)
    assert waiting(world) == []
    assert world.billed(subscription) == 5


def test_a_report_that_fails_is_tried_again_until_it_goes_well(world: World) -> None:
    subscription = subscribe(world)
    world.sandbox.faults.add(Fault(server="stripe", method="POST", path=RECORDS, times=None, status=500))
    with serving(world) as served:
        served.deliver(about(subscription.id))
        served.logged("webhook_try_again", subscription=subscription.id)
        assert served.queued == 1
        world.sandbox.faults.clear()

        served.logged("webhook_done", subscription=subscription.id)
    assert world.billed(subscription) == 5


def test_a_full_run_that_is_under_way_keeps_no_subscription_waiting(world: World) -> None:
    subscription = subscribe(world)
    with run_lock(world.ledger, Scope("", "sandbox")), serving(world) as served:
        assert served.deliver(about(subscription.id)) == 200
        served.done(1)
    assert world.billed(subscription) == 5


def test_a_full_run_that_is_under_way_keeps_no_error_events_waiting(world: World) -> None:
    with run_lock(world.ledger, Scope("", "sandbox")), serving(world) as served:
        assert served.deliver({"id": "evt_thin", "object": "v2.core.event", "type": THIN_EVENTS[0]}) == 200
        served.done(1)


@pytest.mark.parametrize("how", one_fast([signal.SIGTERM, signal.SIGINT], signal.SIGTERM))
def test_a_signal_during_a_report_ends_it_cleanly_and_loses_nothing(world: World, how: signal.Signals) -> None:
    subscription = subscribe(world)
    world.sandbox.latency.stripe_read = 0.2
    served = Served(world)
    served.deliver(about(subscription.id))
    served.logged("list")

    assert served.end(how) == 0

    served.logged("webhook_stopped")
    left = waiting(world)
    assert (left == []) is bool(served.all_logged("webhook_done"))
    with serving(world) as again:
        again.deliver(about(subscription.id, "evt_2"))
        again.done(len(left) + 1)
    assert waiting(world) == []
    assert world.billed(subscription) == 5


def test_a_request_in_flight_is_answered_before_the_end(world: World) -> None:
    body = json.dumps(about("sub_1")).encode()
    served = Served(world)
    lines = ["POST /webhook HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in signed(body, SECRET).items()), "", ""])
    with socket.create_connection(("127.0.0.1", served.port), 60) as connection:
        connection.sendall(head.encode() + body[:5])
        assert served.queued == 0  # answered after the head above has arrived
        served.process.send_signal(signal.SIGTERM)
        served.logged("webhook_stopping")

        connection.sendall(body[5:])

        answer = connection.makefile("rb").readline()
    assert b" 200 " in answer
    assert served.end(None) == 0
    assert waiting(world) == ["evt_1"]


def test_no_secret_is_ever_in_the_output(world: World) -> None:
    subscription = subscribe(world)
    other = "whsec_" + "of_a_second_endpoint"
    served = Served(world, STRIPE_WEBHOOK_SECRET=f"{SECRET} {other}")
    served.deliver(about(subscription.id))
    served.deliver(IGNORED, other)
    served.deliver(IGNORED, "whsec_wrong")
    served.deliver(b"{")
    served.done(1)
    assert served.end() == 0

    for secret in (SECRET, other, world.sandbox.stripe_key, world.sandbox.openmeter_key):
        assert secret not in served.output
        assert secret.encode() not in world.ledger.read_bytes()


# -- how it begins ---------------------------------------------------------------------------------------


def ended_at_once(world: World, *arguments: str, **environment: str) -> Outcome:
    return world.meter_sync("webhook", "--port", "0", *arguments, **environment)


def test_without_a_secret_it_does_not_begin_and_says_what_to_set(world: World) -> None:
    done = ended_at_once(world)

    assert (done.code, done.stdout) == (78, "")
    assert "STRIPE_WEBHOOK_SECRET_FILE" in done.stderr
    assert "what to do: " in done.stderr


def test_a_secret_may_lie_in_a_file_or_in_systemds_credentials(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "stripe_webhook_secret").write_text(f"whsec_new\n{SECRET}\n")
    for environment in (
        {"STRIPE_WEBHOOK_SECRET_FILE": str(folder / "stripe_webhook_secret")},
        {"CREDENTIALS_DIRECTORY": str(folder)},
    ):
        with serving(world, STRIPE_WEBHOOK_SECRET="", **environment) as served:
            assert [served.deliver(IGNORED, secret) for secret in (SECRET, "whsec_new", "whsec_x")] == [200, 200, 400]


def test_a_ledger_that_cannot_be_used_is_said_at_the_start(world: World) -> None:
    done = ended_at_once(world, STRIPE_WEBHOOK_SECRET=SECRET, METER_SYNC_LEDGER="/dev/null/ledger")

    assert done.code == 78
    assert "METER_SYNC_LEDGER" in done.stderr


def test_an_address_that_is_taken_is_said(world: World) -> None:
    with serving(world) as served:
        done = ended_at_once(world, "--port", str(served.port), STRIPE_WEBHOOK_SECRET=SECRET)

    assert done.code == 1
    assert re.search(r"cannot listen on 127\.0\.0\.1.*--port", done.stderr, flags=re.DOTALL)


def test_where_it_listens_is_an_option_or_a_variable(world: World) -> None:
    with serving(world, "--host", "127.0.0.2") as served:
        assert served.logged("webhook_listening")["host"] == "127.0.0.2"
    environment = {"METER_SYNC_WEBHOOK_HOST": "127.0.0.3", "METER_SYNC_WEBHOOK_PORT": "70000"}
    assert world.meter_sync("webhook", STRIPE_WEBHOOK_SECRET=SECRET, **environment).code == 2
