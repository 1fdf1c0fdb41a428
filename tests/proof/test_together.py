"""Runs that start at once: one full run works, others beside it, and each unit is billed once."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime

import pytest

from meter_sync.core.outcomes import ExitCode
from meter_sync.core.planning.selection import Selection
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Fault
from meter_sync.sync.books import execute
from meter_sync.sync.request import Execution, Request
from tests.proof.account import MINUTE, Account, account
from tests.support.runs import settings
from tests.support.world import World


class Gate:
    """Where the full run that got the lock waits: after its listing, until everything else is about to start."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, body: str) -> bytes:
        self.reached.set()
        self.opened.wait(60)
        return body.encode()


def ended(world: World, runs: int, gate: Gate, beside: list[Request]) -> tuple[list[int], list[Execution]]:
    """Start full runs at once, and others beside the one that works; return their codes and what the others did.

    The one that got the lock is told to try again later until all the others have given up.
    """
    world.sandbox.faults.add(Fault(path="/v1/prices$", times=None, status=503))
    world.sandbox.date_skew_seconds = 0.0  # the commands' clock is the real one
    started = [
        world.start("run", "--as-of", world.now.isoformat(), METER_SYNC_RETRY_SECONDS="300") for _ in range(runs)
    ]
    try:
        with ThreadPoolExecutor(runs) as waiting:
            ends = as_completed([waiting.submit(process.wait, 120) for process in started])
            codes = [next(ends).result() for _ in range(runs - 1)]
            world.sandbox.faults.clear()
            world.sandbox.faults.add(Fault(path="/v2/core/events", rewrite=gate))
            assert gate.reached.wait(60)
            done = asyncio.run(_at_once(world, gate, beside))
            codes += [end.result() for end in ends]
    finally:
        for process in started:
            process.kill()
            _, stderr = process.communicate()
            assert "Traceback" not in stderr
    return codes, done


async def _at_once(world: World, gate: Gate, requests: list[Request]) -> list[Execution]:
    prepared = settings(world)
    world.sandbox.date_skew_seconds = 0.0

    async def open_gate() -> None:
        gate.opened.set()

    runs = [execute(prepared, request, lambda: datetime.now(UTC), Stop()) for request in requests]
    *done, _ = await asyncio.gather(*runs, open_gate())
    return [one for one in done if isinstance(one, Execution)]


def beside(books: Account) -> list[Request]:
    """Return two closing runs, and what events about some of the subscriptions set off."""
    as_of = books.world.now
    closing = Request(closing=5 * MINUTE, is_beside=True, as_of=as_of)
    concerned = [*books.turned[:3], books.turned[-1], books.going_on[0], books.going_on[-1]]
    events = [Selection(subscriptions=(one.id,)) for one in concerned]
    return [closing, closing, *(Request(selection=event, is_beside=True, as_of=as_of) for event in events)]


@pytest.mark.parametrize("ledger_kind", ["file", pytest.param("server", marks=pytest.mark.every_way)], indirect=True)
@pytest.mark.parametrize("runs", [2, 10])
def test_of_full_runs_that_start_at_once_one_works_and_every_unit_is_billed_once(world: World, runs: int) -> None:
    books = account(world)
    codes, others = ended(world, runs, Gate(), beside(books))
    # Those that find the lock held say so as a failure: by this machine's time the account's last run is long overdue.
    assert codes == [ExitCode.FAILED] * (runs - 1) + [ExitCode.DONE]
    assert [one.report.error for one in others] == [None] * len(others)
    books.check_after_one_undisturbed_run()
