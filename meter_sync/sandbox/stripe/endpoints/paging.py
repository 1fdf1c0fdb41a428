"""Paging: how the lists of the embedded Stripe are cut into pages (API reference, Pagination).

The cursors are ids: `starting_after` gives what comes after one in the list's order, `ending_before` what comes before.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from meter_sync.sandbox.stripe.endpoints.endpoint import Call
from meter_sync.sandbox.stripe.protocol.errors import no_such
from meter_sync.sandbox.stripe.protocol.parameters import Reader, text, whole
from meter_sync.sandbox.stripe.state.store import EVER, Key, Shelf, Store, StoredT
from meter_sync.sandbox.stripe.views.view import Json, View

PAGING: Mapping[str, Reader] = {
    "limit": whole(1, 100),
    "starting_after": text,
    "ending_before": text,
}
DEFAULT_LIMIT = 10


def page(
    call: Call,
    store: Store[StoredT],
    show: Callable[[View, StoredT], Json],
    matches: Callable[[StoredT], bool] = lambda _: True,
    shelf: Shelf | None = None,
) -> Json:
    """Return one page of a list, newest first: of all objects in a store, or of those on one of its shelves."""
    limit = call.params.get("limit", DEFAULT_LIMIT)
    shelf = store.everything if shelf is None else shelf
    if "ending_before" in call.params:
        newer = shelf.newer_than(_cursor(call, store, "ending_before"))
        found = _first(store, newer, matches, limit + 1)
        data = list(reversed(found[:limit]))
    else:
        after = _cursor(call, store, "starting_after") if "starting_after" in call.params else None
        found = _first(store, shelf.older_than(after, _seconds(call)), matches, limit + 1)
        data = found[:limit]
    return _list_json(call, [show(call.view, each) for each in data], has_more=len(found) > limit)


def page_of_rows(call: Call, kind: str, rows: list[Json]) -> Json:
    """Return one page of rows that are shown already, in their own order."""
    ids = [row["id"] for row in rows]
    limit = call.params.get("limit", DEFAULT_LIMIT)
    for name in ("starting_after", "ending_before"):
        if name in call.params and call.params[name] not in ids:
            raise no_such(kind, call.params[name], param=name, status=400)
    if "ending_before" in call.params:
        end = ids.index(call.params["ending_before"])
        start = max(0, end - limit)
        return _list_json(call, rows[start:end], has_more=start > 0)
    start = ids.index(call.params["starting_after"]) + 1 if "starting_after" in call.params else 0
    return _list_json(call, rows[start : start + limit], has_more=start + limit < len(rows))


def _list_json(call: Call, data: list[Json], *, has_more: bool) -> Json:
    return {"object": "list", "data": data, "has_more": has_more, "url": call.path}


def _seconds(call: Call) -> range:
    """Return in which seconds what is listed was created, so that a long list is not gone through for a few of them."""
    bounds = call.params.get("created", {})
    first = max(bounds.get("gte", 0), bounds.get("gt", -1) + 1)
    end = min(bounds.get("lt", EVER.stop), bounds.get("lte", EVER.stop) + 1)
    return range(first, max(first, end))


def _cursor(call: Call, store: Store[StoredT], param: str) -> Key:
    key = store.key(call.params[param])
    if key is None:
        raise no_such(store.kind, call.params[param], param=param, status=400)
    return key


def _first(store: Store[StoredT], ids: Iterable[str], matches: Callable[[StoredT], bool], count: int) -> list[StoredT]:
    objects = (store[identifier] for identifier in ids)
    return list(islice((each for each in objects if matches(each)), count))
