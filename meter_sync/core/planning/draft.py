"""What every plan of an item begins with: what stood before, and whether anything may be written at all."""

from dataclasses import replace
from decimal import Decimal

from meter_sync.core.billing.item import Target
from meter_sync.core.billing.way import Way
from meter_sync.core.planning.additions import sums_alone
from meter_sync.core.planning.carrying import becomes_of_late, named_before, total_of
from meter_sync.core.planning.foreign import can_be_topped_up, foreign_usage
from meter_sync.core.planning.looks import FirstLook, LookAgain, LookBeside, ReadBack, UnfinishedLook
from meter_sync.core.planning.memory import Carried, Memory, Remembered
from meter_sync.core.planning.obstacles import fell_back, made_anew, obstacle, starts_later, unsettled
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.sends import SendNothing
from meter_sync.core.planning.stages import Findings, Look, Metered, Planned, Result, Write


def found_before(metered: Metered, remembered: Remembered | None) -> Findings:
    """Given an item and what is remembered of it, return what is known of it before its usage is.

    The timestamp of an item's one record or event stays what it was.
    """
    found = metered.found
    if remembered is None:
        return found
    is_moved = not metered.way.is_by_window and metered.span.anchor != remembered.anchor
    span = replace(metered.span, anchor=remembered.anchor) if is_moved else metered.span
    return replace(found, span=span, standing=remembered.acknowledged)


def drafted(
    metered: Metered,
    found: Findings,
    usage: Decimal,
    quantity: int,
    carried: tuple[Carried, ...],
    memory: Memory,
    policy: Policy,
) -> Planned | Result:
    """Given an item's usage and quantity, return its plan as if all of it were to be set at once.

    `carried` is what of the quantity earlier periods do not bill.

    Or what keeps it from being written. Of a period of which Stripe takes no more, this is all: what is left.
    """
    remembered, is_known = memory.remembered.get(metered.item.id), metered.item.id in memory.known_items
    write = Write(
        found=replace(found, usage=usage, quantity=quantity, carried=total_of(carried)),
        quantity=quantity,
        method=metered.method,
        anchor=found.span.anchor if found.span else metered.span.anchor,
        intake=metered.listed.intake,
        invoice=metered.listed.invoice,
        follows=remembered.run if remembered else None,
        late_usage=becomes_of_late(metered),
        carried=carried,
    )
    kept_back = starts_later(write.told, remembered, policy)
    if remembered is None and _is_kept(metered, usage):
        kept_back = kept_back or fell_back(write.told, write.method, memory.before.get(metered.item.id), policy)
    if kept_back:
        return kept_back
    if not write.intake.is_open:
        # By another aggregation, what should have been billed cannot be told.
        then = remembered.made_of if remembered else None
        is_same = then is None or then.aggregation == metered.meter.aggregation
        anew = made_anew(write.told, remembered, policy) if remembered and not is_same else None
        return anew or _last_account(metered, write, remembered, is_known=is_known)
    taken = total_of(memory.carried_into(metered.item.id))
    if remembered is None:
        first = write.stands(0 if is_known else None)
        return Planned(metered, first, carried_before=taken, look=_first_look(metered, write, memory))
    if blocked := obstacle(write.told, write.method, remembered, policy):
        return blocked
    look = look_of(remembered)
    foreign = 0 if look else remembered.foreign
    if foreign and not can_be_topped_up(write, foreign):
        return foreign_usage(write, foreign)
    write = replace(write, foreign=foreign) if foreign else write
    return Planned(metered, write, _highest_before(metered, remembered, policy), taken, look)


def _is_kept(metered: Metered, usage: Decimal) -> bool:
    """Say whether the ledger keeps by which method an item is reported, also where it is zero so far."""
    return bool(usage) or metered.way.is_by_window or metered.item.price.aggregate_usage == "last_ever"


def _first_look(metered: Metered, write: Write, memory: Memory) -> FirstLook | None:
    """Return the look that an item needs in whose period nothing was written, or None.

    Of an item without usage nothing is ever written that would show what another program has reported: so it is looked
    at once in each period, and read back when Stripe takes no more of it.
    """
    id = metered.item.id
    if id not in memory.known_items:
        return FirstLook()
    bills_again = metered.item.price.aggregate_usage == "last_ever"
    is_one_total = metered.way in {Way.RECORD, Way.DAY_RECORDS, Way.LAST}
    looked_at = memory.looked_at.get(id)
    is_old = looked_at is not None and looked_at < metered.item.period.start
    is_silent = write.quantity == 0 and is_one_total and not bills_again
    return FirstLook(was_empty=True) if is_old and is_silent and shows_others(metered) else None


def shows_others(metered: Metered) -> bool:
    """Say whether what Stripe holds for an item, beyond what was reported for it, is surely another program's."""
    is_by_item = metered.way.target is Target.USAGE_RECORD
    return is_by_item or (sums_alone(metered.found) and metered.stretches is None)


def _last_account(metered: Metered, draft: Write, remembered: Remembered | None, *, is_known: bool) -> Planned | Result:
    """Given an item of which Stripe takes no more usage, return what it lacks; nothing is sent.

    What its final invoice bills is what stands there; where that cannot be told, it is read back from Stripe once, and
    else is what it acknowledged. Where nothing bills the period, all of its usage is lacking.
    """
    listed, is_unbilled = metered.listed, not draft.intake.bills
    newest = remembered.additions.newest if remembered else None
    if newest and not newest.is_delivered and not is_unbilled:
        return unsettled(draft.told)
    acknowledged = 0 if is_unbilled or remembered is None else remembered.acknowledged or 0
    billed = billed_by_invoice(metered)
    is_told = is_unbilled or billed is not None or listed.is_read_back
    # Of a period that no run saw, which counts as paused, nothing is known: a later ledger may have written it.
    was_seen = metered.item.subscription.status != "paused"
    is_zero = remembered is None and is_known and was_seen and metered.item.price.aggregate_usage != "last_ever"
    has_nothing = is_zero or (remembered is not None and remembered.acknowledged == remembered.quantity == 0)
    was_empty = has_nothing and shows_others(metered)
    write = replace(draft, named_before=named_before(metered, remembered.lacking if remembered else 0))
    write = closed_with(write, acknowledged if billed is None else billed)
    return Planned(
        metered,
        replace(write, foreign=max(0, billed)) if billed and was_empty else write,
        highest_before=remembered.quantity if remembered else None,
        look=None if is_told else _read_back(remembered, was_empty=was_empty),
    )


def billed_by_invoice(metered: Metered) -> int | None:
    """Return what the final invoice of an item's period says that is billed of it, or None where it cannot be told.

    Where a price has tiers or packages its lines may be several, or in another unit; and where others' usage is in the
    same line, it does not say whose is how much.
    """
    listed = metered.listed
    if listed.invoiced is not None or not listed.intake.bills:
        return listed.invoiced
    is_its_own = metered.stretches is None and not metered.row.shared
    return listed.line_quantity if listed.is_final and metered.item.price.is_per_unit and is_its_own else None


def _read_back(remembered: Remembered | None, *, was_empty: bool) -> ReadBack:
    if remembered is None:
        return ReadBack(was_empty=was_empty)
    reported = max(remembered.quantity, remembered.acknowledged or 0)
    return ReadBack(reported, remembered.acknowledged_at or remembered.as_of, was_empty)


def closed_with(write: Write, standing: int) -> Write:
    """Given a write that nothing is sent for, and what Stripe bills, return it with what that lacks."""
    wanted = write.quantity + write.lacking
    return replace(write.stands(standing), quantity=standing, lacking=wanted - standing, sends=SendNothing())


def look_of(remembered: Remembered) -> Look | None:
    """Return what has to be found out in Stripe before an item that was reported before is written again."""
    if remembered.total_before is not None:
        return UnfinishedLook(remembered.total_before)
    if remembered.foreign_held:
        return LookAgain(remembered.at_anchor, remembered.foreign)
    is_certain = remembered.acknowledged_at is not None and remembered.acknowledged == remembered.quantity
    # Where it is in doubt what our record holds, that is set again first, beside what the others held.
    return LookBeside(remembered.at_anchor, remembered.foreign) if remembered.foreign and is_certain else None


def _highest_before(metered: Metered, remembered: Remembered, policy: Policy) -> int | None:
    """Return the largest quantity that Stripe may hold: an unanswered write may have arrived, or not.

    None where it says nothing of a fall: the method changed, or the run is about an instant before what was reported
    last, as only a dry run may be.
    """
    if metered.method != remembered.method or policy.as_of < remembered.as_of:
        return None
    return max(remembered.quantity, remembered.acknowledged or 0)
