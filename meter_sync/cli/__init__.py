"""The command line: parsing, printing and exit codes; one module per command, loaded when it is used."""

import importlib
import sys
import traceback

import click

from meter_sync import __version__
from meter_sync.cli.streams import (
    NAMES,
    are_events,
    is_unread,
    make_events_of_stderr,
    make_lossy,
    what_was_lost,
    write_event,
)

COMMANDS = {
    "run": "Report the usage of metered subscription items to Stripe.",
    "verify": "Compare what Stripe holds with what OpenMeter says; writes nothing.",
    "worker": "Carry out the runs of many accounts, with others like it; needs PostgreSQL.",
    "webhook": "Receive Stripe's webhooks and report at once.",
    "status": "Say whether all is well: runs, held, unbilled and due; asks no server.",
    "doctor": "Check everything that runs need, each finding with what to do.",
    "history": "Show what was billed and why, and what was left unbilled.",
    "statement": "Make a page of what was billed and what was not, for finance to read, print and sign.",
    "ledger": "Move the books to another ledger, check them, or make a backup.",
    "setup": "Make the first metered price, the webhook's event destinations, or a shadow's copies.",
    "schedule": "Print ready files for cron, systemd or Kubernetes, or write them.",
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named, or raise NoSuchCommand with those that it may have been meant for."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _choose_format(_context: click.Context, _option: click.Parameter, chosen: str | None) -> str | None:
    """See to it that in JSON also what follows is: a wrong argument after this one, a crash, what a library says."""
    if chosen == "json":
        make_events_of_stderr()
    return chosen


@click.group(cls=LazyGroup, epilog=EPILOG)
@click.option(
    "--config",
    type=click.Path(readable=False),  # one that cannot be read is a wrong configuration, no wrong argument
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
    is_eager=True,
    callback=_choose_format,
    help="Default: console on a terminal, else json. Where json is asked for, errors are JSON lines too.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
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
    make_lossy()
    code = _carried_out()
    lost = [(name, error) for name in NAMES if (error := what_was_lost(name))]
    for name, error in lost:
        # What goes on stdout is the command's to say, where it has something to say of it: `ending.exit_with`.
        if name == "stdout" and not is_unread(error) and not code:
            _say("not_printed", f"what was to be printed could not be written: {error.strerror}")
    sys.exit(code or int(bool(lost)))


def _carried_out() -> int:
    """Carry out what the arguments say, and return its exit code."""
    try:
        return cli.main(prog_name="meter-sync", standalone_mode=False) or 0
    except SystemExit as end:
        return int(end.code or 0)
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted", "interrupted")
    except Exception as error:
        if are_events():
            said = f"meter-sync itself failed with {type(error).__name__}"
            write_event("error", "error", code="internal", message=said, traceback=traceback.format_exc())
        else:
            traceback.print_exc()
    return 1


def _show(error: click.ClickException) -> None:
    if not are_events():
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"see {context.command_path} --help" if context else ""
    code = "arguments" if isinstance(error, click.UsageError) else "failed"
    write_event("error", "error", code=code, message=error.format_message(), hint=hint)


def _say(code: str, message: str) -> None:
    if are_events():
        write_event("error", "error", code=code, message=message)
    else:
        click.echo(f"meter-sync: {message}", err=True)
