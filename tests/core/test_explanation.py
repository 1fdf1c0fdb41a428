"""An explanation says in words what the ledger knows: each number with where it comes from."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from meter_sync.core.billing.item import BillingMeter, Price, SubscriptionItem, WindowSize
from meter_sync.core.billing.quantity import Rounding
from meter_sync.core.billing.way import Way
from meter_sync.core.planning.memory import Remembered
from meter_sync.core.telling.explanation import MOST_PARTS, explain
from meter_sync.core.telling.history import Added, Entry, Held, Remainder, Story, Whose, Write, WrittenPart
from tests.core.builders import (
    AS_OF,
    END,
    HOUR,
    SECOND,
    START,
    make_item,
    make_method,
    make_price,
    make_remembered,
)

WHOSE = Whose("cus_1", "sub_1", "si_1", make_item().period, "requests")
HOURS = BillingMeter("mtr_1", "requests_event", "sum", WindowSize.HOUR)


def write(quantity: int = 100, usage: str | None = "100", **details: Any) -> Write:
    made = Write(
        whose=WHOSE,
        run="run_1",
        step=0,
        timestamp=START + SECOND,
        usage=None if usage is None else Decimal(usage),
        quantity=quantity,
        at_anchor=quantity,
        previous=90,
        intended_at=AS_OF,
        acknowledged_at=AS_OF + SECOND,
        request_id="req_1",
        as_of=AS_OF,
    )
    return replace(made, **details)


def held(times: int = 1) -> Held:
    last_at = AS_OF + (times - 1) * HOUR
    return Held(WHOSE, "held", "decrease", "it fell", Decimal(80), 80, 100, "run_1", AS_OF, "run_2", last_at, times)


def part(number: int, acknowledged: int | None = 3) -> WrittenPart:
    start = START + number * HOUR
    return WrittenPart(
        WHOSE, start, start, Decimal(3), 3, acknowledged, AS_OF + SECOND, f"id_{number}", f"req_{number}"
    )


def story(
    *entries: Entry,
    remembered: Remembered | None = None,
    price: Price | None = None,
    item: SubscriptionItem | None = None,
    **details: Any,
) -> Story:
    made = Story(
        item=item or make_item(price=price or make_price()),
        whose=WHOSE,
        entries=entries,
        remembered=remembered or make_remembered(),
        usage_start=START,
    )
    return replace(made, **details)


def said(told: Story, topic: str) -> str:
    """The only sentence about a topic."""
    (text,) = every(told, topic)
    return text


def every(told: Story, topic: str) -> list[str]:
    return [one.text for one in explain(told) if one.topic == topic]


def test_the_whole_way_from_the_usage_to_the_write_is_told_in_order() -> None:
    topics = [one.topic for one in explain(story(write()))]
    assert topics == [
        "item",
        "price",
        "period",
        "result",
        "written as",
        "anchor",
        "counts from",
        "query",
        "usage",
        "quantity",
        "before",
        "write",
    ]


def test_the_query_names_meter_filter_subjects_and_both_ends() -> None:
    method = make_method(filter=(("plan", ("pro",)), ("region", ("eu", "us"))))
    told = story(write(), remembered=make_remembered(method=method, subjects=("cus_1", "tenant_2")))
    assert said(told, "query") == (
        "OpenMeter's meter requests where plan is pro and region is eu or us, of cus_1, tenant_2, from "
        "2026-11-01T09:30:17Z up to and without 2026-11-15T12:00:00Z"
    )


def test_the_query_ends_with_the_period_and_in_windows_with_its_last_whole_one() -> None:
    late = write(as_of=END + HOUR)
    assert "without 2026-12-01T09:30:17Z" in said(story(late), "query")
    in_windows = make_remembered(method=make_method(way=Way.WINDOWS))
    assert "without 2026-12-01T09:00:00Z" in said(
        story(late, remembered=in_windows, price=make_price(billing_meter=HOURS)), "query"
    )


def test_scale_and_rounding_are_told_with_every_step() -> None:
    method = make_method(scale=Decimal("0.001"), rounding=Rounding.CEILING)
    told = story(write(1235, "1234567.5"), remembered=make_remembered(1235, method=method))
    assert said(told, "usage") == "1234567.5"
    assert said(told, "quantity") == "1234567.5 times 0.001 is 1234.5675, rounded (ceiling) to 1235"


def test_a_quantity_that_is_not_the_rounded_usage_is_told_with_the_reason() -> None:
    assert said(story(write(5, "7")), "quantity").endswith(
        "to 7; 5 was written: records of another program were found, and Stripe's total was left as it was"
    )
    in_windows = make_remembered(method=make_method(way=Way.WINDOWS))
    assert "takes no more for some of its hours" in said(story(write(5, "7"), remembered=in_windows), "quantity")


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({}, "2026-11-01T09:30:17Z, the start of the period"),
        (
            {"usage_start": START + 5 * HOUR, "item": make_item(created=START + 5 * HOUR)},
            "2026-11-01T14:30:17Z, when it was added to the running subscription",
        ),
        (
            {"usage_start": START + 5 * HOUR},
            "2026-11-01T14:30:17Z, from when on usage is its own: what was used before is billed, or named",
        ),
        (
            {"usage_start": START.replace(minute=0, second=0)},
            "2026-11-01T09:00:00Z, where the usage of the period before ended",
        ),
    ],
    ids=["the period", "creation", "another item", "the last period's end"],
)
def test_from_where_usage_counts_is_told_with_the_reason(details: dict[str, Any], reason: str) -> None:
    assert reason in said(story(write(), **details), "counts from")


def test_a_write_is_told_with_its_time_its_numbers_its_timestamp_and_its_request() -> None:
    assert said(story(write()), "write") == (
        "2026-11-15T12:00:00Z: 100 in place of 90, for a usage of 100, timestamp 2026-11-01T09:30:18Z, taken by Stripe "
        "2026-11-15T12:00:01Z as req_1; run run_1"
    )


def test_a_write_that_stripe_did_not_take_is_told_so_and_so_is_what_stands() -> None:
    told = story(write(acknowledged_at=None, request_id=None), remembered=replace(make_remembered(), acknowledged=None))
    assert "not acknowledged by Stripe" in said(told, "write")
    assert said(told, "result") == "100 was to be written; Stripe has not said that it holds it"


def test_what_stands_is_what_stripe_acknowledged_and_not_what_was_intended() -> None:
    told = story(write(), remembered=make_remembered(100, acknowledged=90))
    assert said(told, "result").startswith("Stripe holds 90")
    assert "100 was to be written since" in said(told, "result")


def test_a_brake_is_told_with_how_often_and_how_long() -> None:
    assert said(story(write(), held(3)), "held") == (
        "3 times from 2026-11-15T12:00:00Z to 2026-11-15T14:00:00Z for a usage of 80 at 80, while Stripe held 100 "
        "(decrease): it fell; run run_2"
    )


def test_an_item_that_was_never_written_says_what_kept_it_from_being() -> None:
    told = replace(story(held()), remembered=None, usage_start=None)
    assert said(told, "result").startswith("nothing was written for this period: what kept it")
    assert "it fell" in said(told, "held")
    assert said(replace(told, entries=()), "result") == "nothing had to be written for this period"


def test_of_hours_those_of_the_last_write_are_told_and_those_in_doubt() -> None:
    parts = [part(1), replace(part(2), acknowledged_at=AS_OF - HOUR), part(3, acknowledged=None)]
    told = story(write(), *parts, remembered=make_remembered(method=make_method(way=Way.WINDOWS)))
    assert said(told, "parts") == "hours or days known: 3, with usage: 3, about which the last write was: 2"
    assert [text[:25] for text in every(told, "part")] == ["from 2026-11-01T10:30:17Z", "from 2026-11-01T12:30:17Z"]
    assert "taken by Stripe 2026-11-15T12:00:01Z as req_1" in every(told, "part")[0]
    assert "not acknowledged by Stripe" in every(told, "part")[1]


def test_many_hours_are_counted_and_not_told_one_by_one() -> None:
    told = story(write(), *(part(number) for number in range(40)))
    assert len(every(told, "part")) == MOST_PARTS + 1
    assert every(told, "part")[-1] == "and 16 more: history --item si_1 --parts has all"


def test_each_addition_is_told_with_what_became_of_it() -> None:
    made = Added(WHOSE, "run_1", "id_1", 90, 10, AS_OF, AS_OF, None, None, None, None)
    lost, taken = made, replace(made, value=-10, delivered_at=AS_OF, request_id="req_7", rejected="no such customer")
    told = story(write(), lost, taken, remembered=make_remembered(method=make_method(way=Way.ADDITIONS)))
    first, second = every(told, "addition")
    assert "+10 to 90" in first
    assert "not known to have arrived" in first
    assert "-10 to 90" in second
    assert "as req_7, rejected later: no such customer" in second


def test_what_is_not_billed_is_told_with_the_reason_and_who_settled_it() -> None:
    left = Remainder(WHOSE, 10, "it came too late", END, None, None, None)
    assert said(story(write(), left), "result").endswith("; 10 are not billed")
    assert said(story(write(), left), "not billed") == "2026-12-01T09:30:17Z: it came too late"
    settled = replace(left, settled=10, settled_at=END + timedelta(days=1), note="ii_1")
    assert said(story(write(), settled), "settled") == "2026-12-02T09:30:17Z: 10 by hand: ii_1"
