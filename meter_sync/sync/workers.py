"""Doing many things at once, begun in their order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

One = TypeVar("One")

AT_ONCE = 128
"""More than Stripe's 25 requests per second need at its usual latency; the rate is the limiter's business."""


@asynccontextmanager
async def first_error_only() -> AsyncIterator[None]:
    """Raise the first error of a group of tasks by itself: the others were only its company."""
    try:
        yield
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


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
