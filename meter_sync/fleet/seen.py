"""The state of a queue, for who only looks: who works, what waits, and what is stuck."""

import math
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from meter_sync.fleet.kinds import Job, Kind
from meter_sync.fleet.queue import job_of, schema_name, translated
from meter_sync.ledger.postgres import CONNECTED
from meter_sync.net.postgres_url import PostgresUrl

STUCK_AFTER = timedelta(minutes=15)
"""A job that waits for so long is one that nobody takes, or there are too few workers."""

_TAKERS = """
SELECT count(*) FILTER (WHERE last_heartbeat > now() - make_interval(secs => %(silent_seconds)s)), count(*)
FROM {}.procrastinate_workers
"""
_JOBS = """
SELECT jobs.args, jobs.status = 'doing' AS is_begun,
    jobs.status = 'doing' AND (workers.id IS NULL
        OR workers.last_heartbeat <= now() - make_interval(secs => %(silent_seconds)s)) AS is_lost,
    now() - min(events.at) AS age
FROM {0}.procrastinate_jobs AS jobs
LEFT JOIN {0}.procrastinate_workers AS workers ON workers.id = jobs.worker_id
LEFT JOIN {0}.procrastinate_events AS events ON events.job_id = jobs.id
WHERE jobs.status IN ('todo', 'doing') GROUP BY jobs.id, workers.id ORDER BY jobs.id
"""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job that waits, or that a worker is at."""

    job: Job
    age: timedelta
    """Since it was queued."""
    is_begun: bool
    is_lost: bool
    """Whether its worker has not been heard of: the next tick queues it again."""

    @property
    def is_stuck(self) -> bool:
        """Whether somebody should look."""
        return self.is_lost or (not self.is_begun and self.age > STUCK_AFTER)


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is in a queue."""

    heard: int
    """How many workers were heard of lately. Each takes jobs of each kind by itself."""
    silent: int
    """How many were not, and have not said that they end."""
    jobs: tuple[QueuedJob, ...]


def look(place: PostgresUrl, silent_seconds: float) -> Seen | None:
    """Return what there is in the queue of a ledger's database; None where no worker was ever started.

    Nothing is changed. Raise TryAgainError or ConfigurationError.
    """
    secret = {} if place.password is None else {"password": place.password}
    schema = Identifier(schema_name())
    with translated(place), psycopg.connect(make_conninfo(place.url, **CONNECTED, **secret)) as connection:
        connection.read_only = True
        if connection.execute("SELECT to_regnamespace(%s)", (schema_name(),)).fetchone() == (None,):
            return None
        of_silence = {"silent_seconds": silent_seconds}
        heard, every = connection.execute(SQL(_TAKERS).format(schema), of_silence).fetchone() or (0, 0)
        rows = connection.execute(SQL(_JOBS).format(schema), of_silence).fetchall()
    found = ((job_of(args), age or timedelta(0), is_begun, is_lost) for args, is_begun, is_lost, age in rows)
    jobs = (QueuedJob(job, age, is_begun, is_lost) for job, age, is_begun, is_lost in found if job)
    return Seen(math.ceil(heard / len(Kind)), math.ceil((every - heard) / len(Kind)), tuple(jobs))
