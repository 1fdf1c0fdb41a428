"""Sharing what Stripe and OpenMeter allow with the other runs that ask them meanwhile, as the ledger knows them."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from meter_sync.config import Settings
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Ledger, RunRecord, Scope, open_ledger, open_ledger_read_only
from meter_sync.net.pace import Limiter
from meter_sync.net.places import Places, places_at, places_shared
from meter_sync.net.postgres_url import PostgresUrl
from meter_sync.net.shares import NOTHING, Caller, Part
from meter_sync.net.tasks import meanwhile

_LOOKS_EVERY_SECONDS = 0.25
_LOOKS_IN_COMPANY_EVERY_SECONDS = 0.1
_SAYS_EVERY_SECONDS = 1.0
"""So often a run says what it takes while no other one is there: one that begins has to know it."""


@asynccontextmanager
async def sharing_allowance(limiter: Limiter, ledger: Ledger, run: RunRecord, *, is_seen: bool) -> AsyncIterator[None]:
    """Share what Stripe allows with others while the block asks it.

    `is_seen` says whether the ledger can be told of this run; one that only reads takes what the others leave.
    """
    share = _Share(limiter, ledger, run, is_seen=is_seen)
    share.look()
    async with meanwhile(share.keep()):
        yield


@asynccontextmanager
async def sharing_platform(
    settings: Settings, limiter: Limiter | None, run: RunRecord, *, is_seen: bool
) -> AsyncIterator[None]:
    """Share what Stripe allows a platform with the runs of all its connected accounts; do nothing without a platform.

    The ledger has books for that which are no account's, named by what is left of the key when nothing can be made of
    it. Raise MeterSyncError where they cannot be used.
    """
    if limiter is None:
        yield
        return
    scope = _books_of("platform", settings.stripe.api_key.get_secret_value(), settings.stripe.mode)
    if not is_seen:
        with open_ledger_read_only(settings.ledger, scope) as ledger:
            async with sharing_allowance(limiter, ledger, run, is_seen=False):
                yield
        return
    with open_ledger(settings.ledger, scope) as ledger:
        ledger.callers.join(run)
        try:
            async with sharing_allowance(limiter, ledger, run, is_seen=True):
                yield
        finally:
            with suppress(MeterSyncError):  # whoever has not said it counts for some seconds more
                ledger.callers.part(run)


@asynccontextmanager
async def sharing_openmeter(settings: Settings, run: RunRecord, *, is_seen: bool) -> AsyncIterator[None]:
    """Share the places at an OpenMeter with the runs of other machines, while the block asks it.

    How many queries it takes at once does not depend on how many ask it. The ledger has books for that which are no
    account's, where it is on a server: one that is a file is not used by many accounts at once. Raise MeterSyncError
    where they cannot be used.
    """
    if not isinstance(settings.ledger, PostgresUrl):
        yield
        return
    opened = open_ledger if is_seen else open_ledger_read_only  # a dry run leaves even an older ledger as it is
    with places_shared():
        places = places_at(settings.openmeter.url, settings.openmeter.concurrency)
        with opened(settings.ledger, _books_of("openmeter", settings.openmeter.url, "")) as ledger:
            if is_seen:
                ledger.callers.join(run)
            try:
                async with meanwhile(_leave_places(places, ledger, run, is_seen=is_seen)):
                    yield
            finally:
                if is_seen:
                    with suppress(MeterSyncError):  # whoever has not said it counts for some seconds more
                        ledger.callers.part(run)


async def _leave_places(places: Places, ledger: Ledger, run: RunRecord, *, is_seen: bool) -> None:
    """Leave others their part, as many as there are at each moment. What the ledger does not say changes nothing."""
    others = 0
    while True:
        with suppress(MeterSyncError):
            if is_seen:
                ledger.callers.renew(run, {})
            others = len(ledger.callers.others(run))
        await places.leave_to(others)
        await asyncio.sleep(_SAYS_EVERY_SECONDS)


def _books_of(kind: str, whose: str, mode: str) -> Scope:
    """Return the books about a limit that many accounts share: their name tells nobody whose it is."""
    return Scope(f"{kind}:{hashlib.sha256(whose.encode()).hexdigest()[:16]}", mode)


class _Share:
    """What one run takes, and what the ledger was told of it."""

    def __init__(self, limiter: Limiter, ledger: Ledger, run: RunRecord, *, is_seen: bool) -> None:
        self._limiter = limiter
        self._book = ledger.callers
        self._run = run
        self._is_seen = is_seen
        self._said: Mapping[str, Part] = {}
        self._said_at = time.monotonic()
        self._has_company = False

    async def keep(self) -> None:
        """Look at the others time and again."""
        while True:
            await asyncio.sleep(_LOOKS_IN_COMPANY_EVERY_SECONDS if self._has_company else _LOOKS_EVERY_SECONDS)
            self.look()

    def look(self) -> None:
        """Tell the others what this run takes, and leave them their part.

        Where the ledger cannot be read or written now, all stays as it was: a run must neither wait nor end for that.
        """
        with suppress(MeterSyncError):
            parts = self._limiter.parts()
            if self._is_seen and self._is_news(parts):
                self._book.renew(self._run, parts)
                self._said, self._said_at = parts, time.monotonic()
            others = self._book.others(self._run)
            self._has_company = bool(others)
            mine = Caller(self._run.id, not self._run.is_alone, parts)
            self._limiter.go_beside(mine, others, is_seen=self._is_seen)

    def _is_news(self, parts: Mapping[str, Part]) -> bool:
        if time.monotonic() - self._said_at >= _SAYS_EVERY_SECONDS:
            return True
        return self._has_company and any(_differs(name, parts, self._said) for name in {*parts, *self._said})


def _differs(name: str, parts: Mapping[str, Part], said: Mapping[str, Part]) -> bool:
    """Say whether others would divide a limit differently; a request more or less is not worth a transaction."""
    now, before = parts.get(name, NOTHING), said.get(name, NOTHING)
    return abs(now.wants - before.wants) > 1 or abs(now.holds - before.holds) > 1
