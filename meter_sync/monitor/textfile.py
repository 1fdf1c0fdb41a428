"""The file for Prometheus, which node_exporter's textfile collector reads."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from meter_sync.monitor.ended import Ended, MonitorFailed
from meter_sync.monitor.metrics import METRICS, PREFIX, Series, Values, after

_LARGEST_BYTES = 4_000_000
_FOR_EVERYBODY = 0o644
"""Whoever collects is another user than the program's, whose umask would keep the file from it."""


def write(file: Path, ended: Ended) -> None:
    """Write what is known after a run, as a whole: nobody ever reads half of it. Raise MonitorFailed."""
    registry = CollectorRegistry()
    registry.register(_Known(after(ended, read(file))))
    new = file.with_name(f"{file.name}.{os.getpid()}")  # which is not collected
    try:
        write_to_textfile(str(new), registry)
        new.chmod(_FOR_EVERYBODY)
        new.replace(file)
    except OSError as error:
        raise MonitorFailed(f"{file} cannot be written: {error.strerror}") from error


def read(file: Path) -> Values:
    """Return what a file says, or nothing where it is missing, damaged or another one: it then begins anew."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_LARGEST_BYTES).decode()
        families = list(text_string_to_metric_families(text))
    except Exception:  # the parser raises whatever it stumbles over
        return {}
    known = {f"{PREFIX}{metric.name}": metric for metric in METRICS}
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for sample in (sample for family in families for sample in family.samples):
        metric = known.get(sample.name)
        if metric and set(sample.labels) == set(metric.labels) and math.isfinite(sample.value):
            labels = tuple(sample.labels[name] for name in metric.labels)
            found.setdefault(metric.name, {})[labels] = sample.value
    return found


class _Known(Collector):
    """Gives Prometheus' library what is known; what is not has no series, rather than one that says 0."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for metric in METRICS:
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            series: Series = self._values.get(metric.name, {})
            one = family(f"{PREFIX}{metric.name}", metric.says, labels=metric.labels)
            for labels, value in sorted(series.items()):
                one.add_metric(labels, value)
            if series:
                yield one
