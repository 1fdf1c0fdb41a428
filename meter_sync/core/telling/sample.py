"""A rotating sample: a part of the items for each day, all of them in so many days."""

import hashlib
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class Sample:
    """One day's part of all items, in a rotation of so many days."""

    days: int
    """In how many days all items are looked at."""
    day: int
    """Which of those days this is, from 1 on."""

    def has(self, item: str) -> bool:
        """Say whether an item is in this day's part: each is in that of exactly one day of the rotation.

        Which day that is depends on nothing but the item's id: new items move no others.
        """
        digest = hashlib.sha256(item.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.days == self.day - 1


def sample_of(today: date, days: int) -> Sample:
    """Given the day in UTC, return its sample in a rotation of `days` days, at least one."""
    return Sample(days, today.toordinal() % days + 1)
