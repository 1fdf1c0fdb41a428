"""The file for Prometheus, which node_exporter's textfile collector reads."""

import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from filelock import FileLock
from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

from meter_sync.monitor.ended import Ended, MonitorFailed
from meter_sync.monitor.exposition import ACCOUNT, Known
from meter_sync.monitor.metrics import METRICS, PREFIX, Values, after

_LARGEST_BYTES = 40_000_000
_LOCKED_SECONDS = 2.0
_FOR_EVERYBODY = 0o644
"""Whoever collects is another user than the program's, whose umask would keep the file from it."""


def write(file: Path, ended: Ended) -> None:
    """Write what is known after a run, as a whole: nobody ever reads half of it. Raise MonitorFailed."""
    _put(file, {"": after(ended, read(file).get("", {}))})


def write_each(file: Path, ended: Mapping[str, Ended], accounts: Collection[str]) -> None:
    """Write what is known after runs of several accounts, by name, beside what is known of the others that there are.

    Another process may do the same at this moment for another account. Raise MonitorFailed.
    """
    try:
        with FileLock(f"{file}.lock", timeout=_LOCKED_SECONDS):
            known = read(file)
            others = {name: known.get(name, {}) for name in accounts if name not in ended}
            _put(file, {**others, **{name: after(one, known.get(name, {})) for name, one in ended.items()}})
    except OSError as error:  # also where it was locked for too long
        raise MonitorFailed(f"{file}.lock cannot be used: {error.strerror or error}") from error


def _put(file: Path, known: Mapping[str, Values]) -> None:
    registry = CollectorRegistry()
    registry.register(Known(known))
    new = file.with_name(f"{file.name}.{os.getpid()}")  # which is not collected
    try:
        write_to_textfile(str(new), registry)
        new.chmod(_FOR_EVERYBODY)
        new.replace(file)
    except OSError as error:
        raise MonitorFailed(f"{file} cannot be written: {error.strerror}") from error


def read(file: Path) -> Mapping[str, Values]:
    """Return what a file says of each account, which has no name where it is the only one.

    That is nothing where it is missing, damaged or another one: it then begins anew.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(_LARGEST_BYTES).decode()
        families = list(text_string_to_metric_families(text))
    except Exception:  # the parser raises whatever it stumbles over
        return {}
    known = {f"{PREFIX}{metric.name}": metric for metric in METRICS}
    found: dict[str, dict[str, dict[tuple[str, ...], float]]] = {}
    for sample in (sample for family in families for sample in family.samples):
        metric, named = known.get(sample.name), dict(sample.labels)
        account = named.pop(ACCOUNT, "")
        if metric and set(named) == set(metric.labels) and math.isfinite(sample.value):
            labels = tuple(named[name] for name in metric.labels)
            found.setdefault(account, {}).setdefault(metric.name, {})[labels] = sample.value
    return found
