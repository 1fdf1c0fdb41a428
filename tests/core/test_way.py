"""Each kind of price has one way in which its usage is written, or none."""

import pytest

from meter_sync.core.billing.item import BillingMeter, Price, Target, WindowSize
from meter_sync.core.billing.way import Records, Unsupported, Way, way_of, window_of

from .builders import make_price


def on_meter(formula: str, window: WindowSize | None = None, **details: object) -> Price:
    return make_price(billing_meter=BillingMeter("mtr_1", "used", formula, window, **details))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("price", "way", "target"),
    [
        (make_price(), Way.RECORD, Target.USAGE_RECORD),
        (make_price(aggregate_usage="max"), Way.RECORD, Target.USAGE_RECORD),
        (on_meter("sum", WindowSize.HOUR), Way.WINDOWS, Target.METER_EVENT),
        (on_meter("sum", WindowSize.DAY), Way.WINDOWS, Target.METER_EVENT),
        (on_meter("last"), Way.LAST, Target.METER_EVENT),
        (on_meter("sum"), Way.ADDITIONS, Target.METER_EVENT),
    ],
)
def test_each_price_is_written_in_its_one_way(price: Price, way: Way, target: Target) -> None:
    assert way_of(price, Records.PERIOD) is way
    assert way.target is target


@pytest.mark.parametrize(
    "price",
    [
        on_meter("count"),
        on_meter("count", WindowSize.HOUR),
        on_meter("last", WindowSize.HOUR),
        on_meter("last", WindowSize.DAY),
        on_meter("median"),
        on_meter("sum", customer_mapping="by_email"),
    ],
)
def test_what_cannot_hold_a_total_is_refused_with_what_to_create_instead(price: Price) -> None:
    refused = way_of(price, Records.PERIOD)
    assert isinstance(refused, Unsupported)
    assert "create a meter with formula sum" in refused.message


def test_an_inactive_meter_is_refused_by_name() -> None:
    refused = way_of(on_meter("sum", is_active=False), Records.PERIOD)
    assert isinstance(refused, Unsupported)
    assert "mtr_1 (used) is inactive" in refused.message


def test_a_meter_that_could_not_be_read_is_refused() -> None:
    assert isinstance(way_of(make_price(stripe_meter="mtr_1"), Records.PERIOD), Unsupported)


def test_records_for_each_day_are_only_for_prices_that_add_them_up() -> None:
    assert way_of(make_price(), Records.DAY) is Way.DAY_RECORDS
    assert isinstance(way_of(make_price(aggregate_usage="max"), Records.DAY), Unsupported)


def test_a_row_with_records_for_each_day_may_stay_when_its_price_moves_to_a_meter() -> None:
    assert way_of(on_meter("sum", WindowSize.HOUR), Records.DAY) is Way.WINDOWS


def test_a_meter_with_windows_of_another_size_is_refused_by_name() -> None:
    meter = BillingMeter("mtr_1", "used", "sum", unknown_window="minute")
    refused = way_of(make_price(billing_meter=meter), Records.PERIOD)
    assert isinstance(refused, Unsupported)
    assert "a window of one minute" in refused.message


def test_parts_are_as_long_as_the_meters_windows_and_days_for_records() -> None:
    assert window_of(Way.WINDOWS, on_meter("sum", WindowSize.HOUR)) is WindowSize.HOUR
    assert window_of(Way.DAY_RECORDS, make_price()) is WindowSize.DAY
