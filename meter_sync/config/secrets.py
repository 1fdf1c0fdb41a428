"""The settings that are secrets: what each must look like, and nothing secret in what is said of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from meter_sync.config.servers import ORGANIZATION_KEY, SECRET

SETUP_KEY_VARIABLE = "STRIPE_SETUP_API_KEY"


@dataclass(frozen=True, slots=True)
class SecretSetting:
    """A setting that is a secret: it may lie in a file of its own, and never in the configuration file."""

    section: str
    """Empty for one that stands in none."""
    name: str
    what: str
    problems_of: Callable[[str], list[str]]
    """Given the secret, or nothing, says what is wrong with it, without a character of it."""

    @property
    def path(self) -> str:
        """Its full name, as of any setting."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def credential(self) -> str:
        """The name of the credential of systemd's that has it."""
        return f"{self.section}_{self.name}" if self.section else self.name


def _of_stripe_key(key: str) -> list[str]:
    if not key:
        return ["no Stripe key: set STRIPE_API_KEY, STRIPE_API_KEY_FILE or stripe.api_key_file"]
    return [] if key.startswith(ORGANIZATION_KEY) and _is_one_word(key) else _of_given_stripe_key(key, "STRIPE_API_KEY")


def _of_setup_key(key: str) -> list[str]:
    if not key:
        return [
            f"no Stripe key for setup, which is never that of the runs: set {SETUP_KEY_VARIABLE}, "
            f"{SETUP_KEY_VARIABLE}_FILE or stripe.setup_api_key_file to a restricted key that may write Products, "
            "Prices, Meters and Webhook Endpoints"
        ]
    return _of_given_stripe_key(key, SETUP_KEY_VARIABLE)


def _of_given_stripe_key(key: str, variable: str) -> list[str]:
    if key.startswith("pk_"):
        return [f"{variable} is a publishable key (pk_…): take a restricted key (rk_…) or a secret one"]
    if not key.startswith(("sk_test_", "sk_live_", "rk_test_", "rk_live_")) or not _is_one_word(key):
        return [f"{variable} is no Stripe key: it begins with rk_live_, rk_test_, sk_live_ or sk_test_"]
    return []


def _of_openmeter_key(key: str) -> list[str]:
    if _is_one_word(key):
        return []
    return ["OPENMETER_API_KEY is no key: it has spaces, line breaks or characters that are not ASCII"]


def _is_one_word(key: str) -> bool:
    """Say whether a header of HTTP can have it."""
    return key.isascii() and key.isprintable() and " " not in key


def _of_webhook_secrets(secrets: str) -> list[str]:
    separate = re.findall(SECRET, secrets)
    if not separate:
        return [
            "no webhook secret: set STRIPE_WEBHOOK_SECRET, STRIPE_WEBHOOK_SECRET_FILE or stripe.webhook_secret_file to "
            "the signing secret of the endpoint in Stripe"
        ]
    if not all(secret.startswith("whsec_") for secret in separate):
        return ["STRIPE_WEBHOOK_SECRET is no signing secret of a webhook: it begins with whsec_"]
    return []


def _of_shadow_key(key: str) -> list[str]:
    """Only a sandbox's key will do: what is written with it is never billed. None at all means no shadow mode."""
    if not key or (key.startswith(("sk_test_", "rk_test_")) and _is_one_word(key)):
        return []
    return ["shadow.api_key_file: that is no key of a sandbox, which begins with rk_test_ or sk_test_"]


SHADOW_KEY = SecretSetting("shadow", "api_key", "key", _of_shadow_key)
NOTIFY_FILE = "monitor_notify_file"
"""The name of the credential of systemd's that has the addresses of people."""

MASKED = ("monitor.ping_url",)
"""Settings that may stand in the configuration file, and are not shown: whoever knows one can use it."""
WEBHOOK_SECRET = SecretSetting("stripe", "webhook_secret", "webhook secret", _of_webhook_secrets)
SETUP_KEY = SecretSetting("stripe", "setup_api_key", "setup key", _of_setup_key)
STRIPE_KEY = SecretSetting("stripe", "api_key", "key", _of_stripe_key)
OPENMETER_KEY = SecretSetting("openmeter", "api_key", "key", _of_openmeter_key)
LEDGER_PASSWORD = SecretSetting("", "ledger_password", "ledger password", lambda password: [])
SECRETS = (STRIPE_KEY, OPENMETER_KEY, WEBHOOK_SECRET, SETUP_KEY, SHADOW_KEY, LEDGER_PASSWORD)
