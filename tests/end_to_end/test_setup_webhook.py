"""`meter-sync setup webhook`: the destinations that the webhook needs, and their secrets in the file that it reads."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.webhooks import Attempt, post
from meter_sync.webhook.events import RELEVANT, SNAPSHOTS, THIN
from tests.support.permissions import FOR_SETUP
from tests.support.setting_up import SETUP_KEY, URL, made, set_up
from tests.support.webhook import serving
from tests.support.world import Outcome, World


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the secrets go."""
    return tmp_path / "webhook_secrets"


@pytest.fixture
def destinations(world: World, file: Path) -> Callable[..., Outcome]:
    """`meter-sync setup webhook` for the usual address and file, in JSON and without asking, with more arguments."""

    def run(*arguments: str, **overrides: str) -> Outcome:
        given = ("webhook", "--url", URL, "--yes", "--output", "json", *arguments)
        return set_up(world, *given, **{"STRIPE_WEBHOOK_SECRET_FILE": str(file), **overrides})

    return run


def secrets(file: Path) -> list[str]:
    return file.read_text().split()


def there(world: World) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.url, one.payload, one.events) for one in world.stripe.state.destinations]


def test_what_it_makes_is_what_the_webhook_takes(
    world: World, file: Path, destinations: Callable[..., Outcome]
) -> None:
    assert destinations().code == 0
    assert there(world) == [(URL, "snapshot", SNAPSHOTS), (URL, "thin", THIN)]
    assert set(RELEVANT) == {*SNAPSHOTS, *THIN}
    subscription = world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "api_requests"}))
    world.use(subscription, 7)
    with serving(world, STRIPE_WEBHOOK_SECRET="", STRIPE_WEBHOOK_SECRET_FILE=str(file)) as served:
        world.stripe.create_meter_event("misspelt", {"stripe_customer_id": "cus_1", "value": "1"})
        world.stripe.cancel(subscription.id)

        def to_the_webhook(attempt: Attempt) -> int | None:
            return post(replace(attempt, url=served.url))

        kinds = {delivery.event.type for delivery in world.stripe.webhooks.pending()}
        assert set(world.stripe.webhooks.deliver(send=to_the_webhook)) == {200}
    assert kinds >= {"customer.subscription.deleted", "v1.billing.meter.no_meter_found"}


def test_the_secrets_are_in_the_file_for_its_owner_beside_those_that_were(
    world: World, file: Path, destinations: Callable[..., Outcome]
) -> None:
    file.write_text("whsec_of_another")
    done = destinations()
    kept = [endpoint.secrets[0] for endpoint in world.stripe.webhooks._endpoints.values()]
    assert (done.code, len(made(done)), secrets(file)) == (0, 2, ["whsec_of_another", *kept])
    assert file.stat().st_mode & 0o777 == 0o600
    assert str(file) in done.document["remarks"][0]


def test_what_is_there_is_left_as_it_is(world: World, file: Path, destinations: Callable[..., Outcome]) -> None:
    destinations()
    before, text = len(world.writes), file.read_text()
    done = destinations()
    assert (done.code, [step["action"] for step in done.document["steps"]]) == (0, ["exists", "exists"])
    assert (len(world.writes), file.read_text()) == (before, text)


def test_a_destination_that_misses_events_is_completed_and_others_are_left(
    world: World, file: Path, destinations: Callable[..., Outcome]
) -> None:
    world.stripe.add_event_destination("https://other.example.com", ["invoice.created"], "snapshot")
    world.stripe.add_event_destination(URL, SNAPSHOTS, "snapshot", events_from=["@accounts"])
    partial = world.stripe.add_event_destination(URL, ["charge.failed", "invoice.created"], "snapshot")
    whole = world.stripe.add_event_destination(URL, THIN, "thin")
    file.write_text("whsec_a\nwhsec_b\n")
    others = there(world)[:2]

    done = destinations()

    assert [(step["id"], step["action"], step["made"]) for step in done.document["steps"]] == [
        (partial.id, "update", True),
        (whole.id, "exists", False),
    ]
    assert (done.code, there(world)[:2], secrets(file)) == (0, others, ["whsec_a", "whsec_b"])
    assert set(partial.events) == {"charge.failed", *SNAPSHOTS}


def test_the_destinations_of_an_account_of_several_have_its_own_path(
    world: World, destinations: Callable[..., Outcome]
) -> None:
    world.configure('[[accounts]]\nname = "eu"\n')
    elsewhere = "https://hooks.example.com/stripe"
    assert [destinations(*given).code for given in ((), ("--url", elsewhere))] == [0, 0]
    assert [url for url, _, _ in there(world)] == [f"{URL}/eu"] * 2 + [elsewhere] * 2


def test_one_that_gets_all_events_misses_none(world: World, file: Path, destinations: Callable[..., Outcome]) -> None:
    world.stripe.add_event_destination(URL, ["*"], "snapshot")
    file.write_text("whsec_a\n")
    assert [step["action"] for step in destinations().document["steps"]] == ["exists", "create"]


def test_more_destinations_than_a_page_has_are_all_looked_at(
    world: World, file: Path, destinations: Callable[..., Outcome]
) -> None:
    destinations()
    world.sandbox.faults.add(
        Fault(
            server="stripe",
            path="/event_destinations$",
            rewrite=lambda _: (
                b'{"data": [], "next_page_url": "/v2/core/event_destinations?page=0&'
                b'include%5B0%5D=webhook_endpoint.url", "previous_page_url": null}'
            ),
        )
    )
    assert made(destinations()) == []


def test_one_that_is_disabled_is_named_and_left(world: World, file: Path, destinations: Callable[..., Outcome]) -> None:
    destinations()
    (first, _) = world.stripe.state.destinations
    world.stripe.disable_event_destination(first.id)
    done = destinations()
    assert (done.code, done.error_code) == (1, "setup_differs")
    assert f"{first.id} is disabled" in done.document["error"]["message"]


def test_a_secret_that_the_file_cannot_have_is_said_with_what_to_do(
    world: World, file: Path, destinations: Callable[..., Outcome]
) -> None:
    destinations()
    file.write_text(f"{secrets(file)[0]}\n")
    done = destinations()
    assert (done.code, done.document["error"], made(done)) == (4, None, [])
    (said,) = done.document["remarks"]
    assert "roll it in Stripe's Dashboard" in said
    assert str(file) in said


def test_where_it_is_cut_off_between_two_the_first_is_kept_and_the_next_time_the_rest_is_made(
    world: World, file: Path, destinations: Callable[..., Outcome]
) -> None:
    world.sandbox.faults.add(Fault(server="stripe", method="POST", path="/event_destinations$", status=503, skip=1))
    cut_off, kept = destinations(), len(secrets(file))
    rest = destinations()
    assert (cut_off.code, len(made(cut_off)), kept) == (75, 1, 1)
    assert (rest.code, len(made(rest)), len(secrets(file)), len(there(world))) == (0, 1, 2, 2)


def test_a_secret_that_stripe_does_not_tell_ends_it_with_what_to_do(
    world: World, file: Path, destinations: Callable[..., Outcome]
) -> None:
    world.sandbox.faults.add(
        Fault(
            server="stripe",
            method="POST",
            path="/event_destinations$",
            rewrite=lambda body: body.replace("signing_secret", "kept_secret").encode(),
        )
    )
    done = destinations()
    assert (done.code, done.error_code, len(there(world))) == (1, "setup_secret", 1)
    assert "roll its secret" in done.document["error"]["hint"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"STRIPE_WEBHOOK_SECRET_FILE": ""}, "stripe.webhook_secret_file"),
        ({"STRIPE_WEBHOOK_SECRET": "whsec_here"}, "STRIPE_WEBHOOK_SECRET"),
        ({"STRIPE_WEBHOOK_SECRET_FILE": "/nonexistent/secrets"}, "/nonexistent"),
    ],
)
def test_without_a_file_for_the_secrets_nothing_is_made(
    world: World, destinations: Callable[..., Outcome], environment: dict[str, str], said: str
) -> None:
    done = destinations(**environment)
    assert (done.code, done.error_code, world.writes) == (78, "configuration", [])
    assert said in " ".join(done.document["error"].values())


def test_a_dry_run_makes_nothing_and_touches_no_file(
    world: World, file: Path, destinations: Callable[..., Outcome]
) -> None:
    done = destinations("--dry-run")
    assert (done.code, world.writes, file.exists(), os.listdir(file.parent)) == (0, [], False, os.listdir(file.parent))
    assert [step["action"] for step in done.document["steps"]] == ["create", "create"]


def test_live_events_are_delivered_to_https_only(world: World, destinations: Callable[..., Outcome]) -> None:
    key = world.stripe.add_restricted_key("rk_live_setup", {one.name for one in FOR_SETUP})
    live = {"STRIPE_SETUP_API_KEY": key, "STRIPE_API_KEY": ""}
    done = destinations("--url", "http://hooks.example.com/webhook", **live)
    assert (done.code, done.document["mode"], world.writes) == (2, "live", [])
    assert destinations("-n", **live).code == 0


@pytest.mark.parametrize(
    "url", ["hooks.example.com", "ftp://a.b", "https://u:p@a.b/c", "https://a.b/c#d", "https://a b"]
)
def test_what_is_no_address_is_refused(destinations: Callable[..., Outcome], url: str) -> None:
    assert destinations("--url", url).code == 2


def test_a_key_that_may_not_write_destinations_is_told_so(world: World, destinations: Callable[..., Outcome]) -> None:
    world.stripe.keys[SETUP_KEY] = frozenset({"webhook_endpoints:read"})
    done = destinations()
    assert (done.code, done.error_code, done.document["account"]) == (78, "stripe_permission", None)
    assert "rak_webhook_write" in done.document["error"]["message"]


def test_csv_has_a_row_for_each_step(destinations: Callable[..., Outcome]) -> None:
    rows: list[Any] = destinations("--output", "csv").stdout.splitlines()
    assert rows[0] == "kind,action,made,id,what,differences"
    assert [row.split(",")[:3] for row in rows[1:]] == [["event_destination", "create", "True"]] * 2
