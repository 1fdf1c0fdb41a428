"""`meter-sync sandbox`: an embedded Stripe and OpenMeter to play with."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meter_sync.cli.ending import stop_on_signals
from meter_sync.cli.options import OPENMETER_VERSION, Matching

if TYPE_CHECKING:
    from meter_sync.sandbox import Sandbox
    from meter_sync.sandbox.openmeter.api import OpenMeterVersion

_SETUP_KEY = "rk_test_setup"
_FOR_SETUP = ("products:write", "prices:write", "billing_meters:write", "webhook_endpoints:write", "accounts:read")
"""What the key for `meter-sync setup` may do (docs/security.md)."""
_WHAT_TO_DO = """
Paste these lines into another terminal, and there:
  meter-sync run --dry-run
  meter-sync run
  meter-sync setup price --name Zeta --meter zeta_requests --per 1000000 --amount 0.20 --currency usd
One more event, to see it billed by the next run:
  curl -H "Authorization: Bearer $OPENMETER_API_KEY" -H 'Content-Type: application/cloudevents+json' \\
    $OPENMETER_URL{path} -d '{event}'
Ctrl-C ends the sandbox, and everything in it."""


_NAME = Matching("NAME", "[A-Za-z0-9]{1,40}", "a name of letters and digits")


@click.command()
@click.option(
    "--stripe-port",
    type=click.IntRange(0, 65535),
    default=0,
    envvar="METER_SYNC_SANDBOX_STRIPE_PORT",
    show_envvar=True,
    help="Default: any free port.",
)
@click.option(
    "--openmeter-port",
    type=click.IntRange(0, 65535),
    default=0,
    envvar="METER_SYNC_SANDBOX_OPENMETER_PORT",
    show_envvar=True,
    help="Default: any free port.",
)
@click.option(
    "--name",
    type=_NAME,
    help="Another account than that of other sandboxes, with a key of its own and nothing in it: for shadow mode.",
)
@OPENMETER_VERSION
def sandbox(stripe_port: int, openmeter_port: int, name: str | None, openmeter_version: "OpenMeterVersion") -> None:
    """Serve an embedded Stripe and OpenMeter to play with.

    Serves on loopback until it is interrupted, with the customers of the demo, and prints the environment
    variables with which `meter-sync run` works against it in another terminal.
    """
    with tempfile.TemporaryDirectory(prefix="meter-sync-sandbox-") as folder:
        try:
            asyncio.run(_serve(Path(folder), stripe_port, openmeter_port, name, openmeter_version))
        except OSError as error:
            raise click.ClickException(f"cannot serve: {error.strerror or error}") from error


async def _serve(
    folder: Path, stripe_port: int, openmeter_port: int, name: str | None, openmeter_version: "OpenMeterVersion"
) -> None:
    from meter_sync.sandbox import Sandbox
    from meter_sync.sandbox.epsilon import Epsilon

    served = Sandbox(openmeter_versions=[openmeter_version], stripe_key=f"sk_test_{name or 'sandbox'}")
    if name is not None:
        served.stripe.account = f"acct_{name}"
    epsilon = Epsilon(served)
    with stop_on_signals() as stop:
        async with served.serving(stripe_port, openmeter_port):
            if name is not None:
                _print_shadow(served, folder)
                await stop.wait()
                return
            epsilon.set_up()
            await epsilon.use_so_far()
            # What a shell understands goes to stdout, and what to do with it to stderr.
            environment = {
                **served.environment(),
                "METER_SYNC_LEDGER": str(folder / "ledger.sqlite3"),
                "STRIPE_SETUP_API_KEY": served.stripe.add_restricted_key(_SETUP_KEY, _FOR_SETUP),
                "STRIPE_WEBHOOK_SECRET_FILE": str(folder / "webhook_secrets"),
            }
            for variable, value in environment.items():
                click.echo(f"export {variable}='{value}'")
            event = json.dumps(epsilon.an_event())
            click.echo(_WHAT_TO_DO.format(path=served.events_path, event=event), err=True)
            await stop.wait()


def _print_shadow(served: "Sandbox", folder: Path) -> None:
    """Print what makes the sandbox the shadow of the account that is configured."""
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_text(served.stripe_key, encoding="utf-8")
    click.echo(f'[shadow]\napi_key_file = "{key}"\napi_base = "{served.stripe_url}"')
    click.echo("\nPut these lines into meter-sync.toml, and there: meter-sync setup shadow", err=True)
