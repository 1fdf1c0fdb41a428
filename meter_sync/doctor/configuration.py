"""The section of the configuration: its sources, what is wrong with it, and who can read the secrets."""

import stat
from collections.abc import Iterator
from pathlib import Path

from meter_sync.config import SECRETS, WEBHOOK_SECRET, Configuration, needed
from meter_sync.doctor.finding import Finding, obstacle, ok, warning
from meter_sync.errors import ConfigurationError


def examine_configuration(configuration: Configuration, found_in: Path | None) -> Iterator[Finding]:
    """Yield what there is to say of the configuration: each problem by itself, as `config check` names them.

    `found_in` is the folder in which its file was found, where nobody has named it.
    """
    file = configuration.file
    try:
        settings = configuration.settings(needed(for_webhook=configuration.is_there(WEBHOOK_SECRET)))
        yield ok(
            "config", f"the configuration is right: {file or 'no file was found, the defaults and the environment'}"
        )
    except ConfigurationError as error:
        for said in error.details:
            yield obstacle("config", said, "correct it; docs/configuration.md lists every setting")
    else:
        if settings.is_shadow:
            said = "shadow mode: everything is about the sandbox of [shadow], and nobody is billed"
            yield warning("config", said, "to bill, take [shadow] out of the configuration and make the schedule anew")
    if configuration.is_configured(WEBHOOK_SECRET) and not configuration.is_there(WEBHOOK_SECRET):
        said = "the file of the webhook's secrets is not there yet: the webhook cannot start"
        yield warning("config", said, "meter-sync setup webhook makes it", WEBHOOK_SECRET.path)
    if file is not None and found_in == Path().absolute():
        yield warning(
            "config",
            f"{file} counts since it is in the working directory: a command from elsewhere has another configuration",
            "name it with --config or METER_SYNC_CONFIG on the schedule, or put it into /etc/meter-sync",
        )
    yield from _secrets(configuration)


def _secrets(configuration: Configuration) -> Iterator[Finding]:
    """Yield the files of secrets that others than their user can read."""
    for one in SECRETS:
        origin = configuration.origins.get(one.path)
        if origin is None or origin.kind != "file" or origin.name is None:
            continue
        mode = _mode(Path(origin.name))
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            yield warning(
                "config",
                f"everybody on this machine may read {origin.name}, which has the {one.section} {one.what}",
                f"chmod 0600 {origin.name}",
                subject=one.path,
            )


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode
    except OSError:  # what cannot be read is a problem of the configuration by itself
        return 0
