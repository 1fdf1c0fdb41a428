"""Saying of items that the ledger did not take a row about them."""

from collections.abc import Sequence
from dataclasses import replace

from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.results import failed
from meter_sync.core.planning.stages import Findings, Result
from meter_sync.ledger import Ledger
from meter_sync.ledger.snapshot import nothing_but


def with_refused(ledger: Ledger, results: Sequence[Result]) -> list[Result]:
    """Return what became of items; one of which the ledger did not take all that was found out of it has failed."""
    if not ledger.refused:
        return list(results)
    return [_told(one, refused.why) if (refused := ledger.refused.get(one.item.key)) else one for one in results]


def refused_only(ledger: Ledger, results: Sequence[Result]) -> list[Result]:
    """Return that items have failed which are not among these results, since nothing could be recorded of them.

    Or since what was recorded cannot be read.
    """
    told = {one.item.key for one in results} if ledger.refused else set()
    named = {one.item.id for one in results} if ledger.damaged else set()
    unread = [
        failed(Findings(nothing_but(id, why)), Reason.LEDGER_ERROR, why)
        for id, why in ledger.damaged.items()
        if id not in named
    ]
    return unread + [
        failed(Findings(refused.item), Reason.LEDGER_ERROR, f"{refused.why}; nothing was written for it")
        for key, refused in ledger.refused.items()
        if refused.item and key not in told
    ]


def _told(one: Result, why: str) -> Result:
    """Return that an item has failed; what became of it otherwise is told with that."""
    if one.outcome is Outcome.FAILED:
        return one
    is_sent = one.outcome is Outcome.REPORTED
    became = "Stripe has taken what was reported, and the next run records that" if is_sent else one.message
    message = "; ".join(part for part in (why, became) if part)
    return replace(one, outcome=Outcome.FAILED, reason=Reason.LEDGER_ERROR, message=message)
