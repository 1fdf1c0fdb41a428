"""The units for systemd: a service and a timer for each job, one for the webhook, and one that tells of failures."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from meter_sync.cli.schedule.giving import Made, comment
from meter_sync.cli.schedule.installation import Installation, SecretFile
from meter_sync.cli.schedule.jobs import ENDS_WITHIN_SECONDS, SHADOW, STATEMENT, VERIFY, Every, Job, status
from meter_sync.core.outcomes import ExitCode

_FOLDER = Path("/etc/systemd/system")
WEBHOOK = "meter-sync-webhook.service"
WORKER = "meter-sync-worker@"

_USER = "meter-sync"
_STATE = "meter-sync"
_STATE_FOLDER = Path("/var/lib") / _STATE
_TELLS = "meter-sync-tell@"
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 (named, not used)
"""What ProtectHome= and PrivateTmp= hide from a unit."""

_ENVIRONMENT = (
    "DynamicUser=yes",
    "# All units share the ledger, and so a user",
    f"User={_USER}",
    f"StateDirectory={_STATE}",
    "StateDirectoryMode=0700",
    "UMask=0077",
)
_HARDENING = (
    "CapabilityBoundingSet=",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "NoNewPrivileges=yes",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
)


def made(installation: Installation, mailto: str) -> Made:
    """Return the units: `mailto` is who is told of failures."""
    found = {}
    for job in _jobs(installation):
        found[f"{job.name}.service"] = _service(job, installation)
        found[f"{job.name}.timer"] = _timer(job, installation)
    if installation.webhook_secrets:
        found[WEBHOOK] = _webhook(installation)
    if installation.workers:
        found[f"{WORKER}.service"] = _worker(installation)
    found[f"{_TELLS}.service"] = _tell(mailto)
    first, notes = next(iter(found)), _notes(installation)
    head = comment(
        "meter-sync from systemd, as `meter-sync schedule systemd` prints it for the configuration in effect.",
        *(f"TO DO: {note}" for note in notes),
    )
    found[first] = "\n".join([*head, "", found[first]])
    return Made(
        files=found,
        printed="\n".join(f"# {_FOLDER / name}\n{text}" for name, text in found.items()),
        notes=notes,
        next_steps=lambda folder: _next_steps(installation, folder),
    )


def _next_steps(installation: Installation, folder: Path) -> list[str]:
    units = [f"{job.name}.timer" for job in _jobs(installation)]
    there = shlex.quote(str(folder))
    if installation.webhook_secrets:
        units.append(WEBHOOK)
    units += [f"{WORKER}{number}.service" for number in range(1, installation.workers + 1)]
    return [
        f"sudo install -m 0644 {there}/meter-sync*.service {there}/meter-sync*.timer {_FOLDER}/",
        "sudo systemctl daemon-reload",
        f"sudo systemctl enable --now {' '.join(units)}",
        "# any command as the units run it:",
        by_hand(installation, "config", "show"),
    ]


def _notes(installation: Installation) -> list[str]:
    paths = {
        "meter-sync": installation.program,
        "the configuration file": installation.config,
        "the ledger": installation.ledger_file,
    }
    hidden = [
        f"{what} is {path}, where the units may not look: put it elsewhere."
        for what, path in paths.items()
        if path and any(path.is_relative_to(home) for home in _HOMES)
    ]
    owned = [
        f"{folder} is to belong to the user {_USER}: sudo useradd --system {_USER}, and chown it."
        for folder in _written(installation)
    ]
    private = [
        f"{installation.config} is readable for its owner alone: let the user {_USER} own it, or everybody read it."
    ]
    return [*installation.notes, *hidden, *owned, *(private if installation.config_is_private else [])]


def by_hand(installation: Installation, *arguments: str) -> str:
    """Return the line that runs a command as the units do: with their user, folders, keys and variables."""
    kept = ("PrivateTmp=", "ProtectHome=", "ProtectSystem=")
    properties = [
        line
        for line in (
            *_ENVIRONMENT,
            *(rule for rule in _HARDENING if rule.startswith(kept)),
            *_secrets(installation.keys),
            *_variables(_of(installation)),
            *_paths(installation),
        )
        if not line.startswith("#")
    ]
    words = " ".join(f"-p {shlex.quote(one)}" for one in properties)
    program = shlex.quote(str(installation.program))
    return f"sudo systemd-run --quiet --pipe --wait --collect {words} {program} {shlex.join(arguments)}"


def _jobs(installation: Installation) -> list[Job]:
    return [*installation.jobs, status(Every.HOUR)]


def _service(job: Job, installation: Installation) -> str:
    codes = " ".join(str(int(code)) for code in sorted(job.is_said) if code is ExitCode.TRY_AGAIN)
    later = "; once a complete run is overdue it is 1" if job.tells else ""
    return _unit(
        Unit=_about(job.description, tells=job.tells),
        Service=[
            "Type=oneshot",
            f"ExecStart={_started(installation, *job.arguments)}",
            *_variables(_of(installation)),
            *_secrets(installation.keys),
            f"# 75: try again later, which the timer does anyway{later}",
            f"SuccessExitStatus={codes}",
            f"TimeoutStartSec={int(job.longest.total_seconds() // 60)}min",
            *_ENVIRONMENT,
            *_paths(installation),
            *_HARDENING,
        ],
    )


def _timer(job: Job, installation: Installation) -> str:
    times = {
        # All that nobody is in a hurry for comes some time after the full hour, at which everybody asks Stripe.
        (Every.HOUR, True): ["OnCalendar=hourly", "RandomizedDelaySec=5min", "FixedRandomDelay=yes", "Persistent=yes"],
        (Every.DAY, True): ["OnCalendar=daily", "RandomizedDelaySec=5min", "FixedRandomDelay=yes", "Persistent=yes"],
        (Every.MINUTE, False): ["OnCalendar=minutely", "AccuracySec=1s"],
    }
    of_others = {
        VERIFY.command: [
            "OnCalendar=*-*-* 05:30:00",
            "RandomizedDelaySec=30min",
            "FixedRandomDelay=yes",
            "Persistent=yes",
        ],
        SHADOW.command: ["OnCalendar=*-*-* *:50:00", "AccuracySec=1min"],
        status(Every.HOUR).command: ["OnCalendar=*-*-* *:45:00", "AccuracySec=1min"],
        STATEMENT.command: [f"OnCalendar=*-*-{installation.day_of_statement:02} 07:15:00", "Persistent=yes"],
    }
    return _unit(
        Unit=[f"Description={job.description}, {job.every.value}"],
        Timer=of_others.get(job.command) or times[job.every, job.tells],
        Install=["WantedBy=timers.target"],
    )


def _webhook(installation: Installation) -> str:
    return _unit(
        Unit=_about("Report metered usage to Stripe when a billing period turns", tells=True),
        Service=[
            "Type=simple",
            f"ExecStart={_started(installation, *installation.webhook_arguments)}",
            *_variables({**_of(installation), **(installation.webhook_variables or {})}),
            *_secrets(installation.secrets),
            "Restart=on-failure",
            "RestartSec=5",
            "# 78: the configuration is wrong, and will be so after a restart",
            "RestartPreventExitStatus=78",
            *_ENVIRONMENT,
            *_paths(installation),
            *_HARDENING,
        ],
        Install=["WantedBy=multi-user.target"],
    )


def _worker(installation: Installation) -> str:
    """Return the unit of a worker, of which there are as many instances as one likes: they differ by nothing."""
    return _unit(
        Unit=_about("Carry out meter-sync's runs as they become due, worker %i", tells=True),
        Service=[
            "Type=simple",
            f"ExecStart={_started(installation, 'worker')}",
            *_variables(_of(installation)),
            *_secrets(installation.keys),
            "# It asks its runs to end itself, and waits until they have finished the requests that are under way",
            "KillMode=mixed",
            f"TimeoutStopSec={ENDS_WITHIN_SECONDS}",
            "Restart=always",
            "RestartSec=5",
            "# 78: the configuration is wrong, and will be so after a restart",
            "RestartPreventExitStatus=78",
            *_ENVIRONMENT,
            *_paths(installation),
            *_HARDENING,
        ],
        Install=["WantedBy=multi-user.target"],
    )


def _tell(mailto: str) -> str:
    status = 'systemctl status --full --no-pager --lines 30 "%i"'
    mail = f'echo "To: {mailto}"; echo "Subject: meter-sync: %i failed on %H"; echo; {status}'
    return _unit(
        Unit=[
            "# An example: it mails the last lines that a failed unit has logged. Put your own way of telling here.",
            "Description=Tell somebody that %i failed",
        ],
        Service=["Type=oneshot", f"ExecStart=/bin/sh -c '{{ {mail}; }} | sendmail -t'"],
    )


def _about(description: str, *, tells: bool) -> list[str]:
    return [
        f"Description={description}",
        "Wants=network-online.target",
        "After=network-online.target time-sync.target",
        *([f"OnFailure={_TELLS}%n.service"] if tells else []),
    ]


def _of(installation: Installation) -> dict[str, str]:
    """Return the variables of all units: the ledger is named where it is not in the state folder already."""
    config = {"METER_SYNC_CONFIG": str(installation.config)} if installation.config else {}
    ledger = {"METER_SYNC_LEDGER"} if installation.ledger == _STATE_FOLDER / "ledger.sqlite3" else set()
    return config | {name: value for name, value in installation.variables.items() if name not in ledger}


def _variables(variables: Mapping[str, str]) -> Iterator[str]:
    yield from (f"Environment={_word(f'{name}={value}')}" for name, value in variables.items())


def _secrets(files: Sequence[SecretFile]) -> Iterator[str]:
    """Yield what hands files that only root can read to the program alone."""
    yield from (f"LoadCredential={one.name}:{_escaped(str(one.file))}" for one in files)


def _paths(installation: Installation) -> Iterator[str]:
    yield from (f"ReadWritePaths={_word(str(folder))}" for folder in _written(installation))


def _written(installation: Installation) -> list[Path]:
    """Return the folders that a unit writes in, but for its state folder."""
    of_ledger = [installation.ledger_file.parent] if installation.ledger_file else []
    folders = dict.fromkeys((*of_ledger, *installation.written))
    return [one for one in folders if one != _STATE_FOLDER]


def _started(installation: Installation, *arguments: str) -> str:
    return " ".join(map(_word, (str(installation.program), "--log-level", "info", *arguments)))


def _word(text: str) -> str:
    """Return what systemd reads as one word: systemd.service(5), "Command lines", and systemd.unit(5), "Specifiers"."""
    escaped = _escaped(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", text) else escaped


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _unit(**sections: Sequence[str]) -> str:
    return "\n".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items())
