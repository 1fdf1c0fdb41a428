"""Pages of the embedded Stripe's lists, and what is listed at all."""

import pytest

from meter_sync.sandbox import Sandbox

from .conftest import Subscribe
from .wire import StripeWire


def test_pages_are_newest_first_and_lead_to_every_object_once(sandbox: Sandbox, stripe: StripeWire) -> None:
    made = [sandbox.stripe.add_price(id=f"price_{number}") for number in range(7)]
    seen: list[str] = []
    more = True
    while more:
        cursor = {"starting_after": seen[-1]} if seen else {}
        page = stripe("GET", "/v1/prices", {"limit": 3, **cursor}).json
        seen += [price["id"] for price in page["data"]]
        more = page["has_more"]
    assert seen == list(reversed(made))
    back = stripe("GET", "/v1/prices", {"limit": 2, "ending_before": "price_2"}).json
    assert [price["id"] for price in back["data"]] == ["price_4", "price_3"]
    assert back["has_more"] is True


@pytest.mark.parametrize("limit", ["0", "101", "ten", "1.5"])
def test_a_limit_is_a_whole_number_from_1_to_100(stripe: StripeWire, limit: str) -> None:
    reply = stripe("GET", "/v1/prices", {"limit": limit})
    assert (reply.status, reply.error["param"]) == (400, "limit")


def test_a_cursor_that_does_not_exist_is_refused(stripe: StripeWire) -> None:
    reply = stripe("GET", "/v1/subscriptions", {"starting_after": "sub_none"})
    assert reply.status == 400
    assert reply.error["message"] == "No such subscription: 'sub_none'"
    assert (reply.error["code"], reply.error["param"]) == ("resource_missing", "starting_after")


def test_without_a_status_everything_but_canceled_is_listed(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    statuses = ("active", "past_due", "unpaid", "paused", "incomplete_expired", "canceled")
    ids = {status: subscribe(status=status).id for status in statuses}

    def listed(**filters: str) -> set[str]:
        return {each["id"] for each in stripe("GET", "/v1/subscriptions", filters).json["data"]}

    assert listed() == set(ids.values()) - {ids["canceled"]}
    assert listed(status="all") == set(ids.values())
    assert listed(status="past_due") == {ids["past_due"]}
    assert listed(status="ended") == {ids["canceled"], ids["incomplete_expired"]}
    assert stripe("GET", "/v1/subscriptions", {"status": "living"}).status == 400


def test_subscriptions_of_test_clocks_are_listed_only_when_asked_for(sandbox: Sandbox, stripe: StripeWire) -> None:
    world = sandbox.stripe
    clock = world.add_test_clock(sandbox.clock.now())
    clocked = world.add_customer(test_clock=clock)
    view = world.add_subscription(clocked, [world.add_price()])

    def listed(**filters: str) -> list[str]:
        return [each["id"] for each in stripe("GET", "/v1/subscriptions", filters).json["data"]]

    assert listed() == []
    assert listed(customer=clocked) == listed(test_clock=clock) == [view.id]


def test_a_subscription_shows_ten_items_and_the_list_of_items_shows_all(sandbox: Sandbox, stripe: StripeWire) -> None:
    world = sandbox.stripe
    prices = [world.add_price() for _ in range(13)]
    view = world.add_subscription(world.add_customer(), prices)
    items = stripe("GET", f"/v1/subscriptions/{view.id}").json["items"]
    assert len(items["data"]) == 10
    assert items["has_more"] is True
    rest = stripe(
        "GET",
        "/v1/subscription_items",
        {"subscription": view.id, "starting_after": items["data"][-1]["id"], "limit": 100},
    ).json
    shown = [item["id"] for item in items["data"] + rest["data"]]
    assert sorted(shown) == sorted(view.items)
    assert rest["has_more"] is False


def test_a_deleted_customer_is_a_stub_even_where_its_subscription_lives_on(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    kept, ended = subscribe(), subscribe()
    for view, keep in ((kept, True), (ended, False)):
        customer = stripe("GET", f"/v1/subscriptions/{view.id}").json["customer"]
        sandbox.stripe.delete_customer(customer, keep_subscriptions=keep)
    listed = stripe("GET", "/v1/subscriptions", {"expand[]": "data.customer"}).json["data"]
    assert [each["id"] for each in listed] == [kept.id]
    stub = listed[0]["customer"]
    assert stub == {"id": stub["id"], "object": "customer", "deleted": True}
    assert stripe("GET", f"/v1/customers/{stub['id']}").json == stub


def test_an_item_can_change_its_price_and_is_then_listed_by_the_new_one(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    view = subscribe()
    path = f"/v1/subscription_items/{view.items[0]}"
    before, after = stripe("GET", path).json["price"]["id"], sandbox.stripe.add_price()
    changed = stripe("POST", path, {"price": after, "metadata[note]": "upgraded"}).json
    assert (changed["price"]["id"], changed["metadata"]) == (after, {"note": "upgraded"})
    for price, ids in ((before, []), (after, [view.id])):
        listed = stripe("GET", "/v1/subscriptions", {"price": price}).json["data"]
        assert [each["id"] for each in listed] == ids
