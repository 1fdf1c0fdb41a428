"""Two accounts for which it is now, as it is for workers, and a ledger on a server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.accounts import Accounts, accounts
from tests.support.postgres import new_ledger


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Accounts]:
    now = datetime.now(UTC).replace(microsecond=0)
    with accounts(tmp_path, "eu", "us", now=now, period_start=now - timedelta(days=5)) as made:
        made.ledger = new_ledger()
        made.given()
        yield made
