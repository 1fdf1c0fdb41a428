"""Every setting: its section, its default, and what it may be."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from meter_sync.config.ledgers import place_of, shadow_of, usual_ledgers
from meter_sync.config.places import expanded
from meter_sync.config.servers import ConnectSettings, OpenMeterSettings, Secret, Section, StripeSettings, Text, address
from meter_sync.core.billing.quantity import Rounding
from meter_sync.core.billing.way import Records
from meter_sync.core.metering.mapping import COPY_OF, OPENMETER_CUSTOMER, Filter, LateUsage, MappingRules, MeterRow
from meter_sync.core.planning.brakes import Thresholds
from meter_sync.core.schedule import Schedule
from meter_sync.core.scope import Scope
from meter_sync.core.telling.history import KEPT_DAYS
from meter_sync.net.addresses import is_loopback
from meter_sync.net.postgres_url import PostgresUrl


def _ping_address(url: SecretStr) -> SecretStr:
    """Admit the address of a check, whose path or query is what makes it one: whoever has it can ping."""
    try:
        parts = urlsplit(url.get_secret_value())
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # its message has a part of the address
        is_address = False
    if not is_address or parts.fragment or not url.get_secret_value().isprintable() or " " in url.get_secret_value():
        raise ValueError("must be an address such as https://hc-ping.com/ and the id of the check")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must have no user and no password in it")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https: whoever sees it can ping in its place (http is for this machine only)")
    return url


def _is_collected(path: Path) -> Path:
    if path.suffix != ".prom":
        raise ValueError("must end with .prom: node_exporter reads no other file")
    return path


def _subject_source(value: str) -> str:
    owner, dot, key = value.partition(".metadata.")
    if value in ("customer.id", OPENMETER_CUSTOMER) or (owner in ("customer", "subscription", "item") and dot and key):
        return value
    raise ValueError(
        "must be customer.id, customer.metadata.KEY, subscription.metadata.KEY, item.metadata.KEY or openmeter.customer"
    )


def _days_of_history(days: int) -> int:
    """Admit so many days as `history --prune` does, or 0 for no end."""
    if days != 0 and days < KEPT_DAYS:
        raise ValueError(f"must be at least {KEPT_DAYS}, or 0 to keep what is over for ever")
    return days


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


class MappingSettings(Section):
    """How items find their meter and their subjects."""

    subject: Annotated[str, AfterValidator(_subject_source)] = "customer.id"
    meter_key: Text = "om_meter_id"


Percent = Annotated[Decimal, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]


class BrakeSettings(Section):
    """From where on a change is implausible."""

    decrease_percent: Percent = Thresholds.decrease_percent
    decrease_units: Count = Thresholds.decrease_units
    jump_factor: Annotated[Decimal, Field(ge=1, allow_inf_nan=False)] = Thresholds.jump_factor
    jump_units: Count = Thresholds.jump_units
    all_zero_percent: Percent = Thresholds.all_zero_percent
    all_zero_items: Annotated[int, Field(ge=1)] = Thresholds.all_zero_items
    held_percent: Percent = Thresholds.held_percent
    held_items: Annotated[int, Field(ge=1)] = Thresholds.held_items


class MeterSettings(Section):
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
    late_usage: LateUsage | None = None
    """That of all rows where it says nothing."""
    shared: bool = False
    owner: bool = False
    ignore: bool = False
    report: bool = True

    @model_validator(mode="after")
    def _says_which_and_how(self) -> "MeterSettings":
        if len(self.selectors) != 1:
            raise ValueError("needs exactly one of price, lookup_key, product and stripe_meter")
        if bool(self.openmeter) == self.ignore:
            raise ValueError('needs either openmeter = "SLUG" or ignore = true')
        return self

    @property
    def selectors(self) -> list[tuple[str, str]]:
        """What names the items that the row is for."""
        names = ("price", "lookup_key", "product", "stripe_meter")
        return [(name, value) for name in names if (value := getattr(self, name))]


class ShadowSettings(Section):
    """A sandbox of Stripe's in which all is tried that is otherwise written to the account."""

    api_key: Secret = Field(default=SecretStr(""), validate_default=False)
    api_key_file: Path | None = None
    api_base: Annotated[str, AfterValidator(address)] = "https://api.stripe.com"


class VerifySettings(Section):
    """What `verify` leaves out."""

    ignore_subjects: tuple[Text, ...] = ()


class MonitorSettings(Section):
    """Who is told how full runs end."""

    ping_url: Annotated[SecretStr, AfterValidator(_ping_address)] | None = None
    textfile: Annotated[Path, AfterValidator(expanded), AfterValidator(_is_collected)] | None = None
    notify_file: Annotated[Path, AfterValidator(expanded)] | None = None
    """Has Apprise's addresses, one a line, which are secrets."""


class WorkerSettings(Section):
    """How workers go by each other."""

    stalled_after_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """After so long without a word of a worker, another one takes what it was at."""


class StatementSettings(Section):
    """Where statements are kept."""

    folder: Annotated[Path, AfterValidator(expanded)] | None = None


class Settings(Section):
    """Everything that can be configured. Precedence: option, environment, TOML, default."""

    stripe: StripeSettings = StripeSettings()
    openmeter: OpenMeterSettings = OpenMeterSettings()
    mapping: MappingSettings = MappingSettings()
    brakes: BrakeSettings = BrakeSettings()
    verify: VerifySettings = VerifySettings()
    shadow: ShadowSettings = ShadowSettings()
    connect: ConnectSettings = ConnectSettings()
    monitor: MonitorSettings = MonitorSettings()
    worker: WorkerSettings = WorkerSettings()
    statement: StatementSettings = StatementSettings()
    meters: tuple[MeterSettings, ...] = ()
    ledger: Annotated[Path | PostgresUrl, BeforeValidator(place_of), PlainSerializer(str, when_used="json")] = Field(
        default_factory=lambda: usual_ledgers()[0], validate_default=True
    )
    ledger_password: SecretStr = SecretStr("")
    ledger_password_file: Annotated[Path, AfterValidator(expanded)] | None = None
    accounts_at_once: Annotated[int, Field(ge=1, le=64)] = 4
    """How many accounts one command works on at once, where there are several."""
    schedule: Schedule = Schedule.HOURLY
    retry_seconds: Annotated[float, Field(ge=0, le=3600)] = 60.0
    resend_after_hours: Annotated[float, Field(ge=0, le=24 * 31)] = 24.0
    lookback_days: Annotated[int, Field(ge=1, le=366)] = 3
    history_days: Annotated[int, Field(le=36500), AfterValidator(_days_of_history)] = 400
    voided_invoices: Literal["name", "forgive"] = "name"
    late_usage: LateUsage = LateUsage.NAME
    _account: str = PrivateAttr(default="")
    _is_of_shadow: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _names_each_price_once(self) -> "Settings":
        seen: set[tuple[str, str]] = set()
        for row in self.meters:
            (selector,) = row.selectors
            if selector in seen:
                raise ValueError(f"two [[meters]] rows are for {selector[0]} = {selector[1]!r}")
            seen.add(selector)
        return self

    @model_validator(mode="after")
    def _has_a_shadow_with_a_key(self) -> "Settings":
        if "shadow" in self.model_fields_set and not self.is_shadow:
            raise ValueError("[shadow] has no api_key_file: without one, runs would write to the account itself")
        key = self.shadow.api_key.get_secret_value()
        if key and key == self.stripe.api_key.get_secret_value():
            raise ValueError("[shadow] has the key of the account itself: take that of a sandbox of its own")
        return self

    @model_validator(mode="after")
    def _knows_the_password_of_its_ledger(self) -> "Settings":
        password = self.ledger_password.get_secret_value()
        if password and not isinstance(self.ledger, PostgresUrl):
            raise ValueError("ledger_password_file is of a database on a server, and the ledger is a file")
        if password and isinstance(self.ledger, PostgresUrl):
            # Frozen settings are made here: nobody has them yet.
            object.__setattr__(self, "ledger", replace(self.ledger, password=password))
        return self

    @property
    def account(self) -> str:
        """The name of the account that these are for; empty for the only one."""
        return self._account

    @property
    def scope(self) -> Scope:
        """Whose books runs with these settings keep."""
        scope = Scope(self._account, self.stripe.mode)
        return scope.shadow if self._account and self._is_of_shadow else scope

    def of_account(self, name: str) -> "Settings":
        """Return these as those of an account of several."""
        named = self.model_copy()
        named._account = name
        return named

    @property
    def is_shadow(self) -> bool:
        """Whether runs work in a sandbox that has copies of what the account has."""
        return bool(self.shadow.api_key.get_secret_value() or self.shadow.api_key_file)

    @property
    def has_shadow_key(self) -> bool:
        """Whether its key was read."""
        return bool(self.shadow.api_key.get_secret_value())

    @property
    def of_shadow(self) -> "Settings":
        """These settings for what works in the shadow account: with its key, its pace, and books of its own.

        Those of the only account are in a ledger beside the usual one, those of an account of several in the one that
        all have, under a scope of their own. Copies have the ids of their originals in their metadata, so a subject
        that is the customer's id is found there.
        """
        apart = {"api_key": self.shadow.api_key, "api_base": self.shadow.api_base, "account": None, "key_mode": None}
        source = f"customer.metadata.{COPY_OF}" if self.mapping.subject == "customer.id" else self.mapping.subject
        changed = {
            "stripe": self.stripe.model_copy(update={**apart, "rate": None, "meter_event_rate": None}),
            "mapping": self.mapping.model_copy(update={"subject": source}),
            "ledger": self.ledger if self._account else shadow_of(self.ledger),
        }
        of_shadow = self.model_copy(update=changed)
        of_shadow._is_of_shadow = True
        return of_shadow

    @property
    def mapping_rules(self) -> MappingRules:
        """How items find their meter and their subjects."""
        return MappingRules(
            meter_key=self.mapping.meter_key,
            subject=self.mapping.subject,
            rows=tuple(
                MeterRow(**{**dict(row), "late_usage": row.late_usage or self.late_usage}) for row in self.meters
            ),
            late_usage=self.late_usage,
            are_for_originals=self.is_shadow,
        )

    @property
    def thresholds(self) -> Thresholds:
        """From where on a change is implausible."""
        return Thresholds(**dict(self.brakes))
