"""The files for cron: a crontab, and what rotates its log."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meter_sync.cli.schedule.giving import Made, comment, in_folder
from meter_sync.cli.schedule.installation import Installation
from meter_sync.cli.schedule.jobs import (
    CLOSING,
    ENDS_WITHIN_SECONDS,
    UNBILLED,
    VERIFY,
    Every,
    Job,
    another,
    copyings,
    full_run,
    status,
)

CRONTAB, LOGROTATE = "meter-sync.crontab", "meter-sync.logrotate"

_LAST_LINES = 5
"""So many lines of the log are mailed."""
_NOT_AGAIN_FOR_MINUTES = 24 * 60
"""How long the closing line does not mail an exit code again."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a crontab needs to know of its machine."""

    mailto: str = "root"
    """Who is told."""
    log: Path = Path("/var/log/meter-sync/meter-sync.log")
    user: str = "meter-sync"
    """Whose crontab it is."""
    minute: int | None = None
    """That of the full run; None for one that follows from the configuration."""


def made(installation: Installation, machine: Machine) -> Made:
    """Return a crontab, which alone is printed, and what rotates its log."""
    text = crontab(installation, machine)
    return Made(
        files={CRONTAB: text, LOGROTATE: _logrotate(machine)},
        printed=text,
        notes=_notes(installation, machine),
        next_steps=lambda folder: _next_steps(installation, machine, folder),
    )


def _notes(installation: Installation, machine: Machine) -> list[str]:
    ledger = (
        f"no ledger is configured: that of the crontab is ~{machine.user}/.local/state/meter-sync/ledger.sqlite3. To "
        "have one wherever a command is started, set METER_SYNC_LEDGER, and make this anew."
    )
    # cron hands over no credentials, by whose names the key of an account would be found.
    unnamed = [
        f"{one.name} is not found by cron: name {one.file} in the account's row, as api_key_file."
        for one in installation.keys
        if not one.variable and not one.is_in_toml
    ]
    return [*installation.notes, *unnamed, *([] if installation.ledger else [ledger])]


def _next_steps(installation: Installation, machine: Machine, folder: Path) -> list[str]:
    home = installation.ledger_file.parent if installation.ledger_file else Path("/var/lib") / machine.user
    ours = " ".join(shlex.quote(str(one)) for one in dict.fromkeys((home, machine.log.parent)))
    of_config = [installation.config] if installation.config and installation.config_is_private else []
    keys = " ".join(shlex.quote(str(one)) for one in (*(key.file for key in installation.keys), *of_config))
    return [
        f"sudo useradd --system --home-dir {shlex.quote(str(home))} {machine.user}    # unless there is such a user",
        f"sudo install -d -o {machine.user} -m 0700 {ours}",
        f"sudo chown {machine.user} {keys}",
        f"sudo install -m 0644 {in_folder(folder, LOGROTATE)} /etc/logrotate.d/meter-sync",
        f"sudo crontab -u {machine.user} {in_folder(folder, CRONTAB)}",
    ]


def crontab(installation: Installation, machine: Machine) -> str:
    """Return the crontab."""
    return "\n".join(
        [
            *_head(installation, machine),
            "",
            *_variables(installation, machine),
            *_lines(installation, machine),
        ]
    )


def _head(installation: Installation, machine: Machine) -> Iterator[str]:
    yield from comment(
        "meter-sync from cron, as `meter-sync schedule crontab` prints it for the configuration in effect. Install it:",
        f"    sudo crontab -u {machine.user} FILE",
        f"The user {machine.user} owns the folders of the ledger and of the log, and the files of the keys, mode 0600. "
        f"With --write DIR it comes with {LOGROTATE}, for /etc/logrotate.d/: each line opens the log anew.",
        *(f"TO DO: {note}" for note in _notes(installation, machine)),
    )


def _variables(installation: Installation, machine: Machine) -> Iterator[str]:
    folders = dict.fromkeys((str(installation.program.parent), "/usr/bin", "/bin"))
    yield "SHELL=/bin/sh"
    yield f"PATH={':'.join(folders)}"
    yield "# Who is told: an address of your own, or a user of this machine."
    yield f"MAILTO={machine.mailto}"
    if installation.config:
        yield _set("METER_SYNC_CONFIG", str(installation.config))
    yield from (_set(one.variable, str(one.file)) for one in installation.keys if one.variable and not one.is_in_toml)
    yield from (_set(name, value) for name, value in installation.variables.items())
    yield _set("LOG", str(machine.log))


def _set(name: str, value: str) -> str:
    """Return a line that sets a variable: cron takes white space and a pair of quotes around a value away."""
    is_plain = value.strip() == value and not value.startswith(("'", '"')) and value
    return f"{name}={value}" if is_plain else f'{name}="{value}"'


def _lines(installation: Installation, machine: Machine) -> Iterator[str]:
    run = full_run(installation.schedule)
    minute = installation.minute if machine.minute is None else machine.minute
    often, hour = ("Every hour", "*") if run.every is Every.HOUR else ("Once a day", "0")
    lines = [
        *((_OF_COPIES, f"{another(minute, 54 + one.turn)} *", one) for one in copyings(installation.shadows)),
        (f"{often}, everything. {_OF_FULL_RUN}", f"{minute} {hour}", run),
        (_OF_CLOSING, "* *", CLOSING),
        (_OF_VERIFY, f"{another(minute, 23)} 5", VERIFY),
        (_OF_UNBILLED, f"{another(minute, 31)} 6", UNBILLED),
        (
            "Once a day, whether all is well. Nothing is mailed where it is.",
            f"{another(minute, 37)} 6",
            status(Every.DAY),
        ),
    ]
    statement_at = f"{another(minute, 43)} 7 {installation.day_of_statement} * *"
    monthly = [(_OF_STATEMENT, statement_at, one) for one in installation.of_statements]
    for said, when, job in [*((said, f"{when} * * *", job) for said, when, job in lines), *monthly]:
        yield from ("", *comment(said), f"{when} {_command(job, installation.program.name)}")
    yield from ("", *comment(_HOW_OFTEN), "")


_OF_COPIES = "Every hour, what is new, and what is gone, for the shadow account."
_OF_FULL_RUN = (
    "The log has all that happens. What was held, skipped or failed is printed, and so mailed: in full once, then in a "
    'line while it lasts. Any other end but 75 mails the last lines of the log. 75 means "try again later" (a run is '
    "still busy, or a server was away): the next run does. If it stays so, a run is overdue after twice the schedule: "
    'from then on the same trouble ends with 1, which is mailed, with "no complete run since …". `timeout` ends what '
    "hangs. No flock is needed: two full runs exclude each other."
)
_OF_CLOSING = (
    "Every minute, what ends about now, so that the last minutes of a period are billed too. Where nothing is due it "
    "asks nobody. It mails what is new, and nothing that an earlier run has said; of trouble of its own the last lines "
    "of the log, each kind once a day. Servers that are away (75), and what is configured wrongly (78), the full run "
    "tells."
)
_OF_VERIFY = "Once a day, a thirtieth of all items: does Stripe hold what OpenMeter says?"
_OF_UNBILLED = "Once a day, the usage that Stripe will not bill by itself. Nothing is mailed where there is none."
_OF_STATEMENT = (
    "Once a month, when late usage of the month before is not watched for any more: its statement for finance, in the "
    "folder that statement.folder names. What it says in a sentence is printed, and so mailed."
)
_HOW_OFTEN = (
    'How often the full run comes, `schedule` says: "hourly" or "daily", in meter-sync.toml, so that commands by hand '
    "know it too. After a change print this anew."
)


def _command(job: Job, program: str) -> str:
    """Return what cron gives to the shell.

    A log that cannot be opened must not keep the program from running: then it is said, and nothing is logged.
    """
    limit = f"timeout --kill-after={ENDS_WITHIN_SECONDS} {int(job.longest.total_seconds())}"
    started = f"{limit} {shlex.quote(program)} --log-format json --log-level info {shlex.join(job.arguments)}"
    carried_out = f'{started} 2>>"$LOG"'
    printed = ""
    if job.prints_when_well:
        carried_out = f"said=$({carried_out})"
        printed = ' [ -z "$said" ] || printf "%s\\n" "$said";'
    codes = "|".join(str(int(code)) for code in sorted(job.is_said))
    # A log that cannot be written, as on a full disk, has nothing to tell: that it ended so is said in any case.
    named = f"meter-sync {job.arguments[0]} ended with exit code"
    tail = f'{{ echo "{named} $code; its log, $LOG, ends with:"; tail -n {_LAST_LINES} "$LOG"; }}'
    if job.every is Every.MINUTE:
        told = '"$LOG.told-$code"'
        is_recent = f'[ -n "$(find {told} -mmin -{_NOT_AGAIN_FOR_MINUTES} 2>/dev/null)" ]'
        tail = f"{is_recent} || {{ touch {told} 2>/dev/null && {tail}; }}"  # without a note of it, nothing each minute
    quietly = " 2>/dev/null" if job.every is Every.MINUTE else ""
    opened = f'( : >>"$LOG" ){quietly} || LOG=/dev/null'
    ended = f"{{ code=$?;{printed} case $code in {codes}) ;; *) {tail} ;; esac; exit $code; }}"
    return f"{opened}; {carried_out} || {ended}".replace("%", r"\%")  # cron makes a line break of a plain one


def _logrotate(machine: Machine) -> str:
    log = str(machine.log)
    rules = (
        f"su {machine.user} {machine.user}",
        *("weekly", "rotate 8", "maxsize 100M"),
        *("compress", "delaycompress", "missingok", "notifempty", "nocreate"),
    )
    head = "# The log of meter-sync, for /etc/logrotate.d/, as `meter-sync schedule crontab` writes it.\n"
    name = f'"{log}"' if re.search(r"[\s{}]", log) else log
    return head + f"{name} {{\n" + "".join(f"    {rule}\n" for rule in rules) + "}\n"
