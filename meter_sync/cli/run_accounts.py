"""Runs of several accounts at once: what goes wrong with one is its own, and no other one waits for it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from structlog.contextvars import bound_contextvars

from meter_sync.cli.ending import Words, told_of_bug
from meter_sync.errors import MeterSyncError
from meter_sync.net.places import places_shared

if TYPE_CHECKING:
    from meter_sync.config import Configuration, SecretSetting, Settings
    from meter_sync.sync.request import Execution

NOTHING_SELECTED = "nothing_selected"

Run = Callable[["Settings"], Awaitable["Execution"]]
"""Carries out the run of an account, whose settings it is given; what ends it is in the execution."""
Failed = Callable[[MeterSyncError], "Execution"]
"""Returns the execution of a run that an error kept from beginning."""


async def run_each(
    accounts: "Sequence[Configuration]",
    needed: "Sequence[SecretSetting]",
    at_once: int,
    run: Run,
    failed: Failed,
    words: Words,
) -> "list[Execution]":
    """Carry out the run of each account, so many at once, and return what became of each, in their order.

    An account whose configuration is wrong fails alone, and so does one whose run meets a bug.
    """
    places = asyncio.Semaphore(at_once)

    async def carried_out(account: "Configuration") -> "Execution":
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


def found_anywhere(executions: "Sequence[Execution]") -> "list[Execution]":
    """Given runs of selected items, let those not be failures that found none, if another account has what was asked.

    A customer or a subscription is one account's; which one that is, nobody need know.
    """

    def is_elsewhere(one: "Execution") -> bool:
        return one.report.error is not None and one.report.error.code == NOTHING_SELECTED

    if all(map(is_elsewhere, executions)):
        return list(executions)
    return [replace(one, report=replace(one.report, error=None)) if is_elsewhere(one) else one for one in executions]
