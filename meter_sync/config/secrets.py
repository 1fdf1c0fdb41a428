"""The settings that are secrets: what each must look like, and nothing secret in what is said of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from meter_sync.config.settings import SECRET


@dataclass(frozen=True, slots=True)
class SecretSetting:
    """A setting that is a secret: it may lie in a file of its own, and never in the configuration file."""

    section: str
    name: str
    what: str
    problems_of: Callable[[str], list[str]]
    """Given the secret, or nothing, says what is wrong with it, without a character of it."""

    @property
    def path(self) -> str:
        """Its full name, as of any setting."""
        return f"{self.section}.{self.name}"


def _of_stripe_key(key: str) -> list[str]:
    if not key:
        return ["no Stripe key: set STRIPE_API_KEY, STRIPE_API_KEY_FILE or stripe.api_key_file"]
    if key.startswith("pk_"):
        return ["STRIPE_API_KEY is a publishable key (pk_…): take a restricted key (rk_…) or a secret one"]
    if not key.startswith(("sk_test_", "sk_live_", "rk_test_", "rk_live_")) or not _is_one_word(key):
        return ["STRIPE_API_KEY is no Stripe key: it begins with rk_live_, rk_test_, sk_live_ or sk_test_"]
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


MASKED = ("monitor.ping_url",)
"""Settings that may stand in the configuration file, and are not shown: whoever knows one can use it."""
WEBHOOK_SECRET = SecretSetting("stripe", "webhook_secret", "webhook secret", _of_webhook_secrets)
SECRETS = (
    SecretSetting("stripe", "api_key", "key", _of_stripe_key),
    SecretSetting("openmeter", "api_key", "key", _of_openmeter_key),
    WEBHOOK_SECRET,
)
