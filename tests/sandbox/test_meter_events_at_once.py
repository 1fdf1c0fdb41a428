"""Only one event of a customer on a meter is taken at a time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from meter_sync.sandbox import Sandbox

from .instants import DAY, NOW
from .metering import EVENTS, Meter
from .wire import Reply, StripeWire


def at_once(*senders: Callable[[], Reply]) -> list[Reply]:
    """Send at once; return the answers in the order of their status."""
    with ThreadPoolExecutor(len(senders)) as pool:
        replies = [each.result() for each in [pool.submit(sender) for sender in senders]]
    return sorted(replies, key=lambda reply: reply.status)


@pytest.fixture
def slow(sandbox: Sandbox) -> None:
    """Let the events that are sent at once be under way at once."""
    sandbox.latency.stripe_write = 0.5


@pytest.mark.usefixtures("slow")
def test_two_events_of_one_customer_on_one_meter_are_not_taken_at_once(metered: Meter) -> None:
    usage = metered(customer_key="account")

    def send(number: int) -> Reply:
        event = {
            "event_name": usage.event_name,
            "payload[account]": usage.customer,
            "payload[value]": 5,
            "identifier": f"event {number}",
        }
        return usage.stripe("POST", EVENTS, event, idempotency_key=f"key {number}")

    taken, refused = at_once(lambda: send(1), lambda: send(2))
    assert (taken.status, refused.status, refused.error["code"]) == (200, 429, "lock_timeout")
    assert "Stripe-Rate-Limited-Reason" not in refused.headers
    assert usage.upcoming() == 5
    # It left nothing behind: sent again by itself it is taken, under its identifier and its idempotency key.
    assert [send(number).status for number in (1, 2)] == [200, 200]
    assert usage.upcoming() == 10


@pytest.mark.usefixtures("slow")
def test_events_of_other_customers_and_on_other_meters_are_taken_at_once(metered: Meter) -> None:
    usage, other = metered(), metered("other")
    strangers = replace(usage, customer=other.customer)
    misspelt = replace(usage, event_name="misspelt")
    senders = (usage, strangers, replace(other, customer=usage.customer), other, misspelt, misspelt)
    assert [reply.status for reply in at_once(*(partial(each.send, 5) for each in senders))] == [200] * 6
    assert (usage.summary(), strangers.summary(), other.summary()) == (5, 5, 5)


@pytest.mark.usefixtures("slow")
def test_a_refused_event_is_under_way_as_well_and_no_longer_than_that(metered: Meter) -> None:
    usage = metered()
    late = NOW - 36 * DAY
    assert [reply.status for reply in at_once(lambda: usage.send(5, late), lambda: usage.send(5, late))] == [400, 429]
    assert usage.send(5).status == 200


@pytest.mark.usefixtures("slow")
def test_events_may_be_taken_at_once_where_it_is_switched_off(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    sandbox.stripe.one_event_at_a_time = False
    assert [reply.status for reply in at_once(lambda: usage.send(5), lambda: usage.send(7))] == [200, 200]
    assert usage.upcoming() == 12


def test_events_in_other_accounts_are_taken_at_once(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.latency.stripe_write = 0.1
    worlds = [sandbox.connect_account(), sandbox.connect_account()]
    for world in worlds:
        world.add_meter("api_requests")
        world.add_customer(id="cus_same")
    event = {"event_name": "api_requests", "payload[stripe_customer_id]": "cus_same", "payload[value]": 5}

    def send(account: str) -> Reply:
        return stripe("POST", EVENTS, event, headers={"Stripe-Account": account})

    assert [reply.status for reply in at_once(*(partial(send, world.account) for world in worlds))] == [200, 200]
