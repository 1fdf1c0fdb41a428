"""What an endpoint of the embedded Stripe is, and how its lists are paged."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from meter_sync.sandbox.stripe.protocol.errors import Refusal, no_such
from meter_sync.sandbox.stripe.protocol.parameters import Reader, list_of, text, whole
from meter_sync.sandbox.stripe.protocol.permissions import Permissions, check_permission
from meter_sync.sandbox.stripe.protocol.versions import Version
from meter_sync.sandbox.stripe.state.state import StripeState
from meter_sync.sandbox.stripe.state.store import Key, Shelf, Store, StoredT
from meter_sync.sandbox.stripe.views.catalog import Json, Views
from meter_sync.sandbox.stripe.world import StripeWorld

PAGING: Mapping[str, Reader] = {
    "limit": whole(1, 100),
    "starting_after": text,
    "ending_before": text,
}
DEFAULT_LIMIT = 10


@dataclass(frozen=True)
class Call:
    """A request whose parameters were read, on its way to an endpoint."""

    world: StripeWorld
    state: StripeState
    views: Views
    version: Version
    path: str
    ids: tuple[str, ...]
    """The variable parts of the path."""
    params: Mapping[str, Any]
    permissions: Permissions
    key_shown: str

    def expands(self, name: str) -> bool:
        """Whether the request asks for this field to be expanded."""
        return name in self.params.get("expand", [])

    def require(self, permission: str) -> None:
        """Refuse with 403 unless the key has a permission; `write` includes `read`."""
        check_permission(permission, self.permissions, key_shown=self.key_shown, account=self.world.account)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One route of Stripe's API, the parameters that it knows, and what it does."""

    method: str
    template: str
    """A path with `{}` for each id."""
    carry_out: Callable[[Call], Json]
    permission: str | None = None
    fields: Mapping[str, Reader] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    expandable: frozenset[str] = frozenset()
    legacy_billing: bool = False
    """Whether the route was removed with 2025-03-31.basil."""

    @cached_property
    def readers(self) -> Mapping[str, Reader]:
        """All parameters: every endpoint of Stripe takes `expand`."""
        return {**self.fields, "expand": list_of(self._expansion)}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What the path must match as a whole."""
        parts = [re.escape(part) for part in self.template.split("{}")]
        return re.compile("([^/]+)".join(parts))

    def _expansion(self, value: Any, name: str) -> str:
        if value not in self.expandable:
            raise Refusal(f"This property cannot be expanded ({value}).", param=name)
        return str(value)


def list_json(url: str, data: list[Json], *, has_more: bool) -> Json:
    """Return a page in Stripe's shape."""
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def page(
    call: Call,
    kind: str,
    store: Store[StoredT],
    shelf: Shelf,
    show: Callable[[StoredT], Json],
    matches: Callable[[StoredT], bool] = lambda _: True,
) -> Json:
    """Return one page of a list, newest first (API reference, Pagination).

    The cursors are ids: `starting_after` gives what is older, `ending_before` what is newer.
    """
    limit = call.params.get("limit", DEFAULT_LIMIT)
    if "ending_before" in call.params:
        newer = shelf.newer_than(_cursor(call, kind, store, "ending_before"))
        found = _first(store, newer, matches, limit + 1)
        data = list(reversed(found[:limit]))
    else:
        after = None
        if "starting_after" in call.params:
            after = _cursor(call, kind, store, "starting_after")
        found = _first(store, shelf.older_than(after), matches, limit + 1)
        data = found[:limit]
    return list_json(call.path, [show(each) for each in data], has_more=len(found) > limit)


def page_of_rows(call: Call, kind: str, rows: list[Json]) -> Json:
    """Return one page of rows that are shown already, in their own order, paged by their ids."""
    ids = [row["id"] for row in rows]
    limit = call.params.get("limit", DEFAULT_LIMIT)
    for name in ("starting_after", "ending_before"):
        if name in call.params and call.params[name] not in ids:
            raise no_such(kind, call.params[name], param=name, status=400)
    if "ending_before" in call.params:
        end = ids.index(call.params["ending_before"])
        start = max(0, end - limit)
        return list_json(call.path, rows[start:end], has_more=start > 0)
    start = ids.index(call.params["starting_after"]) + 1 if "starting_after" in call.params else 0
    return list_json(call.path, rows[start : start + limit], has_more=start + limit < len(rows))


def _cursor(call: Call, kind: str, store: Store[StoredT], param: str) -> Key:
    identifier = call.params[param]
    key = store.key(identifier)
    if key is None:
        raise no_such(kind, identifier, param=param, status=400)
    return key


def _first(store: Store[StoredT], ids: Iterable[str], matches: Callable[[StoredT], bool], count: int) -> list[StoredT]:
    objects = (store[identifier] for identifier in ids)
    return list(islice((each for each in objects if matches(each)), count))
