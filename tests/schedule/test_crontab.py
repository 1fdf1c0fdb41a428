"""The crontab: cron reads it, and what it mails of each end of each job is what somebody has to know."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.cli.schedule.crontab import CRONTAB, LOGROTATE, Machine, crontab, made
from meter_sync.cli.schedule.installation import Installation
from meter_sync.core.schedule import Schedule
from tests.schedule.installations import FLEET, INSTALLATIONS, ODD, PLAIN, changed, tool
from tests.support.documents import ROOT
from tests.support.world import METER, World

LONGEST_COMMAND = 998
"""cron's own limit, with the line break and the end: MAX_COMMAND of Vixie cron."""
OF_THE_PROGRAM = ("STRIPE_", "OPENMETER_", "METER_SYNC_")

JOBS = {
    "full": "run --quiet",
    "closing": "run --closing",
    "verify": "verify --sample",
    "unbilled": "history --unbilled",
    "status": " status",
}


def variables(text: str) -> dict[str, str]:
    """What cron puts into the environment."""
    return dict(re.findall(r'^([A-Z_]+)="?(.*?)"?$', text, flags=re.MULTILINE))


def commands(text: str) -> dict[str, str]:
    """What cron gives to the shell, by job."""
    lines = [line for line in text.splitlines() if re.match(r"[0-9*]", line)]
    found = {job: [line for line in lines if part in line] for job, part in JOBS.items()}
    assert sorted(line for some in found.values() for line in some) == sorted(lines)
    return {
        f"{job} {number}" if number else job: line.split(maxsplit=5)[5].replace(r"\%", "%")
        for job, some in found.items()
        for number, line in enumerate(some)
    }


class Cron:
    """Carries out lines as cron does: by the shell that the crontab names, with its variables and a few others."""

    def __init__(self, folder: Path, text: str, program: Path | None = None) -> None:
        self.folder, self.text = folder, text
        self.log = folder / "log"
        self.program = program or folder / "bin"
        self.program.mkdir(exist_ok=True)

    def let_the_program(self, script: str, name: str = "meter-sync") -> None:
        """Put another program in the place of meter-sync."""
        file = self.program / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def runs(self, job: str, **others: str) -> tuple[int, str]:
        """Carry out a job's line; return its exit code and what is mailed of it."""
        given = variables(self.text)
        _, *folders = given["PATH"].split(":")
        own = {"PATH": ":".join([str(self.program), *folders]), "LOG": str(self.log)}
        environment = {"HOME": str(self.folder), "LOGNAME": "meter-sync", **given, **own, **others}
        command = commands(self.text)[job]
        done = subprocess.run(
            [environment["SHELL"], "-c", command],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture
def cron(tmp_path: Path) -> Cron:
    return Cron(tmp_path, crontab(PLAIN, Machine()))


def test_the_example_is_what_is_printed_for_the_paths_of_the_documents() -> None:
    """Its minute is that of the documents too; who prints a crontab has one of their own."""
    assert ROOT.joinpath("crontab.example").read_text("utf-8") == crontab(PLAIN, Machine(minute=7))


@INSTALLATIONS
def test_cron_takes_it(of: Installation, tmp_path: Path) -> None:
    file = tmp_path / "crontab"
    file.write_text(made(of, Machine()).printed)
    crontab = tool("crontab")
    said = subprocess.run([crontab, "-h"], capture_output=True, text=True, check=False)
    # Debian's today and later ones, or cronie; of another -n may mean something else.
    dry_run = "-n" if "-n\t(dry run" in said.stderr else "-T" if "-T" in said.stderr else pytest.skip("no dry run here")
    done = subprocess.run([crontab, dry_run, str(file)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_lines_are_for_all_accounts_where_there_are_several() -> None:
    files = made(replace(FLEET, workers=0), Machine(minute=7))
    found = commands(files.printed)

    assert set(commands(crontab(PLAIN, Machine()))) == set(JOBS)
    assert set(found) == set(JOBS)
    assert not [job for job in found.values() if "--account" in job]


def test_where_cron_is_to_find_the_key_of_an_account_is_said_where_its_row_does_not_say_it() -> None:
    files = made(replace(FLEET, workers=0), Machine())

    assert [note for note in files.notes if "not found by cron" in note] == [
        "stripe_api_key.shop-17 is not found by cron: name /etc/meter-sync/stripe_api_key.shop-17 in the account's "
        "row, as api_key_file."
    ]
    assert "/etc/meter-sync/eu_key /etc/meter-sync/stripe_api_key.shop-17" in "".join(files.next_steps(Path("made")))


@INSTALLATIONS
def test_every_command_is_short_enough_for_cron_and_understood_by_a_shell(of: Installation) -> None:
    for command in commands(crontab(of, Machine())).values():
        assert len(command.encode()) < LONGEST_COMMAND
        assert subprocess.run(["/bin/sh", "-n", "-c", command], check=False).returncode == 0


@pytest.mark.parametrize(
    ("job", "not_mailed"),
    [
        ("full", {0, 3, 4, 75}),
        ("closing", {0, 3, 4, 75, 78}),
        ("verify", {0, 3, 4, 75}),
        ("unbilled", {0, 4, 75}),
        ("status", {0, 4, 75}),
    ],
)
def test_of_each_end_the_log_is_mailed_where_nothing_else_says_it_and_the_exit_code_stays(
    cron: Cron, job: str, not_mailed: set[int]
) -> None:
    for code in (0, 1, 2, 3, 4, 75, 78, 124, 126, 127, 137):
        cron.let_the_program(f"echo what happened in {code} >&2; exit {code}")

        assert cron.runs(job) == (
            code,
            "" if code in not_mailed else _ended(cron, job, code) + f"what happened in {code}\n",
        )
        assert f"what happened in {code}\n" in cron.log.read_text()
        cron.log.unlink()


def _ended(cron: Cron, job: str, code: int) -> str:
    command = {"full": "run", "closing": "run", "unbilled": "history"}.get(job, job)
    return f"meter-sync {command} ended with exit code {code}; its log, {cron.log}, ends with:\n"


@pytest.mark.parametrize("job", JOBS)
def test_what_is_printed_is_mailed_but_for_an_all_clear(cron: Cron, job: str) -> None:
    said = r"100% of \n it\n  and more"
    cron.let_the_program(f"printf '%s\\n' '{said}'; exit 4")
    assert cron.runs(job) == (4, f"{said}\n")
    cron.let_the_program("echo all is well")
    assert cron.runs(job) == (0, "all is well\n" if job in ("full", "closing", "verify") else "")


def test_the_closing_line_mails_trouble_of_its_own_once_a_day_and_each_kind_apart(cron: Cron) -> None:
    cron.let_the_program("echo what happened >&2; exit 1")
    assert [cron.runs("closing") for _ in range(3)] == [
        (1, f"{_ended(cron, 'closing', 1)}what happened\n"),
        (1, ""),
        (1, ""),
    ]
    cron.let_the_program("echo something else >&2; exit 2")
    assert [cron.runs("closing")[1] for _ in range(2)] == [
        f"{_ended(cron, 'closing', 2)}what happened\nwhat happened\nwhat happened\nsomething else\n",
        "",
    ]
    (told,) = cron.folder.glob("log.told-1")
    a_day_ago = (datetime.now(UTC) - timedelta(days=1, minutes=2)).timestamp()
    os.utime(told, (a_day_ago, a_day_ago))
    cron.let_the_program("exit 1")
    assert cron.runs("closing")[1] != ""


def test_an_end_is_mailed_also_where_the_log_has_nothing_to_tell_as_on_a_full_disk(cron: Cron) -> None:
    cron.let_the_program("exit 78")

    assert cron.runs("full") == (78, _ended(cron, "full", 78))


def test_a_program_of_any_name_is_started(tmp_path: Path) -> None:
    cron = Cron(tmp_path, crontab(ODD, Machine()))
    cron.let_the_program("echo 100% $METER_SYNC_CONFIG; exit 4", name=ODD.program.name)

    assert {cron.runs(job) for job in JOBS} == {(4, f"100% {ODD.config}\n")}


def test_a_program_that_is_not_there_is_mailed(cron: Cron) -> None:
    code, mailed = cron.runs("full")

    assert code == 127
    assert "meter-sync" in mailed


def test_what_hangs_is_ended_and_mailed(cron: Cron) -> None:
    cron.let_the_program("trap '' TERM; echo begun >&2; exec sleep 50")
    cron.text = re.sub(r"--kill-after=120 \d+", "--kill-after=0.1 0.1", cron.text)

    code, mailed = cron.runs("full")

    assert code == 137
    assert mailed.startswith(f"{_ended(cron, 'full', 137)}begun\n")


def test_a_log_that_cannot_be_opened_keeps_nothing_from_being_billed(cron: Cron) -> None:
    cron.let_the_program("echo lost >&2; touch billed-$1-$#; echo held; exit 4")
    missing = str(cron.folder / "missing" / "log")

    code, mailed = cron.runs("full", LOG=missing)
    assert (code, "held\n" in mailed, missing in mailed) == (4, True, True)
    assert cron.runs("closing", LOG=missing) == (4, "held\n"), "the full run says it"
    cron.let_the_program("exit 1")
    assert cron.runs("closing", LOG=str(cron.folder)) == (1, "")
    assert len(list(cron.folder.glob("billed-*"))) == 2


def test_a_daily_schedule_is_a_daily_line_soon_after_midnight() -> None:
    text = crontab(changed(schedule=Schedule.DAILY), Machine(minute=9))

    assert re.search(r"^9 0 \* \* \* .* run --quiet ", text, flags=re.MULTILINE)


def test_each_configuration_has_a_minute_of_its_own_that_stays_and_is_not_that_of_everybody() -> None:
    def minute(url: str) -> int:
        text = crontab(changed(variables={"OPENMETER_URL": url}), Machine())
        (found,) = re.findall(r"^(\d+) \* \* \* \* ", text, flags=re.MULTILINE)
        return int(found)

    minutes = [minute(f"https://{number}.example.com") for number in range(200)]

    assert minutes == [minute(f"https://{number}.example.com") for number in range(200)]
    assert len(set(minutes)) > 50
    assert {1 <= one <= 59 for one in minutes} == {True}


def test_who_is_told_whose_it_is_and_where_the_log_is_are_given() -> None:
    machine = Machine("billing@example.com", Path("/srv/log/meter.log"), "biller", 3)
    files = made(PLAIN, machine).files

    given = variables(files[CRONTAB])
    assert (given["MAILTO"], given["LOG"]) == ("billing@example.com", "/srv/log/meter.log")
    assert "crontab -u biller" in files[CRONTAB]
    assert "/srv/log/meter.log {\n    su biller biller\n" in files[LOGROTATE]


def test_logrotate_takes_its_file(tmp_path: Path) -> None:
    rotate, file = tool("logrotate"), tmp_path / "rules"
    log = tmp_path / "my log" / "meter-sync.log"
    log.parent.mkdir()
    log.write_text("something\n")
    file.write_text(made(PLAIN, Machine(log=log)).files[LOGROTATE].replace("su meter-sync meter-sync", "su root root"))
    file.chmod(0o644)

    state = tmp_path / "state"
    done = subprocess.run([rotate, "-f", "-s", state, file], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert [one.name for one in log.parent.iterdir()] == ["meter-sync.log.1"]


# -- the program itself ------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0))
    with world.sandbox.in_background():
        yield world


def test_the_program_is_run_by_it_and_its_trouble_mailed(world: World) -> None:
    subscription = world.subscribe(period_start=world.now - timedelta(days=5))
    world.use(subscription, 5)
    world.execute()
    settings = {name: value for name, value in world.environment().items() if name.startswith(OF_THE_PROGRAM)}
    of = changed(ledger=world.ledger, variables=settings, keys=())
    cron = Cron(world.folder, crontab(of, Machine()), Path(world.command()[0]).parent)

    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "3"
    code, mailed = cron.runs("full")
    assert (code, "held (decrease)" in mailed) == (4, True)
    code, mailed = cron.runs("full", STRIPE_API_KEY="rk_test_wrong")
    assert (code, '"code": "stripe_key"' in mailed) == (78, True)
    code, mailed = cron.runs("status")
    assert (code, "decrease since" in mailed, mailed.splitlines()[-1]) == (4, True, "Somebody should look.")
