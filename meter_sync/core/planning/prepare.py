"""Before anything is asked: which usage each listed item needs, or why it cannot be billed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import SubscriptionItem, Target
from meter_sync.core.billing.span import Span, usage_span
from meter_sync.core.billing.way import Unsupported, Way, way_of, window_of
from meter_sync.core.metering.mapping import MappingRules, MeterRow, meter_row, subjects
from meter_sync.core.metering.meter import Meter
from meter_sync.core.metering.queries import Grouping
from meter_sync.core.outcomes import Reason
from meter_sync.core.ownership import BilledUsage, billed_twice, on_one_meter
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.results import held, skipped
from meter_sync.core.planning.stages import Findings, Listed, Metered, Result


@dataclass(frozen=True, slots=True)
class Metering:
    """What OpenMeter has, and how items find it there."""

    rules: MappingRules
    meters: Mapping[str, Meter]
    """By slug and by id."""
    customers: Mapping[str, str] = field(default_factory=dict)
    """The id of OpenMeter's customer for each Stripe customer, where the mapping goes by them."""


def prepare(listed: Sequence[Listed], metering: Metering, memory: Memory, as_of: datetime) -> list[Metered | Result]:
    """Given the listed items, return for each how its usage is asked for, or why it is not.

    `as_of` is the instant of the run.
    """
    prepared = [_prepared(_as_born(one, memory), metering, memory, as_of) for one in listed]
    usages = [_billed_usage(one) for one in prepared if isinstance(one, Metered)]
    twice = billed_twice(usages, memory.billed_by_others)
    together = on_one_meter([one.item for one in listed if not _is_paused(one)], memory.billed_by_others)
    return [_not_duplicate(one, twice, together) if isinstance(one, Metered) else one for one in prepared]


def _as_born(one: Listed, memory: Memory) -> Listed:
    born_at = memory.born.get(one.item.id)
    return one if born_at is None else replace(one, item=replace(one.item, born_at=born_at))


def _is_paused(one: Listed) -> bool:
    """Say whether Stripe bills nothing for an item at present. What was used before a pause is billed all the same."""
    return one.item.subscription.status == "paused" and one.intake is Intake.RUNNING


def _prepared(one: Listed, metering: Metering, memory: Memory, as_of: datetime) -> Metered | Result:
    item, rules = one.item, metering.rules
    billed_until = memory.billed_until.get(item.id)
    row = meter_row(item, rules)
    found = Findings(item, row or MeterRow(), span=usage_span(item, as_of, billed_until))
    if row is None:
        return _unbillable(one, found) or skipped(
            found,
            Reason.NO_METER_MAPPING,
            f"no OpenMeter meter is named for price {item.price.id}: set metadata {rules.meter_key} on the price or "
            "the item, or add a [[meters]] row (with ignore = true if other software bills it)",
        )
    if row.ignore:
        return skipped(found, Reason.IGNORED, "a [[meters]] row says ignore = true")
    meter = metering.meters.get(row.openmeter or "")
    found = replace(found, meter=meter, subjects=subjects(item, rules.subject, metering.customers))
    way = way_of(item.price, row.records)
    if isinstance(way, Unsupported):
        message = f"{way.message}; or add a [[meters]] row with ignore = true if other software bills it"
        return _unbillable(one, found) or skipped(found, Reason.UNSUPPORTED_METER, message)
    found = replace(found, way=way, span=_span(item, way, as_of, billed_until))
    return _unbillable(one, found) or _metered(one, found, way, rules, memory)


def _span(item: SubscriptionItem, way: Way, as_of: datetime, billed_until: datetime | None) -> Span | None:
    return usage_span(item, as_of, billed_until, window_of(way, item.price) if way is Way.WINDOWS else None)


def _unbillable(one: Listed, found: Findings) -> Result | None:
    """Return why Stripe takes no usage of an item, or None.

    Once it takes no more of a period in any case, what kept it from being billed does not keep it from being named.
    """
    subscription = one.item.subscription
    if _is_paused(one):
        said = "the subscription is paused; Stripe bills nothing for it"
        return skipped(found, Reason.SUBSCRIPTION_PAUSED, said)
    if subscription.customer.deleted and one.intake.is_open:
        return skipped(
            found,
            Reason.CUSTOMER_DELETED,
            f"customer {subscription.customer.id} was deleted in Stripe: cancel the subscription, or bill by hand",
        )
    takes_records = one.item.price.target is Target.USAGE_RECORD and one.intake.is_open
    if subscription.has_billing_thresholds and takes_records:
        return skipped(
            found,
            Reason.BILLING_THRESHOLDS,
            "the subscription has billing_thresholds, with which Stripe refuses set; remove them or move the price "
            "to a billing meter",
        )
    return None


def _metered(one: Listed, found: Findings, way: Way, rules: MappingRules, memory: Memory) -> Metered | Result:
    """Return how OpenMeter is asked for an item's usage, or why it cannot be."""
    meter, named = found.meter, found.subjects
    if meter is None:
        return skipped(
            found,
            Reason.METER_NOT_FOUND,
            f"OpenMeter has no meter {found.row.openmeter!r}: create it, or correct the mapping of price "
            f"{one.item.price.id}",
        )
    if found.span is None:
        return skipped(found, Reason.NOT_STARTED, "its usage has not started yet")
    if not named:
        return skipped(found, Reason.NO_SUBJECT, _no_subject_message(one.item, rules))
    if way.needs_what_adds_up and not meter.aggregation.adds_up:
        return skipped(found, Reason.AGGREGATION_MISMATCH, _does_not_add_up_message(meter, way))
    if len(named) > 1 and not meter.aggregation.combines_subjects:
        return skipped(
            found,
            Reason.AGGREGATION_MISMATCH,
            f"the {meter.aggregation} of {len(named)} subjects cannot be put together: give the item one subject, or "
            "use a meter that adds up (SUM, COUNT)",
        )
    grouping = Grouping.CUSTOMER if rules.asks_for_customers else Grouping.SUBJECT
    past = memory.past.get(one.item.id, ())
    return Metered(one, found.row, meter, way, grouping, named, found.span, past)


def _no_subject_message(item: SubscriptionItem, rules: MappingRules) -> str:
    customer = item.subscription.customer.id
    if rules.asks_for_customers:
        return (
            f"OpenMeter has no customer whose key, or whose Stripe app data, is {customer}: create it there, or change "
            "mapping.subject"
        )
    remedy = "set it in Stripe, or change mapping.subject"
    return f"{rules.subject} is empty for {item.id} of customer {customer}: {remedy}"


_WHAT_ADDS_UP = {
    Way.WINDOWS: "the windows of its billing meter",
    Way.DAY_RECORDS: "records for each day",
    Way.ADDITIONS: "the additions of its billing meter",
}


def _does_not_add_up_message(meter: Meter, way: Way) -> str:
    instead = "set records to period" if way is Way.DAY_RECORDS else "a billing meter with formula last and no window"
    return (
        f"Stripe adds up {_WHAT_ADDS_UP[way]}, but the {meter.aggregation} meter {meter.slug} does not add up over "
        f"time: use a SUM or COUNT meter, or {instead}"
    )


def _billed_usage(one: Metered) -> BilledUsage:
    need, item = one.need, one.item
    return BilledUsage(
        item=item.id,
        meter=need.meter,
        filter=need.filter,
        subjects=need.subjects,
        start=need.start,
        end=need.end,
        customer=item.subscription.customer.id,
        stripe_meter=item.price.stripe_meter,
        shared=one.row.shared,
    )


def _not_duplicate(
    one: Metered, twice: Mapping[str, tuple[str, ...]], together: Mapping[str, tuple[str, ...]]
) -> Metered | Result:
    """Return the item, or why another one would bill the same; once Stripe takes no more, it bills nothing twice."""
    item = one.item
    if not one.listed.intake.is_open:
        return one
    if item.id in together:
        return held(
            one.found,
            Reason.DUPLICATE_USAGE,
            f"Stripe bills all usage of a customer on billing meter {item.price.stripe_meter} with each item on it, so "
            f"this item and {_some(together[item.id])} would bill it twice: remove one item, or give one price a meter "
            "of its own",
        )
    if item.id in twice:
        return held(
            one.found,
            Reason.DUPLICATE_USAGE,
            f"the same usage of meter {one.meter.slug} would also be billed by {_some(twice[item.id])}: remove one "
            "item, separate them by filter or subject, or say shared = true in the [[meters]] row",
        )
    return one


_NAMED_DUPLICATES = 3


def _some(others: tuple[str, ...]) -> str:
    more = f" and {len(others) - _NAMED_DUPLICATES} more" if len(others) > _NAMED_DUPLICATES else ""
    return ", ".join(others[:_NAMED_DUPLICATES]) + more
