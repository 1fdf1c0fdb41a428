"""What a schedule is made for: the program, and the configuration in effect, without a secret."""

import os
import shutil
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meter_sync.cli.schedule.jobs import CLOSING, STATEMENT, VERIFY, Job, copyings, full_run
from meter_sync.config import (
    DEFAULT,
    ENVIRONMENT,
    LEDGER_PASSWORD,
    NOTIFY_FILE,
    OPENMETER_KEY,
    SECRETS,
    STRIPE_KEY,
    WEBHOOK_SECRET,
    Configuration,
    SecretSetting,
    Settings,
    absolute,
    needed,
)
from meter_sync.core.schedule import Schedule
from meter_sync.errors import ConfigurationError
from meter_sync.net.postgres_url import PostgresUrl

KEYS_FOLDER = Path("/etc/meter-sync")
"""Where the files of secrets usually are."""

_OF_THE_NETWORK = (
    *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""What is no setting, and without which the servers may not be reached."""

FILES_OF_DATABASE = (
    *("PGPASSFILE", "PGSERVICEFILE", "PGSYSCONFDIR"),
    *("PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "PGSSLCRLDIR"),
)
_OF_DATABASE = (
    *("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE", "PGOPTIONS", "PGTARGETSESSIONATTRS"),
    *("PGSSLMODE", "PGSSLNEGOTIATION", "PGSSLMINPROTOCOLVERSION", "PGREQUIREAUTH", "PGCHANNELBINDING"),
    *("PGGSSENCMODE", "PGKRBSRVNAME"),
)
"""By what libpq finds a database, beside its address (PostgreSQL documentation, "Environment Variables").

A password is none of them: PGPASSWORD has it itself, and would stand in files that others can read.
"""

_OF_ACCOUNTS = (STRIPE_KEY, OPENMETER_KEY)
"""The keys that several accounts may share, or each have of its own."""
_WATCHED_AND_A_DAY = 2
"""So much after the days that late usage is watched for, counted from the first of a month, all of it is concluded."""
_IN_EVERY_MONTH = 28
_OF_THE_WEBHOOK = ("METER_SYNC_WEBHOOK_HOST", "METER_SYNC_WEBHOOK_PORT")


@dataclass(frozen=True, slots=True)
class SecretFile:
    """The file of a secret, as the scheduled commands find it."""

    name: str
    """That of systemd's credential, such as `stripe_api_key`, or `stripe_api_key.eu` for an account's own."""
    variable: str
    """The variable that names the file; empty where only the configuration file, or systemd, can."""
    file: Path
    is_in_toml: bool = False
    """Whether the configuration file names it."""
    is_to_be_made: bool = False
    """Whether the secret is not there yet."""

    @property
    def what(self) -> str:
        """What it has in it, by the name that it has elsewhere."""
        return self.variable.removesuffix("_FILE") or self.name


@dataclass(frozen=True, slots=True)
class Installation:
    """What the scheduled commands are started with, so that they see what is in effect now."""

    program: Path
    config: Path | None
    """The configuration file, if there is one."""
    ledger: Path | PostgresUrl | None
    """None for the default of whoever starts a command."""
    schedule: Schedule
    variables: Mapping[str, str]
    """Settings that come from the environment, and the ledger where the configuration file does not name it."""
    keys: Sequence[SecretFile]
    """What a run needs."""
    webhook_secrets: Sequence[SecretFile] = ()
    """What the webhook needs beside; nothing where none are received."""
    webhook_variables: Mapping[str, str] | None = None
    written: Sequence[Path] = ()
    """The folders, beside that of the ledger, in which a run writes."""
    shadows: Sequence[str] = ()
    """The accounts whose runs work in a shadow, whose copies are to be kept like their originals, by their names."""
    config_is_secret: bool = False
    """Whether the configuration file has something in it that only the program may know."""
    config_is_private: bool = False
    """Whether only its owner can read it."""
    left_out: Sequence[str] = ()
    """The variables that may have a password in them, which none of these files may."""
    accounts: Sequence[str] | None = None
    """The names of several accounts, as far as the configuration file has them; None where there is only one."""
    left_to_hand: Sequence[str] = ()
    """What else is to be done by hand, in sentences."""
    workers: int = 0
    """How many workers carry out the runs; where there are none, the jobs do."""
    statements: Path | None = None
    """The folder in which statements are kept, where one is configured…"""
    day_of_statement: int = 1
    """… and the day of the month on which that of the month before is made: then all of it is concluded."""

    @property
    def ledger_file(self) -> Path | None:
        """The file of the ledger, where it is one, and is named."""
        return self.ledger if isinstance(self.ledger, Path) else None

    @property
    def is_on_server(self) -> bool:
        """Whether the ledger is a database of a server."""
        return isinstance(self.ledger, PostgresUrl)

    @property
    def jobs(self) -> Sequence[Job]:
        """What comes by the schedule in any case, in the order in which one meets it."""
        runs = [] if self.workers else [full_run(self.schedule), CLOSING]
        return [*copyings(self.shadows), *runs, VERIFY, *self.of_statements]

    @property
    def of_statements(self) -> Sequence[Job]:
        """The job that makes statements, where they have a folder."""
        return [] if self.statements is None else [STATEMENT]

    @property
    def webhook_arguments(self) -> tuple[str, ...]:
        """What follows the global options of the webhook: where there are workers it leaves the reporting to them."""
        return ("webhook", "--enqueue") if self.workers else ("webhook",)

    @property
    def minute(self) -> int:
        """A minute of its own: at the full hour everybody asks Stripe. It stays while the configuration does."""
        return 1 + zlib.crc32(repr([str(self.ledger), *self.variables.items()]).encode()) % 59

    @property
    def secrets(self) -> Sequence[SecretFile]:
        """All files of secrets."""
        return [*self.keys, *self.webhook_secrets]

    @property
    def notes_of_variables(self) -> list[str]:
        """Which variables are still to be added by hand, in sentences."""
        return [f"{name} is left out, since it may have a password in it: add it by hand." for name in self.left_out]

    @property
    def notes(self) -> list[str]:
        """What is still to be done by hand on this machine, in sentences."""
        missing = [one for one in self.secrets if one.is_to_be_made]
        put = [f"{one.file} is not there yet: put into it what {one.what} is to be, mode 0600." for one in missing]
        return [*put, *self.notes_of_variables, *self.left_to_hand]


def installation(
    configuration: Configuration, settings: Settings, environment: Mapping[str, str], workers: int = 0
) -> Installation:
    """Return what the scheduled commands are to be started with, given the configuration in effect.

    `settings` are those of the only account, or what several have in common; `workers` carry out the runs, if any.

    Raise ConfigurationError where a value cannot stand in the files of a schedule.
    """
    origins = configuration.origins
    place = settings.ledger
    ledger = None if origins["ledger"] == DEFAULT else absolute(place) if isinstance(place, Path) else place
    is_found_there = origins["ledger"].kind == "file" and (not isinstance(place, Path) or place.is_absolute())
    of_network = {name: environment[name] for name in _OF_THE_NETWORK if environment.get(name)}
    left_out = [name for name, value in of_network.items() if "@" in value]
    variables = dict(_variables(configuration, environment))
    if ledger and not is_found_there:
        variables["METER_SYNC_LEDGER"] = str(ledger)
    variables |= {name: value for name, value in of_network.items() if name not in left_out}
    if isinstance(ledger, PostgresUrl):
        variables |= dict(_of_database(environment))
    found = Installation(
        program=_program(sys.argv[0]),
        config=configuration.file,
        ledger=ledger,
        schedule=settings.schedule,
        variables=variables,
        keys=_keys(configuration, settings),
        webhook_secrets=_secret_files([WEBHOOK_SECRET], configuration, settings),
        webhook_variables={name: environment[name] for name in _OF_THE_WEBHOOK if environment.get(name)},
        written=_written(settings),
        shadows=[one.account for one in configuration.accounts or [configuration] if one.read and one.read.is_shadow],
        config_is_private=_is_private(configuration.file),
        config_is_secret=settings.monitor.ping_url is not None,
        left_out=left_out,
        accounts=[one.account for one in configuration.accounts] if configuration.is_of_several else None,
        left_to_hand=list(_of_password(configuration, settings, environment)),
        workers=workers,
        statements=absolute(settings.statement.folder) if settings.statement.folder else None,
        day_of_statement=min(settings.lookback_days + _WATCHED_AND_A_DAY, _IN_EVERY_MONTH),
    )
    _refuse_line_breaks(found)
    return found


def _is_private(file: Path | None) -> bool:
    try:
        return file is not None and not file.stat().st_mode & stat.S_IROTH
    except OSError:
        return False


def _program(started: str) -> Path:
    """Return the program that was started, or where that was a module, the one beside its interpreter."""
    beside = Path(sys.executable).with_name("meter-sync")
    found = shutil.which(started) if Path(started).name != "__main__.py" else None
    return absolute(Path(found) if found else beside)


def _variables(configuration: Configuration, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the variables that stand for settings, but for the ledger and what is secret or names a secret's file."""
    apart = {"ledger", *(name for one in SECRETS for name in (one.path, f"{one.path}_file"))}
    for name, origin in configuration.origins.items():
        if origin.kind == "environment" and origin.name and name not in apart:
            yield origin.name, environment[origin.name].strip()


def _of_database(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the variables by which the ledger's database is found, files by their whole paths."""
    for name in (*FILES_OF_DATABASE, *_OF_DATABASE):
        value = environment.get(name, "")
        is_file = name in FILES_OF_DATABASE and value != "system"  # which is no file: PGSSLROOTCERT may say so
        if value:
            yield name, str(absolute(Path(value))) if is_file else value


def _of_password(configuration: Configuration, settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what is to be done for the password of the ledger's database, where a variable has it, or names its file.

    libpq reads no file of passwords that others than its owner may read.
    """
    if not isinstance(settings.ledger, PostgresUrl) or configuration.is_configured(LEDGER_PASSWORD):
        return
    instead = "put the password into a file, name that with ledger_password_file, and make this anew"
    if environment.get("PGPASSWORD"):
        yield f"PGPASSWORD is left out, since it is a password, and others may read this: {instead}."
    if environment.get("PGPASSFILE"):
        file = absolute(Path(environment["PGPASSFILE"]))
        yield f"{file} (PGPASSFILE) is read only where whoever runs this owns it, mode 0600: see to that, or {instead}."


def _keys(configuration: Configuration, settings: Settings) -> list[SecretFile]:
    """Return the files of what a run needs: Stripe's key in any case, and others where they are configured."""
    found = _secret_files([*needed(for_webhook=False), LEDGER_PASSWORD], configuration, settings)
    notify = settings.monitor.notify_file
    if notify is not None:
        file = absolute(notify)
        found.append(SecretFile(NOTIFY_FILE, "", file, is_in_toml=True, is_to_be_made=not os.path.lexists(file)))
    return found


def _secret_files(
    wanted: Sequence[SecretSetting], configuration: Configuration, settings: Settings
) -> list[SecretFile]:
    """Return the files of what is wanted: of the only account, or what several have in common and each of its own."""
    common = [one for one in wanted if _is_common(one, configuration)]
    return [
        *(_secret_file(one, configuration, settings) for one in common),
        *(_secret_file(one, account, own) for account, own, one in _of_each_account(wanted, configuration, common)),
    ]


def _is_common(secret: SecretSetting, configuration: Configuration) -> bool:
    """Say whether the only account needs a secret, or one of several that has none of its own."""
    is_configured = configuration.is_configured(secret)
    if not configuration.is_of_several or secret not in _OF_ACCOUNTS:
        return is_configured or secret == STRIPE_KEY
    sharing = [one for one in configuration.accounts if not one.has_its_own(secret)]
    of_platform = any(one.read and one.read.stripe.account for one in sharing) or configuration.connected is not None
    if secret == STRIPE_KEY and of_platform:
        return True
    return is_configured and (bool(sharing) or configuration.connected is not None)


def _of_each_account(
    wanted: Sequence[SecretSetting], configuration: Configuration, common: Sequence[SecretSetting]
) -> Iterator[tuple[Configuration, Settings, SecretSetting]]:
    """Yield what each of several accounts has of its own: Stripe's key in any case where none is in common."""
    for account in configuration.accounts:
        for one in wanted:
            is_own = account.has_its_own(one) and (account.is_configured(one) or one == STRIPE_KEY)
            if account.read and (is_own or (one == STRIPE_KEY and one not in common)):
                yield account, account.read, one


def _secret_file(one: SecretSetting, configuration: Configuration, settings: Settings) -> SecretFile:
    """Return the file of a secret: the one that is named, or, where the environment alone has it, its usual place.

    That of an account is handed over by its name, which no variable has.
    """
    row = configuration.row
    name = f"{one.credential}.{row.name}" if row else one.credential
    named: Path | None = getattr(getattr(settings, one.section) if one.section else settings, f"{one.name}_file")
    if row and not row.has(one.path):
        named = None  # that is what all have in common
    file = absolute(named) if named else KEYS_FOLDER / name
    is_in_toml = named == file and configuration.origins[f"{one.path}_file"].kind == "file"
    variable = next((variable for variable, path in ENVIRONMENT.items() if path == f"{one.path}_file"), "")
    return SecretFile(name, "" if row else variable, file, is_in_toml, is_to_be_made=not os.path.lexists(file))


def _written(settings: Settings) -> list[Path]:
    """Return the folders in which a run writes beside its books: of what a setting lets it write, the one place."""
    textfile, statements = settings.monitor.textfile, settings.statement.folder
    folders = [textfile and absolute(textfile).parent, statements and absolute(statements)]
    return [one for one in folders if one]


def _refuse_line_breaks(found: Installation) -> None:
    """Raise ConfigurationError where a value has a character that would begin another line in a schedule's file."""
    values = {
        "the path of meter-sync": str(found.program),
        "--config": str(found.config or ""),
        "ledger": str(found.ledger or ""),
        "statement.folder": str(found.statements or ""),
        **found.variables,
        **(found.webhook_variables or {}),
        **{one.variable or one.name: str(one.file) for one in found.secrets},
    }
    wrong = [
        f"{name} has a character that cannot be printed" for name, value in values.items() if not value.isprintable()
    ]
    if wrong:
        raise ConfigurationError("this configuration cannot be scheduled, nothing was written", details=wrong)
