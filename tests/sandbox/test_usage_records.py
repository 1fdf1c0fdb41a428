"""The embedded Stripe keeps the rules of legacy usage records."""

from datetime import UTC, datetime, timedelta

import pytest
from stripe import InvalidRequestError, StripeClient

from meter_sync.sandbox import Sandbox

from .conftest import Subscribe
from .instants import PERIOD_START
from .wire import ACACIA, StripeWire

START = int(PERIOD_START.timestamp())
END = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
ANCHOR = START + 1
TOO_OLD = (
    "Cannot create the usage record with this timestamp because timestamps must be after the"
    " subscription's last invoice period (or current period start time)."
)


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
