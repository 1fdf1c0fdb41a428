"""The plan: from listed items and their usage to what should happen to each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from meter_sync.core.actions import (
    Action,
    Fail,
    FirstLook,
    Hold,
    Line,
    Look,
    LookAgain,
    Meter,
    Set,
    Skip,
    Unchanged,
    UnfinishedLook,
    meter_of,
    need,
    span_of,
)
from meter_sync.core.duplicates import billed_twice
from meter_sync.core.foreign import can_be_topped_up, foreign_usage
from meter_sync.core.mapping import MappingRules, MeterRow, meter_row, subjects
from meter_sync.core.memory import Memory, Method, Remembered
from meter_sync.core.model import SubscriptionItem, Target
from meter_sync.core.outcomes import Reason
from meter_sync.core.quantity import InvalidUsage, billable, without_noise
from meter_sync.core.span import usage_span
from meter_sync.core.usage import Unanswered


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided for this run."""

    now: datetime
    """When the run began, in UTC."""
    resend: bool = False
    resend_after: timedelta = timedelta(hours=24)
    """An acknowledged quantity is sent again after so long, which heals what others changed in Stripe."""
    allowed: frozenset[Reason] = frozenset()


def prepare(
    items: Sequence[SubscriptionItem],
    rules: MappingRules,
    meters: Mapping[str, Meter],
    memory: Memory,
    as_of: datetime,
) -> list[Line | Hold | Skip]:
    """Given the listed items, return for each the line whose usage to query, or why there is none.

    `meters` finds a meter by slug and by id; `as_of` is the instant of the run.
    """
    prepared = [_prepared(item, rules, meters, as_of) for item in items]
    lines = [line for line in prepared if isinstance(line, Line)]
    twice = billed_twice(lines, memory.other_claims)
    return [
        _duplicate(line, twice[line.item.id]) if isinstance(line, Line) and line.item.id in twice else line
        for line in prepared
    ]


def decide(line: Line, usage: Decimal | Unanswered, memory: Memory, policy: Policy) -> Action:
    """Given a line and its usage, return what should happen to its item."""
    remembered = memory.remembered.get(line.item.id)
    if remembered:
        span = replace(span_of(line), anchor=remembered.anchor)
        line = replace(line, span=span, previous=remembered.acknowledged)
    if isinstance(usage, Unanswered):
        return Fail(line, Reason.OPENMETER_ERROR, usage.message)
    try:
        usage = without_noise(usage)
        quantity = billable(usage, line.row.scale, line.row.rounding)
    except InvalidUsage as error:
        return Hold(
            replace(line, usage=usage),
            Reason.INVALID_USAGE,
            f"{error}; nothing was written, look at the meter's events",
        )
    line = replace(line, usage=usage, quantity=quantity)
    if remembered:
        return _next_report(line, quantity, remembered, policy)
    return _first_report(line, quantity, policy, known=line.item.id in memory.known_items)


def _prepared(item: SubscriptionItem, rules: MappingRules, meters: Mapping[str, Meter], as_of: datetime) -> Line | Skip:
    row = meter_row(item, rules)
    line = Line(item=item, row=row or MeterRow(), span=usage_span(item, as_of))
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
    line = replace(line, meter=meter, subjects=subjects(item, rules.subject))
    return _skip_unbillable(line) or _skip_unmeterable(line, rules) or line


def _skip_unbillable(line: Line) -> Skip | None:
    """Return why Stripe takes no usage record for the line's item, or None."""
    subscription = line.item.subscription
    if subscription.status == "paused":
        return _skip(line, Reason.SUBSCRIPTION_PAUSED, "the subscription is paused; Stripe bills nothing for it")
    if subscription.customer.deleted:
        return _skip(
            line,
            Reason.CUSTOMER_DELETED,
            f"customer {subscription.customer.id} was deleted in Stripe: cancel the subscription, or bill by hand",
        )
    if line.item.price.target is not Target.USAGE_RECORD:
        return _skip(
            line,
            Reason.UNSUPPORTED_METER,
            f"price {line.item.price.id} is on billing meter {line.item.price.stripe_meter}, which this version does "
            "not write; add a [[meters]] row with ignore = true if other software bills it",
        )
    if subscription.has_billing_thresholds:
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
            f"{rules.subject} is empty for {line.item.id} of customer {line.item.subscription.customer.id}: set it in "
            "Stripe, or change mapping.subject",
        )
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


def _next_report(line: Line, quantity: int, remembered: Remembered, policy: Policy) -> Action:
    """Decide for an item that was reported in this period before."""
    method = _method(line)
    changed = method != remembered.method
    if changed and Reason.MAPPING_CHANGED not in policy.allowed:
        return Hold(line, Reason.MAPPING_CHANGED, _changed_message(method, remembered.method))
    look: Look | None = None
    if remembered.total_before is not None:
        look = UnfinishedLook(remembered.total_before)
    elif remembered.foreign_held:
        look = LookAgain(remembered.at_anchor, remembered.foreign)
    if look is None and remembered.foreign and not can_be_topped_up(line, quantity, remembered.foreign):
        return foreign_usage(line, quantity, remembered.foreign)
    if look is None and not policy.resend and _holds_already(line, quantity, remembered, policy):
        return Unchanged(line)
    return Set(
        line=line,
        quantity=quantity,
        method=method,
        anchor=remembered.anchor,
        highest_before=None if changed or _is_about_the_past(line, remembered) else _highest(remembered),
        foreign=0 if look else remembered.foreign,
        look=look,
    )


def _is_about_the_past(line: Line, remembered: Remembered) -> bool:
    """Say whether the line ends before what was reported last, as only a dry run's may: it says nothing of a fall."""
    return span_of(line).end < min(remembered.as_of, line.item.period.end)


def _highest(remembered: Remembered) -> int:
    """Return the largest quantity that Stripe may hold: an unanswered write may have arrived, or not."""
    return max(remembered.quantity, remembered.acknowledged or 0)


def _holds_already(line: Line, quantity: int, remembered: Remembered, policy: Policy) -> bool:
    if remembered.acknowledged_at is None:
        return False
    recently = policy.now - remembered.acknowledged_at < policy.resend_after
    now = (quantity, line.item.price.id, line.subjects, _method(line))
    then = (remembered.acknowledged, remembered.price, remembered.subjects, remembered.method)
    return recently and now == then


def _first_report(line: Line, quantity: int, policy: Policy, *, known: bool) -> Action:
    """Decide for an item that was not reported in this period yet.

    A known item without usage needs no record, except on a `last_ever` price: with no record in a period the
    last one of an earlier period bills again (API reference 2025-01-27.acacia).
    """
    if known and not policy.resend and is_zero_without_record(line, quantity):
        return Unchanged(replace(line, previous=0))
    return Set(
        line=replace(line, previous=0 if known else None),
        quantity=quantity,
        method=_method(line),
        anchor=span_of(line).anchor,
        look=None if known else FirstLook(),
    )


def is_zero_without_record(line: Line, quantity: int) -> bool:
    """Say whether Stripe bills zero for the line, as it should, without any usage record."""
    return quantity == 0 and line.item.price.aggregate_usage != "last_ever"


def _changed_message(now: Method, then: Method) -> str:
    return (
        f"the way of metering changed within the period, from {_in_words(then)} to {_in_words(now)}; the new one "
        "begins with the next period, or now with --allow mapping_changed"
    )


def _in_words(method: Method) -> str:
    where = "".join(f" {dimension}={'|'.join(values)}" for dimension, values in method.filter)
    return f"{method.meter}{where} x {method.scale.normalize():f} {method.rounding}"


def _method(line: Line) -> Method:
    return Method(
        target=line.item.price.target,
        meter=meter_of(line).slug,
        filter=line.row.filter,
        scale=line.row.scale,
        rounding=line.row.rounding,
    )


_NAMED_DUPLICATES = 3


def _duplicate(line: Line, others: tuple[str, ...]) -> Hold:
    named = ", ".join(others[:_NAMED_DUPLICATES])
    more = f" and {len(others) - _NAMED_DUPLICATES} more" if len(others) > _NAMED_DUPLICATES else ""
    return Hold(
        line,
        Reason.DUPLICATE_USAGE,
        f"the same usage of meter {need(line).meter} would also be billed by {named}{more}: remove one item, separate "
        "them by filter or subject, or say shared = true in the [[meters]] row",
    )
