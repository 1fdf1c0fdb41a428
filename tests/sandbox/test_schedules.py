"""Schedules change a subscription at the instants that they have, each change told of by one event."""

from typing import Any

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.world import SubscriptionView

from .instants import DAY, HOUR, NOW, PERIOD_END, PERIOD_START, SECOND, unix
from .wire import StripeWire

ENDIVE = "2026-10-28.endive"
SCHEDULES = "/v1/subscription_schedules"
CHANGE = NOW + 2 * DAY
START, AT, AFTER, END = (unix(instant) for instant in (PERIOD_START, CHANGE, CHANGE + SECOND, PERIOD_END))


@pytest.fixture
def view(sandbox: Sandbox) -> SubscriptionView:
    """A subscription on a meter that every price of these tests is on, of which 100 were reported."""
    stripe = sandbox.stripe
    meter, customer = stripe.add_meter("calls", id="mtr_1"), stripe.add_customer(id="cus_1")
    for name in ("old", "new", "other"):
        stripe.add_price(id=f"price_{name}", meter=meter)
    send(sandbox, 100)
    return stripe.add_subscription(customer, ["price_old"], period_start=PERIOD_START, billing_mode="flexible")


def send(sandbox: Sandbox, value: int) -> None:
    at = sandbox.clock.timestamp()
    sandbox.stripe.create_meter_event("calls", {"stripe_customer_id": "cus_1", "value": str(value)}, at)


def ask(stripe: StripeWire, method: str, path: str, params: dict[str, str] | None = None) -> dict[str, Any]:
    reply = stripe(method, path, params or {}, version=ENDIVE)
    assert reply.status == 200, reply.text
    answer: dict[str, Any] = reply.json
    return answer


def phases(*parts: tuple[int, int, tuple[str, ...]], **more: str) -> dict[str, str]:
    sent = dict(more)
    for place, (start, end, prices) in enumerate(parts):
        sent |= {f"phases[{place}][start_date]": str(start), f"phases[{place}][end_date]": str(end)}
        sent |= {f"phases[{place}][items][{number}][price]": price for number, price in enumerate(prices)}
    return sent


def scheduled(stripe: StripeWire, view: SubscriptionView, *prices: str, **more: str) -> str:
    """Schedule a subscription over HTTP to have these prices from CHANGE on, and return the schedule."""
    made = ask(stripe, "POST", SCHEDULES, {"from_subscription": view.id})
    start, end = made["current_phase"]["start_date"], made["current_phase"]["end_date"]
    assert (start, end) == (START, END)
    changed = phases((start, AT, ("price_old",)), (AT, end, prices), **more)
    ask(stripe, "POST", f"{SCHEDULES}/{made['id']}", changed)
    return str(made["id"])


def prices_of(sandbox: Sandbox, view: SubscriptionView) -> list[str]:
    with sandbox.stripe.settled() as state:
        return [item.price for item in state.items_of(state.subscriptions[view.id])]


def test_a_subscription_shows_its_schedule_by_its_id_or_expanded(
    sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView
) -> None:
    assert ask(stripe, "GET", f"/v1/subscriptions/{view.id}")["schedule"] is None
    schedule = scheduled(stripe, view, "price_new")
    assert ask(stripe, "GET", f"/v1/subscriptions/{view.id}")["schedule"] == schedule
    expanded = ask(stripe, "GET", "/v1/subscriptions", {"expand[0]": "data.schedule"})["data"][0]["schedule"]
    assert expanded == ask(stripe, "GET", f"{SCHEDULES}/{schedule}")
    assert ask(stripe, "GET", SCHEDULES, {"customer": "cus_1"})["data"] == [expanded]
    assert [phase["start_date"] for phase in expanded["phases"]] == [START, AT]


def test_a_phase_replaces_the_items_whose_price_it_does_not_have(
    sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView
) -> None:
    kept = sandbox.stripe.add_item(view.id, "price_other")
    scheduled(stripe, view, "price_other", "price_new")
    sandbox.clock.move_to(CHANGE - SECOND)
    assert prices_of(sandbox, view) == ["price_old", "price_other"]
    sandbox.clock.move_to(CHANGE + HOUR)
    assert prices_of(sandbox, view) == ["price_other", "price_new"]
    items = sandbox.stripe.state.subscriptions[view.id].items
    new = sandbox.stripe.state.items[items[1]]
    assert (items[0], new.created, new.billed_since) == (kept, AT, AT)


def test_or_it_moves_them_to_its_prices(sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView) -> None:
    sandbox.stripe.phases_change_prices = True
    scheduled(stripe, view, "price_new")
    sandbox.clock.move_to(CHANGE + HOUR)
    assert (sandbox.stripe.state.subscriptions[view.id].items, prices_of(sandbox, view)) == (view.items, ["price_new"])


@pytest.mark.parametrize("moves", [False, True])
def test_one_event_of_that_instant_tells_of_it_with_what_was_before(
    sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView, moves: bool
) -> None:
    sandbox.stripe.phases_change_prices = moves
    scheduled(stripe, view, "price_new")
    sandbox.clock.move_to(CHANGE + HOUR)
    told = ask(stripe, "GET", "/v1/events", {"created[gte]": str(AT)})["data"]
    assert [(one["type"], one["created"]) for one in told] == [("customer.subscription.updated", AT)]
    now, before = told[0]["data"]["object"]["items"], told[0]["data"]["previous_attributes"]["items"]
    assert [[item["price"]["id"] for item in one["data"]] for one in (before, now)] == [["price_old"], ["price_new"]]


def test_an_invoice_item_bills_what_was_reported_by_the_instant_itself(
    sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView
) -> None:
    scheduled(stripe, view, "price_new")
    sandbox.clock.move_to(CHANGE + HOUR)
    send(sandbox, 7)
    sandbox.clock.move_to(PERIOD_END + SECOND)
    lines = [(line.price, line.quantity) for invoice in sandbox.stripe.invoices for line in invoice.lines]
    assert sorted(lines) == [("price_new", 7), ("price_old", 100)]


def test_usage_records_go_with_an_item_that_a_phase_does_not_have(sandbox: Sandbox, view: SubscriptionView) -> None:
    legacy = sandbox.stripe.add_price()
    item = sandbox.stripe.add_item(view.id, legacy)
    sandbox.stripe.create_usage_record(item, 5)
    sandbox.stripe.plan_change(view.id, CHANGE, ["price_old"])
    sandbox.clock.move_to(CHANGE)
    assert prices_of(sandbox, view) == ["price_old"]


def test_a_phase_may_begin_a_new_billing_period(sandbox: Sandbox, view: SubscriptionView) -> None:
    sandbox.stripe.plan_change(view.id, CHANGE, ["price_old"], restarts_periods=True)
    sandbox.clock.move_to(CHANGE + HOUR)
    assert sandbox.stripe.period(view.items[0]).start == AT
    (line,) = sandbox.stripe.invoices[-1].lines
    assert (line.quantity, line.period.end) == (100, AT)


@pytest.mark.parametrize(
    ("behavior", "status", "goes_on"), [("release", "released", True), ("cancel", "completed", False)]
)
def test_at_the_end_of_the_last_phase_the_subscription_goes_on_or_ends(
    sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView, behavior: str, status: str, goes_on: bool
) -> None:
    made = ask(stripe, "POST", SCHEDULES, {"from_subscription": view.id})
    only = phases((START, AT, ("price_old",)), end_behavior=behavior)
    ask(stripe, "POST", f"{SCHEDULES}/{made['id']}", only)
    sandbox.clock.move_to(CHANGE + HOUR)
    subscription = ask(stripe, "GET", f"/v1/subscriptions/{view.id}")
    assert ask(stripe, "GET", f"{SCHEDULES}/{made['id']}")["status"] == status
    assert (subscription["schedule"], subscription["status"] == "active") == (None, goes_on)
    assert subscription["ended_at"] == (None if goes_on else AT)


@pytest.mark.parametrize("how", ["release", "cancel"])
def test_a_schedule_that_is_stopped_changes_nothing_any_more(
    sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView, how: str
) -> None:
    schedule = scheduled(stripe, view, "price_new")
    stopped = ask(stripe, "POST", f"{SCHEDULES}/{schedule}/{how}")
    assert (stopped["status"], stopped["current_phase"]) == ({"release": "released", "cancel": "canceled"}[how], None)
    sandbox.clock.move_to(CHANGE + HOUR)
    assert prices_of(sandbox, view) == ["price_old"]
    assert sandbox.stripe.state.subscriptions[view.id].ended is (how == "cancel")
    assert stripe("POST", f"{SCHEDULES}/{schedule}/{how}", version=ENDIVE).status == 400


def test_a_subscription_that_is_canceled_takes_its_schedule_along(
    sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView
) -> None:
    schedule = scheduled(stripe, view, "price_new")
    sandbox.stripe.cancel(view.id)
    assert ask(stripe, "GET", f"{SCHEDULES}/{schedule}")["status"] == "canceled"
    sandbox.clock.move_to(CHANGE + HOUR)
    assert prices_of(sandbox, view) == ["price_old"]


@pytest.mark.parametrize(
    "wrong",
    [
        phases((START, AT, ("price_old",)), (AFTER, END, ("price_new",))),
        phases((START, START, ("price_old",))),
        phases((START, AT, ("price_none",))),
        phases((AT, END, ("price_new",))),
        {"phases[0][end_date]": str(AT), "phases[0][items][0][price]": "price_old"},
    ],
)
def test_phases_that_have_gaps_or_leave_out_the_present_are_refused(
    sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView, wrong: dict[str, str]
) -> None:
    made = ask(stripe, "POST", SCHEDULES, {"from_subscription": view.id})
    reply = stripe("POST", f"{SCHEDULES}/{made['id']}", wrong, version=ENDIVE)
    assert (reply.status, reply.error["param"]) == (400, "phases")
    again = stripe("POST", SCHEDULES, {"from_subscription": view.id}, version=ENDIVE)
    assert again.status == 400, "it has a schedule"


def test_what_is_on_a_test_clock_changes_by_its_time(sandbox: Sandbox) -> None:
    stripe = sandbox.stripe
    clock = stripe.add_test_clock(NOW)
    old, new = stripe.add_price(), stripe.add_price()
    view = stripe.add_subscription(stripe.add_customer(test_clock=clock), [old], period_start=PERIOD_START)
    stripe.plan_change(view.id, CHANGE, [new])
    sandbox.clock.move_to(CHANGE + DAY)
    assert prices_of(sandbox, view) == [old]
    stripe.advance_test_clock(clock, CHANGE)
    assert prices_of(sandbox, view) == [new]
