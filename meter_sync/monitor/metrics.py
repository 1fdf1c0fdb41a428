"""What Prometheus is told: each metric, and its values by what the ledger and a run say.

Base units, and no customer, subscription or item in a label: what a metric costs is how many values its labels have.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Literal, TypeAlias

from meter_sync import __version__
from meter_sync.config import Settings
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Ledger, books_in_use, open_ledger_read_only
from meter_sync.ledger.remainders import Unbilled
from meter_sync.monitor.beside import READ_SECONDS, Beside
from meter_sync.monitor.ended import Ended, MonitorFailed
from meter_sync.sync.request import Sort

PREFIX = "meter_sync_"

Series: TypeAlias = Mapping[tuple[str, ...], float]
"""Values of a metric by those of its labels, in their order."""
Values: TypeAlias = Mapping[str, Series]
"""The series of metrics by their names, without the prefix. What is not known has none."""

_COMPLETE = (ExitCode.DONE, ExitCode.PARTIAL, ExitCode.ATTENTION)
"""How runs end that listed everything and did what could be done, as the ledger has it."""
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: what it says, and by what."""

    name: str
    says: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


METRICS = (
    Metric("build_info", "The version that wrote this file; always 1.", ("version",)),
    Metric("schedule_interval_seconds", "How long after one full run the next one is promised."),
    Metric("run_last_timestamp_seconds", "When the last full run ended, however it did."),
    Metric("run_exit_code", "The exit code of the last full run."),
    Metric("run_last_complete_timestamp_seconds", "When the last complete run began."),
    Metric("run_duration_seconds", "How long the last complete run took."),
    Metric("usage_as_of_timestamp_seconds", "Until when usage is reported: the instant of the newest complete run."),
    Metric("items", "Items in the last complete run, in each of their periods.", ("outcome", "reason", "meter")),
    Metric("unbilled_units", "What Stripe does not bill, in its units, until somebody has settled it.", ("meter",)),
    Metric("unbilled_periods", "Periods of items of which something is not billed, or it is not known.", ("meter",)),
    Metric("held_oldest_timestamp_seconds", "Since when what has waited longest is held, skipped or failing."),
    Metric("next_period_end_timestamp_seconds", "When the next billing period ends."),
    Metric("periods_due_unreported", "Billing periods that have ended and are not reported in full."),
    Metric("requests_total", "Requests of full runs, by the status of HTTP.", ("api", "endpoint", "code"), "counter"),
    Metric("rate_limited_total", "Requests of full runs that were answered with status 429.", ("api",), "counter"),
)


def after(ended: Ended, before: Values) -> Values:
    """Given what became of a run, and what was known before it, return what is known now.

    What the ledger says is taken from it, if it can be read; what only a complete run says stays until the next one;
    what is counted goes on.
    """
    return {**before, **_of_ledger(ended), **_of_run(ended), **_counted(ended, before)}


def _of_run(ended: Ended) -> Values:
    execution = ended.execution
    found: dict[str, Series] = {
        "build_info": {(__version__,): 1},
        "run_last_timestamp_seconds": _one(execution.finished_at),
        "run_exit_code": _one(int(ended.exit_code)),
    }
    if ended.settings is not None:
        found["schedule_interval_seconds"] = _one(ended.settings.schedule.interval.total_seconds())
    if ended.exit_code in _COMPLETE:
        found["run_duration_seconds"] = _one(execution.seconds)
        found["items"] = _items(execution.report.tally)
    return found


def _items(tally: Mapping[Sort, int]) -> Series:
    found = Counter[tuple[str, ...]]()
    for sort, count in tally.items():
        found[sort.outcome.value, sort.reason.value if sort.reason else "", sort.meter] += count
    return found


def _counted(ended: Ended, before: Values) -> Values:
    requests, limited = Counter(before.get("requests_total", {})), Counter(before.get("rate_limited_total", {}))
    for sent, count in ended.execution.report.requests.items():
        requests[sent.api, sent.endpoint, str(sent.status or "none")] += count
        limited[(sent.api,)] += count if sent.status == _TOO_MANY_REQUESTS else 0
    return {"requests_total": requests, "rate_limited_total": limited}


def _of_ledger(ended: Ended) -> Values:
    """Return what the ledger says, or nothing where it cannot be read, which the run itself says."""
    if ended.settings is None:
        return {}
    try:
        found = Beside(partial(known, ended.settings, ended.execution.finished_at))
        return found.result(time.monotonic() + READ_SECONDS)
    except (MeterSyncError, MonitorFailed):
        return {}


def known(settings: Settings, at: datetime) -> Values:
    """Return what the ledger says of an account at an instant. Raise MeterSyncError."""
    with open_ledger_read_only(settings.ledger, books_in_use(settings.ledger, settings.scope)) as ledger:
        held, ends = ledger.overview.held(), ledger.overview.ends(at)
        return {
            "run_last_complete_timestamp_seconds": _one(ledger.runs.last_complete()),
            "usage_as_of_timestamp_seconds": _one(ledger.runs.last_complete_as_of()),
            "held_oldest_timestamp_seconds": _one(min((one.first_at for one in held), default=None)),
            "next_period_end_timestamp_seconds": _one(ends.next_end),
            "periods_due_unreported": _one(ends.unreported),
            **_unbilled(ledger),
        }


def _unbilled(ledger: Ledger) -> Values:
    """Return what is not billed, and waits for a person rather than for the item's next period."""
    waiting = ledger.remainders.for_a_person()
    meters = ledger.overview.meters_of([_key(one) for one in waiting])
    units, periods = defaultdict[tuple[str, ...], float](float), Counter[tuple[str, ...]]()
    for one in waiting:
        meter = (meters.get(_key(one), ""),)
        units[meter] += 0 if one.is_unknown else one.open_quantity
        periods[meter] += 1
    return {"unbilled_units": units, "unbilled_periods": periods}


def _key(one: Unbilled) -> tuple[str, datetime]:
    return one.item, one.period.start


def _one(value: float | datetime | None) -> Series:
    if value is None:
        return {}
    return {(): value.timestamp() if isinstance(value, datetime) else value}
