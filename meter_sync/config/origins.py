"""Where the value of each setting came from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from meter_sync.config.ledgers import STATE_FOLDER
from meter_sync.config.settings import MeterSettings, Settings

Values = Mapping[str, Any]
"""Settings by name, and sections of them, before they are checked."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from."""

    kind: Literal["option", "environment", "file", "credentials", "default"]
    """`credentials` are those of systemd; `file` is the configuration file, or that of a secret."""
    name: str | None = None
    """The option, the variable or the file."""


DEFAULT = Origin("default")


def setting_names(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Yield the full name of each setting, such as `stripe.rate`; `meters` is one, whatever rows it has."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from setting_names(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def names_beside(section: str) -> list[str]:
    """Return the names of the settings in a section, which is empty for those that stand in none."""
    if section == "meters":
        return list(MeterSettings.model_fields)
    beside = [name.removeprefix(f"{section}.") for name in setting_names() if name.startswith(f"{section}.")]
    return beside if section else list(Settings.model_fields)


def origins_of(
    options: Values, variables: Mapping[str, str], of_file: Values, file: Path | None, environment: Mapping[str, str]
) -> dict[str, Origin]:
    """Return where the value of each setting comes from, by its full name.

    `variables` has the environment variable of each setting that has its value from one.
    """
    found = dict.fromkeys(setting_names(), DEFAULT)
    if environment.get(STATE_FOLDER):
        found["ledger"] = Origin("environment", STATE_FOLDER)
    found |= {name: Origin("file", str(file)) for name in found if _has(of_file, name)}
    found |= {name: Origin("environment", variable) for name, variable in variables.items()}
    return found | {name: Origin("option", f"--{name}") for name in found if _has(options, name)}


def _has(values: Values, name: str) -> bool:
    section, _, setting = name.rpartition(".")
    beside = values.get(section) if section else values
    return isinstance(beside, dict) and setting in beside
