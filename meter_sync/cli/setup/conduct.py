"""How each command goes: the plan is made and shown, somebody agrees, it is carried out, and each step is told."""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import click

from meter_sync.cli.ending import Words, carried_out, exit_with
from meter_sync.cli.globals import Globals, now
from meter_sync.cli.printing import print_csv, print_error, print_json, printable
from meter_sync.config import SHADOW_KEY, STRIPE_KEY, Configuration, SecretSetting, Settings
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import ArgumentsError, ConfigurationError, MeterSyncError, TryAgainError
from meter_sync.net.stop import Stop
from meter_sync.openmeter_api.answers import OpenMeterRefused
from meter_sync.setup.steps import Action, Kind, Step, refuse_differences
from meter_sync.setup.talk import checked_account
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeUnavailable

_WORDS = Words(
    cut_off="the setup",
    then="run it again: it finds what is there",
    after_a_bug="what was made by then is there",
    report="report it with the lines above; run it again: it finds what is there",
    not_printed="what was made is there; run it again to see it",
)


_DONE = {Action.CREATE: "made", Action.UPDATE: "completed", Action.REMOVE: "removed"}
_SHOWN_OF_A_KIND = 20
NOTHING_MADE = "nothing was made"
ALL_NAMED = "what was made before is named, and the step after it may have been made as well"


@dataclass(frozen=True, slots=True)
class Asked:
    """What becomes of a plan."""

    options: Globals
    output: str
    accounts: tuple[str, ...]
    """The account that it is about, where there are several."""
    dry_run: bool
    yes: bool


@dataclass(slots=True)
class Conduct:
    """How far it has come: what is printed in the end."""

    asked: Asked
    configuration: Configuration
    settings: Settings
    mode: str
    """That of the key with which things are made."""
    account: str | None = None
    steps: Sequence[Step] = ()
    made: list[Step] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    code: ExitCode = ExitCode.DONE

    @property
    def shown(self) -> list[Step]:
        """Each step, and as it was made where it was."""
        done = {(step.kind, step.what): step for step in self.made}
        return [done.get((step.kind, step.what), step) for step in self.steps]

    async def take_account(self, stripe: StripeReader, stop: Stop) -> None:
        """Find out whose key it is, and that it is the same as that of the runs."""
        known = not self.configuration.of_secrets.get(STRIPE_KEY.path)
        self.account = await checked_account(stripe, self.settings, now, stop, knows_key_of_runs=known)

    def is_agreed(self) -> bool:
        """Show the plan, and say whether it is to be carried out. Raise MeterSyncError where it must not be."""
        if self.asked.output == "table":
            self._show_plan()
        refuse_differences(self.steps)
        to_do = sum(step.is_to_do for step in self.steps)
        if self.asked.dry_run or not to_do:
            return False
        if self.asked.yes:
            return True
        if not sys.stdin.isatty():
            raise ArgumentsError(
                "nothing was made: there is no terminal to ask on", "add --yes to carry the plan out without asking"
            )
        if self.asked.output != "table":  # stdout is the document's
            self._show_plan(err=True)
        where = "in LIVE mode" if self.mode == "live" else "in the sandbox"
        try:
            agreed = click.confirm(f"Carry out {to_do} of these {len(self.steps)} steps {where}?", err=True)
        except click.Abort:
            agreed = False
        if not agreed:
            raise MeterSyncError("nothing was made: nobody agreed", "answer y, or add --yes", code="setup_declined")
        return True

    async def carry_out(self, steps: AsyncIterator[Step]) -> None:
        """Carry the plan out, and tell each step."""
        async for step in steps:
            self.tell(step)

    def tell(self, step: Step) -> None:
        """Tell of a step that was carried out."""
        self.made.append(step)
        if self.asked.output == "table":
            click.echo(printable(f"{_DONE[step.action]} {step.kind} {step.id}"))

    def _show_plan(self, *, err: bool = False) -> None:
        of = self.account or "that the key may not read"
        click.echo(printable(f"{'LIVE mode' if self.mode == 'live' else 'Sandbox mode'}, account {of}:"), err=err)
        kinds = max((len(step.kind) for step in self.steps), default=0)
        ids = max((len(step.id or "-") for step in self.steps), default=0)
        count = Counter[tuple[Kind, Action]]()
        for step in self.steps:
            count[step.kind, step.action] += 1
            if count[step.kind, step.action] > _SHOWN_OF_A_KIND:
                continue
            line = f"  {step.action:<8}{step.kind:<{kinds}}  {step.id or '-':<{ids}}  {step.what}"
            click.echo(printable(line), err=err)
        for (kind, action), many in count.items():
            if many > _SHOWN_OF_A_KIND:
                click.echo(f"  {action:<8}{kind:<{kinds}}  and {many - _SHOWN_OF_A_KIND} more", err=err)


def begin(
    asked: Asked, needed: Sequence[SecretSetting], is_of_all: Callable[[Configuration], bool] = lambda _: False
) -> Conduct:
    """Read the configuration, with some of its secrets; where it is wrong, say so and exit.

    It is that of an account, or, where none is named, what several have in common, if that is what it is about.
    """
    asked.options.start_logging()
    try:
        configuration = asked.options.read_configuration([*needed, STRIPE_KEY])
        if asked.accounts or not is_of_all(configuration):
            configuration = asked.options.read_account([*needed, STRIPE_KEY], asked.accounts)
        settings = asked.options.of_the_account(configuration, needed)
        if settings.is_shadow and SHADOW_KEY not in needed:
            raise ConfigurationError(
                "this would make something in the account itself, and [shadow] is configured; nothing was made",
                "take [shadow] out of the configuration, or name one without it by --config",
            )
    except MeterSyncError as error:
        print_error(error)
        if asked.output == "json":
            print_json({"steps": []}, error)
        sys.exit(error.exit_code)
    mode = "live" if settings.stripe.setup_is_live else "sandbox"
    return Conduct(asked, configuration, settings, mode)


def end(conduct: Conduct, work: Callable[[], None]) -> NoReturn:
    """Do the work, print what came of it, and exit."""
    failed: MeterSyncError | None = carried_out(work, lambda error: error, _WORDS)
    if failed:
        print_error(failed)
        conduct.code = failed.exit_code
    exit_with(conduct.code, partial(_print, conduct, failed), _WORDS.not_printed)


def _print(conduct: Conduct, error: MeterSyncError | None) -> None:
    rows = [_row(step, conduct.made) for step in conduct.shown]
    match conduct.asked.output:
        case "json":
            found = {
                "mode": conduct.mode,
                "account": conduct.account,
                "dry_run": conduct.asked.dry_run,
                "steps": rows,
                "remarks": conduct.remarks,
                "exit_code": int(conduct.code),
            }
            print_json(found, error)
        case "csv":
            print_csv(("kind", "action", "made", "id", "what", "differences"), rows)
        case _ if error is None:
            done = f"{len(conduct.made)} done" if conduct.made else "nothing was made"
            for line in (*conduct.remarks, f"{done[:1].upper()}{done[1:]}."):
                click.echo(printable(line))


def _row(step: Step, made: Sequence[Step]) -> dict[str, Any]:
    return {
        "kind": step.kind.value,
        "action": step.action.value,
        "made": step in made,
        "id": step.id,
        "what": step.what,
        "differences": list(step.differences),
    }


@contextmanager
def told(holds: str) -> Iterator[None]:
    """Raise what Stripe and OpenMeter did not answer, or refused, as an error that ends the command.

    `holds` says what was made by then.
    """
    try:
        yield
    except StripeUnavailable as failure:
        raise TryAgainError(
            f"Stripe did not answer: {failure.message}; {holds}",
            _WORDS.then,
            code="stripe_unreachable",
        ) from failure
    except StripeRefused as refusal:
        raise MeterSyncError(
            f"Stripe refused it: {refusal.message}; {holds}",
            f"correct what Stripe says; then {_WORDS.then}",
            code="stripe_refused",
        ) from refusal
    except OpenMeterRefused as refusal:
        raise MeterSyncError(
            f"OpenMeter did not make the meter: {refusal.message}; nothing was made in Stripe",
            "make the meter where OpenMeter's meters are made, such as its configuration, and run this again",
            code="openmeter_refused",
        ) from refusal
