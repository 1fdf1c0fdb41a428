"""What one run shares of its queries, and what is kept of their answers for the next one."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import structlog

from meter_sync.core.billing.item import PeriodKey
from meter_sync.core.metering.queries import Need, QueryPlan
from meter_sync.core.metering.sharing import Corrected, Kept, Series, Sharing, series_of
from meter_sync.core.outcomes import Outcome
from meter_sync.core.planning.stages import Metered, Result
from meter_sync.core.text import digits
from meter_sync.errors import MeterSyncError
from meter_sync.sync.job import Job
from meter_sync.sync.periods import Periods

log = structlog.get_logger()

_AS_IT_SHOULD_BE = (Outcome.REPORTED, Outcome.UNCHANGED)

_FEW = 10

Together = tuple[Sharing, list[Need]]
"""Needs of one series."""


class Shared:
    """The series of one run, from its first question to what is kept of it."""

    def __init__(self, kept: Mapping[Series, Kept], *, begins: datetime, as_of: datetime, is_whole: bool) -> None:
        """Begin a run up to `as_of`, in which no need starts before `begins`; `is_whole` says to believe nothing."""
        self.before = kept
        """What was kept when it began."""
        self._begins = begins
        self._as_of = as_of
        self._is_whole = is_whole
        self._sharings: dict[Series, Sharing | None] = {}
        self._by_window = defaultdict[PeriodKey, list[tuple[Sharing, Need]]](list)

    def parted(self, needs: Iterable[Need]) -> tuple[list[Together], list[Need]]:
        """Return those needs that share queries, by their series, and those that are asked for exactly, one by one."""
        of_series, exact = defaultdict[Series | None, list[Need]](list), list[Need]()
        for need in needs:
            of_series[self._series(need)].append(need)
        together = []
        for series, some in of_series.items():
            sharing = self._sharing(series, some) if series else None
            if sharing:
                together.append((sharing, some))
            else:
                exact += some
        return together, exact

    def _series(self, need: Need) -> Series | None:
        return series_of(need) if need.end <= self._as_of else None

    def _sharing(self, series: Series, needs: Sequence[Need]) -> Sharing | None:
        """Return what shares queries where that asks for less: a few items are asked for one by one.

        That is decided where a series comes up first, with the open periods.
        """
        if series not in self._sharings:
            kept = self.before.get(series)
            is_whole = self._is_whole or kept is None or kept.read_at.date() < self._as_of.date()
            sharing = Sharing(series, kept, begins=self._begins, as_of=self._as_of, is_whole=is_whole)
            is_worth_it = _more_than(len(sharing.queries(needs)), needs)
            is_later = kept is not None and kept.joints[-1] >= self._as_of
            self._sharings[series] = sharing if is_worth_it and not is_later else None
        return self._sharings[series]

    def of(self, need: Need) -> Sharing | None:
        """Return what a need shares, after `parted` has seen it; None where it is asked for exactly."""
        series = self._series(need)
        return self._sharings.get(series) if series else None

    def windows_known_until(self, one: Metered, written: datetime | None) -> datetime | None:
        """Return up to where the hours or days of an item are as they were when they were read last, or None.

        The item is one of whose whole period the needs were seen by `parted`. `written` is the instant of the run that
        meant to write it last, None where there was none.
        """
        shared = [(sharing, need) for need in one.needs if (sharing := self.of(need))]
        self._by_window[one.item.key] = shared
        if written is None or len(shared) < len(one.needs):
            return None
        known = [(need, sharing.windows_known_until(need, written)) for sharing, need in shared]
        until = max((end for _, end in known if end), default=None)
        return until if until and all(end for need, end in known if need.start < until) else None

    def ended(self, results: Iterable[Result]) -> dict[Series, Kept]:
        """Given what became of the items, return what is to be kept after this run.

        Hours and days are known only where Stripe was told all of what was read.
        """
        for one in results:
            if one.outcome in _AS_IT_SHOULD_BE and not one.gave_way:
                for sharing, need in self._by_window.get(one.item.key, ()):
                    sharing.windows_read(need)
        return {series: sharing.kept() for series, sharing in self._sharings.items() if sharing}

    @property
    def corrected(self) -> Corrected:
        """How far what was kept was from what was read, although nothing showed it."""
        found = [sharing.corrected for sharing in self._sharings.values() if sharing]
        return Corrected(sum(one.needs for one in found), sum((one.usage for one in found), start=Decimal(0)))

    @property
    def is_compared(self) -> bool:
        """Whether something that was kept was compared with what was read."""
        return any(sharing.is_compared for sharing in self._sharings.values() if sharing)


def _more_than(queries: int, needs: Sequence[Need]) -> bool:
    """Say whether needs take more queries than so many where each is asked for exactly: mostly the first few do."""
    return any(len(QueryPlan(some).queries) > queries for some in (needs[: _FEW * queries], needs))


def recall_shared(job: Job, periods: Periods) -> Shared | None:
    """Return what a run shares, with what is kept; None for a run of a part, which asks for each item exactly."""
    if not job.run.everything:
        return None
    metered = [one for one in periods.open.items if isinstance(one, Metered)]
    return _shared(job, metered, [one.item.period.start for one in periods.ended], job.run.as_of)


def shared_to_compare(job: Job, items: Sequence[Metered], as_of: datetime) -> Shared | None:
    """Return the same for items that are compared as of the last run: it has kept what was read for it."""
    return _shared(job, items, [], as_of)


def _shared(job: Job, items: Sequence[Metered], ended: Iterable[datetime], as_of: datetime) -> Shared | None:
    """Return what is shared by items and by periods that have ended, which started at these instants."""
    starts = [*(one.span.start for one in items), *ended]
    if not starts:
        return None
    # A dry run forgets nothing, and does not believe a restored ledger.
    kept = {} if job.writer is None and job.ledger.epochs.is_restored() else job.ledger.kept.read(items)
    return Shared(kept, begins=min(starts), as_of=as_of, is_whole=job.policy.reads_everything)


def keep(job: Job, shared: Shared | None, results: Iterable[Result]) -> None:
    """Record what is kept after a run, and say how much of it had to be corrected. No run fails by it.

    A dry run keeps nothing.
    """
    if shared is None:
        return
    if shared.is_compared:
        _tell_how_far_it_was(shared.corrected)
    if job.writer is None:
        return
    try:
        job.ledger.kept.record(shared.before, shared.ended(results))
    except MeterSyncError as error:
        log.warning("usage_not_kept", message=f"{error.message}; the next run asks for more of it")


def _tell_how_far_it_was(corrected: Corrected) -> None:
    by = digits(corrected.usage)
    if corrected.needs:
        log.warning("kept_usage_compared", wrong=corrected.needs, by=by, message="what was kept of usage was corrected")
    else:
        log.info("kept_usage_compared", wrong=0, by=by)
