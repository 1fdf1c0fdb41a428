"""`meter-sync webhook`: report at once what Stripe's events are about."""

import asyncio
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from meter_sync.cli.ending import stop_on_signals
from meter_sync.cli.globals import Globals, now
from meter_sync.cli.options import accounts_of
from meter_sync.cli.printing import print_error
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import Interrupted, MeterSyncError

if TYPE_CHECKING:
    from meter_sync.config import Settings


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
@accounts_of("The account that it is about, where there are several")
@click.pass_obj
def webhook(options: Globals, host: str, port: int, accounts: tuple[str, ...]) -> None:
    """Receive Stripe's webhooks and report at once.

    Listens on /webhook until it is interrupted. An event that a period turned, that a subscription ended or that an
    invoice is due is queued in the ledger, and the subscription concerned is reported as `meter-sync run` would.
    """
    options.start_logging()
    try:
        asyncio.run(_serve(options.load_settings(accounts, for_webhook=True), host, port))
    except MeterSyncError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print_error(Interrupted("cut off by a second signal; what is queued is in the ledger"))
        sys.exit(ExitCode.FAILED)


async def _serve(settings: "Settings", host: str, port: int) -> None:
    from meter_sync.net.tasks import first_error_only
    from meter_sync.webhook.queue import Queue
    from meter_sync.webhook.reporting import follow_up, reporter
    from meter_sync.webhook.server import Receiver, serve
    from meter_sync.webhook.worker import Worker

    queue = Queue(settings.ledger, settings.scope, now)
    with closing(queue), stop_on_signals() as stop:
        await queue.waiting()  # a ledger that cannot be used ends it here, and not at the first event
        worker = Worker(queue, reporter(settings, now, stop), stop)
        receiver = Receiver(settings.stripe.webhook_secret, settings.stripe.is_live, queue, worker.wake)
        async with first_error_only(), asyncio.TaskGroup() as group:
            following = group.create_task(follow_up(settings, now, stop))
            await serve(receiver, worker, stop, host, port)
            following.cancel()
