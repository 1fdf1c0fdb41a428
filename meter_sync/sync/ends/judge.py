"""What the result of a period that has ended says of it: how far it has come, and what Stripe bills of it."""

from dataclasses import dataclass, replace
from datetime import datetime

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning import conclusion, period_closed
from meter_sync.core.planning.brakes import BRAKES
from meter_sync.core.planning.conclusion import Billed, Concluded, NotKnown
from meter_sync.core.planning.stages import Listed, Result
from meter_sync.ledger.conclusions import Conclusion, News
from meter_sync.ledger.listed import CLOSED_WITHIN, Seen
from meter_sync.sync.job import Job

_NOT_SHOWN = "Stripe did not show for days what it took of the period"
"""Why it is not known what Stripe bills, where what became of the item says nothing of it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A period that has ended, and what Stripe does with usage of it."""

    seen: Seen
    listed: Listed
    is_invoiced: bool | None = None
    not_known: str | None = None
    """Why it is not known whether anything bills what was reported of it, and will never be."""

    @property
    def item(self) -> SubscriptionItem:
        """The subscription item, in this period."""
        return self.seen.item


def as_far_as_known(one: Ended, result: Result) -> Result:
    """Return what became of a period as a person is to be told of it.

    Where it is not known whether it is billed, and where that is known again, it is held once. What a person has
    settled as unknown stays settled, whatever Stripe says of it later.
    """
    was_unknown = isinstance(one.seen.concluded, NotKnown)
    if result.lacking is None:
        return result
    if one.not_known is not None:
        if was_unknown and result.outcome is not Outcome.HELD:
            return result
        message = _not_known(one.not_known, result, result.lacking)
    elif not was_unknown:
        return result
    elif one.seen.settled_at or not result.lacking:
        return replace(result, outcome=Outcome.UNCHANGED, reason=None, message=None)
    else:
        message = period_closed.message(one.listed.intake, result.lacking)
    return replace(result, outcome=Outcome.HELD, reason=Reason.PERIOD_CLOSED, message=message)


def _not_known(whether: str, result: Result, lacking: int) -> str:
    return period_closed.not_known(whether, result.found.quantity or 0, lacking)


def is_others(result: Result) -> bool:
    """Say whether all of an item's period is billed by others: there is nothing to be told of it."""
    return result.reason is Reason.NOT_STARTED


def concluded(job: Job, one: Ended, result: Result) -> Conclusion:
    """Return what a result says about the end of a period."""
    takes_no_more = not one.listed.intake.is_open
    is_settled = takes_no_more and (result.lacking is not None or is_others(result))
    is_reported = result.outcome in (Outcome.REPORTED, Outcome.UNCHANGED) or result.reason is Reason.PERIOD_CLOSED
    is_complete = is_reported and not result.gave_way
    is_over = is_watched_no_more(job, one.seen)
    is_closed = (takes_no_more and is_others(result)) or (is_over and not _is_tried_again(job, one.seen, result))
    closed_as = _at_last(one, result) if is_closed else None
    so_far = _so_far(one, result, is_over=is_over)
    found = closed_as or so_far
    is_told = result.outcome is not Outcome.PLANNED and (one.listed.intake.is_open or so_far is not None)
    due = _due(result) if is_told else None
    return Conclusion(
        *one.item.key,
        complete_until=job.run.as_of if is_complete else None,
        is_refused=takes_no_more,
        is_invoiced=one.is_invoiced,
        is_read_back=takes_no_more and result.lacking is not None,
        news=_news(one.seen, found, result) if found else None,
        closed_as=closed_as,
        own=result.found.own if is_settled else None,
        usage=None if due is None else result.found.usage,
        due=due,
        invoice=one.listed.invoice,
    )


def _due(result: Result) -> int | None:
    """Return what is to be billed of a period: what Stripe bills, or will, and what that lacks.

    Of what a brake holds that is the quantity itself: it says what was to be written, not what stands.
    """
    found = result.found
    if found.usage is None or found.quantity is None:
        return None
    is_braked = result.outcome is Outcome.HELD and result.reason in BRAKES
    return found.quantity + (0 if is_braked else result.lacking or 0)


def _so_far(one: Ended, result: Result, *, is_over: bool) -> Concluded | None:
    """Return what Stripe bills of a period, as far as this run can tell; None where that is still open."""
    # What fell waits for a person as long as the period is watched.
    is_held = result.outcome is Outcome.HELD and result.reason is Reason.DECREASE
    if result.lacking is None or (is_held and not is_over):
        return None
    if one.not_known is not None:
        return NotKnown(_not_known(one.not_known, result, result.lacking), result.lacking)
    return conclusion.of(result.lacking)


def _at_last(one: Ended, result: Result) -> Concluded:
    """Return what Stripe bills of a period that is closed with this.

    That is not known where nothing was found out about it, or where usage was lost of which nobody has said that it
    was none.
    """
    concluded = _so_far(one, result, is_over=True)
    before = conclusion.lacking(one.seen.concluded)
    if result.reason in {Reason.IGNORED, Reason.NOT_STARTED} or result.outcome is Outcome.PLANNED:
        return concluded or one.seen.concluded or Billed()
    if result.item.period.start == result.item.period.end:
        return Billed()  # nothing was used in no time
    if concluded is None:
        return NotKnown(result.message or _NOT_SHOWN, before)
    if result.found.falls and not isinstance(concluded, NotKnown):
        return NotKnown(result.message or _NOT_SHOWN, conclusion.lacking(concluded))
    return concluded


def _news(seen: Seen, concluded: Concluded, result: Result) -> News | None:
    """Return what is said of a period, unless it was said before.

    Who has settled what is not known of a period has settled all of it.
    """
    before, lacking = seen.concluded, conclusion.lacking(concluded)
    was_unknown = isinstance(before, NotKnown)
    is_other_way = lacking != 0 and result.late_usage is not seen.late_usage
    is_same = lacking == conclusion.lacking(before) and was_unknown == isinstance(concluded, NotKnown)
    if (is_same and not is_other_way) or (was_unknown and seen.settled_at):
        return None
    why = concluded.why if isinstance(concluded, NotKnown) else result.message
    return News(concluded, why, result.late_usage)


def _is_tried_again(job: Job, seen: Seen, result: Result) -> bool:
    """Say whether a period that is watched no longer is looked at once more.

    That is one that failed, was left to another run, or of which Stripe does not show yet what it took.
    """
    is_not_told = result.outcome is Outcome.UNCHANGED and result.lacking is None
    return (result.outcome is Outcome.FAILED or result.gave_way or is_not_told) and is_asked_again(job, seen)


def is_asked_again(job: Job, seen: Seen) -> bool:
    """Say whether what was not answered is asked again: as long as a period is watched, and a day longer."""
    return job.run.as_of <= _watched_until(job, seen) + CLOSED_WITHIN


def _watched_until(job: Job, seen: Seen) -> datetime:
    """Return until when a period is watched: one whose invoice was voided after that, until it is named."""
    until = seen.item.period.end + job.policy.lookback
    return max(until, seen.voided_at) if seen.voided_at else until


def is_watched_no_more(job: Job, seen: Seen) -> bool:
    """Say whether a period ended so long ago that it is looked at for the last time."""
    return job.run.as_of > seen.item.period.end + job.policy.lookback
