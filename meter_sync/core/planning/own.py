"""What of an item's period is its own: asking who bills which second, and keeping to it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import Period, SubscriptionItem
from meter_sync.core.billing.span import Span, added_at, usage_end
from meter_sync.core.billing.way import Way, window_of
from meter_sync.core.metering.mapping import EarlierSubjects
from meter_sync.core.outcomes import Reason
from meter_sync.core.ownership import Bills, Claim, MeteredUsage, Share, joined, shares
from meter_sync.core.planning.carrying import offered
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.results import held, skipped
from meter_sync.core.planning.stages import Findings, Listed, Metered, Result
from meter_sync.core.text import utc

OWNER_KEY = "meter_sync_owner"
"""The key of an item's metadata that names it, by the value `true`, as the one that bills what others could too."""

_APART = timedelta(microseconds=1)

_BILLS = {
    Intake.RUNNING: Bills.TAKES,
    Intake.GRACE: Bills.TAKES,
    Intake.CLOSED: Bills.FINAL,
    Intake.UNBILLED: Bills.NOTHING,
    Intake.VOIDED: Bills.NOTHING,
}

Prepared = tuple[Listed, Metered | Result]
"""A listed item, and what is known of how it is metered."""


def own(prepared: Sequence[Prepared], beside: Sequence[Prepared], memory: Memory) -> list[Metered | Result]:
    """Given items, and others that may bill the same, return each with what of its period is its own.

    Of one whose period Stripe takes no more of, that is also what nobody is known to bill alone: it is named with it.
    """
    ours = {one.item.key for one, _ in prepared} if beside else set()
    others = [(one, found) for one, found in beside if one.item.key not in ours]
    then = [claim for one, found in prepared for claim in _claims_of_then(one, found, memory)]
    times = Counter(place for one, found in (*prepared, *others) for place in _places(one, found))
    times.update(place for claim in then for place in _places_of(claim))
    claims = (
        [
            *then,
        ]
        + [
            claim_of(one, found, _reported(one.item, memory))
            for one, found in prepared
            if _has_rivals(one, found, times)
        ]
        + [
            claim_of(one, found, memory.reported.get(one.item.key) or ())
            for one, found in others
            if _has_rivals(one, found, times)
        ]
    )
    known = {claim.key: claim for claim in claims if claim}
    owned = shares(known.values())
    return [
        _with_its_own(found, known[one.item.key], owned[one.item.key], memory)
        if isinstance(found, Metered) and one.item.key in owned
        else found
        for one, found in prepared
    ]


_Place = tuple[str, str, bool]


def _places(one: Listed, found: Metered | Result) -> Iterator[_Place]:
    """Yield where an item's usage is, in Stripe and in OpenMeter: who shares no place with it bills nothing of it."""
    if one.item.price.stripe_meter:
        yield one.item.subscription.customer.id, one.item.price.stripe_meter, True
    if isinstance(found, Metered):
        for subject in found.subjects:
            yield subject, found.meter.slug, False


def _places_of(claim: Claim) -> Iterator[_Place]:
    if claim.usage:
        for subject in claim.usage.subjects:
            yield subject, claim.usage.meter, False


def _claims_of_then(one: Listed, found: Metered | Result, memory: Memory) -> Iterator[Claim]:
    """Yield what was reported of an item's period by subjects that are not its own any more.

    Whose they are now does not change that it stands with this item.
    """
    remembered = memory.remembered.get(one.item.id)
    if remembered is None or remembered.acknowledged is None or not remembered.reported:
        return
    now = found.subjects if isinstance(found, Metered) else ()
    since, item = one.item.period.start, one.item
    last = EarlierSubjects(item.period.end, remembered.subjects, remembered.grouping)
    for number, part in enumerate((*remembered.earlier_subjects, last), start=1):
        within = _until(_from(remembered.reported, since), part.until)
        gone = tuple(subject for subject in part.subjects if subject not in now)
        since = part.until
        if within and gone:
            meter = remembered.made_of.slug if remembered.made_of else remembered.method.meter
            usage = MeteredUsage(meter, remembered.method.filter, gone)
            whole = Period(within[0].start, within[-1].end)
            known = claim_as_known(item, Intake.CLOSED, whole, usage, within)
            # It is not the item's period itself, and Stripe's side of it is in that one's claim.
            key = item.id, item.period.start - number * _APART
            yield replace(known, key=key, stripe_meter=None, settled=within)


def _has_rivals(one: Listed, found: Metered | Result, times: Mapping[_Place, int]) -> bool:
    """Say whether an item may bill what another one bills: of nearly all, all of the period is their own.

    What was its own when Stripe took no more of it is not gone into here.
    """
    return one.settled is not None or any(times[place] > 1 for place in _places(one, found))


def claim_of(one: Listed, found: Metered | Result, reported: tuple[Period, ...]) -> Claim | None:
    """Return what an item claims, or None where nobody else could bill the same.

    Of a paused subscription Stripe bills nothing at present; what was used before a pause is billed all the same.
    """
    item, metered = one.item, found if isinstance(found, Metered) else None
    is_paused = item.subscription.status == "paused" and one.intake is Intake.RUNNING
    known = found.found
    period = _claimed(known)
    if is_paused or period.end <= period.start or not (metered or item.price.stripe_meter):
        return None
    has_windows = metered is not None and metered.way is Way.WINDOWS
    return replace(
        claim_as_known(
            item,
            one.intake,
            period,
            MeteredUsage(metered.meter.slug, metered.row.filter, metered.subjects) if metered else None,
            reported,
        ),
        settled=one.settled,
        is_invoiced=one.is_invoiced,
        window=window_of(Way.WINDOWS, item.price) if has_windows else None,
        is_shared=known.row.shared,
        is_owner=known.row.owner or item.metadata.get(OWNER_KEY, "").strip().lower() == "true",
    )


def _reported(item: SubscriptionItem, memory: Memory) -> tuple[Period, ...]:
    """Return which stretches of a listed item's period were reported and taken."""
    remembered = memory.remembered.get(item.id)
    if remembered is None:
        return memory.reported.get(item.key) or ()
    return remembered.reported or () if remembered.acknowledged is not None else ()


def claim_as_known(
    item: SubscriptionItem,
    intake: Intake,
    period: Period,
    usage: MeteredUsage | None,
    reported: tuple[Period, ...],
) -> Claim:
    """Return what an item claims of a period, by what is known of it without its mapping."""
    return Claim(
        key=item.key,
        customer=item.subscription.customer.id,
        stripe_meter=item.price.stripe_meter,
        usage=usage,
        period=period,
        created=item.created,
        bills=Bills.FREE if item.was_free else _BILLS[intake],
        goes_on=item.is_followed,
        is_turn=item.cycle_start is None and added_at(item) is None,
        is_cut=item.is_cut,
        reported=reported,
    )


def _claimed(found: Findings) -> Period:
    """Return from when on, and until when, an item's usage is its own, if it is nobody else's."""
    item = found.item
    window = window_of(Way.WINDOWS, item.price) if found.way is Way.WINDOWS and item.is_followed else None
    return Period(found.span.start if found.span else item.period.start, usage_end(item.period, window))


def _with_its_own(one: Metered, claim: Claim, share: Share, memory: Memory) -> Metered | Result:
    """Return an item with what is its own, or why nothing is written for it."""
    is_open = one.listed.intake.is_open
    stretches = share.billed if is_open else _in_order((*share.billed, *share.held))
    with_before = (share.before, *stretches) if share.before and (stretches or not is_open) else stretches
    own = _until(_in_order(with_before), one.span.end)
    if own == (Period(one.span.start, one.span.end),):
        return one
    if is_open and not own:
        return _not_its_own(one, share)
    if not own and one.item.id not in memory.remembered:
        return _never_reported(one, share, memory)
    if len(own) > 1 and not one.meter.aggregation.combines_subjects:
        return held(one.found, Reason.DUPLICATE_USAGE, _in_pieces(one, share))
    note = _not_reported(one, share) if is_open and share.held and share.held[0].start < one.span.end else one.note
    return replace(one, span=_span(one, claim, share, own), stretches=own, note=note)


def _span(one: Metered, claim: Claim, share: Share, own: Sequence[Period]) -> Span:
    stamps = one.span.stamps
    begun = [stretch for stretch in share.billed if stretch.start < one.span.end]
    if not begun:
        return replace(one.span, stamps=Period(stamps.start, stamps.start))
    start, end = max(begun[0].start, stamps.start), begun[-1].end
    stamps = Period(start, stamps.end if end >= claim.period.end else end)
    return replace(one.span, start=own[0].start, end=own[-1].end, stamps=stamps)


def _in_order(stretches: Iterable[Period]) -> tuple[Period, ...]:
    return joined(sorted(stretches, key=lambda one: one.start))


def _from(stretches: Iterable[Period], start: datetime) -> tuple[Period, ...]:
    return tuple(Period(max(one.start, start), one.end) for one in stretches if one.end > start)


def _until(stretches: Iterable[Period], end: datetime) -> tuple[Period, ...]:
    return tuple(Period(one.start, min(one.end, end)) for one in stretches if one.start < end)


def _not_its_own(one: Metered, share: Share) -> Result:
    """Return an item of which nothing is to be written now: it is held as long as nobody knows whose its usage is."""
    if share.is_contested:
        return held(one.found, Reason.DUPLICATE_USAGE, _why_held(one, share))
    said = f"nothing of its usage so far is its own: it is billed by {_some(share.rivals)}"
    return skipped(one.found, Reason.NOT_STARTED, said)


def _never_reported(one: Metered, share: Share, memory: Memory) -> Metered | Result:
    """Return an item of whose period nothing is its own; what Stripe bills with it all the same is too much.

    What of earlier periods still waits is named with it, if it is the last one that could have billed it.
    """
    listed = one.listed
    if offered(one, memory):
        return replace(one, stretches=())
    too_much = listed.invoiced or listed.line_quantity
    if too_much:
        return replace(one, listed=replace(listed, invoiced=too_much), stretches=())
    nothing = replace(one.found, stretches=())
    return skipped(nothing, Reason.NOT_STARTED, f"its usage is billed by {_some(share.rivals)}")


def _why_held(one: Metered, share: Share) -> str:
    if share.is_by_meter:
        return (
            f"Stripe bills all usage of a customer on billing meter {one.item.price.stripe_meter} with each item on "
            f"it, so this item and {_some(share.rivals)} would bill it twice: remove one item, or give one price a "
            "meter of its own"
        )
    return (
        f"the same usage of meter {one.meter.slug} would also be billed by {_some(share.rivals)}: remove one item, "
        "separate them by filter or subject, name one with owner = true or let both bill it with shared = true in the "
        "[[meters]] row"
    )


def _not_reported(one: Metered, share: Share) -> str:
    """Return what a person should know of an item of whose time only some is reported."""
    start, end = share.held[0].start, min(share.held[-1].end, one.span.end)
    until = f" until {utc(end)}" if end < one.span.end else ""
    note = (
        f"what was used from {utc(start)}{until} is not reported, since {_some(share.rivals)} could bill it as well: "
        "it is named at the period's end"
    )
    return f"{one.note}; {note}" if one.note else note


def _in_pieces(one: Metered, share: Share) -> str:
    return (
        f"only some of its period is its own, beside {_some(share.rivals)}, and the {one.meter.aggregation} of several "
        "stretches cannot be put together: nothing was written"
    )


_NAMED_RIVALS = 3


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _NAMED_RIVALS} more" if len(items) > _NAMED_RIVALS else ""
    return ", ".join(items[:_NAMED_RIVALS]) + more
