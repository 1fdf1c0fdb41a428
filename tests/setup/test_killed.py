"""Wherever `setup` is killed, the next one makes the rest, nothing twice, and says which secret is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import copy_context
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meter_sync import effects
from meter_sync.config import Settings, load
from meter_sync.net.stop import Stop
from meter_sync.setup import price, webhook
from meter_sync.setup.secrets_file import SecretsFile
from meter_sync.setup.steps import Step
from meter_sync.setup.talk import open_reader, open_writer
from meter_sync.setup.wanted import WantedPrice, WantedTier
from meter_sync.stripe_api.event_destinations import Wanted
from meter_sync.sync.job import open_openmeter
from meter_sync.webhook.events import SNAPSHOTS, THIN
from tests.support.setting_up import METER, URL
from tests.support.world import World

WANTED = WantedPrice("Epsilon", METER, None, 1, (WantedTier(None, Decimal(1)),), None, "usd", "month", METER)
DESTINATIONS = [Wanted("snapshot", SNAPSHOTS), Wanted("thin", THIN)]


class Killed(BaseException):
    """The program ends here."""


def now() -> datetime:
    return datetime.now(UTC)


def settings(world: World) -> Settings:
    return load(None, world.environment(STRIPE_SETUP_API_KEY=world.sandbox.stripe_key), {})


async def set_up_price(world: World) -> None:
    known, stop = settings(world), Stop()
    async with open_openmeter(known, stop) as openmeter:
        async with open_reader(known, now, stop) as stripe:
            plan = await price.plan(stripe, openmeter, WANTED, known.mapping_rules)
        async with open_writer(known, now, stop) as writer:
            await to_the_end(price.make(plan, writer, openmeter))


async def set_up_webhook(world: World) -> webhook.WebhookPlan:
    """Return the plan, which says what the file lacked before it was carried out."""
    known, stop = settings(world), Stop()
    async with open_reader(known, now, stop) as stripe:
        plan = await webhook.plan(stripe, URL, DESTINATIONS, SecretsFile(world.folder / "secrets"))
    async with open_writer(known, now, stop) as writer:
        await to_the_end(webhook.make(plan, writer, stop))
    return plan


async def to_the_end(steps: AsyncIterator[Step]) -> None:
    async for _ in steps:
        pass


def killed_at(moment: int, work: Callable[[World], Coroutine[Any, Any, Any]], world: World) -> bool:
    """Do the work until the moment of an effect, counted from 0; say whether it came so far."""
    seen = 0

    def kill(_place: str, _what: str) -> None:
        nonlocal seen
        if seen == moment:
            raise Killed
        seen += 1

    def carry_out() -> None:
        effects.watch(kill)
        asyncio.run(work(world))

    try:
        copy_context().run(carry_out)
    except Killed:
        return True
    return False


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[int], Path]:
    def made(number: int) -> Path:
        folder = tmp_path / str(number)
        folder.mkdir()
        return folder

    return made


def test_wherever_it_is_killed_each_part_of_a_price_is_made_once(folders: Callable[[int], Path]) -> None:
    moment, was_killed = 0, True
    while was_killed:
        world = World(folders(moment), now())
        with world.sandbox.in_background():
            was_killed = killed_at(moment, set_up_price, world)
            asyncio.run(set_up_price(world))
            state = world.stripe.state
            found = (
                [one.lookup_key for one in state.prices].count(METER),
                len(state.meters),
                METER in world.openmeter.meters,
            )
            assert (found, len(state.products)) == ((1, 1, True), 2), f"killed at {moment}"
        moment += 1
    assert moment == 2 * 4 + 1, "before and after each creation, and not at all"


def test_wherever_it_is_killed_each_destination_is_made_once_and_a_lost_secret_is_known(
    folders: Callable[[int], Path],
) -> None:
    moment, was_killed, lost = 0, True, 0
    while was_killed:
        world = World(folders(moment), now())
        with world.sandbox.in_background():
            was_killed = killed_at(moment, set_up_webhook, world)
            asyncio.run(set_up_webhook(world))
            plan = asyncio.run(set_up_webhook(world))
            kept = (world.folder / "secrets").read_text().split()
            assert [one.payload for one in world.stripe.state.destinations] == ["snapshot", "thin"]
            assert len(kept) == len(set(kept))
            assert bool(plan.lacking) == (len(kept) < 2)
            lost += bool(plan.lacking)
        moment += 1
    assert (moment, lost) == (2 * 2 * 2 + 1, 4), "between Stripe's answer and the file, the secret is lost"
