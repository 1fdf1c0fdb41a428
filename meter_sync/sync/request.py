"""What a run is asked to do, and what became of it."""

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from structlog.contextvars import bound_contextvars

from meter_sync.core.billing.item import PeriodKey
from meter_sync.core.outcomes import ExitCode, Outcome, Reason, exit_code, gravest
from meter_sync.core.planning.selection import Selection
from meter_sync.core.planning.stages import Result
from meter_sync.errors import RUN_NOTE, MeterSyncError, run_of
from meter_sync.ledger import RunRecord
from meter_sync.net.tally import Tally, sent_to

_LISTS = ("get subscriptions", "get subscription_items")
_ANSWERED = 200


@dataclass(frozen=True, slots=True)
class Request:
    """What a person or a schedule asked for."""

    selection: Selection = field(default_factory=Selection)
    as_of: datetime | None = None
    """The instant that the run is about; None is now."""
    test_clock: str | None = None
    """The test clock whose subscriptions it is about, and whose time is now; None for all that is on none."""
    dry_run: bool = False
    reads_everything: bool = False
    """Whether usage is read again of which the ledger knows."""
    resend: bool = False
    allowed: frozenset[Reason] = frozenset()
    closing: timedelta | None = None
    """Only the items whose period ends or has ended within so long."""
    is_about_rejections: bool = False
    """Only the subscriptions of which Stripe has rejected what it had taken, which is asked first."""
    is_beside: bool = False
    """Whether it may work beside a full run: then single items exclude each other, not whole runs."""
    run_id: str | None = None
    """The id of the run, a UUID, where somebody knows it before it begins; else it is drawn, anew for each run."""

    @property
    def is_full(self) -> bool:
        """Whether it bills the whole account, as a schedule asks for."""
        is_narrowed = self.closing is not None or self.is_about_rejections or not self.selection.is_everything
        return not (is_narrowed or self.dry_run or self.test_clock)


class Sort(NamedTuple):
    """What is counted of what became of items."""

    outcome: Outcome
    reason: Reason | None
    meter: str
    """As OpenMeter knows it; empty for one that it does not know, which may be named by anything."""
    is_again: bool
    """Whether it was reported as it stood in Stripe already."""
    is_beside_ledger: bool
    """Whether it was planned, and the ledger does not know what stands in Stripe."""
    is_carried: bool
    """Whether what earlier periods do not bill is in its quantity."""


def sort_of(one: Result) -> Sort:
    """Return what is counted of what became of an item."""
    found, outcome = one.found, one.outcome
    return Sort(
        outcome,
        one.reason,
        found.meter.slug if found.meter else "",
        is_again=outcome is Outcome.REPORTED and one.moved is None and found.standing == found.quantity,
        is_beside_ledger=outcome is Outcome.PLANNED and found.standing is None,
        is_carried=bool(found.carried),
    )


@dataclass(frozen=True, slots=True)
class RunReport:
    """What became of a run."""

    results: Sequence[Result] = ()
    """What became of each item; of those alone that somebody has to look at, where `sorts` has all."""
    error: MeterSyncError | None = None
    """What ended it before its time, if anything did."""
    requests: Tally = field(default_factory=Counter)
    """What was asked for it."""
    gave_way: bool = False
    """Whether an item was left to another writer, which may be about an earlier instant."""
    refused: frozenset[str] = frozenset()
    """The items whose write Stripe refused."""
    is_new_to_usage: bool = False
    """Whether Stripe held usage already, and the ledger knew of none: it may be the wrong one."""
    said_before: frozenset[PeriodKey] = frozenset()
    """The items' periods of which an earlier run has said the same."""
    sorts: Counter[Sort] | None = None
    """How many items there are of each sort, where what is well was put away."""

    @property
    def tally(self) -> Counter[Sort]:
        """How many items there are of each sort, in the order in which the first of each was met."""
        return Counter(map(sort_of, self.results)) if self.sorts is None else self.sorts

    def without_what_is_well(self) -> "RunReport":
        """Return this with no more of the items that nobody has to look at than how many they are."""
        kept = [one for one in self.results if exit_code([(one.outcome, one.reason)]) is not ExitCode.DONE]
        return replace(self, results=kept, sorts=self.tally)

    @property
    def stripe_requests(self) -> int:
        """How many requests Stripe was sent."""
        return sent_to("stripe", self.requests)

    @property
    def openmeter_requests(self) -> int:
        """How many requests OpenMeter was sent."""
        return sent_to("openmeter", self.requests)

    @property
    def pages(self) -> int:
        """How many pages of subscriptions and their items Stripe has answered with."""
        return sum(count for one, count in self.requests.items() if one.endpoint in _LISTS and one.status == _ANSWERED)

    @property
    def counts(self) -> dict[str, int]:
        """How many items ended in each outcome."""
        found = Counter[str]()
        for sort, count in self.tally.items():
            found[sort.outcome.value] += count
        return dict(found)

    @property
    def exit_code(self) -> ExitCode:
        """The code to exit with: the gravest of the error's and the items'."""
        every: Iterable[Sort | Result] = self.results if self.sorts is None else self.sorts
        items = exit_code((one.outcome, one.reason) for one in every)
        return items if self.error is None else gravest(self.error.exit_code, items)

    def looked_at(self, subscription: str | None) -> bool:
        """Say whether what an event asked for was done: each item of its subscription was looked at, and none failed.

        None is for an event that names no subscription, so that it has no items: for that a run has to have come to its
        end, whatever became of single items.
        """
        is_over = all(one.reason is not Reason.INTERRUPTED for one in self.results)
        failed = {one.item.subscription.id for one in self.results if one.outcome is Outcome.FAILED}
        return self.error is None and not self.gave_way and is_over and subscription not in failed

    def and_then(self, later: "RunReport") -> "RunReport":
        """Return this together with what became of a later part of the run, or a later run, of each period the last."""
        each_once = {one.item.key: one for one in (*self.results, *later.results)} if self.results else {}
        first_said = {one.item.key for one in self.results} - self.said_before
        return replace(
            later,
            results=list(each_once.values() or later.results),
            error=self.error or later.error,
            requests=self.requests + later.requests,
            gave_way=self.gave_way or later.gave_way,
            refused=self.refused | later.refused,
            is_new_to_usage=self.is_new_to_usage or later.is_new_to_usage,
            said_before=(self.said_before | later.said_before) - first_said,
        )


@dataclass(frozen=True, slots=True)
class Execution:
    """A run that was carried out, however far it came."""

    run: RunRecord
    report: RunReport
    finished_at: datetime
    seconds: float = 0.0
    """How long it took."""
    is_shadow: bool = False
    """Whether it was about a shadow account."""
    account: str = ""
    """The name of the account that it was about; empty for the only one."""

    @property
    def error(self) -> MeterSyncError | None:
        """What ended it before its time, if anything did."""
        return self.report.error

    def without_error(self) -> "Execution":
        """Return it without what ended it."""
        return replace(self, report=replace(self.report, error=None))


@contextmanager
def named_in_log(run: RunRecord) -> Iterator[None]:
    """Let all that is logged inside say which run it is about, and a bug that ends it too."""
    try:
        with bound_contextvars(run_id=run.id):
            yield
    except Exception as bug:
        bug.add_note(f"{RUN_NOTE}{run.id}")
        raise


def failed_before_it_began(error: MeterSyncError, request: Request, schedule: str, now: datetime) -> Execution:
    """Return the execution of a run that its configuration kept from beginning, or that a bug ended."""
    run = run_record(request, schedule, now)
    return Execution(replace(run, id=run_of(error) or run.id), RunReport(error=error), now)


def run_record(request: Request, schedule: str, now: datetime) -> RunRecord:
    """Return the record of a run that begins now."""
    return RunRecord(
        id=request.run_id or str(uuid.uuid4()),
        started_at=now,
        as_of=(request.as_of or now).astimezone(UTC).replace(microsecond=0),
        schedule=schedule,
        everything=request.selection.is_everything and request.closing is None and not request.is_about_rejections,
        is_alone=not request.is_beside,
        keeps_schedule=not (request.dry_run or request.is_beside or request.test_clock),
    )
