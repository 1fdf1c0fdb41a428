"""Before anything is asked: which usage each listed item needs, or why it cannot be billed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from meter_sync.core.billing.item import SubscriptionItem, Target
from meter_sync.core.billing.span import Span, usage_span, window_span
from meter_sync.core.billing.way import Unsupported, Way, part_of, way_of
from meter_sync.core.metering.mapping import MappingRules, MeterRow, meter_row, subjects
from meter_sync.core.metering.queries import Grouping
from meter_sync.core.outcomes import Reason
from meter_sync.core.ownership.duplicates import billed_twice, on_one_meter
from meter_sync.core.planning.known import Memory
from meter_sync.core.planning.stages import Hold, Line, Meter, Skip, need

NO_CUSTOMERS: Mapping[str, str] = MappingProxyType({})


def prepare(
    items: Sequence[SubscriptionItem],
    rules: MappingRules,
    meters: Mapping[str, Meter],
    memory: Memory,
    as_of: datetime,
    customers: Mapping[str, str] = NO_CUSTOMERS,
) -> list[Line | Hold | Skip]:
    """Given the listed items, return for each the line whose usage to query, or why there is none.

    `meters` finds a meter by slug and by id; `as_of` is the instant of the run; `customers` has the id of OpenMeter's
    customer for each Stripe customer, where the mapping goes by them.
    """
    prepared = [
        _with_past(
            _prepared(_as_born(item, memory), rules, meters, as_of, customers, memory.billed_until.get(item.id)), memory
        )
        for item in items
    ]
    lines = [line for line in prepared if isinstance(line, Line)]
    twice = billed_twice(lines, memory.other_claims)
    billing = [item for item in items if item.subscription.status != "paused"]
    together = on_one_meter(billing, memory.other_claims)
    return [_not_duplicate(one, twice, together) if isinstance(one, Line) else one for one in prepared]


def _with_past(prepared: Line | Skip, memory: Memory) -> Line | Skip:
    if isinstance(prepared, Skip):
        return prepared
    return replace(prepared, past=memory.past.get(prepared.item.id, ()))


def _as_born(item: SubscriptionItem, memory: Memory) -> SubscriptionItem:
    """Return an item as old as the one whose place it took: it bills that one's usage too."""
    born = memory.born.get(item.id)
    return item if born is None else replace(item, created=born)


def _prepared(
    item: SubscriptionItem,
    rules: MappingRules,
    meters: Mapping[str, Meter],
    as_of: datetime,
    customers: Mapping[str, str],
    billed_until: datetime | None,
) -> Line | Skip:
    row = meter_row(item, rules)
    grouping = Grouping.CUSTOMER if rules.asks_for_customers else Grouping.SUBJECT
    line = Line(item=item, row=row or MeterRow(), grouping=grouping, span=usage_span(item, as_of, billed_until))
    if row is None:
        return _skip_unbillable(line) or _skip(
            line,
            Reason.NO_METER_MAPPING,
            f"no OpenMeter meter is named for price {item.price.id}: set metadata {rules.meter_key} on the price or "
            "the item, or add a [[meters]] row (with ignore = true if other software bills it)",
        )
    if row.ignore:
        return _skip(line, Reason.IGNORED, "a [[meters]] row says ignore = true")
    meter = meters.get(row.openmeter or "")
    line = replace(line, meter=meter, subjects=subjects(item, rules.subject, customers))
    way = way_of(item.price, row.records)
    if isinstance(way, Unsupported):
        return _skip_unbillable(line) or _skip(line, Reason.UNSUPPORTED_METER, f"{way.message}; {_OR_IGNORE}")
    line = replace(line, way=way, span=_span(item, way, as_of, billed_until))
    return _skip_unbillable(line) or _skip_unmeterable(line, rules) or line


_OR_IGNORE = "or add a [[meters]] row with ignore = true if other software bills it"


def _span(item: SubscriptionItem, way: Way, as_of: datetime, billed_until: datetime | None) -> Span | None:
    if way is Way.WINDOWS:
        return window_span(item, part_of(way, item.price), as_of, billed_until)
    return usage_span(item, as_of, billed_until)


def _skip_unbillable(line: Line) -> Skip | None:
    """Return why Stripe takes no usage for the line's item, or None."""
    subscription = line.item.subscription
    if subscription.status == "paused":
        return _skip(line, Reason.SUBSCRIPTION_PAUSED, "the subscription is paused; Stripe bills nothing for it")
    if subscription.customer.deleted:
        return _skip(
            line,
            Reason.CUSTOMER_DELETED,
            f"customer {subscription.customer.id} was deleted in Stripe: cancel the subscription, or bill by hand",
        )
    if subscription.has_billing_thresholds and line.item.price.target is Target.USAGE_RECORD:
        return _skip(
            line,
            Reason.BILLING_THRESHOLDS,
            "the subscription has billing_thresholds, with which Stripe refuses set; remove them or move the price "
            "to a billing meter",
        )
    return None


def _skip_unmeterable(line: Line, rules: MappingRules) -> Skip | None:
    """Return why OpenMeter cannot be asked for the line's usage, or None."""
    if line.meter is None:
        return _skip(
            line,
            Reason.METER_NOT_FOUND,
            f"OpenMeter has no meter {line.row.openmeter!r}: create it, or correct the mapping of price "
            f"{line.item.price.id}",
        )
    if line.span is None:
        return _skip(line, Reason.NOT_STARTED, "its usage has not started yet")
    if not line.subjects:
        return _skip(
            line,
            Reason.NO_SUBJECT,
            _no_subject_message(line, rules),
        )
    if line.way.needs_what_adds_up and not line.meter.aggregation.adds_up:
        return _skip(line, Reason.AGGREGATION_MISMATCH, _does_not_add_up_message(line.meter, line.way))
    if len(line.subjects) > 1 and not line.meter.aggregation.combines_subjects:
        return _skip(
            line,
            Reason.AGGREGATION_MISMATCH,
            f"the {line.meter.aggregation} of {len(line.subjects)} subjects cannot be put together: give the item one "
            "subject, or use a meter that adds up (SUM, COUNT)",
        )
    return None


def _skip(line: Line, reason: Reason, message: str) -> Skip:
    return Skip(line, reason, message)


def _no_subject_message(line: Line, rules: MappingRules) -> str:
    customer = line.item.subscription.customer.id
    if rules.asks_for_customers:
        return (
            f"OpenMeter has no customer whose key, or whose Stripe app data, is {customer}: create it there, or change "
            "mapping.subject"
        )
    remedy = "set it in Stripe, or change mapping.subject"
    return f"{rules.subject} is empty for {line.item.id} of customer {customer}: {remedy}"


_PARTS_IN_WORDS = {
    Way.WINDOWS: "the windows of its billing meter",
    Way.DAY_RECORDS: "records for each day",
    Way.ADDITIONS: "the additions of its billing meter",
}


def _does_not_add_up_message(meter: Meter, way: Way) -> str:
    instead = "set records to period" if way is Way.DAY_RECORDS else "a billing meter with formula last and no window"
    return (
        f"Stripe adds up {_PARTS_IN_WORDS[way]}, but the {meter.aggregation} meter {meter.slug} does not add up over "
        f"time: use a SUM or COUNT meter, or {instead}"
    )


def _not_duplicate(
    line: Line, twice: Mapping[str, tuple[str, ...]], together: Mapping[str, tuple[str, ...]]
) -> Line | Hold:
    """Return the line, or why another item would bill the same."""
    item = line.item
    if item.id in together:
        meter = item.price.stripe_meter
        return Hold(
            line,
            Reason.DUPLICATE_USAGE,
            f"Stripe bills all usage of a customer on billing meter {meter} with each item on it, so this item and "
            f"{_some(together[item.id])} would bill it twice: remove one item, or give one price a meter of its own",
        )
    return _duplicate(line, twice[item.id]) if item.id in twice else line


_NAMED_DUPLICATES = 3


def _duplicate(line: Line, others: tuple[str, ...]) -> Hold:
    return Hold(
        line,
        Reason.DUPLICATE_USAGE,
        f"the same usage of meter {need(line).meter} would also be billed by {_some(others)}: remove one item, "
        "separate them by filter or subject, or say shared = true in the [[meters]] row",
    )


def _some(others: tuple[str, ...]) -> str:
    more = f" and {len(others) - _NAMED_DUPLICATES} more" if len(others) > _NAMED_DUPLICATES else ""
    return ", ".join(others[:_NAMED_DUPLICATES]) + more
