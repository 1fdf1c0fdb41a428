"""An identifier of a meter event is taken once in 24 hours."""

from meter_sync.sandbox import Sandbox

from .instants import DAY, SECOND
from .metering import EVENTS, Meter


def test_an_identifier_is_unique_for_24_hours_and_counts_again_afterwards(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    assert usage.send(5, identifier="once").status == 200
    sandbox.clock.advance(DAY - SECOND)
    repeated = usage.send(5, identifier="once")
    assert (repeated.status, repeated.error["param"]) == (400, "identifier")
    assert repeated.error["message"] == "An event already exists with identifier once."
    assert usage.upcoming() == 5
    sandbox.clock.advance(SECOND)
    assert usage.send(5, identifier="once").status == 200
    assert usage.upcoming() == 10


def test_an_event_without_an_identifier_is_given_one_of_its_own(metered: Meter) -> None:
    usage = metered()
    first, second = (usage.send(5).json["identifier"] for _ in range(2))
    assert first != second
    assert usage.upcoming() == 10


def test_an_identifier_has_at_most_100_characters(metered: Meter) -> None:
    usage = metered()
    assert usage.send(5, identifier="x" * 100).status == 200
    refused = usage.send(5, identifier="x" * 101)
    assert (refused.status, refused.error["param"]) == (400, "identifier")


def test_a_repeated_idempotency_key_is_answered_from_memory_and_counts_once(metered: Meter) -> None:
    usage = metered()
    event = {
        "event_name": usage.event_name,
        "payload[stripe_customer_id]": usage.customer,
        "payload[value]": 5,
        "identifier": "once",
    }
    first, again, other = (
        usage.stripe("POST", EVENTS, event, idempotency_key=key) for key in ("key", "key", "another")
    )
    assert [reply.status for reply in (first, again, other)] == [200, 200, 400]
    assert again.json == first.json
    assert usage.upcoming() == 5
