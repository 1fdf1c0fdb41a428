"""The embedded Stripe tells of what happened: in order, at its own instant, with what was before."""

from datetime import timedelta
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.world import SubscriptionView

from .instants import PERIOD_END, PERIOD_START
from .wire import ACACIA, StripeWire

START, END = int(PERIOD_START.timestamp()), int(PERIOD_END.timestamp())
ENDIVE = "2026-10-28.endive"
WEEK = 7 * 86_400


def subscribe(sandbox: Sandbox, **options: Any) -> SubscriptionView:
    world = sandbox.stripe
    options.setdefault("period_start", PERIOD_START)
    return world.add_subscription(world.add_customer(), [world.add_price(unit_amount_decimal="1")], **options)


def events(stripe: StripeWire, **filters: Any) -> list[dict[str, Any]]:
    """Return the events that meet the filters, newest first."""
    page = stripe("GET", "/v1/events", {"limit": 100, **filters}).json
    assert page["has_more"] is False
    found: list[dict[str, Any]] = page["data"]
    return found


def told(stripe: StripeWire, **filters: Any) -> list[tuple[str, int]]:
    """Return what happened and when, oldest first."""
    return [(each["type"], each["created"]) for each in reversed(events(stripe, **filters))]


def test_a_turn_of_the_cycle_is_told_of_as_it_happened(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    stripe.record(view.items[0], 5, timestamp=START + 1)
    sandbox.clock.move_to(PERIOD_END + timedelta(days=2))
    assert told(stripe) == [
        ("invoice.upcoming", END - WEEK),
        ("invoice.created", END),
        ("customer.subscription.updated", END),
        ("invoice.finalized", END + 3600),
    ]


def test_a_jump_over_many_periods_tells_of_each_in_order(sandbox: Sandbox, stripe: StripeWire) -> None:
    world = sandbox.stripe
    price = world.add_price(interval="day")
    sandbox.stripe.seconds_before_upcoming = 3600
    views = [world.add_subscription(world.add_customer(), [price]) for _ in range(2)]
    first = int(sandbox.clock.now().timestamp())
    sandbox.clock.advance(timedelta(days=3, hours=2))
    happened = [(each["created"], each["type"]) for each in reversed(events(stripe))]
    assert [at for at, _ in happened] == sorted(at for at, _ in happened)
    for kind, after in (("invoice.upcoming", -3600), ("invoice.created", 0), ("invoice.finalized", 3600)):
        days = [first + day * 86_400 + after for day in (1, 2, 3) for _ in views]
        assert [at for at, each in happened if each == kind] == days


def test_before_a_turn_the_items_were_of_the_old_period(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    sandbox.clock.move_to(PERIOD_END)
    (turn,) = events(stripe, type="customer.subscription.updated")
    now, before = turn["data"]["object"], turn["data"]["previous_attributes"]
    assert turn["api_version"] == ENDIVE
    assert before.keys() == {"items", "latest_invoice"}
    assert before["latest_invoice"] is None
    assert now["latest_invoice"] == sandbox.stripe.invoices[0].id
    (old,), (new,) = before["items"]["data"], now["items"]["data"]
    assert old["id"] == new["id"] == view.items[0]
    assert (old["current_period_start"], old["current_period_end"]) == (START, END)
    assert new["current_period_start"] == END


def test_before_basil_the_subscription_itself_had_the_old_period(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.api_version = ACACIA
    subscribe(sandbox)
    sandbox.clock.move_to(PERIOD_END)
    # Whatever version is asked for: an event is shown in the account's of its time.
    (turn,) = stripe("GET", "/v1/events", {"type": "*.updated"}, version=ENDIVE).json["data"]
    before = turn["data"]["previous_attributes"]
    assert turn["api_version"] == ACACIA
    assert before == {"current_period_start": START, "current_period_end": END, "latest_invoice": None}
    assert turn["data"]["object"]["current_period_start"] == END


def test_an_event_keeps_the_object_as_it_was(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    stripe("POST", f"/v1/subscriptions/{view.id}", {"metadata[plan]": "pro"})
    sandbox.clock.move_to(PERIOD_END + timedelta(minutes=1))
    stripe.record(view.items[0], 9, timestamp=START + 1)
    sandbox.clock.advance(timedelta(hours=2))
    created, final = (events(stripe, type=f"invoice.{kind}")[0]["data"]["object"] for kind in ("created", "finalized"))
    assert (created["status"], created["total"]) == ("draft", 0)
    assert (final["status"], final["total"]) == ("open", 9)
    renamed = events(stripe, type="customer.subscription.updated")[-1]["data"]
    assert (renamed["object"]["metadata"], renamed["previous_attributes"]) == ({"plan": "pro"}, {"metadata": {}})


def test_each_change_of_items_is_one_update(sandbox: Sandbox, stripe: StripeWire) -> None:
    world = sandbox.stripe
    view = subscribe(sandbox)
    changes = {
        "items[0][id]": view.items[0],
        "items[0][deleted]": "true",
        "items[1][price]": world.add_price(),
        "metadata[plan]": "pro",
    }
    changed = stripe("POST", f"/v1/subscriptions/{view.id}", changes, version=ENDIVE).json
    (event,) = events(stripe, type="customer.subscription.updated")
    assert event["data"]["object"] == changed
    assert event["data"]["previous_attributes"].keys() == {"items", "metadata"}
    assert [each["id"] for each in event["data"]["previous_attributes"]["items"]["data"]] == view.items
    world.change_price(changed["items"]["data"][0]["id"], world.add_price())
    world.set_status(view.id, "active")
    assert len(events(stripe, type="customer.subscription.updated")) == 2


def test_creation_and_cancellation_are_told_of(sandbox: Sandbox, stripe: StripeWire) -> None:
    now = int(sandbox.clock.now().timestamp())
    view = subscribe(sandbox, created=sandbox.clock.now())
    stripe("DELETE", f"/v1/subscriptions/{view.id}")
    assert told(stripe) == [("customer.subscription.created", now), ("customer.subscription.deleted", now)]
    deleted, created = events(stripe)
    assert (created["data"]["object"]["status"], deleted["data"]["object"]["status"]) == ("active", "canceled")
    assert "previous_attributes" not in deleted["data"]


def test_events_are_found_by_type_and_time_and_page_by_page(sandbox: Sandbox, stripe: StripeWire) -> None:
    subscribe(sandbox)
    sandbox.clock.move_to(PERIOD_END + timedelta(hours=2))
    everything = [each["id"] for each in events(stripe)]
    found: list[str] = []
    more = True
    while more:
        cursor = {"starting_after": found[-1]} if found else {}
        page = stripe("GET", "/v1/events", {"limit": 2, **cursor}).json
        found, more = found + [each["id"] for each in page["data"]], page["has_more"]
    assert found == everything
    assert {kind for kind, _ in told(stripe, **{"types[0]": "invoice.created", "types[1]": "invoice.finalized"})} == {
        "invoice.created",
        "invoice.finalized",
    }
    assert [at for _, at in told(stripe, **{"created[gte]": END})] == [END, END, END + 3600, END + 3600]
    assert [at for _, at in told(stripe, **{"created[gt]": END})] == [END + 3600] * 2
    assert [at for _, at in told(stripe, **{"created[lt]": END})] == [END - WEEK]
    assert stripe("GET", "/v1/events", {"type": "invoice.created", "types[]": "invoice.paid"}).status == 400
    one = stripe("GET", f"/v1/events/{everything[0]}").json
    assert (one["id"], one["type"]) == (everything[0], "invoice.paid")


def test_events_are_kept_for_thirty_days(sandbox: Sandbox, stripe: StripeWire) -> None:
    subscribe(sandbox, created=sandbox.clock.now())
    (created,) = events(stripe)
    sandbox.clock.advance(timedelta(days=30, seconds=-1))
    assert stripe("GET", f"/v1/events/{created['id']}").status == 200
    sandbox.clock.advance(timedelta(seconds=1))
    assert stripe("GET", f"/v1/events/{created['id']}").status == 404
    assert created["id"] not in [each["id"] for each in events(stripe)]


@pytest.mark.parametrize("seconds", [None, 31 * 86_400])
def test_no_invoice_is_told_of_before_a_period_that_is_too_short(
    sandbox: Sandbox, stripe: StripeWire, seconds: int | None
) -> None:
    sandbox.stripe.seconds_before_upcoming = seconds
    subscribe(sandbox)
    sandbox.clock.move_to(PERIOD_END)
    assert events(stripe, type="invoice.upcoming") == []


def test_an_upcoming_invoice_shows_the_usage_until_then_and_has_no_id(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.seconds_before_upcoming = 2 * 86_400
    view = subscribe(sandbox)
    stripe.record(view.items[0], 7, timestamp=START + 1)
    sandbox.clock.move_to(PERIOD_END)
    (event,) = events(stripe, type="invoice.upcoming")
    shown = event["data"]["object"]
    assert event["created"] == END - 2 * 86_400
    assert (shown["total"], shown["billing_reason"], "id" in shown) == (7, "upcoming", False)
    assert shown["parent"]["subscription_details"]["subscription"] == view.id


def test_reading_events_needs_the_right_to(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.keys["rk_test_other"] = frozenset({"invoices:read"})
    sandbox.stripe.keys["rk_test_reader"] = frozenset({"events:read"})
    assert stripe("GET", "/v1/events", key="rk_test_other").status == 403
    assert stripe("GET", "/v1/events", key="rk_test_reader").status == 200


def test_no_invoice_is_told_of_afterwards(sandbox: Sandbox, stripe: StripeWire) -> None:
    subscribe(sandbox)
    sandbox.clock.move_to(PERIOD_END - timedelta(days=8))
    sandbox.stripe.seconds_before_upcoming = 20 * 86_400
    sandbox.clock.move_to(PERIOD_END)
    assert events(stripe, type="invoice.upcoming") == []
    sandbox.clock.move_to(PERIOD_END + timedelta(days=12))
    assert told(stripe, type="invoice.upcoming") == [("invoice.upcoming", END + 11 * 86_400)]
