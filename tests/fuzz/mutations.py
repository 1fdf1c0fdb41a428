"""What a broken server, or one of another version, makes of a true answer."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

Path = tuple[str | int, ...]
"""Where something stands in a document, from its top."""

NO_NUMBERS: tuple[Any, ...] = (
    None,
    True,
    "",
    "text",
    "5",
    [],
    {},
    {"id": 5},
    [None],
    ["si_1"],
    float("nan"),
    float("inf"),
)
"""What may stand where a number is expected, and is none."""
IMPOSSIBLE_NUMBERS: tuple[Any, ...] = (-(10**30), 10**30, 2**63, 1e300)
"""Numbers that nothing here can be."""
NO_TEXTS: tuple[Any, ...] = (None, False, 0, 7, 10**30, -1.5, [], {}, {"id": 5}, [None], float("nan"))
"""What may stand where a text is expected, and is none."""
STRANGE_TEXTS: tuple[Any, ...] = (
    "",
    " ",
    "\x00",
    "line\nbreak",
    "\ud800",
    "x" * 3000,
    "../../v1/charges",
    "unknown_word",
)
"""Texts that nothing here is called."""
NO_LISTS: tuple[Any, ...] = (None, 0, "", "text", {}, {"data": []}, [None], [7], ["si_1"], [[]], [{}])
"""What may stand where a list of objects is expected, and is none."""


@dataclass(frozen=True)
class Mutation:
    """One change at one place of a document, which is chosen among those that may be changed by counting."""

    how: str
    place: int
    choice: int

    def of(self, document: Any, names: Collection[str]) -> Any:
        """Return the document with the change; `names` are the names of what may be changed."""
        return _HOW[self.how](deepcopy(document), self, names)


def mutations() -> st.SearchStrategy[Mutation]:
    return st.builds(Mutation, st.sampled_from(sorted(_HOW)), st.integers(0, 999), st.integers(0, 999))


def as_body(document: Any) -> bytes:
    """Return a document as JSON, with NaN and infinities as numbers, which Python reads and JSON does not know."""
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def rewriting(mutation: Mutation, names: Collection[str]) -> Callable[[str], bytes]:
    """Return the function from the body of a true answer to that of the changed one."""
    return lambda body: as_body(mutation.of(json.loads(body), names))


def _everywhere(document: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, document
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in children:
        yield from _everywhere(value, (*path, key))


def _places(document: Any, names: Collection[str], kind: type | tuple[type, ...] = object) -> list[Path]:
    return [path for path, value in _everywhere(document) if path and path[-1] in names and isinstance(value, kind)]


def _parent(document: Any, path: Path) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


def _put(document: Any, path: Path, value: Any) -> Any:
    _parent(document, path)[path[-1]] = value
    return document


def _value(document: Any, path: Path) -> Any:
    return _parent(document, path)[path[-1]]


def _one(of: Sequence[T], number: int) -> T:
    return of[number % len(of)]


def _another_value(document: Any, mutation: Mutation, names: Collection[str]) -> Any:
    """Another type, null, or something of the type that cannot be."""
    places = _places(document, names)
    if not places:
        return document
    path = _one(places, mutation.place)
    return _put(document, path, _one(_wrong(_value(document, path)), mutation.choice))


def _wrong(value: Any) -> tuple[Any, ...]:
    match value:
        case bool():
            return (None, "true", 7, -1, [], {}, "")
        case int() | float():
            return (*NO_NUMBERS, *IMPOSSIBLE_NUMBERS)
        case str():
            return (*NO_TEXTS, *STRANGE_TEXTS)
        case list():
            return NO_LISTS
        case _:
            return (True, 7, "text", [], [{}], {"id": None}, {"unknown": 1})


def _missing(document: Any, mutation: Mutation, names: Collection[str]) -> Any:
    places = _places(document, names)
    if places:
        path = _one(places, mutation.place)
        del _parent(document, path)[path[-1]]
    return document


def _another_identifier(document: Any, mutation: Mutation, names: Collection[str]) -> Any:
    """The identifier of something else in the same answer, of the same kind or of another one."""
    places = [path for path in _places(document, names, str) if "_" in _value(document, path)]
    if places:
        path = _one(places, mutation.place)
        others = sorted({_value(document, other) for other in places} - {_value(document, path)})
        if others:
            _put(document, path, _one(others, mutation.choice))
    return document


def _emptied(document: Any, mutation: Mutation, _names: Collection[str]) -> Any:
    lists = [path for path, value in _everywhere(document) if isinstance(value, list) and value and path]
    return _put(document, _one(lists, mutation.place), []) if lists else []


def _doubled(document: Any, mutation: Mutation, _names: Collection[str]) -> Any:
    lists = [value for _, value in _everywhere(document) if isinstance(value, list) and value]
    if lists:
        rows = _one(lists, mutation.place)
        rows.insert(0, deepcopy(_one(rows, mutation.choice)))
    return document


def _more_to_come(document: Any, mutation: Mutation, _names: Collection[str]) -> Any:
    """A list that says that it goes on, or does not say."""
    places = [path for path, _ in _everywhere(document) if path and path[-1] == "has_more"]
    if places:
        _put(document, _one(places, mutation.place), _one((True, None, "false", 1), mutation.choice))
    return document


def _broken_off(document: Any, mutation: Mutation, _names: Collection[str]) -> Any:
    whole = json.dumps(document).encode()
    return whole[: len(whole) * mutation.place // 1000]


def _something_else(_document: Any, mutation: Mutation, _names: Collection[str]) -> Any:
    return _one(
        (
            b"",
            b"null",
            b"true",
            b"7",
            b'"text"',
            b"[]",
            b"{}",
            b"[{}]",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"\xff\xfe{}",
            b"\x00" * 10,
            b'{"data": null}',
            b'{"data": [], "has_more": false}',
            b'{"object": "list"}',
            b'{"error": null}',
            b'{"error": {"type": 7, "message": ["x"]}}',
            b"9" * 5000,
            b"<html>welcome</html>",
            b"NaN",
        ),
        mutation.choice,
    )


_HOW: dict[str, Callable[[Any, Mutation, Collection[str]], Any]] = {
    "another value": _another_value,
    "missing": _missing,
    "another identifier": _another_identifier,
    "emptied": _emptied,
    "doubled": _doubled,
    "more to come": _more_to_come,
    "broken off": _broken_off,
    "something else": _something_else,
}
