"""Periods turn with the clock, and invoices bill what was recorded."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.world import SubscriptionView

from .instants import NOW, PERIOD_END, PERIOD_START
from .wire import StripeWire

ANCHOR = int(PERIOD_START.timestamp()) + 1

Interval = Literal["day", "week", "month", "year"]


def subscribe(
    sandbox: Sandbox,
    start: datetime = PERIOD_START,
    *,
    unit: str = "0.02",
    transform: Mapping[str, object] | None = None,
    interval: Interval = "month",
    count: int = 1,
    trial_end: datetime | None = None,
) -> SubscriptionView:
    world = sandbox.stripe
    price = world.add_price(
        unit_amount_decimal=unit,
        transform_quantity=transform,
        interval=interval,
        interval_count=count,
    )
    return world.add_subscription(world.add_customer(), [price], period_start=start, trial_end=trial_end)


def test_the_end_of_a_period_drafts_an_invoice_that_is_final_an_hour_later(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    view = subscribe(sandbox, unit="2.5")
    stripe.record(view.items[0], 101, timestamp=ANCHOR, action="set")

    def listed() -> list[tuple[str, int, int]]:
        found = stripe("GET", "/v1/invoices", {"subscription": view.id}).json["data"]
        return [(each["status"], each["total"], each["lines"]["data"][0]["quantity"]) for each in found]

    sandbox.clock.move_to(PERIOD_END - timedelta(seconds=1))
    assert listed() == []
    sandbox.clock.move_to(PERIOD_END)
    # 101 times 2.5 cents = 252.5, rounded half up.
    assert listed() == [("draft", 253, 101)]
    sandbox.clock.advance(timedelta(seconds=3599))
    assert listed() == [("draft", 253, 101)]
    sandbox.clock.advance(timedelta(seconds=1))
    assert listed() == [("open", 253, 101)]


def test_a_record_within_the_grace_changes_the_draft(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox, unit="1")
    stripe.record(view.items[0], 100, timestamp=ANCHOR, action="set")
    sandbox.clock.move_to(PERIOD_END + timedelta(minutes=4))
    assert [line.quantity for line in sandbox.stripe.invoices[0].lines] == [100]
    assert stripe.record(view.items[0], 130, timestamp=ANCHOR, action="set").status == 200
    (invoice,) = sandbox.stripe.invoices
    assert [(line.quantity, line.amount_cents) for line in invoice.lines] == [(130, Decimal(130))]
    assert sandbox.stripe.total(view.items[0]) == 0
    assert sandbox.stripe.total(view.items[0], at=NOW) == 130


def test_a_final_invoice_takes_nothing_more_even_within_a_long_grace(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    sandbox.stripe.grace_seconds = 7200
    sandbox.clock.move_to(PERIOD_END + timedelta(hours=1))
    assert stripe.record(view.items[0], 1, timestamp=ANCHOR).status == 400


def test_usage_of_one_period_is_not_billed_again_in_the_next(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox, unit="1")
    stripe.record(view.items[0], 5, timestamp=ANCHOR, action="set")
    sandbox.clock.move_to(PERIOD_END + timedelta(minutes=10))
    stripe.record(view.items[0], 8, timestamp=int(PERIOD_END.timestamp()) + 1, action="set")
    sandbox.clock.move_to(datetime(2027, 2, 1, 12, tzinfo=UTC))
    assert [int(invoice.total_cents) for invoice in sandbox.stripe.invoices] == [5, 8, 0]


@pytest.mark.parametrize(
    ("interval", "count", "start", "bounds"),
    [
        ("month", 1, "2026-01-31", ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        ("month", 3, "2025-11-30", ["2026-02-28", "2026-05-30", "2026-08-30", "2026-11-30"]),
        ("year", 1, "2024-02-29", ["2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]),
        ("week", 2, "2026-10-30", ["2026-11-13", "2026-11-27", "2026-12-11", "2026-12-25"]),
        ("day", 1, "2026-11-10", ["2026-11-11", "2026-11-12", "2026-11-13", "2026-11-14"]),
    ],
)
def test_periods_are_counted_from_the_anchor_whose_day_returns_after_short_months(
    interval: Interval, count: int, start: str, bounds: list[str]
) -> None:
    first = datetime.fromisoformat(start).replace(tzinfo=UTC)
    sandbox = Sandbox(now=first)
    view = subscribe(sandbox, first, interval=interval, count=count)
    ends = []
    for _ in bounds:
        period = sandbox.stripe.period(view.items[0])
        assert period.start == int(sandbox.clock.now().timestamp())
        ends.append(datetime.fromtimestamp(period.end, UTC))
        sandbox.clock.move_to(ends[-1])
    assert [end.date().isoformat() for end in ends] == bounds


def test_items_of_one_subscription_turn_by_their_own_interval(sandbox: Sandbox) -> None:
    world = sandbox.stripe
    prices = [world.add_price(interval=interval) for interval in ("month", "week")]
    view = world.add_subscription(world.add_customer(), prices, period_start=PERIOD_START)
    monthly, weekly = (world.period(item) for item in view.items)
    assert datetime.fromtimestamp(monthly.end, UTC) == PERIOD_END
    assert datetime.fromtimestamp(weekly.start, UTC) == PERIOD_START + timedelta(weeks=1)
    (invoice,) = world.invoices
    assert [line.item for line in invoice.lines] == [view.items[1]]


@pytest.mark.parametrize(
    ("rounding", "quantity", "amount"),
    [("up", 1001, 20), ("down", 1999, 10), ("up", 1000, 10), ("up", 0, 0)],
)
def test_packages_are_rounded_before_they_are_priced(
    sandbox: Sandbox, stripe: StripeWire, rounding: str, quantity: int, amount: int
) -> None:
    view = subscribe(sandbox, unit="10", transform={"divide_by": 1000, "round": rounding})
    stripe.record(view.items[0], quantity, timestamp=ANCHOR, action="set")
    (line,) = sandbox.stripe.invoice_preview(view.id)
    assert (line.quantity, line.amount_cents) == (quantity, Decimal(amount))


def test_the_upcoming_invoice_shows_the_open_period(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox, unit="0.5")
    stripe.record(view.items[0], 5, timestamp=ANCHOR, action="set")
    shown = stripe("GET", "/v1/invoices/upcoming", {"subscription": view.id}).json
    assert (shown["total"], shown["lines"]["data"][0]["quantity"]) == (3, 5)
    assert "id" not in shown
    assert sandbox.stripe.invoices == []


def test_a_trial_costs_nothing_and_the_period_after_it_begins_at_its_end(sandbox: Sandbox, stripe: StripeWire) -> None:
    trial_end = datetime(2026, 11, 20, tzinfo=UTC)
    view = subscribe(sandbox, unit="1", trial_end=trial_end)
    shown = stripe("GET", f"/v1/subscriptions/{view.id}").json
    assert (shown["status"], shown["current_period_end"]) == (
        "trialing",
        int(trial_end.timestamp()),
    )
    stripe.record(view.items[0], 50, timestamp=ANCHOR, action="set")
    sandbox.clock.move_to(trial_end + timedelta(hours=2))
    (invoice,) = sandbox.stripe.invoices
    assert [(line.quantity, line.amount_cents) for line in invoice.lines] == [(50, Decimal(0))]
    assert stripe("GET", f"/v1/subscriptions/{view.id}").json["status"] == "active"
    period = sandbox.stripe.period(view.items[0])
    assert datetime.fromtimestamp(period.end, UTC) == datetime(2026, 12, 20, tzinfo=UTC)


def test_a_canceled_subscription_bills_its_open_usage_only_if_asked_to(sandbox: Sandbox, stripe: StripeWire) -> None:
    silent, asked = subscribe(sandbox, unit="1"), subscribe(sandbox, unit="1")
    for view in (silent, asked):
        stripe.record(view.items[0], 9, timestamp=ANCHOR, action="set")
    stripe("DELETE", f"/v1/subscriptions/{silent.id}")
    stripe("DELETE", f"/v1/subscriptions/{asked.id}", {"invoice_now": "true"})
    sandbox.clock.move_to(PERIOD_END + timedelta(days=1))
    billed = [(invoice.subscription, invoice.total_cents) for invoice in sandbox.stripe.invoices]
    assert billed == [(asked.id, Decimal(9))]


def test_a_backdated_subscription_has_the_period_of_its_backdated_start(sandbox: Sandbox, stripe: StripeWire) -> None:
    world = sandbox.stripe
    backdated = int(datetime(2026, 10, 20, tzinfo=UTC).timestamp())
    created = stripe(
        "POST",
        "/v1/subscriptions",
        {
            "customer": world.add_customer(),
            "items[0][price]": world.add_price(),
            "backdate_start_date": backdated,
        },
    ).json
    assert created["current_period_start"] == backdated
    assert created["created"] == int(NOW.timestamp())
    assert created["items"]["data"][0]["created"] == created["created"] + 1


def test_an_item_added_in_mid_period_shares_the_period_of_its_neighbours(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    added = stripe(
        "POST",
        "/v1/subscription_items",
        {"subscription": view.id, "price": sandbox.stripe.add_price()},
    ).json
    assert added["created"] == int(NOW.timestamp())
    assert sandbox.stripe.period(added["id"]) == sandbox.stripe.period(view.items[0])


def invoiced(sandbox: Sandbox) -> SubscriptionView:
    view = subscribe(sandbox, unit="10")
    sandbox.stripe.create_usage_record(view.items[0], 100, ANCHOR, "set")
    sandbox.clock.move_to(PERIOD_END + timedelta(minutes=1))
    return view


def test_an_invoice_is_voided_once_it_is_final_and_an_event_tells_of_it(sandbox: Sandbox, stripe: StripeWire) -> None:
    invoiced(sandbox)
    (invoice,) = sandbox.stripe.invoices
    with pytest.raises(Refusal):
        sandbox.stripe.void_invoice(invoice.id)
    sandbox.clock.advance(timedelta(hours=1))
    sandbox.stripe.void_invoice(invoice.id)
    (event,) = stripe("GET", "/v1/events", {"types[0]": "invoice.voided", "types[1]": "invoice.deleted"}).json["data"]
    told = event["data"]["object"]
    assert (event["type"], told["id"], told["status"]) == ("invoice.voided", invoice.id, "void")
    assert [line["quantity"] for line in told["lines"]["data"]] == [100]
    with pytest.raises(Refusal):
        sandbox.stripe.void_invoice(invoice.id)


def test_a_draft_is_deleted_as_long_as_it_is_one_and_an_event_tells_of_it(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = invoiced(sandbox)
    (invoice,) = sandbox.stripe.invoices
    sandbox.stripe.delete_draft(invoice.id)
    (event,) = stripe("GET", "/v1/events", {"types[0]": "invoice.voided", "types[1]": "invoice.deleted"}).json["data"]
    assert (event["type"], event["data"]["object"]["id"]) == ("invoice.deleted", invoice.id)
    assert stripe("GET", f"/v1/invoices/{invoice.id}").status == 404
    assert stripe("GET", "/v1/invoices", {"subscription": view.id}).json["data"] == []
    assert stripe.record(view.items[0], 1, timestamp=ANCHOR).status == 400
    sandbox.clock.advance(timedelta(hours=2))
    assert sandbox.stripe.invoices == []


def test_a_final_invoice_is_not_deleted(sandbox: Sandbox) -> None:
    invoiced(sandbox)
    sandbox.clock.advance(timedelta(hours=1))
    with pytest.raises(Refusal):
        sandbox.stripe.delete_draft(sandbox.stripe.invoices[0].id)


def test_an_invoice_that_is_made_late_is_listed_and_told_of_from_then_on(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.seconds_until_draft = 3900
    view = subscribe(sandbox)
    sandbox.clock.move_to(PERIOD_END + timedelta(minutes=64))

    def known() -> tuple[int, int]:
        listed = stripe("GET", "/v1/invoices", {"subscription": view.id}).json["data"]
        return len(listed), len(stripe("GET", "/v1/events", {"type": "invoice.created"}).json["data"])

    assert known() == (0, 0)
    sandbox.clock.advance(timedelta(minutes=2))
    assert known() == (1, 1)
    assert sandbox.stripe.invoices[0].status == "draft"
