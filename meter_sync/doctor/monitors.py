"""The section of the monitors: whether somebody hears of it when runs fail, or do not come any more."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from meter_sync.doctor.finding import Finding, ok, problem, skipped, warning
from meter_sync.doctor.installation import Installation
from meter_sync.monitor.ended import MonitorFailed
from meter_sync.monitor.notify import addresses_in, is_address
from meter_sync.monitor.pings import pings

_ID = "monitor"
_PING_SECONDS = 5.0


def examine_monitors(installation: Installation) -> Iterator[Finding]:
    """Yield of each monitor whether it answers, or can be written, without telling it of a run."""
    monitor = installation.settings.monitor
    if monitor.ping_url is None and monitor.textfile is None and monitor.notify_file is None:
        said = "no monitor is configured: nobody hears of it when runs stop"
        yield warning(_ID, said, "set monitor.ping_url, monitor.textfile or monitor.notify_file in the TOML file")
        return
    if monitor.ping_url is not None:
        yield (
            _pinged(monitor.ping_url.get_secret_value())
            if installation.may_ask
            else skipped(_ID, "monitor.ping_url: it asks a server", "ping_url")
        )
    if monitor.textfile is not None:
        yield _written(monitor.textfile)
    if monitor.notify_file is not None:
        yield from _notified(monitor.notify_file)


def _pinged(url: str) -> Finding:
    """Send what a service only notes down: it neither begins nor ends a run (healthchecks.io, "Log")."""
    try:
        pings(url, str(uuid.uuid4()))("log", "meter-sync doctor", _PING_SECONDS)
    except MonitorFailed as failure:
        remedy = "correct monitor.ping_url; a service that knows no /log answers it with 404, and pings all the same"
        return problem(_ID, f"monitor.ping_url: {failure.message}", remedy, "ping_url")
    return ok(_ID, "monitor.ping_url answers", "ping_url")


def _written(file: Path) -> Finding:
    if os.access(file.parent, os.W_OK | os.X_OK):
        return ok(_ID, f"monitor.textfile can be written: {file}", "textfile")
    said = f"monitor.textfile {file} cannot be written by this user"
    return problem(_ID, said, "make its folder, and let the schedule's user write there", "textfile")


def _notified(file: Path) -> Iterator[Finding]:
    try:
        addresses = addresses_in(file)
    except MonitorFailed as failure:
        yield problem(_ID, f"monitor.notify_file: {failure.message}", "correct the file", "notify_file")
        return
    wrong = [one.shown for one in addresses if not is_address(one)]
    if wrong:
        said = f"monitor.notify_file {file}: Apprise does not understand {', '.join(wrong)}"
        yield problem(_ID, said, "write them as Apprise's documentation does", "notify_file")
    else:
        yield ok(_ID, f"monitor.notify_file has {len(addresses)} addresses that Apprise understands", "notify_file")
