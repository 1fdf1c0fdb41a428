"""How the servers are reached: the settings of Stripe's and OpenMeter's sections, and what may stand in one."""

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo

from meter_sync.net.addresses import is_loopback

ACCOUNT_ID = r"^acct_[A-Za-z0-9]{1,60}$"
ORGANIZATION_KEY = "sk_org_"
"""So begin the keys of an organization, of either mode (Stripe documentation, Organization API keys)."""

SECRET = re.compile(r"[^\s,]+")
"""One of several secrets, between commas or white space."""


def address(url: str, info: ValidationInfo) -> str:
    """Admit the address of a server and nothing secret in it: addresses are named in messages and logs.

    A key would travel unencrypted by plain http, which is for this machine only, unless the section allows it.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # its message has a part of the address, which may be of a password
        is_address = False
    if not is_address or "?" in url or "#" in url:
        raise ValueError("must be an address such as https://example.com")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must have no user and no password in it: a key has its own setting")
    is_in_the_clear = parts.scheme == "http" and not is_loopback(parts.hostname or "")
    if is_in_the_clear and not info.data.get("allow_plain_http"):
        others = ", or, with openmeter.allow_plain_http = true, for a private network"
        also = others if "allow_plain_http" in info.data else ""
        raise ValueError(f"must begin with https: a key is sent there (http is for this machine only{also})")
    return url.rstrip("/")


def _without_space(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _separated(value: object) -> object:
    """Split `secret, other` into its parts, each once."""
    return tuple(dict.fromkeys(re.findall(SECRET, value))) if isinstance(value, str) else value


Secret = Annotated[SecretStr, BeforeValidator(_without_space)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_separated)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Settings that belong together: what it does not know is an error, and no value of it is ever shown in one."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class StripeSettings(Section):
    """How to reach Stripe, and how fast it may be asked."""

    api_key: Secret = Field(default=SecretStr(""), validate_default=False)
    api_key_file: Path | None = None
    setup_api_key: Secret = Field(default=SecretStr(""), validate_default=False)
    """What `setup` creates things with, and nothing else."""
    setup_api_key_file: Path | None = None
    api_base: Annotated[str, AfterValidator(address)] = "https://api.stripe.com"
    account: Annotated[str, Field(pattern=ACCOUNT_ID)] | None = None
    """The account that the key acts in, where that is not its own: connected to a platform, or of an organization."""
    key_mode: Literal["live", "sandbox"] | None = None
    """The mode of an organization's key, whose name does not tell it."""
    webhook_secret: Secrets = ()
    """What webhooks are signed with: several while one is rolled, or where there are several endpoints."""
    webhook_secret_file: Path | None = None
    rate: Rate | None = None
    endpoint_rate: Rate = 25.0
    meter_event_rate: Rate | None = None
    meter_event_stream: Literal["auto", "never"] = "auto"
    """Whether many events at once go through the stream, which live mode has."""

    @property
    def problem_of_key(self) -> str | None:
        """What the key needs that is not said, or None."""
        if self.is_of_organization and not (self.account and self.key_mode):
            return (
                "the Stripe key is an organization's: name the account in stripe.account, and say in stripe.key_mode "
                "whether it is live or sandbox, which its name does not tell"
            )
        if self.key_mode and not self.is_of_organization:
            return "stripe.key_mode is for an organization's key: the name of any other one tells its mode"
        return None

    @property
    def is_live(self) -> bool:
        """Whether the key is of the live mode, whose invoices are real."""
        return self.key_mode == "live" or "_live_" in self.api_key.get_secret_value()[:8]

    @property
    def is_of_organization(self) -> bool:
        """Whether the key is an organization's, which says with each request in which account it acts."""
        return self.api_key.get_secret_value().startswith(ORGANIZATION_KEY)

    @property
    def mode(self) -> Literal["live", "sandbox"]:
        """The mode of the key, by its name."""
        return "live" if self.is_live else "sandbox"

    @property
    def may_stream(self) -> bool:
        """Whether meter events may be sent by the hundred: Stripe's stream is for the live mode only.

        Whether a session of it may be one of another account than the key's is not documented.
        """
        return self.is_live and self.meter_event_stream == "auto" and self.account is None

    @property
    def setup_is_live(self) -> bool:
        """Whether the key for `setup` is of the live mode."""
        return "_live_" in self.setup_api_key.get_secret_value()[:8]

    @property
    def overall_rate(self) -> float:
        """Requests per second over all: Stripe's default for the key's mode unless configured."""
        return self.rate or (100.0 if self.is_live else 25.0)

    @property
    def event_rate(self) -> float:
        """Meter events per second: Stripe's default for the key's mode unless configured."""
        return self.meter_event_rate or (1000.0 if self.is_live else 25.0)


class ConnectSettings(Section):
    """Which accounts of a platform are worked on beside those that are named."""

    all: bool = False
    """Whether the platform's connected accounts are listed at each run."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """What those have in their metadata that are worked on; all where nothing is said."""


class OpenMeterSettings(Section):
    """How to reach OpenMeter."""

    allow_plain_http: bool = False
    """Whether the key may travel unencrypted, to a server of one's own in a private network.

    It stands before the address, which is checked by it. There is no such setting for Stripe.
    """
    url: Annotated[str, AfterValidator(address)] = "https://openmeter.cloud"
    api_key: Secret | None = None
    api_key_file: Path | None = None
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
