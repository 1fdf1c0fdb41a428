"""Workers for many accounts: begun by their first event, so many reports at once, and gone when nothing comes."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from meter_sync.config import Settings
from meter_sync.core.outcomes import ExitCode
from meter_sync.ledger import Scope
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Sandbox
from meter_sync.webhook.accounts import Account, Accounts
from meter_sync.webhook.queue import Queue, Queues
from meter_sync.webhook.workers import Turns, Workers


def test_an_account_has_a_worker_from_its_first_event_until_nothing_comes_any_more_and_again(tmp_path: Path) -> None:
    sandbox = Sandbox(now=datetime.now(UTC))
    place = tmp_path / "ledger.sqlite3"

    def account(name: str) -> Account:
        stripe = {"api_key": sandbox.stripe_key, "api_base": sandbox.stripe_url}
        openmeter = {"api_key": sandbox.openmeter_key, "url": sandbox.openmeter_url}
        made = Settings.model_validate({"stripe": stripe, "openmeter": openmeter, "ledger": place})
        return Account(made.of_account(name))

    async def play() -> None:
        stop, queues = Stop(), Queues(place, sandbox.clock.now)
        workers = Workers(
            Accounts([account("eu"), account("us")], None, None),
            queues,
            1,
            stop,
            follow_up_seconds=0.001,
            followed_for=timedelta(0),
        )
        queue = Queue(queues, Scope("eu", "sandbox"))

        async def is_over() -> bool:
            return not await queue.waiting() and not workers.at_work

        await workers.recall()
        working = asyncio.create_task(workers.work())
        for event in ("evt_1", "evt_2"):
            await queue.put(event, "invoice.created", "sub_unknown")
            workers.wake("eu")
            async with asyncio.timeout(30):
                while not await is_over():
                    pass  # its own look into the ledger lets the worker go on
        stop.request()
        await working
        queues.close()

    with sandbox.in_background():
        asyncio.run(play())


def test_so_many_accounts_are_reported_at_once_and_of_those_without_an_answer_half_as_many() -> None:
    async def play() -> None:
        turns, stop, over = Turns(4), Stop(), asyncio.Event()
        under_way = list[str]()

        async def report(account: str) -> None:
            async with turns.of(account, stop):
                under_way.append(account)
                await over.wait()

        ailing, well = [f"ailing-{n}" for n in range(6)], [f"well-{n}" for n in range(6)]
        for account in ailing:
            turns.note(account, ExitCode.TRY_AGAIN)
        turns.note("ailing-0", ExitCode.DONE)
        turns.note("ailing-0", ExitCode.TRY_AGAIN)
        async with asyncio.TaskGroup() as group:
            for account in (*ailing, *well):
                group.create_task(report(account))
            for _ in range(10):
                await asyncio.sleep(0)
            assert sorted(under_way) == ["ailing-0", "ailing-1", "well-0", "well-1"]
            over.set()
        assert len(under_way) == 12

    asyncio.run(play())
