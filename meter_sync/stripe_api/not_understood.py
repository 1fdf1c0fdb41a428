"""Rows of Stripe's lists that this version does not understand: each is the matter of its own items, not of the run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from meter_sync.stripe_api.shapes import NotUnderstood

log = structlog.get_logger()

LICENSED = "licensed"
"""The usage type of what is billed by its number, and not by what was used (API reference, Prices)."""


class Oddities:
    """Why things were not understood, by their ids: of prices, billing meters, subscriptions and items."""

    def __init__(self) -> None:
        self._why: dict[str, str] = {}

    def note(self, id: str, why: str) -> None:
        """Keep why a thing was not understood, and say it once in the log: not every one has an item to be named by."""
        if id not in self._why:
            log.warning("not_understood", id=id, message=f"{why}; its items are left as they are")
        self._why.setdefault(id, why)

    @contextmanager
    def noting(self, id: str) -> Iterator[None]:
        """Keep why what is read of a thing was not understood."""
        try:
            yield
        except NotUnderstood as error:
            self.note(id, error.why)

    def of(self, *ids: str | None) -> str | None:
        """Return why the first of these that was not understood was not, or None if all were."""
        return next((self._why[id] for id in ids if id in self._why), None)


def usage_type(item: Mapping[str, Any]) -> object:
    """Return the usage type of an item's price, whatever stands there; None where nothing does."""
    found: object = item
    for name in ("price", "recurring", "usage_type"):
        found = found.get(name) if isinstance(found, dict) else None
    return found
