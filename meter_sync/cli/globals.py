"""The options that stand before the command, and what follows from them."""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meter_sync.cli.streams import log_file

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from rich.console import Console

    from meter_sync.config import Configuration, SecretSetting, Settings
    from meter_sync.ledger import Place

_WIDTH_WITHOUT_TERMINAL = 240
_NAMED = 10


@dataclass(frozen=True, slots=True)
class Globals:
    """The global options as they were given."""

    config: str | None = None
    log_format: str | None = None
    log_level: str = "warning"
    no_color: bool = False

    @property
    def color(self) -> bool:
        """Whether colors are wanted, apart from whether the stream can show them."""
        return not (self.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb")

    def start_logging(self) -> None:
        """Send logs to stderr as `console` lines or `json` objects, one event per step, with times in UTC."""
        import structlog

        on_terminal = sys.stderr.isatty()
        renderer: structlog.types.Processor = structlog.processors.JSONRenderer()
        is_console = (self.log_format or ("console" if on_terminal else "json")) == "console"
        if is_console:
            # The default shows the variables of each frame of a traceback: those of the SDKs have headers with keys.
            plain, color = structlog.dev.plain_traceback, on_terminal and self.color
            renderer = structlog.dev.ConsoleRenderer(colors=color, exception_formatter=plain)
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                *([] if is_console else [_of_no_run]),
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                renderer,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[self.log_level.upper()]),
            logger_factory=structlog.WriteLoggerFactory(file=log_file()),
            cache_logger_on_first_use=False,
        )

    def load_place(self) -> "Place":
        """Load where the ledger is, which all accounts have in common. Raise ConfigurationError."""
        from meter_sync.config import needed

        return self.in_effect(self.read_configuration(needed(for_webhook=False)), ()).ledger

    def read_configuration(self, wanted: "Sequence[SecretSetting]", **options: Any) -> "Configuration":
        """Read the configuration, with some of the secrets; None is an option that was not given."""
        from meter_sync.config import absolute, found_file, read, usual_places

        given = {name: value for name, value in options.items() if value is not None}
        file = found_file(usual_places()) if self.config is None else absolute(Path(self.config))
        return read(file, os.environ, given, wanted)

    def read_account(
        self, wanted: "Sequence[SecretSetting]", accounts: Sequence[str], **options: Any
    ) -> "Configuration":
        """Read the configuration of an account, or that of the only one.

        Raise ArgumentsError where there are several, and not one of them is named.
        """
        from meter_sync.errors import ArgumentsError

        found = chosen(self.read_configuration(wanted, **options), accounts)
        if len(found) == 1:
            return found[0]
        names = ", ".join(one.account for one in found[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        known = f"--account is one of {names}{more}" if found else "--account names one that is connected, acct_…"
        raise ArgumentsError("this is about one account, and there are several", known)

    def in_effect(self, configuration: "Configuration", needed: "Sequence[SecretSetting]") -> "Settings":
        """Return the settings, and say in the log which file and ledger are in effect. Raise ConfigurationError."""
        return _logged(configuration, configuration.settings(needed))

    def checked(self, configuration: "Configuration", needed: "Sequence[SecretSetting]") -> "Settings":
        """Return the settings, or what several accounts have in common, and say so in the log.

        Raise ConfigurationError for whatever is wrong with any account.
        """
        return _logged(configuration, configuration.check(needed))

    def of_the_account(self, configuration: "Configuration", needed: "Sequence[SecretSetting]") -> "Settings":
        """Return the settings of the account itself, also in shadow mode, as `in_effect` does."""
        return _logged(configuration, configuration.of_the_account(needed))

    def not_given(self, configuration: "Configuration", settings: "Settings") -> str:
        """Return in a line which configuration file and ledger are in effect, as far as nobody has named them.

        A ledger that is named in a file which was found, and not given, depends on where one looks from.
        """
        found = f"{configuration.file}, found there" if configuration.file else "none was found"
        kind = configuration.origins["ledger"].kind
        is_named = kind in ("option", "environment") or (kind == "file" and self.config is not None)
        said = [] if self.config is not None else [f"Configuration file: {found}."]
        return " ".join(said if is_named else [*said, f"Ledger: {settings.ledger}."])

    def console(self, *, stderr: bool = False) -> "Console":
        """Return where to print for a person; without a terminal lines are long rather than cut."""
        from rich.console import Console

        stream = sys.stderr if stderr else sys.stdout
        width = None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL
        return Console(stderr=stderr, width=width, no_color=not self.color, highlight=False, soft_wrap=False)


def chosen(configuration: "Configuration", names: Sequence[str]) -> "Sequence[Configuration]":
    """Return the configuration of each account that is named, in the order of the file; of all where none is.

    Where there is only one account, that is the configuration itself. Raise ArgumentsError for a name that there is
    not, and ConfigurationError where what all accounts have in common is wrong.
    """
    from meter_sync.errors import ArgumentsError

    if not configuration.is_of_several:
        if names:
            raise ArgumentsError(f"there is no account {names[0]!r}", "leave --account out: there is only one")
        return [configuration]
    configuration.of_the_account(())
    known = {one.account: one for one in configuration.accounts}
    for name in names:
        if configuration.connected is not None and name.startswith("acct_"):
            known.setdefault(name, configuration.connected(name))
    return only([*known.values()], names)


def only(accounts: "Sequence[Configuration]", names: Sequence[str]) -> "Sequence[Configuration]":
    """Return those of several accounts that are named, or all where none is. Raise ArgumentsError for another name."""
    from meter_sync.core.text import did_you_mean
    from meter_sync.errors import ArgumentsError

    known = {one.account: one for one in accounts}
    for name in names:
        if name not in known:
            raise ArgumentsError(
                f"there is no account {name!r}", f"accounts are the rows of [[accounts]]{did_you_mean(name, known)}"
            )
    return [one for name, one in known.items() if name in names or not names]


def _logged(configuration: "Configuration", settings: "Settings") -> "Settings":
    import structlog

    file = configuration.file and str(configuration.file)
    shadow = {"is_shadow": True} if settings.is_shadow else {}
    structlog.get_logger().info("configuration", file=file, ledger=str(settings.ledger), **shadow)
    return settings


def _of_no_run(_log: Any, _method: str, event: "MutableMapping[str, Any]") -> "MutableMapping[str, Any]":
    """Let each JSON line have the key `run_id`, and null where no run is under way."""
    event.setdefault("run_id", None)
    return event


def now() -> datetime:
    """Return the instant of the machine's clock, in UTC."""
    return datetime.now(UTC)
