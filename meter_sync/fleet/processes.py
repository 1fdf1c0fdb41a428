"""Carrying jobs out: each is the command in a process of its own, so that a busy run keeps no worker from its beats."""

import asyncio
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from meter_sync.config import Configuration
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError
from meter_sync.fleet.due import is_due
from meter_sync.fleet.kinds import Job
from meter_sync.fleet.queue import JobQueue
from meter_sync.ledger import open_ledger, open_ledgers_read_only
from meter_sync.ledger.turns import turns_of
from meter_sync.net.postgres_url import PostgresUrl
from meter_sync.net.stop import Stop

Accounts = Callable[[], Awaitable[Sequence[Configuration]]]
"""Returns what there is for each account now: it may be another than a moment ago. It raises MeterSyncError."""

_WORK_DONE = (ExitCode.DONE, ExitCode.PARTIAL, ExitCode.ATTENTION)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the workers of all machines have in common, and the name of this one."""

    place: PostgresUrl
    """Where the ledger is."""
    accounts: Accounts
    worker: str
    clock: Callable[[], datetime]
    """This machine's."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of one worker.

    When the end is asked for, each is asked to end, and what it left undone is queued again.
    """

    fleet: Fleet
    command: Sequence[str]
    """What is started, before the arguments that say which run it is."""
    stop: Stop
    under_way: set[Job] = field(default_factory=set)
    living: set[int] = field(default_factory=set)
    """The processes of the runs that have not ended: what remains of a job after that is to note its end."""
    ended: Counter[tuple[Job, int]] = field(default_factory=Counter)
    """How many ended with which code."""

    async def carry_out(self, queue: JobQueue, job: Job, is_asked: bool) -> None:
        """Carry a job out, if it is due or somebody asked for it. Whatever goes wrong is in the log and the ledger."""
        try:
            if self.stop.requested:
                await queue.put(job, is_asked=is_asked)
            elif await self._begins(job, is_asked):
                self.under_way.add(job)
                try:
                    await self._carried_out(queue, job, is_asked)
                finally:
                    self.under_way.discard(job)
        except MeterSyncError as error:  # it is due still, and so comes again
            log.warning("job_left", job=str(job), message=error.message)
        except Exception as bug:
            log.error("job_failed", job=str(job), because=type(bug).__name__, traceback=traceback.format_exc())

    async def _begins(self, job: Job, is_asked: bool) -> bool:
        """Say whether it is to be done, and record that it begins."""
        account = next((one for one in await self.fleet.accounts() if one.account == job.account), None)
        if account is None:
            log.warning("job_of_no_account", job=str(job), message="the configuration here has no such account")
            return False
        return await asyncio.to_thread(self._recorded, job, account, is_asked)

    def _recorded(self, job: Job, account: Configuration, is_asked: bool) -> bool:
        now = self.fleet.clock()
        with open_ledgers_read_only(self.fleet.place) as books:
            if not is_asked and not is_due(job, account, books, now):
                log.info("job_not_due", job=str(job))
                return False
        with open_ledger(self.fleet.place, turns_of(job.account)) as ledger:
            ledger.turns.begin(job.kind, self.fleet.worker, now)
        return True

    async def _carried_out(self, queue: JobQueue, job: Job, is_asked: bool) -> None:
        log.info("job_begun", job=str(job))
        code = await self._code_of(job)
        if code is None:
            await queue.put(job, is_asked=is_asked)
        else:
            self.ended[job, code] += 1
        await asyncio.to_thread(self._record_end, job, code)
        log.info("job_ended", job=str(job), exit_code=code)

    async def _code_of(self, job: Job) -> int | None:
        """Return the exit code of the run; None where it was asked to end before its work was done."""
        account = ("--account", job.account) if job.account else ()
        process = await asyncio.create_subprocess_exec(
            *self.command,
            *job.kind.arguments,
            *account,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a signal of the terminal's comes to the worker, which hands it on
        )
        self.living.add(process.pid)
        ending, stopping = asyncio.create_task(process.wait()), asyncio.create_task(self.stop.wait())
        await asyncio.wait((ending, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        is_cut_off = not ending.done()
        if is_cut_off:
            process.terminate()
        code = await ending
        self.living.discard(process.pid)
        return None if is_cut_off and code not in _WORK_DONE else code

    def _record_end(self, job: Job, code: int | None) -> None:
        with open_ledger(self.fleet.place, turns_of(job.account)) as ledger:
            ledger.turns.end(job.kind, self.fleet.clock(), code)
