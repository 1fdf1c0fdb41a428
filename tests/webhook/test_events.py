"""Which events of Stripe's ask for a report, and of what."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.sandbox import Sandbox
from meter_sync.webhook.events import RELEVANT, Event, NotAnEvent, understand

ACACIA = "2025-02-24.acacia"
VERSIONS = [None, ACACIA]
START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)


def an_event(kind: str, now: Any, before: Any = None) -> dict[str, Any]:
    data = {"object": now} if before is None else {"object": now, "previous_attributes": before}
    return {"id": "evt_1", "object": "event", "type": kind, "livemode": False, "data": data}


def verdict(kind: str, now: Any, before: Any = None) -> tuple[str | None, str | None]:
    event = understand(an_event(kind, now, before))
    return event.why, event.subscription


def updated(now: Any, before: Any) -> str | None:
    why, subscription = verdict("customer.subscription.updated", {"id": "sub_1", **now}, before)
    assert subscription == ("sub_1" if why else None)
    return why


def items(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"items": {"object": "list", "data": list(rows)}}


def item(start: int, end: int, id: str = "si_1", price: str = "price_1") -> dict[str, Any]:
    return {"id": id, "price": {"id": price}, "current_period_start": start, "current_period_end": end}


def happened(version: str | None, happen: Callable[[Sandbox, str], None]) -> list[Event]:
    """What the embedded Stripe's webhooks say of something that happens to one subscription."""
    sandbox = Sandbox(START + timedelta(days=20))
    world = sandbox.stripe
    view = world.add_subscription(world.add_customer(), [world.add_price()], period_start=START)
    world.webhooks.add_endpoint("http://127.0.0.1:1/webhook", api_version=version)
    happen(sandbox, view.id)
    deliveries = world.webhooks.pending()
    events = [understand(json.loads(world.webhooks.attempt(delivery).body)) for delivery in deliveries]
    assert {event.subscription for event in events if event.why} <= {view.id}
    return events


@pytest.mark.parametrize("version", VERSIONS)
def test_a_period_that_turns_asks_for_a_report_before_and_after(version: str | None) -> None:
    def turn(sandbox: Sandbox, _: str) -> None:
        sandbox.clock.move_to(END + timedelta(hours=2))

    asked = [(event.type, event.why) for event in happened(version, turn)]

    assert asked == [
        ("invoice.upcoming", "invoice_upcoming"),
        ("invoice.created", "invoice_drafted"),
        ("customer.subscription.updated", "cycle_turned"),
        ("invoice.finalized", None),
        ("invoice.paid", None),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cancellation_asks_for_a_report(version: str | None) -> None:
    (event,) = happened(version, lambda sandbox, subscription: sandbox.stripe.cancel(subscription))

    assert (event.type, event.why) == ("customer.subscription.deleted", "subscription_deleted")


def test_the_cycle_turned_if_the_invoice_is_new_and_every_period_follows_the_old_one() -> None:
    turned = items(item(200, 300), item(200, 300, "si_2"))
    before = items(item(100, 200), item(100, 200, "si_2"))

    assert updated({**turned, "latest_invoice": "in_2"}, {**before, "latest_invoice": "in_1"}) == "cycle_turned"
    assert updated({**turned, "latest_invoice": "in_2"}, {**before, "latest_invoice": None}) == "cycle_turned"


def test_before_basil_the_cycle_turned_if_the_subscription_has_another_period() -> None:
    now = {"current_period_start": 200, "current_period_end": 300}

    assert updated(now, {"current_period_start": 100, "current_period_end": 200}) == "cycle_turned"


def test_an_item_whose_period_moved_asks_for_a_report_also_where_others_did_not() -> None:
    now = items(item(200, 300), item(100, 1000, "si_yearly"))
    before = items(item(100, 200), item(100, 1000, "si_yearly"))

    assert updated({**now, "latest_invoice": "in_2"}, {**before, "latest_invoice": "in_1"}) == "items_changed"
    assert updated(now, before) == "items_changed"


@pytest.mark.parametrize(
    ("now", "before", "why"),
    [
        ([item(1, 9)], [item(1, 9, price="price_old")], "items_changed"),
        ([item(1, 9, "si_new")], [item(1, 9)], "items_changed"),
        ([item(1, 9)], [item(1, 9), item(1, 9, "si_2")], "items_changed"),
        ([], [item(1, 9)], "items_changed"),
        ([item(1, 9), item(1, 9, "si_2")], [item(1, 9)], None),
        ([{**item(1, 9), "quantity": 3}], [{**item(1, 9), "quantity": 2}], None),
    ],
)
def test_items_that_were_replaced_or_removed_ask_for_a_report(
    now: list[dict[str, Any]], before: list[dict[str, Any]], why: str | None
) -> None:
    assert updated(items(*now), items(*before)) == why


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ({"status": "trialing"}, "status_changed"),
        ({"status": "active"}, "status_changed"),
        ({"trial_end": None}, "trial_changed"),
        ({"trial_start": 1}, "trial_changed"),
        ({"schedule": None}, "change_planned"),
        ({"pending_update": None}, "change_planned"),
        ({"metadata": {"a": "b"}}, None),
        ({"latest_invoice": "in_0"}, None),
        ({"cancel_at_period_end": False}, None),
        ({}, None),
    ],
)
def test_other_updates_ask_for_a_report_if_a_state_or_trial_changed_or_a_change_is_planned(
    before: dict[str, Any], why: str | None
) -> None:
    assert updated({"latest_invoice": "in_1"}, before) == why


@pytest.mark.parametrize(
    "belongs",
    [
        {"subscription": "sub_1"},
        {"subscription": {"id": "sub_1", "object": "subscription"}},
        {"parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}}},
        {"parent": {"subscription_details": {"subscription": {"id": "sub_1"}}}},
    ],
)
def test_an_invoice_is_of_the_subscription_that_either_shape_names(belongs: dict[str, Any]) -> None:
    cycle = {"status": "draft", "billing_reason": "subscription_cycle", **belongs}

    assert verdict("invoice.created", cycle) == ("invoice_drafted", "sub_1")
    assert verdict("invoice.created", {"status": "draft", **belongs}) == ("invoice_drafted", "sub_1")
    assert verdict("invoice.created", {"status": "open", **belongs}) == (None, None)
    assert verdict("invoice.upcoming", belongs) == ("invoice_upcoming", "sub_1")


@pytest.mark.parametrize("belongs", [{}, {"parent": None}, {"parent": {"quote_details": {"quote": "qt_1"}}}])
def test_an_invoice_without_a_subscription_asks_for_nothing(belongs: dict[str, Any]) -> None:
    assert verdict("invoice.created", {"status": "draft", **belongs}) == (None, None)


@pytest.mark.parametrize("kind", ["v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"])
def test_thin_events_of_meters_ask_for_no_subscription(kind: str) -> None:
    related = {"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/mtr_1"}
    thin = {"id": "evt_test_1", "object": "v2.core.event", "type": kind, "livemode": True, "related_object": related}

    assert understand(thin) == Event("evt_test_1", kind, is_live=True, why="meter_error", subscription=None)


def test_an_event_of_a_connected_account_says_of_which() -> None:
    shop = {"account": "acct_shop", "context": "acct_shop"}
    for kind in ("customer.subscription.deleted", "charge.succeeded"):
        assert understand({**an_event(kind, {"id": "sub_1"}), **shop}).account == "acct_shop"
        assert understand(an_event(kind, {"id": "sub_1"})).account is None
    thin = {"id": "evt_1", "type": "v1.billing.meter.no_meter_found"}
    said = {None: None, "acct_shop": "acct_shop", "acct_platform/acct_shop": "acct_shop", "": None, "acct_x/": None}
    for context, account in said.items():
        assert understand({**thin, "context": context}).account == account


@pytest.mark.parametrize("kind", ["customer.subscription.created", "invoice.paid", "charge.succeeded", "x"])
def test_other_events_ask_for_nothing(kind: str) -> None:
    assert verdict(kind, {"id": "sub_1", "subscription": "sub_1", "status": "draft"}) == (None, None)


@pytest.mark.parametrize(
    "received",
    [
        None,
        [],
        "evt_1",
        {},
        {"id": "evt_1"},
        {"type": "invoice.created"},
        {"id": 1, "type": "invoice.created"},
        {"id": "evt_1", "type": None},
        {"id": "", "type": "invoice.created"},
        {"id": "e" * 256, "type": "invoice.created"},
        {"id": "evt\n1", "type": "invoice.created"},
    ],
)
def test_what_is_no_event_is_refused(received: object) -> None:
    with pytest.raises(NotAnEvent):
        understand(received)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "items", "data", "price", "parent", "subscription_details", "subscription"])
            | st.sampled_from(["latest_invoice", "current_period_start", "current_period_end", "status"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(RELEVANT), _JSON, _JSON)
def test_an_object_of_any_shape_is_understood_or_asks_for_nothing(kind: str, now: Any, before: Any) -> None:
    for data in ({"object": now, "previous_attributes": before}, now):
        event = understand({"id": "evt_1", "type": kind, "data": data})

        assert event.subscription is None or event.subscription.isprintable()
        assert event.why or not event.subscription
