"""One list of Stripe's in ranges of `created`, which are read side by side, and split where much is left. No I/O.

A list is in the order of `created`, newest first (API reference, Pagination). That says how far a range has been read,
and so where to split it; what belongs to a range is for its filter alone to say, so that a row in another order, as on
a test clock, is neither lost nor there twice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from meter_sync.stripe_api.shapes import NotUnderstood

T = TypeVar("T")

_FREE_REQUESTS = 9
"""So many may find little or nothing: as many as keep 25 requests per second under way at Stripe's usual latency."""
_PAGES_PER_REQUEST = 16
"""Beyond those, one for so many pages: the more there are, the better is known where they are."""
_WORTH_SPLITTING_PAGES = 1.5
_OPEN_PAGES = 8
"""How many pages are cut off a range with an open end at first, whose length nobody knows."""


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """A row of a list."""

    id: str
    created: int | None
    """In Unix seconds; None where it is not understood."""
    what: T


@dataclass(frozen=True, slots=True)
class RowPage(Generic[T]):
    """What was answered of a range."""

    rows: Sequence[Row[T]]
    has_more: bool


@dataclass(slots=True, eq=False)
class Range(Generic[T]):
    """What is created from `start` on and before `end`, in Unix seconds; None is an open end. It is read backwards.

    The range of what is newest has no end: what is created while it is read comes before its cursor.
    """

    start: int | None = None
    end: int | None = None
    cursor: str | None = None
    """The id of the last row that was read."""
    reached: int | None = None
    """When that was created; before there is one, the end."""
    page_seconds: float | None = None
    """Over how long the rows of its last page were created, or of that of the range that it was split off."""
    asked_start: int | None = None
    """The start when its next page was asked for: a split may have moved it since."""
    rows: list[T] = field(default_factory=list)
    is_over: bool = False

    def ask(self) -> dict[str, Any]:
        """Return the parameters of the list that ask for the next page."""
        self.asked_start = self.start
        bounds = {"gte": self.start, "lt": self.end}
        created = {name: instant for name, instant in bounds.items() if instant is not None}
        params: dict[str, Any] = {"created": created} if created else {}
        return params if self.cursor is None else {**params, "starting_after": self.cursor}

    def was_asked_for(self, created: int | None) -> bool:
        """Say whether what was created at an instant is what the last page was asked for."""
        if created is None:
            return True
        return (self.asked_start is None or created >= self.asked_start) and (self.end is None or created < self.end)

    @property
    def ahead(self) -> float | None:
        """Until where the page goes that is being asked for, probably; None where nothing is known yet."""
        return None if self.reached is None or self.page_seconds is None else self.reached - self.page_seconds


class Ranges(Generic[T]):
    """The ranges of one list, which together are all of it. Without a split it is asked for as by `pages`."""

    def __init__(self, what: str) -> None:
        """`what` names the list for a person."""
        self._what = what
        self._ranges = [Range[T]()]
        self._seen: set[str] = set()
        self._pages = 0
        self._fullest = 0

    @property
    def first(self) -> Range[T]:
        """The range that there is at the beginning: everything."""
        return self._ranges[0]

    @property
    def rows(self) -> list[T]:
        """All rows, the newest range first: in the order of the list."""
        in_order = sorted(self._ranges, key=lambda one: (one.end is None, one.end), reverse=True)
        return [row for one in in_order for row in one.rows]

    def take(self, part: Range[T], page: RowPage[T]) -> None:
        """Take the page that was asked for last of a range, but for what has been split off meanwhile.

        Raise NotUnderstood for an id that came before, in whichever range: the list never ends, or would be counted
        twice. So for a list that goes on with nothing, or has what was not asked for.
        """
        if page.has_more and not page.rows:
            raise NotUnderstood(self._what, "it goes on, but with nothing")
        self._pages += 1
        self._fullest = max(self._fullest, len(page.rows))
        reached, newest = part.reached, None
        for row in page.rows:
            if not part.was_asked_for(row.created):
                raise NotUnderstood(self._what, f"it has {row.id}, which was not created when it was asked for")
            reached = row.created if row.created is not None else reached
            newest = reached if newest is None else newest
            if part.start is not None and reached is not None and reached < part.start:
                continue  # asked for before the split, and asked for again by whoever has it now
            if row.id in self._seen:
                raise NotUnderstood(self._what, f"it has {row.id} twice")
            self._seen.add(row.id)
            part.rows.append(row.what)
            part.cursor, part.reached = row.id, reached
        if newest is not None and reached is not None:
            part.page_seconds = max(newest - reached, 0.25)  # so that two full seconds may still be split
        part.is_over = not page.has_more

    def split(self) -> Range[T] | None:
        """Split the range of which most is left, and return its older half, to be read by another.

        None where nothing is worth it, or where it has been done so often that it costs more than it brings.
        """
        allowed = min(3 * self._pages, _FREE_REQUESTS) + self._pages // _PAGES_PER_REQUEST
        if self._requests_lost > allowed:
            return None
        part = max(self._ranges, key=self._pages_left)
        middle = self._middle(part)
        if self._pages_left(part) < _WORTH_SPLITTING_PAGES or middle is None:
            return None
        older = Range[T](part.start, middle, reached=middle, page_seconds=part.page_seconds)
        part.start = middle
        self._ranges.append(older)
        return older

    @property
    def _requests_lost(self) -> float:
        """How many more requests there were than full pages would have been, if each open range loses one too."""
        lost = self._pages - len(self._seen) / self._fullest if self._fullest else 0
        return lost + sum(not one.is_over for one in self._ranges)

    def _pages_left(self, part: Range[T]) -> float:
        """Estimate what is left of a range beyond the page that is being asked for; 0 where it cannot be split.

        It is as dense there as on its last page, but no more than twice as long as all that was read: the end may be
        open, or far away with nothing before it. A range of which nothing was read may be empty.
        """
        if part.is_over or part.cursor is None or part.ahead is None or part.page_seconds is None:
            return 0
        at_most = 2 * max(_OPEN_PAGES, self._pages)
        return at_most if part.start is None else min(at_most, (part.ahead - part.start) / part.page_seconds)

    def _middle(self, part: Range[T]) -> int | None:
        """Return where to split a range, in the middle of what is left; None where that is within a second."""
        if part.ahead is None or part.page_seconds is None or part.reached is None:
            return None
        middle = math.ceil(part.ahead - part.page_seconds * self._pages_left(part) / 2)
        return middle if (part.start or 0) < middle <= part.reached else None
