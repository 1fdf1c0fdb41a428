"""The section of the schedule: whether something on this machine starts the runs, as far as this user may see it."""

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from meter_sync.doctor.finding import Finding, ok, problem, skipped, warning
from meter_sync.doctor.installation import Installation
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import books_in_use, open_ledger_read_only

_COMMAND_SECONDS = 10
_CRONTABS = ("/etc/crontab", "/etc/cron.d")
_TIMERS = ("meter-sync.timer", "meter-sync-closing.timer")
_WORKERS = "meter-sync-worker@*.service"
_WITH_VALUES = frozenset({"--config", "--log-format", "--log-level"})
"""The global options, before the command, that have a value."""
_NARROWED = frozenset(
    {"--dry-run", "-n", "--customer", "--subscription", "--meter", "--price", "--test-clock", "--as-of", "--help"}
)
"""What makes a run another one than the full run."""
_EVERY_DAY = ("*", "*", "*")


@dataclass(frozen=True, slots=True)
class _Found:
    """What starts runs."""

    full: str | None
    """Where the full run is started, in words."""
    closing: str | None
    """The same of the closing run."""


def examine_schedule(installation: Installation) -> Iterator[Finding]:
    """Yield what starts the full run and the closing run: a worker, a timer that is enabled, or a line of a crontab."""
    if "KUBERNETES_SERVICE_HOST" in installation.environment:
        yield skipped(
            "schedule", "a container does not see who starts it: look at the CronJobs, or at the workers' Deployment"
        )
        return
    workers = _by_workers()
    off = [] if workers.full else list(_timers_that_are_off())  # workers take their place
    yield from off
    ways = [workers, _by_timers(), *(_by_crontab(*one) for one in _crontabs())]
    full = next((one.full for one in ways if one.full), None)
    closing = next((one.closing for one in ways if one.closing), None)
    if full:
        yield ok("schedule", f"the full run is started by {full}")
    elif not off:
        yield _nothing_found(installation)
    if closing:
        yield ok("schedule", f"the closing run is started by {closing}", "closing")
    elif full:
        said = "nothing that this user can see starts the closing run: the last minutes of periods may come too late"
        yield warning("schedule", said, "add it: meter-sync schedule prints it", "closing")


def _nothing_found(installation: Installation) -> Finding:
    """Say that no schedule was found: where runs come all the same, it is where this user cannot look."""
    said, remedy = "nothing that this user can see starts runs", "add a schedule: meter-sync schedule prints one"
    if _runs_come(installation):
        return warning("schedule", f"{said}, but they come", "look as the user, or on the machine, that starts them")
    return problem("schedule", said, remedy)


def _runs_come(installation: Installation) -> bool:
    settings = installation.settings
    try:
        with open_ledger_read_only(settings.ledger, books_in_use(settings.ledger, settings.scope)) as ledger:
            runs = ledger.runs
            is_overdue = runs.overdue_since(settings.schedule, installation.clock()) is not None
            return runs.last_complete() is not None and not is_overdue
    except MeterSyncError:
        return False


def _by_workers() -> _Found:
    listed = _said("systemctl", "list-units", "--plain", "--no-legend", "--state=active", _WORKERS)
    worker = next(iter(re.findall(r"^meter-sync-worker@\S+\.service", listed, flags=re.MULTILINE)), None)
    return _Found(worker, worker)


def _by_timers() -> _Found:
    full, closing = (timer if _is("is-active", timer) and _is("is-enabled", timer) else None for timer in _TIMERS)
    return _Found(full, closing)


def _timers_that_are_off() -> Iterator[Finding]:
    """Yield the timers that are there and will not start anything, now or after the next boot."""
    for timer in _TIMERS:
        if _said("systemctl", "is-enabled", timer) in ("", "not-found"):
            continue
        for state, verb in (("is-active", "start"), ("is-enabled", "enable")):
            if not _is(state, timer):
                said = f"{timer} is there, and not {state.removeprefix('is-')}"
                yield problem("schedule", said, f"systemctl {verb} {timer}", timer)


def _is(state: str, unit: str) -> bool:
    return _said("systemctl", state, unit) == state.removeprefix("is-")


def _crontabs() -> Iterator[tuple[str, str]]:
    """Yield each crontab that this user may read: whose it is, and its text."""
    yield "this user's crontab", _said("crontab", "-l")
    for file in _files(_CRONTABS):
        try:
            yield str(file), file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue


def _files(places: Iterable[str]) -> Iterator[Path]:
    for place in map(Path, places):
        try:
            # cron reads no other names there (cron(8), Debian).
            found = sorted(place.iterdir()) if place.is_dir() else [place]
            yield from (one for one in found if re.fullmatch("[A-Za-z0-9_-]+", one.name))
        except OSError:
            continue


def _by_crontab(whose: str, text: str) -> _Found:
    """Find what comes every day, at least. Its times are told, and not its command, which may have a key."""
    found = dict[bool, str]()
    for line in map(str.strip, text.splitlines()):
        times, command = _divided(line)
        run = _run_in(command) if times else None
        if run is not None and not _NARROWED & {word.partition("=")[0] for word in run}:
            is_closing = any(word.partition("=")[0] == "--closing" for word in run)
            found.setdefault(is_closing, f"{whose}: {times}")
    return _Found(found.get(False), found.get(True))


def _divided(line: str) -> tuple[str, str]:
    """Return the times of a crontab's line and its command; no times where it comes less often than each day."""
    if line.startswith("@"):
        word, _, command = line.partition(" ")
        return (word if word in ("@hourly", "@daily", "@midnight") else ""), command
    fields = line.split(None, 5)
    is_daily = len(fields) == 6 and not line.startswith("#") and tuple(fields[2:5]) == _EVERY_DAY
    return (" ".join(fields[:5]), fields[5]) if is_daily else ("", "")


def _run_in(command: str) -> list[str] | None:
    """Return the arguments of the run that a command starts, or None where it starts none."""
    words = re.split(r"[\s\"'`()]+", command)
    for at, word in enumerate(words):
        if word.rpartition("/")[2] != "meter-sync":
            continue
        rest = iter(words[at + 1 :])
        for after in rest:
            if after in _WITH_VALUES:
                next(rest, None)
            elif after == "run":
                return list(itertools.takewhile(lambda one: not one.startswith(("|", "&", ";", ">", "2>")), rest))
            elif not after.startswith("-"):
                break
    return None


def _said(program: str, *arguments: str) -> str:
    """Return what a program of the system prints, or nothing where there is none or it fails to answer."""
    path = shutil.which(program, path=os.environ.get("PATH", os.defpath))
    if path is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - the arguments are this module's own
            [path, *arguments], capture_output=True, text=True, errors="replace", timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
