"""What the documents tell a newcomer to run does what they say."""

import csv
import io
import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.documents import blocks, document, table
from tests.support.world import World

CUSTOMER = "cus_NffrFeUfNV2Hib"


@pytest.fixture
def account(tmp_path: Path) -> Iterator[World]:
    """An account of today: the commands go by the machine's clock."""
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0))
    with world.sandbox.in_background():
        yield world


def commands(name: str, count: int) -> list[list[str]]:
    """The arguments of the first calls of a document that begin with a dry run."""
    lines = [line for block in blocks(name, "sh") for line in block.splitlines() if line.startswith("meter-sync ")]
    first = max(at for at, line in enumerate(lines) if "--dry-run" in line)
    return [shlex.split(line, comments=True)[1:] for line in lines[first : first + count]]


@pytest.mark.parametrize(("name", "count"), [("README.md", 4), ("docs/getting-started.md", 5)])
def test_the_way_to_a_first_safe_run_is_one(account: World, name: str, count: int) -> None:
    """The dry run writes nothing, the next command for one customer only, the last for everyone."""
    began = account.now - timedelta(days=3)
    subscriptions = [account.subscribe(period_start=began) for _ in range(2)]
    for subscription in subscriptions:
        account.use(subscription, 7)
    first = account.customer_of(subscriptions[0])
    calls = [[word.replace(CUSTOMER, first) for word in words] for words in commands(name, count)]
    assert (calls[0], calls[1], calls[-1]) == (["run", "--dry-run"], ["run", "--customer", first], ["run"])
    billed = []

    for words in calls:
        done = account.meter_sync(*words)
        assert done.code == 0, done.stderr
        billed.append([account.billed(one) for one in subscriptions])

    assert (billed[0], billed[1], billed[-1]) == ([0, 0], [7, 0], [7, 7])


def test_the_json_document_that_is_shown_has_the_keys_of_a_real_one(account: World) -> None:
    account.use(account.subscribe(period_start=account.now - timedelta(days=3)), 7)
    (shown,) = [json.loads(block) for block in blocks("docs/run.md", "json")]

    real = account.meter_sync("run", "--output", "json").document

    assert list(shown) == list(real)
    assert list(shown["run"]) == list(real["run"])
    assert list(shown["summary"]) == list(real["summary"])
    assert [list(item) for item in shown["items"]] == [list(item) for item in real["items"]]
    assert {type(value) for value in shown["items"][0].values()} == {type(value) for value in real["items"][0].values()}


def test_the_columns_of_csv_are_the_keys_that_are_described(account: World) -> None:
    account.use(account.subscribe(period_start=account.now - timedelta(days=3)), 7)
    keys = " ".join(row[0] for row in table(document("docs/run.md"), "| key | what it says |"))

    columns = next(csv.reader(io.StringIO(account.meter_sync("run", "--output", "csv").stdout)))

    assert {"period_start", "period_end", "windows_sent", "windows_unchanged"} <= set(columns)
    assert {"outcome", "reason", "message", "usage", "quantity", "previous", "unbilled", "target"} <= set(columns)
    assert all(f"`{name}`" in keys for name in ("outcome", "previous", "unbilled", "windows"))
