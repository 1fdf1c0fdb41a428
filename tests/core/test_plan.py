"""What happens to each listed item, and that nothing is billed twice, lost or quietly changed."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from meter_sync.core.billing.item import Customer, Period, SubscriptionItem
from meter_sync.core.billing.quantity import Rounding
from meter_sync.core.billing.span import Span
from meter_sync.core.metering.mapping import MappingRules, MeterRow
from meter_sync.core.metering.meter import Aggregation, Meter
from meter_sync.core.metering.queries import Need, Unanswered
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning import results
from meter_sync.core.planning.brakes import Thresholds, check
from meter_sync.core.planning.first_sight import looked_at_records
from meter_sync.core.planning.foreign import not_looked
from meter_sync.core.planning.looks import FirstLook, LookAgain, LookBeside, UnfinishedLook
from meter_sync.core.planning.memory import Memory, Remembered
from meter_sync.core.planning.plan import measured, planned
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.prepare import Metering, prepare
from meter_sync.core.planning.stages import Listed, Metered, Planned, Result

from .builders import (
    AS_OF,
    END,
    HOUR,
    POLICY,
    SECOND,
    START,
    knowing,
    make_item,
    make_meter,
    make_metered,
    make_method,
    make_planned,
    make_price,
    make_remembered,
    make_subscription,
    many,
    remembering,
)

METERS: Mapping[str, Meter] = {
    "requests": make_meter("requests"),
    "01requests": make_meter("requests"),
    "tokens": make_meter("tokens"),
    "seats": make_meter("seats", Aggregation.LATEST),
}
MAPPED = {"om_meter_id": "requests"}
BY_ITEM = MappingRules(subject="item.metadata.om")


def prepared(
    *items: SubscriptionItem,
    rules: MappingRules | None = None,
    others: tuple[SubscriptionItem, ...] = (),
) -> list[Metered | Result]:
    metering = Metering(rules or MappingRules(), METERS)
    beside = [Listed(item) for item in others]
    return prepare([Listed(item) for item in items], beside, metering, Memory(), AS_OF)


def skipped(item: SubscriptionItem, rules: MappingRules | None = None) -> Reason | None:
    (one,) = prepared(item, rules=rules)
    assert isinstance(one, Result)
    assert one.outcome is Outcome.SKIPPED
    assert one.item is item
    assert one.message
    return one.reason


def said(one: Metered | Planned | Result, outcome: Outcome, reason: Reason) -> str:
    """Return the words for an item that went no further, with this outcome and for this reason."""
    assert isinstance(one, Result)
    assert (one.outcome, one.reason) == (outcome, reason)
    assert one.message
    return one.message


# --- Which items are queried, and why the others are not -----------------------------------------


def test_a_mapped_item_is_queried_for_exactly_its_usage() -> None:
    row = MeterRow(price="price_1", openmeter="requests", filter=(("model", ("gpt",)),))
    (one,) = prepared(make_item(), rules=MappingRules(rows=(row,)))
    assert isinstance(one, Metered)
    (need,) = one.needs
    assert need == Need(
        item="si_1",
        meter="requests",
        filter=(("model", ("gpt",)),),
        subjects=("cus_1",),
        start=START,
        end=AS_OF,
        aggregation=Aggregation.SUM,
        meter_id="01requests",
    )


def test_a_meter_is_found_by_its_id_and_queried_by_its_slug() -> None:
    (one,) = prepared(make_item(metadata={"om_meter_id": "01requests"}))
    assert isinstance(one, Metered)
    assert one.needs[0].meter == "requests"


def test_an_item_without_a_mapping_is_named_with_what_to_do() -> None:
    (one,) = prepared(make_item())
    message = said(one, Outcome.SKIPPED, Reason.NO_METER_MAPPING)
    assert "om_meter_id" in message
    assert "price_1" in message


DELETED = make_subscription(customer=Customer("cus_1", deleted=True))
PAUSED = make_subscription(status="paused")
THRESHOLDS = make_subscription(has_billing_thresholds=True)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (make_item(subscription=PAUSED), Reason.SUBSCRIPTION_PAUSED),
        (make_item(subscription=DELETED), Reason.CUSTOMER_DELETED),
        (make_item(subscription=THRESHOLDS), Reason.BILLING_THRESHOLDS),
    ],
)
def test_an_item_that_takes_no_usage_record_says_why_whether_it_is_mapped_or_not(
    item: SubscriptionItem, reason: Reason
) -> None:
    assert skipped(item) is reason
    assert skipped(replace(item, metadata=MAPPED)) is reason


def test_a_billing_meter_that_the_key_cannot_read_is_not_written() -> None:
    item = make_item(price=make_price(stripe_meter="mtr_1"), metadata=MAPPED)
    assert skipped(item) is Reason.UNSUPPORTED_METER


@pytest.mark.parametrize("status", ["active", "past_due", "trialing", "unpaid"])
def test_a_living_subscription_is_billed_whatever_its_status(status: str) -> None:
    (one,) = prepared(make_item(subscription=make_subscription(status=status), metadata=MAPPED))
    assert isinstance(one, Metered)


def test_an_ignored_price_is_left_alone_whatever_else_is_wrong_with_it() -> None:
    rules = MappingRules(rows=(MeterRow(price="price_1", ignore=True),))
    assert skipped(make_item(), rules) is Reason.IGNORED
    assert skipped(make_item(subscription=DELETED, metadata=MAPPED), rules) is Reason.IGNORED


@pytest.mark.parametrize(
    ("item", "rules", "reason"),
    [
        (make_item(metadata={"om_meter_id": "typo"}), MappingRules(), Reason.METER_NOT_FOUND),
        (make_item(metadata=MAPPED, start=AS_OF), MappingRules(), Reason.NOT_STARTED),
        (make_item(metadata=MAPPED), BY_ITEM, Reason.NO_SUBJECT),
        (
            make_item(metadata={"om_meter_id": "seats", "om": "a,b"}),
            BY_ITEM,
            Reason.AGGREGATION_MISMATCH,
        ),
    ],
)
def test_an_item_whose_usage_cannot_be_asked_for_says_why(
    item: SubscriptionItem, rules: MappingRules, reason: Reason
) -> None:
    assert skipped(item, rules) is reason


def test_a_gauge_of_one_subject_named_twice_is_billed() -> None:
    (one,) = prepared(make_item(metadata={"om_meter_id": "seats", "om": "a, a"}), rules=BY_ITEM)
    assert isinstance(one, Metered)
    assert one.subjects == ("a",)


def test_every_listed_item_appears_exactly_once_and_in_its_place() -> None:
    items = [
        make_item("si_1", metadata=MAPPED),
        make_item("si_2"),
        make_item("si_3", metadata=MAPPED),
        make_item("si_4", subscription=PAUSED),
    ]
    assert [one.item.id for one in prepared(*items)] == ["si_1", "si_2", "si_3", "si_4"]


# --- One usage, one item --------------------------------------------------------------------------


def twin(item: str, row: MeterRow, subject: str = "a") -> tuple[SubscriptionItem, MeterRow]:
    """Return an item on a price of its own, and the row that meters it."""
    price = f"price_of_{item}"
    metered = make_item(item, price=make_price(price), metadata={"om": subject})
    return metered, replace(row, price=price)


def held(
    *twins: tuple[SubscriptionItem, MeterRow], others: tuple[tuple[SubscriptionItem, MeterRow], ...] = ()
) -> set[str]:
    rules = replace(BY_ITEM, rows=tuple(row for _, row in (*twins, *others)))
    found = prepared(*(item for item, _ in twins), rules=rules, others=tuple(item for item, _ in others))
    stopped = [one for one in found if isinstance(one, Result)]
    for one in stopped:
        assert said(one, Outcome.HELD, Reason.DUPLICATE_USAGE)
    return {one.item.id for one in stopped}


def only(**admitted: str) -> MeterRow:
    pairs = ((name, tuple(values.split("|"))) for name, values in sorted(admitted.items()))
    return MeterRow(openmeter="requests", filter=tuple(pairs))


ALL = only()
BOTH = {"si_1", "si_2"}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (ALL, ALL, BOTH),
        (ALL, only(model="gpt"), BOTH),
        (only(model="gpt"), only(model="gpt|opus"), BOTH),
        (only(model="gpt"), only(region="eu"), BOTH),
        (only(model="gpt", region="eu"), only(model="gpt", region="eu|us"), BOTH),
        (only(model="gpt"), only(model="opus"), set()),
        (only(model="gpt", region="eu"), only(model="gpt", region="us"), set()),
        (ALL, MeterRow(openmeter="tokens"), set()),
        (ALL, replace(ALL, shared=True), set()),
        (replace(ALL, shared=True), replace(ALL, shared=True), set()),
    ],
)
def test_two_items_on_the_same_usage_hold_each_other(one: MeterRow, other: MeterRow, expected: set[str]) -> None:
    assert held(twin("si_1", one), twin("si_2", other)) == expected
    assert held(twin("si_2", other), twin("si_1", one)) == expected


def test_the_same_usage_under_two_names_of_one_meter_is_found() -> None:
    by_id = MeterRow(openmeter="01requests")
    assert held(twin("si_1", ALL), twin("si_2", by_id)) == BOTH


def test_one_subject_in_common_is_enough_and_none_is_fine() -> None:
    assert held(twin("si_1", ALL, "a, b"), twin("si_2", ALL, "b, c")) == BOTH
    assert held(twin("si_1", ALL, "a, b"), twin("si_2", ALL, "c, d")) == set()


def test_an_item_that_names_its_subject_twice_is_no_duplicate_of_itself() -> None:
    assert held(twin("si_1", ALL, "a,a")) == set()


def test_items_whose_usage_is_of_other_times_do_not_hold_each_other() -> None:
    before, row = twin("si_1", ALL)
    after, other = twin("si_2", ALL)
    middle = START + timedelta(days=5)
    before = make_item("si_1", price=before.price, end=middle, metadata=before.metadata)
    added = make_item("si_2", price=after.price, created=middle, metadata=after.metadata)
    assert held((before, row), (added, other)) == set()


def test_what_lies_in_ones_period_alone_is_read_and_what_lies_in_both_is_not() -> None:
    first, row = twin("si_1", ALL)
    second, other = twin("si_2", ALL)
    added = replace(second, created=START + timedelta(days=5))
    one, held = prepared(first, added, rules=replace(BY_ITEM, rows=(row, other)))
    assert isinstance(one, Metered)
    assert [(need.start, need.end) for need in one.needs] == [(START, added.created)]
    assert "si_2 could bill it as well" in (one.note or "")
    said(held, Outcome.HELD, Reason.DUPLICATE_USAGE)


def test_items_of_two_customers_on_the_same_usage_hold_each_other_too() -> None:
    one, row = twin("si_1", ALL)
    other, other_row = twin("si_2", ALL)
    another = make_subscription("sub_2", customer=Customer("cus_2"))
    assert held((one, row), (replace(other, subscription=another), other_row)) == BOTH


def test_an_item_that_is_skipped_holds_nobody() -> None:
    one, row = twin("si_1", ALL)
    other, other_row = twin("si_2", replace(ALL, openmeter=None, ignore=True))
    billed, ignored = prepared(one, other, rules=replace(BY_ITEM, rows=(row, other_row)))
    assert isinstance(billed, Metered)
    assert said(ignored, Outcome.SKIPPED, Reason.IGNORED)


def test_held_duplicates_name_each_other_and_how_many_more_there_are() -> None:
    twins = [twin(f"si_{number}", ALL) for number in range(6)]
    rules = replace(BY_ITEM, rows=tuple(row for _, row in twins))
    first = prepared(*(item for item, _ in twins), rules=rules)[0]
    message = said(first, Outcome.HELD, Reason.DUPLICATE_USAGE)
    assert "si_1, si_2, si_3 and 2 more" in message
    assert "si_0" not in message
    pair = prepared(*(item for item, _ in twins[:2]), rules=rules)[0]
    assert "by si_1:" in said(pair, Outcome.HELD, Reason.DUPLICATE_USAGE)


def test_a_narrowed_run_holds_what_an_item_outside_it_bills() -> None:
    other, row = twin("si_2", ALL)
    assert held(twin("si_1", ALL), others=((other, row),)) == {"si_1"}
    for harmless in (
        (other, replace(row, openmeter="tokens")),
        (replace(other, metadata={"om": "b"}), row),
        (replace(other, period=Period(AS_OF, END)), row),
        (replace(other, period=Period(START - HOUR, START)), row),
        (other, replace(row, filter=(("model", ("gpt",)),))),
    ):
        assert held(twin("si_1", only(model="opus")), others=(harmless,)) == set()


# --- The next report of a period ------------------------------------------------------------------


def decide(metered: Metered, usage: Decimal | Unanswered, memory: Memory, policy: Policy) -> Planned | Result:
    """Return what should happen to an item, by OpenMeter's answer."""
    one = measured(metered, {metered.item.id: usage}, memory, policy)
    return planned(one, memory, policy)


def decided(
    remembered: Remembered,
    usage: int | str = 100,
    *,
    metered: Metered | None = None,
    policy: Policy = POLICY,
) -> Planned | Result:
    return decide(metered or make_metered(), Decimal(usage), remembering(remembered), policy)


def is_unchanged(one: Planned | Result) -> bool:
    return isinstance(one, Result) and one.outcome is Outcome.UNCHANGED


def test_what_stripe_acknowledged_within_a_day_is_not_sent_again() -> None:
    one = decided(make_remembered(100))
    assert is_unchanged(one)
    assert one.found.quantity == one.found.standing == 100


def test_usage_that_rounds_to_what_stripe_holds_is_unchanged() -> None:
    assert is_unchanged(decided(make_remembered(100), "100.999"))


NEW_PRICE = make_metered(make_item(price=make_price("price_2")))
NEW_SUBJECT = make_metered(subjects=("cus_1", "cus_1_test"))


@pytest.mark.parametrize("metered", [NEW_PRICE, NEW_SUBJECT])
def test_the_same_quantity_of_another_price_or_of_other_subjects_is_sent(metered: Metered) -> None:
    one = decided(make_remembered(100), metered=metered)
    assert isinstance(one, Planned)
    assert (one.write.quantity, one.write.anchor) == (100, START + SECOND)


def test_another_quantity_is_sent_to_the_same_timestamp() -> None:
    one = decided(make_remembered(100), 130)
    assert isinstance(one, Planned)
    assert (one.write.quantity, one.write.at_anchor, one.highest_before) == (130, 130, 100)
    assert (one.found.standing, one.look) == (100, None)


@pytest.mark.parametrize(
    ("age", "sent"),
    [
        (timedelta(hours=23, minutes=59, seconds=59), False),
        (timedelta(hours=24), True),
        (timedelta(days=3), True),
    ],
)
def test_a_quantity_acknowledged_a_day_ago_is_sent_again_and_heals_what_others_changed(
    age: timedelta, sent: bool
) -> None:
    remembered = make_remembered(100, acknowledged_at=AS_OF - age)
    one = decided(remembered)
    assert isinstance(one, Planned) if sent else is_unchanged(one)


def test_the_operator_chooses_after_how_long_a_quantity_is_sent_again() -> None:
    policy = replace(POLICY, resend_after=timedelta(minutes=30))
    assert isinstance(decided(make_remembered(100), policy=policy), Planned)


def test_resend_sends_what_stripe_holds_already() -> None:
    assert isinstance(decided(make_remembered(100), policy=replace(POLICY, resend=True)), Planned)


def test_an_intent_that_was_never_acknowledged_is_sent_even_where_the_quantity_is_equal() -> None:
    remembered = make_remembered(100, acknowledged=100, acknowledged_at=None)
    assert isinstance(decided(remembered), Planned)


@pytest.mark.parametrize(("intended", "acknowledged"), [(150, 100), (100, 150)])
def test_an_unanswered_write_counts_as_what_stripe_may_hold(intended: int, acknowledged: int) -> None:
    remembered = make_remembered(intended, acknowledged=acknowledged, acknowledged_at=None)
    one = decided(remembered, 160)
    assert isinstance(one, Planned)
    assert (one.highest_before, one.found.standing) == (150, acknowledged)


def test_the_first_intent_of_a_period_counts_even_where_nothing_was_acknowledged() -> None:
    remembered = replace(make_remembered(100), acknowledged=None, acknowledged_at=None)
    one = decided(remembered, 90)
    assert isinstance(one, Planned)
    assert (one.highest_before, one.found.standing) == (100, None)


def test_the_remembered_timestamp_is_kept_whatever_would_be_chosen_today() -> None:
    anchor = START + 77 * SECOND
    one = decided(make_remembered(100, anchor=anchor), 101)
    assert isinstance(one, Planned)
    assert one.write.anchor == anchor
    assert one.found.span == Span(START, AS_OF, anchor, Period(START, END))


CHANGED_METHODS = [
    make_metered(meter=make_meter("tokens")),
    make_metered(filter=(("model", ("gpt",)),)),
    make_metered(scale=Decimal("0.001")),
    make_metered(rounding=Rounding.CEILING),
]


@pytest.mark.parametrize("metered", CHANGED_METHODS)
@pytest.mark.parametrize("resend", [False, True])
def test_a_method_that_changed_within_the_period_is_held(metered: Metered, resend: bool) -> None:
    one = decided(make_remembered(100), metered=metered, policy=replace(POLICY, resend=resend))
    assert "--allow mapping_changed" in said(one, Outcome.HELD, Reason.MAPPING_CHANGED)


@pytest.mark.parametrize("metered", CHANGED_METHODS)
def test_a_changed_method_is_written_with_allow_over_what_the_old_one_reported(metered: Metered) -> None:
    policy = replace(POLICY, allowed=frozenset({Reason.MAPPING_CHANGED}))
    for usage in (100, 5):
        one = decided(make_remembered(100), usage, metered=metered, policy=policy)
        assert isinstance(one, Planned)
        assert one.write.anchor == START + SECOND
        assert one.highest_before is None
        assert one.write.method != make_method()


def test_no_other_permission_lets_a_changed_method_pass() -> None:
    policy = replace(POLICY, allowed=frozenset({Reason.DECREASE, Reason.FOREIGN_USAGE}))
    one = decided(make_remembered(), metered=CHANGED_METHODS[0], policy=policy)
    assert said(one, Outcome.HELD, Reason.MAPPING_CHANGED)


def test_the_change_is_said_in_words() -> None:
    metered = make_metered(filter=(("model", ("gpt", "opus")),), scale=Decimal("0.0010"))
    one = decided(make_remembered(), metered=metered)
    message = said(one, Outcome.HELD, Reason.MAPPING_CHANGED)
    assert "from requests x 1 floor to requests model=gpt|opus x 0.001 floor" in message


def test_a_scale_written_another_way_is_no_change() -> None:
    assert is_unchanged(decided(make_remembered(100), metered=make_metered(scale=Decimal("1.00"))))


# --- Usage by other programs ----------------------------------------------------------------------


def test_a_topped_up_item_is_reported_without_what_other_records_hold_by_now() -> None:
    one = decided(make_remembered(100, foreign=60), 130)
    assert isinstance(one, Planned)
    assert one.look == LookBeside(at_anchor=40, foreign=60)
    for total, foreign in ((100, 60), (110, 70), (40, 0), (30, 60)):
        read = looked_at_records(one, total, frozenset())
        assert isinstance(read, Planned)
        assert (read.look, read.write.quantity, read.write.foreign) == (None, 130, foreign)
        assert read.write.at_anchor == 130 - foreign
    more = looked_at_records(one, 171, frozenset())
    assert isinstance(more, Result)
    assert more.reason is Reason.FOREIGN_USAGE


def test_a_topped_up_item_whose_whole_quantity_is_the_same_is_unchanged() -> None:
    one = decided(make_remembered(100, foreign=60))
    assert isinstance(one, Planned)
    assert is_unchanged(looked_at_records(one, 100, frozenset()))
    assert is_unchanged(not_looked(one, frozenset()))


def test_a_topped_up_item_that_fell_below_the_foreign_part_is_never_set_below_zero() -> None:
    gauge = make_metered(meter=make_meter("requests", Aggregation.LATEST))
    one = decided(make_remembered(100, foreign=60), 50, metered=gauge)
    assert not isinstance(one, Planned) or one.write.at_anchor >= 0


def test_nothing_is_subtracted_after_a_change_to_a_price_that_does_not_add_up() -> None:
    metered = make_metered(make_item(price=make_price("price_2", aggregate_usage="max")))
    one = decided(make_remembered(100, foreign=60), 130, metered=metered)
    assert not isinstance(one, Planned) or one.write.at_anchor == 130


def test_an_item_held_for_foreign_usage_is_looked_at_again_even_if_nothing_changed() -> None:
    one = decided(make_remembered(100, foreign=60, foreign_held=True))
    assert isinstance(one, Planned)
    assert one.look == LookAgain(at_anchor=40, foreign=60)
    assert (one.write.quantity, one.write.foreign) == (100, 0)


def test_an_interrupted_look_is_finished_with_the_number_that_it_had_read() -> None:
    one = decided(make_remembered(100, total_before=30))
    assert isinstance(one, Planned)
    assert one.look == UnfinishedLook(total_before=30)


def test_an_interrupted_look_is_finished_before_foreign_usage_is_judged_again() -> None:
    remembered = make_remembered(100, foreign=60, foreign_held=True, total_before=0)
    one = decided(remembered)
    assert isinstance(one, Planned)
    assert one.look == UnfinishedLook(total_before=0)


# --- The first report of a period -----------------------------------------------------------------


def test_an_item_that_was_never_seen_is_looked_at_before_its_first_write() -> None:
    one = decide(make_metered(), Decimal(100), Memory(), POLICY)
    assert isinstance(one, Planned)
    assert (one.look, one.found.standing, one.highest_before) == (FirstLook(), None, None)


@pytest.mark.parametrize("aggregate", ["sum", "max", "last_during_period", "last_ever"])
def test_a_known_item_is_reported_in_a_new_period_without_a_look(aggregate: str) -> None:
    metered = make_metered(make_item(price=make_price(aggregate_usage=aggregate)))
    one = decide(metered, Decimal(7), knowing(), POLICY)
    assert isinstance(one, Planned)
    assert (one.write.quantity, one.write.anchor) == (7, START + SECOND)
    assert (one.look, one.found.standing, one.write.foreign) == (None, 0, 0)


@pytest.mark.parametrize("aggregate", ["sum", "max", "last_during_period"])
def test_a_known_item_without_usage_needs_no_record(aggregate: str) -> None:
    metered = make_metered(make_item(price=make_price(aggregate_usage=aggregate)))
    one = decide(metered, Decimal(0), knowing(), POLICY)
    assert is_unchanged(one)
    assert (one.found.quantity, one.found.standing) == (0, 0)


def test_no_usage_on_a_last_ever_price_is_sent_so_that_the_last_period_does_not_bill_again() -> None:
    metered = make_metered(make_item(price=make_price(aggregate_usage="last_ever")))
    one = decide(metered, Decimal(0), knowing(), POLICY)
    assert isinstance(one, Planned)
    assert one.write.quantity == 0


def test_an_item_added_in_mid_period_is_stamped_after_its_own_creation() -> None:
    added = START + timedelta(days=3)
    one = decide(make_metered(make_item(created=added)), Decimal(1), Memory(), POLICY)
    assert isinstance(one, Planned)
    assert one.write.anchor == added + SECOND


# --- What is no usage -----------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [Memory(), knowing(), remembering(make_remembered(100))])
def test_no_answer_is_a_failure_and_never_zero(memory: Memory) -> None:
    policy = Policy(now=AS_OF, as_of=AS_OF, resend=True, allowed=frozenset(Reason))
    one = decide(make_metered(), Unanswered("HTTP status 500"), memory, policy)
    assert said(one, Outcome.FAILED, Reason.OPENMETER_ERROR) == "HTTP status 500"
    assert one.found.quantity is None


@pytest.mark.parametrize("usage", ["NaN", "Infinity", "-1", "1e16"])
@pytest.mark.parametrize("memory", [Memory(), remembering(make_remembered(100))])
def test_a_usage_that_is_no_usage_holds_the_item_and_lowers_no_bill(usage: str, memory: Memory) -> None:
    policy = Policy(now=AS_OF, as_of=AS_OF, allowed=frozenset(Reason))
    one = decide(make_metered(), Decimal(usage), memory, policy)
    assert said(one, Outcome.HELD, Reason.INVALID_USAGE)


def test_usage_is_scaled_and_rounded_by_the_items_own_row() -> None:
    metered = make_metered(scale=Decimal("0.001"), rounding=Rounding.CEILING)
    one = decide(metered, Decimal(1001), knowing(), POLICY)
    assert isinstance(one, Planned)
    assert one.write.quantity == 2
    assert one.found.usage == Decimal(1001)


# --- Every action has one outcome -----------------------------------------------------------------


def test_each_action_ends_in_the_outcome_that_the_contract_names() -> None:
    found = make_metered().found
    (checked,) = check([make_planned(7)], (), Thresholds(), (), is_everything=False, all_open_at=None)
    assert not isinstance(checked, Result)
    assert results.result(checked).outcome is Outcome.PLANNED
    assert results.outcome_of(checked, Outcome.REPORTED).outcome is Outcome.REPORTED
    assert results.result(checked).found.quantity == 7
    assert results.unchanged(checked).outcome is Outcome.UNCHANGED
    for stopped, outcome in (
        (results.held(found, Reason.DECREASE, "why"), Outcome.HELD),
        (results.skipped(found, Reason.IGNORED, "why"), Outcome.SKIPPED),
        (results.failed(found, Reason.STRIPE_ERROR, "why"), Outcome.FAILED),
    ):
        became = results.result(stopped)
        assert (became.outcome, became.message, became.found) == (outcome, "why", found)
        assert became.reason is not None


@many
@given(
    quantity=st.integers(0, 50),
    intended=st.integers(0, 50),
    acknowledged=st.none() | st.integers(0, 50),
    hours=st.none() | st.integers(0, 48),
    foreign=st.sampled_from([0, 0, 10]),
    foreign_held=st.booleans(),
    total_before=st.none() | st.integers(0, 50),
    resend=st.booleans(),
)
def test_an_item_is_left_alone_only_where_stripe_surely_holds_its_quantity(
    quantity: int,
    intended: int,
    acknowledged: int | None,
    hours: int | None,
    foreign: int,
    foreign_held: bool,
    total_before: int | None,
    resend: bool,
) -> None:
    assume(foreign <= quantity)
    remembered = Remembered(
        method=make_method(),
        price="price_1",
        subjects=("cus_1",),
        anchor=START + SECOND,
        quantity=intended,
        as_of=AS_OF - HOUR,
        acknowledged=acknowledged,
        acknowledged_at=None if hours is None else AS_OF - hours * HOUR,
        foreign=foreign,
        foreign_held=foreign_held,
        total_before=total_before,
    )
    one = decided(remembered, quantity, policy=replace(POLICY, resend=resend))
    surely = (
        acknowledged == quantity
        and hours is not None
        and hours < 24
        and not foreign_held
        and total_before is None
        and not foreign  # more may have been added beside what others had
        and not resend
    )
    assert is_unchanged(one) if surely else isinstance(one, Planned)
    if isinstance(one, Planned):
        assert one.write.anchor == START + SECOND
        assert one.write.quantity == quantity
        assert one.highest_before == max(intended, acknowledged or 0)


def test_resend_reports_a_known_customer_without_usage_too() -> None:
    memory = Memory(known_items=frozenset({"si_1"}))
    assert is_unchanged(decide(make_metered(), Decimal(0), memory, POLICY))
    assert isinstance(decide(make_metered(), Decimal(0), memory, replace(POLICY, resend=True)), Planned)
