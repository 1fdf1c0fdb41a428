"""An answer that never ends, in time or in size, is given up: no run hangs on it, and no memory is filled with it."""

import asyncio
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from meter_sync.core.metering.queries import Query, Unanswered
from meter_sync.errors import TryAgainError
from meter_sync.net.session import AnswerTooLarge, open_session
from meter_sync.net.stop import Stop
from meter_sync.openmeter_api.client import OpenMeter
from meter_sync.openmeter_api.connection import Access
from meter_sync.sandbox import Fault
from tests.support.world import METER, World

MEGABYTE = 1_000_000
MONTH = Query(METER, (), datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 6, 8, tzinfo=UTC), ("cus_1",))


async def read_prices(world: World, largest_answer_bytes: int) -> bytes:
    """Read a list from Stripe as its SDK does."""
    async with open_session(world.sandbox.stripe_url, 1, largest_answer_bytes) as session:
        key = {"Authorization": f"Bearer {world.sandbox.stripe_key}"}
        for _ in range(2):  # the only connection must be free again
            response = await session.request("GET", f"{world.sandbox.stripe_url}/v1/prices", headers=key)
            try:
                return await response.content.read()
            except AnswerTooLarge:
                continue
        raise AnswerTooLarge


@contextmanager
def memory_at_most(size_bytes: int) -> Iterator[None]:
    """Fail if more memory than that is allocated at any time inside."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= size_bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("chunked", "most_bytes"), [(False, 4 * MEGABYTE), (True, 24 * MEGABYTE)])
def test_a_huge_answer_is_refused_before_it_fills_the_memory(world: World, chunked: bool, most_bytes: int) -> None:
    """One whose size is announced is not read at all."""
    world.sandbox.faults.add(Fault(times=None, fill_bytes=64 * MEGABYTE, chunked=chunked))
    with memory_at_most(most_bytes), pytest.raises(AnswerTooLarge):
        asyncio.run(read_prices(world, 16 * MEGABYTE))


def test_an_answer_that_fits_is_read_whole(world: World) -> None:
    world.sandbox.faults.add(Fault(fill_bytes=MEGABYTE // 2, chunked=True))
    assert len(asyncio.run(read_prices(world, MEGABYTE))) > MEGABYTE // 2


def test_an_answer_of_openmeter_that_comes_drop_by_drop_is_given_up_in_time(world: World) -> None:
    world.sandbox.faults.add(Fault(server="openmeter", times=None, drip_seconds=3))

    async def asked() -> object:
        sandbox, url = world.sandbox, world.sandbox.environment()["OPENMETER_URL"]
        access = Access(url, lambda: sandbox.openmeter_key, 1, retry_seconds=0, timeout_seconds=0.2)
        async with open_session(url, 1) as session:
            openmeter = OpenMeter(access, session, Stop())
            with pytest.raises(TryAgainError, match="OpenMeter could not be asked"):
                await openmeter.meters()
            return await openmeter.usage(MONTH)

    assert isinstance(asyncio.run(asked()), Unanswered)
