"""Runs of several accounts at once: what goes wrong with one is its own, and no other one waits for it.

So it is with verifications.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from structlog.contextvars import bound_contextvars

from meter_sync.cli.ending import Words, told_of_bug
from meter_sync.errors import MeterSyncError
from meter_sync.net.places import places_shared

if TYPE_CHECKING:
    from meter_sync.config import Configuration, SecretSetting, Settings
    from meter_sync.sync.request import Execution
    from meter_sync.sync.verify import Verification

NOTHING_SELECTED = "nothing_selected"

Ended = TypeVar("Ended", "Execution", "Verification")
"""What became of what was done for an account; what ended it before its time is in it."""


async def run_each(
    accounts: "Sequence[Configuration]",
    needed: "Sequence[SecretSetting]",
    at_once: int,
    run: "Callable[[Settings], Awaitable[Ended]]",
    failed: Callable[[MeterSyncError], Ended],
    words: Words,
) -> list[Ended]:
    """Carry out a run for each account, so many at once, and return what became of each, in their order.

    `run` is given the account's settings, and `failed` says what became of one that an error kept from beginning. An
    account whose configuration is wrong fails alone, and so does one whose run meets a bug.
    """
    places = asyncio.Semaphore(at_once)

    async def carried_out(account: "Configuration") -> Ended:
        async with places:
            with bound_contextvars(account=account.account):
                try:
                    found = await run(account.settings(needed))
                except MeterSyncError as error:
                    found = failed(error)
                except Exception as bug:
                    found = failed(told_of_bug(bug, words))
        return replace(found, account=account.account)

    with places_shared():
        async with asyncio.TaskGroup() as tasks:
            begun = [tasks.create_task(carried_out(one)) for one in accounts]
    return [one.result() for one in begun]


def found_anywhere(ended: Sequence[Ended]) -> list[Ended]:
    """Given what became of selected items, let it not be a failure that one found none, if another account has some.

    A customer or a subscription is one account's; which one that is, nobody need know.
    """

    def is_elsewhere(one: Ended) -> bool:
        return one.error is not None and one.error.code == NOTHING_SELECTED

    if all(map(is_elsewhere, ended)):
        return list(ended)
    return [one.without_error() if is_elsewhere(one) else one for one in ended]
