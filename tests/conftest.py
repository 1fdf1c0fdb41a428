"""What all tests share."""

from collections.abc import Iterator

import pytest

from tests.support.forked import end_template


@pytest.fixture(scope="session", autouse=True)
def _template_ended() -> Iterator[None]:
    """End the process that commands are forked from before coverage collects what was measured."""
    yield
    end_template()
