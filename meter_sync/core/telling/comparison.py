"""Comparing what Stripe holds with what OpenMeter says, and explaining a difference where it can be told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from meter_sync.core.billing.item import Target
from meter_sync.core.billing.quantity import InvalidUsage, billable, within_digits, without_noise
from meter_sync.core.metering.queries import Unanswered, combined
from meter_sync.core.outcomes import ExitCode, Outcome, Reason, exit_code
from meter_sync.core.planning.memory import Remembered
from meter_sync.core.planning.obstacles import invalid, obstacle, starts_later
from meter_sync.core.planning.plan import need_names
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import skipped
from meter_sync.core.planning.stages import Findings, Metered, Result
from meter_sync.core.planning.windows import SUMMARIES_LAG_AT_MOST
from meter_sync.core.text import utc


class Verdict(StrEnum):
    """The one thing that was found out about an item."""

    MATCH = "match"
    MISMATCH = "mismatch"
    SKIPPED = "skipped"
    FAILED = "failed"


class Explanation(StrEnum):
    """Why Stripe holds something else than OpenMeter says: stable codes of the public interface."""

    NOT_REPORTED = "not_reported"
    """The usage was never reported, or its last report did not arrive."""
    FOREIGN_USAGE = "foreign_usage"
    """Stripe holds something else than it acknowledged: somebody else reported, or changed it."""
    LATE_EVENTS = "late_events"
    """Stripe holds what was reported, and OpenMeter says something else for that time by now."""
    REJECTED = "rejected"
    """Stripe took events, and holds less."""
    ROUNDING = "rounding"
    """The two differ by less than one unit."""
    SUMMARY_LAGS = "summary_lags"
    """Stripe holds less than it acknowledged a short while ago; its summary may not show all of it yet."""
    MAPPING_CHANGED = "mapping_changed"
    METER_STARTS_LATER = "meter_starts_later"
    """The way of metering changed within the period."""
    PERIOD_CLOSED = "period_closed"
    """A run has named already what the invoice of a closed period lacks."""
    UNSETTLED = "unsettled"
    """Whether an addition arrived is not known yet."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger says of an item in its period."""

    remembered: Remembered | None = None
    intended: int | None = None
    """The quantity of its last report, also where Stripe refused it."""
    last_report: datetime | None = None
    """The instant that its last report was about, or the last run which found nothing to report of it."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A metered item, and what Stripe should hold of it."""

    metered: Metered
    usage: Decimal
    quantity: int
    carried: int = 0
    """How much of that earlier periods do not bill."""

    @property
    def found(self) -> Findings:
        """What is known of it."""
        return replace(self.metered.found, usage=self.usage, quantity=self.quantity, carried=self.carried)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found out about an item; `found.span` ends where its usage was read until."""

    found: Findings
    verdict: Verdict
    reason: Reason | Explanation | None = None
    message: str | None = None
    expected: int | None = None
    """What Stripe should hold for the period, as OpenMeter says."""
    actual: int | None = None
    """What it holds."""

    @property
    def difference(self) -> int | None:
        """How much more Stripe holds than it should; less is negative. None where that is not known."""
        return None if self.expected is None or self.actual is None else self.actual - self.expected

    @property
    def needs_attention(self) -> bool:
        """Whether a person should look at it."""
        return verify_exit_code([self]) is not ExitCode.DONE


def last_report(last_complete_run: datetime | None, remembered: Remembered | None) -> datetime | None:
    """Return the instant that the last report of an item was about, or None before the first.

    `last_complete_run` is that of the last run over the whole account, which found an item unchanged if it was not
    written since.
    """
    reports = [last_complete_run, remembered.as_of if remembered else None]
    return max((report for report in reports if report), default=None)


def read_until(last: datetime | None, now: datetime, reported_within: timedelta) -> datetime:
    """Given the instant of the last report, return until when usage is to be read and compared with what Stripe holds.

    What was used since the last report is the next run's, and no difference. If there was none within
    `reported_within`, usage is read until now: then it is the reports that are missing.
    """
    return last if last and now - last <= reported_within else now


def until(metered: Metered, instant: datetime) -> Metered | Result:
    """Given an item, return it with its usage up to an instant, or a skip where none can have been reported."""
    span = metered.span
    if instant <= span.start:
        message = "its period began after the last report: there is nothing to compare yet"
        return skipped(metered.found, Reason.NOT_STARTED, message)
    return metered.until(instant)


def not_compared(one: Result) -> Comparison:
    """Given an item that a run would hold or skip before asking for its usage, return that it was not compared."""
    return Comparison(one.found, Verdict.SKIPPED, one.reason, one.message)


def failed(found: Findings, reason: Reason, message: str) -> Comparison:
    """Return that something that had to be known of an item could not be found out."""
    return Comparison(found, Verdict.FAILED, reason, message, expected=found.quantity)


def total_of(metered: Metered, totals: Mapping[str, Decimal | Unanswered]) -> Decimal | Unanswered:
    """Given the total of each need, return that of an item's usage, also where it is reported by the hour or day."""
    found = [totals[name] for name in need_names(metered)]
    values = [one for one in found if isinstance(one, Decimal)]
    lacking = next((one for one in found if isinstance(one, Unanswered)), None)
    return lacking or combined(metered.meter.aggregation, values)


def expected_of(
    metered: Metered, usage: Decimal | Unanswered, remembered: Remembered | None, carried: int = 0
) -> Expected | Comparison:
    """Given an item and the total of its usage, return what Stripe should hold, or why that is not known.

    What Stripe takes no more, in hours that are too old, is not expected: a run has named it as `period_closed`.
    `carried` is what was added to it of what earlier periods do not bill.
    """
    if isinstance(usage, Unanswered):
        return failed(metered.found, Reason.OPENMETER_ERROR, usage.message)
    try:
        usage = without_noise(usage)
        quantity = billable(usage, metered.row.scale, metered.row.rounding)
        if metered.way.target is Target.METER_EVENT and not metered.way.is_by_window:
            within_digits(quantity)
    except InvalidUsage as error:
        return not_compared(invalid(replace(metered.found, usage=usage), error))
    return Expected(metered, usage, quantity + carried - (remembered.lacking if remembered else 0), carried)


def compare(one: Expected, actual: int, known: Known, now: datetime) -> Comparison:
    """Given what Stripe should hold, what it holds and what the ledger knows, return how the two compare."""
    if actual == one.quantity:
        return Comparison(one.found, Verdict.MATCH, expected=one.quantity, actual=actual)
    return Comparison(one.found, Verdict.MISMATCH, *_explained(one, actual, known, now), one.quantity, actual)


def not_verified(one: Expected, foreign: int) -> Comparison:
    """Given what others' events add up to in the minute in which a period begins, return that it is not compared."""
    message = (
        f"not verified: events that are not from this program add up to {foreign} in the minute in which the period "
        "begins, and no summary tells whether it bills them: find out who sent them; once its invoice is final, "
        "verify --closed compares it"
    )
    return Comparison(one.found, Verdict.SKIPPED, Reason.FOREIGN_USAGE, message, one.quantity)


Explained = tuple[Explanation, str]


def _explained(one: Expected, actual: int, known: Known, now: datetime) -> Explained:
    """Explain a difference, by what is known for certain first."""
    remembered, policy = known.remembered, Policy(now=now, as_of=now)
    hindered = starts_later(one.found, remembered, policy)
    if remembered and not hindered:
        hindered = obstacle(one.found, one.metered.method, remembered, policy)
    if hindered and hindered.reason and hindered.message:
        return Explanation(hindered.reason.value), hindered.message
    if remembered is None:
        return _without_report(one, actual)
    wanted = remembered.quantity if known.intended is None else known.intended
    if remembered.foreign_held:
        return Explanation.FOREIGN_USAGE, (
            f"usage records that are not from this program hold {remembered.foreign} in this period; runs hold the "
            "item as foreign_usage and say what to do"
        )
    if _lacks_a_report(remembered, wanted, actual):
        return Explanation.NOT_REPORTED, (
            f"the last report, of {wanted}, was refused or had no answer: the next run reports it again"
        )
    if actual in {remembered.acknowledged, remembered.quantity}:
        if known.last_report and known.last_report < one.metered.span.end:
            return Explanation.NOT_REPORTED, (
                f"there was no run since the one for {utc(known.last_report)}, of which Stripe holds the "
                f"{actual}: look at cron or the timer"
            )
        return _since_the_report(one, actual, remembered)
    return _not_as_acknowledged(one, actual, remembered, now)


def _without_report(one: Expected, actual: int) -> Explained:
    if rounding := _by_rounding(one, actual):
        return rounding
    if actual < one.quantity:
        return Explanation.NOT_REPORTED, (
            f"the ledger has no report of it in this period, and Stripe holds {actual}: the next run reports it; if "
            "it stays so, look at what that run says of it"
        )
    return Explanation.FOREIGN_USAGE, (
        f"the ledger has no report of it in this period, but Stripe holds {actual}: from a ledger that was lost, or "
        "from another program; the next run tells them apart before it writes"
    )


def _lacks_a_report(remembered: Remembered, wanted: int, actual: int) -> bool:
    """Say whether a report that was refused, or had no answer, explains what Stripe holds: it is there in part."""
    if remembered.total_before is not None:
        return True
    standing = remembered.acknowledged or 0
    return wanted not in {actual, standing} and min(standing, wanted) <= actual <= max(standing, wanted)


def _since_the_report(one: Expected, actual: int, remembered: Remembered) -> Explained:
    """Explain what differs from a report that Stripe holds."""
    if rounding := _by_rounding(one, actual):
        return rounding
    reported, read = remembered.as_of, one.metered.span.end
    since = "events came late" if read <= reported else "events came late, or the runs since then held it or failed"
    fell = one.metered.meter.aggregation.never_falls and one.quantity < actual
    then = "the decrease brake may hold the next run: find out why it fell" if fell else "the next run reports it"
    return Explanation.LATE_EVENTS, (
        f"Stripe holds the {actual} that was reported for {utc(reported)}, and OpenMeter says "
        f"{one.quantity} by now for the time until {utc(read)}: {since}; {then}"
    )


def _not_as_acknowledged(one: Expected, actual: int, remembered: Remembered, now: datetime) -> Explained:
    """Explain that Stripe holds something else than it acknowledged to this program.

    Usage records are read as they are. Summaries of billing meters lag, so one that shows too little is not believed
    for a day; after that Stripe has rejected what it took, without this program knowing it.
    """
    acknowledged = remembered.acknowledged or 0
    if one.metered.way.target is Target.METER_EVENT and actual < acknowledged:
        since = remembered.acknowledged_at
        if since is not None and now - since < SUMMARIES_LAG_AT_MOST:
            return Explanation.SUMMARY_LAGS, (
                f"Stripe's summary has {actual} of the {acknowledged} that it took: summaries lag, mostly by minutes; "
                "verify it again later, and if it stays so for a day, look for rejected events"
            )
        return Explanation.REJECTED, (
            f"Stripe took {acknowledged}, and holds {actual}: events were rejected later, or cancelled by somebody "
            "else; look at the meter's errors in Stripe, remove the cause, and report it again with run --resend"
        )
    return Explanation.FOREIGN_USAGE, (
        f"Stripe holds {actual}, but acknowledged {acknowledged} to this program: somebody else reported usage for it, "
        "or changed it; find out who, stop that, and report it again with run --resend"
    )


def _by_rounding(one: Expected, actual: int) -> Explained | None:
    """Explain that what Stripe holds is the usage but for a fraction of a unit, or return None where it is not."""
    exact = one.usage * one.metered.row.scale + one.carried
    if abs(exact - actual) >= 1:
        return None
    return Explanation.ROUNDING, (
        f"before rounding it is {exact.normalize():f}, less than one unit away: it was rounded in another way, or "
        "corrected by a fraction; the next run reports it"
    )


_OUTCOMES = {
    Verdict.MATCH: (Outcome.UNCHANGED,),
    Verdict.MISMATCH: (Outcome.UNCHANGED, Outcome.HELD),
    Verdict.SKIPPED: (Outcome.SKIPPED,),
    Verdict.FAILED: (Outcome.FAILED,),
}
"""What each verdict counts as for the exit code: a difference was found out, and a person should look at it."""


def verify_exit_code(comparisons: Iterable[Comparison]) -> ExitCode:
    """Given what was found out about each item, return the exit code.

    Where several codes hold the gravest wins: failed, partial, look.
    """
    return exit_code(
        (outcome, one.reason if isinstance(one.reason, Reason) else None)
        for one in comparisons
        for outcome in _OUTCOMES[one.verdict]
    )
