"""Several things at once, as one thing that may fail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


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
