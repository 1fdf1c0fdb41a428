"""Where settings come from: options, environment, TOML file and secret files, in this order."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from meter_sync.config.accounts import AccountRow, account_rows, named_twice
from meter_sync.config.configuration import Configuration, wrong
from meter_sync.config.origins import Origin, Values, names_beside, origins_of, setting_names
from meter_sync.config.secrets import (
    LEDGER_PASSWORD,
    NOTIFY_FILE,
    OPENMETER_KEY,
    SECRETS,
    SHADOW_KEY,
    STRIPE_KEY,
    WEBHOOK_SECRET,
    SecretSetting,
)
from meter_sync.config.settings import MonitorSettings, Settings
from meter_sync.config.variables import ENVIRONMENT, unknown_variables
from meter_sync.core.text import did_you_mean
from meter_sync.errors import ConfigurationError
from meter_sync.net.postgres_url import is_with_password


def load(file: Path | None, environment: Mapping[str, str], options: Values, *, for_webhook: bool = False) -> Settings:
    """Return the settings from the options, the environment, the TOML file and the defaults, in this order.

    `file` is the TOML file, if there is one; `options` has settings by field name; `for_webhook` requires the secret
    that webhooks are signed with: whoever runs the rest needs no permission to read it.
    Raise ConfigurationError that names every problem at once.
    """
    wanted = needed(for_webhook=for_webhook)
    return read(file, environment, options, wanted).settings(wanted)


def needed(*, for_webhook: bool) -> Sequence[SecretSetting]:
    """Return the secrets that the webhook needs, or a run."""
    return [STRIPE_KEY, OPENMETER_KEY, SHADOW_KEY, *([WEBHOOK_SECRET] if for_webhook else [])]


def read(
    file: Path | None, environment: Mapping[str, str], options: Values, wanted: Sequence[SecretSetting]
) -> Configuration:
    """Return what all sources say together, with some of the secrets. Whatever is wrong is in it."""
    problems = unknown_variables(environment)
    try:
        of_file = _of_file(file) if file else {}
    except ConfigurationError as error:  # what it would have said of keys and values is not known
        return Configuration(file, {}, [*error.details, *problems], {}, None)
    rows, of_rows = account_rows(of_file)
    variables = {path: name for name, path in ENVIRONMENT.items() if environment.get(name, "").strip()}
    # Whoever opens the ledger needs its password, which is nearly every command.
    wanted = list(dict.fromkeys((*wanted, LEDGER_PASSWORD)))
    sources = _Sources(file, {k: v for k, v in of_file.items() if k != "accounts"}, variables, environment, options)
    common = _configuration(sources, wanted)
    accounts = [_of_row(sources, row, wanted, common) for row in rows]
    of_rows += named_twice(
        (one.account, written_to.stripe.api_key, written_to.stripe.account)
        for one in accounts
        if (written_to := one.in_effect)
    )
    connected = None
    if common.read and common.read.connect.all:
        connected = partial(_connected, sources, wanted, common)
    problems = [*problems, *of_rows, *common.problems]
    return replace(common, problems=problems, accounts=accounts, connected=connected)


def _connected(
    sources: "_Sources", wanted: Sequence[SecretSetting], common: Configuration, account: str
) -> Configuration:
    """Return what there is for an account that is connected to the platform, and that no row names."""
    return _of_row(sources, AccountRow(account, {"stripe": {"account": account}}), wanted, common)


@dataclass(frozen=True, slots=True)
class _Sources:
    """What settings come from, for one account or for all."""

    file: Path | None
    of_file: Values
    variables: Mapping[str, str]
    """The environment variable of each setting that has its value from one."""
    environment: Mapping[str, str]
    options: Values
    row: AccountRow | None = None
    """That of the account that they are for."""

    def of_account(self, row: AccountRow) -> "_Sources":
        """Return what there is for an account: what is its own comes before the environment and what is common.

        A variable such as STRIPE_API_KEY is one for all accounts, and must not take the place of a key of an account's
        own, which its row names, or systemd hands over under its name.
        """
        own = replace(self, of_file=row.over(self.of_file), row=row)
        handed_over = {one.path for one in SECRETS if own.own_credential(one)}
        variables = {
            path: name
            for path, name in self.variables.items()
            if not row.has(path) and path.removesuffix("_file") not in handed_over
        }
        return replace(own, variables=variables)

    def credential(self, secret: SecretSetting) -> Path | None:
        """Return the credential of systemd's that has a secret: an account's own, or what all have in common."""
        has_its_own = self.row is not None and self.row.has(secret.path)
        common = None if has_its_own else _credential(secret.credential, self.environment)
        return self.own_credential(secret) or common

    def own_credential(self, secret: SecretSetting) -> Path | None:
        """Return that of the account alone, or None."""
        return _credential(f"{secret.credential}.{self.row.name}", self.environment) if self.row else None


def _of_row(
    sources: _Sources, row: AccountRow, wanted: Sequence[SecretSetting], common: Configuration
) -> Configuration:
    """Return what all sources say for an account, whose name is in all that is wrong."""
    own = sources.of_account(row)
    found = _configuration(own, wanted)
    problems = [*row.problems, *(said for said in found.problems if said not in common.problems)]
    settings = found.read.of_account(row.name) if found.read else None
    of_secrets = {path: _named(row, said) for path, said in found.of_secrets.items()}
    account = _section(own.of_file, "stripe").get("account")
    return replace(
        found,
        problems=_named(row, problems),
        of_secrets=of_secrets,
        read=settings,
        account=row.name,
        stripe_account=account if isinstance(account, str) else None,
        row=row,
    )


def _named(row: AccountRow, problems: Sequence[str]) -> list[str]:
    return [f"[[accounts]] {row.name}: {said}" for said in problems]


def _configuration(sources: _Sources, wanted: Sequence[SecretSetting]) -> Configuration:
    file, environment, options, problems = sources.file, sources.environment, sources.options, list[str]()
    of_file = sources.of_file
    notify_file = _credential(NOTIFY_FILE, environment)
    if notify_file and isinstance(of_file.get("monitor", {}), dict):
        of_file = _filled_up({"monitor": {"notify_file": notify_file}}, of_file)
    variables = sources.variables
    values = reduce(_filled_up, (options, _of_variables(variables, environment), of_file))
    secrets = {one.path: _secret(one, values, variables, sources.credential(one)) for one in wanted}
    # What is no section would be hidden by a variable of that section.
    problems += [
        f"{name}: must be a section, [{name}] ({file})"
        for name, value in of_file.items()
        if isinstance(values[name], Mapping) and not isinstance(value, Mapping)
    ]
    # The configuration file is read, copied and committed more freely than a secret may be.
    problems += [
        f"{one.path}: a {one.what.split()[-1]} does not belong into {file}; put it into a file of its own "
        f"and name that with {one.path}_file"
        for one in SECRETS
        if one.name in _section(of_file, one.section)
    ]
    if is_with_password(of_file.get("ledger")):
        problems.append(
            f"ledger: a password does not belong into {file}; put it into a file of its own and name that with "
            "ledger_password_file, or let PGPASSFILE name one"
        )
    # Else who takes [shadow] out of the file would go on writing to the sandbox by the units, and bill nobody.
    if "shadow" not in of_file and secrets.pop(SHADOW_KEY.path, _NO_SECRET).origin:
        problems.append(
            "a key for shadow mode is handed over (systemd's credential shadow_api_key), and the configuration has no "
            "[shadow]: make the schedule anew, with meter-sync schedule"
        )
    checked, monitor = None, _monitor(of_file)
    try:
        checked = Settings.model_validate(reduce(_filled_up, (values, *(one.values for one in secrets.values()))))
    except ValidationError as error:
        problems += [_in_words(dict(fault), variables, file) for fault in error.errors()]
    origins = origins_of(options, variables, of_file, file, environment)
    origins |= {path: one.origin for path, one in secrets.items() if one.origin}
    if notify_file:
        origins["monitor.notify_file"] = Origin("credentials", str(notify_file))
    of_secrets = {path: one.problems for path, one in secrets.items()}
    return Configuration(file, origins, problems, of_secrets, checked, monitor)


def _monitor(of_file: Values) -> MonitorSettings:
    """Return who is told how runs end, or nobody where what says so is wrong."""
    try:
        return MonitorSettings.model_validate(_section(of_file, "monitor"))
    except ValidationError:
        return MonitorSettings()


def _in_words(fault: Mapping[str, Any], variables: Mapping[str, str], file: Path | None) -> str:
    """Given a fault of validation, return it with the names that the operator wrote.

    `variables` has the environment variable of each setting that has its value from one.
    """
    path = ".".join(str(part) for part in fault["loc"])
    is_unknown = fault["type"] == "extra_forbidden"
    said = "is not a setting" if is_unknown else str(fault["msg"]).removeprefix("Value error, ")
    where = variables.get(path, path)
    source = "" if path in variables or file is None else f" ({file})"
    nearest = _nearest(fault["loc"]) if is_unknown else ""
    return f"{where}: {said}{source}{nearest}" if where else f"{said}{source}"


def _nearest(place: Sequence[str | int]) -> str:
    """Return a question that names what may have been meant: a setting beside it, or the same in another section."""
    section, name = str(place[0]) if len(place) > 1 else "", str(place[-1])
    elsewhere = [one for one in setting_names() if one.rpartition(".")[2] == name]
    return did_you_mean(name, names_beside(section)) or (f"; did you mean {elsewhere[0]}?" if elsewhere else "")


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
        raise wrong([f"{file} cannot be read: {why}"]) from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number or nesting that Python cannot hold
        raise wrong([f"{file} is not TOML: {error}"]) from error


@dataclass(frozen=True, slots=True)
class _Secret:
    values: Values
    """The secret where a file has it, as a section of settings."""
    problems: Sequence[str]
    origin: Origin | None = None
    """None where it is that of any other setting."""


_NO_SECRET = _Secret({}, ())


def _secret(one: SecretSetting, values: Values, variables: Mapping[str, str], credential: Path | None) -> _Secret:
    """Return a secret from the file that a variable names, from systemd's credentials, or from the TOML's file.

    The TOML is one for all who run a command, of whom a unit with credentials may read no such file.
    """
    section = _section(values, one.section)
    secret, origin, found = section.get(one.name, ""), None, dict[str, Any]()
    named = section.get(f"{one.name}_file")
    is_named = bool(named) and (credential is None or f"{one.path}_file" in variables)
    file = named if is_named else credential
    if not secret and isinstance(file, str | Path):
        origin = Origin("file" if is_named else "credentials", str(file))
        try:
            secret = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text, or its name is none"
            what = f"{one.section} {one.what}".strip()
            return _Secret({}, [f"the {what} file {file} cannot be read: {why}"], origin)
        found = {one.section: {one.name: secret}} if one.section else {one.name: secret}
    return _Secret(found, one.problems_of(str(secret).strip()), origin)


def _credential(name: str, environment: Mapping[str, str]) -> Path | None:
    folder = environment.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, name) if folder else None
    return path if path and path.exists() else None


def _section(values: Values, name: str) -> Values:
    section = values.get(name) if name else values
    return section if isinstance(section, Mapping) else {}


def _filled_up(first: Values, then: Values) -> dict[str, Any]:
    """Return the settings of both; where both have one, that of the first."""
    both = {
        name: _filled_up(value, then[name])
        for name, value in first.items()
        if isinstance(value, dict) and isinstance(then.get(name), dict)
    }
    return {**then, **first, **both}
