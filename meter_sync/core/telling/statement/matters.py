"""What of an item's period somebody has to look at, or to know of, in words."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal

from meter_sync.core.outcomes import HARMLESS, Outcome, Reason
from meter_sync.core.planning import period_closed
from meter_sync.core.telling.statement.figures import Bridge, Matter, MatterKind, State
from meter_sync.core.telling.statement.position import Position, bridge_of
from meter_sync.core.text import utc

_BY_OUTCOME = {
    Outcome.HELD.value: MatterKind.HELD,
    Outcome.FAILED.value: MatterKind.FAILED,
    Outcome.SKIPPED.value: MatterKind.SKIPPED,
}
_SETTLE, _EXPLAIN = "meter-sync history --settle {item} {start} --note '…'", "meter-sync history --explain {item}"
_TO_DO: Mapping[MatterKind, tuple[str, str]] = {
    MatterKind.INVOICE_DIFFERS: ("Find out who has changed what is billed, and correct the invoice.", _EXPLAIN),
    MatterKind.OVER_BILLED: ("Give it back, for example by a credit note, and then have it settled.", _SETTLE),
    MatterKind.UNBILLED: (
        "Bill it by hand, for example by an invoice item, or waive it, and have it settled.",
        _SETTLE,
    ),
    MatterKind.UNKNOWN: ("Look at the customer's invoices, bill what they lack, and then have it settled.", _SETTLE),
    MatterKind.HELD: ("Have it looked at whether the usage is right: it is let through, or corrected.", _EXPLAIN),
    MatterKind.REJECTED: ("Have it looked at; the next run reports it once more.", _EXPLAIN),
    MatterKind.FAILED: ("Have it looked at why, before the invoice is final.", _EXPLAIN),
    MatterKind.SKIPPED: ("Have it looked at why, before the invoice is final.", _EXPLAIN),
}
"""What somebody has to do, and what whoever runs this program types for that."""
NEEDS_SOMEBODY = frozenset(_TO_DO)
"""The matters that wait for a person."""


def matters_of(one: Position, state: State, as_of: datetime) -> Iterator[Matter]:
    """Yield what there is to say of an item's period, seen from the instant of the last complete run."""
    lacking = one.lacking
    if one.rejected and state is not State.BILLED:
        yield _matter(MatterKind.REJECTED, one, None, None, as_of, f"Stripe rejected what it had taken: {one.rejected}")
    if one.obstacle and one.is_held and not one.is_closed and not _is_told_otherwise(one, state):
        is_rejected = one.obstacle.reason == Reason.REJECTED.value
        kind = MatterKind.REJECTED if is_rejected else _BY_OUTCOME.get(one.obstacle.outcome, MatterKind.HELD)
        is_told = one.is_metered and state is not State.BILLED and not is_rejected
        held = abs(bridge_of(one, state).held) if is_told else None
        why = one.obstacle.message or one.obstacle.reason
        yield _matter(kind, one, held, one.obstacle.since, as_of, why)
    if state is State.FREE:
        return
    if lacking.is_unknown and state is State.BILLED:
        unknown = abs(bridge_of(one, state).unknown) + abs(lacking.open_quantity)
        yield _matter(MatterKind.UNKNOWN, one, unknown, lacking.named_at, as_of, lacking.not_known or "")
    elif lacking.open_quantity and not lacking.waits:
        kind = MatterKind.UNBILLED if lacking.open_quantity > 0 else MatterKind.OVER_BILLED
        why = lacking.why or period_closed.in_words(lacking.open_quantity)
        yield _matter(kind, one, abs(lacking.open_quantity), lacking.named_at, as_of, why)
    if lacking.settled_at is not None or lacking.is_forgiven:
        settled = abs(bridge_of(one, state).settled)
        yield _matter(MatterKind.SETTLED, one, settled, lacking.named_at, as_of, lacking.why or "")


def _is_told_otherwise(one: Position, state: State) -> bool:
    """Say whether what keeps a period from being reported leaves nothing unbilled, or is named with what it lacks."""
    reason = one.obstacle.reason if one.obstacle else ""
    return reason in HARMLESS or (reason == Reason.FOREIGN_USAGE.value and state is State.BILLED)


def differing(one: Position, state: State, bridge: Bridge, invoiced: int) -> Matter | None:
    """Return the matter of a period whose invoice bills something else than is known of it; None where it does not.

    Where a line may be in another unit, of several items or only of a part of the period, that cannot be told.
    """
    is_comparable = one.item.price.is_per_unit and not one.item.is_cut and one.item.cycle_start is None
    if state is not State.BILLED or not is_comparable or one.is_unknown or bridge.billed == invoiced:
        return None
    why = f"its invoice bills {invoiced}, and {bridge.billed} is what was found out when it was concluded"
    return _matter(MatterKind.INVOICE_DIFFERS, one, abs(bridge.billed - invoiced), None, None, why)


def _matter(
    kind: MatterKind, one: Position, quantity: int | None, since: datetime | None, as_of: datetime | None, why: str
) -> Matter:
    whose, lacking = one.whose, one.lacking
    to_do, command = _TO_DO.get(kind, (None, None))
    is_settled = kind is MatterKind.SETTLED
    return Matter(
        kind=kind,
        customer=whose.customer,
        subscription=whose.subscription,
        item=whose.item,
        period=whose.period,
        meter=whose.meter,
        quantity=None if quantity is None else Decimal(quantity),
        since=since,
        age_days=None if since is None or as_of is None else max((as_of - since).days, 0),
        reason=period_closed.without_advice(why),
        to_do=to_do,
        command=command and command.format(item=whose.item, start=utc(whose.period.start)),
        note=lacking.note if is_settled else None,
        settled_at=lacking.settled_at if is_settled else None,
    )
