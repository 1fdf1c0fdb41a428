"""The meter event stream: how many hours, days and totals at once are sent, and what is sent singly all the same."""

import json
import os
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from stripe.params.v2.billing import MeterEventStreamCreateParams, MeterEventStreamCreateParamsEvent
from structlog.testing import capture_logs

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from meter_sync.stripe_api.connection import CURRENT_VERSION
from tests.support.streaming import (
    REQUESTS,
    SESSION,
    STREAM,
    STREAMED,
    billed,
    check_ledger,
    go_live,
    posted,
    streamed,
    use_hours,
    with_hours,
)
from tests.support.ways import EVENTS, NOT_FOUND, end_of, metered
from tests.support.world import METER, NOW, World

pytestmark = pytest.mark.every_way
"""That many hours go through the stream, tests/end_to_end/test_billing_meters.py has in the fast tier."""

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ALL_STREAMED = {("session", 200): 1, ("stream", 200): REQUESTS}


def outcomes(world: World) -> set[str]:
    return {str(one.reason or one.outcome) for one in world.last_results}


def check_all_is_billed(world: World, subscriptions: list[SubscriptionView]) -> None:
    assert outcomes(world) == {"reported"}
    assert billed(world, subscriptions) == STREAMED
    assert check_ledger(world) == STREAMED
    world.execute()
    assert outcomes(world) == {"unchanged"}


# -- when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how_many", "key", "setting", "sent"),
    [
        (STREAMED, "sk_live_1", "auto", ALL_STREAMED),
        (STREAMED, "rk_live_1", "auto", ALL_STREAMED),
        (STREAMED - 1, "sk_live_1", "auto", {("single", 200): STREAMED - 1}),
        (STREAMED, "sk_live_1", "never", {("single", 200): STREAMED}),
        (STREAMED, "sk_test_1", "auto", {("single", 200): STREAMED}),
    ],
)
def test_more_than_a_thousand_events_go_by_the_hundred_with_a_live_key(
    world: World, how_many: int, key: str, setting: str, sent: Counter[tuple[str, int]]
) -> None:
    subscriptions = with_hours(world, how_many)
    world.stripe.keys[key] = None
    world.sandbox.stripe_key = key
    world.configure(f'[stripe]\nmeter_event_stream = "{setting}"\n')
    world.execute()
    assert posted(world) == sent
    assert billed(world, subscriptions) == how_many


def test_a_dry_run_opens_no_session(world: World) -> None:
    with_hours(world)
    world.execute(dry_run=True)
    assert outcomes(world) == {"planned"}
    assert world.writes == []


def test_only_what_is_set_on_billing_meters_goes_through_the_stream(world: World) -> None:
    """An addition is safe to repeat only since Stripe says that it has it."""
    with_hours(world)
    others = [world.subscribe(), *(metered(world, way) for way in ("days", "last", "additions"))]
    for one in others:
        world.use(one, 5)
    world.execute()
    assert outcomes(world) == {"reported"}
    assert Counter(event["event_name"] for event in streamed(world)) == {
        f"hours_{METER}": STREAMED,
        f"days_{METER}": 1,
        f"last_{METER}": 1,
    }
    assert posted(world)["single", 200] == 1
    assert [world.billed(one) for one in others] == [5] * len(others)


def test_hours_that_changed_are_set_again_through_the_stream(world: World) -> None:
    subscriptions = with_hours(world)
    world.execute()
    for one in subscriptions:
        use_hours(world, one, world.billed(one))
    world.sandbox.clock.advance(DAY)  # since which all of the period is read
    posted(world)
    world.execute()
    assert posted(world) == ALL_STREAMED
    assert billed(world, subscriptions) == 2 * STREAMED
    assert check_ledger(world) == STREAMED


def test_a_closing_run_takes_the_stream_too(world: World) -> None:
    subscriptions = with_hours(world)
    end = end_of(world, subscriptions[0])
    world.execute()
    world.sandbox.clock.move_to(end - MINUTE)
    for one in subscriptions:
        use_hours(world, one, 250)
    posted(world)
    world.close_in_time(5 * MINUTE)
    sent = posted(world)
    assert (sent["session", 200], sent["single", 200]) == (1, 0)
    # The hour in which the period ends is the next one's.
    assert billed(world, subscriptions) == STREAMED + 249 * len(subscriptions)


# -- mishaps ---------------------------------------------------------------------------------------


def test_a_token_that_expires_in_the_midst_is_renewed_once(world: World) -> None:
    subscriptions = with_hours(world)

    def a_quarter_of_an_hour_later(body: str) -> bytes:
        world.sandbox.clock.advance(15 * MINUTE)
        world.sandbox.date_skew_seconds += 900
        return body.encode()

    world.sandbox.faults.add(Fault(path=STREAM, skip=2, rewrite=a_quarter_of_an_hour_later))
    world.execute()
    sent = posted(world)
    assert (sent["session", 200], sent["stream", 200], sent["single", 200]) == (2, REQUESTS, 0)
    assert sent["stream", 401] > 0
    check_all_is_billed(world, subscriptions)


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "billing_meter_event_session_expired"), (400, "billing_meter_event_session_expired"), (401, "")],
)
def test_tokens_that_are_never_good_lead_to_single_events(world: World, status: int, code: str) -> None:
    subscriptions = with_hours(world)
    said = f'{{"error": {{"type": "temporary_session_expired", "code": "{code}", "message": "It has expired."}}}}'
    world.sandbox.faults.add(Fault(path=STREAM, status=status, text=said, times=None))
    with capture_logs() as logged:
        world.execute()
    sent = posted(world)
    assert (sent["session", 200], sent["single", 200]) == (2, STREAMED)
    assert [one["event"] for one in logged if one["log_level"] == "warning"] == ["meter_event_stream_unusable"]
    check_all_is_billed(world, subscriptions)


@pytest.mark.parametrize("fault", [{"status": 403}, {"status": 400}, {"status": 503}, {"drop": "before"}], ids=str)
def test_without_a_session_events_go_singly_and_it_is_logged(world: World, fault: dict[str, int]) -> None:
    subscriptions = with_hours(world)
    world.sandbox.faults.add(Fault(path=SESSION, times=None, **fault))  # type: ignore[arg-type]
    with capture_logs() as logged:
        world.execute()
    sent = posted(world)
    assert (sent["stream", 200], sent["single", 200]) == (0, STREAMED)
    (warning,) = [one for one in logged if one["log_level"] == "warning"]
    assert (warning["event"], "no session" in warning["message"]) == ("meter_event_stream_unusable", True)
    check_all_is_billed(world, subscriptions)


@pytest.mark.parametrize("answer", ["{}", '{"authentication_token": "two\\nlines"}', '{"authentication_token": 7}'])
def test_a_session_that_is_none_is_not_believed(world: World, answer: str) -> None:
    subscriptions = with_hours(world)
    world.sandbox.faults.add(Fault(path=SESSION, replace_text=answer, times=None))
    world.execute()
    assert posted(world)["single", 200] == STREAMED
    check_all_is_billed(world, subscriptions)


def test_a_request_that_is_refused_as_a_whole_is_sent_event_by_event(world: World) -> None:
    """Then Stripe tells which of them it is."""
    *subscriptions, last = with_hours(world)
    world.sandbox.faults.add(Fault(path=STREAM, body=world.customer_of(last), status=400))
    world.sandbox.faults.add(Fault(path=EVENTS, body=world.customer_of(last), status=400))
    results = world.execute()
    sent = posted(world)
    assert (sent["stream", 200], sent["stream", 400]) == (REQUESTS - 1, 1)
    assert (sent["single", 200], sent["single", 400]) == (99, 1)
    failed = results.pop(last.items[0])
    assert (failed.reason, "Stripe refused one of its hours" in str(failed.message)) == ("stripe_error", True)
    assert {one.outcome for one in results.values()} == {"reported"}
    assert billed(world, subscriptions) == STREAMED - 1
    check_ledger(world)
    world.execute()
    assert billed(world, [*subscriptions, last]) == STREAMED


@pytest.mark.parametrize("drop", ["before", "after"])
@pytest.mark.parametrize(("retry_seconds", "singly"), [(0, 100), (20, 0)])
def test_a_request_whose_answer_is_lost_is_repeated_under_the_same_identifiers(
    world: World, drop: Literal["before", "after"], retry_seconds: int, singly: int
) -> None:
    subscriptions = with_hours(world)
    world.sandbox.faults.add(Fault(path=STREAM, skip=3, drop=drop))
    world.execute(retry_seconds=retry_seconds)
    names = Counter(event["identifier"] for event in streamed(world))
    assert (len(names), max(names.values())) == (STREAMED, 1 if singly else 2)
    sent = posted(world)
    assert sent["single", 400 if drop == "after" else 200] >= singly
    check_all_is_billed(world, subscriptions)
    assert len(world.stripe.state.identifiers) == STREAMED


def test_what_stripe_says_to_have_already_is_not_taken_for_rejected(world: World) -> None:
    subscriptions = with_hours(world)
    world.stripe.reports_streamed_duplicates = True
    world.sandbox.faults.add(Fault(path=STREAM, drop="after"))
    world.execute(retry_seconds=20)
    world.sandbox.clock.advance(5 * MINUTE)
    check_all_is_billed(world, subscriptions)
    (report,) = world.stripe.state.reports
    assert {event.rejected for event in report.rejected} == {"duplicate_meter_event"}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(world: World, status: int) -> None:
    subscriptions = with_hours(world)
    world.sandbox.faults.add(Fault(path=STREAM, skip=1, status=status))
    world.execute(retry_seconds=20)
    sent = posted(world)
    assert (sent["stream", 200], sent["stream", status], sent["single", 200]) == (REQUESTS, 1, 0)
    check_all_is_billed(world, subscriptions)


def test_a_stream_that_never_answers_is_given_up_and_nothing_is_lost(world: World) -> None:
    subscriptions = with_hours(world)
    world.sandbox.faults.add(Fault(path=STREAM, drop="after", times=None))
    with capture_logs() as logged:
        world.execute()
    assert [one["event"] for one in logged if one["log_level"] == "warning"] == ["meter_event_stream_unusable"]
    check_all_is_billed(world, subscriptions)
    assert len(world.stripe.state.identifiers) == STREAMED


@pytest.mark.parametrize("way", [EVENTS, f"{EVENTS}|{STREAM}"], ids=["singly", "at all"])
def test_what_neither_way_answers_is_not_taken_for_sent_nor_for_not_sent(world: World, way: str) -> None:
    subscriptions = with_hours(world)
    world.sandbox.faults.add(Fault(path=STREAM, skip=2, drop="after", times=None))
    world.sandbox.faults.add(Fault(path=way, drop="after", times=None))
    world.execute()
    assert "stripe_error" in outcomes(world)
    check_ledger(world)
    world.sandbox.faults.clear()
    world.sandbox.clock.advance(HOUR)
    world.execute()
    assert outcomes(world) <= {"reported", "unchanged"}
    assert billed(world, subscriptions) == STREAMED
    assert check_ledger(world) == STREAMED


@pytest.mark.parametrize("named", [2000, 0])
def test_what_is_rejected_afterwards_is_named_and_sent_again(world: World, named: int) -> None:
    subscriptions = with_hours(world)
    world.stripe.samples_per_error = named
    world.stripe.reject_meter_events_as = NOT_FOUND
    world.execute()
    assert outcomes(world) == {"reported"}
    assert billed(world, subscriptions) == 0
    world.stripe.reject_meter_events_as = None
    world.sandbox.clock.advance(5 * MINUTE)
    posted(world)
    world.execute()
    assert outcomes(world) == {"rejected"}
    world.execute()
    sent = posted(world)
    assert (sent["single", 200], sent["stream", 200]) == (0, REQUESTS)
    assert billed(world, subscriptions) == STREAMED


# -- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_number", [0, 1, 5, REQUESTS])
def test_what_was_taken_before_a_run_is_interrupted_is_recorded(world: World, request_number: int) -> None:
    subscriptions = with_hours(world, 3000)

    def end(body: str) -> bytes:
        os.kill(process.pid, signal.SIGTERM)
        return body.encode()

    world.sandbox.faults.add(Fault(path=f"{SESSION}|{STREAM}", skip=request_number, rewrite=end))
    process = world.start("run", "--output", "json", "--as-of", NOW.isoformat())
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stdout.count('"interrupted"') + stdout.count('"outcome": "reported"') == len(subscriptions)
    taken = 100 * posted(world)["stream", 200]
    assert 100 * request_number <= taken < 3000
    assert check_ledger(world) == billed(world, subscriptions) == taken
    world.execute()
    assert billed(world, subscriptions) == check_ledger(world) == 3000


@pytest.mark.parametrize("request_number", [0, 1, 6, REQUESTS])
def test_a_run_that_is_killed_while_a_request_is_answered_is_made_good_by_the_next(
    world: World, request_number: int
) -> None:
    subscriptions = with_hours(world)
    killed = []

    def kill(body: str) -> bytes:
        killed.append(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        return body.encode()

    world.sandbox.faults.add(Fault(path=f"{SESSION}|{STREAM}", skip=request_number, rewrite=kill))
    process = world.start("run", "--as-of", NOW.isoformat())
    process.communicate(timeout=60)
    assert killed == [process.pid]
    check_ledger(world)
    world.sandbox.clock.advance(3 * MINUTE)
    world.execute()
    assert billed(world, subscriptions) == check_ledger(world) == STREAMED


def test_the_token_is_nowhere(world: World) -> None:
    with_hours(world)
    done = world.meter_sync("--log-level", "debug", "run", "--as-of", NOW.isoformat())
    assert done.code == 0
    assert "/v2/billing/meter_event_stream" in done.stderr
    assert "token_1Sandbox" not in done.stdout + done.stderr
    assert b"token_1Sandbox" not in world.ledger.read_bytes()


def test_doctor_says_that_it_does_not_try_to_open_a_session(world: World) -> None:
    """It writes nothing."""
    go_live(world)
    done = world.meter_sync("doctor", "--only", "stripe", "--output", "json")
    (one,) = [one for one in done.document["checks"] if one["subject"] == "Meter event stream"]
    assert (one["id"], one["status"]) == ("stripe_permission", "skipped")
    assert world.writes == []
    never = {"METER_SYNC_STRIPE_METER_EVENT_STREAM": "never"}
    assert "stream" not in world.meter_sync("doctor", "--only", "stripe", "--output", "json", **never).stdout


def test_what_is_sent_is_what_the_sdk_would_send(world: World) -> None:
    """It is generated from Stripe's document of the API version that is spoken."""
    with_hours(world)
    world.execute()
    bodies = [json.loads(request.body) for request in world.seen("POST", STREAM.removesuffix("$"))]
    for body in bodies:
        assert body.keys() == MeterEventStreamCreateParams.__annotations__.keys()
        for event in body["events"]:
            assert event.keys() == MeterEventStreamCreateParamsEvent.__annotations__.keys()
            assert {type(value) for value in (*event["payload"].values(), event["identifier"])} == {str}
            assert datetime.fromisoformat(event["timestamp"]).tzinfo == UTC
    assert len(bodies) == REQUESTS
    (headers,) = {
        (request.headers["stripe-version"], request.headers["content-type"])
        for request in world.seen("POST", STREAM.removesuffix("$"))
    }
    assert headers == (CURRENT_VERSION, "application/json")


def test_its_requests_are_counted_as_all_others(world: World) -> None:
    with_hours(world)
    counted = world.run().document["summary"]["stripe_requests"]
    assert counted == sum(1 for request in world.sandbox.requests if request.server == "stripe")
