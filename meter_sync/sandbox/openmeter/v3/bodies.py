"""Reading a JSON body in the third version, which refuses what its document does not name, and null."""

from collections.abc import Collection, Mapping
from typing import Any

from meter_sync.sandbox.openmeter.v3.problems import invalid


def check_fields(given: Mapping[str, Any], known: Collection[str], place: str = "") -> None:
    """Refuse fields that are unknown or null; `place` is what their names begin with, as `filters.`."""
    for name, value in given.items():
        if name not in known:
            raise invalid(f"{place}{name}", f"property {name!r} is unsupported", "unknown_property")
        if value is None:
            raise invalid(f"{place}{name}", "value is not nullable", "type")


def object_in(given: Mapping[str, Any], name: str, place: str = "") -> dict[str, Any]:
    """Return a field that is an object; an empty one if not given."""
    value = given.get(name, {})
    if not isinstance(value, dict):
        raise invalid(f"{place}{name}", "value must be an object", "is_object")
    return value


def at_most(number: int, most: int, name: str) -> None:
    """Refuse more items than the document allows."""
    if number > most:
        raise invalid(name, f"must not have more than {most} items", "max_items", maximum=most)
