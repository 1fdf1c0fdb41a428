"""Comparing what Stripe holds with what OpenMeter says, and explaining a difference."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import BillingMeter
from meter_sync.core.billing.quantity import Rounding
from meter_sync.core.billing.way import Way
from meter_sync.core.metering.meter import Aggregation
from meter_sync.core.metering.queries import Unanswered
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.memory import Addition, Remembered, RememberedAdditions
from meter_sync.core.planning.results import held, skipped
from meter_sync.core.planning.stages import Metered, Result
from meter_sync.core.telling.comparison import (
    Comparison,
    Expected,
    Explanation,
    Known,
    Verdict,
    compare,
    expected_of,
    failed,
    last_report,
    not_compared,
    read_until,
    until,
    verify_exit_code,
)
from tests.core.builders import (
    AS_OF,
    HOUR,
    SECOND,
    START,
    make_item,
    make_meter,
    make_metered,
    make_method,
    make_price,
    make_remembered,
    many,
)

DAY = timedelta(days=1)
REPORTED = AS_OF - HOUR
BILLING_METER = BillingMeter("mtr_1", "requests", "sum")


def with_usage(usage: str | int, *, as_of: datetime = REPORTED, **details: object) -> Expected:
    """Return an item on a legacy price with its usage until the last report, an hour ago."""
    expected = expected_of(make_metered(as_of=as_of, **details), Decimal(usage), None)  # type: ignore[arg-type]
    assert isinstance(expected, Expected)
    return expected


def on_meter(usage: int, way: Way = Way.LAST) -> Expected:
    """Return the same on a billing meter."""
    item = make_item(price=make_price(billing_meter=BILLING_METER))
    return with_usage(usage, item=item, way=way)


def on_meter_remembered(quantity: int, acknowledged_at: datetime | None = REPORTED, **details: object) -> Remembered:
    method = make_method(way=Way.LAST, stripe_meter="mtr_1")
    return make_remembered(quantity, method=method, acknowledged_at=acknowledged_at, **details)  # type: ignore[arg-type]


def explained(
    one: Expected, actual: int, remembered: Remembered | None, intended: int | None = None
) -> Explanation | Reason | None:
    """Return why they differ, by a ledger whose last run was about the last report's instant."""
    found = compare(one, actual, Known(remembered, intended, REPORTED), AS_OF)
    assert found.verdict is Verdict.MISMATCH
    assert found.message
    return found.reason


# -- until when -------------------------------------------------------------------------------------


def test_the_last_report_is_the_newer_of_the_items_and_of_the_last_complete_run() -> None:
    remembered = make_remembered()
    assert last_report(None, None) is None
    assert last_report(None, remembered) == remembered.as_of
    assert last_report(remembered.as_of + SECOND, remembered) == remembered.as_of + SECOND
    assert last_report(remembered.as_of - SECOND, remembered) == remembered.as_of


def test_usage_is_read_until_the_last_report_or_until_now_where_reports_are_missing() -> None:
    assert read_until(None, AS_OF, 2 * HOUR) == AS_OF
    assert read_until(AS_OF - 2 * HOUR, AS_OF, 2 * HOUR) == AS_OF - 2 * HOUR
    assert read_until(AS_OF - 2 * HOUR - SECOND, AS_OF, 2 * HOUR) == AS_OF


def test_a_line_ends_at_the_last_report_at_the_latest_and_never_after_its_period() -> None:
    metered = make_metered()
    for instant, end in ((REPORTED, REPORTED), (AS_OF + DAY, AS_OF), (START + SECOND, START + SECOND)):
        cut = until(metered, instant)
        assert isinstance(cut, Metered)
        assert cut.span.end == end


def test_a_period_without_a_report_yet_is_skipped_without_harm() -> None:
    skip = until(make_metered(), START)
    assert isinstance(skip, Result)
    assert skip.outcome is Outcome.SKIPPED
    assert skip.reason is Reason.NOT_STARTED
    assert not not_compared(skip).needs_attention


# -- what Stripe should hold ------------------------------------------------------------------------


def test_it_should_hold_the_usage_scaled_and_rounded_less_what_it_takes_no_more() -> None:
    metered = make_metered(scale=Decimal("0.5"), rounding=Rounding.CEILING)
    for lacking, quantity in ((0, 4), (3, 1)):
        found = expected_of(metered, Decimal(7), replace(make_remembered(), lacking=lacking))
        assert isinstance(found, Expected)
        assert (found.usage, found.quantity) == (Decimal(7), quantity)


def test_no_answer_is_a_failure_and_what_cannot_be_billed_is_skipped() -> None:
    unanswered = expected_of(make_metered(), Unanswered("no answer"), None)
    assert isinstance(unanswered, Comparison)
    assert (unanswered.verdict, unanswered.reason) == (Verdict.FAILED, Reason.OPENMETER_ERROR)
    for usage in ("-1", "NaN", "1e17"):
        invalid = expected_of(make_metered(), Decimal(usage), None)
        assert isinstance(invalid, Comparison)
        assert (invalid.verdict, invalid.reason) == (Verdict.SKIPPED, Reason.INVALID_USAGE)


def test_a_total_that_no_event_can_hold_is_skipped() -> None:
    item = make_item(price=make_price(billing_meter=BILLING_METER))
    found = expected_of(make_metered(item, way=Way.LAST), Decimal(10**15), None)
    assert isinstance(found, Comparison)
    assert found.reason is Reason.INVALID_USAGE


# -- explanations -----------------------------------------------------------------------------------

states = st.builds(
    make_remembered,
    st.integers(0, 30),
    acknowledged=st.integers(0, 30),
    acknowledged_at=st.none() | st.just(REPORTED),
    foreign=st.integers(0, 5),
    foreign_held=st.booleans(),
    total_before=st.none() | st.integers(0, 30),
)


@many
@given(
    usage=st.integers(0, 30),
    actual=st.integers(0, 30),
    remembered=st.none() | states,
    intended=st.none() | st.integers(0, 30),
)
def test_what_is_equal_matches_whatever_is_remembered_and_every_difference_is_explained(
    usage: int, actual: int, remembered: Remembered | None, intended: int | None
) -> None:
    one = compare(with_usage(usage), actual, Known(remembered, intended, REPORTED), AS_OF)
    assert (one.expected, one.actual, one.difference) == (usage, actual, actual - usage)
    assert (one.verdict is Verdict.MATCH) == (actual == usage)
    assert (one.reason is None, one.message is None) == (actual == usage, actual == usage)
    assert one.needs_attention == (actual != usage)


def test_a_ledger_that_knows_nothing_tells_too_little_from_too_much() -> None:
    assert explained(with_usage(10), 0, None) is Explanation.NOT_REPORTED
    assert explained(with_usage(10), 7, None) is Explanation.NOT_REPORTED
    assert explained(with_usage(10), 12, None) is Explanation.FOREIGN_USAGE


def test_less_than_a_unit_is_rounding_and_a_whole_one_is_not() -> None:
    assert explained(with_usage("10.25"), 11, None) is Explanation.ROUNDING
    assert explained(with_usage("10"), 11, None) is Explanation.FOREIGN_USAGE
    assert explained(with_usage("10.25"), 11, make_remembered(11)) is Explanation.ROUNDING
    scaled = with_usage(205, scale=Decimal("0.05"))
    assert explained(scaled, 11, None) is Explanation.ROUNDING
    assert explained(scaled, 12, None) is Explanation.FOREIGN_USAGE


def test_what_somebody_else_changed_by_one_is_no_rounding() -> None:
    assert explained(with_usage("10.25"), 11, make_remembered(10)) is Explanation.FOREIGN_USAGE


@pytest.mark.parametrize("actual", [5, 6, 7])
def test_what_stands_between_the_last_answer_and_the_last_report_is_a_report_under_way(actual: int) -> None:
    unanswered = make_remembered(8, acknowledged=5)
    assert explained(with_usage(8), actual, unanswered) is Explanation.NOT_REPORTED
    assert explained(with_usage(8), actual, make_remembered(5), 8) is Explanation.NOT_REPORTED
    assert explained(with_usage(9), 8, unanswered) is Explanation.LATE_EVENTS
    assert explained(with_usage(9), 4, unanswered) is Explanation.FOREIGN_USAGE


def test_an_unfinished_look_is_a_report_under_way_whatever_stripe_holds() -> None:
    looking = make_remembered(8, acknowledged=0, total_before=30)
    for actual in (0, 30, 38):
        assert explained(with_usage(9), actual, looking) is Explanation.NOT_REPORTED


def test_a_refused_report_is_known_from_what_was_written_last() -> None:
    assert explained(with_usage(8), 5, make_remembered(5), intended=8) is Explanation.NOT_REPORTED
    assert explained(with_usage(8), 5, make_remembered(5), intended=5) is Explanation.LATE_EVENTS
    assert explained(with_usage(8), 5, make_remembered(5)) is Explanation.LATE_EVENTS


def test_usage_after_the_last_report_lacks_a_run() -> None:
    one = compare(with_usage(8, as_of=AS_OF), 5, Known(make_remembered(5), None, REPORTED), AS_OF)
    assert one.reason is Explanation.NOT_REPORTED


def test_a_fall_names_the_brake_only_where_usage_cannot_fall() -> None:
    for aggregation, named in ((Aggregation.SUM, True), (Aggregation.LATEST, False)):
        one = compare(
            with_usage(3, meter=make_meter(aggregation=aggregation)),
            5,
            Known(make_remembered(5), None, REPORTED),
            AS_OF,
        )
        assert one.reason is Explanation.LATE_EVENTS
        assert ("decrease" in (one.message or "")) == named


def test_held_foreign_usage_is_named_before_anything_else_that_may_be() -> None:
    remembered = make_remembered(30, foreign=30, foreign_held=True)
    assert explained(with_usage(50), 30, remembered) is Explanation.FOREIGN_USAGE


def test_what_a_run_would_hold_is_explained_in_its_words() -> None:
    moved = make_remembered(5, method=make_method("another"))
    assert explained(with_usage(8), 5, moved) is Explanation.MAPPING_CHANGED
    rejected = replace(on_meter_remembered(5), rejected="no customer")
    assert explained(on_meter(5), 0, rejected) is Explanation.REJECTED
    addition = Addition("a", 0, 8, REPORTED, REPORTED, REPORTED, REPORTED)
    method = make_method(way=Way.ADDITIONS, stripe_meter="mtr_1")
    adding = replace(on_meter_remembered(8), method=method, additions=RememberedAdditions(addition))
    assert explained(on_meter(8, Way.ADDITIONS), 0, adding) is Explanation.UNSETTLED


@pytest.mark.parametrize(
    ("acknowledged_ago", "actual", "expected"),
    [
        (DAY - SECOND, 3, Explanation.SUMMARY_LAGS),
        (DAY, 3, Explanation.REJECTED),
        (None, 3, Explanation.REJECTED),
        (HOUR, 6, Explanation.FOREIGN_USAGE),
        (DAY, 6, Explanation.FOREIGN_USAGE),
    ],
)
def test_a_summary_with_too_little_is_not_believed_for_a_day(
    acknowledged_ago: timedelta | None, actual: int, expected: Explanation
) -> None:
    remembered = on_meter_remembered(5, AS_OF - acknowledged_ago if acknowledged_ago is not None else None)
    assert explained(on_meter(8), actual, remembered) is expected


def test_usage_records_do_not_lag() -> None:
    assert explained(with_usage(8), 3, make_remembered(5)) is Explanation.FOREIGN_USAGE


# -- exit codes -------------------------------------------------------------------------------------

FOUND = make_metered().found
MATCH = Comparison(FOUND, Verdict.MATCH)
MISMATCH = Comparison(FOUND, Verdict.MISMATCH, Explanation.LATE_EVENTS)
FAILED = failed(FOUND, Reason.STRIPE_ERROR, "no answer")
UNMAPPED = not_compared(skipped(FOUND, Reason.NO_METER_MAPPING, "no meter"))
IGNORED = not_compared(skipped(FOUND, Reason.IGNORED, "ignored"))
TWICE = not_compared(held(FOUND, Reason.DUPLICATE_USAGE, "twice"))
CUT_OFF = not_compared(skipped(FOUND, Reason.INTERRUPTED, "the end"))


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([], 0),
        ([MATCH, IGNORED], 0),
        ([MATCH, MISMATCH], 4),
        ([MATCH, UNMAPPED], 4),
        ([MATCH, TWICE], 4),
        ([MATCH, FAILED], 3),
        ([MISMATCH, FAILED], 3),
        ([FAILED, FAILED], 1),
        ([UNMAPPED, FAILED], 1),
        ([MATCH, CUT_OFF], 1),
        ([MISMATCH, FAILED, CUT_OFF], 1),
    ],
)
def test_the_exit_code_is_the_gravest_of_the_items(found: list[Comparison], code: int) -> None:
    assert verify_exit_code(found) == code
    assert verify_exit_code(reversed(found)) == code
