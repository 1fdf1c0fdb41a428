"""A statement's figures in trouble: nothing is said that is not known, and no trouble is left out."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from meter_sync.core.billing.item import Period
from meter_sync.core.telling.statement.figures import Bridge, Judgement, MatterKind, State
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.statement.test_command import JULY, as_json
from tests.statement.test_figures import DAY, HOUR, JUNE, MINUTE, close, invoiced, only_item, statement
from tests.support.tables import carry_out, make_older
from tests.support.ways import end_of
from tests.support.world import METER, NOW, World

pytestmark = pytest.mark.every_way


def billed(world: World, quantity: int, toml: str = "") -> tuple[SubscriptionView, datetime]:
    """Bill a period, and return its subscription and its end, two hours ago."""
    world.configure(toml)
    one = world.subscribe()
    world.use(one, quantity, at=NOW - DAY)
    world.execute()
    end = end_of(world, one)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    return one, end


def test_usage_that_falls_after_the_final_invoice_takes_nothing_off_what_is_billed(world: World) -> None:
    one, end = billed(world, 1000, 'late_usage = "carry"\n')
    world.openmeter.value_overrides[METER, world.customer_of(one)] = "10"
    world.sandbox.clock.advance(HOUR)
    world.execute()
    watched = statement(world)

    assert (watched.whole.bridge.billed, invoiced(world)) == (1000, 1000)
    assert [one.kind for one in watched.matters] == [MatterKind.HELD]
    close(world, end + 2 * HOUR)
    assert only_item(statement(world)).bridge == Bridge(used=Decimal(10), billed=1000, unbilled=-990)
    assert MatterKind.OVER_BILLED in [one.kind for one in statement(world).matters]


def test_what_runs_have_not_looked_at_is_no_all_clear_and_is_not_signed(world: World) -> None:
    billed(world, 30)
    world.sandbox.clock.advance(4 * DAY)
    world.execute()
    found = statement(world)

    assert found.verdict.judgement is Judgement.OPEN
    assert "runs have looked at it only until 2025-07-05 11:30:17 UTC" in found.verdict.sentence
    signed = world.meter_sync("statement", *JULY, "--sign", "Ann Example")
    assert (signed.code, "nothing was signed" in signed.stderr) == (1, True)
    assert not as_json(world)["signatures"]


def test_what_is_only_shown_is_neither_used_nor_billed(world: World) -> None:
    world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nscale = "0.001"\nreport = false\n')
    one = world.subscribe()
    world.use(one, 7000, at=NOW - DAY)
    world.execute()
    close(world, end_of(world, one))

    assert only_item(statement(world)).bridge == Bridge()


def test_what_was_held_counts_as_long_as_it_is(world: World) -> None:
    one = world.subscribe()
    world.use(one, 1000, at=NOW - DAY)
    world.execute()
    world.openmeter.value_overrides[METER, world.customer_of(one)] = "10"
    for _ in range(2):
        world.sandbox.clock.advance(HOUR)
        world.execute()
    (held,) = statement(world).matters
    world.openmeter.value_overrides.clear()
    world.sandbox.clock.advance(HOUR)
    world.execute()

    assert held.since == NOW + HOUR
    assert only_item(statement(world)).bridge == Bridge(used=Decimal(1000), still_open=1000)


def test_an_item_that_never_was_written_counts_in_the_unit_that_is_billed(world: World) -> None:
    world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nscale = "0.001"\n')
    one = world.subscribe()
    world.use(one, 5000, at=NOW - DAY)
    world.execute()
    end = end_of(world, one)
    close(world, end)
    world.use(one, 90_000_000, at=world.now - HOUR)
    world.execute()
    august = Period(datetime(2025, 8, 1, tzinfo=UTC), datetime(2025, 9, 1, tzinfo=UTC))

    assert only_item(statement(world, august)).bridge == Bridge(used=Decimal(90_000), held=90_000)


def test_days_stay_as_they_are_however_much_later_they_are_asked_for(world: World) -> None:
    one = world.subscribe()
    world.use(one, 3, at=NOW - DAY)
    world.execute()
    for pause, used in ((JUNE.end - NOW, 4), (HOUR, 2), (HOUR, 1)):
        world.sandbox.clock.advance(pause)
        world.use(one, used, at=world.now - 30 * MINUTE)
        world.execute()
    close(world, end_of(world, one))
    before = statement(world, JUNE).whole.cuts
    for _ in range(3):
        world.sandbox.clock.advance(35 * DAY)
        world.use(one, 100, at=world.now - HOUR)
        world.execute()

    assert statement(world, JUNE).whole.cuts == before
    assert before.in_time == Decimal(7)


def test_late_usage_that_an_earlier_version_has_carried_is_in_what_was_used(world: World) -> None:
    one, end = billed(world, 3, 'late_usage = "carry"\n')
    world.use(one, 5, at=end - DAY)
    world.sandbox.clock.advance(HOUR)
    world.execute()
    make_older(world.ledger)

    assert only_item(statement(world)).bridge == Bridge(used=Decimal(8), billed=3, carried_out=5)


def test_an_item_of_which_the_listing_is_damaged_is_in_none_of_the_figures(world: World) -> None:
    one, end = billed(world, 30)
    close(world, end + 2 * HOUR)
    carry_out(world.ledger, "UPDATE seen_periods SET snapshot = '{' WHERE item = ?", one.items[0])
    found = statement(world)

    assert (found.whole.bridge, found.verdict.judgement) == (Bridge(), Judgement.ATTENTION)
    assert len(found.unread) == 1


def test_a_key_of_another_account_says_nothing_of_these_books(world: World) -> None:
    _, end = billed(world, 30)
    close(world, end + 2 * HOUR)
    world.stripe.account = "acct_1Another"

    found = world.meter_sync("statement", *JULY, "--check-invoices")

    assert (found.code, found.stdout) == (78, "")
    assert "acct_1Another" in found.stderr
    assert [*world.folder.glob("*.html")] == []


def test_an_invoice_that_does_not_say_what_it_bills_is_no_difference(world: World) -> None:
    _, end = billed(world, 30)
    close(world, end + 2 * HOUR)
    quantity = '"quantity":30'
    world.sandbox.faults.add(
        Fault(
            path="/v1/invoices",
            times=None,
            rewrite=lambda body: body.replace(quantity, '"quantity":null').replace(": 30", ": null").encode(),
        )
    )

    found = as_json(world, *JULY, "--check-invoices")

    assert not [one for one in found["matters"] if one["kind"] == "invoice_differs"]
    assert found["customers"][0]["items"][0]["invoiced"] is None


def test_a_missing_invoice_is_a_difference(world: World) -> None:
    one, end = billed(world, 30)
    close(world, end + 2 * HOUR)
    world.sandbox.faults.add(
        Fault(path="/v1/invoices", times=None, rewrite=lambda body: body.replace(one.items[0], "si_another").encode())
    )

    found = as_json(world, *JULY, "--check-invoices")

    assert found["matters"][0]["kind"] == "invoice_differs"


def test_a_trial_is_free_as_long_as_it_goes_on_too(world: World) -> None:
    one = world.subscribe(trial_end=NOW + timedelta(days=5))
    world.use(one, 3, at=NOW - DAY)
    world.execute()

    assert only_item(statement(world, JUNE)).state is State.FREE
