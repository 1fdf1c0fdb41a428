"""Stripe objects by id and in the order of Stripe's lists, newest first.

Source: API reference, Pagination.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from meter_sync.sandbox.stripe.protocol.errors import no_such

Key = tuple[int, int, str]
"""When an object was created, its sequence number among those of one second, and its id."""


EVER = range(10**18)
"""All seconds that there may be, in Unix time."""


class Stored(Protocol):
    """What every Stripe object has."""

    @property
    def id(self) -> str:
        """What it is called."""

    @property
    def created(self) -> int:
        """When it was created, in Unix seconds."""


StoredT = TypeVar("StoredT", bound=Stored)


class Shelf:
    """The keys of some objects, oldest first."""

    def __init__(self) -> None:
        self._keys: list[Key] = []

    def add(self, key: Key) -> None:
        """Put a key at its place."""
        insort(self._keys, key)

    def remove(self, key: Key) -> None:
        """Take a key away, if it is there."""
        place = bisect_left(self._keys, key)
        if place < len(self._keys) and self._keys[place] == key:
            del self._keys[place]

    def older_than(self, key: Key | None, seconds: range = EVER) -> Iterator[str]:
        """Ids from the newest to the oldest, starting after this key or with the newest, of what was created then."""
        first = bisect_left(self._keys, (seconds.start,))
        end = bisect_left(self._keys, (seconds.stop,))
        start = end if key is None else min(end, bisect_left(self._keys, key))
        for place in range(start - 1, first - 1, -1):
            yield self._keys[place][2]

    def newer_than(self, key: Key) -> Iterator[str]:
        """Ids from the one just newer than this key to the newest."""
        for place in range(bisect_right(self._keys, key), len(self._keys)):
            yield self._keys[place][2]

    def __len__(self) -> int:
        return len(self._keys)


class Store(Generic[StoredT]):
    """All objects of one kind, with a shelf of all and named shelves of some."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        """What Stripe calls them where there is no such object."""
        self._objects: dict[str, StoredT] = {}
        self._keys: dict[str, Key] = {}
        self._shelves: dict[str, Shelf] = {}
        self.everything = Shelf()

    def add(self, item: StoredT, *shelves: str) -> None:
        """Add an object to the shelf of all and to these."""
        if item.id in self._objects:
            raise ValueError(f"there is already an object {item.id!r}")
        key = (item.created, len(self._keys), item.id)
        self._objects[item.id] = item
        self._keys[item.id] = key
        self.everything.add(key)
        for name in shelves:
            self.put_on(name, item.id)

    def put_on(self, name: str, identifier: str) -> None:
        """Put an object on a named shelf, once."""
        shelf = self._shelves.setdefault(name, Shelf())
        shelf.remove(self._keys[identifier])
        shelf.add(self._keys[identifier])

    def remove(self, identifier: str) -> None:
        """Take an object away, from all shelves."""
        del self._objects[identifier]
        for shelf in (self.everything, *self._shelves.values()):
            shelf.remove(self._keys[identifier])

    def take_off(self, name: str, identifier: str) -> None:
        """Take an object off a named shelf."""
        self.shelf(name).remove(self._keys[identifier])

    def shelf(self, name: str) -> Shelf:
        """Return a named shelf, empty if nothing was ever put on it."""
        return self._shelves.get(name, Shelf())

    def get(self, identifier: str) -> StoredT | None:
        """Return the object with this id."""
        return self._objects.get(identifier)

    def find(self, identifier: str, *, param: str = "id", status: int = 404) -> StoredT:
        """Return the object with this id; raise Refusal if there is none: 400 instead of 404 for one in a parameter."""
        found = self.get(identifier)
        if found is None:
            raise no_such(self.kind, identifier, param=param, status=status)
        return found

    def key(self, identifier: str) -> Key | None:
        """Return the place of an object in the order of creation."""
        return self._keys.get(identifier)

    def __getitem__(self, identifier: str) -> StoredT:
        return self._objects[identifier]

    def __iter__(self) -> Iterator[StoredT]:
        return iter(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)
