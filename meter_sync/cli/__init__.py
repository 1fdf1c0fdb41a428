"""The command line: parsing, printing and exit codes; one module per command, loaded when it is used."""

import importlib
import os
import sys

import click

from meter_sync import __version__

COMMANDS = {
    "run": "Report the usage of metered subscription items to Stripe.",
    "verify": "Compare what Stripe holds with what OpenMeter says; writes nothing.",
    "webhook": "Receive Stripe's webhooks and report at once.",
    "status": "Say whether all is well: runs, held, unbilled and due; asks no server.",
    "history": "Show what was billed and why, and what was left unbilled.",
    "config": "Show every setting in effect and where it comes from, or check them.",
    "demo": "Show the whole job against an embedded Stripe and OpenMeter.",
    "sandbox": "Serve an embedded Stripe and OpenMeter to play with.",
}
"""Each command, whose module has its name, in the order of importance, and what is said of it."""

EPILOG = (
    "Exit codes: 0 done; 1 failed; 2 wrong arguments; 3 some items failed; 4 someone should look; 75 try again "
    "later; 78 the configuration, a key or the clock is wrong. Treat any other as a failure."
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used, so that `--help` imports no SDK."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of importance."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"meter_sync.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, epilog=EPILOG)
@click.option(
    "--config",
    type=click.Path(),
    envvar="METER_SYNC_CONFIG",
    show_envvar=True,
    help="The TOML file; default: meter-sync.toml here, then in the user's and the system's configuration folder, then "
    "in /etc/meter-sync.",
)
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    envvar="METER_SYNC_LOG_FORMAT",
    show_envvar=True,
    help="Default: console on a terminal, else json.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    envvar="METER_SYNC_LOG_LEVEL",
    show_envvar=True,
    help="What is logged on stderr.",
)
@click.option(
    "--no-color",
    is_flag=True,
    envvar="METER_SYNC_NO_COLOR",
    show_envvar=True,
    help="No colors; NO_COLOR and TERM=dumb say the same.",
)
@click.version_option(__version__, prog_name="meter-sync")
@click.pass_context
def cli(context: click.Context, config: str | None, log_format: str | None, log_level: str, no_color: bool) -> None:
    """Bill in Stripe exactly the usage that OpenMeter has metered."""
    from meter_sync.cli.globals import Globals

    context.obj = Globals(config, log_format, log_level, no_color)


def main() -> None:
    """Run the command line and exit with its code."""
    for closed in {"stdout", "stderr"}.difference(name for name in ("stdout", "stderr") if getattr(sys, name)):
        # Started with a closed stream: what would be printed there is lost, but the billing is not.
        setattr(sys, closed, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open until the end)
    sys.exit(cli(prog_name="meter-sync"))
