"""What is queued is reported, each subscription once for all its events, until it went well."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import LedgerError, MeterSyncError, TryAgainError
from meter_sync.ledger import Scope
from meter_sync.ledger.webhook_queue import WebhookEvent
from meter_sync.net.stop import Stop
from meter_sync.webhook.queue import Queue, Queues
from meter_sync.webhook.worker import ATTEMPTS, LONGEST_PAUSE_SECONDS, Pause, Worker

NOW = datetime(2026, 11, 1, tzinfo=UTC)
Answer = Callable[[str | None], Awaitable[ExitCode]]


class WatchedQueue(Queue):
    """A queue that ends the work when nothing waits any more."""

    def __init__(self, queues: Queues, stop: Stop) -> None:
        super().__init__(queues, Scope(account="", mode="sandbox"))
        self._stop = stop
        self.on_failure: Callable[[], object] = lambda: None

    async def waiting(self) -> Sequence[WebhookEvent]:
        try:
            return await super().waiting()
        except MeterSyncError:
            self.on_failure()
            raise

    async def done(self, events: Sequence[str]) -> None:
        await super().done(events)
        if not await self.waiting():
            self._stop.request()


class Stage:
    """A worker on a real ledger, whose reports a test answers."""

    def __init__(self, path: Path, answer: Answer | None = None) -> None:
        self.stop = Stop()
        self.queues = Queues(path / "ledger.sqlite3", lambda: NOW)
        self.queue = WatchedQueue(self.queues, self.stop)
        self.reported: list[str | None] = []
        self.answer = answer
        self.worker = Worker(self.queue, self.report, self.stop, first_pause_seconds=0.001)

    async def report(self, subscription: str | None) -> ExitCode:
        self.reported.append(subscription)
        return await self.answer(subscription) if self.answer else ExitCode.DONE

    async def put(self, *events: tuple[str, str | None]) -> None:
        for event, subscription in events:
            await self.queue.put(event, "invoice.created", subscription)
            self.worker.wake()

    async def work(self) -> None:
        """Work until nothing waits, or the end is asked for."""
        async with asyncio.timeout(30):
            await self.worker.work()


def play(path: Path, scene: Callable[[Stage], Awaitable[None]], answer: Answer | None = None) -> Stage:
    async def playing() -> Stage:
        stage = Stage(path, answer)
        try:
            await scene(stage)
            return stage
        finally:
            stage.queues.close()

    return asyncio.run(playing())


def test_several_events_of_one_subscription_are_one_report(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.put(("evt_1", "sub_a"), ("evt_2", "sub_b"), ("evt_3", "sub_a"), ("evt_4", None), ("evt_5", None))
        await stage.work()

    assert play(tmp_path, scene).reported == ["sub_a", "sub_b", None]


def test_an_event_that_comes_during_a_report_is_reported_after_it(tmp_path: Path) -> None:
    stages: list[Stage] = []

    async def answer(subscription: str | None) -> ExitCode:
        if len(stages[0].reported) == 1:
            await stages[0].put(("evt_2", "sub_a"))
        return ExitCode.DONE

    async def scene(stage: Stage) -> None:
        stages.append(stage)
        await stage.put(("evt_1", "sub_a"))
        await stage.work()

    assert play(tmp_path, scene, answer).reported == ["sub_a", "sub_a"]


@pytest.mark.parametrize("code", [ExitCode.TRY_AGAIN, ExitCode.FAILED, ExitCode.PARTIAL, ExitCode.CONFIGURATION])
def test_what_did_not_go_well_is_tried_again(tmp_path: Path, code: ExitCode) -> None:
    answers = iter([code, code, ExitCode.DONE])

    async def answer(_: str | None) -> ExitCode:
        return next(answers)

    async def scene(stage: Stage) -> None:
        await stage.put(("evt_1", "sub_a"))
        await stage.work()

    assert play(tmp_path, scene, answer).reported == ["sub_a"] * 3


@pytest.mark.parametrize("error", [TryAgainError("away"), LedgerError("full")])
def test_an_error_is_a_report_that_did_not_go_well(tmp_path: Path, error: Exception) -> None:
    errors = [error]

    async def answer(_: str | None) -> ExitCode:
        if errors:
            raise errors.pop()
        return ExitCode.DONE

    async def scene(stage: Stage) -> None:
        await stage.put(("evt_1", "sub_a"))
        await stage.work()

    assert play(tmp_path, scene, answer).reported == ["sub_a", "sub_a"]


def test_a_bug_in_one_report_ends_no_others(tmp_path: Path) -> None:
    bugs = [ValueError("oops")]

    async def answer(subscription: str | None) -> ExitCode:
        if subscription == "sub_a" and bugs:
            raise bugs.pop()
        return ExitCode.DONE

    async def scene(stage: Stage) -> None:
        await stage.put(("evt_1", "sub_a"), ("evt_2", "sub_b"))
        await stage.work()

    with capture_logs() as logged:
        assert sorted(map(str, play(tmp_path, scene, answer).reported)) == ["sub_a", "sub_a", "sub_b"]
    (failed,) = [one for one in logged if one["event"] == "webhook_failed"]
    assert "ValueError: oops" in failed["traceback"]


def test_what_is_held_is_for_a_person_and_not_tried_again(tmp_path: Path) -> None:
    async def answer(_: str | None) -> ExitCode:
        return ExitCode.ATTENTION

    async def scene(stage: Stage) -> None:
        await stage.put(("evt_1", "sub_a"))
        await stage.work()

    assert play(tmp_path, scene, answer).reported == ["sub_a"]


@pytest.mark.parametrize("code", [ExitCode.FAILED, ExitCode.TRY_AGAIN])
def test_a_subscription_that_fails_again_and_again_does_not_keep_others_waiting(tmp_path: Path, code: ExitCode) -> None:
    healthy: set[str | None] = set()

    async def answer(subscription: str | None) -> ExitCode:
        if subscription == "sub_first" and len(healthy) < 5:
            return code
        healthy.add(subscription)
        return ExitCode.DONE

    async def scene(stage: Stage) -> None:
        await stage.put(("evt_0", "sub_first"), *[(f"evt_{n}", f"sub_{n}") for n in range(1, 6)])
        await stage.work()

    reported = play(tmp_path, scene, answer).reported
    assert reported[0] == "sub_first"
    assert set(reported) == {"sub_first", *(f"sub_{n}" for n in range(1, 6))}


def test_a_stop_during_a_report_leaves_queued_what_was_not_finished(tmp_path: Path) -> None:
    stages: list[Stage] = []

    async def answer(_: str | None) -> ExitCode:
        stages[0].stop.request()
        return ExitCode.FAILED

    async def scene(stage: Stage) -> None:
        stages.append(stage)
        await stage.put(("evt_1", "sub_a"), ("evt_2", "sub_b"))
        await stage.work()
        assert len(await stage.queue.waiting()) == 2

    assert play(tmp_path, scene, answer).reported == ["sub_a"]


def test_a_ledger_that_comes_back_is_worked_off(tmp_path: Path) -> None:
    ledger, aside = tmp_path / "ledger.sqlite3", tmp_path / "aside.sqlite3"
    repairs: Iterator[Callable[[], object]] = iter([lambda: None, lambda: aside.rename(ledger)])

    async def scene(stage: Stage) -> None:
        await stage.put(("evt_1", "sub_a"))
        ledger.rename(aside)
        ledger.write_text("something else" * 1000)
        stage.queue.on_failure = lambda: next(repairs)()
        await stage.work()

    assert play(tmp_path, scene).reported == ["sub_a"]


def test_what_always_fails_is_left_to_the_next_full_run_with_a_warning(tmp_path: Path) -> None:
    stages: list[Stage] = []

    async def answer(subscription: str | None) -> ExitCode:
        if subscription == "sub_b":
            stages[0].stop.request()
            return ExitCode.DONE
        if len(stages[0].reported) == ATTEMPTS:
            await stages[0].put(("evt_2", "sub_b"))
        return ExitCode.FAILED

    async def scene(stage: Stage) -> None:
        stages.append(stage)
        await stage.put(("evt_1", "sub_a"))
        await stage.work()
        assert [event.id for event in await stage.queue.waiting()] == ["evt_1"]

    with capture_logs() as logged:
        assert play(tmp_path, scene, answer).reported == ["sub_a"] * ATTEMPTS + ["sub_b"]
    (left,) = [one for one in logged if one["event"] == "webhook_left"]
    assert (left["subscription"], left["events"], left["log_level"]) == ("sub_a", 1, "warning")


def test_what_was_left_is_tried_again_when_another_event_of_it_comes(tmp_path: Path) -> None:
    stages: list[Stage] = []

    async def answer(_: str | None) -> ExitCode:
        if len(stages[0].reported) > ATTEMPTS:
            return ExitCode.DONE
        if len(stages[0].reported) == ATTEMPTS:
            await stages[0].put(("evt_2", "sub_a"))
        return ExitCode.FAILED

    async def scene(stage: Stage) -> None:
        stages.append(stage)
        await stage.put(("evt_1", "sub_a"))
        await stage.work()
        assert await stage.queue.waiting() == []

    assert play(tmp_path, scene, answer).reported == ["sub_a"] * (ATTEMPTS + 1)


def test_a_server_that_is_away_is_waited_for_as_long_as_it_takes(tmp_path: Path) -> None:
    answers = iter([ExitCode.TRY_AGAIN] * (2 * ATTEMPTS) + [ExitCode.DONE])

    async def answer(_: str | None) -> ExitCode:
        return next(answers)

    async def scene(stage: Stage) -> None:
        stage.worker = Worker(stage.queue, stage.report, stage.stop, first_pause_seconds=0.0)
        await stage.put(("evt_1", "sub_a"))
        await stage.work()

    assert len(play(tmp_path, scene, answer).reported) == 2 * ATTEMPTS + 1


def test_what_comes_while_nothing_waits_is_reported_at_once(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        working = asyncio.create_task(stage.work())
        await asyncio.sleep(0)
        await stage.put(("evt_1", "sub_a"))
        await working

    assert play(tmp_path, scene).reported == ["sub_a"]


def test_pauses_double_up_to_a_minute() -> None:
    pause = Pause(1.0)

    lengths = [pause.lengthen() for _ in range(2000)]

    assert lengths[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert lengths[-1] == LONGEST_PAUSE_SECONDS == 60
    assert 59 < pause.remaining_seconds <= 60
