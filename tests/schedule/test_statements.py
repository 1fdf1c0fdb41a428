"""Statements by schedule: once a month, once all of the month before is concluded, where their files stay."""

from dataclasses import replace
from pathlib import Path

import pytest

from meter_sync.cli.schedule.crontab import Machine
from meter_sync.cli.schedule.crontab import made as made_for_cron
from meter_sync.cli.schedule.installation import Installation
from meter_sync.cli.schedule.kubernetes import made as made_for_kubernetes
from meter_sync.cli.schedule.kubernetes_pods import Cluster
from meter_sync.cli.schedule.systemd import made as made_for_systemd
from tests.schedule.installations import FLEET, PLAIN

FOLDER = Path("/var/lib/meter-sync/statements")
KEPT = replace(PLAIN, statements=FOLDER, day_of_statement=5, written=[FOLDER])


def printed(of: Installation) -> list[str]:
    return [
        made_for_cron(of, Machine(minute=7)).printed,
        made_for_systemd(of, "root").printed,
        made_for_kubernetes(of, Cluster()).printed,
    ]


def test_without_a_folder_there_is_no_job_that_makes_them() -> None:
    assert not [text for text in printed(PLAIN) if "statement" in text]


def test_they_come_on_a_day_of_each_month_by_cron_systemd_and_kubernetes() -> None:
    of_cron, of_systemd, of_kubernetes = printed(KEPT)

    assert "\n50 7 5 * * ( : " in of_cron
    assert "--log-level info statement 2>>" in of_cron
    assert "OnCalendar=*-*-05 07:15:00" in of_systemd
    assert "meter-sync-statement.service" in of_systemd
    assert " 7 5 * *" in of_kubernetes
    assert "name: meter-sync-statement" in of_kubernetes


def test_the_unit_may_write_into_their_folder() -> None:
    assert f"ReadWritePaths={FOLDER}" in made_for_systemd(KEPT, "root").files["meter-sync-statement.service"]


@pytest.mark.parametrize("of", [replace(KEPT, statements=Path("/srv/finance")), replace(FLEET, statements=FOLDER)])
def test_no_pod_makes_them_where_they_would_be_gone_with_it_and_that_is_said(of: Installation) -> None:
    found = made_for_kubernetes(of, Cluster())

    assert "meter-sync-statement" not in found.printed
    assert [note for note in found.notes if "no job makes statements" in note]
