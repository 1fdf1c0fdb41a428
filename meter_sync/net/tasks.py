"""Several things at once, as one thing that may fail."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


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


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all of it at once, and return what comes of it, in the order given. The first error ends the rest."""
    async with first_error_only(), asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


@asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, T]) -> AsyncIterator["asyncio.Task[T]"]:
    """Do something while the block does something else, and can await it.

    An error of the block is raised whether or not there was one of the work before, and ends the work.
    """
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
