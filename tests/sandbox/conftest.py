from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from meter_sync.sandbox import Sandbox

from .wire import OpenMeterWire, StripeWire

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox that serves, its clock standing still at noon of 10 November 2026."""
    created = Sandbox(now=NOW)
    with created.in_background():
        yield created


@pytest.fixture
def stripe(sandbox: Sandbox) -> StripeWire:
    return StripeWire(sandbox)


@pytest.fixture
def openmeter(sandbox: Sandbox) -> OpenMeterWire:
    return OpenMeterWire(sandbox)
