"""What becomes of a period once it has ended: how far Stripe takes usage of it, and what is left when it takes no more.

What was listed says so: no fact about the item is changed to get past a check.
"""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from meter_sync.core.billing.intake import Intake, intake_of
from meter_sync.core.billing.item import BillingMeter, Customer, SubscriptionItem
from meter_sync.core.billing.way import Way
from meter_sync.core.metering.mapping import MappingRules, MeterRow
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.draft import closed_with
from meter_sync.core.planning.looks import ReadBack
from meter_sync.core.planning.memory import Addition, Memory, Remembered, RememberedAdditions
from meter_sync.core.planning.plan import planned
from meter_sync.core.planning.prepare import Metering, prepare
from meter_sync.core.planning.results import outcome_of
from meter_sync.core.planning.sends import SendNothing
from meter_sync.core.planning.stages import Listed, Measured, Metered, Planned, Result

from .builders import (
    AS_OF,
    END,
    HOUR,
    POLICY,
    START,
    knowing,
    make_item,
    make_meter,
    make_metered,
    make_price,
    make_remembered,
    make_subscription,
    remembering,
)

DAY = timedelta(days=1)
ADDING = BillingMeter("mtr_1", "used", "sum")
ON_METER = make_item(price=make_price(billing_meter=ADDING))
ON_RECORDS = make_item()
NO_MORE = [Intake.CLOSED, Intake.UNBILLED, Intake.VOIDED]


def gone(item: SubscriptionItem) -> SubscriptionItem:
    return replace(item, is_followed=False)


@pytest.mark.parametrize(
    ("item", "is_draft", "after", "is_refused", "intake"),
    [
        (ON_RECORDS, None, 2 * DAY, False, Intake.GRACE),
        (ON_RECORDS, None, 2 * DAY, True, Intake.CLOSED),
        (ON_RECORDS, None, 4 * DAY, False, Intake.CLOSED),
        (ON_METER, True, 2 * DAY, False, Intake.GRACE),
        (ON_METER, False, 2 * DAY, False, Intake.CLOSED),
        (ON_METER, None, HOUR / 2, False, Intake.GRACE),
        (ON_METER, None, HOUR, False, Intake.CLOSED),
        (gone(ON_RECORDS), True, HOUR, False, Intake.GRACE),
        (gone(ON_RECORDS), False, HOUR, False, Intake.CLOSED),
        (gone(ON_METER), None, HOUR / 2, False, None),
        (gone(ON_METER), None, HOUR, False, Intake.UNBILLED),
        (gone(ON_METER), None, HOUR, True, Intake.UNBILLED),
    ],
)
def test_stripe_takes_usage_of_an_ended_period_as_its_documentation_says(
    item: SubscriptionItem, is_draft: bool | None, after: timedelta, is_refused: bool, intake: Intake | None
) -> None:
    assert intake_of(item, is_draft, END + after, 3 * DAY, is_refused=is_refused) is intake


def prepared(*items: SubscriptionItem, intake: Intake) -> list[Metered | Result]:
    rules = MappingRules(rows=(MeterRow(price="price_1", openmeter="requests"),))
    metering = Metering(rules, {"requests": make_meter()})
    return prepare([Listed(item, intake) for item in items], (), metering, Memory(), AS_OF)


def reasons(*items: SubscriptionItem, intake: Intake) -> list[Reason | None]:
    return [one.reason if isinstance(one, Result) else None for one in prepared(*items, intake=intake)]


PAUSED = make_item(subscription=make_subscription(status="paused"))
DELETED = make_item(subscription=make_subscription(customer=Customer("cus_1", deleted=True)))
LIMITED = make_item(subscription=make_subscription(has_billing_thresholds=True))


@pytest.mark.parametrize("intake", list(Intake))
def test_what_was_used_before_a_pause_is_billed_once_the_period_has_ended(intake: Intake) -> None:
    assert reasons(PAUSED, intake=intake) == [Reason.SUBSCRIPTION_PAUSED if intake is Intake.RUNNING else None]


@pytest.mark.parametrize("intake", list(Intake))
@pytest.mark.parametrize(("item", "reason"), [(DELETED, Reason.CUSTOMER_DELETED), (LIMITED, Reason.BILLING_THRESHOLDS)])
def test_what_keeps_a_period_from_being_billed_does_not_keep_it_from_being_named_once_stripe_takes_no_more(
    item: SubscriptionItem, reason: Reason, intake: Intake
) -> None:
    assert reasons(item, intake=intake) == [None if intake in NO_MORE else reason]


@pytest.mark.parametrize("intake", list(Intake))
def test_once_stripe_takes_no_more_what_nobody_billed_is_named_once(intake: Intake) -> None:
    twins = [make_item("si_1"), make_item("si_2")]
    twice = [None, Reason.NOT_STARTED] if intake in NO_MORE else [Reason.DUPLICATE_USAGE] * 2
    assert reasons(*twins, intake=intake) == twice
    together = [replace(ON_METER, id=item) for item in ("si_1", "si_2")]
    assert reasons(*together, intake=intake) == twice


def test_a_paused_item_shares_its_billing_meter_with_nobody_while_its_period_runs() -> None:
    paused = replace(ON_METER, id="si_2", subscription=make_subscription("sub_2", status="paused"))
    assert reasons(ON_METER, paused, intake=Intake.RUNNING) == [None, Reason.SUBSCRIPTION_PAUSED]


def test_what_was_listed_is_left_as_it_was_listed() -> None:
    for item in (PAUSED, DELETED, LIMITED):
        (one,) = prepared(item, intake=Intake.CLOSED)
        assert one.item is item


def left(
    usage: int,
    remembered: Remembered | None = None,
    intake: Intake = Intake.CLOSED,
    *,
    invoiced: int | None = None,
    is_read_back: bool = False,
) -> Planned:
    """Return what is planned of a period of which Stripe takes no more."""
    metered = replace(make_metered(), listed=Listed(ON_RECORDS, intake, invoiced, is_read_back))
    memory = remembering(remembered) if remembered else Memory()
    one = planned(Measured(metered, Decimal(usage)), memory, POLICY)
    assert isinstance(one, Planned)
    assert one.write.sends == SendNothing()
    assert one.write.how_many == 0
    return one


def said(one: Planned) -> Result:
    return outcome_of(one.write, Outcome.REPORTED)


@pytest.mark.parametrize("usage", [130, 70])
def test_of_a_period_of_which_stripe_takes_no_more_nothing_is_sent_and_what_it_lacks_is_said(usage: int) -> None:
    one = left(usage, make_remembered(100))
    assert (one.write.quantity, one.write.lacking, one.found.standing) == (100, usage - 100, 100)
    result = said(one)
    assert (result.outcome, result.reason, result.lacking) == (Outcome.HELD, Reason.PERIOD_CLOSED, usage - 100)
    assert ("30 are not billed" if usage > 100 else "30 too many are billed") in str(result.message)
    assert "Stripe takes no more usage of it" in str(result.message)
    assert result.found.quantity == 100


def test_what_was_named_before_is_not_held_again() -> None:
    again = said(left(130, replace(make_remembered(100), lacking=30)))
    assert (again.outcome, again.reason, again.lacking) == (Outcome.UNCHANGED, None, 30)
    more = said(left(131, replace(make_remembered(100), lacking=30)))
    assert (more.outcome, more.lacking) == (Outcome.HELD, 31)


def test_where_nothing_bills_a_period_all_of_its_usage_is_lacking_whatever_was_reported() -> None:
    one = left(130, make_remembered(100), Intake.UNBILLED)
    assert (one.write.quantity, one.write.lacking, one.look) == (0, 130, None)
    assert "it ended without an invoice" in str(said(one).message)


@pytest.mark.parametrize("intake", NO_MORE)
def test_what_the_invoice_bills_counts_more_than_what_was_acknowledged(intake: Intake) -> None:
    one = left(130, make_remembered(100), intake, invoiced=90)
    assert (one.write.quantity, one.write.lacking, one.look) == (90, 40, None)


def test_what_stands_is_read_back_once_and_then_counts_as_it_was_read() -> None:
    one = left(130, make_remembered(100))
    assert isinstance(one.look, ReadBack)
    read = closed_with(one.write, 125)
    assert (read.quantity, read.lacking, read.found.standing, read.told.quantity) == (125, 5, 125, 125)
    assert closed_with(read, 100) == one.write
    assert left(130, make_remembered(100), is_read_back=True).look is None


@pytest.mark.parametrize("aggregate", ["sum", "last_ever"])
def test_a_known_item_without_a_report_is_read_back_unless_its_invoice_tells(aggregate: str) -> None:
    """It is known by another of its periods: what stands in this one may be an earlier ledger's."""
    item = make_item(price=replace(make_price(aggregate_usage=aggregate), is_per_unit=True))
    metered = make_metered(item, intake=Intake.CLOSED)
    one = planned(Measured(metered, Decimal(0)), knowing(), POLICY)
    assert isinstance(one, Planned)
    assert (one.look, one.write.lacking) == (ReadBack(was_empty=aggregate == "sum"), 0)
    invoiced = replace(metered.listed, line_quantity=500, is_final=True)
    one = planned(Measured(replace(metered, listed=invoiced), Decimal(0)), knowing(), POLICY)
    assert isinstance(one, Planned)
    assert (one.look, one.write.lacking) == (None, -500)


def test_neither_a_rejection_nor_a_changed_method_keeps_a_closed_period_from_being_named() -> None:
    rejected = replace(make_remembered(100), rejected="archived_meter: gone")
    moved = replace(make_remembered(100), method=replace(make_remembered().method, meter="tokens"))
    for remembered in (rejected, moved):
        assert left(130, remembered).write.lacking == 30


def test_an_addition_that_may_have_arrived_keeps_a_closed_period_from_being_named() -> None:
    addition = Addition("one", 0, 100, START + HOUR, AS_OF, AS_OF, AS_OF)
    metered = make_metered(ON_METER, way=Way.ADDITIONS, intake=Intake.CLOSED)
    remembered = replace(make_remembered(100, method=metered.method), additions=RememberedAdditions(addition))
    one = planned(Measured(metered, Decimal(130)), remembering(remembered), POLICY)
    assert isinstance(one, Result)
    assert (one.outcome, one.reason) == (Outcome.HELD, Reason.UNSETTLED)
    assert (one.found.usage, one.found.quantity, one.found.standing) == (Decimal(130), 130, 100)


def test_a_closed_period_that_could_not_be_read_back_leaves_with_the_quantity_that_was_used() -> None:
    one = left(130, make_remembered(100))
    assert (one.found.usage, one.found.quantity, one.found.standing) == (Decimal(130), 130, 100)
