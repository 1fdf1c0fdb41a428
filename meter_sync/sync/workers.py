"""Doing many things at once, begun in their order."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Job = TypeVar("Job")

AT_ONCE = 128
"""More than Stripe's 25 requests per second need at its usual latency; the rate is the limiter's business."""


async def each(jobs: Iterable[Job], work: Callable[[Job], Awaitable[None]]) -> None:
    """Do the work for each job, begun in the order given, at most AT_ONCE under way."""
    waiting = iter(jobs)

    async def worker() -> None:
        for job in waiting:
            await work(job)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
