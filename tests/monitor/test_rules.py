"""The alert rules and the dashboard that come with the documentation: of metrics that there are, and right."""

import json
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from meter_sync.monitor.metrics import METRICS, PREFIX
from tests.support.documents import ROOT, document, names_in, table

ALERTS = ROOT / "docs" / "monitoring" / "alerts.yml"
DASHBOARD = ROOT / "docs" / "monitoring" / "dashboard.json"
TEST = Path(__file__).with_name("alerts-test.yml")
NAMES = {f"{PREFIX}{metric.name}" for metric in METRICS}
LABELS = {label for metric in METRICS for label in metric.labels}


def rules() -> list[dict[str, Any]]:
    yaml = import_module("yaml")  # it has no types, unless somebody installed some
    (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return list(group["rules"])


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}\w+", expression))


@pytest.mark.parametrize("what", [("check", "rules", ALERTS), ("test", "rules", TEST)], ids=["check", "test"])
def test_promtool_finds_the_rules_right(what: tuple[str, str, Path]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("this machine has no promtool, which is in Debian's package prometheus")

    done = subprocess.run([promtool, *what], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_each_alert_is_tested_and_described_and_of_metrics_that_are_written() -> None:
    described = {row[0].strip("`") for row in table(document("docs/monitoring.md"), "| alert | when |")}
    tested = TEST.read_text("utf-8")

    assert described == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert metrics_in(rule["expr"])
        assert metrics_in(rule["expr"]) <= NAMES
        assert re.search(rf"alertname: {rule['alert']}\n +exp_alerts:\n", tested), rule["alert"]


def test_the_dashboard_shows_metrics_that_are_written_from_whatever_prometheus_is_chosen() -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = set().union(*map(metrics_in, expressions))

    assert shown == NAMES
    assert {variable["name"]: variable["type"] for variable in dashboard["templating"]["list"]} == {
        "datasource": "datasource",
        "instance": "query",
    }
    assert set(re.findall(r'"uid": "([^"]+)"', DASHBOARD.read_text("utf-8"))) == {"${datasource}", "meter-sync"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert "://" not in DASHBOARD.read_text("utf-8")
    by = {name for one in expressions for names in re.findall(r"by \(([^)]+)\)", one) for name in names.split(", ")}
    assert by <= {*LABELS, "instance"}


def test_every_metric_is_described_with_its_labels() -> None:
    rows = table(document("docs/monitoring.md"), "| metric | labels | what it is |")

    described = {re.sub(r"[`]", "", row[0]): set(names_in(row[1])) for row in rows}
    assert described == {f"{PREFIX}{metric.name}": set(metric.labels) for metric in METRICS}
