"""`meter-sync setup webhook` of a platform: its destinations for what happens in the accounts connected to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meter_sync.webhook.events import OF_CONNECTED, SNAPSHOTS, THIN
from tests.support.permissions import FOR_SETUP
from tests.support.platform import Platform, destinations_of
from tests.support.setting_up import SETUP_KEY, URL


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path)
    made.sandbox.stripe.keys[SETUP_KEY] = frozenset(one.name for one in FOR_SETUP)
    with made.sandbox.in_background():
        yield made


def test_a_platform_has_one_destination_for_all_that_are_connected_to_it(platform: Platform) -> None:
    world = platform.sandbox.stripe
    world.add_event_destination(URL, SNAPSHOTS, "snapshot")  # which is for the platform's own
    done, again = destinations_of(platform), destinations_of(platform)
    made = [one for one in world.state.destinations if one.events_from == ("@accounts",)]

    assert [step["action"] for step in done.document["steps"]] == ["create", "create"], done.stderr
    assert [step["action"] for step in again.document["steps"]] == ["exists", "exists"]
    assert [(one.url, one.payload, one.events) for one in made] == [
        (URL, "snapshot", OF_CONNECTED),
        (URL, "thin", THIN),
    ]
    assert not any(len(shop.state.destinations) for shop in platform.shops)


def test_an_account_that_shares_its_platforms_destination_has_none_of_its_own(platform: Platform) -> None:
    one = destinations_of(platform, "--account", "shop-0")
    assert (one.code, one.error_code, len(platform.sandbox.stripe.state.destinations)) == (2, "arguments", 0)
    assert "leave --account out" in one.stderr

    every = destinations_of(platform, toml="[connect]\nall = true\n")
    assert (every.code, len(platform.sandbox.stripe.state.destinations)) == (0, 2)


def test_doctor_looks_for_a_connected_accounts_events_at_its_platform(platform: Platform) -> None:
    def examined() -> list[tuple[str, str]]:
        done = platform.meter_sync(
            "doctor", "--only", "webhook", "--account", "shop-0", "--output", "json", STRIPE_WEBHOOK_SECRET="whsec_1,w"
        )
        return [(one["status"], one["message"]) for one in done.document["checks"]]

    platform.sandbox.stripe.add_event_destination(URL, SNAPSHOTS, "snapshot")  # which is for the platform's own
    lacking = examined()
    destinations_of(platform)
    made = examined()

    assert lacking[0][0] == "problem"
    assert "no event destination delivers snapshot events of connected accounts" in lacking[0][1]
    assert [status for status, _ in made][:2] == ["ok", "ok"]
    assert "delivers thin events of connected accounts" in made[1][1]
