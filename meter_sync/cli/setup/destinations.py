"""`meter-sync setup webhook`: the event destinations, and their secrets in a file."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from meter_sync.cli.ending import stop_on_signals
from meter_sync.cli.globals import now
from meter_sync.cli.setup.conduct import ALL_NAMED, NOTHING_MADE, Asked, Conduct, begin, end, told
from meter_sync.config import SETUP_KEY, Configuration, Settings
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import ArgumentsError, ConfigurationError
from meter_sync.setup import webhook
from meter_sync.setup.secrets_file import SecretsFile
from meter_sync.setup.talk import open_reader, open_writer
from meter_sync.stripe_api.event_destinations import CONNECTED, Wanted
from meter_sync.webhook.events import OF_CONNECTED, SNAPSHOTS, THIN
from meter_sync.webhook.server import WEBHOOK_PATH


def make_destinations(asked: Asked, url: str) -> None:
    """Plan the destinations of webhooks, and make what is not there of them."""
    conduct = begin(asked, [SETUP_KEY], _is_of_platform)
    end(conduct, lambda: _make_destinations(conduct, url))


def _make_destinations(conduct: Conduct, url: str) -> None:
    settings, configuration = conduct.settings, conduct.configuration
    if configuration.is_of_platform:
        raise ArgumentsError(
            f"the events of {configuration.account}, a connected account, come to the event destination of its "
            "platform for all of them; nothing was made",
            "leave --account out",
        )
    url = _of_account(url, settings.account)
    if settings.stripe.setup_is_live and not url.startswith("https:"):
        raise ArgumentsError("Stripe delivers live events to https only; nothing was made", "correct --url")
    file = SecretsFile(_secrets_file(settings))
    wanted = [Wanted("snapshot", SNAPSHOTS), Wanted("thin", THIN)]
    if configuration.is_of_several:
        wanted = [Wanted("snapshot", OF_CONNECTED, CONNECTED), Wanted("thin", THIN, CONNECTED)]

    async def planned() -> webhook.WebhookPlan:
        with stop_on_signals() as stop, told(NOTHING_MADE):
            async with open_reader(settings, now, stop) as stripe:
                await conduct.take_account(stripe, stop)
                return await webhook.plan(stripe, url, wanted, file)

    async def made(plan: webhook.WebhookPlan) -> None:
        with stop_on_signals() as stop, told(ALL_NAMED):
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


def _is_of_platform(configuration: Configuration) -> bool:
    """Say whether accounts are connected to the platform whose key all have in common: one destination gets of all."""
    return configuration.connected is not None or any(one.is_of_platform for one in configuration.accounts)


def _of_account(url: str, account: str) -> str:
    """Return the address of an account of several, whose events come to a path of its own.

    An address that does not end as the webhook's own path does is made something else of by a proxy: it stays.
    """
    parts = urlsplit(url)
    if not account or not parts.path.endswith(WEBHOOK_PATH):
        return url
    return parts._replace(path=f"{parts.path}/{account}").geturl()


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
