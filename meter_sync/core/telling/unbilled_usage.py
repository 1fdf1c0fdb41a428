"""Usage that nobody bills: subjects in OpenMeter that no listed item is for, and usage that no filter lets through."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.metering.mapping import Filter, MeterRow, meter_row, subjects
from meter_sync.core.metering.meter import Aggregation
from meter_sync.core.metering.queries import DimensionAnswer, Need, Query, Unanswered, combined
from meter_sync.core.planning.prepare import Metering

LOOKED_AT = timedelta(days=31)
"""How far back usage is looked at: a month, which one query for each meter can answer."""


@dataclass(frozen=True, slots=True)
class UnbilledSubject:
    """A subject with usage that no listed item bills."""

    meter: str
    subject: str
    usage: Decimal
    since: datetime
    """From when on that usage is counted: the last item that billed the subject ended then, or it was long ago."""
    account: str = ""
    """The account whose meter it is; empty for the only one, and for one that several have in common."""


@dataclass(frozen=True, slots=True)
class UnbilledUsage:
    """Usage of listed subjects that no row's filter lets through: a value that is new, missing or written otherwise."""

    meter: str
    values: Mapping[str, str | None]
    """The value of each dimension that the meter's filters are about; None where an event has none."""
    usage: Decimal | None
    """None where the usage of several subjects cannot be put together."""
    since: datetime
    account: str = ""
    """The account whose subjects it is about; empty for the only one."""


@dataclass(slots=True)
class Billing:
    """Whose usage of an OpenMeter meter an account bills."""

    meter: str
    aggregation: Aggregation
    meter_id: str = ""
    account: str = ""
    """Its name; empty for the only one, and for several together."""
    listed: set[str] = field(default_factory=set)
    """The subjects of listed items. An item that is skipped or held counts too: it is named for that already."""
    filters: set[Filter] = field(default_factory=set)
    """Those of all its rows."""
    left: dict[str, datetime] = field(default_factory=dict)
    """Until when the usage of other subjects was billed or named, by items that have ended since."""


def billing_of_meters(
    listed: Iterable[SubscriptionItem], over: Iterable[SubscriptionItem], metering: Metering, account: str = ""
) -> list[Billing]:
    """Given the listed items, and those in periods that have ended, return whose usage of each mapped meter is billed.

    A meter is mapped if a listed item or a `[[meters]]` row names it. Of the items of a row with `ignore = true` it is
    not known which meter other software bills, so their subjects count as billed on all of them.
    """
    rules, found, of_other_software = metering.rules, dict[str, Billing](), set[str]()
    listed_rows = [(meter_row(item, rules), item) for item in listed]
    for row in (*rules.rows, *(row for row, _ in listed_rows)):
        if row and (meter := metering.meters.get(row.openmeter or "")):
            new = Billing(meter.slug, meter.aggregation, meter.id, account)
            found.setdefault(meter.slug, new).filters.add(row.filter)
    for row, item in listed_rows:
        named = subjects(item, rules.subject, metering.customers)
        if row and row.ignore:
            of_other_software.update(named)
        elif billing := _billing(row, found, metering):
            billing.listed.update(named)
    for item in over:
        # It is mapped by what is said now: what was said then tells nothing of usage that is new.
        if billing := _billing(meter_row(item, rules), found, metering):
            for subject in subjects(item, rules.subject, metering.customers):
                billing.left[subject] = max(item.period.end, billing.left.get(subject, item.period.end))
    for billing in found.values():
        billing.listed |= of_other_software
    return list(found.values())


def together(billings: Sequence[Billing]) -> Billing:
    """Return whose usage of one meter several accounts bill together: there is at least one."""
    first = billings[0]
    if len(billings) == 1:
        return first
    found = Billing(first.meter, first.aggregation, first.meter_id)
    for one in billings:
        found.listed |= one.listed
        found.filters |= one.filters
        for subject, ended in one.left.items():
            found.left[subject] = max(ended, found.left.get(subject, ended))
    return found


def _billing(row: MeterRow | None, found: Mapping[str, Billing], metering: Metering) -> Billing | None:
    meter = metering.meters.get(row.openmeter or "") if row else None
    return found.get(meter.slug) if meter else None


def query_of(billing: Billing, as_of: datetime) -> Query:
    """Return the one query for the usage of all subjects of a meter."""
    return Query(billing.meter, (), as_of - LOOKED_AT, as_of, subjects=None)


def needs_of(billing: Billing, with_usage: Container[str], as_of: datetime) -> list[Need]:
    """Given who has usage, return what must be known exactly: the usage of those who left, from then on."""
    return [
        Need(subject, billing.meter, (), (subject,), ended, as_of, billing.aggregation)
        for subject, ended in billing.left.items()
        if subject in with_usage and subject not in billing.listed and ended < as_of
    ]


def unbilled_subjects(
    billing: Billing,
    answer: Mapping[str, Decimal | Unanswered],
    since_they_left: Mapping[str, Decimal | Unanswered],
    ignored: Sequence[str],
    as_of: datetime,
) -> list[UnbilledSubject]:
    """Given the usage of a meter, return the subjects with usage that nobody bills, the largest usage first.

    `since_they_left` is the usage of those who left, from then on; `ignored` are patterns of subjects (`test-*`).
    """
    found = []
    for subject, whole in answer.items():
        left = billing.left.get(subject)
        usage = whole if left is None else since_they_left.get(subject, Decimal(0))
        is_named = subject not in billing.listed and not _is_ignored(subject, ignored)
        if is_named and isinstance(usage, Decimal) and usage:
            since = as_of - LOOKED_AT if left is None else left
            found.append(UnbilledSubject(billing.meter, subject, usage, since, billing.account))
    return sorted(found, key=lambda one: (-one.usage, one.subject))


def _is_ignored(subject: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(subject, pattern) for pattern in patterns)


def filtered_query_of(billings: Sequence[Billing], as_of: datetime) -> Query | None:
    """Return the query for the usage of a meter by what its filters are about, or None where a row takes all of it.

    Where several accounts bill it, it is about those none of whose rows does.
    """
    filtered = [one for one in billings if is_filtered(one)]
    if not filtered:
        return None
    dimensions = tuple(sorted({name for billing in filtered for one in billing.filters for name, _ in one}))
    return replace(query_of(filtered[0], as_of), dimensions=dimensions)


def is_filtered(billing: Billing) -> bool:
    """Say whether each row of an account takes some of a meter's usage only."""
    return () not in billing.filters


def unbilled_usage(
    billing: Billing, query: Query, answer: DimensionAnswer, ignored: Sequence[str]
) -> list[UnbilledUsage]:
    """Given the usage of a meter by dimensions, return what no filter of its rows lets through, of listed subjects.

    All usage of other subjects is named with them.
    """
    outside: defaultdict[tuple[str | None, ...], list[Decimal]] = defaultdict(list)
    for subject, usages in {} if isinstance(answer, Unanswered) else answer.items():
        if subject in billing.listed and not _is_ignored(subject, ignored) and not isinstance(usages, Unanswered):
            for combination, usage in usages.items():
                values = dict(zip(query.dimensions, combination, strict=True))
                if usage and not any(_lets_through(one, values) for one in billing.filters):
                    outside[combination].append(usage)
    return [
        UnbilledUsage(
            billing.meter,
            dict(zip(query.dimensions, combination, strict=True)),
            combined(billing.aggregation, usages)
            if len(usages) == 1 or billing.aggregation.combines_subjects
            else None,
            query.start,
            billing.account,
        )
        for combination, usages in sorted(outside.items(), key=lambda one: [value or "" for value in one[0]])
    ]


def _lets_through(one: Filter, values: Mapping[str, str | None]) -> bool:
    return all(values[name] in admitted for name, admitted in one)
