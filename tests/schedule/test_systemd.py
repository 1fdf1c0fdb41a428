"""The units: systemd takes them, they keep the program in, and the program has what it needs there."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from meter_sync.cli.schedule.installation import Installation
from meter_sync.cli.schedule.systemd import made
from meter_sync.core.schedule import Schedule
from tests.schedule.installations import (
    FLEET,
    INSTALLATIONS,
    ODD,
    OPENMETER_KEY,
    PLAIN,
    STRIPE_KEY,
    WEBHOOK_SECRET,
    changed,
    tool,
)

EXPOSURE_AT_MOST = 2.0
JOBS = ("meter-sync", "meter-sync-closing", "meter-sync-verify", "meter-sync-status")
TELL = "meter-sync-tell@"
WORKER = "meter-sync-worker@.service"
TELLS = "OnFailure=meter-sync-tell@%n.service"
WITH_WEBHOOK = replace(PLAIN, webhook_secrets=(WEBHOOK_SECRET,))


def units(of: Installation) -> dict[str, list[str]]:
    """The lines of each unit, by its name."""
    return {name: text.splitlines() for name, text in made(of, "root").files.items()}


def services(of: Installation) -> dict[str, list[str]]:
    """Those that run the program."""
    return {name: lines for name, lines in units(of).items() if name.endswith(".service") and TELL not in name}


def written(of: Installation, folder: Path) -> list[Path]:
    for name, text in made(of, "root").files.items():
        (folder / name).write_text(text)
    return sorted(folder.iterdir())


@INSTALLATIONS
def test_systemd_takes_them(of: Installation, tmp_path: Path) -> None:
    program = tmp_path / of.program.relative_to("/")
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    folder = tmp_path / "units"
    folder.mkdir()
    files = [file for file in written(replace(of, program=program), folder) if TELL not in file.name]

    done = subprocess.run(
        [tool("systemd-analyze"), "verify", *files], capture_output=True, text=True, check=False, cwd=folder
    )

    # Of this machine's own units it may say something, too.
    assert [line for line in done.stderr.splitlines() if "meter-sync" in line] == []
    assert done.returncode == 0, done.stderr


@INSTALLATIONS
def test_each_service_is_exposed_little(of: Installation, tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    written(of, tmp_path)
    assert len(services(of)) == (5 if of.webhook_secrets else 4) - bool(of.workers)
    for name in services(of):
        threshold = f"--threshold={EXPOSURE_AT_MOST * 10:.0f}"
        done = subprocess.run(
            [analyze, "security", "--offline=true", "--no-pager", threshold, f"./{name}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        if "unrecognized option" in done.stderr:
            pytest.skip("this machine's systemd-analyze judges no files")

        assert done.returncode == 0, f"{name}: {done.stdout[-200:]}{done.stderr}"
        assert "Overall exposure level" in done.stdout


def test_each_job_has_a_service_and_a_timer_and_all_share_a_user_and_the_ledger() -> None:
    found = units(WITH_WEBHOOK)

    assert set(found) == {f"{job}.{kind}" for job in JOBS for kind in ("service", "timer")} | {
        "meter-sync-webhook.service",
        "meter-sync-tell@.service",
    }
    for lines in services(WITH_WEBHOOK).values():
        assert {"DynamicUser=yes", "User=meter-sync", "StateDirectory=meter-sync"} <= set(lines)
        assert not [line for line in lines if "METER_SYNC_LEDGER" in line], "it is in the state folder"


def test_somebody_is_told_of_all_but_what_comes_each_minute_and_of_75_nobody() -> None:
    found = services(WITH_WEBHOOK)

    assert {name for name, lines in found.items() if TELLS not in lines} == {"meter-sync-closing.service"}
    for name, lines in found.items():
        assert ("SuccessExitStatus=75" in lines) is (name != "meter-sync-webhook.service")
    (mail,) = [line for line in units(PLAIN)["meter-sync-tell@.service"] if line.startswith("ExecStart=")]
    assert 'echo "To: root"' in mail


def test_the_mail_says_which_unit_failed_and_why(tmp_path: Path) -> None:
    """Its line is carried out as systemd does, but by another systemctl and another sendmail."""
    (line,) = re.findall(
        r"^ExecStart=/bin/sh -c '(.*)'$", made(PLAIN, "a@example.com").files["meter-sync-tell@.service"], re.MULTILINE
    )
    for name, script in {"systemctl": 'echo "$@"', "sendmail": "cat"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    meant = line.replace("%i", "meter-sync.service").replace("%H", "billing-1")

    done = subprocess.run(
        ["/bin/sh", "-c", meant], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )

    head, body = done.stdout.split("\n\n")
    assert head == "To: a@example.com\nSubject: meter-sync: meter-sync.service failed on billing-1"
    assert body == "status --full --no-pager --lines 30 meter-sync.service\n"


def test_keys_are_handed_on_by_systemd_and_the_webhooks_secret_to_the_webhook_alone() -> None:
    of_webhook = f"LoadCredential=stripe_webhook_secret:{WEBHOOK_SECRET.file}"
    for name, lines in services(WITH_WEBHOOK).items():
        assert f"LoadCredential=stripe_api_key:{STRIPE_KEY.file}" in lines
        assert f"LoadCredential=openmeter_api_key:{OPENMETER_KEY.file}" in lines
        assert (of_webhook in lines) is (name == "meter-sync-webhook.service")


def test_workers_take_the_place_of_the_full_and_the_closing_run() -> None:
    jobs = ("meter-sync-verify", "meter-sync-status")
    expected = {f"{job}.{kind}" for job in jobs for kind in ("service", "timer")}
    (enabled,) = [line for line in made(FLEET, "root").next_steps(Path("made")) if "systemctl enable" in line]

    assert set(units(FLEET)) == expected | {WORKER, "meter-sync-tell@.service"}
    assert enabled.split()[-3:] == [f"meter-sync-worker@{number}.service" for number in (1, 2, 3)]
    assert WORKER not in units(replace(FLEET, workers=0))
    webhook = services(replace(FLEET, webhook_secrets=(WEBHOOK_SECRET,)))["meter-sync-webhook.service"]
    assert "ExecStart=/opt/meter-sync/bin/meter-sync --log-level info webhook --enqueue" in webhook


def test_a_worker_ends_its_runs_itself_and_is_started_again_unless_the_configuration_is_wrong() -> None:
    lines = units(FLEET)[WORKER]

    assert "ExecStart=/opt/meter-sync/bin/meter-sync --log-level info worker" in lines
    assert {"Type=simple", "KillMode=mixed", "TimeoutStopSec=120", TELLS, "WantedBy=multi-user.target"} <= set(lines)
    assert {"Restart=always", "RestartSec=5", "RestartPreventExitStatus=78"} <= set(lines)


def test_the_key_of_each_account_is_handed_on_by_its_name() -> None:
    for lines in services(FLEET).values():
        assert [line for line in lines if line.startswith("LoadCredential=")] == [
            f"LoadCredential=openmeter_api_key:{OPENMETER_KEY.file}",
            "LoadCredential=stripe_api_key.eu:/etc/meter-sync/eu_key",
            "LoadCredential=stripe_api_key.shop-17:/etc/meter-sync/stripe_api_key.shop-17",
        ]


def test_what_is_elsewhere_can_be_written_and_who_it_is_to_belong_to_is_said() -> None:
    books = Path("/srv/books")
    of = changed(ledger=books / "ledger.sqlite3", written=(Path("/srv/monitor"), books))

    for lines in services(of).values():
        assert [line for line in lines if "ReadWritePaths" in line] == [
            "ReadWritePaths=/srv/books",
            "ReadWritePaths=/srv/monitor",
        ]
    assert sum("is to belong to the user meter-sync" in note for note in made(of, "root").notes) == 2


def test_what_the_units_may_not_see_is_said() -> None:
    of = changed(program=Path("/home/ada/bin/meter-sync"), config=Path("/root/meter-sync.toml"))

    assert sum("where the units may not look" in note for note in made(of, "root").notes) == 2
    assert made(PLAIN, "root").notes == []


def test_words_are_quoted_as_systemd_reads_them() -> None:
    lines = services(ODD)["meter-sync-webhook.service"]

    assert 'ExecStart="/srv/50%% of it/meter $sync" --log-level info webhook' in lines
    assert r'''Environment="METER_SYNC_CONFIG=/srv/a \"quoted\" one's/meter-sync.toml"''' in lines
    assert r'''Environment="METER_SYNC_METER_KEY='$HOME' \\n #%%d"''' in lines
    assert 'ReadWritePaths="/srv/my books"' in lines
    assert "Environment=METER_SYNC_WEBHOOK_PORT=8432" in lines
    assert "Environment=METER_SYNC_WEBHOOK_PORT=8432" not in services(ODD)["meter-sync.service"]


@pytest.mark.parametrize("schedule", Schedule)
def test_the_timers_come_as_the_schedule_says(schedule: Schedule) -> None:
    found = units(changed(schedule=schedule))

    assert f"OnCalendar={schedule.value}" in found["meter-sync.timer"]
    assert "OnCalendar=minutely" in found["meter-sync-closing.timer"]
    for name in (f"{job}.timer" for job in JOBS if job not in ("meter-sync-closing", "meter-sync-status")):
        assert {"Persistent=yes", "FixedRandomDelay=yes"} <= set(found[name])
