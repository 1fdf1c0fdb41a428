"""What goes wrong on the wire spoils nothing else, and the next run leaves the invoice right."""

from typing import Any

import pytest

from meter_sync.sandbox import Fault
from tests.support.ways import one_fast
from tests.support.world import METER, World, interrupt

RECORDS = "/usage_records$"
QUERY = "/query$"


EFFECTS: tuple[dict[str, Any], ...] = (
    {"drop": "before"},
    {"drop": "after"},
    {"truncate": True},
    {"status": 500},
    {"status": 500, "saved": True},
    {"status": 409},
    {"status": 429},
    {"status": 429, "headers": {"Stripe-Rate-Limited-Reason": "endpoint-rate", "Retry-After": "1"}},
    {"replace_text": "<html>", "replace_content_type": "text/html"},
    {"replace_text": "[]"},
)


@pytest.mark.parametrize("effect", one_fast(EFFECTS, EFFECTS[1]))
def test_a_write_that_went_wrong_is_repeated_and_bills_once(world: World, effect: dict[str, Any]) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(server="stripe", path=RECORDS, **effect))

    done = world.run(METER_SYNC_RETRY_SECONDS="10")

    assert (done.code, done.verdict) == (0, ("reported", None))
    assert len(world.writes) == 2
    assert world.billed(subscription) == 5


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_write_of_unknown_outcome_is_set_again_by_the_next_run(world: World, drop: Any) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(server="stripe", path=RECORDS, times=None, drop=drop))
    failed = world.run(METER_SYNC_RETRY_SECONDS="0.1")
    assert (failed.code, failed.verdict) == (1, ("failed", "stripe_error"))
    assert "next run" in failed.item["message"]
    world.sandbox.faults.clear()
    world.use(subscription, 2)

    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == 7


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_signal_between_two_attempts_leaves_an_unknown_outcome_and_says_so(world: World, drop: Any) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(server="stripe", path=RECORDS, times=None, drop=drop))
    process = world.start("run", "--output", "json", "--as-of", world.now.isoformat(), METER_SYNC_RETRY_SECONDS="60")
    world.sandbox.wait_for("POST", "/usage_records")

    ended = interrupt(process)

    assert (ended.code, ended.verdict) == (1, ("failed", "stripe_error"))
    assert "unknown" in ended.item["message"]
    world.sandbox.faults.clear()
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "4"
    assert world.run().verdict == ("held", "decrease")
    assert world.run("--allow", "decrease").verdict == ("reported", None)
    assert world.billed(subscription) == 4


def test_a_refusal_after_an_unanswered_attempt_leaves_the_outcome_unknown(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(server="stripe", path=RECORDS, drop="after"))
    world.sandbox.faults.add(Fault(server="stripe", path=RECORDS, times=None, status=400))

    done = world.run(METER_SYNC_RETRY_SECONDS="10")

    assert done.verdict == ("failed", "stripe_error")
    assert "unknown" in done.item["message"]
    world.sandbox.faults.clear()
    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == 5


def test_one_refused_item_does_not_stop_the_others(world: World) -> None:
    subscriptions = [world.subscribe() for _ in range(5)]
    for subscription in subscriptions:
        world.use(subscription, 5)
    refused = subscriptions[2].items[0]
    world.sandbox.faults.add(Fault(server="stripe", path=f"{refused}/usage_records", status=400, times=None))

    done = world.run()

    assert done.code == 3
    assert {item: row["outcome"] for item, row in done.items.items() if row["outcome"] != "reported"} == {
        refused: "failed"
    }
    assert [world.billed(subscription) for subscription in subscriptions] == [5, 5, 0, 5, 5]


@pytest.mark.parametrize(
    "effect",
    [
        {"status": 500},
        {"status": 503},
        {"status": 400},
        {"status": 404},
        {"drop": "after"},
        {"truncate": True},
        {"replace_text": '{"data": []', "replace_content_type": "application/json"},
        {"replace_text": '{"data": null}', "replace_content_type": "application/json"},
        {"replace_text": '{"from": "2020-01-01T00:00:00Z", "data": []}', "replace_content_type": "application/json"},
        {
            "replace_text": '{"data": [{"subject": "somebody", "value": 1}]}',
            "replace_content_type": "application/json",
        },
        {"replace_text": "", "replace_content_type": "text/html"},
        {"status": 302, "headers": {"Location": "http://127.0.0.1:9/"}},
    ],
)
def test_no_answer_is_not_zero(world: World, effect: dict[str, Any]) -> None:
    subscription = world.subscribe()
    world.use(subscription, 100)
    world.run()
    world.sandbox.faults.add(Fault(server="openmeter", path=QUERY, times=None, **effect))

    done = world.run("--allow", "decrease", "--resend", METER_SYNC_RETRY_SECONDS="0.1")

    assert (done.code, done.verdict) == (1, ("failed", "openmeter_error"))
    assert world.billed(subscription) == 100


def test_a_query_that_failed_once_is_asked_again(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(server="openmeter", path=QUERY, status=500))

    assert world.run(METER_SYNC_RETRY_SECONDS="10").verdict == ("reported", None)
    assert world.billed(subscription) == 5


def test_one_unanswered_query_leaves_the_other_items_reported(world: World) -> None:
    world.openmeter.add_meter("tokens", aggregation="SUM")
    tokens = world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "tokens"}))
    requests = world.subscribe()
    world.use(tokens, 3, meter="tokens")
    world.use(requests, 5)
    world.sandbox.faults.add(Fault(server="openmeter", path=world.query_path("tokens"), status=500, times=None))

    done = world.run(METER_SYNC_RETRY_SECONDS="0.1")

    assert done.code == 3
    assert (world.billed(tokens), world.billed(requests)) == (0, 5)


@pytest.mark.parametrize("openmeter_version", ["v1"], indirect=True)
def test_a_server_that_only_knows_minutes_ends_the_run(world: World) -> None:
    world.subscribe()
    world.openmeter.requires_minutes = True

    done = world.run()

    assert (done.code, done.error_code) == (78, "openmeter_too_old")
    assert "upgrade" in done.document["error"]["hint"]
    assert not world.writes


@pytest.mark.parametrize(
    ("address", "code"),
    [("STRIPE_API_BASE", "stripe_unreachable"), ("OPENMETER_URL", "openmeter_unreachable")],
)
def test_a_server_that_cannot_be_reached_is_tried_again_later(world: World, address: str, code: str) -> None:
    world.subscribe()

    done = world.run(METER_SYNC_RETRY_SECONDS="0.1", **{address: "http://127.0.0.1:9"})

    assert (done.code, done.error_code) == (75, code)
    assert not world.writes


def test_a_wrong_stripe_key_says_so_without_showing_it(world: World) -> None:
    world.subscribe()

    done = world.run(STRIPE_API_KEY="sk_test_wrongwrongwrong")

    assert (done.code, done.error_code) == (78, "stripe_key")
    assert "wrongwrong" not in done.stdout + done.stderr


def test_a_missing_permission_is_named(world: World) -> None:
    world.subscribe()
    world.stripe.keys["rk_test_restricted"] = frozenset({"prices:read"})

    done = world.run(STRIPE_API_KEY="rk_test_restricted")

    assert (done.code, done.error_code) == (78, "stripe_permission")


def test_a_key_that_may_not_write_ends_the_reporting_with_every_item_named(world: World) -> None:
    for _ in range(3):
        world.use(world.subscribe(), 5)
    world.stripe.keys["rk_test_reader"] = frozenset({"prices:read", "subscriptions:read", "usage_records:read"})

    done = world.run(STRIPE_API_KEY="rk_test_reader")

    assert (done.code, done.error_code) == (78, "stripe_permission")
    assert [row["outcome"] for row in done.items.values()] == ["failed"] * 3


def test_a_wrong_openmeter_key_says_so(world: World) -> None:
    world.subscribe()

    done = world.run(OPENMETER_API_KEY="om_wrong")

    assert (done.code, done.error_code) == (78, "openmeter_key")


def test_an_address_that_is_not_openmeter_says_so(world: World) -> None:
    world.subscribe()

    done = world.run(OPENMETER_URL=world.sandbox.stripe_url)

    assert done.code == 78
    assert not world.writes


@pytest.mark.parametrize(("server", "path"), [("stripe", "/v1/prices"), ("openmeter", "/meters$")])
def test_a_redirect_is_not_followed_with_a_key(world: World, server: Any, path: str) -> None:
    world.subscribe()
    elsewhere = {"Location": f"{world.sandbox.stripe_url}/stolen"}
    world.sandbox.faults.add(Fault(server=server, path=path, times=None, status=302, headers=elsewhere))

    done = world.run(METER_SYNC_RETRY_SECONDS="0.1")

    assert done.code == 78
    assert not world.seen("GET", "/stolen")


def test_a_page_that_breaks_off_in_the_listing_is_read_again(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/subscriptions$", truncate=True))

    assert world.run(METER_SYNC_RETRY_SECONDS="10").verdict == ("reported", None)


def test_a_listing_that_is_not_understood_writes_nothing(world: World) -> None:
    world.subscribe()
    world.sandbox.faults.add(
        Fault(
            server="stripe",
            path="/v1/subscriptions$",
            times=None,
            replace_text='{"data": [{"id": "sub_1", "status": "active"}], "has_more": false}',
            replace_content_type="application/json",
        )
    )

    done = world.run()

    assert (done.code, done.error_code) == (1, "stripe_answer")
    assert not world.writes


def test_a_single_refusal_holds_up_nothing_but_what_was_refused(world: World) -> None:
    for _ in range(12):
        world.use(world.subscribe(), 5)
    world.sandbox.faults.add(
        Fault(server="stripe", path=RECORDS, status=429, headers={"Stripe-Rate-Limited-Reason": "endpoint-rate"})
    )

    assert world.run(METER_SYNC_RETRY_SECONDS="10").code == 0

    refused = next(request for request in world.sandbox.requests if request.status == 429)
    others = [one for one in world.seen("POST", "/usage_records") if one.path != refused.path]
    assert len(others) == 11
    assert max(one.at for one in others) - refused.at <= 0.9


def test_what_another_meter_measures_is_not_asked_for(world: World) -> None:
    world.openmeter.add_meter("unrelated", aggregation="SUM")
    world.subscribe()
    world.run()

    assert {request.path for request in world.seen("POST", "/query")} == {world.query_path(METER)}


def test_a_page_that_is_not_stripes_on_one_write_is_its_items_own_matter(world: World) -> None:
    blocked, healthy = world.subscribe(), world.subscribe()
    for subscription in (blocked, healthy):
        world.use(subscription, 5)
    world.sandbox.faults.add(
        Fault(
            server="stripe", path=f"{blocked.items[0]}/usage_records$", times=None, status=400, text="<html>no</html>"
        )
    )

    done = world.run()

    assert done.code == 3
    assert world.billed(healthy) == 5


def test_a_look_that_was_refused_fails_its_item_and_no_other(world: World) -> None:
    refused, healthy = world.subscribe(), world.subscribe()
    for subscription in (refused, healthy):
        world.use(subscription, 5)
    world.sandbox.faults.add(
        Fault(server="stripe", path=f"{refused.items[0]}/usage_record_summaries", status=400, times=None)
    )

    done = world.run()

    assert done.code == 3
    assert (world.billed(refused), world.billed(healthy)) == (0, 5)


def test_a_stripe_that_went_away_is_not_asked_for_every_item(world: World) -> None:
    subscriptions = [world.subscribe() for _ in range(300)]
    for subscription in subscriptions:
        world.use(subscription, 5)
    fast = {"METER_SYNC_STRIPE_RATE": "1000", "METER_SYNC_STRIPE_ENDPOINT_RATE": "1000"}
    world.sandbox.faults.add(Fault(server="stripe", path=RECORDS, times=None, status=503))

    done = world.run(METER_SYNC_RETRY_SECONDS="0.1", **fast)

    assert (done.code, len(done.items)) == (1, 300)
    assert {row["reason"] for row in done.items.values()} == {"stripe_error"}
    assert any("not tried" in row["message"] for row in done.items.values())
    world.sandbox.faults.clear()
    assert world.run(**fast).code == 0
    assert all(world.billed(subscription) == 5 for subscription in subscriptions)
