"""The sandbox's clock stands still or runs, and moves where it is told to."""

from datetime import UTC, datetime, timedelta

import pytest

from meter_sync.sandbox import Sandbox

from .instants import NOW


def test_a_frozen_clock_moves_only_when_moved() -> None:
    clock = Sandbox(now=NOW).clock
    assert clock.now() == clock.now() == NOW
    clock.advance(timedelta(hours=1))
    clock.advance(timedelta(hours=-3))
    assert clock.now() == NOW - timedelta(hours=2)


def test_a_clock_without_an_instant_runs_with_real_time_and_goes_on_from_where_it_is_moved() -> None:
    clock = Sandbox().clock
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)
    clock.move_to(NOW)
    first = clock.now()
    assert NOW <= first < NOW + timedelta(minutes=1)
    assert clock.now() >= first
    assert not clock.frozen


def test_naive_instants_are_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        Sandbox(now=datetime(2026, 11, 10))  # noqa: DTZ001  (a naive instant is the point)


def test_addresses_exist_only_while_serving() -> None:
    sandbox = Sandbox(now=NOW)
    with sandbox.in_background():
        assert sandbox.environment() == {
            "STRIPE_API_KEY": sandbox.stripe_key,
            "STRIPE_API_BASE": sandbox.stripe_url,
            "OPENMETER_URL": sandbox.openmeter_url,
            "OPENMETER_API_KEY": sandbox.openmeter_key,
        }
    with pytest.raises(RuntimeError, match="not serving"):
        sandbox.environment()
