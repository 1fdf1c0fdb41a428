"""What the benchmark of fleets says of a few small accounts, and of ledgers of either kind."""

import fleet
import pytest

from tests.support.postgres import server

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""What runs do, other tests hold one by one."""


def test_workers_do_all_accounts_and_leave_nothing_wrong() -> None:
    assert fleet.drained(server().url, 3, [1, 2], 2) > 0


def test_each_kind_of_run_is_said_of_both_ledgers() -> None:
    heading, *lines, _ = fleet.of_ledgers(server().url, 5)
    assert heading.startswith("5 items, one account")
    assert [line.split(":")[0].strip() for line in lines] == ["first run", "nothing new", "all new"]
    assert all(" file " in line and " server " in line for line in lines)
