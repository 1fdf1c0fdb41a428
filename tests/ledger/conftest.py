"""Where the ledgers of these tests are."""

from pathlib import Path

import pytest

from meter_sync.ledger import Place
from tests.support.postgres import new_ledger


@pytest.fixture(params=["file", pytest.param("server", marks=pytest.mark.every_way)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place for a ledger that knows nothing, of either kind."""
    return new_ledger() if request.param == "server" else tmp_path / "ledger.sqlite3"
