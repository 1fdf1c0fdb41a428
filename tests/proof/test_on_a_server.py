"""With the ledger on a real server: a run may be killed, stand still or be cut off, and each unit is billed once."""

import os
import signal
import threading
from contextvars import copy_context
from datetime import timedelta

import pytest

from meter_sync import effects
from meter_sync.core.outcomes import ExitCode
from meter_sync.ledger.server_lock import OVERDUE_AFTER_SECONDS
from meter_sync.net.postgres_url import PostgresUrl
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.proof.test_every_effect import check, come_to_the_turn
from tests.support.postgres import new_ledger, server
from tests.support.tables import carry_out
from tests.support.world import World

pytestmark = pytest.mark.simulation

MINUTE = timedelta(minutes=1)
CUT_OFF = ExitCode.FAILED, "ledger_unreachable"
"""A failure, and not only one to try again: by this machine's time the account's last run is long overdue."""
_END_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def place() -> PostgresUrl:
    return new_ledger()


@pytest.fixture
def turned(world: World, place: PostgresUrl) -> list[SubscriptionView]:
    """Subscriptions of every way of writing whose period has just ended, with a ledger on a server."""
    world.place = place
    return come_to_the_turn(world)


@pytest.mark.parametrize("request_number", [0, 9, 16, 22])
def test_a_run_that_is_killed_lets_go_of_the_lock_and_the_next_makes_good_what_it_began(
    world: World, turned: list[SubscriptionView], request_number: int
) -> None:
    def kill(body: str) -> bytes:
        os.kill(process.pid, signal.SIGKILL)
        return body.encode()

    world.sandbox.faults.add(Fault(skip=request_number, rewrite=kill))
    process = world.start("run", "--as-of", world.now.isoformat())
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    world.sandbox.clock.advance(3 * MINUTE)
    world.execute()
    check(world, turned)


@pytest.mark.parametrize("request_number", [0, 9, 13, 16, 19, 22])
def test_a_run_whose_connections_are_cut_sends_nothing_more_and_the_next_makes_good_what_it_began(
    world: World, turned: list[SubscriptionView], place: PostgresUrl, request_number: int
) -> None:
    written = []

    def cut(body: str) -> bytes:
        carry_out(place, _END_ALL)
        written.append(len(world.writes))
        return body.encode()

    world.sandbox.faults.add(Fault(skip=request_number, rewrite=cut))
    done = world.run()

    assert (done.code, done.error_code) == CUT_OFF
    # What was claimed before may be under way already: a few items at a time.
    assert len(world.writes) - written[0] <= len(turned)
    world.sandbox.clock.advance(3 * MINUTE)
    world.execute()
    check(world, turned)


class StandStill:
    """Lets a run stand still, whole as it is, when the n-th effect of a place comes, until it is told to go on."""

    def __init__(self, place: str, number: int) -> None:
        self._place = place
        self._left = number
        self.stands, self.goes_on = threading.Event(), threading.Event()

    def __call__(self, place: str, moment: str) -> None:
        if (place, moment) != (self._place, "comes"):
            return
        if self._left == 0:
            self.stands.set()
            assert self.goes_on.wait(60)
        self._left -= 1


@pytest.mark.parametrize(("effect", "number", "at_most"), [("ledger", 4, 0), ("ledger", 8, 0), ("stripe", 0, 1)])
def test_a_run_that_stood_still_while_another_took_its_place_sends_nothing_but_what_was_under_way(
    world: World, turned: list[SubscriptionView], place: PostgresUrl, effect: str, number: int, at_most: int
) -> None:
    """What it stood still with after it had seen to it that it has the item may be sent: it is what was to be set."""
    stand_still = StandStill(effect, number)

    def run() -> None:
        effects.watch(stand_still)
        world.execute()

    frozen = threading.Thread(target=copy_context().run, args=(run,))
    frozen.start()
    assert stand_still.stands.wait(60)
    world.sandbox.clock.advance(2 * MINUTE)
    carry_out(place, "UPDATE run_locks SET beat_at = beat_at - ?", int(OVERDUE_AFTER_SECONDS) + 1)
    world.execute()
    written = len(world.writes)
    stand_still.goes_on.set()
    frozen.join()

    assert len(world.writes) - written <= at_most
    check(world, turned)


def test_a_server_that_is_started_anew_in_mid_run_costs_nobody_anything(
    world: World, turned: list[SubscriptionView]
) -> None:
    def start_anew(body: str) -> bytes:
        server().start_anew()
        return body.encode()

    world.sandbox.faults.add(Fault(skip=16, rewrite=start_anew))
    done = world.run()
    assert (done.code, done.error_code) == CUT_OFF
    world.sandbox.clock.advance(3 * MINUTE)
    world.execute()
    check(world, turned)
