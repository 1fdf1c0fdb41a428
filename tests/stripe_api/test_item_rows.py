"""Of a page of Stripe's list its items are kept, and not its rows, which are many times as large."""

import json
from urllib.request import Request, urlopen

from meter_sync.stripe_api.item_rows import ItemRows, Subscribed
from meter_sync.stripe_api.not_understood import Oddities
from meter_sync.stripe_api.subscriptions import SubscriptionData
from tests.support.growth import kept_bytes
from tests.support.world import World

_SUBSCRIPTIONS = 60


def page_of(world: World) -> str:
    """Return the page of subscriptions that Stripe answers, as text."""
    for number in range(_SUBSCRIPTIONS):
        world.subscribe(item_metadata={"plan": "pro", "seat": str(number % 3)})
    asked = Request(f"{world.sandbox.stripe_url}/v1/subscriptions?limit=100")  # noqa: S310 - the sandbox's own address
    asked.add_header("Authorization", f"Bearer {world.sandbox.stripe_key}")
    with urlopen(asked) as answer:  # noqa: S310
        return str(answer.read().decode())


def subscribed(page: str) -> list[Subscribed]:
    rows = ItemRows(Oddities())
    return [rows.subscribed(SubscriptionData.read(row, "a subscription")) for row in json.loads(page)["data"]]


def test_of_a_row_its_item_is_kept_and_nothing_else(world: World) -> None:
    page = page_of(world)
    assert kept_bytes(lambda: subscribed(page)) < kept_bytes(lambda: json.loads(page)) / 3


def test_what_says_the_same_of_many_items_is_there_once(world: World) -> None:
    items = [item for one in subscribed(page_of(world)) for item in one.items]
    assert len(items) == _SUBSCRIPTIONS
    assert len({id(item.metadata) for item in items}) == 3
    assert len({id(item.price) for item in items}) == len({id(item.subscription.metadata) for item in items}) == 1
