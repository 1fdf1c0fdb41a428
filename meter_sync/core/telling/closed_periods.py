"""Comparing what invoices bill of periods that are closed with what OpenMeter says of them by now."""

from dataclasses import dataclass, replace

from meter_sync.core.billing.intake import INVOICE_COMES_WITHIN
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning import period_closed
from meter_sync.core.planning.memory import Remembered
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import skipped
from meter_sync.core.planning.stages import Metered
from meter_sync.core.telling.comparison import Comparison, Expected, Explanation, Verdict, not_compared


@dataclass(frozen=True, slots=True)
class Accounted:
    """What the ledger says of what a closed period's invoice lacks."""

    settled: int = 0
    """What a person has settled of it, or a later period bills, by sign."""
    named: int = 0
    """What was named of it and waits for a person, or for the item's next period."""
    not_known: str | None = None
    """Why it is not known what it lacks…"""
    is_settled: bool = False
    """… and whether a person has settled that, however much it was."""


@dataclass(frozen=True, slots=True)
class Line:
    """What an invoice has of an item's period."""

    quantity: int | None
    """Over all its lines; None where one of them does not say."""
    is_draft: bool | None
    """None in a status that this version does not know."""
    is_void: bool


def is_awaited(metered: Metered, line: Line | None, policy: Policy) -> bool:
    """Say whether a period's invoice may still come or change: runs report of it, and there is nothing to compare."""
    if line:
        return line.is_draft is not False
    return policy.now - metered.item.period.end < INVOICE_COMES_WITHIN


def compare_closed(
    one: Expected, line: Line | None, remembered: Remembered | None, accounted: Accounted, policy: Policy
) -> Comparison:
    """Given what was used of a closed period, and what its invoice and the ledger say, return how they compare.

    What a person has settled, and what a later period bills, is not expected of the invoice.
    """
    if line and line.is_void and policy.forgives_voided:
        return not_compared(skipped(one.found, Reason.IGNORED, "its invoice was voided, which is forgiven"))
    billed, note = _billed(one.metered, line, remembered)
    if billed is None:
        return Comparison(one.found, Verdict.SKIPPED, Reason.UNSETTLED, _NOT_VERIFIED, one.quantity)
    expected = replace(one, quantity=one.quantity - accounted.settled)
    if billed == expected.quantity or accounted.is_settled:
        note = "it was not known what it lacks, and a person has settled it" if accounted.is_settled else note
        return Comparison(expected.found, Verdict.MATCH, message=note, expected=expected.quantity, actual=billed)
    reason, message = _explained(expected, billed, accounted)
    said = f"{message}; {note}" if note else message
    return Comparison(expected.found, Verdict.MISMATCH, reason, said, expected.quantity, billed)


_NOT_VERIFIED = (
    "not verified: the line of its invoice is not known to be in units of usage, or is of several items, and the "
    "ledger has no report of the period; look at the invoice"
)


def _billed(metered: Metered, line: Line | None, remembered: Remembered | None) -> tuple[int | None, str | None]:
    """Return what is billed of a period, and what a person should know of that number.

    Where no line says it in units of usage of the item alone, what Stripe acknowledged stands in for it.
    """
    if line is None or line.is_void:
        return 0, None
    is_its_own = metered.stretches is None and not metered.row.shared
    if metered.item.price.is_per_unit and is_its_own and line.quantity is not None:
        return line.quantity, None
    if remembered is None or remembered.acknowledged is None:
        return None, None
    return remembered.acknowledged, "compared with what Stripe acknowledged: its invoice's line tells no units of usage"


def _explained(one: Expected, billed: int, accounted: Accounted) -> tuple[Explanation, str]:
    lacking = one.quantity - billed
    in_words = period_closed.in_words(lacking)
    if accounted.not_known:
        return Explanation.PERIOD_CLOSED, f"{in_words} of this period: {accounted.not_known}"
    if lacking == accounted.named:
        return Explanation.PERIOD_CLOSED, (
            f"{in_words} of this period, as a run has named it: see meter-sync history --unbilled"
        )
    named = f", of which a run has named {abs(accounted.named)}" if accounted.named else ""
    return Explanation.LATE_EVENTS, (
        f"the invoice bills {billed} and OpenMeter says {one.quantity} by now: {in_words}{named}; it changed after the "
        "period was watched, or somebody else changed what Stripe bills: settle this by hand, for example with an "
        "invoice item or a credit note"
    )
