"""Pings: a service hears that a full run begins and how it ended, and nothing of who was billed."""

import uuid
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from meter_sync.config import Configuration, MonitorSettings
from meter_sync.core.planning.selection import Selection
from meter_sync.core.schedule import Schedule
from meter_sync.errors import MeterSyncError
from meter_sync.monitor.ended import MonitorFailed
from meter_sync.monitor.pings import pings
from meter_sync.monitor.watched import Watched
from meter_sync.sync.request import Request, failed_before_it_began
from tests.security import tls
from tests.support.listening import Heard, Listener
from tests.support.world import NOW, Outcome, World

SECRET = "f8b3c0de-secret"
AWAY = "http://127.0.0.1:9"


def pinging(world: World, listener: Listener, more: str = "") -> None:
    world.configure(f'[monitor]\nping_url = "http://{listener.address}/{SECRET}{more}"\n')


def rid(heard: Heard) -> str:
    (found,) = parse_qs(urlsplit(heard.path).query)["rid"]
    return found


def test_a_full_run_is_pinged_when_it_begins_and_when_it_has_ended_with_its_id_and_its_summary(
    world: World, listener: Listener
) -> None:
    pinging(world, listener)
    subscription = world.subscribe()
    world.use(subscription, 5)

    done = world.run()

    start, end = listener.heard
    assert listener.paths == [f"/{SECRET}/start", f"/{SECRET}/0"]
    assert rid(start) == rid(end) == done.document["run"]["id"] == str(uuid.UUID(rid(end)))
    assert (start.body, end.body.partition(".")[0]) == ("", "1 item: 1 reported")
    assert (done.code, done.stderr) == (0, "")
    assert not any(name in end.body for name in (subscription.id, *subscription.items, world.customer_of(subscription)))


def test_the_exit_code_is_that_of_the_run_and_what_ended_it_is_said(world: World, listener: Listener) -> None:
    pinging(world, listener)
    world.subscribe()

    codes = [
        world.run(OPENMETER_URL=AWAY).code,
        world.run(STRIPE_API_KEY="pk_live_publishable").code,
        world.run(STRIPE_API_KEY="sk_test_wrong").code,
    ]

    assert codes == [75, 78, 78]
    assert [path.rpartition("/")[2] for path in listener.paths] == ["start", "75", "start", "78", "start", "78"]
    away, wrong, refused = (one.body for one in listener.heard[1::2])
    assert "OpenMeter could not be asked" in away
    assert "What to do: " in away
    assert "publishable key" in wrong
    assert "does not accept the API key" in refused
    assert "sk_test_wrong" not in refused


def test_what_the_address_has_already_of_a_path_and_a_query_stays(world: World, listener: Listener) -> None:
    pinging(world, listener, "/billing/?create=1&tag=a%20b")

    world.run()

    assert listener.paths == [f"/{SECRET}/billing/start", f"/{SECRET}/billing/0"]
    assert all(urlsplit(one.path).query.startswith("create=1&tag=a%20b&rid=") for one in listener.heard)


@pytest.mark.parametrize(
    "request_",
    [
        Request(dry_run=True),
        Request(selection=Selection(customers=("cus_1",))),
        Request(closing=timedelta(minutes=3), is_beside=True),
        Request(test_clock="clock_1"),
    ],
    ids=["dry", "narrowed", "closing", "test-clock"],
)
def test_what_is_no_full_run_pings_nobody(listener: Listener, request_: Request) -> None:
    tell(listener, request_)

    assert listener.heard == []


def tell(listener: Listener, asked: Request, error: MeterSyncError | None = None) -> None:
    """Do what the command does around a run that an error ended."""
    request = replace(asked, run_id=str(uuid.uuid4()))
    settings = MonitorSettings.model_validate({"ping_url": f"http://{listener.address}/{SECRET}"})
    watched = Watched(request)
    watched.begin(Configuration(None, {}, [], {}, None, settings))
    failed = failed_before_it_began(error or MeterSyncError("it failed"), request, Schedule.HOURLY, NOW)
    watched.end(failed, "0 items: nothing to bill.")


def test_no_customer_is_named_and_no_more_than_10_kb_is_sent(listener: Listener) -> None:
    error = MeterSyncError(f"No such customer: cus_NffrFeUfNV2Hib\x1b {'ä' * 9_000}")

    tell(listener, Request(), error)

    body = listener.heard[1].body
    assert body.startswith("No such customer: cus_…? ä")
    assert 9_990 < len(body.encode()) <= 10_000


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b"", "did not arrive: HTTP status 500"),
        (404, b"not found", "did not arrive: HTTP status 404"),
        (302, b"", "did not arrive: HTTP status 302"),
        (200, b"OK (not found)", "was ignored: not found"),
    ],
)
def test_a_ping_that_is_not_taken_is_a_warning_without_the_address(
    listener: Listener, status: int, body: bytes, said: str
) -> None:
    listener.status, listener.body = status, body
    listener.headers = {"Location": f"http://{listener.address}/elsewhere"}

    with pytest.raises(MonitorFailed, match=said) as failed:
        pings(f"http://{listener.address}/{SECRET}", "run")("start", "", 5)

    assert listener.paths == [f"/{SECRET}/start"]
    assert SECRET not in str(failed.value)
    assert failed.value.__cause__ is None


def test_a_certificate_that_nobody_vouches_for_gets_no_ping_unless_its_authority_is_named(world: World) -> None:
    with tls.listening(tls.CERTIFICATE) as listener:
        world.configure(f'[monitor]\nping_url = "https://localhost:{listener.port}/{SECRET}"\n')

        refused = world.run()
        assert (refused.code, listener.received) == (0, b"")
        assert "the certificate cannot be trusted" in refused.stderr

        assert "certificate" not in world.run(SSL_CERT_FILE=str(tls.CERTIFICATE)).stderr
        assert listener.received.startswith(f"POST /{SECRET}/start?rid=".encode())


def test_a_check_that_is_away_changes_neither_the_exit_code_nor_the_document(world: World) -> None:
    world.configure(f'[monitor]\nping_url = "{AWAY}/{SECRET}"\n')
    world.subscribe()

    done = world.meter_sync("--log-level", "debug", "run", "--output", "json", "--as-of", world.now.isoformat())

    assert (done.code, done.document["summary"]["exit_code"]) == (0, 0)
    (warning,) = [line for line in done.stderr.splitlines() if "monitor_failed" in line]
    assert '"monitor": "ping_url"' in warning
    assert "Connection refused" in warning
    assert done.document["run"]["id"] in warning
    assert SECRET not in done.stdout + done.stderr


def test_the_configuration_shows_that_there_is_an_address_and_not_which(world: World, listener: Listener) -> None:
    pinging(world, listener)

    for output in ("table", "json", "csv"):
        shown: Outcome = world.meter_sync("config", "show", "--output", output)
        assert "monitor.ping_url" in shown.stdout
        assert SECRET not in shown.stdout + shown.stderr
