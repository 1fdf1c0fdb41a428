"""A group whose commands are imported when they are used, so that `--help` imports no SDK."""

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A click group that knows where its commands are, and what to say of them, before importing them."""

    def __init__(self, *args: Any, commands_by_name: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands_by_name = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of importance."""
        return list(self._commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._commands_by_name:
            return None
        module, _ = self._commands_by_name[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"meter_sync.cli.{module}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        rows = [(name, summary) for name, (_, summary) in self._commands_by_name.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
