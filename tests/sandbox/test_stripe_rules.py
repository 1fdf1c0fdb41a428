"""The embedded Stripe keeps the rules of Stripe's API."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from stripe import InvalidRequestError, StripeClient

from meter_sync.sandbox import RateLimits, Sandbox
from meter_sync.sandbox.stripe.world import SubscriptionView

from .wire import ACACIA, StripeWire

BASIL = "2025-03-31.basil"
PERIOD_START = datetime(2026, 11, 1, tzinfo=UTC)
START = int(PERIOD_START.timestamp())
END = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
ANCHOR = START + 1

TOO_OLD = (
    "Cannot create the usage record with this timestamp because timestamps must be after the"
    " subscription's last invoice period (or current period start time)."
)

Subscribe = Callable[..., SubscriptionView]


@pytest.fixture
def subscribe(sandbox: Sandbox) -> Subscribe:
    """Add a customer with one item on a new price, its period being November 2026."""

    def add(aggregate: str = "sum", **options: object) -> SubscriptionView:
        world = sandbox.stripe
        price = world.add_price(
            aggregate_usage=aggregate,  # type: ignore[arg-type]
            usage_type=options.pop("usage_type", "metered"),  # type: ignore[arg-type]
            meter=options.pop("meter", None),  # type: ignore[arg-type]
        )
        return world.add_subscription(
            world.add_customer(),
            [price],
            period_start=PERIOD_START,
            **options,  # type: ignore[arg-type]
        )

    return add


# -- keys and versions ---------------------------------------------------------------------------


def test_a_missing_and_an_unknown_key_are_told_apart(sandbox: Sandbox, stripe: StripeWire) -> None:
    missing = stripe("GET", "/v1/prices", headers={"Authorization": ""})
    unknown = stripe("GET", "/v1/prices", key="sk_test_someone_else")
    assert (missing.status, unknown.status) == (401, 401)
    assert missing.error["message"].startswith("You did not provide an API key.")
    assert unknown.error["message"] == "Invalid API Key provided: sk_test_********else"
    assert unknown.error["type"] == "invalid_request_error"


def test_a_key_also_comes_as_the_user_of_basic_authentication(sandbox: Sandbox, stripe: StripeWire) -> None:
    credentials = base64.b64encode(f"{sandbox.stripe_key}:".encode()).decode()
    reply = stripe("GET", "/v1/prices", headers={"Authorization": f"Basic {credentials}"})
    assert reply.status == 200


def test_a_restricted_key_may_do_only_what_it_was_given(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.keys["rk_test_reader"] = frozenset({"prices:write"})
    assert stripe("GET", "/v1/prices", key="rk_test_reader").status == 200
    refused = stripe("GET", "/v1/subscriptions", key="rk_test_reader")
    assert refused.status == 403
    assert "rak_subscription_read" in refused.error["message"]


def test_expanding_a_customer_needs_the_right_to_read_customers(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.keys["rk_test_reader"] = frozenset({"subscriptions:read"})
    plain = stripe("GET", "/v1/subscriptions", key="rk_test_reader")
    expanded = stripe("GET", "/v1/subscriptions", {"expand[]": "data.customer"}, key="rk_test_reader")
    assert (plain.status, expanded.status) == (200, 403)
    assert "rak_customer_read" in expanded.error["message"]


def test_periods_are_on_the_subscription_before_basil_and_on_the_item_from_then_on(
    stripe: StripeWire, subscribe: Subscribe
) -> None:
    view = subscribe()
    path = f"/v1/subscriptions/{view.id}"
    old = stripe("GET", path).json
    new = stripe("GET", path, version=BASIL).json
    assert (old["current_period_start"], old["current_period_end"]) == (START, END)
    assert "current_period_end" not in old["items"]["data"][0]
    assert "current_period_end" not in new
    item = new["items"]["data"][0]
    assert (item["current_period_start"], item["current_period_end"]) == (START, END)


def test_aggregate_usage_is_readable_before_basil_only_and_the_meter_always(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    legacy = sandbox.stripe.add_price(aggregate_usage="max")
    metered = sandbox.stripe.add_price(meter=sandbox.stripe.add_meter(id="mtr_1"))
    old = {price["id"]: price["recurring"] for price in stripe("GET", "/v1/prices").json["data"]}
    newest = stripe("GET", "/v1/prices", version=None).json["data"]
    new = {price["id"]: price["recurring"] for price in newest}
    assert old[legacy]["aggregate_usage"] == "max"
    assert old[legacy]["meter"] is None
    assert "aggregate_usage" not in new[legacy]
    assert old[metered]["meter"] == new[metered]["meter"] == "mtr_1"


@pytest.mark.parametrize("route", ["POST usage_records", "GET usage_record_summaries"])
def test_usage_records_do_not_exist_from_basil_on(stripe: StripeWire, subscribe: Subscribe, route: str) -> None:
    method, name = route.split()
    path = f"/v1/subscription_items/{subscribe().items[0]}/{name}"
    reply = stripe(method, path, {"quantity": 1}, version=BASIL)
    assert reply.status == 404
    assert reply.error["message"].startswith(f"Unrecognized request URL ({method}: {path}).")


@pytest.mark.parametrize("version", ["newest", "2025-02-24", "2025-02-24.basil", "2027-01-01.fresco", "2026-10-28"])
def test_an_unknown_version_is_refused(stripe: StripeWire, version: str) -> None:
    assert stripe("GET", "/v1/prices", version=version).status == 400


def test_every_answer_names_its_request_its_version_and_the_time(stripe: StripeWire) -> None:
    for reply in (stripe("GET", "/v1/prices"), stripe("GET", "/v1/nothing")):
        assert reply.headers["Request-Id"].startswith("req_")
        assert reply.headers["Stripe-Version"] == ACACIA
        assert reply.headers["Date"].endswith("GMT")
        assert reply.headers["Content-Type"].startswith("application/json")


# -- parameters ----------------------------------------------------------------------------------


def test_unknown_parameters_are_refused_by_name(stripe: StripeWire) -> None:
    reply = stripe("GET", "/v1/prices", {"recurring[usage]": "metered"})
    assert reply.status == 400
    assert reply.error["code"] == "parameter_unknown"
    assert reply.error["message"] == "Received unknown parameter: recurring[usage]"


def test_unknown_ids_are_404_in_the_path_and_400_in_a_parameter(stripe: StripeWire) -> None:
    in_path = stripe("GET", "/v1/prices/price_none")
    in_parameter = stripe("GET", "/v1/subscriptions", {"customer": "cus_none"})
    assert (in_path.status, in_parameter.status) == (404, 400)
    assert in_path.error["message"] == "No such price: 'price_none'"
    assert in_parameter.error["message"] == "No such customer: 'cus_none'"
    assert in_parameter.error["param"] == "customer"
    assert in_path.error["code"] == in_parameter.error["code"] == "resource_missing"


def test_what_is_created_over_http_is_read_back_by_the_sdk(sandbox: Sandbox) -> None:
    client = StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url}, stripe_version=ACACIA)
    customer = client.v1.customers.create({"metadata": {"external_key": "acme"}})
    product = client.v1.products.create({"name": "Tokens"})
    price = client.raw_request(
        "post",
        "/v1/prices",
        currency="usd",
        product=product.id,
        unit_amount_decimal="0.05",
        recurring={"interval": "month", "usage_type": "metered", "aggregate_usage": "last_ever"},
        transform_quantity={"divide_by": 1000, "round": "up"},
    ).data
    made = client.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": price["id"], "metadata": {"meter": "m"}}]}
    )
    listed = client.v1.subscriptions.list({"price": price["id"], "expand": ["data.customer"]})
    assert [each.id for each in listed.data] == [made.id]
    shown = listed.data[0].to_dict()
    assert shown["customer"]["metadata"] == {"external_key": "acme"}
    item = shown["items"]["data"][0]
    assert item["metadata"] == {"meter": "m"}
    assert item["price"]["recurring"]["aggregate_usage"] == "last_ever"
    assert item["price"]["transform_quantity"] == {"divide_by": 1000, "round": "up"}
    assert item["created"] == made.created + 1


def test_legacy_metered_prices_cannot_be_created_from_basil_on(sandbox: Sandbox, stripe: StripeWire) -> None:
    price = {
        "currency": "usd",
        "product": sandbox.stripe.add_product(),
        "unit_amount": 5,
        "recurring[interval]": "month",
        "recurring[usage_type]": "metered",
    }
    assert stripe("POST", "/v1/prices", price, version=BASIL).status == 400
    assert stripe("POST", "/v1/prices", price).status == 200


# -- lists ---------------------------------------------------------------------------------------


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
    clocked = world.add_customer(test_clock="clock_1")
    view = world.add_subscription(clocked, [world.add_price()])

    def listed(**filters: str) -> list[str]:
        return [each["id"] for each in stripe("GET", "/v1/subscriptions", filters).json["data"]]

    assert listed() == []
    assert listed(customer=clocked) == listed(test_clock="clock_1") == [view.id]


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


# -- usage records -------------------------------------------------------------------------------


def test_set_overwrites_one_timestamp_and_records_elsewhere_stay(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    item = subscribe().items[0]
    for quantity in (5, 7):
        assert stripe.record(item, quantity, timestamp=ANCHOR, action="set").status == 200
    stripe.record(item, 2, timestamp=ANCHOR + 1, action="set")
    assert sandbox.stripe.records(item) == {ANCHOR: 7, ANCHOR + 1: 2}
    assert sandbox.stripe.total(item) == 9


def test_running_totals_set_at_now_bill_their_sum(sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe) -> None:
    """The fault that this project is about: 1, 2, 3 set at moving timestamps bill 6."""
    item = subscribe().items[0]
    for total in (1, 2, 3):
        stripe.record(item, total, timestamp="now", action="set")
        sandbox.clock.advance(timedelta(seconds=1))
    assert sandbox.stripe.total(item) == 6


def test_increment_is_the_default_and_adds(sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe) -> None:
    item = subscribe().items[0]
    stripe.record(item, 5, timestamp=ANCHOR)
    stripe.record(item, 5, timestamp=ANCHOR)
    assert sandbox.stripe.records(item) == {ANCHOR: 10}


@pytest.mark.parametrize("quantity", ["-1", "1.5", "", "many", "1e3"])
def test_a_quantity_is_a_whole_number_from_0(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe, quantity: str
) -> None:
    item = subscribe().items[0]
    reply = stripe.record(item, quantity, timestamp=ANCHOR)
    assert (reply.status, reply.error["param"]) == (400, "quantity")
    assert sandbox.stripe.records(item) == {}


@pytest.mark.parametrize("timestamp", [START - 1, START])
def test_a_record_at_or_before_the_start_of_the_period_is_too_old(
    stripe: StripeWire, subscribe: Subscribe, timestamp: int
) -> None:
    reply = stripe.record(subscribe().items[0], 1, timestamp=timestamp)
    assert reply.status == 400
    assert (reply.error["message"], reply.error["param"]) == (TOO_OLD, "timestamp")


def test_a_record_in_the_future_is_refused(sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe) -> None:
    item = subscribe().items[0]
    now = int(sandbox.clock.now().timestamp())
    assert stripe.record(item, 1, timestamp=now).status == 200
    reply = stripe.record(item, 1, timestamp=now + 1)
    assert (reply.status, reply.error["param"]) == (400, "timestamp")


def test_for_five_minutes_a_sum_price_takes_records_for_the_period_that_ended(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    item = subscribe().items[0]
    sandbox.clock.move_to(datetime.fromtimestamp(END + 300, UTC))
    assert stripe.record(item, 4, timestamp=END - 1).status == 200
    for boundary in (END, START):
        assert stripe.record(item, 4, timestamp=boundary).status == 400
    sandbox.clock.advance(timedelta(seconds=1))
    late = stripe.record(item, 5, timestamp=END - 1)
    assert (late.status, late.error["message"]) == (400, TOO_OLD)
    assert sandbox.stripe.records(item) == {END - 1: 4}


@pytest.mark.parametrize("aggregate", ["max", "last_ever", "last_during_period"])
def test_other_prices_take_nothing_for_a_period_that_ended(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe, aggregate: str
) -> None:
    item = subscribe(aggregate).items[0]
    sandbox.clock.move_to(datetime.fromtimestamp(END + 1, UTC))
    assert stripe.record(item, 4, timestamp=END - 1).error["message"] == TOO_OLD


def test_billing_thresholds_allow_only_increment(stripe: StripeWire, subscribe: Subscribe) -> None:
    item = subscribe(billing_thresholds={"amount_gte": 1000}).items[0]
    assert stripe.record(item, 1, timestamp=ANCHOR, action="set").status == 400
    assert stripe.record(item, 1, timestamp=ANCHOR).status == 200


def test_items_on_billing_meters_take_no_usage_records(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    metered = subscribe(meter=sandbox.stripe.add_meter())
    reply = stripe.record(metered.items[0], 1, timestamp=ANCHOR)
    assert reply.status == 400
    assert (
        "is not on the legacy metered billing system. Call /v1/billing/meter_events instead."
        in (reply.error["message"])
    )


def test_licensed_canceled_and_deleted_items_take_no_usage_records(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    licensed, canceled, deleted = subscribe(usage_type="licensed"), subscribe(), subscribe()
    sandbox.stripe.cancel(canceled.id)
    assert stripe("DELETE", f"/v1/subscription_items/{deleted.items[0]}").status == 200
    statuses = [stripe.record(view.items[0], 1, timestamp=ANCHOR).status for view in (licensed, canceled, deleted)]
    assert statuses == [400, 400, 404]


@pytest.mark.parametrize(
    ("aggregate", "total"),
    [("sum", 15), ("max", 9), ("last_during_period", 4), ("last_ever", 4)],
)
def test_a_period_adds_up_as_the_price_says(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe, aggregate: str, total: int
) -> None:
    item = subscribe(aggregate).items[0]
    # The latest timestamp counts as the last one, not the latest request.
    for timestamp, quantity in ((ANCHOR + 2, 4), (ANCHOR, 2), (ANCHOR + 1, 9)):
        stripe.record(item, quantity, timestamp=timestamp, action="set")
    assert sandbox.stripe.total(item) == total


def test_summaries_show_each_period_and_last_ever_carries_over(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    items = {each: subscribe(each).items[0] for each in ("sum", "last_ever")}
    for item in items.values():
        stripe.record(item, 7, timestamp=ANCHOR, action="set")
    sandbox.clock.move_to(datetime.fromtimestamp(END + 60, UTC))

    def totals(item: str) -> list[int]:
        path = f"/v1/subscription_items/{item}/usage_record_summaries"
        return [summary["total_usage"] for summary in stripe("GET", path).json["data"]]

    assert totals(items["sum"]) == [0, 7]
    assert totals(items["last_ever"]) == [7, 7]
    path = f"/v1/subscription_items/{items['sum']}/usage_record_summaries"
    first = stripe("GET", path, {"limit": 1}).json
    assert first["has_more"] is True
    assert first["data"][0]["invoice"] is None
    assert first["data"][0]["period"]["start"] == END
    rest = stripe("GET", path, {"starting_after": first["data"][0]["id"]}).json
    assert rest["data"][0]["period"] == {"start": START, "end": END}
    assert rest["data"][0]["invoice"] == sandbox.stripe.invoices[0].id


def test_the_sdk_writes_and_reads_usage_in_the_last_version_that_has_it(sandbox: Sandbox, subscribe: Subscribe) -> None:
    item = subscribe().items[0]
    client = StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url}, stripe_version=ACACIA)
    path = f"/v1/subscription_items/{item}/usage_records"
    answer = client.raw_request("post", path, quantity=1, timestamp=ANCHOR, action="set")
    assert answer.data["quantity"] == 1
    with pytest.raises(InvalidRequestError) as refused:
        client.raw_request("post", path, quantity=1, timestamp=START, action="set")
    assert refused.value.param == "timestamp"


# -- idempotency and rates -----------------------------------------------------------------------


def test_a_repeated_key_replays_the_first_answer_for_a_day(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    item = subscribe().items[0]

    def add() -> tuple[int, str | None]:
        path = f"/v1/subscription_items/{item}/usage_records"
        params = {"quantity": 1, "timestamp": ANCHOR}
        reply = stripe("POST", path, params, idempotency_key="once")
        assert reply.headers["Idempotency-Key"] == "once"
        return reply.status, reply.headers.get("Idempotent-Replayed")

    assert [add(), add()] == [(200, None), (200, "true")]
    assert sandbox.stripe.records(item) == {ANCHOR: 1}
    sandbox.clock.advance(timedelta(hours=24))
    assert add() == (200, None)
    assert sandbox.stripe.records(item) == {ANCHOR: 2}


def test_a_key_is_refused_with_other_parameters(stripe: StripeWire, subscribe: Subscribe) -> None:
    path = f"/v1/subscription_items/{subscribe().items[0]}/usage_records"
    first = {"quantity": 1, "timestamp": ANCHOR}
    assert stripe("POST", path, first, idempotency_key="k").status == 200
    reply = stripe("POST", path, {**first, "quantity": 2}, idempotency_key="k")
    assert (reply.status, reply.error["type"]) == (400, "idempotency_error")


def test_a_refusal_of_the_rules_is_saved_and_a_malformed_request_is_not(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    path = f"/v1/subscription_items/{subscribe().items[0]}/usage_records"
    future = {"quantity": 1, "timestamp": int(sandbox.clock.now().timestamp()) + 10}
    malformed = {"quantity": "x", "timestamp": ANCHOR}
    for key, params in (("refused", future), ("malformed", malformed)):
        assert stripe("POST", path, params, idempotency_key=key).status == 400
    sandbox.clock.advance(timedelta(minutes=1))
    assert stripe("POST", path, future, idempotency_key="refused").status == 400
    corrected = {**malformed, "quantity": 1}
    assert stripe("POST", path, corrected, idempotency_key="malformed").status == 200


def test_requests_above_a_limit_are_refused_with_its_reason(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.rate_limits = RateLimits(overall_per_second=3, endpoint_per_second=2)
    prices = [stripe("GET", "/v1/prices") for _ in range(3)]
    assert [reply.status for reply in prices] == [200, 200, 429]
    assert prices[2].headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
    assert prices[2].error["code"] == "rate_limit"
    others = [stripe("GET", path) for path in ("/v1/account", "/v1/customers")]
    assert [reply.status for reply in others] == [200, 429]
    assert others[1].headers["Stripe-Rate-Limited-Reason"] == "global-rate"
