"""Reading a list of Stripe's page by page: all of it, each row once, and nothing for ever; or the thing of one id."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

from meter_sync.stripe_api.connection import CURRENT_VERSION, StripeReader, StripeRefused, StripeUnavailable
from meter_sync.stripe_api.shapes import Identified, NotUnderstood, Page

PAGE_SIZE = 100

Found = TypeVar("Found", bound=Identified)


async def pages(
    stripe: StripeReader, path: str, endpoint: str, params: Mapping[str, Any], version: str = CURRENT_VERSION
) -> AsyncIterator[dict[str, Any]]:
    """Yield the rows of all pages of a list, whose shape is not looked at but for their ids.

    Pages follow each other by the id of their last row, so that an id that comes again means a list that never ends, or
    one that would be counted twice. Raise NotUnderstood, also for a list that says that it goes on and does not; and
    what StripeReader raises.
    """
    seen: set[str] = set()
    after: dict[str, str] = {}
    what = list_at(path)
    while True:
        page = await page_of(stripe, path, endpoint, {**params, **after}, version)
        for row in page.data:
            id = Identified.read(row, what).id
            if id in seen:
                raise NotUnderstood(what, f"it has {id} twice")
            seen.add(id)
            yield row
        if not page.has_more:
            return
        if not page.data:
            raise NotUnderstood(what, "it goes on, but with nothing")
        after = {"starting_after": id}


async def page_of(
    stripe: StripeReader,
    path: str,
    endpoint: str,
    params: Mapping[str, Any],
    version: str = CURRENT_VERSION,
    *,
    limit: int = PAGE_SIZE,
) -> Page[dict[str, Any]]:
    """Return one page of a list, of up to `limit` rows. Raise NotUnderstood, or what StripeReader raises."""
    answer = await stripe.get(path, endpoint, {**params, "limit": limit}, version)
    return Page[dict[str, Any]].read(answer, list_at(path))


def list_at(path: str) -> str:
    """Return what a list is called when it is spoken of."""
    return f"the list at {path}"


async def rows(
    shape: type[Found], stripe: StripeReader, path: str, endpoint: str, what: str, params: Mapping[str, Any]
) -> list[Found]:
    """Return the rows of all pages of a list in their shape; `what` names one of them for a person.

    Raise StripeRefused, also for what is not understood, StripeUnavailable or ConfigurationError.
    """
    with refusing():
        return [shape.read(row, what) async for row in pages(stripe, path, endpoint, params)]


async def by_id(
    shape: type[Found], stripe: StripeReader, kind: str, id: str, params: dict[str, Any], version: str = CURRENT_VERSION
) -> Found:
    """Return the thing of a kind, such as `price`, that has an id. Raise NotUnderstood, or what StripeReader raises."""
    answer = await stripe.get(f"/v1/{kind}s/{quote(id, safe='')}", kind, params, version)
    found = shape.read(answer, f"{kind} {id}")
    if found.id != id:
        raise NotUnderstood(id, f"it is about {found.id}")
    return found


@contextmanager
def refusing() -> Iterator[None]:
    """Treat an answer that is not understood as a refusal: it is the matter of what was asked for, not of the run."""
    try:
        yield
    except NotUnderstood as error:
        raise StripeRefused(error.message) from error


@contextmanager
def in_doubt() -> Iterator[None]:
    """Treat an answer to a write that is not understood as none: whether it was carried out is unknown."""
    try:
        yield
    except NotUnderstood as error:
        raise StripeUnavailable(error.why) from error
