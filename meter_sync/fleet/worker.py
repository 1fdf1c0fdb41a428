"""A worker: it queues what is due, and carries out what is queued, until the end is asked for."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass

import structlog

from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import Interrupted, MeterSyncError, TryAgainError
from meter_sync.fleet.ending import Ending
from meter_sync.fleet.health import Figures, Health, answering
from meter_sync.fleet.kinds import Job, Kind
from meter_sync.fleet.processes import Fleet, Processes
from meter_sync.fleet.queue import JobQueue, opened, opened_queue
from meter_sync.fleet.tick import requeue_lost, tick
from meter_sync.net.stop import Stop
from meter_sync.net.tasks import first_error_only, meanwhile

_CONNECTS_AGAIN_AFTER_SECONDS = 5.0
_LOOKS_EACH_SECONDS = 5.0
_TICKS_AT_LEAST_EACH_SECONDS = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Work:
    """How a worker works."""

    command: Sequence[str]
    """What is started for a job, before the arguments that say which run it is."""
    at_once: int
    """How many full runs it has under way at once, and as many closing runs beside."""
    silent_seconds: float
    """After so long without a word of its worker a job counts as lost."""
    listens_on: tuple[str, int] | None = None
    """The host and port where it says whether it is well."""


async def work(fleet: Fleet, how: Work, stop: Stop) -> None:
    """Work until the end is asked for; runs that are under way then are asked to end, and queued again.

    Where the database is away for a while, it waits, and goes on. Raise MeterSyncError where it cannot work at all, or
    has stopped to look for jobs and lives on: whatever started it starts it anew.
    """
    processes = Processes(fleet, how.command, stop)
    health = Health(_queue(fleet, processes), processes, how.at_once, how.silent_seconds)
    figures = Figures(fleet)
    listening = answering(health, figures, *how.listens_on) if how.listens_on else nullcontext()
    async with _ending_in_time(processes, stop, lambda: ExitCode.FAILED if health.is_stalled else ExitCode.DONE):
        async with listening:
            while not stop.requested:
                try:
                    await _work_while_connected(fleet, how, stop, health)
                except TryAgainError as error:
                    health.is_connected = False
                    log.warning("worker_cut_off", message=error.message, wait_seconds=_CONNECTS_AGAIN_AFTER_SECONDS)
                    with suppress(Interrupted):
                        await stop.sleep(_CONNECTS_AGAIN_AFTER_SECONDS)
                health.queue = _queue(fleet, processes)
        if health.is_stalled:
            raise MeterSyncError(
                "the worker has stopped looking for jobs, and lived on",
                "let systemd or Kubernetes start it again; what it had under way is due by the ledger",
                code="worker_stalled",
            )


@asynccontextmanager
async def _ending_in_time(processes: Processes, stop: Stop, code: Callable[[], ExitCode]) -> AsyncIterator[None]:
    """See to it that the process ends in time once the end is asked for; `code` returns what with, where it hangs."""
    ending = Ending(processes.living)

    async def begin_once_asked() -> None:
        await stop.wait()
        ending.begin(code())

    async with meanwhile(begin_once_asked()):
        yield
    if stop.requested:  # perhaps so lately that the task has not heard of it
        ending.begin(code())


async def drain(fleet: Fleet, how: Work, stop: Stop) -> Sequence[int]:
    """Carry out what is queued now, and return the exit codes of the runs. Raise MeterSyncError.

    When the end is asked for, nothing more is taken, and what is under way is asked to end, and queued again.
    """
    processes = Processes(fleet, how.command, stop)
    async with (
        _ending_in_time(processes, stop, lambda: ExitCode.FAILED),
        opened(_queue(fleet, processes)) as queue,
        first_error_only(),
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(_take(queue, [kind], how, waits=False)) for kind in Kind]
        async with meanwhile(_cancelled_once_asked(tasks, stop)):
            await asyncio.wait(tasks)
    return [code for _, code in processes.ended]


async def _cancelled_once_asked(tasks: Sequence[asyncio.Task[None]], stop: Stop) -> None:
    """Let the engine take nothing more once the end is asked for: what is queued again, it would take again."""
    await stop.wait()
    for one in tasks:
        one.cancel()


async def enqueue(fleet: Fleet, jobs: Sequence[Job]) -> list[Job]:
    """Queue jobs that somebody asks for, and return those that were not waiting already. Raise MeterSyncError."""
    async with opened_queue(fleet.place) as queue:
        return [one for one in jobs if await queue.put(one, is_asked=True)]


def _queue(fleet: Fleet, processes: Processes) -> JobQueue:
    async def carry_out(job: Job, is_asked: bool) -> None:
        await processes.carry_out(queue, job, is_asked)

    queue = JobQueue(fleet.place, carry_out)
    return queue


async def _work_while_connected(fleet: Fleet, how: Work, stop: Stop, health: Health) -> None:
    """Work until the end is asked for. Raise TryAgainError as soon as the database is away."""
    async with opened(health.queue) as queue:
        health.is_connected = True
        log.info("worker_started", worker=fleet.worker, at_once=how.at_once)
        async with first_error_only(), asyncio.TaskGroup() as group:
            tasks = [group.create_task(_take(queue, [kind], how, waits=True)) for kind in Kind]
            tasks += [group.create_task(_tick(fleet, how, queue, health)), group.create_task(_watch(health, stop))]
            await _until_stopped(stop, tasks)
            for one in tasks:
                one.cancel()
    log.info("worker_stopped", worker=fleet.worker)


async def _until_stopped(stop: Stop, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait until the end is asked for. Raise TryAgainError where one of the tasks ends by itself before."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if not stop.requested and not any(one.done() and one.exception() for one in tasks):
        raise TryAgainError("the connection to the queue of jobs was lost", code="queue_unusable")


async def _take(queue: JobQueue, kinds: Sequence[Kind], how: Work, *, waits: bool) -> None:
    await queue.work(kinds, at_once=how.at_once, silent_seconds=how.silent_seconds, waits=waits)


async def _tick(fleet: Fleet, how: Work, queue: JobQueue, health: Health) -> None:
    """See to it each minute that what is due is queued."""
    while True:
        try:
            await requeue_lost(queue, how.silent_seconds)
            await tick(fleet, queue)
            health.ticked_at = time.monotonic()
        except TryAgainError:
            raise
        except MeterSyncError as error:  # a configuration that is being edited: what is queued goes on
            log.error("worker_tick_failed", message=error.message, hint=error.hint)
        await asyncio.sleep(min(_TICKS_AT_LEAST_EACH_SECONDS, how.silent_seconds / 6))


async def _watch(health: Health, stop: Stop) -> None:
    """Ask for the end where the worker has long stopped to look for jobs, and goes on living.

    One that stood still as a whole, and wakes up, looks for jobs before it is watched the next time.
    """
    was_stalled = False
    while True:
        await asyncio.sleep(_LOOKS_EACH_SECONDS)
        is_stalled = health.not_looked_for_seconds > 2 * health.ill_after_seconds
        if is_stalled and was_stalled:
            log.error("worker_stalled", message=health.trouble())
            health.is_stalled = True
            stop.request()
        was_stalled = is_stalled
