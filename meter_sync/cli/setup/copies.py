"""`meter-sync setup shadow`: copies what the account has into a sandbox, and takes away what is gone."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace

from meter_sync.cli.ending import stop_on_signals
from meter_sync.cli.globals import now
from meter_sync.cli.setup.conduct import ALL_NAMED, NOTHING_MADE, Asked, Conduct, begin, end, told
from meter_sync.config import SHADOW_KEY, STRIPE_KEY
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import ConfigurationError
from meter_sync.ledger import run_lock
from meter_sync.setup.steps import Step
from meter_sync.setup.talk import open_shadow_writer
from meter_sync.shadow.copying import Looked, Refused, look, make, steps
from meter_sync.sync.job import open_reader

_NAMED = 20


def make_shadow(asked: Asked) -> None:
    """Plan the copies, and make them."""
    conduct = replace(begin(asked, [STRIPE_KEY, SHADOW_KEY]), mode="sandbox")
    end(conduct, lambda: _make_shadow(conduct))


def _make_shadow(conduct: Conduct) -> None:
    settings = conduct.settings
    if not settings.is_shadow:
        raise ConfigurationError(
            "no shadow account is configured; nothing was made",
            "set shadow.api_key_file in the TOML file to a file with a key of a sandbox of its own",
        )

    async def looked() -> Looked:
        with stop_on_signals() as stop, told(NOTHING_MADE):
            shadowed = settings.of_shadow
            async with open_reader(settings, now, stop) as original, open_reader(shadowed, now, stop) as shadow:
                return await look(original, shadow, may_be_one=not settings.stripe.is_live)

    async def made(found: Looked) -> None:
        with stop_on_signals() as stop, told(ALL_NAMED):
            shadowed = settings.of_shadow
            async with open_reader(settings, now, stop) as original, open_shadow_writer(shadowed, now, stop) as shadow:
                async for done in make(found, original, shadow):
                    _tell(conduct, done)

    if conduct.asked.dry_run:
        _planned_and_made(conduct, looked, made)
    else:
        shadow = settings.of_shadow
        with run_lock(shadow.ledger, shadow.scope):  # two at once would make everything twice
            _planned_and_made(conduct, looked, made)


def _planned_and_made(
    conduct: Conduct,
    looked: Callable[[], Coroutine[None, None, Looked]],
    made: Callable[[Looked], Coroutine[None, None, None]],
) -> None:
    found = asyncio.run(looked())
    conduct.account, conduct.steps = found.account, steps(found.plan)
    for one in found.plan.left_out[:_NAMED]:
        conduct.remarks.append(f"{one.item.id} of {one.item.subscription.customer.id} has no copy: {one.why}.")
    conduct.remarks.append(f"{found.plan.copied} items were copied before, {len(found.plan.left_out)} cannot be.")
    if conduct.is_agreed():
        asyncio.run(made(found))


def _tell(conduct: Conduct, done: Step | Refused) -> None:
    """Note what was done, or that it was refused: the rest goes on."""
    if isinstance(done, Refused):
        conduct.code = ExitCode.PARTIAL
        conduct.remarks.append(f"Stripe refused the {done.step.kind}, {done.step.what}: {done.message}")
    else:
        conduct.tell(done)
