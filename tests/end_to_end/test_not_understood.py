"""A row of a list that this version does not understand costs its own items, which are named, and nobody else.

Runs are the program's own, in this process and over real HTTP; invoices are the sandbox's.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from meter_sync.core.outcomes import ExitCode
from meter_sync.core.planning.selection import Selection
from meter_sync.sandbox import Fault
from tests.support.runs import executed
from tests.support.ways import ALL_WAYS, by_tier, end_of, invoiced, metered_price, one_fast, subscribed
from tests.support.world import METER, NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
UNKNOWN = ("skipped", "unknown_to_this_version")

Change = Callable[[Any], object]


def answer(world: World, path: str, change: Callable[[Any], object], server: str = "stripe") -> None:
    """Have a server's answers on a path changed from now on."""

    def rewrite(body: str) -> bytes:
        document = json.loads(body)
        for row in document["data"] if isinstance(document, dict) and "data" in document else [document]:
            for one in row if isinstance(row, list) else [row]:
                change(one)
        return json.dumps(document).encode()

    world.sandbox.faults.add(Fault(server=server, method="GET", path=path, times=None, rewrite=rewrite))  # type: ignore[arg-type]


def of(id: str, change: Change, *others: str) -> Change:
    """Return the change where it is about one thing, or one of these others."""
    return lambda row: change(row) if row.get("id") in (id, *others) else None


def put(name: str, value: object) -> Change:
    return lambda row: row.update({name: value})


def in_items(change: Change) -> Change:
    return lambda row: [change(item) for item in row["items"]["data"]]


def in_price(change: Change) -> Change:
    return in_items(lambda item: change(item["price"]))


SUBSCRIPTIONS: dict[str, Change] = {
    "a status that is no text": put("status", 7),
    "metadata that is no text": put("metadata", {"seats": 3}),
    "an end that is no time": put("cancel_at", "tomorrow"),
    "no billing mode that could be read": put("billing_mode", {"type": 7}),
    "an item's metadata": in_items(put("metadata", None)),
    "an item's subscription": in_items(put("subscription", "sub_other")),
    "a usage type of another kind": in_price(lambda price: price["recurring"].update(usage_type="prepaid")),
    "a usage type that is none": in_price(lambda price: price["recurring"].update(usage_type=None)),
    "an item that is there twice": lambda row: row["items"]["data"].append(row["items"]["data"][0]),
}


@pytest.mark.parametrize("what", one_fast(SUBSCRIPTIONS, next(iter(SUBSCRIPTIONS))))
@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_a_subscription_that_is_not_understood_is_named_and_all_others_are_billed(
    world: World, what: str, way: str
) -> None:
    odd, healthy = subscribed(world, way), world.subscribe()
    for one in (odd, healthy):
        world.use(one, 5)
    answer(world, "/v1/subscriptions$", of(odd.id, SUBSCRIPTIONS[what]))
    for _ in range(2):
        with capture_logs() as logged:
            report = executed(world)
        said = {one.item.id: (str(one.outcome), str(one.reason)) for one in report.results}
        assert (report.error, report.exit_code, said[odd.items[0]]) == (None, ExitCode.ATTENTION, UNKNOWN)
        assert {one["id"] for one in logged if one["event"] == "not_understood"} <= {odd.id, odd.items[0]}
    assert (world.billed(odd), world.billed(healthy)) == (0, 5)

    world.sandbox.faults.clear()
    assert executed(world).exit_code is ExitCode.DONE
    assert world.billed(odd) == 5


@pytest.mark.parametrize("what", ["price", "licensed", "meter", "meter twice"])
def test_a_price_or_a_meter_that_is_not_understood_costs_its_own_items(world: World, what: str) -> None:
    price = metered_price(world, "hours")
    meter = str(world.stripe.state.prices[price].meter)
    odd, healthy = world.subscribe(price), world.subscribe()
    for one in (odd, healthy):
        world.use(one, 5)
    if what == "price":
        answer(world, "/v1/prices", of(price, put("product", None)))
    elif what == "licensed":
        answer(world, "/v1/prices", of(price, lambda row: row["recurring"].update(usage_type="licensed")))
    elif what == "meter":
        answer(world, "/v1/billing/meters$", of(meter, put("value_settings", 7)))
    else:
        world.stripe.add_meter("same", formula="sum", window="hour")
        answer(world, "/v1/billing/meters$", put("event_name", "same"))
    done = world.run()
    item = done.items[odd.items[0]]
    assert (done.code, (item["outcome"], item["reason"])) == (4, UNKNOWN)
    assert "update meter-sync" in item["message"]
    assert (world.billed(odd), world.billed(healthy)) == (0, 5)
    assert world.meter_sync("verify", "--output", "json").items[odd.items[0]]["reason"] == UNKNOWN[1]


@pytest.mark.parametrize("change", [put("status", "frozen"), put("metadata", 7), in_price(put("id", 7))])
def test_a_subscription_without_usage_or_a_meter_that_nobody_uses_disturbs_nobody(world: World, change: Change) -> None:
    unused = world.stripe.add_meter("unused", formula="sum", window="hour")
    priced = world.subscribe(metered_price(world, "hours"))
    customer = world.customer_of(priced)
    flat = world.subscribe(world.stripe.add_price(usage_type="licensed"), customer=customer)
    world.use(priced, 5)
    answer(world, "/v1/subscriptions$", of(flat.id, change))
    answer(world, "/v1/billing/meters$", of(unused, put("customer_mapping", None)))
    done = world.run("--customer", customer)
    assert (done.code, done.verdict) == (0, ("reported", None))
    assert world.run().code == 0


LOST: dict[str, Change] = {
    "its customer": put("customer", 7),
    "its items": put("items", {"data": [7], "has_more": False}),
    "an item's period": in_items(put("current_period_end", None)),
    "an item's id": in_items(put("id", "../si_1")),
}
"""What a subscription, or an item, cannot even be named without."""


@pytest.mark.parametrize("what", one_fast(LOST, next(iter(LOST))))
def test_what_cannot_even_be_named_is_named_as_the_ledger_knows_it_and_its_period_goes_on(
    world: World, what: str
) -> None:
    odd, healthy = world.subscribe(), world.subscribe()
    for one in (odd, healthy):
        world.use(one, 5)
    executed(world)
    new = world.subscribe()
    answer(world, "/v1/subscriptions", of(odd.id, LOST[what], new.id))
    for one in (odd, healthy):
        world.use(one, 2)
    with capture_logs() as logged:
        report = executed(world)
    said = {one.item.id: (str(one.outcome), str(one.reason)) for one in report.results}
    assert (report.error, said.get(odd.items[0]), said.get(new.items[0])) == (None, UNKNOWN, None)
    warned = [one["message"] for one in logged if one["event"] == "not_understood"]
    assert any(new.id in one or new.items[0] in one for one in warned)
    assert (world.billed(odd), world.billed(healthy)) == (5, 7)

    world.sandbox.faults.clear()
    assert executed(world).exit_code is ExitCode.DONE
    assert (world.billed(odd), world.unbilled()) == (7, {})


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_what_is_not_understood_until_its_end_is_listed_as_unknown(world: World, way: str) -> None:
    odd = subscribed(world, way)
    end = end_of(world, odd)
    world.use(odd, 5)
    executed(world)
    answer(world, "/v1/subscriptions", of(odd.id, put("metadata", None)))
    world.use(odd, 4)
    for instant in (NOW + DAY, end - MINUTE, end + 2 * MINUTE, end + 2 * HOUR, end + 5 * DAY):
        world.sandbox.clock.move_to(instant)
        assert executed(world).error is None
    listed = world.meter_sync("history", "--unbilled", "--output", "json").document["unbilled"]
    assert [(row["subscription_item"], row["unbilled"]) for row in listed][:1] == [(odd.items[0], None)]
    assert invoiced(world) == 5


def put_name(row: Any, name: object) -> None:
    """Change the name of a meter, which API v3 calls its key."""
    row["slug" if "slug" in row else "key"] = name


METERS: dict[str, Change] = {
    "the aggregation 'PERCENTILE'": put("aggregation", "PERCENTILE"),
    "its aggregation is no text": put("aggregation", 7),
    "2 meters of the name gauge": lambda row: put_name(row, "gauge"),
}


@pytest.mark.parametrize("openmeter_version", ["v1", pytest.param("v3", marks=pytest.mark.every_way)], indirect=True)
@pytest.mark.parametrize("said", METERS)
@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_is_not_known_of_an_openmeter_meter_is_said_and_costs_its_own_items(
    world: World, said: str, way: str
) -> None:
    world.openmeter.add_meter("gauge")
    world.openmeter.add_meter("spare")
    odd = subscribed(world, way)
    world.stripe.state.items[odd.items[0]].metadata["om_meter_id"] = "gauge"
    healthy = world.subscribe()
    for one, meter in ((odd, "gauge"), (healthy, METER)):
        world.use(one, 5, meter=meter)
    answer(world, "/meters$", lambda row: METERS[said](row) if METER not in row.values() else None, "openmeter")
    done = world.run()
    item = done.items[odd.items[0]]
    assert (done.code, (item["outcome"], item["reason"])) == (4, UNKNOWN)
    assert said in item["message"]
    assert "create it" not in item["message"]
    assert (world.billed(odd), world.billed(healthy)) == (0, 5)


@pytest.mark.parametrize("openmeter_version", ["v1", "v3"], indirect=True)
@pytest.mark.parametrize(
    "change", [put("aggregation", "PERCENTILE"), lambda row: put_name(row, None), lambda row: row.clear()]
)
def test_an_openmeter_meter_that_nobody_uses_disturbs_nobody(world: World, change: Change) -> None:
    world.openmeter.add_meter("unused")
    world.use(world.subscribe(), 5)
    answer(world, "/meters$", lambda row: change(row) if "unused" in row.values() else None, "openmeter")
    done = world.run()
    assert (done.code, done.verdict) == (0, ("reported", None))


@pytest.mark.parametrize("path", ["/v1/subscriptions$", "/v1/prices$", "/v1/billing/meters$"])
@pytest.mark.parametrize("body", ['{"data": 7, "has_more": false}', '{"data": [{"id": 7}], "has_more": false}', "7"])
def test_what_is_no_list_at_all_still_ends_the_run(world: World, path: str, body: str) -> None:
    world.use(world.subscribe(metered_price(world, "hours")), 5)
    world.sandbox.faults.add(Fault(server="stripe", method="GET", path=path, times=None, replace_text=body))
    assert executed(world).exit_code in (ExitCode.FAILED, ExitCode.TRY_AGAIN)
    assert world.writes == []


@pytest.mark.parametrize("change", [put("status", 7), in_items(put("metadata", None))])
def test_of_subscriptions_that_are_selected_only_the_one_that_is_not_understood_is_left(
    world: World, change: Change
) -> None:
    odd, healthy = world.subscribe(), world.subscribe()
    for one in (odd, healthy):
        world.use(one, 5)
    answer(world, "/v1/subscriptions/", of(odd.id, change))
    report = executed(world, selection=Selection(subscriptions=(odd.id, healthy.id)))
    said = {one.item.id: str(one.reason) for one in report.results}
    assert (report.error, report.exit_code) == (None, ExitCode.ATTENTION)
    assert said == {odd.items[0]: UNKNOWN[1], healthy.items[0]: "None"}
    assert (world.billed(odd), world.billed(healthy)) == (0, 5)
