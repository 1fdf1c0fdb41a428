"""Identifiers of meter events: a duplicate is refused for 24 hours, and counts again afterwards.

Source: Stripe's API reference of meter events ("at least 24 hours").
"""

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.state.stripe_state import StripeState

UNIQUE_SECONDS = 24 * 3600
LONGEST = 100


def check_length(identifier: str) -> None:
    """Raise Refusal for an identifier that is too long."""
    if len(identifier) > LONGEST:
        raise Refusal(f"Invalid string: identifier has at most {LONGEST} characters.", param="identifier")


def is_duplicate(state: StripeState, identifier: str) -> bool:
    """Whether an identifier came within the last 24 hours."""
    before = state.identifiers.get(identifier)
    return before is not None and state.now - before.received < UNIQUE_SECONDS


def refuse_duplicate(state: StripeState, identifier: str) -> None:
    """Raise Refusal for an identifier that came within the last 24 hours."""
    if is_duplicate(state, identifier):
        raise Refusal(f"An event already exists with identifier {identifier}.", param="identifier")
