"""A run that is stopped at any effect, or killed at any request, leaves nothing that the next does not put right."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from datetime import timedelta
from itertools import count
from pathlib import Path

import psycopg
import pytest

from meter_sync import effects
from meter_sync.core.planning.selection import Selection
from meter_sync.net.postgres_url import PostgresUrl
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.postgres import ledger_on_server
from tests.support.streaming import STREAMED, billed, check_ledger, use_hours, with_hours
from tests.support.ways import WAYS, end_of, metered
from tests.support.world import METER, NOW, World

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""What these runs go through is covered by other tests."""

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SHARES = 6
_LOOKS = 10_000


class Stopped(BaseException):
    """The program is as if it had been killed."""


class StopAt:
    """Stops before the n-th effect, and at every later moment."""

    def __init__(self, moment: int) -> None:
        self.left = moment
        self.has_stopped = False

    def __call__(self, place: str, moment: str) -> None:
        if moment == "comes":  # nothing is between the end of an effect and the next one
            self.has_stopped |= self.left <= 0
            self.left -= 1
        if self.has_stopped:
            raise Stopped(f"{place} {moment}")


def subscribed(world: World) -> list[SubscriptionView]:
    """Subscribe a customer in every way of writing."""
    by_day = world.stripe.add_price(metadata={"om_meter_id": METER})
    world.configure(f'[[meters]]\nprice = "{by_day}"\nopenmeter = "{METER}"\nrecords = "day"\n')
    return [world.subscribe(), world.subscribe(by_day), *(metered(world, way) for way in WAYS)]


def come_to_the_turn(world: World) -> list[SubscriptionView]:
    """Return subscriptions of which some usage was reported, some was not, and the period has just ended."""
    subscriptions = subscribed(world)
    for one in subscriptions:
        world.use(one, 3, at=NOW - DAY)
    world.execute()
    end = end_of(world, subscriptions[0])
    world.sandbox.clock.move_to(end + 2 * MINUTE)
    for one in subscriptions:
        world.use(one, 4, at=end - 2 * DAY)
        world.use(one, 8, at=end + MINUTE)
    return subscriptions


def _folder(parent: Path, moment: int) -> Path:
    folder = parent / str(moment)
    folder.mkdir()
    return folder


def stopped(world: World, moment: int) -> bool:
    """Run until that moment, and return whether it came."""
    stop = StopAt(moment)

    def run() -> None:
        effects.watch(stop)
        world.execute()

    try:
        copy_context().run(run)
    except BaseException:
        if not stop.has_stopped:
            raise
    return stop.has_stopped


def check(world: World, subscriptions: list[SubscriptionView]) -> None:
    """Invoice and open total are the usage to the unit, nothing is named, and the ledger is whole."""
    invoiced = {line.item: line.quantity for invoice in world.stripe.invoices for line in invoice.lines}
    found = [(invoiced[one.items[0]], world.billed(one)) for one in subscriptions]
    assert found == [(7, 8)] * len(subscriptions)
    assert world.unbilled() == {}
    assert world.wrong_in_books() == {}


def at_the_turn(world: World) -> Callable[[], None]:
    """Come to the turn of periods; return what holds a run that was stopped there to its promise."""
    subscriptions = come_to_the_turn(world)

    def hold() -> None:
        world.execute()
        check(world, subscriptions)

    return hold


def at_a_switch(world: World) -> Callable[[], None]:
    """Let A end at once without an invoice, and B of the same customer begin to the same price, in every way.

    Of what A used some was reported. Nobody bills it, and B bills its own.
    """
    ended = subscribed(world)
    for one in ended:
        world.use(one, 3, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.advance(20 * MINUTE)
    for one in ended:
        world.use(one, 4, at=NOW + 10 * MINUTE)
        world.stripe.cancel(one.id)
    world.sandbox.clock.advance(5 * MINUTE)
    begun = [beside(world, one) for one in ended]
    for one in begun:
        world.use(one, 5, at=world.now + 2 * MINUTE)
    world.sandbox.clock.advance(10 * MINUTE)

    def hold() -> None:
        world.execute()
        assert [world.billed(one) for one in begun] == [5] * len(begun)
        world.sandbox.clock.move_to(end_of(world, begun[0]) + 2 * HOUR)
        world.execute()
        check_switched(world, ended, begun)

    return hold


def beside(world: World, ended: SubscriptionView) -> SubscriptionView:
    """Subscribe a customer anew to the price that a subscription of theirs was on."""
    price = world.stripe.state.items[ended.items[0]].price
    return world.subscribe(price, customer=world.customer_of(ended), period_start=world.now)


def check_switched(world: World, ended: list[SubscriptionView], begun: list[SubscriptionView]) -> None:
    """What was used of those that ended is named, and nothing else; the others are billed for what was used of them."""
    invoiced = [(line.item, line.quantity) for invoice in world.stripe.invoices for line in invoice.lines]
    assert sorted(invoiced) == sorted((one.items[0], 5) for one in begun)
    assert world.unbilled() == {one.items[0]: 7 for one in ended}


def take_away_the_ledger(world: World) -> None:
    for file in world.ledger.parent.glob(f"{world.ledger.name}*"):
        file.unlink()


def all_is_told(world: World, subscriptions: list[SubscriptionView]) -> bool:
    """Say whether the 7 of each one's period are on an invoice or named, and none of them is both."""
    invoiced = Counter[str]()
    for invoice in world.stripe.invoices:
        invoiced.update({line.item: line.quantity for line in invoice.lines})
    named = world.unbilled()
    return all(invoiced[one.items[0]] + named.get(one.items[0], 0) == 7 for one in subscriptions)


def at_the_turn_without_a_ledger(world: World) -> Callable[[], None]:
    """Come to the turn of periods, and take the ledger away from the run that was stopped there."""
    subscriptions = come_to_the_turn(world)

    def hold() -> None:
        take_away_the_ledger(world)
        for pause in (MINUTE, 2 * HOUR):
            world.sandbox.clock.advance(pause)
            world.execute()
        assert all_is_told(world, subscriptions)
        assert [world.billed(one) for one in subscriptions] == [8] * len(subscriptions)

    return hold


def come_to_an_end(world: World, *, invoice_now: bool) -> list[SubscriptionView]:
    """Return subscriptions of which some usage was reported, some was not, and that were canceled just now."""
    subscriptions = subscribed(world)
    for one in subscriptions:
        world.use(one, 3, at=NOW - DAY)
    world.execute()
    for one in subscriptions:
        world.use(one, 4, at=NOW - 2 * DAY)
        world.stripe.cancel(one.id, invoice_now=invoice_now)
    world.sandbox.clock.advance(2 * MINUTE)
    return subscriptions


def at_an_end_without_a_ledger(world: World) -> Callable[[], None]:
    """Let subscriptions be canceled with an invoice, and take the ledger away from the run after that."""
    subscriptions = come_to_an_end(world, invoice_now=True)

    def hold() -> None:
        take_away_the_ledger(world)
        for pause in (MINUTE, 2 * HOUR, HOUR):
            world.sandbox.clock.advance(pause)
            world.execute()
        assert all_is_told(world, subscriptions)

    return hold


def at_voided_invoices(world: World) -> Callable[[], None]:
    """Let invoices be voided long after their periods were closed, so that only Stripe's events tell of them."""
    subscriptions = [world.subscribe(), metered(world, "hours")]
    for one in subscriptions:
        world.use(one, 100, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscriptions[0]) + 10 * MINUTE)
    for pause in (10 * DAY, HOUR):
        world.execute()
        world.sandbox.clock.advance(pause)
    with world.books() as books:
        assert books.listed.ended(world.now) == []
    for invoice in world.stripe.invoices:
        world.stripe.void_invoice(invoice.id)
    world.sandbox.clock.advance(HOUR)
    for one in subscriptions:
        world.use(one, 8, at=world.now - HOUR)

    def hold() -> None:
        world.sandbox.clock.advance(HOUR)
        world.execute()
        assert [world.billed(one) for one in subscriptions] == [8] * len(subscriptions)
        assert world.unbilled() == {one.items[0]: 100 for one in subscriptions}

    return hold


def with_many_hours(world: World) -> Callable[[], None]:
    """Let more hours change than are sent one by one: some for the first time, others once more."""
    subscriptions = with_hours(world, STREAMED + 200)
    world.execute(selection=Selection(subscriptions=(subscriptions[0].id,)))
    for one in subscriptions:
        use_hours(world, one, 60)
    used = STREAMED + 200 + 60 * len(subscriptions)

    def hold() -> None:
        check_ledger(world)
        world.execute()
        check_ledger(world)
        assert billed(world, subscriptions) == used

    return hold


@pytest.mark.parametrize(
    ("scene", "moments"),
    [
        (with_many_hours, 30),
        (at_the_turn, 30),
        (at_a_switch, 25),
        (at_voided_invoices, 15),
        (at_the_turn_without_a_ledger, 30),
        (at_an_end_without_a_ledger, 30),
    ],
)
@pytest.mark.parametrize("share", range(SHARES))
def test_a_run_that_is_stopped_at_any_effect_is_made_good_by_the_next(
    tmp_path: Path, scene: Callable[[World], Callable[[], None]], moments: int, share: int
) -> None:
    """Every moment is tried, in shares that may be run beside each other; there are more than so many."""
    for moment in count(share, SHARES):
        if not is_made_good(World(_folder(tmp_path, moment), NOW), scene, moment):
            assert moment > moments
            return


def is_made_good(world: World, scene: Callable[[World], Callable[[], None]], moment: int) -> bool:
    """Hold a run that is stopped at a moment of a scene to its promise, and return whether that moment came."""
    with world.sandbox.in_background():
        hold = scene(world)
        was_stopped = stopped(world, moment)
        if isinstance(world.place, PostgresUrl):
            wait_until_nobody_is_connected(world.place)
        hold()
    return was_stopped


def wait_until_nobody_is_connected(place: PostgresUrl) -> None:
    """Until the server has let go of what the run had: one that is stopped leaves no connection, as one that is killed.

    The server notices it a moment later.
    """
    others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(place.url, autocommit=True) as looking:
        for _ in range(_LOOKS):
            if not looking.execute(others).fetchall():
                return
    raise AssertionError("a run that was stopped is still connected")


@pytest.mark.parametrize(
    ("scene", "moments", "each"),
    [(at_the_turn, 30, 1), (at_a_switch, 25, 3), (at_voided_invoices, 15, 3), (with_many_hours, 30, 5)],
)
@pytest.mark.parametrize("share", range(SHARES))
def test_a_run_with_its_ledger_on_a_server_is_made_good_by_the_next_as_well(
    tmp_path: Path, scene: Callable[[World], Callable[[], None]], moments: int, each: int, share: int
) -> None:
    """Every moment of one scene, and each third or fifth of the others: the way that a run takes is the same."""
    for moment in count(share * each, SHARES * each):
        world = World(_folder(tmp_path, moment), NOW)
        with ledger_on_server() as world.place:
            if not is_made_good(world, scene, moment):
                assert moment > moments
                return


def test_every_kind_of_effect_is_among_them(world: World) -> None:
    told: list[tuple[str, str]] = []
    come_to_the_turn(world)
    written_before = len(world.writes)

    def run() -> None:
        effects.watch(lambda place, moment: told.append((place, moment)))
        world.execute()

    copy_context().run(run)
    assert set(told) == {(place, moment) for place in ("ledger", "stripe") for moment in ("comes", "is done")}
    assert told.count(("stripe", "is done")) == len(world.writes) - written_before


@pytest.mark.parametrize("request_number", [0, 2, 5, 9, 13, 16, 19, 22])
def test_a_command_that_is_killed_while_a_request_is_answered_is_made_good_by_the_next(
    world: World, request_number: int
) -> None:
    subscriptions = come_to_the_turn(world)
    killed = []

    def kill(body: str) -> bytes:
        killed.append(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        return body.encode()

    world.sandbox.faults.add(Fault(skip=request_number, rewrite=kill))
    process = world.start("run", "--as-of", world.now.isoformat())
    process.communicate(timeout=60)
    assert (process.returncode, killed) == (-signal.SIGKILL, [process.pid])
    world.sandbox.clock.advance(3 * MINUTE)
    world.execute()
    check(world, subscriptions)
