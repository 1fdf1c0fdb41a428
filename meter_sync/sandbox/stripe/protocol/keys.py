"""API keys as they are sent, and as Stripe's messages show them (API reference, Authentication)."""

import base64
import binascii
import re

from meter_sync.sandbox.stripe.protocol.errors import Refusal

_LIVE = re.compile("(sk|rk|sk_org)_live")


def is_live(key: str) -> bool:
    """Whether a key is of live mode."""
    return _LIVE.match(key) is not None


def sent_key(authorization: str) -> str:
    """Return the key in this header: a bearer token, or the user name of basic authentication.

    Raise Refusal if there is none.
    """
    key = _credentials(authorization)
    if not key:
        raise Refusal(
            "You did not provide an API key. You need to provide your API key in the"
            " Authorization header, using Bearer auth (e.g. 'Authorization: Bearer"
            " YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details.",
            status=401,
        )
    return key


def _credentials(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def masked(key: str) -> str:
    """Return a key as Stripe's messages show it: its beginning and its last four characters."""
    if len(key) <= 12:
        return key[:3] + "*" * (len(key) - 3)
    return f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}"


def invalid_key(key: str) -> Refusal:
    """Return Stripe's answer to a key that nobody has."""
    return Refusal(f"Invalid API Key provided: {masked(key)}", status=401)
