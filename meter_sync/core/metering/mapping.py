"""Which OpenMeter meter and which subjects are behind a subscription item, and how it is metered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

from meter_sync.core.billing.item import Customer, Price, SubscriptionItem
from meter_sync.core.billing.quantity import Rounding
from meter_sync.core.billing.way import Records, Way

Filter = tuple[tuple[str, tuple[str, ...]], ...]
"""A meter filter in canonical form: sorted pairs of a dimension and its sorted admitted values."""


OPENMETER_CUSTOMER = "openmeter.customer"
"""The source of subjects that is OpenMeter's own customers."""


class Grouping(StrEnum):
    """Whose usage a query tells apart: the value is OpenMeter's name for it."""

    SUBJECT = "subject"
    CUSTOMER = "customer_id"


class LateUsage(StrEnum):
    """What becomes of usage that an item's period can no longer bill."""

    NAME = "name"
    """It is named, for a person to settle."""
    CARRY = "carry"
    """It is added to the item's next period; of one that is over it is named."""


@dataclass(frozen=True, slots=True)
class MeterRow:
    """A `[[meters]]` row: which items it is for (exactly one selector), and how they are metered."""

    price: str | None = None
    lookup_key: str | None = None
    product: str | None = None
    stripe_meter: str | None = None
    openmeter: str | None = None
    filter: Filter = ()
    scale: Decimal = Decimal(1)
    rounding: Rounding = Rounding.FLOOR
    records: Records = Records.PERIOD
    late_usage: LateUsage = LateUsage.NAME
    shared: bool = False
    owner: bool = False
    """Whether its items bill what others could bill too."""
    ignore: bool = False
    report: bool = True
    """Whether what is planned is written, not only shown."""

    @property
    def is_by_metadata(self) -> bool:
        """Whether metadata in Stripe named its meter, and no `[[meters]]` row is for its items."""
        return (self.price, self.lookup_key, self.product, self.stripe_meter) == (None,) * 4

    @property
    def selector(self) -> str | None:
        """What names the price that it is for."""
        return self.price or self.lookup_key or self.product or self.stripe_meter

    def is_for(self, price: Price) -> bool:
        """Say whether a price is the one that this row names."""
        named = (self.price, self.lookup_key, self.product, self.stripe_meter)
        found = (price.id, price.lookup_key, price.product, price.stripe_meter)
        return any(name is not None and name == its_own for name, its_own in zip(named, found, strict=True))


@dataclass(frozen=True, slots=True)
class Method:
    """How an item's usage becomes what Stripe holds: fixed per item and period."""

    way: Way
    meter: str
    filter: Filter
    scale: Decimal
    rounding: Rounding
    stripe_meter: str | None = None
    """The billing meter that takes the events."""

    @property
    def in_words(self) -> str:
        """How usage is metered, for a message."""
        where = "".join(f" {dimension}={'|'.join(values)}" for dimension, values in self.filter)
        days = " in days" if self.way is Way.DAY_RECORDS else ""
        return f"{self.meter}{where} x {self.scale.normalize():f} {self.rounding}{days}"


@dataclass(frozen=True, slots=True)
class EarlierSubjects:
    """The subjects of an item until an instant within its period: others took their place by permission."""

    until: datetime
    subjects: tuple[str, ...]
    grouping: Grouping | None = None
    """What they are; None where a version wrote them that did not say."""


COPY_OF = "meter_sync_copy_of"
"""The metadata key under which what was copied into a shadow account has the id of its original."""

COPY_OF_METER = "meter_sync_copy_of_meter"
"""The same of a price, for the billing meter that its original is on: billing meters have no metadata."""


@dataclass(frozen=True, slots=True)
class MappingRules:
    """How items find their meter and their subjects."""

    meter_key: str = "om_meter_id"
    subject: str = "customer.id"
    rows: Sequence[MeterRow] = ()
    late_usage: LateUsage = LateUsage.NAME
    """That of items whose meter is named by metadata."""
    are_for_originals: bool = False
    """Whether items are copies in a shadow account: then rows name the prices and meters that these are copies of."""

    @property
    def subject_is_metadata(self) -> bool:
        """Whether the subjects are named by metadata, so that several customers may have the same."""
        return ".metadata." in self.subject

    @property
    def asks_for_customers(self) -> bool:
        """Whether OpenMeter's own customers are the subjects."""
        return self.subject == OPENMETER_CUSTOMER

    @property
    def grouping(self) -> Grouping:
        """What the subjects are in OpenMeter."""
        return Grouping.CUSTOMER if self.asks_for_customers else Grouping.SUBJECT

    @property
    def needs_customer_metadata(self) -> bool:
        """Whether customers must be fetched with their metadata."""
        return self.are_for_originals or self.subject.startswith("customer.metadata.")

    def known_as(self, customer: Customer) -> str:
        """Return the id by which others than Stripe know a customer: of a copy, that of its original."""
        return customer.metadata.get(COPY_OF, customer.id) if self.are_for_originals else customer.id


def meter_row(item: SubscriptionItem, rules: MappingRules) -> MeterRow | None:
    """Given an item, return the row that says how it is metered, or None where nothing does.

    The first `[[meters]]` row for the item's price wins; else the metadata key names the meter, on the item
    before the price.
    """
    return _meter_row(item.price, (item.metadata, item.price.metadata), rules)


def meter_row_of_price(price: Price, rules: MappingRules) -> MeterRow | None:
    """Return the row for an item that says nothing of its own about how it is metered, or None where nothing does."""
    return _meter_row(price, (price.metadata,), rules)


def _meter_row(price: Price, places: Iterable[Mapping[str, str]], rules: MappingRules) -> MeterRow | None:
    named = _as_named(price, rules)
    for row in rules.rows:
        if row.is_for(named):
            return row
    for metadata in places:
        meter = metadata.get(rules.meter_key, "").strip()
        if meter:
            return _named_by_metadata(meter, rules.late_usage)
    return None


@lru_cache(1000)
def _named_by_metadata(meter: str, late_usage: LateUsage) -> MeterRow:
    """Return the row of items whose metadata name their meter: one for all of them, since most are equal."""
    return MeterRow(openmeter=meter, late_usage=late_usage)


def _as_named(price: Price, rules: MappingRules) -> Price:
    """Return a price with the ids by which rows name it."""
    if not rules.are_for_originals:
        return price
    original, meter = price.metadata.get(COPY_OF, price.id), price.metadata.get(COPY_OF_METER, price.stripe_meter)
    return replace(price, id=original, stripe_meter=meter)


def unused_rows(items: Iterable[SubscriptionItem], rules: MappingRules) -> list[tuple[int, MeterRow]]:
    """Return the rows that are for no item, with their numbers from 1 on: a misspelt one leaves its items unbilled."""
    prices = [_as_named(item.price, rules) for item in items]
    return [
        (number, row)
        for number, row in enumerate(rules.rows, start=1)
        if not any(row.is_for(price) for price in prices)
    ]


def subjects(item: SubscriptionItem, source: str, customers: Mapping[str, str]) -> tuple[str, ...]:
    """Given an item and the source of subjects, return its OpenMeter subjects, each once, in order.

    `source` is `customer.id`, or `customer.metadata.KEY`, `subscription.metadata.KEY` or `item.metadata.KEY`,
    whose value may list several subjects with commas between; or `openmeter.customer`, for which `customers` has the
    id of OpenMeter's customer for each Stripe customer. The result is empty where the value is missing.
    """
    if source == "customer.id":
        return (item.subscription.customer.id,)
    if source == OPENMETER_CUSTOMER:
        found = customers.get(item.subscription.customer.id)
        return (found,) if found else ()
    owner, _, key = source.partition(".metadata.")
    metadata = {
        "customer": item.subscription.customer.metadata,
        "subscription": item.subscription.metadata,
        "item": item.metadata,
    }
    named = (subject.strip() for subject in metadata[owner].get(key, "").split(","))
    return tuple(dict.fromkeys(subject for subject in named if subject))


def with_later_metadata(item: SubscriptionItem, now: SubscriptionItem, rules: MappingRules) -> SubscriptionItem:
    """Given an item in a period that has ended, and as it is listed now, return it with metadata that it lacked then.

    Who was told that a meter or a subject is missing may set it when the period is over. What was there then stays.
    """
    if meter_row(item, rules) is None and now.price.id == item.price.id:
        price = replace(item.price, metadata=_filled(item.price.metadata, now.price.metadata))
        item = replace(item, metadata=_filled(item.metadata, now.metadata), price=price)
    if rules.subject_is_metadata and not subjects(item, rules.subject, {}):
        then, later = item.subscription, now.subscription
        customer = replace(then.customer, metadata=_filled(then.customer.metadata, later.customer.metadata))
        subscription = replace(then, metadata=_filled(then.metadata, later.metadata), customer=customer)
        item = replace(item, metadata=_filled(item.metadata, now.metadata), subscription=subscription)
    return item


def _filled(then: Mapping[str, str], now: Mapping[str, str]) -> Mapping[str, str]:
    return {**now, **{key: value for key, value in then.items() if value.strip()}}
