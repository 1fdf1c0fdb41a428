"""A run and its monitors: they are told when it begins and how it ended, and can neither change nor hold it up.

Each is told in a thread of its own, which ends with the process: so one that hangs keeps neither another one waiting
nor the process alive. What fails is a warning.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from meter_sync.config import Configuration, MonitorSettings, Settings
from meter_sync.core.outcomes import gravest
from meter_sync.errors import MeterSyncError
from meter_sync.monitor.beside import Beside
from meter_sync.monitor.ended import Ended, MonitorFailed
from meter_sync.sync.request import Execution, Request

if TYPE_CHECKING:
    from meter_sync.monitor.pings import Ping

LIMIT_SECONDS = 8.0
"""So long all monitors together may take after a run: 10 seconds, with some to spare for the last words."""
_START_SECONDS = 5.0

log = structlog.get_logger()

Work = Callable[[], None]


class Watched:
    """A run that may have monitors. Only full runs have all, and closing runs are for those who are notified."""

    def __init__(self, request: Request, limit_seconds: float = LIMIT_SECONDS) -> None:
        self._request = request
        self._limit_seconds = limit_seconds
        self._monitors = MonitorSettings()
        self._settings: Settings | None = None
        self._accounts: Mapping[str, Settings | None] = {}
        self._ping: Ping | None = None
        self._start: Beside[None] | None = None

    def begin(self, configuration: Configuration) -> None:
        """Given the configuration, right or wrong, tell that the run begins; this does not wait for an answer."""
        self._monitors, self._settings = configuration.monitor, configuration.in_effect
        self.know(configuration.accounts)
        url, run = self._monitors.ping_url, self._request.run_id
        if url is None or run is None or not self._request.is_full:
            return
        try:
            from meter_sync.monitor.pings import pings

            ping = self._ping = pings(url.get_secret_value(), run)
            self._start = Beside(lambda: ping("start", "", _START_SECONDS))
        except Exception as bug:
            _warn("ping_url", _in_words(bug), run)

    def know(self, accounts: Sequence[Configuration]) -> None:
        """Given what there is for accounts, take note of those that were not known before."""
        self._accounts = {**self._accounts, **{one.account: one.in_effect for one in accounts}}

    def end(self, execution: Execution, summary: str) -> None:
        """Given what became of the run, also in one line, tell everybody who wants to know."""
        self._tell(self._works(self._ended(execution, summary, self._settings)), execution.run.id)

    def end_each(self, executions: Mapping[str, Execution], summaries: Mapping[str, str], summary: str) -> None:
        """Given what became of each account's run, also in a line each, and in one for all, tell everybody.

        A ping is of all together, with the gravest exit code; people are told of each account by itself.
        """
        code = gravest(*(one.report.exit_code for one in executions.values()))
        worst = next(one for one in executions.values() if one.report.exit_code is code)
        works = self._pinging(self._ended(worst, summary, self._settings))
        each = {name: self._ended(one, summaries[name], self._accounts.get(name)) for name, one in executions.items()}
        for name, ended in each.items():
            works += self._notifying(ended, name)
        if self._monitors.textfile is not None and self._request.is_full:
            works.append(("textfile", partial(_write_each, self._monitors.textfile, each, self._accounts)))
        self._tell(works, worst.run.id)

    def _ended(self, execution: Execution, summary: str, settings: Settings | None) -> Ended:
        return Ended(execution, summary, settings, is_full=self._request.is_full)

    def _tell(self, works: Sequence[tuple[str, Work]], run: str) -> None:
        until = time.monotonic() + self._limit_seconds
        try:
            told = {monitor: Beside(work) for monitor, work in works}
            failed = {monitor: why for monitor, one in told.items() if (why := _why_failed(one, until))}
        except Exception as bug:
            failed = {"every one": _in_words(bug)}
        except KeyboardInterrupt:
            return
        for monitor, why in failed.items():
            _warn(monitor, why, run)

    def _works(self, ended: Ended) -> list[tuple[str, Work]]:
        """Return who is to be told how a run ended: which monitor, and what tells it."""
        textfile = self._monitors.textfile
        writing = [("textfile", partial(_write, textfile, ended))] if textfile is not None and ended.is_full else []
        return [*self._pinging(ended), *writing, *self._notifying(ended)]

    def _pinging(self, ended: Ended) -> list[tuple[str, Work]]:
        return [("ping_url", partial(self._end_ping, self._ping, ended))] if self._ping is not None else []

    def _notifying(self, ended: Ended, account: str = "") -> list[tuple[str, Work]]:
        notify_file = self._monitors.notify_file
        is_closing = self._request.closing is not None and not self._request.dry_run
        is_told = ended.is_full or (is_closing and ended.execution.report.tally)
        if notify_file is None or not is_told:
            return []
        name = f"notify_file, account {account}" if account else "notify_file"
        return [(name, partial(_notify, notify_file, ended, self._limit_seconds * 0.75))]

    def _end_ping(self, ping: "Ping", ended: Ended) -> None:
        """Ping how the run ended, after the ping that it has begun: the other way round it would seem to go on."""
        half_seconds = self._limit_seconds * 0.45
        why = _why_failed(self._start, time.monotonic() + half_seconds) if self._start else None
        ping(str(int(ended.exit_code)), ended.in_words, half_seconds)
        if why:
            raise MonitorFailed(why)


# What each needs is imported by itself: a library that is broken is the trouble of one monitor.


def _write(textfile: Path, ended: Ended) -> None:
    from meter_sync.monitor.textfile import write

    write(textfile, ended)


def _write_each(textfile: Path, ended: Mapping[str, Ended], accounts: Collection[str]) -> None:
    from meter_sync.monitor.textfile import write_each

    write_each(textfile, ended, accounts)


def _notify(notify_file: Path, ended: Ended, seconds: float) -> None:
    from meter_sync.monitor.notify import notify

    notify(notify_file, ended, seconds)


def _why_failed(work: Beside[None], until: float) -> str | None:
    """Wait for its end, until an instant of the monotonic clock; return why it failed, or None if it did not."""
    try:
        work.result(until)
    except Exception as error:
        return _in_words(error)
    return None


def _warn(monitor: str, why: str, run: str) -> None:
    log.warning("monitor_failed", monitor=monitor, message=why, run_id=run)


def _in_words(error: Exception) -> str:
    """Return what went wrong, without what the messages of libraries may have of addresses, which are secrets."""
    if isinstance(error, MonitorFailed | MeterSyncError):
        return error.message
    return f"meter-sync itself failed with {type(error).__name__}; report it"
