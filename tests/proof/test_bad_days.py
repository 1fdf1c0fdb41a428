"""Whatever servers, networks, disks and clocks do to a run, the next undisturbed one leaves the bill right.

Everything is at stake in each of these runs at once: every way of writing, drafts and open periods. Runs are the
program's own, in this process and over real HTTP.
"""

import asyncio
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from meter_sync.core.outcomes import ExitCode
from meter_sync.core.planning.selection import Selection
from meter_sync.errors import MeterSyncError
from meter_sync.net.session import LARGEST_ANSWER_BYTES
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Fault
from meter_sync.sync.books import execute
from meter_sync.sync.request import Request
from tests.proof.account import MINUTE, Account, account
from tests.support.runs import executed, settings
from tests.support.ways import one_fast
from tests.support.world import World

KINDS = {
    "nothing arrives": Fault(drop="before"),
    "every answer is lost": Fault(drop="after"),
    "every answer breaks off": Fault(truncate=True),
    "half of the JSON": Fault(rewrite=lambda body: body[: len(body) // 2].encode()),
    "storm of 500": Fault(status=500),
    "storm of 503 before Stripe": Fault(status=503, text="upstream connect error"),
    "storm of 429": Fault(status=429),
    "a page of a proxy": Fault(replace_text="<html>Sign in</html>", replace_content_type="text/html"),
    "the true answer as a page": Fault(relabel="text/html"),
    "drop by drop": Fault(drip_seconds=0.01),
    "away": Fault(status=302, headers={"Location": "http://127.0.0.1:9/"}, saved=False),
    "more than fits in memory": Fault(fill_bytes=LARGEST_ANSWER_BYTES),
}
"""What may be the matter with the answers."""

STRIPE_READS = Fault(server="stripe", method="GET", skip=7, times=None, status=500)
STRIPE_WRITES = Fault(server="stripe", method="POST", skip=6, times=None, status=500)
OPENMETER = Fault(server="openmeter", skip=3, times=None, status=500)
"""From when on, within a run."""
PAGE = 4096
HOUR = timedelta(hours=1)

REQUESTS: dict[str, Callable[[Account], Request]] = {
    "full run": lambda _: Request(),
    "closing run": lambda _: Request(closing=2 * HOUR, is_beside=True),
    "webhook": lambda books: Request(selection=Selection(subscriptions=(books.going_on[0].id,)), is_beside=True),
}


@pytest.fixture(params=one_fast(KINDS, "every answer is lost"))
def kind(request: pytest.FixtureRequest) -> Fault:
    return KINDS[request.param]


def of_kind(kind: Fault, where: Fault) -> Fault:
    """Return the fault of a kind that hits what another one hits."""
    return replace(kind, server=where.server, method=where.method, skip=where.skip, times=where.times)


def bad_day(books: Account, fault: Fault) -> ExitCode:
    """Run while a fault is on; return the exit code, which must be true."""
    sandbox = books.world.sandbox
    sandbox.requests.clear()
    sandbox.faults.clear()
    sandbox.faults.add(fault)
    code = executed(books.world).exit_code
    hit = [one for one in sandbox.requests if fault.server in (None, one.server) and fault.method in (None, one.method)]
    assert len(hit) > fault.skip, "the fault came too late to spoil anything"
    books.check_promise(code)
    return code


# -- servers and networks --------------------------------------------------------------------------


def test_writes_that_go_wrong_from_some_moment_on_are_made_good_by_the_next_run(world: World, kind: Fault) -> None:
    books = account(world)
    bad_day(books, of_kind(kind, STRIPE_WRITES))
    books.check_after_one_undisturbed_run()


def test_bad_runs_in_a_row_are_made_good_by_the_next_one(world: World, kind: Fault) -> None:
    books = account(world)
    for where in (replace(STRIPE_WRITES, skip=0), OPENMETER, STRIPE_READS):
        bad_day(books, of_kind(kind, where))
        world.sandbox.clock.advance(MINUTE / 2)
    books.check_after_one_undisturbed_run()


@pytest.mark.parametrize("drop", one_fast(["before", "after"], "after"))
@pytest.mark.parametrize("requests_before", one_fast([0, 13, 25, 34], 25))
def test_a_network_that_goes_away_in_mid_run_costs_nobody_anything(
    world: World, requests_before: int, drop: str
) -> None:
    books = account(world)
    code = bad_day(books, Fault(skip=requests_before, times=None, drop=drop))  # type: ignore[arg-type]
    assert code is not ExitCode.DONE
    books.check_after_one_undisturbed_run()


def test_a_slow_answer_is_an_answer(world: World) -> None:
    books = account(world)
    assert bad_day(books, Fault(times=None, drip_seconds=0.01)) is ExitCode.DONE


# -- disks -----------------------------------------------------------------------------------------


@contextmanager
def disk_full_at(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: to SQLite that is a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("pages_free", one_fast([0, 1], 1))
def test_a_disk_that_is_full_in_mid_run_costs_nobody_anything(world: World, pages_free: int) -> None:
    books = account(world)
    with disk_full_at(world.ledger.stat().st_size + pages_free * PAGE):
        report = executed(world)
    assert (report.exit_code, error_code(report.error)) == (ExitCode.FAILED, "ledger_full")
    books.check_after_one_undisturbed_run()


def error_code(error: MeterSyncError | None) -> str | None:
    return error.code if error else None


# -- clocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stripes_too", one_fast([False, True], True))
@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS)
def test_a_clock_that_goes_back_an_hour_keeps_every_run_from_working(
    world: World, request_of: Callable[[Account], Request], is_stripes_too: bool
) -> None:
    """The ledger knows by itself, also where Stripe's answers have the same wrong date."""
    books = account(world)
    bad_day(books, STRIPE_WRITES)
    world.sandbox.faults.clear()
    world.sandbox.requests.clear()
    prepared = settings(world)
    if is_stripes_too:
        world.sandbox.date_skew_seconds -= HOUR.total_seconds()
    report = asyncio.run(execute(prepared, request_of(books), lambda: world.now - HOUR, Stop())).report
    assert (report.exit_code, error_code(report.error)) == (ExitCode.CONFIGURATION, "clock")
    assert world.sandbox.requests == []
    books.check_after_one_undisturbed_run()


@pytest.mark.parametrize("readings_before", one_fast([1, 2, 4, 8], 4))
def test_a_clock_that_goes_back_an_hour_in_mid_run_costs_nobody_anything(world: World, readings_before: int) -> None:
    books = account(world)
    readings = iter([world.now] * readings_before)

    def clock() -> datetime:
        return next(readings, world.now - HOUR)

    report = asyncio.run(execute(settings(world), Request(), clock, Stop())).report
    books.check_promise(report.exit_code)
    books.check_after_one_undisturbed_run()
