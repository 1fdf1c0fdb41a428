"""`meter-sync webhook`: report at once what Stripe's events are about."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click

from meter_sync.cli.ending import stop_on_signals
from meter_sync.cli.fleet import fleet_of
from meter_sync.cli.globals import Globals, chosen, now
from meter_sync.cli.options import accounts_of
from meter_sync.cli.printing import print_error
from meter_sync.core.outcomes import ExitCode, gravest
from meter_sync.errors import ConfigurationError, Interrupted, MeterSyncError

if TYPE_CHECKING:
    from meter_sync.config import Configuration, Settings
    from meter_sync.webhook.accounts import Account, Accounts, Door, Unserved


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="METER_SYNC_WEBHOOK_HOST",
    show_envvar=True,
    help="The address to listen on. A TLS proxy stands before it.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8431,
    show_default=True,
    envvar="METER_SYNC_WEBHOOK_PORT",
    show_envvar=True,
    help="The port to listen on; 0 for any free one.",
)
@click.option("--enqueue", is_flag=True, help="Only receive and store: workers do the reporting.")
@click.option("--drain", is_flag=True, help="Receive nothing: report what is stored for the account, and end.")
@accounts_of("Only this account, where there are several")
@click.pass_obj
def webhook(options: Globals, host: str, port: int, enqueue: bool, drain: bool, accounts: tuple[str, ...]) -> None:
    """Receive Stripe's webhooks and report at once.

    Listens on /webhook until it is interrupted, and on /webhook/NAME for each of several accounts. An event that a
    period turned, that a subscription ended or that an invoice is due is queued in the ledger, and the subscription
    concerned is reported as `meter-sync run` would.
    """
    if enqueue and drain:
        raise click.UsageError("--enqueue receives events and reports nothing, --drain the other way round: give one.")
    options.start_logging()
    try:
        if drain:
            sys.exit(asyncio.run(_drain(options, accounts)))
        asyncio.run((_remind if enqueue else _serve)(options, accounts, host, port))
    except MeterSyncError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print_error(Interrupted("cut off by a second signal; what is queued is in the ledger"))
        sys.exit(ExitCode.FAILED)


async def _serve(options: Globals, names: Sequence[str], host: str, port: int) -> None:
    from meter_sync.webhook.queue import Queues
    from meter_sync.webhook.server import Receiver, serve
    from meter_sync.webhook.workers import Workers

    settings, accounts, doors = _served(options, names)
    queues = Queues(settings.ledger, now)
    with closing(queues), stop_on_signals() as stop:
        workers = Workers(accounts, queues, settings.accounts_at_once, stop)
        await workers.recall()  # a ledger that cannot be used ends it here, and not at the first event
        await serve(Receiver(accounts, doors, queues, workers.wake), stop, host, port, workers.work)


async def _remind(options: Globals, names: Sequence[str], host: str, port: int) -> None:
    """Receive events, store them, and remind workers of them."""
    from meter_sync.webhook.queue import Queues
    from meter_sync.webhook.server import Receiver, serve

    with stop_on_signals() as stop:
        _, fleet = fleet_of(options, stop)
        from meter_sync.fleet.reminder import Reminder  # whose engine `fleet_of` has found installed

        settings, accounts, doors = _served(options, names)
        with closing(Queues(settings.ledger, now)) as queues:
            await queues.by_account()  # a ledger that cannot be used ends it here, and not at the first event
            reminder = Reminder(fleet.place, stop)
            await serve(Receiver(accounts, doors, queues, reminder.wake), stop, host, port, reminder.work)


async def _drain(options: Globals, names: Sequence[str]) -> ExitCode:
    """Report what is stored for the account, and return the gravest exit code. No secret of webhooks is needed."""
    from meter_sync.config import needed
    from meter_sync.webhook.accounts import named_in_log
    from meter_sync.webhook.queue import Queue, Queues
    from meter_sync.webhook.reporting import reporter
    from meter_sync.webhook.worker import Worker

    wanted = needed(for_webhook=False)
    settings = options.in_effect(options.read_account(wanted, names), wanted)
    with closing(Queues(settings.ledger, now)) as queues, stop_on_signals() as stop, named_in_log(settings.account):
        worker = Worker(Queue(queues, settings.scope), reporter(settings, now, stop), stop)
        return gravest(ExitCode.DONE, *await worker.drain())


def _served(options: Globals, names: Sequence[str]) -> "tuple[Settings, Accounts, list[Door]]":
    """Return what all accounts have in common, the accounts, and where events of theirs come to.

    An account whose configuration is wrong is named in the log. Raise MeterSyncError where there is no other one.
    """
    from meter_sync.config import WEBHOOK_SECRET, needed
    from meter_sync.webhook.accounts import Account, Accounts, Connected

    wanted = needed(for_webhook=True)
    configuration = options.read_configuration(wanted)
    asked = chosen(configuration, names)
    if not configuration.is_of_several:
        settings = options.in_effect(configuration, wanted)
        accounts = Accounts([Account(settings)], None, None)
        return settings, accounts, _doors(accounts, None)
    settings = options.in_effect(configuration, ())
    has_secrets = configuration.is_configured(WEBHOOK_SECRET)
    platform = configuration.of_the_account([WEBHOOK_SECRET]) if has_secrets else None
    connected = None
    if configuration.connected is not None and not names and (has_secrets or not asked):
        of_one = configuration.connected
        named = frozenset(one.stripe_account for one in configuration.accounts if one.stripe_account)
        connected = Connected(configuration.of_the_account(wanted), lambda id: of_one(id).settings(wanted), named)
    if not names and len(asked) > 1:
        asked = [one for one in asked if one.is_configured(WEBHOOK_SECRET)] or asked
    common_key = configuration.read.stripe.api_key if configuration.read else None
    accounts = Accounts([_account(one) for one in asked], common_key, connected)
    if not accounts.served and connected is None:
        raise _none_served(accounts.unserved)
    _name(accounts.unserved)
    return settings, accounts, _doors(accounts, platform)


def _account(configuration: "Configuration") -> "Account | Unserved":
    from meter_sync.config import needed
    from meter_sync.webhook.accounts import Account, Unserved

    try:
        return Account(configuration.settings(needed(for_webhook=True)))
    except ConfigurationError as error:
        return Unserved(configuration.account, configuration.stripe_account, error)


def _name(accounts: "Sequence[Unserved]") -> None:
    """Say in the log which accounts are not served, and why."""
    import structlog

    log = structlog.get_logger()
    for one in accounts:
        log.error("webhook_account_not_served", account=one.name, because=one.error.message, hint=one.error.hint)


def _none_served(accounts: "Sequence[Unserved]") -> ConfigurationError:
    """Return the error that says at once what is wrong with all accounts."""
    first = accounts[0].error
    details = [said for one in accounts for said in one.error.details]
    return ConfigurationError(first.headline, first.hint, details=details)


def _doors(accounts: "Accounts", platform: "Settings | None") -> "list[Door]":
    """Return where events come to: an account's own paths, and one for all that share secrets."""
    from meter_sync.webhook.accounts import Door
    from meter_sync.webhook.server import WEBHOOK_PATH

    own = [
        *(Door(f"{WEBHOOK_PATH}/{one.name}", one.settings.stripe.webhook_secret, one) for one in accounts.served),
        *(Door(f"{WEBHOOK_PATH}/{one.name}", (), one) for one in accounts.unserved),
    ]
    if accounts.only:
        secrets = accounts.only.settings.stripe.webhook_secret
        return [Door(WEBHOOK_PATH, secrets, accounts.only), *(own if accounts.only.name else [])]
    return [*([Door(WEBHOOK_PATH, platform.stripe.webhook_secret, None)] if platform else []), *own]
