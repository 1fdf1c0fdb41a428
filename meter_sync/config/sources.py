"""Where settings come from: options, environment, TOML file and secret files, in this order."""

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from meter_sync.config.accounts import AccountRow, account_rows, named_twice
from meter_sync.config.origins import DEFAULT, Origin, Values, names_beside, origins_of, setting_names
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


@dataclass(frozen=True, slots=True)
class Configuration:
    """What all sources say together."""

    file: Path | None
    origins: Mapping[str, Origin]
    """Where each setting comes from, by its full name."""
    problems: Sequence[str]
    """What is wrong with the settings that are no secrets…"""
    of_secrets: Mapping[str, Sequence[str]]
    """… and with each secret, by its full name."""
    read: Settings | None
    """The settings as far as they could be read; None where they could not."""
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    """Who is told how runs end, also where other settings are wrong; nobody where these are."""
    account: str = ""
    """The name of the account that this is for; empty for the only one, and for what several have in common."""
    stripe_account: str | None = None
    """The id in Stripe that its row names, also where other settings are wrong."""
    accounts: "Sequence[Configuration]" = ()
    """What there is for each of several accounts that the file names."""
    connected: "Callable[[str], Configuration] | None" = None
    """Where connected accounts are worked on that it does not name: returns what there is for one, by its id."""
    row: AccountRow | None = None
    """What the file says of the account alone; None for the only one, and for what several have in common."""

    @property
    def is_of_several(self) -> bool:
        """Whether this is what several accounts have in common."""
        return bool(self.accounts) or self.connected is not None

    def settings(self, needed: Sequence[SecretSetting]) -> Settings:
        """Return the settings in effect, for something that needs some secrets: in shadow mode, those of the shadow.

        Raise ConfigurationError that names every problem at once.
        """
        return _in_effect(self.of_the_account(needed))

    @property
    def in_effect(self) -> Settings | None:
        """What `settings` returns as far as it could be read, whatever is wrong with secrets."""
        return _in_effect(self.read) if self.read else None

    def of_the_account(self, needed: Sequence[SecretSetting]) -> Settings:
        """Return the settings of the account itself, also in shadow mode; it raises what `settings` does."""
        problems = [
            *self.problems,
            *(said for one in (*needed, LEDGER_PASSWORD) for said in self.of_secrets.get(one.path, ())),
        ]
        if STRIPE_KEY in needed and self.read and self.read.stripe.problem_of_key:
            problems.append(self.read.stripe.problem_of_key)
        if not problems and self.read and self.read.is_shadow and SHADOW_KEY in needed and not self.read.has_shadow_key:
            problems = ["[shadow] names a file for its key, and that is empty"]
        if problems or self.read is None:
            raise _wrong(problems)
        return self.read

    def with_connected(self, accounts: Sequence[str]) -> "Configuration":
        """Return this with what there is for connected accounts, by their ids, that no row names."""
        if self.connected is None:
            return self
        named = {one.stripe_account for one in self.accounts}
        others = [self.connected(account) for account in accounts if account not in named]
        return replace(self, accounts=[*self.accounts, *others])

    def check(self, needed: Sequence[SecretSetting]) -> Settings:
        """Return the settings of the only account, or what several have in common, for something that needs secrets.

        Raise ConfigurationError that names every problem of every account at once.
        """
        if not self.accounts:
            return self.settings(needed)
        problems = [*self.problems, *self.of_secrets.get(LEDGER_PASSWORD.path, ())]
        for one in self.accounts:
            problems += [*one.problems, *(said for each in needed for said in one.of_secrets.get(each.path, ()))]
        if problems:
            raise _wrong(problems)
        return self.of_the_account(())

    def has_its_own(self, secret: SecretSetting) -> bool:
        """Say whether one of several accounts has a secret of its own, or none, whatever all have in common."""
        if self.row is None:
            return False
        origin = self.origins.get(secret.path, DEFAULT)
        credential = f"{secret.credential}.{self.row.name}"
        is_handed_over = origin.kind == "credentials" and Path(origin.name or "").name == credential
        return is_handed_over or self.row.has(secret.path)

    def is_configured(self, secret: SecretSetting) -> bool:
        """Say whether any source has a secret, or names where it is."""
        return self.origins.get(secret.path, DEFAULT) is not DEFAULT

    def is_there(self, secret: SecretSetting) -> bool:
        """Say whether a secret is configured, and not in a file that is still to be made."""
        origin = self.origins.get(secret.path, DEFAULT)
        is_to_come = origin.kind == "file" and origin.name is not None and not os.path.lexists(origin.name)
        return origin is not DEFAULT and not is_to_come


def _in_effect(settings: Settings) -> Settings:
    return settings.of_shadow if settings.is_shadow else settings


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
        (one.account, one.read.stripe.api_key, one.read.stripe.account) for one in accounts if one.read
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

    def credential(self, secret: SecretSetting) -> Path | None:
        """Return the credential of systemd's that has a secret: an account's own, or what all have in common."""
        if self.row is None:
            return _credential(secret.credential, self.environment)
        own = _credential(f"{secret.credential}.{self.row.name}", self.environment)
        return own or (None if self.row.has(secret.path) else _credential(secret.credential, self.environment))


def _of_row(
    sources: _Sources, row: AccountRow, wanted: Sequence[SecretSetting], common: Configuration
) -> Configuration:
    """Return what all sources say for an account: its row comes before the environment and what is common.

    A variable such as STRIPE_API_KEY is one for all accounts, and must not take the place of a key of an account's own.
    """
    own = replace(
        sources,
        of_file=row.over(sources.of_file),
        variables={path: name for path, name in sources.variables.items() if not row.has(path)},
        row=row,
    )
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
        raise _wrong([f"{file} cannot be read: {why}"]) from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number or nesting that Python cannot hold
        raise _wrong([f"{file} is not TOML: {error}"]) from error


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
