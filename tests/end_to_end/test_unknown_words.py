"""A word of Stripe's that this version does not know costs the items that it is said of, and never the run."""

import json
from datetime import timedelta
from typing import Any

import pytest

from meter_sync.sandbox import Fault
from tests.support.ways import end_of, invoiced, metered
from tests.support.world import METER, NOW, World

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
UNKNOWN = ("skipped", "unknown_to_this_version")

WORDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "frozen": ("/v1/subscriptions", "subscription", {"status": "frozen"}),
    "hybrid": ("/v1/subscriptions", "subscription", {"billing_mode": {"type": "hybrid"}}),
    "median": ("/v1/prices", "legacy price", {"recurring": {"aggregate_usage": "median"}}),
    "percentile": ("/v1/billing/meters", "meter", {"default_aggregation": {"formula": "percentile"}}),
    "minute": ("/v1/billing/meters", "meter", {"event_time_window": "minute"}),
    "asleep": ("/v1/billing/meters", "meter", {"status": "asleep"}),
}
"""The word, where Stripe says it, of what, and how."""


def have_stripe_say(world: World, path: str, of: str | None, words: dict[str, Any]) -> None:
    """Have Stripe use these words in its answers: of one object, or of each one in a list."""

    def rewrite(body: str) -> bytes:
        document = json.loads(body)
        for one in document.get("data", [document]):
            if of in (None, one["id"]):
                for name, word in words.items():
                    one[name] = {**(one.get(name) or {}), **word} if isinstance(word, dict) else word
        return json.dumps(document).encode()

    world.sandbox.faults.add(Fault(server="stripe", method="GET", path=path, times=None, rewrite=rewrite))


@pytest.mark.parametrize("word", WORDS)
def test_an_unknown_word_skips_the_items_that_it_is_said_of_and_bills_all_others(world: World, word: str) -> None:
    path, kind, words = WORDS[word]
    meter = world.stripe.add_meter("hourly", formula="sum", window="hour")
    price = world.stripe.add_price(metadata={"om_meter_id": METER}, meter=meter if kind == "meter" else None)
    odd, healthy = world.subscribe(price), world.subscribe()
    for each in (odd, healthy):
        world.use(each, 5)
    said_of = {"subscription": odd.id, "legacy price": price, "meter": meter}[kind]
    have_stripe_say(world, path, said_of, words)

    done, verified = world.run(), world.meter_sync("verify", "--output", "json")

    item = done.items[odd.items[0]]
    assert (done.code, (item["outcome"], item["reason"])) == (4, UNKNOWN)
    assert word in item["message"]
    assert said_of in item["message"]
    assert "update meter-sync" in item["message"]
    assert verified.items[odd.items[0]]["reason"] == "unknown_to_this_version"
    assert (world.billed(odd), world.billed(healthy)) == (0, 5)


@pytest.mark.parametrize("word", WORDS)
def test_once_the_word_is_known_the_item_is_billed_in_full(world: World, word: str) -> None:
    path, kind, words = WORDS[word]
    meter = world.stripe.add_meter("hourly", formula="sum", window="hour")
    price = world.stripe.add_price(metadata={"om_meter_id": METER}, meter=meter if kind == "meter" else None)
    odd = world.subscribe(price)
    world.use(odd, 5)
    have_stripe_say(world, path, {"subscription": odd.id, "legacy price": price, "meter": meter}[kind], words)
    assert world.verdict(odd) == "unknown_to_this_version"
    world.sandbox.faults.clear()

    assert world.verdict(odd) == "reported"
    assert world.billed(odd) == 5


@pytest.mark.parametrize("way", ["hours", "last", "additions"])
def test_an_invoice_in_an_unknown_status_leaves_its_period_to_the_version_that_knows_it(world: World, way: str) -> None:
    subscription = metered(world, way)
    world.use(subscription, 5, at=NOW - DAY)
    world.execute()
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end + MINUTE)
    world.execute()
    world.use(subscription, 4, at=end - 2 * DAY)
    world.sandbox.clock.move_to(end + 2 * MINUTE)
    have_stripe_say(world, "/v1/invoices$", None, {"status": "sealed"})

    world.execute()

    (over,) = [one for one in world.last_results if one.item.period.end == end]
    assert (over.outcome, over.reason) == UNKNOWN
    assert (invoiced(world), world.unbilled()) == (5, {})
    world.sandbox.faults.clear()
    world.sandbox.clock.move_to(end + 3 * MINUTE)
    world.execute()
    assert (invoiced(world), world.unbilled()) == (9, {})


def test_an_item_whose_word_was_unknown_when_it_ended_is_not_billed_by_what_the_ledger_knows(world: World) -> None:
    subscription = metered(world, "hours")
    world.use(subscription, 5, at=NOW - DAY)
    path, _, words = WORDS["hybrid"]
    have_stripe_say(world, path, subscription.id, words)
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscription) - timedelta(seconds=30))

    closing = world.close_in_time(MINUTE)

    assert str(closing[subscription.items[0]].reason) == "unknown_to_this_version"
    assert world.writes == []
