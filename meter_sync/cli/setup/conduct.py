"""How both commands go: the plan is made and shown, somebody agrees, it is carried out, and each step is told."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from meter_sync.cli.ending import Words, carried_out, exit_with, stop_on_signals
from meter_sync.cli.globals import Globals, now
from meter_sync.cli.printing import print_csv, print_error, print_json, printable
from meter_sync.config import OPENMETER_KEY, SETUP_KEY, STRIPE_KEY, Configuration, SecretSetting, Settings
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import ArgumentsError, ConfigurationError, MeterSyncError, TryAgainError
from meter_sync.net.stop import Stop
from meter_sync.openmeter_api.answers import OpenMeterRefused
from meter_sync.setup import price, webhook
from meter_sync.setup.secrets_file import SecretsFile
from meter_sync.setup.steps import Action, Step, refuse_differences
from meter_sync.setup.talk import checked_account, open_openmeter, open_reader, open_writer
from meter_sync.setup.wanted import WantedPrice
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeUnavailable
from meter_sync.webhook.events import SNAPSHOTS, THIN

_WORDS = Words(
    cut_off="the setup",
    then="run it again: it finds what is there",
    after_a_bug="what was made by then is there",
    report="report it with the lines above; run it again: it finds what is there",
    not_printed="what was made is there; run it again to see it",
)


_NOTHING = "nothing was made"
_NAMED = "what was made before is named, and the step after it may have been made as well"


@dataclass(frozen=True, slots=True)
class Asked:
    """What becomes of a plan."""

    options: Globals
    output: str
    dry_run: bool
    yes: bool


@dataclass(slots=True)
class Conduct:
    """How far it has come: what is printed in the end."""

    asked: Asked
    settings: Settings
    knows_key_of_runs: bool
    account: str | None = None
    steps: Sequence[Step] = ()
    made: list[Step] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    code: ExitCode = ExitCode.DONE

    @property
    def mode(self) -> str:
        """That of the key for setup."""
        return "live" if self.settings.stripe.setup_is_live else "sandbox"

    @property
    def shown(self) -> list[Step]:
        """Each step, and as it was made where it was."""
        done = {(step.kind, step.what): step for step in self.made}
        return [done.get((step.kind, step.what), step) for step in self.steps]

    async def take_account(self, stripe: StripeReader, stop: Stop) -> None:
        """Find out whose key it is, and that it is the same as that of the runs."""
        known = self.knows_key_of_runs
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
        where = "in LIVE mode" if self.settings.stripe.setup_is_live else "in the sandbox"
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
            self.made.append(step)
            if self.asked.output == "table":
                verb = "completed" if step.action is Action.UPDATE else "made"
                click.echo(printable(f"{verb} {step.kind} {step.id}"))

    def _show_plan(self, *, err: bool = False) -> None:
        of = self.account or "that the key may not read"
        click.echo(printable(f"{'LIVE mode' if self.mode == 'live' else 'Sandbox mode'}, account {of}:"), err=err)
        kinds, ids = (max(map(len, names)) for names in zip(*((s.kind, s.id or "-") for s in self.steps), strict=True))
        for step in self.steps:
            line = f"  {step.action:<8}{step.kind:<{kinds}}  {step.id or '-':<{ids}}  {step.what}"
            click.echo(printable(line), err=err)


def make_price(asked: Asked, wanted: WantedPrice) -> None:
    """Plan a price, and make what is not there of it."""
    conduct = _begin(asked, [SETUP_KEY, OPENMETER_KEY])
    _end(conduct, lambda: _make_price(conduct, wanted))


def _make_price(conduct: Conduct, wanted: WantedPrice) -> None:
    settings = conduct.settings

    async def planned() -> price.PricePlan:
        with stop_on_signals() as stop, _told(_NOTHING):
            async with open_reader(settings, now, stop) as stripe, open_openmeter(settings, stop) as openmeter:
                await conduct.take_account(stripe, stop)
                return await price.plan(stripe, openmeter, wanted, settings.mapping_rules)

    async def made(plan: price.PricePlan) -> None:
        with stop_on_signals() as stop, _told(_NAMED):
            async with open_writer(settings, now, stop) as stripe, open_openmeter(settings, stop) as openmeter:
                await conduct.carry_out(price.make(plan, stripe, openmeter))

    plan = asyncio.run(planned())
    conduct.steps = plan.steps
    if conduct.is_agreed():
        asyncio.run(made(plan))
        conduct.remarks.append(f"Subscribe customers to {conduct.shown[-1].id}; meter-sync run --dry-run shows them.")


def make_destinations(asked: Asked, url: str) -> None:
    """Plan the destinations of webhooks, and make what is not there of them."""
    conduct = _begin(asked, [SETUP_KEY])
    _end(conduct, lambda: _make_destinations(conduct, url))


def _make_destinations(conduct: Conduct, url: str) -> None:
    settings = conduct.settings
    if settings.stripe.setup_is_live and not url.startswith("https:"):
        raise ArgumentsError("Stripe delivers live events to https only; nothing was made", "correct --url")
    file = SecretsFile(_secrets_file(settings))
    wanted = [webhook.Wanted("snapshot", SNAPSHOTS), webhook.Wanted("thin", THIN)]

    async def planned() -> webhook.WebhookPlan:
        with stop_on_signals() as stop, _told(_NOTHING):
            async with open_reader(settings, now, stop) as stripe:
                await conduct.take_account(stripe, stop)
                return await webhook.plan(stripe, url, wanted, file)

    async def made(plan: webhook.WebhookPlan) -> None:
        with stop_on_signals() as stop, _told(_NAMED):
            async with open_writer(settings, now, stop) as stripe:
                await conduct.carry_out(webhook.make(plan, stripe, stop))

    plan = asyncio.run(planned())
    conduct.steps = plan.steps
    agreed = conduct.is_agreed()
    if agreed:
        asyncio.run(made(plan))
    if conduct.made:
        conduct.remarks.append(f"The secrets of what was made are in {file.path}: restart meter-sync webhook.")
    if plan.lacking:
        conduct.code = ExitCode.ATTENTION
        conduct.remarks.append(
            f"{file.path} had {plan.secrets} of the {len(plan.lacking)} secrets of what was there already "
            f"({', '.join(plan.lacking)}), and Stripe tells a secret only once: roll it in Stripe's Dashboard, and put "
            "the new one into the file, in a line of its own"
        )


def _secrets_file(settings: Settings) -> Path:
    if settings.stripe.webhook_secret:
        raise ConfigurationError(
            "STRIPE_WEBHOOK_SECRET has the secrets of webhooks, so what a file has would not count; nothing was made",
            "put them into a file that stripe.webhook_secret_file or STRIPE_WEBHOOK_SECRET_FILE names",
        )
    if settings.stripe.webhook_secret_file is None:
        raise ConfigurationError(
            "no file for the secrets of webhooks is configured, and Stripe tells each but once; nothing was made",
            "set stripe.webhook_secret_file, or STRIPE_WEBHOOK_SECRET_FILE, to a file that this user may write",
        )
    return settings.stripe.webhook_secret_file


def _begin(asked: Asked, needed: Sequence[SecretSetting]) -> Conduct:
    asked.options.start_logging()
    try:
        configuration = asked.options.read_configuration([*needed, STRIPE_KEY])
        settings = asked.options.in_effect(configuration, needed)
    except MeterSyncError as error:
        print_error(error)
        if asked.output == "json":
            print_json({"steps": []}, error)
        sys.exit(error.exit_code)
    return Conduct(asked, settings, _is_right(configuration, STRIPE_KEY))


def _is_right(configuration: Configuration, secret: SecretSetting) -> bool:
    return not configuration.of_secrets.get(secret.path)


def _end(conduct: Conduct, work: Callable[[], None]) -> NoReturn:
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
def _told(holds: str) -> Iterator[None]:
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
