"""Reading a list of Stripe's in several places at once, as many as keep the allowed rate under way."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from meter_sync.net.tasks import first_error_only
from meter_sync.stripe_api.ranges import Range, Ranges, RowPage

T = TypeVar("T")

Ask = Callable[[Mapping[str, Any]], Awaitable[RowPage[T]]]
"""Asks for a page, given the parameters that say which one."""


class Walkers:
    """Those who read lists of one endpoint, which they share with all that is asked of it.

    `at_once` says how many requests under way fill the rate, as it is measured now.
    """

    def __init__(self, at_once: Callable[[], int]) -> None:
        self._at_once = at_once
        self._walking = 0

    async def read(self, what: str, ask: Ask[T]) -> list[T]:
        """Return the rows of all pages of a list, each once, in its order; `what` names it for a person.

        A list of one page is one request. One that was there throughout is among them whatever is created or goes
        away meanwhile. Raise NotUnderstood as `pages` does, and what asking raises: the first error ends the rest.
        """
        ranges = Ranges[T](what)
        async with first_error_only(), asyncio.TaskGroup() as group:

            def begin(part: Range[T]) -> None:
                self._walking += 1
                group.create_task(walk(part)).add_done_callback(ended)

            def ended(_: "asyncio.Task[None]") -> None:
                self._walking -= 1

            async def walk(part: Range[T]) -> None:
                while not part.is_over:
                    ranges.take(part, await ask(part.ask()))
                    while self._walking - part.is_over < self._at_once() and (older := ranges.split()):
                        begin(older)

            begin(ranges.first)
        return ranges.rows


@contextmanager
def keeping_rows() -> Iterator[None]:
    """Look for no garbage in cycles within: rows that are kept are none.

    Python would go through all of them again and again while their number grows. That takes twice the time of reading
    them, and for as long as it lasts no request leaves.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
