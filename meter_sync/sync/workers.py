"""Doing many things at once, begun in their order."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from meter_sync.net.tasks import first_error_only

One = TypeVar("One")

AT_ONCE = 128
"""More than Stripe's 25 requests per second need at its usual latency; the rate is the limiter's business."""


async def each(jobs: Iterable[One], work: Callable[[One], Awaitable[None]], at_most: int = AT_ONCE) -> None:
    """Do the work for each job, begun in the order given, so many under way at once; there may be `at_most` jobs.

    The first error ends the rest and is raised.
    """
    waiting = iter(jobs)

    async def worker() -> None:
        for job in waiting:
            await work(job)

    async with first_error_only(), asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, at_most)):
            group.create_task(worker())
