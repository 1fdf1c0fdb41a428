"""What the tests of the code itself share."""

import pytest


@pytest.fixture(autouse=True)
def _unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tools that look at the code, or build it, not be measured themselves: they would take twice as long."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
