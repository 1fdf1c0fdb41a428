"""Verifying: what Stripe holds for each item against what OpenMeter says. Nothing is written.

Of open periods it is what stands in Stripe, of closed ones what their invoices bill.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from meter_sync.config import Settings
from meter_sync.core.outcomes import ExitCode, Reason, gravest
from meter_sync.core.planning import carrying
from meter_sync.core.planning.results import skipped
from meter_sync.core.planning.selection import Selection
from meter_sync.core.planning.stages import Metered, Result
from meter_sync.core.schedule import Schedule
from meter_sync.core.telling.billed_twice import BilledTwice
from meter_sync.core.telling.comparison import (
    Comparison,
    Expected,
    Known,
    Verdict,
    compare,
    expected_of,
    failed,
    last_report,
    not_compared,
    not_verified,
    read_until,
    total_of,
    until,
    verify_exit_code,
)
from meter_sync.core.telling.sample import Sample, sample_of
from meter_sync.errors import Interrupted, MeterSyncError
from meter_sync.ledger import RunRecord, open_ledger_read_only
from meter_sync.net.stop import Stop
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable
from meter_sync.sync.clocks import at_clock, check_clock
from meter_sync.sync.closed_periods import compare_closed_periods
from meter_sync.sync.job import Clock, Job, open_job
from meter_sync.sync.list import list_to_compare
from meter_sync.sync.periods import Prepared
from meter_sync.sync.progress import NoProgress, Progress
from meter_sync.sync.query import query_totals
from meter_sync.sync.request import Request, named_in_log, run_record
from meter_sync.sync.shared import shared_to_compare
from meter_sync.sync.standing import foreign_at_start, standing_total
from meter_sync.sync.unbilled import Billed, Unbilled, billed_as_listed, find_unbilled
from meter_sync.sync.workers import each

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What a person or a schedule asked for."""

    selection: Selection = field(default_factory=Selection)
    sample_days: int | None = None
    """In how many days all items are looked at, today's part of them now; None looks at all."""
    closed_days: int | None = None
    """Compare the periods that ended within so many days, by their invoices; None compares the open ones."""
    test_clock: str | None = None
    """The test clock whose subscriptions it is about, and whose time is now; None for all that is on none."""
    is_among_others: bool = False
    """Whether what nobody bills is looked for once other accounts are listed too, which may share its OpenMeter."""

    @property
    def looks_for_unbilled(self) -> bool:
        """Whether OpenMeter is asked for what nobody bills."""
        return self.sample_days is None and self.closed_days is None and self.is_of_whole_account

    @property
    def is_of_whole_account(self) -> bool:
        """Whether all who use are listed: not with selectors, and those of a test clock are but a few."""
        return self.selection.is_everything and self.test_clock is None


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
    unbilled: Unbilled | None = None
    """Usage that no listed item bills; None where that was not looked at."""
    billed: Billed | None = None
    """What the account bills, among others, where all of it was listed."""
    billed_twice: Sequence[BilledTwice] | None = None
    """What another account bills as well; None where that was not looked at."""
    error: MeterSyncError | None = None
    """What ended it before its time, if anything did."""
    stripe_requests: int = 0
    openmeter_requests: int = 0
    seconds: float = 0.0
    account: str = ""
    """The name of the account that it was about; empty for the only one."""
    is_shadow: bool = False
    """Whether it was about a shadow account."""

    @property
    def counts(self) -> dict[str, int]:
        """How many items there are of each verdict."""
        return {verdict.value: sum(one.verdict is verdict for one in self.comparisons) for verdict in Verdict}

    @property
    def exit_code(self) -> ExitCode:
        """The code to exit with: the gravest of the error's and the items'."""
        others = [*(self.unbilled.exit_codes if self.unbilled else ())]
        others += [ExitCode.ATTENTION] if self.billed_twice else []
        items = gravest(verify_exit_code(self.comparisons), *others)
        return items if self.error is None else gravest(self.error.exit_code, items)

    def without_error(self) -> "Verification":
        """Return it without what ended it."""
        return replace(self, error=None)


async def verify(
    settings: Settings, request: VerifyRequest, clock: Clock, stop: Stop, progress: Progress | None = None
) -> Verification:
    """Compare, and return what was found out. Errors that end it are in the result; nothing is raised for them.

    The ledger is opened read-only, without a lock, and nothing that can write to Stripe is constructed. Each item that
    is compared takes one GET of Stripe, whose quota for reading is 500 for each transaction over 30 days, 10,000 a
    month at least: a sample keeps a large account within it.
    """
    began = time.monotonic()
    asked = Request(request.selection, dry_run=True, test_clock=request.test_clock)
    run, beforehand = run_record(asked, settings.schedule, clock()), 0
    verification = _begun(run, request)
    scope = settings.scope.on(request.test_clock)
    try:
        check_clock(settings, request.test_clock)
        with named_in_log(run), open_ledger_read_only(settings.ledger, scope) as ledger:
            ledger.binding.check_mode()
            if request.test_clock is not None:
                run, sent = await at_clock(settings, request.test_clock, run, clock, stop)
                beforehand = sent.total()
                verification = _begun(run, request)
            async with open_job(settings, asked, run, ledger, clock, stop, progress or NoProgress()) as job:
                steps = _Steps(job, request)
                if request.closed_days is not None:
                    verification = await steps.carried_out_on_closed(verification, timedelta(days=request.closed_days))
                else:
                    verification = await steps.carried_out(verification, settings)
    except MeterSyncError as error:
        verification = replace(verification, error=error)
    return replace(
        verification,
        account=settings.account,
        is_shadow=settings.is_shadow,
        finished_at=clock() if request.test_clock is None else run.started_at,
        stripe_requests=verification.stripe_requests + beforehand,
        seconds=time.monotonic() - began,
    )


def _begun(run: RunRecord, request: VerifyRequest) -> Verification:
    """Return a verification of which nothing is known yet."""
    sample = sample_of(run.as_of.date(), request.sample_days) if request.sample_days else None
    return Verification(run.id, run.started_at, run.started_at, run.as_of, sample=sample)


class _Steps:
    """The steps of one verification, and what they have found out so far."""

    def __init__(self, job: Job, request: VerifyRequest) -> None:
        self._job = job
        self._request = request
        self._last_complete = job.ledger.runs.last_complete_as_of()
        self._found: dict[str, Comparison] = {}

    async def carried_out(self, verification: Verification, settings: Settings) -> Verification:
        """List, recall, query, read and compare. What ends it before its time is in the result."""
        items: list[Metered | Result] = []
        listed, unbilled, billed = 0, None, None
        error: MeterSyncError | None = None
        try:
            everything, metering = await list_to_compare(self._job)
            if self._request.is_among_others and self._request.is_of_whole_account:
                billed = billed_as_listed(self._job, settings, everything, metering)
            sample, listed = verification.sample, len(everything.items)
            items = [
                self._until_last_report(one, everything)
                for one in everything.items
                if sample is None or sample.has(one.item.id)
            ]
            await self._compare([one for one in items if isinstance(one, Metered)], everything)
            is_asked = self._request.looks_for_unbilled and not self._request.is_among_others
            if is_asked and not self._job.rules.asks_for_customers:
                unbilled = await find_unbilled(self._job, everything, metering, settings.verify.ignore_subjects)
        except MeterSyncError as ended:
            error = ended
        comparisons = [self._found.get(one.item.id) or _left_over(one) for one in items]
        if isinstance(error, Interrupted) and any(one.reason is Reason.INTERRUPTED for one in comparisons):
            error = None  # the items tell it
        log.info("verify", items=len(comparisons), listed=listed)
        return replace(
            verification,
            as_of=self._read_until(self._last_complete),
            comparisons=comparisons,
            listed=listed,
            unbilled=unbilled,
            billed=billed,
            error=error,
            stripe_requests=self._job.stripe.requests_sent,
            openmeter_requests=self._job.openmeter.requests_sent,
        )

    async def carried_out_on_closed(self, verification: Verification, within: timedelta) -> Verification:
        """Compare what invoices bill of periods that have ended. What ends it before its time is in the result."""
        error: MeterSyncError | None = None
        comparisons: list[Comparison] = []
        try:
            every = await compare_closed_periods(self._job, within)
            verification = replace(verification, listed=len(every))
            sample = verification.sample
            comparisons = [one for one in every if sample is None or sample.has(one.found.item.id)]
        except MeterSyncError as ended:
            error = ended
        log.info("verify", items=len(comparisons), listed=verification.listed)
        return replace(
            verification,
            comparisons=comparisons,
            error=error,
            stripe_requests=self._job.stripe.requests_sent,
            openmeter_requests=self._job.openmeter.requests_sent,
        )

    def _until_last_report(self, one: Metered | Result, prepared: Prepared) -> Metered | Result:
        """Return an item with its usage up to its last report; what is not queried stays as it is."""
        if isinstance(one, Result):
            return one
        if not one.row.report:
            said = "its [[meters]] row says report = false: nothing is reported for it"
            return skipped(one.found, Reason.IGNORED, said)
        return until(one, self._read_until(self._last_report(one, prepared)))

    def _read_until(self, last: datetime | None) -> datetime:
        """After two intervals without a report runs are missing, which is a difference; `run` warns of it as well."""
        run = self._job.run
        return read_until(last, run.as_of, Schedule(run.schedule).missed_after)

    def _last_report(self, one: Metered, prepared: Prepared) -> datetime | None:
        return last_report(self._last_complete, prepared.memory.remembered.get(one.item.id))

    async def _compare(self, items: Sequence[Metered], prepared: Prepared) -> None:
        """Query the usage of every item, read what stands in Stripe for those that have an answer, and compare."""
        job, remembered = self._job, prepared.memory.remembered
        intended = job.ledger.memory.last_intended([one.item for one in items])
        # One total for the whole period, also where runs ask for hours or days: another question than theirs.
        needs = [need for one in items for need in one.needs]
        shared = shared_to_compare(job, items, self._read_until(self._last_complete))
        usages = await query_totals(needs, job.openmeter, job.progress, shared)
        to_read: list[tuple[Expected, Known]] = []
        for one in items:
            id = one.item.id
            carried = carrying.total_of(prepared.memory.carried_into(id))
            expected = expected_of(one, total_of(one, usages), remembered.get(id), carried)
            if isinstance(expected, Expected):
                known = Known(remembered.get(id), intended.get(id), self._last_report(one, prepared))
                to_read.append((expected, known))
            else:
                self._found[id] = expected
        job.progress.begin("read", len(to_read))

        async def read(one: tuple[Expected, Known]) -> None:
            self._found[one[0].metered.item.id] = await self._compared(*one)
            job.progress.advance()

        await each(to_read, read, len(to_read))

    async def _compared(self, one: Expected, known: Known) -> Comparison:
        """Read what stands in Stripe for one item, and compare. Raise ConfigurationError."""
        try:
            self._job.stop.check()
            standing = await standing_total(one.metered, self._job.stripe)
            foreign = await foreign_at_start(one.metered, self._job.stripe)
        except Interrupted:
            return _left_over(one.metered)
        except (StripeRefused, StripeUnavailable) as error:
            said = f"Stripe's total could not be read: {error.message}"
            return failed(one.found, Reason.STRIPE_ERROR, said)
        if foreign and standing == one.quantity:
            return not_verified(one, foreign)
        return compare(one, standing, known, self._job.policy.now)


def _left_over(one: Metered | Result) -> Comparison:
    """Return what is said of an item that was not compared: a run would not query it, or the end came before it."""
    if isinstance(one, Metered):
        one = skipped(one.found, Reason.INTERRUPTED, "it ended before this item; verify it again")
    return not_compared(one)
