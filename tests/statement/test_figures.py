"""A statement's figures are the ledger's and the invoices', and every unit that was used is in one term."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from meter_sync.cli.statement.making import About, statement_of
from meter_sync.core.billing.item import Period
from meter_sync.core.outcomes import Reason
from meter_sync.core.telling.statement.figures import (
    Bridge,
    CustomerFigures,
    Cuts,
    ItemFigures,
    Judgement,
    MatterKind,
    State,
    Statement,
)
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, by_tier, end_of, subscribed
from tests.support.world import METER, NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
JUNE = Period(datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC))
JULY = Period(datetime(2025, 7, 1, tzinfo=UTC), datetime(2025, 8, 1, tzinfo=UTC))


def statement(world: World, time: Period = JULY, **about: object) -> Statement:
    with world.books() as books:
        return statement_of(books, About(time, **about))  # type: ignore[arg-type]


def only_item(found: Statement) -> ItemFigures:
    ((item,),) = (one.items for one in found.customers)
    return item


def customer(found: Statement, world: World, subscription: SubscriptionView) -> CustomerFigures:
    (one,) = (one for one in found.customers if one.customer == world.customer_of(subscription))
    return one


def come_to_the_end(world: World, subscription: SubscriptionView) -> datetime:
    """Report some usage, use more, and report that after the period has ended; then let it be watched no more."""
    world.use(subscription, 3, at=NOW - DAY)
    world.execute()
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end + 2 * MINUTE)
    world.use(subscription, 4, at=end - 2 * DAY)
    world.execute()
    close(world, end)
    return end


def close(world: World, end: datetime) -> None:
    """Let the invoices be final, the period be watched no more, and the month be over in which it ended."""
    month = (end.replace(day=1) + 32 * DAY).replace(day=1, hour=0, minute=5, second=0)
    for at in (end + 2 * HOUR, end + 4 * DAY, month):
        world.sandbox.clock.move_to(at)
        world.execute(Reason.ALL_ZERO)


def invoiced(world: World) -> int:
    return sum(line.quantity for invoice in world.stripe.invoices for line in invoice.lines)


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_what_is_billed_is_what_the_invoice_says_in_every_way(world: World, way: str) -> None:
    one = subscribed(world, way)
    come_to_the_end(world, one)
    found = statement(world)

    assert only_item(found).bridge == Bridge(used=Decimal(7), billed=7)
    assert found.whole.bridge.billed == invoiced(world) == 7
    assert (only_item(found).state, found.verdict.judgement) == (State.BILLED, Judgement.AGREES)


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_late_usage_that_stripe_does_not_take_is_named_as_not_billed(world: World, way: str) -> None:
    one = subscribed(world, way)
    world.use(one, 3, at=NOW - DAY)
    world.execute()
    end = end_of(world, one)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    world.use(one, 5, at=end - DAY)
    close(world, end + HOUR)
    found = statement(world)

    assert only_item(found).bridge == Bridge(used=Decimal(8), billed=3, unbilled=5)
    (matter,) = found.matters
    assert (matter.kind, matter.quantity, matter.age_days) == (MatterKind.UNBILLED, Decimal(5), 30)
    assert found.verdict.judgement is Judgement.ATTENTION


def test_late_usage_that_is_carried_is_in_the_period_that_bills_it_and_in_no_other(world: World) -> None:
    world.configure('late_usage = "carry"\n')
    one = world.subscribe()
    world.use(one, 3, at=NOW - DAY)
    world.execute()
    end = end_of(world, one)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    world.use(one, 5, at=end - DAY)
    world.use(one, 2, at=end + HOUR)
    close(world, end + HOUR)
    world.sandbox.clock.move_to(end + 31 * DAY + MINUTE)
    world.execute()
    close(world, end + 31 * DAY)
    july, august = statement(world), statement(world, Period(JULY.end, datetime(2025, 9, 1, tzinfo=UTC)))

    assert only_item(july).bridge == Bridge(used=Decimal(8), billed=3, carried_out=5)
    assert only_item(august).bridge == Bridge(used=Decimal(2), billed=7, carried_in=5)
    assert july.whole.bridge.billed + august.whole.bridge.billed == invoiced(world) == 10


@pytest.mark.parametrize(
    ("moved", "said"),
    [(DAY, "1 have not ended yet"), (timedelta(days=20, hours=21, minutes=32), "of 1 the invoice may still change")],
    ids=["running", "awaited"],
)
def test_a_period_that_runs_or_may_still_change_is_no_all_clear(world: World, moved: timedelta, said: str) -> None:
    one = world.subscribe()
    world.use(one, 3, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.advance(moved)
    world.execute()

    verdict = statement(world).verdict

    assert (verdict.judgement, said in verdict.sentence) == (Judgement.OPEN, True)
    assert only_item(statement(world)).bridge == Bridge(used=Decimal(3), still_open=3)


def test_a_trial_is_free(world: World) -> None:
    one = world.subscribe(trial_end=end_of_trial())
    world.use(one, 3, at=NOW - DAY)
    world.execute()
    close(world, end_of_trial())

    assert only_item(statement(world, JUNE)).bridge == Bridge(used=Decimal(3), free=Decimal(3))


def end_of_trial() -> datetime:
    return NOW + 5 * DAY


def test_what_a_brake_holds_is_held_and_named_with_what_to_do(world: World) -> None:
    one = world.subscribe()
    world.use(one, 1000, at=NOW - DAY)
    world.execute()
    world.openmeter.value_overrides[METER, world.customer_of(one)] = "10"
    world.execute()
    found = statement(world)

    assert only_item(found).bridge == Bridge(used=Decimal(10), held=-990, still_open=1000)
    (matter,) = found.matters
    assert (matter.kind, matter.quantity) == (MatterKind.HELD, Decimal(990))
    assert matter.command == f"meter-sync history --explain {matter.item}"


def test_what_is_beyond_whole_units_is_rounding(world: World) -> None:
    one = world.subscribe()
    world.use(one, "3.75", at=NOW - DAY)
    world.execute()
    close(world, end_of(world, one))

    assert only_item(statement(world)).bridge == Bridge(used=Decimal("3.75"), billed=3, rounding=Decimal("0.75"))


def test_an_invoice_that_was_voided_leaves_all_of_it_unbilled(world: World) -> None:
    one = world.subscribe()
    world.use(one, 300, at=NOW - DAY)
    world.execute()
    end = end_of(world, one)
    close(world, end)
    for invoice in world.stripe.invoices:
        world.stripe.void_invoice(invoice.id)
    world.sandbox.clock.advance(HOUR)
    world.execute()

    assert only_item(statement(world)).bridge == Bridge(used=Decimal(300), unbilled=300)


def test_the_two_cuts_are_bridged_by_what_was_used_before_and_in_later_periods(world: World) -> None:
    one = world.subscribe()
    end = end_of(world, one)
    world.use(one, 3, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.move_to(JUNE.end)
    world.execute()
    world.sandbox.clock.move_to(JUNE.end + 2 * HOUR)
    world.use(one, 4, at=JUNE.end + HOUR)
    world.execute()
    close(world, end)
    world.use(one, 5, at=world.now - HOUR)
    world.execute()
    cuts = statement(world).whole.cuts

    assert cuts == Cuts(in_periods=Decimal(7), used_before=Decimal(3), in_later_periods=Decimal(5))
    assert (cuts.in_time, statement(world, JUNE).whole.cuts.in_time) == (Decimal(9), Decimal(3))
    days = {day.day: (day.used, day.billed) for day in statement(world).meters[0].days if day.used}
    assert days == {JUNE.end.date(): (Decimal(4), Decimal(4)), (world.now - HOUR).date(): (Decimal(5), Decimal(0))}
