"""Whether a request really comes from Stripe."""

from collections.abc import Sequence

import stripe
from pydantic import SecretStr

TOLERANCE_SECONDS = 300
"""How old a signature may be (Stripe documentation, Verify webhook signatures): a replay of an older one is refused."""


class SignatureRefused(ValueError):
    """A request is not signed with a secret that is known here, or was signed too long ago; nothing secret is said."""


def verify(body: bytes, header: str | None, secrets: Sequence[SecretStr]) -> None:
    """Given the body as it came and the header `Stripe-Signature`, do nothing if one of the secrets signed them.

    While a secret is rolled the old and the new one are both right. Raise SignatureRefused otherwise.
    """
    if not header:
        raise SignatureRefused("it has no Stripe-Signature")
    if not header.isascii():
        raise SignatureRefused("its Stripe-Signature is none")
    refusals = []
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(body, header, secret.get_secret_value(), TOLERANCE_SECONDS)
        except UnicodeDecodeError:
            raise SignatureRefused("its body is not text") from None
        except stripe.SignatureVerificationError as refusal:
            refusals.append(str(refusal))
        else:
            return
    # The SDK compares the time last: who signed too long ago, or by a wrong clock, has at least a right secret.
    too_old = next((why for why in refusals if why.startswith("Timestamp")), None)
    raise SignatureRefused(too_old or next(iter(refusals), "no secret is known"))
