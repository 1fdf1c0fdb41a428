"""The configuration: environment, TOML file and secret files, every problem named at once."""

import os
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from meter_sync.core.billing.quantity import Rounding
from meter_sync.core.billing.way import Records
from meter_sync.core.metering.mapping import OPENMETER_CUSTOMER, Filter, MappingRules, MeterRow
from meter_sync.core.planning.brakes import Thresholds
from meter_sync.errors import ConfigurationError
from meter_sync.net.addresses import is_loopback

ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "STRIPE_API_KEY": ("stripe", "api_key"),
    "STRIPE_API_KEY_FILE": ("stripe", "api_key_file"),
    "STRIPE_API_BASE": ("stripe", "api_base"),
    "STRIPE_WEBHOOK_SECRET": ("stripe", "webhook_secret"),
    "STRIPE_WEBHOOK_SECRET_FILE": ("stripe", "webhook_secret_file"),
    "OPENMETER_URL": ("openmeter", "url"),
    "OPENMETER_API_KEY": ("openmeter", "api_key"),
    "OPENMETER_API_KEY_FILE": ("openmeter", "api_key_file"),
    "METER_SYNC_LEDGER": ("ledger",),
    "METER_SYNC_SCHEDULE": ("schedule",),
    "METER_SYNC_SUBJECT": ("mapping", "subject"),
    "METER_SYNC_METER_KEY": ("mapping", "meter_key"),
    "METER_SYNC_STRIPE_RATE": ("stripe", "rate"),
    "METER_SYNC_STRIPE_ENDPOINT_RATE": ("stripe", "endpoint_rate"),
    "METER_SYNC_STRIPE_METER_EVENT_RATE": ("stripe", "meter_event_rate"),
    "METER_SYNC_OPENMETER_CONCURRENCY": ("openmeter", "concurrency"),
    "METER_SYNC_RETRY_SECONDS": ("retry_seconds",),
}
"""The environment variables and the settings that they stand for."""

CONFIG_NAME = "meter-sync.toml"
STRIPE_API_BASE = "https://api.stripe.com"
LIVE_RATE = 100.0
SANDBOX_RATE = 25.0
LIVE_METER_EVENT_RATE = 1000.0
SANDBOX_METER_EVENT_RATE = 25.0

_SECRET = re.compile(r"[^\s,]+")
"""One of several secrets, between commas or white space."""

_SUBJECT_OWNERS = ("customer", "subscription", "item")


def _http_url(url: str) -> str:
    """Admit the address of a server and nothing secret in it: addresses are named in messages and logs."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # its message has a part of the address, which may be of a password
        is_address = False
    if not is_address or "?" in url or "#" in url:
        raise ValueError("must be an address such as https://example.com")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must have no user and no password in it: a key has its own setting")
    return url.rstrip("/")


def _is_in_the_clear(url: str) -> bool:
    """Say whether a key would travel unencrypted: plain http is for this machine only."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _stripe_url(url: str) -> str:
    url = _http_url(url)
    if _is_in_the_clear(url):
        raise ValueError("must begin with https: a key is sent there (http is for this machine only)")
    return url


def _openmeter_url(url: str, info: ValidationInfo) -> str:
    url = _http_url(url)
    if _is_in_the_clear(url) and not info.data.get("allow_plain_http"):
        raise ValueError(
            "must begin with https: a key is sent there (http is for this machine only, or, with "
            "openmeter.allow_plain_http = true, for a private network)"
        )
    return url


def _subject_source(value: str) -> str:
    owner, dot, key = value.partition(".metadata.")
    if value in ("customer.id", OPENMETER_CUSTOMER) or (owner in _SUBJECT_OWNERS and dot and key):
        return value
    raise ValueError(
        "must be customer.id, customer.metadata.KEY, subscription.metadata.KEY, item.metadata.KEY or openmeter.customer"
    )


def _ledger_path(path: Path) -> Path:
    """Return the path with `~` replaced by the home folder."""
    if "\0" in str(path):
        raise ValueError("must be a path, and has a NUL in it")
    try:
        return path.expanduser()
    except RuntimeError as error:  # the folder of a user that there is not
        raise ValueError(str(error)) from error


def _without_space(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _separated(value: object) -> object:
    """Split `secret, other` into its parts, each once."""
    return tuple(dict.fromkeys(re.findall(_SECRET, value))) if isinstance(value, str) else value


def _canonical_filter(value: object) -> object:
    """Turn `{model = "gpt", region = ["eu", "us"]}` into sorted pairs, so that equal filters are equal."""
    if not isinstance(value, dict):
        return value
    pairs = ((name, (one,) if isinstance(one, str) else one) for name, one in value.items())
    try:
        canonical = tuple((name, tuple(sorted(set(values)))) for name, values in sorted(pairs))
    except TypeError:
        raise ValueError("must be a table of texts or lists of texts") from None
    if not all(values for _, values in canonical):
        raise ValueError("names a dimension without a value, which would admit nothing, or all")
    return canonical


Secret = Annotated[SecretStr, BeforeValidator(_without_space)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_separated)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class StripeSettings(_Section):
    """How to reach Stripe, and how fast it may be asked."""

    api_key: Secret = Field(default=SecretStr(""), validate_default=False)
    api_key_file: Path | None = None
    api_base: Annotated[str, AfterValidator(_stripe_url)] = STRIPE_API_BASE
    webhook_secret: Secrets = ()
    """What webhooks are signed with: several while one is rolled, or where there are several endpoints."""
    webhook_secret_file: Path | None = None
    rate: Rate | None = None
    endpoint_rate: Rate = 25.0
    meter_event_rate: Rate | None = None

    @property
    def is_live(self) -> bool:
        """Whether the key is of the live mode, whose invoices are real."""
        return "_live_" in self.api_key.get_secret_value()[:8]

    @property
    def overall_rate(self) -> float:
        """Requests per second over all: Stripe's default for the key's mode unless configured."""
        return self.rate or (LIVE_RATE if self.is_live else SANDBOX_RATE)

    @property
    def event_rate(self) -> float:
        """Meter events per second: Stripe's default for the key's mode unless configured."""
        return self.meter_event_rate or (LIVE_METER_EVENT_RATE if self.is_live else SANDBOX_METER_EVENT_RATE)


class OpenMeterSettings(_Section):
    """How to reach OpenMeter."""

    allow_plain_http: bool = False
    """Whether the key may travel unencrypted, to a server of one's own in a private network.

    It stands before the address, which is checked by it. There is no such setting for Stripe.
    """
    url: Annotated[str, AfterValidator(_openmeter_url)] = "https://openmeter.cloud"
    api_key: Secret | None = None
    api_key_file: Path | None = None
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4


class MappingSettings(_Section):
    """How items find their meter and their subjects."""

    subject: Annotated[str, AfterValidator(_subject_source)] = "customer.id"
    meter_key: Text = "om_meter_id"


Percent = Annotated[Decimal, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]


class BrakeSettings(_Section):
    """From where on a change is implausible."""

    decrease_percent: Percent = Thresholds.decrease_percent
    decrease_units: Count = Thresholds.decrease_units
    jump_factor: Annotated[Decimal, Field(ge=1, allow_inf_nan=False)] = Thresholds.jump_factor
    jump_units: Count = Thresholds.jump_units
    all_zero_percent: Percent = Thresholds.all_zero_percent
    all_zero_items: Annotated[int, Field(ge=1)] = Thresholds.all_zero_items
    held_percent: Percent = Thresholds.held_percent
    held_items: Annotated[int, Field(ge=1)] = Thresholds.held_items


class MeterSettings(_Section):
    """A `[[meters]]` row."""

    price: Text | None = None
    lookup_key: Text | None = None
    product: Text | None = None
    stripe_meter: Text | None = None
    openmeter: Text | None = None
    filter: Annotated[Filter, BeforeValidator(_canonical_filter)] = ()
    scale: Annotated[Decimal, Field(ge=Decimal("1e-18"), le=Decimal("1e18"), allow_inf_nan=False)] = Decimal(1)
    rounding: Rounding = Rounding.FLOOR
    records: Records = Records.PERIOD
    shared: bool = False
    ignore: bool = False
    report: bool = True

    @model_validator(mode="after")
    def _says_which_and_how(self) -> "MeterSettings":
        if len([name for name in self.selectors.values() if name]) != 1:
            raise ValueError("needs exactly one of price, lookup_key, product and stripe_meter")
        if bool(self.openmeter) == self.ignore:
            raise ValueError('needs either openmeter = "SLUG" or ignore = true')
        return self

    @property
    def selectors(self) -> dict[str, str | None]:
        """Which items the row is for."""
        return self.model_dump(include={"price", "lookup_key", "product", "stripe_meter"})

    def to_row(self) -> MeterRow:
        """Return the row as the core knows it."""
        return MeterRow(**{name: getattr(self, name) for name in type(self).model_fields})


class Settings(BaseSettings):
    """Everything that can be configured. Precedence: option, environment, TOML, default."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    stripe: StripeSettings = StripeSettings()
    openmeter: OpenMeterSettings = OpenMeterSettings()
    mapping: MappingSettings = MappingSettings()
    brakes: BrakeSettings = BrakeSettings()
    meters: tuple[MeterSettings, ...] = ()
    ledger: Annotated[Path, AfterValidator(_ledger_path)] = Field(
        default_factory=lambda: _state_folder() / "ledger.sqlite3"
    )
    schedule: Literal["hourly", "daily"] = "hourly"
    retry_seconds: Annotated[float, Field(ge=0, le=3600)] = 60.0
    resend_after_hours: Annotated[float, Field(ge=0, le=24 * 31)] = 24.0
    lookback_days: Annotated[int, Field(ge=1, le=366)] = 3

    @model_validator(mode="after")
    def _names_each_price_once(self) -> "Settings":
        seen: set[tuple[str, str]] = set()
        for row in self.meters:
            selector = next((name, value) for name, value in row.selectors.items() if value)
            if selector in seen:
                raise ValueError(f"two [[meters]] rows are for {selector[0]} = {selector[1]!r}")
            seen.add(selector)
        return self

    @property
    def mapping_rules(self) -> MappingRules:
        """How items find their meter and their subjects."""
        return MappingRules(
            meter_key=self.mapping.meter_key,
            subject=self.mapping.subject,
            rows=tuple(row.to_row() for row in self.meters),
        )

    @property
    def thresholds(self) -> Thresholds:
        """From where on a change is implausible."""
        return Thresholds(**self.brakes.model_dump())


class _Environment(PydanticBaseSettingsSource):
    """The environment variables of the table above; an empty one counts as unset."""

    def __init__(self, settings_cls: type[BaseSettings], environment: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._environment = environment

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Fields are not asked for one by one: the whole tree comes at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, path in ENVIRONMENT.items():
            value = self._environment.get(name, "").strip()
            if value:
                section = values.setdefault(path[0], {}) if len(path) > 1 else values
                section[path[-1]] = value
        return values


class _SecretFiles(_Environment):
    """The keys that lie in files: those that the settings so far name, else systemd's credentials.

    Being the last source, it only fills in a key that no other source has.
    """

    def __init__(self, settings_cls: type[BaseSettings], environment: Mapping[str, str], *, with_webhook: bool) -> None:
        super().__init__(settings_cls, environment)
        self._with_webhook = with_webhook
        self.problems: list[str] = []

    def __call__(self) -> dict[str, Any]:
        """Return the secrets, and note what is wrong with those that any source has."""
        stripe = self._checked("stripe", "api_key", _key_problems)
        if self._with_webhook:
            # Only then: whoever runs the rest needs no permission to read it.
            stripe |= self._checked("stripe", "webhook_secret", _webhook_secret_problems)
        return {"stripe": stripe, "openmeter": self._checked("openmeter", "api_key", _openmeter_key_problems)}

    def _checked(self, section: str, name: str, problems_of: Callable[[str], list[str]]) -> dict[str, str]:
        """Return what `_secret` does, and note what is wrong with the secret that any source has."""
        problems_before = len(self.problems)
        filled_in = self._secret(section, name)
        if len(self.problems) == problems_before:
            secret = filled_in.get(name) or self._so_far(section).get(name, "")
            self.problems += problems_of(str(secret).strip())
        return filled_in

    def _so_far(self, section: str) -> dict[str, Any]:
        settings = self.current_state.get(section)
        return settings if isinstance(settings, dict) else {}

    def _secret(self, section: str, name: str) -> dict[str, str]:
        settings = self._so_far(section)
        file = settings.get(f"{name}_file") or self._credential(f"{section}_{name}")
        if settings.get(name) or not isinstance(file, str | Path):
            return {}
        try:
            return {name: Path(file).read_text(encoding="utf-8").strip()}
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text, or its name is none"
            what = name.removeprefix("api_").replace("_", " ")
            self.problems.append(f"the {section} {what} file {file} cannot be read: {why}")
            return {}

    def _credential(self, name: str) -> Path | None:
        folder = self._environment.get("CREDENTIALS_DIRECTORY")
        path = Path(folder, name) if folder else None
        return path if path and path.exists() else None


def load(
    file: Path | None,
    environment: Mapping[str, str],
    options: Mapping[str, Any],
    *,
    for_webhook: bool = False,
) -> Settings:
    """Return the settings from the options, the environment, the TOML file and the defaults, in this order.

    `file` is the TOML file, if there is one; `options` has settings by field name; `for_webhook` requires the secret
    that webhooks are signed with.
    Raise ConfigurationError that names every problem at once.
    """
    secret_files = _SecretFiles(Settings, environment, with_webhook=for_webhook)
    toml = _toml_source(file)
    sources = (
        InitSettingsSource(Settings, dict(options)),
        _Environment(Settings, environment),
        *toml,
        secret_files,
    )

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return sources

    problems = [problem for source in toml for problem in _keys_in_toml(source)]
    try:
        settings = Loaded()
    except ValidationError as error:
        problems += [_in_words(dict(fault), environment, file) for fault in error.errors()]
    problems += secret_files.problems
    if problems:
        raise _wrong(problems)
    return settings


def _keys_in_toml(source: TomlConfigSettingsSource) -> list[str]:
    """Refuse keys in the configuration file, which is read, copied and committed more freely than a key may be."""
    return [
        f"{section}.{name}: a {what} does not belong into {source.toml_file_path}; put it into a file of its own and "
        f"name that with {section}.{name}_file"
        for section, name, what in (
            ("stripe", "api_key", "key"),
            ("openmeter", "api_key", "key"),
            ("stripe", "webhook_secret", "secret"),
        )
        if isinstance(source.toml_data.get(section), dict) and name in source.toml_data[section]
    ]


def _toml_source(file: Path | None) -> list[TomlConfigSettingsSource]:
    if file is None:
        return []
    try:
        with file.open("rb"):
            return [TomlConfigSettingsSource(Settings, file)]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise _wrong([f"{file} cannot be read: {why}"]) from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number or nesting that Python cannot hold
        raise _wrong([f"{file} is not TOML: {error}"]) from error


def _state_folder() -> Path:
    given = os.environ.get("STATE_DIRECTORY")
    return Path(given.split(":")[0]) if given else platformdirs.user_state_path("meter-sync")


def found_file() -> Path | None:
    """Return the first configuration file of the usual places, or None."""
    folders = (
        Path(),
        platformdirs.user_config_path("meter-sync"),
        platformdirs.site_config_path("meter-sync"),
    )
    # Also what cannot be read is found: a broken link must not silently mean the defaults.
    return next((folder / CONFIG_NAME for folder in folders if os.path.lexists(folder / CONFIG_NAME)), None)


def _key_problems(key: str) -> list[str]:
    """Say what is wrong with a Stripe key, without a character of it."""
    if not key:
        return ["no Stripe key: set STRIPE_API_KEY, STRIPE_API_KEY_FILE or stripe.api_key_file"]
    if key.startswith("pk_"):
        return ["STRIPE_API_KEY is a publishable key (pk_…): take a restricted key (rk_…) or a secret one"]
    is_one_word = key.isascii() and key.isprintable() and " " not in key
    if not key.startswith(("sk_test_", "sk_live_", "rk_test_", "rk_live_")) or not is_one_word:
        return ["STRIPE_API_KEY is no Stripe key: it begins with rk_live_, rk_test_, sk_live_ or sk_test_"]
    return []


def _openmeter_key_problems(key: str) -> list[str]:
    """Say what is wrong with an OpenMeter key, without a character of it: what no header of HTTP can have."""
    if key.isascii() and key.isprintable() and " " not in key:
        return []
    return ["OPENMETER_API_KEY is no key: it has spaces, line breaks or characters that are not ASCII"]


def _webhook_secret_problems(secrets: str) -> list[str]:
    """Say what is wrong with the webhook secrets, without a character of them."""
    separate = re.findall(_SECRET, secrets)
    if not separate:
        return [
            "no webhook secret: set STRIPE_WEBHOOK_SECRET, STRIPE_WEBHOOK_SECRET_FILE or stripe.webhook_secret_file to "
            "the signing secret of the endpoint in Stripe"
        ]
    if not all(secret.startswith("whsec_") for secret in separate):
        return ["STRIPE_WEBHOOK_SECRET is no signing secret of a webhook: it begins with whsec_"]
    return []


def _in_words(fault: Mapping[str, Any], environment: Mapping[str, str], file: Path | None) -> str:
    """Given a fault of validation, return it with the names that the operator wrote."""
    place = tuple(str(part) for part in fault["loc"])
    said = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        said = "is not a setting"
    variables = [name for name, path in ENVIRONMENT.items() if path == place and environment.get(name)]
    where = variables[0] if variables else ".".join(place)
    source = "" if variables or file is None else f" ({file})"
    return f"{where}: {said}{source}" if where else f"{said}{source}"


def _wrong(problems: list[str]) -> ConfigurationError:
    return ConfigurationError(
        "the configuration is wrong, nothing was read or written",
        "correct what is named; the README lists every setting",
        details=problems,
    )
