"""Verifying: what Stripe holds for each item of the open periods against what OpenMeter says. Nothing is written."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from structlog.contextvars import bound_contextvars

from meter_sync.config import Settings
from meter_sync.core.outcomes import ExitCode, Reason
from meter_sync.core.planning.known import Memory
from meter_sync.core.planning.prepare import prepare
from meter_sync.core.planning.selection import Selection
from meter_sync.core.planning.stages import Hold, Line, Skip, need
from meter_sync.core.planning.totals import Policy
from meter_sync.core.schedule import Schedule
from meter_sync.core.telling.comparison import (
    Comparison,
    Known,
    Verdict,
    compare,
    failed,
    last_report,
    measured,
    not_compared,
    read_until,
    until,
    verify_exit_code,
)
from meter_sync.core.telling.sample import Sample, sample_of
from meter_sync.errors import Interrupted, MeterSyncError
from meter_sync.ledger import Scope, open_ledger_read_only
from meter_sync.net.stop import Stop
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable
from meter_sync.sync.adapters import Adapters, Clock, open_adapters
from meter_sync.sync.binding import check_mode
from meter_sync.sync.held import held_total
from meter_sync.sync.order import Order, Request, gravest, run_record
from meter_sync.sync.progress import NoProgress, Progress
from meter_sync.sync.query import query_totals
from meter_sync.sync.remember import remember
from meter_sync.sync.run import list_items, select
from meter_sync.sync.workers import each

log = structlog.get_logger()

_HOPELESS_AFTER = 16
"""So many items in a row without any answer of Stripe, and the rest is not tried."""


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What a person or a schedule asked for."""

    selection: Selection = field(default_factory=Selection)
    sample_days: int | None = None
    """In how many days all items are looked at, today's part of them now; None looks at all."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found out, however far it came."""

    id: str
    started_at: datetime
    finished_at: datetime
    as_of: datetime
    """Until when the usage of most items was read: the last report's instant, or the beginning."""
    comparisons: Sequence[Comparison] = ()
    sample: Sample | None = None
    listed: int = 0
    """How many items were selected, of which the sample is a part."""
    error: MeterSyncError | None = None
    """What ended it before its time, if anything did."""
    stripe_requests: int = 0
    openmeter_requests: int = 0
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """How many items there are of each verdict."""
        return {verdict.value: sum(one.verdict is verdict for one in self.comparisons) for verdict in Verdict}

    @property
    def exit_code(self) -> ExitCode:
        """The code to exit with: the gravest of the error's and the items'."""
        items = verify_exit_code(self.comparisons)
        return items if self.error is None else gravest(self.error.exit_code, items)


async def verify(
    settings: Settings, request: VerifyRequest, clock: Clock, stop: Stop, progress: Progress | None = None
) -> Verification:
    """Compare, and return what was found out. Errors that end it are in the result; nothing is raised for them.

    The ledger is opened read-only, without a lock, and nothing that can write to Stripe is constructed. Each item that
    is compared takes one GET of Stripe, whose quota for reading is 500 for each transaction over 30 days, 10,000 a
    month at least: a sample keeps a large account within it.
    """
    began = time.monotonic()
    order = _order(settings, request, clock())
    sample = sample_of(order.run.as_of.date(), request.sample_days) if request.sample_days else None
    verification = Verification(order.run.id, order.run.started_at, clock(), order.run.as_of, sample=sample)
    scope = Scope(account="", mode="live" if settings.stripe.is_live else "sandbox")
    try:
        with bound_contextvars(run_id=order.run.id), open_ledger_read_only(settings.ledger, scope) as ledger:
            check_mode(ledger)
            async with open_adapters(settings, ledger, clock, stop, dry_run=True) as adapters:
                steps = _Steps(order, adapters, progress or NoProgress(), Schedule(order.run.schedule).missed_after)
                verification = await steps.carried_out(verification)
    except MeterSyncError as error:
        verification = replace(verification, error=error)
    return replace(verification, finished_at=clock(), seconds=time.monotonic() - began)


def _order(settings: Settings, request: VerifyRequest, now: datetime) -> Order:
    run = run_record(Request(request.selection, dry_run=True), settings.schedule, now)
    return Order(
        run=run,
        selection=request.selection,
        rules=settings.mapping_rules,
        policy=Policy(now=run.started_at, as_of=run.as_of),
        thresholds=settings.thresholds,
    )


Prepared = Line | Hold | Skip


class _Steps:
    """The steps of one verification, and what they have found out so far."""

    def __init__(self, order: Order, adapters: Adapters, progress: Progress, reported_within: timedelta) -> None:
        self._order = order
        self._adapters = adapters
        self._progress = progress
        self._reported_within = reported_within
        self._last_complete = adapters.ledger.last_complete_as_of()
        self._found: dict[str, Comparison] = {}
        self._unanswered_in_a_row = 0

    async def carried_out(self, verification: Verification) -> Verification:
        """List, recall, query, read and compare. What ends it before its time is in the result."""
        prepared: list[Prepared] = []
        listed, error = 0, None
        as_of = self._read_until(self._last_complete)
        try:
            everything, memory = await self._prepared()
            sample, listed = verification.sample, len(everything)
            prepared = [one for one in everything if sample is None or sample.has(_item(one))]
            prepared = [self._until_last_report(one, memory) for one in prepared]
            await self._compare([one for one in prepared if isinstance(one, Line)], memory)
        except MeterSyncError as ended:
            error = None if isinstance(ended, Interrupted) and prepared else ended
        comparisons = [self._found.get(_item(one)) or _left_over(one) for one in prepared]
        log.info("verify", items=len(comparisons), listed=listed)
        return replace(
            verification,
            as_of=as_of,
            comparisons=comparisons,
            listed=listed,
            error=error,
            stripe_requests=self._adapters.stripe.requests_sent,
            openmeter_requests=self._adapters.openmeter.requests_sent,
        )

    async def _prepared(self) -> tuple[list[Prepared], Memory]:
        """List what is selected, and recall what the ledger knows of it. Raise MeterSyncError."""
        order = self._order
        listing, metering = await list_items(order, self._adapters, self._progress)
        memory = remember(order, self._adapters, listing)
        prepared = prepare(listing.items, order.rules, metering.meters, memory, order.run.as_of, metering.customers)
        return select(order, prepared, ()), memory

    def _until_last_report(self, one: Prepared, memory: Memory) -> Prepared:
        """Return a line with its usage up to the last report of its item; what is not queried stays as it is."""
        if not isinstance(one, Line):
            return one
        if not one.row.report:
            return Skip(one, Reason.IGNORED, "its [[meters]] row says report = false: nothing is reported for it")
        return until(one, self._read_until(self._last_report(_item(one), memory)))

    def _read_until(self, last: datetime | None) -> datetime:
        return read_until(last, self._order.run.as_of, self._reported_within)

    def _last_report(self, item: str, memory: Memory) -> datetime | None:
        return last_report(self._last_complete, memory.remembered.get(item))

    async def _compare(self, lines: Sequence[Line], memory: Memory) -> None:
        """Query the usage of every line, read what Stripe holds of those that have an answer, and compare."""
        known = self._known(lines, memory)
        # One total for the whole period, also where runs ask for hours or days: another question than theirs.
        usages = await query_totals([need(line) for line in lines], self._adapters.openmeter, self._progress)
        to_read: list[Line] = []
        for line in lines:
            one = measured(line, usages[line.item.id], known[line.item.id].remembered)
            if isinstance(one, Line):
                to_read.append(one)
            else:
                self._found[line.item.id] = one
        self._progress.begin("read", len(to_read))

        async def read(line: Line) -> None:
            self._found[line.item.id] = await self._compared(line, known[line.item.id])
            self._progress.advance()

        await each(to_read, read, len(to_read))

    def _known(self, lines: Sequence[Line], memory: Memory) -> Mapping[str, Known]:
        intended = self._adapters.ledger.last_intended([line.item for line in lines])
        ids = [line.item.id for line in lines]
        return {
            item: Known(memory.remembered.get(item), intended.get(item), self._last_report(item, memory))
            for item in ids
        }

    async def _compared(self, line: Line, known: Known) -> Comparison:
        """Read what Stripe holds for one item, and compare. Raise ConfigurationError."""
        if self._unanswered_in_a_row >= _HOPELESS_AFTER:
            return failed(line, Reason.STRIPE_ERROR, "not tried: Stripe did not answer for several items before this")
        try:
            self._adapters.stop.check()
            held = await held_total(line, self._adapters.stripe)
        except Interrupted:
            return _left_over(line)
        except (StripeRefused, StripeUnavailable) as error:
            self._unanswered_in_a_row += isinstance(error, StripeUnavailable) and not error.rate_limited
            return failed(line, Reason.STRIPE_ERROR, f"Stripe's total could not be read: {error.message}")
        self._unanswered_in_a_row = 0
        return compare(line, held, known, self._order.policy.now)


def _item(one: Prepared) -> str:
    return one.item.id if isinstance(one, Line) else one.line.item.id


def _left_over(one: Prepared) -> Comparison:
    """Return what is said of an item that was not compared: a run would not query it, or the end came before it."""
    if isinstance(one, Line):
        one = Skip(one, Reason.INTERRUPTED, "it ended before this item; verify it again")
    return not_compared(one)
