"""Where settings come from: options, environment, TOML file and secret files, in this order."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError

from meter_sync.config.secrets import SECRETS, WEBHOOK_SECRET, SecretSetting
from meter_sync.config.settings import Settings
from meter_sync.errors import ConfigurationError

ENVIRONMENT = {
    "STRIPE_API_KEY": "stripe.api_key",
    "STRIPE_API_KEY_FILE": "stripe.api_key_file",
    "STRIPE_API_BASE": "stripe.api_base",
    "STRIPE_WEBHOOK_SECRET": "stripe.webhook_secret",
    "STRIPE_WEBHOOK_SECRET_FILE": "stripe.webhook_secret_file",
    "OPENMETER_URL": "openmeter.url",
    "OPENMETER_API_KEY": "openmeter.api_key",
    "OPENMETER_API_KEY_FILE": "openmeter.api_key_file",
    "METER_SYNC_LEDGER": "ledger",
    "METER_SYNC_SCHEDULE": "schedule",
    "METER_SYNC_SUBJECT": "mapping.subject",
    "METER_SYNC_METER_KEY": "mapping.meter_key",
    "METER_SYNC_STRIPE_RATE": "stripe.rate",
    "METER_SYNC_STRIPE_ENDPOINT_RATE": "stripe.endpoint_rate",
    "METER_SYNC_STRIPE_METER_EVENT_RATE": "stripe.meter_event_rate",
    "METER_SYNC_OPENMETER_CONCURRENCY": "openmeter.concurrency",
    "METER_SYNC_RETRY_SECONDS": "retry_seconds",
}
"""The environment variables and the settings that they stand for."""

CONFIG_NAME = "meter-sync.toml"

Values = Mapping[str, Any]
"""Settings by name, and sections of them, before they are checked."""


def load(file: Path | None, environment: Mapping[str, str], options: Values, *, for_webhook: bool = False) -> Settings:
    """Return the settings from the options, the environment, the TOML file and the defaults, in this order.

    `file` is the TOML file, if there is one; `options` has settings by field name; `for_webhook` requires the secret
    that webhooks are signed with: whoever runs the rest needs no permission to read it.
    Raise ConfigurationError that names every problem at once.
    """
    of_file = _of_file(file) if file else {}
    variables = {path: name for name, path in ENVIRONMENT.items() if environment.get(name, "").strip()}
    values = reduce(_filled_up, (options, _of_variables(variables, environment), of_file))
    wanted = [one for one in SECRETS if for_webhook or one is not WEBHOOK_SECRET]
    secrets, of_secrets = _of_secret_files(wanted, values, environment)
    # The configuration file is read, copied and committed more freely than a secret may be.
    problems = [
        f"{one.section}.{one.name}: a {one.what.removeprefix('webhook ')} does not belong into {file}; put it into a "
        f"file of its own and name that with {one.section}.{one.name}_file"
        for one in SECRETS
        if one.name in _section(of_file, one.section)
    ]
    try:
        settings = Settings.model_validate(_filled_up(values, secrets))
    except ValidationError as error:
        problems += [_in_words(dict(fault), variables, file) for fault in error.errors()]
    problems += of_secrets
    if problems:
        raise _wrong(problems)
    return settings


def found_file() -> Path | None:
    """Return the first configuration file of the usual places, or None."""
    folders = (Path(), platformdirs.user_config_path("meter-sync"), platformdirs.site_config_path("meter-sync"))
    # Also what cannot be read is found: a broken link must not silently mean the defaults.
    return next((folder / CONFIG_NAME for folder in folders if os.path.lexists(folder / CONFIG_NAME)), None)


def _wrong(problems: list[str]) -> ConfigurationError:
    """Given everything that is wrong, return the error that says it at once."""
    return ConfigurationError(
        "the configuration is wrong, nothing was read or written",
        "correct what is named; docs/configuration.md lists every setting",
        details=problems,
    )


def _in_words(fault: Mapping[str, Any], variables: Mapping[str, str], file: Path | None) -> str:
    """Given a fault of validation, return it with the names that the operator wrote.

    `variables` has the environment variable of each setting that has its value from one.
    """
    path = ".".join(str(part) for part in fault["loc"])
    is_unknown = fault["type"] == "extra_forbidden"
    said = "is not a setting" if is_unknown else str(fault["msg"]).removeprefix("Value error, ")
    where = variables.get(path, path)
    source = "" if path in variables or file is None else f" ({file})"
    return f"{where}: {said}{source}" if where else f"{said}{source}"


def _of_variables(variables: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path, name in variables.items():
        section, _, setting = path.rpartition(".")
        (values.setdefault(section, {}) if section else values)[setting] = environment[name].strip()
    return values


def _of_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise _wrong([f"{file} cannot be read: {why}"]) from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number or nesting that Python cannot hold
        raise _wrong([f"{file} is not TOML: {error}"]) from error


def _of_secret_files(
    wanted: Sequence[SecretSetting], values: Values, environment: Mapping[str, str]
) -> tuple[Values, list[str]]:
    """Return the secrets that lie in files: those that the settings so far name, else systemd's credentials.

    Beside them is what is wrong with the secrets, whichever source has them.
    """
    found: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    for one in wanted:
        section = _section(values, one.section)
        secret = section.get(one.name, "")
        file = section.get(f"{one.name}_file") or _credential(f"{one.section}_{one.name}", environment)
        if not secret and isinstance(file, str | Path):
            try:
                secret = Path(file).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is not text, or its name is none"
                problems.append(f"the {one.section} {one.what} file {file} cannot be read: {why}")
                continue
            found.setdefault(one.section, {})[one.name] = secret
        problems += one.problems_of(str(secret).strip())
    return found, problems


def _credential(name: str, environment: Mapping[str, str]) -> Path | None:
    folder = environment.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, name) if folder else None
    return path if path and path.exists() else None


def _section(values: Values, name: str) -> Values:
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _filled_up(first: Values, then: Values) -> Values:
    """Return the settings of both; where both have one, that of the first."""
    both = {
        name: _filled_up(value, then[name])
        for name, value in first.items()
        if isinstance(value, dict) and isinstance(then.get(name), dict)
    }
    return {**then, **first, **both}
