"""What Prometheus' library is given: the metrics of one account or, by a label, of each of several."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from meter_sync.monitor.metrics import METRICS, PREFIX, Metric, Series, Values

ACCOUNT = "account"
"""The label that says whose a value is, where there are several accounts."""


class Known(Collector):
    """Gives what is known of accounts, by their names; what is not has no series, rather than one that says 0."""

    def __init__(self, known: Mapping[str, Values]) -> None:
        self._known = known

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield each metric of which there is something to say."""
        for metric in METRICS:
            one = self._family(metric)
            if one.samples:
                yield one

    def _family(self, metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
        family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        account = [ACCOUNT] if any(self._known) else []
        one = family(f"{PREFIX}{metric.name}", metric.says, labels=[*account, *metric.labels])
        for name, values in sorted(self._known.items()):
            series: Series = values.get(metric.name, {})
            for labels, value in sorted(series.items()):
                one.add_metric([name, *labels] if account else labels, value)
        return one
