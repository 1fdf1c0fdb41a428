"""What is scheduled, and what each job's end means to whoever is told of it."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

from meter_sync.core.outcomes import ExitCode
from meter_sync.core.schedule import Schedule

ENDS_WITHIN_SECONDS = 120
"""So long after it was asked to end whatever is at work has ended: a request in flight is tried for a minute."""

_LONGEST_NAME = 52
"""That of a CronJob: its Jobs have eleven characters more (documentation of Kubernetes, "CronJob")."""


class Every(Enum):
    """How often something is started."""

    MINUTE = "every minute"
    HOUR = "every hour"
    DAY = "once a day"
    MONTH = "once a month"


@dataclass(frozen=True, slots=True)
class Job:
    """A command that is started again and again."""

    name: str
    """Of its own beside the others; the full run's is that of the program."""
    description: str
    arguments: tuple[str, ...]
    """What follows the program and its global options."""
    every: Every
    is_said: frozenset[ExitCode]
    """The exit codes of which there is nothing to tell but what it has printed: or is no trouble, or told elsewhere."""
    longest: timedelta
    """Longer it never takes, unless something hangs."""
    prints_when_well: bool = False
    """Whether it prints something where nobody need look, too."""
    tells: bool = True
    """Whether somebody is told when it fails; what comes every minute would tell every minute."""
    turn: int = 0
    """Its place among jobs that differ by their account alone, which do not all begin at once."""

    @property
    def command(self) -> str:
        """The command that is started."""
        return self.arguments[0]


_ITEMS = frozenset((ExitCode.PARTIAL, ExitCode.ATTENTION))
"""Quiet commands print themselves what was held, skipped or failed."""


def full_run(schedule: Schedule) -> Job:
    """Return the job that lists everything: it comes by the schedule.

    It is ended a while after a complete run is overdue, so that one that hangs is told of first, as what it is.
    """
    is_hourly = schedule is Schedule.HOURLY
    return Job(
        name="meter-sync",
        description="Report metered usage to Stripe",
        arguments=("run", "--quiet"),
        every=Every.HOUR if is_hourly else Every.DAY,
        is_said=_ITEMS | {ExitCode.TRY_AGAIN},
        longest=timedelta(minutes=150) if is_hourly else timedelta(hours=12),
    )


CLOSING = Job(
    name="meter-sync-closing",
    description="Report to Stripe what is used in the last minutes of a billing period",
    arguments=("run", "--closing", "3m", "--quiet"),
    every=Every.MINUTE,
    # What ends every run alike, the full run tells.
    is_said=_ITEMS | {ExitCode.TRY_AGAIN, ExitCode.CONFIGURATION},
    longest=timedelta(minutes=10),
    tells=False,
)
VERIFY = Job(
    name="meter-sync-verify",
    description="Compare what Stripe holds with what OpenMeter says, a thirtieth of all items a day",
    arguments=("verify", "--sample", "30", "--quiet"),
    every=Every.DAY,
    is_said=_ITEMS | {ExitCode.TRY_AGAIN},
    longest=timedelta(hours=2),
)


SHADOW = Job(
    name="meter-sync-shadow",
    description="Keep the copies in the shadow account like their originals",
    arguments=("setup", "shadow", "--yes"),
    every=Every.HOUR,
    is_said=frozenset((ExitCode.PARTIAL, ExitCode.TRY_AGAIN)),
    longest=timedelta(minutes=50),
    prints_when_well=True,
)


def copyings(shadows: Sequence[str]) -> list[Job]:
    """Return the jobs that keep copies: one for each account in shadow mode; the only account has no name."""
    return [_of_account(SHADOW, account, turn) if account else SHADOW for turn, account in enumerate(shadows)]


def _of_account(job: Job, account: str, turn: int) -> Job:
    name = f"{job.name}-{account}"
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 9]}-{zlib.crc32(name.encode()):08x}"
    description = f"{job.description}, of account {account}"
    arguments = (*job.arguments, "--account", account)
    return replace(job, name=name, description=description, arguments=arguments, turn=turn)


UNBILLED = Job(
    name="meter-sync-unbilled",
    description="Name the usage that Stripe will not bill by itself",
    arguments=("history", "--unbilled"),
    every=Every.DAY,
    is_said=frozenset((ExitCode.ATTENTION, ExitCode.TRY_AGAIN)),
    longest=timedelta(minutes=10),
    prints_when_well=True,
)

STATEMENT = Job(
    name="meter-sync-statement",
    description="Make the statement of the month before",
    arguments=("statement",),
    every=Every.MONTH,
    is_said=frozenset((ExitCode.ATTENTION, ExitCode.TRY_AGAIN)),
    longest=timedelta(hours=1),
)


def status(every: Every) -> Job:
    """Return the job that says whether all is well: also where runs do not come any more, or do not end."""
    return Job(
        name="meter-sync-status",
        description="Say whether meter-sync is well",
        arguments=("status",),
        every=every,
        is_said=frozenset((ExitCode.ATTENTION, ExitCode.TRY_AGAIN)),
        longest=timedelta(minutes=10),
        prints_when_well=True,
    )


def another(minute: int, later: int) -> int:
    """Return another minute, so many later, and not the first one of an hour either."""
    return 1 + (minute - 1 + later) % 59
