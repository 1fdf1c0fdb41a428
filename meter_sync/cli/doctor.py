"""`meter-sync doctor`: what would keep runs from working or usage from being billed, each with its remedy."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from meter_sync.cli.ending import exit_with, stop_on_signals
from meter_sync.cli.fleet import with_connected
from meter_sync.cli.globals import Globals, chosen, now
from meter_sync.cli.options import Duration, accounts_of, output
from meter_sync.cli.printing import print_csv, print_error, print_json, printable
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError
from meter_sync.net.stop import Stop

if TYPE_CHECKING:
    from meter_sync.config import Configuration, SecretSetting
    from meter_sync.doctor.examination import Examined
    from meter_sync.doctor.finding import Finding

_SECTIONS = (
    *("configuration", "clock", "ledger", "stripe", "openmeter", "mapping", "webhook"),
    *("runs", "schedule", "monitor"),
)
"""As in `examination.SECTIONS`, whose module needs the SDKs."""

_SIGNS = {"ok": "√", "warning": "‼", "problem": "×", "skipped": "-"}  # noqa: RUF001 - a sign, not a letter
_PLAIN_SIGNS = {"ok": "ok     ", "warning": "warning", "problem": "problem", "skipped": "skipped"}
_COLORS = {"ok": "green", "warning": "yellow", "problem": "red"}
_COLUMNS = "section,id,account,status,subject,message,remedy,place"
_AGAIN_AFTER_SECONDS = 1.0


@click.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(_SECTIONS),
    metavar="SECTION",
    help=f"Only this section; repeatable: {', '.join(_SECTIONS)}.",
)
@click.option(
    "--wait",
    type=Duration("a length of time with its unit, such as 60s or 5m", "sm"),
    metavar="DURATION",
    help="Look again until there is no problem, for so long; for what is just being installed.",
)
@click.option("--offline", is_flag=True, help="Ask no server.")
@output
@accounts_of("Only this account, where there are several")
@click.pass_obj
def doctor(
    options: Globals,
    only: tuple[str, ...],
    wait: timedelta | None,
    offline: bool,
    output: str,
    accounts: tuple[str, ...],
) -> None:
    """Check everything that runs need: each finding in a line, with what to do.

    Writes nothing. Exit code 78 where runs cannot work, 4 where something is, or may be, left unbilled, 0 else, also
    with warnings.
    """
    options.start_logging()
    try:
        examined = asyncio.run(_examined(options, accounts, only, wait or timedelta(0), offline=offline))
    except MeterSyncError as error:
        print_error(error)
        if output == "json":
            print_json({}, error)
        sys.exit(error.exit_code)
    found = _document(examined)
    code = ExitCode(found["summary"]["exit_code"])
    exit_with(code, partial(_print_as, output, options, found), "look again")


async def _examined(
    options: Globals, accounts: tuple[str, ...], only: tuple[str, ...], wait: timedelta, *, offline: bool
) -> "Mapping[str, Examined]":
    """Examine each account until there is no problem, or the time is over. Raise Interrupted."""
    from meter_sync.config import SECRETS
    from meter_sync.doctor.examination import examine
    from meter_sync.doctor.finding import exit_code

    until = time.monotonic() + wait.total_seconds()
    with stop_on_signals() as stop:
        while True:
            examined = {}
            for one in await _asked(options, SECRETS, accounts, stop, offline=offline):
                found_in = one.file.parent if one.file and options.config is None else None
                examined[one.account] = await examine(
                    one, only, os.environ, now, stop, found_in=found_in, offline=offline
                )
            is_well = exit_code(one for _, _, one in _every(examined)) is ExitCode.DONE
            if is_well or time.monotonic() + _AGAIN_AFTER_SECONDS > until:
                return examined
            await stop.sleep(_AGAIN_AFTER_SECONDS)


async def _asked(
    options: Globals, secrets: "Sequence[SecretSetting]", accounts: tuple[str, ...], stop: Stop, *, offline: bool
) -> "Sequence[Configuration]":
    """Return what there is for the accounts that are named or, where none is, for all. Raise MeterSyncError.

    Those that Stripe would list are left out where no server is to be asked.
    """
    from meter_sync.config import needed

    configuration = options.read_configuration(secrets)
    if configuration.connected is None or accounts or offline:
        return chosen(configuration, accounts)
    return await with_connected(configuration, needed(for_webhook=False), stop)


def _every(examined: "Mapping[str, Examined]") -> "Iterator[tuple[str, str, Finding]]":
    """Yield each finding, with its account and its section."""
    for account, sections in examined.items():
        for section, findings in sections.items():
            for one in findings:
                yield account, section, one


def _document(examined: "Mapping[str, Examined]") -> dict[str, Any]:
    from meter_sync.doctor.finding import Status, exit_code

    every = [*_every(examined)]
    counts = Counter(one.status for _, _, one in every)
    summary = {status.value: counts[status] for status in Status}
    return {
        "checks": [
            {
                "section": section,
                "id": one.id,
                "account": account or None,
                "status": one.status.value,
                "subject": one.subject,
                "message": one.message,
                "remedy": one.remedy,
                "place": one.place,
            }
            for account, section, one in every
        ],
        "summary": {**summary, "exit_code": int(exit_code(one for _, _, one in every))},
    }


def _print_as(output: str, options: Globals, found: Mapping[str, Any]) -> None:
    match output:
        case "json":
            print_json(found)
        case "csv":
            print_csv(_COLUMNS.split(","), found["checks"])
        case _:
            for line, color in _lines(found):
                click.secho(printable(line), fg=color, color=options.color and sys.stdout.isatty())


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield what is printed for a person, line by line, with its color."""
    signs = _SIGNS if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" else _PLAIN_SIGNS
    account = section = None
    for one in found["checks"]:
        if one["account"] != account:
            account, section = one["account"], None
            yield f"account {account}", None
        if one["section"] != section:
            section = one["section"]
            yield section, None
        indent = " " * (len(signs["ok"]) + 1)
        yield f"{signs[one['status']]} {one['message']}", _COLORS.get(one["status"])
        if one["status"] in ("warning", "problem"):
            about = f" ({one['subject']})" if one["subject"] and one["subject"] not in one["message"] else ""
            yield f"{indent}what to do: {one['remedy']}{about}", None
            yield f"{indent}see {one['place']}", None
    summary = found["summary"]
    counts = ", ".join(f"{summary[name]} {name}" for name in _SIGNS)
    yield f"{counts}. {_VERDICTS[ExitCode(summary['exit_code'])]}", None


_VERDICTS = {
    ExitCode.DONE: "Runs can work.",
    ExitCode.ATTENTION: "Runs can work, and somebody should look.",
    ExitCode.CONFIGURATION: "Runs cannot work.",
}
