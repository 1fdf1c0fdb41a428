"""The tick: each minute one worker of all reads what is due, and queues it."""

import asyncio
from datetime import timedelta

import structlog

from meter_sync.config import Configuration
from meter_sync.fleet.due import all_due
from meter_sync.fleet.kinds import Job
from meter_sync.fleet.processes import Fleet
from meter_sync.fleet.queue import JobQueue
from meter_sync.ledger import open_ledger, open_ledgers_read_only
from meter_sync.ledger.turns import turns_of

TICKS_EACH_SECONDS = 60.0
_TICK = "tick"
_EARLIER = timedelta(seconds=5)
"""A tick may come so much sooner after the one before: no worker wakes up to the second."""

log = structlog.get_logger()


async def requeue_lost(queue: JobQueue, silent_seconds: float) -> None:
    """Mark as failed what workers were at that have been silent for so long, and queue it again. Raise MeterSyncError.

    Where it was done all the same, it is not due, and whoever takes it leaves it.
    """
    for lost in await queue.bury(silent_seconds):
        said = f"its worker was silent for {silent_seconds:g} s; what it left undone is queued again"
        log.warning("job_lost", job=str(lost), message=said)
        await queue.put(lost)


async def tick(fleet: Fleet, queue: JobQueue) -> None:
    """Queue what is due, if no other worker has just done so. Raise MeterSyncError."""
    if not await asyncio.to_thread(_is_mine, fleet):
        return
    await queue.remove_old()
    accounts, alive = await fleet.accounts(), await queue.alive()
    for job in await asyncio.to_thread(_due, fleet, list(accounts)):
        if job not in alive and await queue.put(job):
            log.info("job_queued", job=str(job))


def _is_mine(fleet: Fleet) -> bool:
    with open_ledger(fleet.place, turns_of("")) as ledger:
        every = timedelta(seconds=TICKS_EACH_SECONDS) - _EARLIER
        return ledger.turns.take(_TICK, fleet.worker, fleet.clock(), every)


def _due(fleet: Fleet, accounts: list[Configuration]) -> list[Job]:
    with open_ledgers_read_only(fleet.place) as books:
        return list(all_due(accounts, books, fleet.clock()))
