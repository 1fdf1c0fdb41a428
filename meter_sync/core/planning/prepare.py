"""Before anything is asked: which usage each listed item needs, or why it cannot be billed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import PeriodKey, SubscriptionItem, Target
from meter_sync.core.billing.span import usage_span
from meter_sync.core.billing.way import Unsupported, Way, way_of, window_of
from meter_sync.core.billing.words import unknown
from meter_sync.core.metering.mapping import EarlierSubjects, Grouping, MappingRules, MeterRow, meter_row, subjects
from meter_sync.core.metering.meter import Meter
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.carrying import lives_on, periods_of
from meter_sync.core.planning.memory import Memory, Remembered
from meter_sync.core.planning.own import Prepared, own
from meter_sync.core.planning.results import failed, skipped
from meter_sync.core.planning.stages import Findings, Listed, Metered, Result


@dataclass(frozen=True, slots=True)
class Metering:
    """What OpenMeter has, and how items find it there."""

    rules: MappingRules
    meters: Mapping[str, Meter]
    """By slug and by id."""
    unknown_meters: Mapping[str, str] = field(default_factory=dict)
    """By slug and by id, too: those that this version does not know how to ask, and what it does not know of them."""
    customers: Mapping[str, str] = field(default_factory=dict)
    """The id of OpenMeter's customer for each Stripe customer, where the mapping goes by them."""
    subjects_then: Mapping[PeriodKey, tuple[str, ...]] = field(default_factory=dict)
    """By which subjects periods of others that are over were reported, whosever these are since."""


Why = tuple[Reason, str]
"""Why an item is not billed, as a reason and in words."""


def prepare(
    listed: Sequence[Listed],
    beside: Iterable[Listed],
    metering: Metering,
    memory: Memory,
    as_of: datetime,
    allowed: Collection[Reason] = (),
) -> list[Metered | Result]:
    """Given the listed items, return for each how its usage is asked for, or why it is not.

    `beside` are all others that may bill the same usage; `as_of` is the instant of the run; `allowed` are the brakes
    that were lifted for it.
    """

    others_listed = list(beside)
    in_several = {one.item.id for one in others_listed}
    several = (one for one in listed if one.item.id in in_several)
    known = periods_of((*several, *others_listed), metering.rules, memory.scales)

    def prepared(one: Listed, remembered: Memory) -> Prepared:
        found = _prepared(one, metering, remembered, as_of, allowed)
        if isinstance(found, Metered) and not lives_on(one.item, found.row, known):
            found = replace(found, lives_on=False)
        return one, found

    # What is remembered is about the listed periods, not about others of the same items.
    others = [prepared(one, Memory()) for one in others_listed]
    return own([prepared(one, memory) for one in listed], others, memory)


def _judged_by(one: Listed, memory: Memory) -> Remembered | None:
    """Return by what a period of which Stripe takes no more is judged, or None: by how it was reported last.

    What became of its mapping since does not change what was used, nor what Stripe bills of it.
    """
    remembered = memory.remembered.get(one.item.id)
    is_its = remembered is not None and remembered.method.stripe_meter == one.item.price.stripe_meter
    return remembered if is_its and not one.intake.is_open else None


def _whose(
    one: Listed, metering: Metering, memory: Memory, last: Remembered | None
) -> tuple[tuple[str, ...], Grouping]:
    """Return whose usage an item's period bills, and what these subjects are in OpenMeter.

    Of another one that is over, whose usage was reported counts, and as long as Stripe takes more whose it is now.
    Of one that has ended they are those that it was reported by, unless it is known that they changed within it: a run
    held it for that, or metadata, as it was listed last within the period, names more. `last` is what one is judged by
    of which Stripe takes no more, and which has no subjects by now.
    """
    rules, remembered = metering.rules, memory.remembered.get(one.item.id)
    now = subjects(one.item, rules.subject, metering.customers), rules.grouping
    if remembered and remembered.subjects == now[0]:
        now = remembered.subjects, now[1]  # which is in memory already
    if remembered is None and (reported_by := metering.subjects_then.get(one.item.key)):
        still = now[0] if one.settled is None else ()
        return tuple(dict.fromkeys((*reported_by, *still))), rules.grouping
    if one.intake is Intake.RUNNING or remembered is None or one.item.id in memory.changed_within:
        return (last.subjects, last.grouping or rules.grouping) if last and not now[0] else now
    then = remembered.subjects, remembered.grouping or rules.grouping
    is_named = rules.subject_is_metadata and then[1] is rules.grouping
    return now if is_named and set(then[0]) <= set(now[0]) else then


def _is_paused(one: Listed) -> bool:
    """Say whether Stripe bills nothing for an item at present. What was used before a pause is billed all the same."""
    return one.item.subscription.status == "paused" and one.intake is Intake.RUNNING


def _prepared(
    one: Listed, metering: Metering, memory: Memory, as_of: datetime, allowed: Collection[Reason]
) -> Metered | Result:
    item, rules = one.item, metering.rules
    unreadable = memory.unreadable.get(item.id) or (None if item.is_read else item.not_understood)
    if unreadable:
        return failed(Findings(item), Reason.LEDGER_ERROR, unreadable)
    billed_until, unbillable = memory.billed_until.get(item.id), _why_unbillable(one)
    last, row = _judged_by(one, memory), meter_row(item, rules)
    if row is None and last:
        row = MeterRow(late_usage=rules.late_usage)
    found = Findings(item, row or MeterRow(), span=usage_span(item, as_of, billed_until))
    if row is None:
        unmapped = (
            f"no OpenMeter meter is named for price {item.price.id}: set metadata {rules.meter_key} on the price or "
            "the item, or add a [[meters]] row (with ignore = true if other software bills it)"
        )
        return skipped(found, *(unbillable or (Reason.NO_METER_MAPPING, unmapped)))
    if row.ignore:
        return skipped(found, Reason.IGNORED, "a [[meters]] row says ignore = true")
    # A period that has ended goes on as it began, whatever is allowed: that is about the open ones.
    begins_anew = Reason.MAPPING_CHANGED in allowed and one.intake is Intake.RUNNING
    row, note = (row, None) if begins_anew else _as_begun(item, row, metering, memory)
    meter = metering.meters.get(row.openmeter or "")
    named, grouping = _whose(one, metering, memory, last)
    way = last.method.way if last else way_of(item.price, row.records)
    found = replace(found, row=row, meter=meter, subjects=named, grouping=grouping, note=note)
    if isinstance(way, Unsupported):
        message = f"{way.message}; or add a [[meters]] row with ignore = true if other software bills it"
        return skipped(found, *(unbillable or (Reason.UNSUPPORTED_METER, message)))
    span = found.span
    if way is Way.WINDOWS:
        span = usage_span(item, as_of, billed_until, window_of(way, item.price))
    found = replace(found, way=way, span=span)
    if unbillable or meter is None or span is None or not named:
        return skipped(found, *(unbillable or _why_not_asked(found, metering)))
    mismatch = _why_mismatched(meter, way, named)
    if mismatch:
        return skipped(found, Reason.AGGREGATION_MISMATCH, mismatch)
    earlier = _earlier_subjects(found, one, memory, is_allowed=Reason.MAPPING_CHANGED in allowed)
    return Metered(one, row, meter, way, grouping, named, span, memory.past.get(item.id, ()), note, earlier)


def _earlier_subjects(found: Findings, one: Listed, memory: Memory, *, is_allowed: bool) -> tuple[EarlierSubjects, ...]:
    """Return whose usage it was before, where an item has lost a subject within its period.

    The interval is split where it was reported last. While that is not allowed, the item is held; once Stripe takes no
    more, it is named so all the same.
    """
    remembered = memory.remembered.get(one.item.id)
    if remembered is None:
        return ()
    lost = bool(remembered.lost(found.subjects, found.grouping))
    is_split = lost and remembered.reported and remembered.quantity and (is_allowed or not one.intake.is_open)
    if not is_split or not remembered.reported:
        return remembered.earlier_subjects
    before = EarlierSubjects(remembered.reported[-1].end, remembered.subjects, remembered.grouping)
    return (*remembered.earlier_subjects, before)


def _as_begun(item: SubscriptionItem, row: MeterRow, metering: Metering, memory: Memory) -> tuple[MeterRow, str | None]:
    """Return how an item's period goes on, which is by the mapping that it began with, and what to say of that."""
    remembered = memory.remembered.get(item.id)
    if remembered is None or remembered.method.stripe_meter != item.price.stripe_meter:
        return row, None
    then, meter = remembered.method, metering.meters.get(row.openmeter or "")
    slug = meter.slug if meter else row.openmeter or ""
    now = replace(then, meter=slug, filter=row.filter, scale=row.scale, rounding=row.rounding)
    if now == then:
        return row, None
    begun = replace(row, openmeter=then.meter, filter=then.filter, scale=then.scale, rounding=then.rounding)
    if not row.openmeter:
        return begun, f"its mapping is gone: this period is judged by {then.in_words}, as it was reported last"
    return begun, (
        f"its mapping changed within the period, from {then.in_words} to {now.in_words}: this period goes on as it "
        "began; the new mapping begins with the next one, or now with --allow mapping_changed"
    )


def _why_unbillable(one: Listed) -> Why | None:
    """Return why Stripe takes no usage of an item, or why that is not known, or None.

    Once it takes no more of a period in any case, what kept it from being billed does not keep it from being named.
    """
    subscription = one.item.subscription
    if said := unknown(one.item):
        return (
            Reason.UNKNOWN_TO_THIS_VERSION,
            f"{said}: nothing was written; update meter-sync, or bill by hand",
        )
    if _is_paused(one):
        return Reason.SUBSCRIPTION_PAUSED, "the subscription is paused; Stripe bills nothing for it"
    if subscription.customer.deleted and one.intake.is_open:
        said = f"customer {subscription.customer.id} was deleted in Stripe: cancel the subscription, or bill by hand"
        return Reason.CUSTOMER_DELETED, said
    takes_records = one.item.price.target is Target.USAGE_RECORD and one.intake.is_open
    if subscription.has_billing_thresholds and takes_records:
        return Reason.BILLING_THRESHOLDS, (
            "the subscription has billing_thresholds, with which Stripe refuses set; remove them or move the price "
            "to a billing meter"
        )
    return None


def _why_not_asked(found: Findings, metering: Metering) -> Why:
    """Return what OpenMeter lacks, so that it cannot be asked for an item's usage."""
    item, rules = found.item, metering.rules
    if unknown_meter := metering.unknown_meters.get(found.row.openmeter or ""):
        return Reason.UNKNOWN_TO_THIS_VERSION, (
            f"{unknown_meter}: nothing was written; update meter-sync, or name another meter"
        )
    if found.meter is None:
        remedy = f"create it, or correct the mapping of price {item.price.id}"
        if found.note:
            remedy = f"create it again. For {found.note}"
        return Reason.METER_NOT_FOUND, f"OpenMeter has no meter {found.row.openmeter!r}: {remedy}"
    if found.span is None:
        return Reason.NOT_STARTED, "its usage has not started yet"
    if rules.asks_for_customers:
        return Reason.NO_SUBJECT, (
            "OpenMeter has no customer whose key, or whose Stripe app data, is that of the Stripe customer: create it "
            "there, or change mapping.subject"
        )
    remedy = "set it in Stripe, or change mapping.subject"
    return Reason.NO_SUBJECT, f"{rules.subject} is empty: {remedy}"


_WHAT_ADDS_UP = {
    Way.WINDOWS: "the windows of its billing meter",
    Way.DAY_RECORDS: "records for each day",
    Way.ADDITIONS: "the additions of its billing meter",
}


def _why_mismatched(meter: Meter, way: Way, named: Sequence[str]) -> str | None:
    """Return why what a meter counts cannot become what Stripe bills, or None."""
    if way.needs_what_adds_up and not meter.aggregation.adds_up:
        is_by_day = way is Way.DAY_RECORDS
        instead = "set records to period" if is_by_day else "a billing meter with formula last and no window"
        return (
            f"Stripe adds up {_WHAT_ADDS_UP[way]}, but the {meter.aggregation} meter {meter.slug} does not add up over "
            f"time: use a SUM or COUNT meter, or {instead}"
        )
    if len(named) > 1 and not meter.aggregation.combines_subjects:
        return (
            f"the {meter.aggregation} of {len(named)} subjects cannot be put together: give the item one subject, or "
            "use a meter that adds up (SUM, COUNT)"
        )
    return None
