import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.openmeter.api import OpenMeterVersion

from .documents import Document, openmeter_document, openmeter_v3_document, stripe_document, stripe_samples
from .traffic import NOW, Exchange, runs_with_billing_meters, runs_with_usage_records


@pytest.fixture(scope="session")
def specs() -> Path:
    """The folder with the published documents."""
    folder = os.environ.get("CONTRACT_SPECS")
    if not folder:
        pytest.skip(
            "CONTRACT_SPECS names no folder with stripe-2023-08-16.openapi.json, stripe-2023-08-16.fixtures.json,"
            " openmeter.openapi.yaml and openmeter.v3.openapi.yaml"
        )
    return Path(folder)


@pytest.fixture(scope="session")
def stripe_contract(specs: Path) -> Document:
    return stripe_document(specs)


@pytest.fixture(scope="session")
def samples(specs: Path) -> Mapping[str, Any]:
    """Stripe's own sample objects, by kind."""
    return stripe_samples(specs)


@pytest.fixture(scope="session")
def openmeter_contract(specs: Path) -> Document:
    return openmeter_document(specs)


@pytest.fixture(scope="session")
def openmeter_v3_contract(specs: Path) -> Document:
    return openmeter_v3_document(specs)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox that serves, its clock standing still at noon of 10 November 2026."""
    created = Sandbox(now=NOW)
    with created.in_background():
        yield created


@pytest.fixture(scope="session")
def traffic(specs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Exchange]:
    """Every request that the command sends in its ways of running, with its answer; without the documents, a skip."""
    return _traffic("v1", tmp_path_factory)


@pytest.fixture(scope="session")
def traffic_v3(specs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Exchange]:
    """The same, with an OpenMeter that has API v3 alone."""
    return _traffic("v3", tmp_path_factory)


def _traffic(version: OpenMeterVersion, folders: pytest.TempPathFactory) -> list[Exchange]:
    return [
        *runs_with_usage_records(Sandbox(now=NOW, openmeter_versions=[version]), folders.mktemp("usage_records")),
        *runs_with_billing_meters(Sandbox(now=NOW, openmeter_versions=[version]), folders.mktemp("billing_meters")),
    ]
