"""The queue in the ledger: each event once, until it is done."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Scope, open_ledger
from meter_sync.ledger.schema import webhook_events
from meter_sync.ledger.webhook_queue import WebhookEvent
from meter_sync.webhook.queue import Queue, Queues
from tests.support.growth import database_steps_of

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@contextmanager
def opened(path: Path, mode: str = "sandbox", now: Callable[[], datetime] = lambda: NOW) -> Iterator[Queue]:
    queues = Queues(path, now)
    try:
        yield Queue(queues, Scope(account="", mode=mode))
    finally:
        queues.close()


def played(path: Path, play: Callable[[Queue], Awaitable[None]], now: Callable[[], datetime] = lambda: NOW) -> None:
    async def playing() -> None:
        with opened(path, now=now) as queue:
            await play(queue)

    asyncio.run(playing())


async def ids(queue: Queue) -> list[str]:
    return [event.id for event in await queue.waiting()]


def test_an_event_is_new_once_whatever_becomes_of_it(tmp_path: Path) -> None:
    async def play(queue: Queue) -> None:
        assert await queue.put("evt_1", "invoice.created", "sub_1")
        assert not await queue.put("evt_1", "invoice.created", "sub_1")
        assert not await queue.put("evt_1", "invoice.upcoming", "sub_2")
        assert [(one.id, one.type, one.subscription) for one in await queue.waiting()] == [
            ("evt_1", "invoice.created", "sub_1")
        ]
        await queue.done(["evt_1"])
        assert not await queue.put("evt_1", "invoice.created", "sub_1")
        assert await ids(queue) == []

    played(tmp_path / "ledger.sqlite3", play)


def test_what_waits_is_there_for_the_next_process_oldest_first(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.sqlite3"
    times = iter([NOW, NOW - timedelta(seconds=5), NOW + timedelta(seconds=5)])

    async def put(queue: Queue) -> None:
        await queue.put("evt_now", "t", "sub_1")
        await queue.put("evt_earlier", "t", None)
        await queue.put("evt_later", "t", "sub_1")

    async def look(queue: Queue) -> None:
        assert await ids(queue) == ["evt_earlier", "evt_now", "evt_later"]

    played(path, put, lambda: next(times))
    played(path, look)


def test_live_and_sandbox_events_are_apart(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"

    async def play() -> None:
        with opened(path, "live") as live, opened(path, "sandbox") as sandbox:
            assert await live.put("evt_1", "t", "sub_1")
            assert await ids(sandbox) == []
            assert await sandbox.put("evt_1", "t", "sub_1")
            await sandbox.done(["evt_1"])
            assert await ids(live) == ["evt_1"]

    asyncio.run(play())


def test_whose_events_wait_or_came_lately_is_asked_once_for_all_accounts(tmp_path: Path) -> None:
    async def play() -> None:
        queues = Queues(tmp_path / "ledger.sqlite3", lambda: NOW)
        eu, us, quiet = (Queue(queues, Scope(name, "sandbox")) for name in ("eu", "us", "quiet"))
        await eu.put("evt_1", "t", "sub_1")
        await eu.put("evt_2", "t", "sub_1")
        await us.put("evt_1", "t", "sub_1")
        await us.done(["evt_1"])
        await quiet.waiting()
        waiting = await queues.by_account()
        since = [await queues.accounts(NOW + timedelta(seconds=later)) for later in (1, 0)]
        queues.close()
        assert waiting == {Scope("eu", "sandbox"): 2}
        assert since == [{Scope("eu", "sandbox")}, {Scope("eu", "sandbox"), Scope("us", "sandbox")}]

    asyncio.run(play())


def test_events_that_are_done_cost_nothing_when_those_that_wait_are_counted(tmp_path: Path) -> None:
    """SQLite's virtual machine has as much to do for a thousand as for ten: monitoring asks every few seconds."""

    def steps(done: int) -> int:
        path = tmp_path / f"{done}.sqlite3"
        with open_ledger(path, Scope("eu", "sandbox")) as ledger:
            database, queue = ledger.webhook_queue.database, ledger.webhook_queue
            rows = [{"event": f"evt_{one}", "type": "t", "received_at": NOW, "done_at": NOW} for one in range(done)]
            with database.transaction():
                database.insert_missing(webhook_events, rows)
            queue.enqueue(WebhookEvent("evt_waits", "t", None, NOW))
            found = database_steps_of(database._connection, lambda: counted.append(queue.by_account()))
        assert counted[-1] == {Scope("eu", "sandbox"): 1}
        return found

    counted = list[dict[Scope, int]]()
    assert steps(2000) == steps(10)


def test_what_was_done_long_ago_is_forgotten_and_what_waits_is_not(tmp_path: Path) -> None:
    now = [NOW]

    async def play(queue: Queue) -> None:
        for event in ("evt_waits", "evt_old", "evt_new"):
            await queue.put(event, "t", "sub_1")
        await queue.done(["evt_old"])
        now[0] = NOW + timedelta(days=36)
        await queue.done(["evt_new"])
        assert await ids(queue) == ["evt_waits"]
        assert await queue.put("evt_old", "t", "sub_1")
        assert not await queue.put("evt_new", "t", "sub_1")

    played(tmp_path / "ledger.sqlite3", play, lambda: now[0])


def test_a_ledger_that_is_none_is_an_error_and_not_an_empty_queue(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_text("something else" * 1000)

    async def play(queue: Queue) -> None:
        with pytest.raises(MeterSyncError):
            await queue.put("evt_1", "t", "sub_1")
        with pytest.raises(MeterSyncError):
            await queue.waiting()

    played(path, play)


def test_an_event_goes_to_the_ledger_that_is_there_not_to_one_that_was_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"

    async def play(queue: Queue) -> None:
        await queue.put("evt_1", "t", "sub_1")
        path.rename(tmp_path / "copy.sqlite3")
        assert await queue.put("evt_1", "t", "sub_1")
        assert await ids(queue) == ["evt_1"]

    played(path, play)
