"""`meter-sync setup` in a world, with a key that may do exactly what the documents say."""

from tests.support.permissions import FOR_SETUP
from tests.support.world import Outcome, World

SETUP_KEY = "rk_test_51TheKeyForSetupThatNobodySees"
METER = "epsilon_requests"
EPSILON = ("--name", "Epsilon", "--meter", METER, "--per", "1000000", "--amount", "0.20", "--currency", "usd")
"""The seed's example: 0.20 USD per 1,000,000 requests."""
URL = "https://hooks.example.com/webhook"


def set_up(world: World, *arguments: str, **overrides: str) -> Outcome:
    """`meter-sync setup`; neither the key nor a secret may be in what it prints."""
    world.stripe.keys.setdefault(SETUP_KEY, frozenset(one.name for one in FOR_SETUP))
    done = world.meter_sync("setup", *arguments, **{"STRIPE_SETUP_API_KEY": SETUP_KEY, **overrides})
    assert "ThatNobodySees" not in done.stdout + done.stderr
    assert "whsec_" not in done.stdout + done.stderr.replace("it begins with whsec_", "")
    return done


def price(world: World, *arguments: str, **overrides: str) -> Outcome:
    """`meter-sync setup price` for Epsilon, in JSON and without asking, with more arguments."""
    return set_up(world, "price", *EPSILON, "--yes", "--output", "json", *arguments, **overrides)


def actions(done: Outcome) -> dict[str, str]:
    """What the document says of each step: the last word on each kind."""
    return {step["kind"]: step["action"] for step in done.document["steps"]}


def made(done: Outcome) -> list[str]:
    """What was made, in order."""
    return [step["kind"] for step in done.document["steps"] if step["made"]]
