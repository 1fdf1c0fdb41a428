"""Asking OpenMeter, and what an answer of it means."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import aiohttp
import structlog

from meter_sync.core.metering.mapping import Grouping
from meter_sync.core.metering.meter import Meters
from meter_sync.core.metering.queries import Answer, DimensionAnswer, Query, Unanswered, WindowAnswer
from meter_sync.effects import effect
from meter_sync.errors import ConfigurationError, MeterSyncError, TryAgainError
from meter_sync.net.retry import Patience, Transient
from meter_sync.net.stop import Stop
from meter_sync.net.tally import Tally
from meter_sync.openmeter_api import answers
from meter_sync.openmeter_api.answers import OpenMeterRefused, Row
from meter_sync.openmeter_api.connection import Access, Connection
from meter_sync.openmeter_api.port import Api, MeterDefinition
from meter_sync.openmeter_api.versions import api_at, other_address

log = structlog.get_logger()

Value = TypeVar("Value")
Understood = Callable[[Query, Iterable[Row]], Mapping[str, Value]]
Asked = Mapping[str, Value | Unanswered] | Unanswered

_HOPELESS_AFTER = 8
"""So many queries in a row without an answer, and the rest is not tried in this run."""


class OpenMeter:
    """Reads meters and usage, in whichever version of the API the address is of; nothing here writes."""

    def __init__(self, access: Access, session: aiohttp.ClientSession, stop: Stop) -> None:
        self._connection = Connection(access, session, stop)
        self._api: Api = api_at(access.url, self._connection)
        self._patience = Patience(_HOPELESS_AFTER)

    @property
    def version(self) -> str:
        """The version of the API, such as `v1`."""
        return self._api.version

    @property
    def tally(self) -> Tally:
        """The requests that were sent so far."""
        return self._connection.tally

    @property
    def requests_sent(self) -> int:
        """How many requests were sent so far."""
        return self.tally.total()

    async def meters(self) -> Meters:
        """Return every meter, found by its name and by its id.

        Raise ConfigurationError where the address or the key is wrong, TryAgainError where there is no answer.
        """
        try:
            return await self._api.meters()
        except Transient as failure:
            raise _unreachable("OpenMeter could not be asked", failure) from failure
        except OpenMeterRefused as refusal:
            other, path = await other_address(self._connection), self._api.path
            correct = f"set OPENMETER_URL to {other}, where it answers"
            raise ConfigurationError(
                f"{self._connection.url} does not answer as OpenMeter does: {refusal.message}; nothing was written",
                correct if other else f"correct OPENMETER_URL: it is the address before {path}",
                code="openmeter_address",
            ) from refusal

    async def definition(self, slug: str) -> MeterDefinition | None:
        """Return what the meter of a slug counts, or None where there is none.

        Raise ConfigurationError where the address or the key is wrong, TryAgainError where there is no answer, and
        MeterSyncError for a meter that this version does not understand.
        """
        found = await self.meters()
        if slug in found.unknown:
            raise MeterSyncError(f"{found.unknown[slug]}; nothing was made for it", "choose another slug")
        if slug not in found.known:
            return None
        try:
            return await self._api.definition(slug)
        except (Transient, OpenMeterRefused) as failure:
            raise _unreachable("OpenMeter's meters could not be listed", failure) from failure

    async def create_meter(self, wanted: MeterDefinition) -> None:
        """Make a meter. One that is there by then, as after an attempt without an answer, is as good.

        Raise ConfigurationError where the key is wrong, TryAgainError where there is no answer, or OpenMeterRefused.
        """
        try:
            with effect("openmeter"):
                await self._api.create_meter(wanted)
        except OpenMeterRefused:
            found = await self.definition(wanted.slug)
            if found is None or found != replace(wanted, name=None):
                raise
        except Transient as failure:
            raise TryAgainError(
                f"OpenMeter did not answer whether it made the meter {wanted.slug}: {failure.message}",
                "run it again: it finds what is there",
                code="openmeter_unreachable",
            ) from failure

    async def usage(self, query: Query) -> Answer:
        """Send one query and return the value of each subject that has one, or why there is no answer.

        Raise ConfigurationError where the server is too old for whole seconds or the key is wrong.
        """
        return await self._asked(query, answers.values)

    async def window_usage(self, query: Query) -> WindowAnswer:
        """Send one query by hours or days, as `usage` does, and return the value of each, by subject."""
        return await self._asked(query, answers.window_values)

    async def dimension_usage(self, query: Query) -> DimensionAnswer:
        """Send one query by dimensions, as `usage` does, and return the value of each combination, by subject."""
        return await self._asked(query, answers.dimension_values)

    async def _asked(self, query: Query, understood: Understood[Value]) -> Asked[Value]:
        try:
            if self._patience.is_lost:
                raise OpenMeterRefused("it did not answer several queries before this one")
            found = understood(query, await self._api.rows(query))
            self._patience.answered()
            return found
        except Transient as failure:
            self._patience.unanswered()
            said = failure.message
        except OpenMeterRefused as refusal:
            said = refusal.message
            if refusal.is_gone and query.grouping is Grouping.CUSTOMER and len(query.subjects or ()) > 1:
                return await self._asked_in_halves(query, understood)
        remedy = "; check the filter of its [[meters]] row" if query.filter else ""
        return Unanswered(
            f"OpenMeter did not answer for meter {query.meter}: {said}; the item was left as it is{remedy}"
        )

    async def _asked_in_halves(self, query: Query, understood: Understood[Value]) -> Asked[Value]:
        """Ask again with half of the customers each: one that is not there answers 404 for all of them."""
        customers = query.subjects or ()
        middle = len(customers) // 2
        found: dict[str, Value | Unanswered] = {}
        for half in (customers[:middle], customers[middle:]):
            answer = await self._asked(replace(query, subjects=half), understood)
            found |= dict.fromkeys(half, answer) if isinstance(answer, Unanswered) else answer
        return found

    async def customers(self, stripe_customers: Collection[str], before: Mapping[str, str]) -> dict[str, str]:
        """Return the id of OpenMeter's customer for each of the Stripe customers that it knows.

        `before` has those by whose usage they were billed: one that was deleted since counts as long as it can be asked
        for.

        That is the customer whose key is the Stripe customer's id, or else the one whose Stripe app data names it,
        which costs one request for each customer that was not found by its key. One that several name is left out:
        whose usage it pays for must not be guessed.
        Raise ConfigurationError where the address or the key is wrong, TryAgainError where there is no answer.
        """
        wanted = frozenset(stripe_customers)
        try:
            listed = [one for one in await self._api.customers() if not one.is_deleted]
            found = _named_once((one.key, one.id) for one in listed if one.key in wanted)
            if wanted - found.keys():
                others = [one for one in listed if one.key not in wanted]
                named = await asyncio.gather(*(self._api.stripe_customer(one.id) for one in others))
                by_app = zip(named, (one.id for one in others), strict=True)
                found = _named_once((name, id) for name, id in by_app if name in wanted) | found
            for name in sorted(wanted & before.keys() - found.keys()):
                if await self._api.still_counts(before[name]):
                    found[name] = before[name]
            return found
        except (Transient, OpenMeterRefused) as failure:
            raise _unreachable("OpenMeter's customers could not be listed", failure) from failure


def _named_once(named: Iterable[tuple[str | None, str]]) -> dict[str, str]:
    """Given the Stripe customers that OpenMeter's customers name, return who names each that is named by one only."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, id in named:
        if name:
            found[name].add(id)
    for name, ids in found.items():
        if len(ids) > 1:
            log.warning("customer_named_twice", stripe_customer=name, openmeter_customers=sorted(ids))
    return {name: ids.pop() for name, ids in found.items() if len(ids) == 1}


def _unreachable(what: str, failure: Transient | OpenMeterRefused) -> TryAgainError:
    return TryAgainError(
        f"{what}: {failure.message}; nothing was written",
        "run again later; if it stays so, check OPENMETER_URL and the server",
        code="openmeter_unreachable",
    )
