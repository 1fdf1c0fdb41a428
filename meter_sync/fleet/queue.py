"""The queue of jobs: procrastinate, in a schema of its own in the ledger's database.

It is used as a reminder alone (its issues 1446, 1543, 1432 and 1599 say what becomes of who relies on more): no job has
a `lock`, none is tried again by the engine, and what a lost worker was at is marked as failed. Two waiting jobs of one
account and kind are refused by a `queueing_lock`.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import procrastinate
import psycopg
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Job as QueuedJob
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from procrastinate.schema import SchemaManager
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from meter_sync.core.scope import Scope
from meter_sync.errors import ConfigurationError, TryAgainError
from meter_sync.fleet.kinds import Job, Kind
from meter_sync.ledger.postgres import CONNECTED
from meter_sync.ledger.server_lock import key_of
from meter_sync.net.postgres_url import PostgresUrl

Work = Callable[[Job, bool], Awaitable[None]]
"""Carries out a job, and is told whether somebody asked for it; it must raise nothing."""

POLLS_EACH_SECONDS = 5.0
"""So often a worker looks for jobs of which it was not notified."""
_CONNECTIONS = 8
_CONNECTS_WITHIN_SECONDS = 10.0
_BEATS_BEFORE_SILENT = 6
_REMOVED_AFTER_HOURS = 24
_TASK = "carry_out"

for _quiet in ("procrastinate", "psycopg.pool"):
    # What is wrong is said once, in words of this program: by `translated`, and by the worker.
    logging.getLogger(_quiet).addHandler(logging.NullHandler())
    logging.getLogger(_quiet).propagate = False


class _Manager(JobManager):
    """Notes when jobs were looked for last: a worker may have stopped to, and live on (procrastinate's issue 1596)."""

    fetched_at: dict[str, float]
    """By the name of a queue, in monotonic seconds."""

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> QueuedJob | None:
        job = await super().fetch_job(queues, worker_id)
        self.fetched_at |= dict.fromkeys(queues or (), time.monotonic())
        return job


class JobQueue:
    """The jobs that wait, and who is at them. All of it raises what `translated` makes of what the database says."""

    def __init__(self, place: PostgresUrl, work: Work | None = None) -> None:
        """Begin with where the ledger is and, for a worker, what carries a job out."""
        self._place = place
        self._schema = schema_name()
        self._app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(
                conninfo=make_conninfo(place.url),
                kwargs={**CONNECTED, **self._secret(), "options": f"-c search_path={self._schema}"},
                min_size=1,
                max_size=_CONNECTIONS,
                timeout=_CONNECTS_WITHIN_SECONDS,
            )
        )
        self._manager = _Manager(self._app.connector)
        self._manager.fetched_at = dict.fromkeys((kind.value for kind in Kind), time.monotonic())
        self._app.job_manager = self._manager
        if work:
            self._app.task(name=_TASK, retry=False)(_carried_out_by(work))

    def not_looked_for_seconds(self, kind: Kind) -> float:
        """Return how long no job of a kind was looked for."""
        return time.monotonic() - self._manager.fetched_at[kind.value]

    def prepare(self) -> None:
        """Make the tables of this version's engine, where they are not there: each has a schema of its own.

        Workers of another version go on with theirs: what is in a queue is not missed, since the ledger says what is
        due.
        """
        address = make_conninfo(self._place.url, **CONNECTED, **self._secret())
        with translated(self._place), psycopg.connect(address) as to:
            to.execute("SELECT pg_advisory_xact_lock(%s)", (key_of("schema", Scope("", "")),))
            if to.execute("SELECT to_regnamespace(%s)", (self._schema,)).fetchone() == (None,):
                to.execute(SQL("CREATE SCHEMA {}").format(Identifier(self._schema)))
                to.execute(SQL("SET LOCAL search_path TO {}").format(Identifier(self._schema)))
                to.execute(SchemaManager.get_schema())

    def _secret(self) -> dict[str, str]:
        return {} if self._place.password is None else {"password": self._place.password}

    async def open(self) -> None:
        """Connect, until `close`."""
        with translated(self._place):
            await self._app.open_async()

    async def close(self) -> None:
        """Close all connections."""
        with translated(self._place):
            await self._app.close_async()

    async def put(self, job: Job, *, is_asked: bool = False) -> bool:
        """Queue a job, and return whether it was not waiting already; `is_asked` says that it is to be done anyhow."""
        to_do = self._app.configure_task(_TASK, queue=job.kind.value, queueing_lock=job.queueing_lock)
        with translated(self._place):
            try:
                await to_do.defer_async(account=job.account, kind=job.kind.value, is_asked=is_asked)
            except AlreadyEnqueued:
                return False
        return True

    async def alive(self) -> set[Job]:
        """Return the jobs that wait, or that a worker is at."""
        with translated(self._place):
            found = [one for status in ("todo", "doing") for one in await self._manager.list_jobs_async(status=status)]
        return {job for one in found if (job := job_of(one.task_kwargs))}

    async def counts(self) -> Mapping[str, int]:
        """Return how many jobs there are in each status."""
        with translated(self._place):
            queues = await self._manager.list_queues_async()
        return {status: sum(int(one[status]) for one in queues) for status in ("todo", "doing", "succeeded", "failed")}

    async def bury(self, silent_seconds: float) -> list[Job]:
        """Mark as failed what workers were at that have not been heard of for so long, and return it."""
        buried = []
        with translated(self._place):
            for one in await self._manager.get_stalled_jobs(seconds_since_heartbeat=silent_seconds):
                await self._manager.finish_job(one, Status.FAILED, delete_job=False)
                if job := job_of(one.task_kwargs):
                    buried.append(job)
            await self._manager.prune_stalled_workers(silent_seconds)
        return buried

    async def remove_old(self) -> None:
        """Remove what ended a day ago."""
        with translated(self._place):
            await self._manager.delete_old_jobs(_REMOVED_AFTER_HOURS, include_failed=True, include_aborted=True)

    async def work(self, kinds: Sequence[Kind], *, at_once: int, silent_seconds: float, waits: bool) -> None:
        """Take jobs of some kinds from the queue, so many at once, until this is cancelled.

        Those that are under way then come to their end. Without `waits` it ends when there is none.
        """
        with translated(self._place):
            await self._app.run_worker_async(
                queues=[one.value for one in kinds],
                concurrency=at_once,
                wait=waits,
                fetch_job_polling_interval=POLLS_EACH_SECONDS,
                update_heartbeat_interval=silent_seconds / _BEATS_BEFORE_SILENT,
                stalled_worker_timeout=silent_seconds,
                install_signal_handlers=False,
            )


@asynccontextmanager
async def opened(queue: JobQueue) -> AsyncIterator[JobQueue]:
    """Connect a queue while the block lasts; what it needs is made where it is not there."""
    await asyncio.to_thread(queue.prepare)
    await queue.open()
    try:
        yield queue
    finally:
        await queue.close()


def opened_queue(place: PostgresUrl) -> AbstractAsyncContextManager[JobQueue]:
    """Open a queue for who only puts jobs into it."""
    return opened(JobQueue(place))


def _carried_out_by(work: Work) -> Callable[..., Awaitable[None]]:
    async def carry_out(account: str, kind: str, is_asked: bool) -> None:
        if job := job_of({"account": account, "kind": kind}):
            await work(job, is_asked)

    return carry_out


def job_of(arguments: Mapping[str, object]) -> Job | None:
    """Return the job that the arguments of one in the queue say; None where they are of another version's."""
    account, kind = arguments.get("account"), arguments.get("kind")
    known = {one.value: one for one in Kind}
    if not (isinstance(account, str) and isinstance(kind, str) and kind in known):
        return None
    return Job(known[kind], account)


def schema_name() -> str:
    """Return the name of the schema for the tables of this version's engine."""
    return f"meter_sync_jobs_{hashlib.sha256(SchemaManager.get_schema().encode()).hexdigest()[:8]}"


@contextmanager
def translated(place: PostgresUrl) -> Iterator[None]:
    """Turn what the engine or its database raise into an error that says what to do: see what it is caused by."""
    try:
        yield
    except (ConnectorException, psycopg.Error) as error:
        cause = error.__cause__ or error
        said = next(iter(str(cause).splitlines()), type(cause).__name__)
        if isinstance(cause, psycopg.errors.InsufficientPrivilege):
            raise ConfigurationError(
                f"the queue of jobs cannot be made in {place}: {said}; nothing was queued",
                "let the ledger's user make a schema: GRANT CREATE ON DATABASE … TO …",
                code="queue_unusable",
            ) from error
        raise TryAgainError(
            f"the queue of jobs in {place} cannot be used: {said}",
            "see that the server runs, and can be reached from this machine; what is due is in the ledger",
            code="queue_unusable",
        ) from error
