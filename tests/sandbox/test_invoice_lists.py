"""Invoices are found by status, customer, subscription and time, and show what they bill in each API version."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.world import SubscriptionView

from .instants import PERIOD_END, PERIOD_START
from .wire import StripeWire

START, END = int(PERIOD_START.timestamp()), int(PERIOD_END.timestamp())
ENDIVE = "2026-10-28.endive"


def subscribe(sandbox: Sandbox, prices: int = 1, start: datetime = PERIOD_START) -> SubscriptionView:
    world = sandbox.stripe
    made = [world.add_price(unit_amount_decimal="2") for _ in range(prices)]
    return world.add_subscription(world.add_customer(), made, period_start=start)


def listed(stripe: StripeWire, **filters: Any) -> list[str]:
    """Return the ids of all invoices that meet the filters, read page by page."""
    found: list[str] = []
    while True:
        cursor = {"starting_after": found[-1]} if found else {}
        page = stripe("GET", "/v1/invoices", {"limit": 2, **filters, **cursor}, version=ENDIVE).json
        found += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            return found


def test_invoices_are_listed_by_each_filter_and_page_by_page(sandbox: Sandbox, stripe: StripeWire) -> None:
    first, second = subscribe(sandbox), subscribe(sandbox, start=PERIOD_START + timedelta(days=2))
    sandbox.clock.move_to(datetime(2027, 1, 3, 0, 30, tzinfo=UTC))
    by_age = [each.id for each in sandbox.stripe.invoices]
    newest = list(reversed(by_age))
    of_first = [each.id for each in sandbox.stripe.invoices if each.subscription == first.id]

    assert listed(stripe) == newest
    assert listed(stripe, subscription=first.id) == list(reversed(of_first))
    customer = stripe("GET", f"/v1/subscriptions/{second.id}").json["customer"]
    assert listed(stripe, customer=customer) == [each for each in newest if each not in of_first]
    assert listed(stripe, status="draft") == newest[:1]
    assert listed(stripe, status="paid") == newest[1:]
    assert listed(stripe, **{"created[gte]": END}) == newest
    assert listed(stripe, **{"created[gt]": END}) == newest[:-1]
    assert listed(stripe, **{"created[lte]": END}) == listed(stripe, created=END) == newest[-1:]
    assert listed(stripe, **{"created[lt]": END}) == []


def test_an_invoice_names_its_subscription_and_its_items_in_both_shapes(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    stripe.record(view.items[0], 21, timestamp=START + 1, action="set")
    price = stripe("GET", f"/v1/subscription_items/{view.items[0]}").json["price"]["id"]
    sandbox.clock.move_to(PERIOD_END)
    (made,) = sandbox.stripe.invoices
    current = stripe("GET", f"/v1/invoices/{made.id}", version=ENDIVE).json
    legacy = stripe("GET", f"/v1/invoices/{made.id}").json

    assert current["parent"]["subscription_details"]["subscription"] == legacy["subscription"] == view.id
    assert current["automatically_finalizes_at"] == END + 3600
    assert current["billing_reason"] == legacy["billing_reason"] == "subscription_cycle"
    (line,), (old,) = current["lines"]["data"], legacy["lines"]["data"]
    assert line["parent"]["subscription_item_details"]["subscription_item"] == old["subscription_item"] == view.items[0]
    assert line["pricing"]["price_details"]["price"] == old["price"]["id"] == price
    for each in (line, old):
        assert (each["quantity"], each["amount"], each["period"]) == (21, 42, {"start": START, "end": END})


def test_an_invoice_shows_ten_lines_and_the_list_of_lines_shows_all(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox, prices=13)
    sandbox.clock.move_to(PERIOD_END)
    (made,) = sandbox.stripe.invoices
    shown = stripe("GET", f"/v1/invoices/{made.id}", version=ENDIVE).json["lines"]
    assert (len(shown["data"]), shown["has_more"], shown["total_count"]) == (10, True, 13)
    rest = stripe("GET", shown["url"], {"starting_after": shown["data"][-1]["id"]}, version=ENDIVE).json
    assert (len(rest["data"]), rest["has_more"]) == (3, False)
    items = [each["parent"]["subscription_item_details"]["subscription_item"] for each in shown["data"] + rest["data"]]
    assert items == view.items


@pytest.mark.parametrize("hours", [1, 72])
def test_an_invoice_is_final_when_the_account_says_so(sandbox: Sandbox, stripe: StripeWire, hours: int) -> None:
    sandbox.stripe.seconds_from_draft_to_final = hours * 3600
    view = subscribe(sandbox)
    stripe.record(view.items[0], 1, timestamp=START + 1)
    sandbox.clock.move_to(PERIOD_END + timedelta(hours=hours, seconds=-1))
    assert [each.status for each in sandbox.stripe.invoices] == ["draft"]
    sandbox.clock.advance(timedelta(seconds=1))
    (made,) = sandbox.stripe.invoices
    shown = stripe("GET", f"/v1/invoices/{made.id}", version=ENDIVE).json
    assert (shown["status"], shown["automatically_finalizes_at"]) == ("open", None)
    assert shown["status_transitions"]["finalized_at"] == END + hours * 3600


@pytest.mark.parametrize("seconds", [3599, 72 * 3600 + 1])
def test_stripe_knows_no_other_times_of_finalization(sandbox: Sandbox, seconds: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 72 hours"):
        sandbox.stripe.seconds_from_draft_to_final = seconds


def test_reading_invoices_needs_the_right_to(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.keys["rk_test_other"] = frozenset({"subscriptions:read"})
    sandbox.stripe.keys["rk_test_reader"] = frozenset({"invoices:read"})
    subscribe(sandbox)
    sandbox.clock.move_to(PERIOD_END)
    (made,) = sandbox.stripe.invoices
    for path in ("/v1/invoices", f"/v1/invoices/{made.id}", f"/v1/invoices/{made.id}/lines"):
        refused = stripe("GET", path, key="rk_test_other")
        assert (refused.status, "rak_invoice_read" in refused.error["message"]) == (403, True)
        assert stripe("GET", path, key="rk_test_reader").status == 200
    assert stripe("GET", "/v1/invoices/in_none", key="rk_test_reader").status == 404
