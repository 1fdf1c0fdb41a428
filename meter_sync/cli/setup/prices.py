"""`meter-sync setup price`: a first metered price, with all that it stands on."""

import asyncio

from meter_sync.cli.ending import stop_on_signals
from meter_sync.cli.globals import now
from meter_sync.cli.setup.conduct import ALL_NAMED, NOTHING_MADE, Asked, Conduct, begin, end, told
from meter_sync.config import OPENMETER_KEY, SETUP_KEY
from meter_sync.setup import price
from meter_sync.setup.talk import open_reader, open_writer
from meter_sync.setup.wanted import WantedPrice
from meter_sync.sync.job import open_openmeter


def make_price(asked: Asked, wanted: WantedPrice) -> None:
    """Plan a price, and make what is not there of it."""
    conduct = begin(asked, [SETUP_KEY, OPENMETER_KEY])
    end(conduct, lambda: _make_price(conduct, wanted))


def _make_price(conduct: Conduct, wanted: WantedPrice) -> None:
    settings = conduct.settings

    async def planned() -> price.PricePlan:
        with stop_on_signals() as stop, told(NOTHING_MADE):
            async with open_reader(settings, now, stop) as stripe, open_openmeter(settings, stop) as openmeter:
                await conduct.take_account(stripe, stop)
                return await price.plan(stripe, openmeter, wanted, settings.mapping_rules)

    async def made(plan: price.PricePlan) -> None:
        with stop_on_signals() as stop, told(ALL_NAMED):
            async with open_writer(settings, now, stop) as stripe, open_openmeter(settings, stop) as openmeter:
                await conduct.carry_out(price.make(plan, stripe, openmeter))

    plan = asyncio.run(planned())
    conduct.steps = plan.steps
    if conduct.is_agreed():
        asyncio.run(made(plan))
        conduct.remarks.append(f"Subscribe customers to {conduct.shown[-1].id}; meter-sync run --dry-run shows them.")
