"""Items, stages and memories with defaults, so that a test names only what it is about."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import settings

from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import BillingMeter, Customer, Period, Price, Subscription, SubscriptionItem
from meter_sync.core.billing.quantity import Rounding
from meter_sync.core.billing.span import Span, usage_span
from meter_sync.core.billing.way import Way
from meter_sync.core.metering.mapping import Filter, Grouping, MeterRow, Method
from meter_sync.core.metering.meter import Aggregation, Meter
from meter_sync.core.planning.looks import FirstLook
from meter_sync.core.planning.memory import Memory, Remembered
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.stages import Listed, Look, Metered, Planned, Write

START = datetime(2026, 11, 1, 9, 30, 17, tzinfo=UTC)
END = datetime(2026, 12, 1, 9, 30, 17, tzinfo=UTC)
AS_OF = datetime(2026, 11, 15, 12, 0, 0, tzinfo=UTC)
LONG_AGO = START - timedelta(days=200)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)

many = settings(max_examples=150, deadline=None, database=None)
"""For properties that cost little."""
few = settings(max_examples=40, deadline=None, database=None)
"""For properties that build a lot."""


def make_price(
    price: str = "price_1",
    *,
    product: str = "prod_1",
    lookup_key: str | None = None,
    aggregate_usage: str = "sum",
    stripe_meter: str | None = None,
    billing_meter: BillingMeter | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Price:
    return Price(
        id=price,
        product=product,
        lookup_key=lookup_key,
        aggregate_usage=aggregate_usage,
        stripe_meter=billing_meter.id if billing_meter else stripe_meter,
        billing_meter=billing_meter,
        metadata=metadata or {},
    )


def make_subscription(
    subscription: str = "sub_1",
    *,
    customer: Customer | None = None,
    status: str = "active",
    created: datetime = LONG_AGO,
    metadata: Mapping[str, str] | None = None,
    has_billing_thresholds: bool = False,
) -> Subscription:
    return Subscription(
        id=subscription,
        customer=customer or Customer("cus_1"),
        status=status,
        created=created,
        metadata=metadata or {},
        has_billing_thresholds=has_billing_thresholds,
    )


def make_item(
    item: str = "si_1",
    *,
    subscription: Subscription | None = None,
    price: Price | None = None,
    start: datetime = START,
    end: datetime = END,
    created: datetime = LONG_AGO,
    metadata: Mapping[str, str] | None = None,
) -> SubscriptionItem:
    return SubscriptionItem(
        id=item,
        subscription=subscription or make_subscription(),
        price=price or make_price(),
        period=Period(start, end),
        created=created,
        metadata=metadata or {},
    )


def make_meter(slug: str = "requests", aggregation: Aggregation = Aggregation.SUM) -> Meter:
    return Meter(id=f"01{slug}", slug=slug, aggregation=aggregation)


def make_metered(
    item: SubscriptionItem | None = None,
    *,
    meter: Meter | None = None,
    filter: Filter = (),
    scale: Decimal = Decimal(1),
    rounding: Rounding = Rounding.FLOOR,
    subjects: tuple[str, ...] = ("cus_1",),
    as_of: datetime = AS_OF,
    way: Way = Way.RECORD,
    span: Span | None = None,
    intake: Intake = Intake.RUNNING,
) -> Metered:
    """Return an item whose usage can be asked for; its span is that of a usage record, unless another one is given."""
    item, meter = item or make_item(), meter or make_meter()
    row = MeterRow(price=item.price.id, openmeter=meter.slug, filter=filter, scale=scale, rounding=rounding)
    span = span or usage_span(item, as_of)
    assert span
    return Metered(Listed(item, intake), row, meter, way, Grouping.SUBJECT, subjects, span)


def make_method(
    meter: str = "requests",
    *,
    way: Way = Way.RECORD,
    filter: Filter = (),
    scale: Decimal = Decimal(1),
    rounding: Rounding = Rounding.FLOOR,
    stripe_meter: str | None = None,
) -> Method:
    return Method(way, meter, filter, scale, rounding, stripe_meter)


def make_remembered(
    quantity: int = 100,
    *,
    method: Method | None = None,
    price: str = "price_1",
    subjects: tuple[str, ...] = ("cus_1",),
    anchor: datetime = START + SECOND,
    acknowledged: int | None = None,
    acknowledged_at: datetime | None = AS_OF - HOUR,
    foreign: int = 0,
    foreign_held: bool = False,
    total_before: int | None = None,
) -> Remembered:
    """Remember a quantity that Stripe acknowledged an hour ago, unless told otherwise."""
    return Remembered(
        method=method or make_method(),
        price=price,
        subjects=subjects,
        anchor=anchor,
        quantity=quantity,
        as_of=AS_OF - HOUR,
        acknowledged=quantity if acknowledged is None else acknowledged,
        acknowledged_at=acknowledged_at,
        foreign=foreign,
        foreign_held=foreign_held,
        total_before=total_before,
    )


def remembering(remembered: Remembered, item: str = "si_1") -> Memory:
    return Memory(known_items=frozenset({item}), remembered={item: remembered})


def knowing(item: str = "si_1") -> Memory:
    """Remember that the item was looked at before, and nothing of its current period."""
    return Memory(known_items=frozenset({item}))


def make_write(quantity: int = 100, *, metered: Metered | None = None, follows: str | None = None) -> Write:
    """Return a write that sets the quantity of a whole period, by the anchor of its first second."""
    metered = metered or make_metered()
    usage = Decimal(quantity)
    found = replace(metered.found, usage=usage, quantity=quantity)
    return Write(found, quantity, metered.method, metered.span.anchor, follows=follows)


def make_planned(
    quantity: int = 100,
    *,
    metered: Metered | None = None,
    highest_before: int | None = None,
    look: Look | None = None,
) -> Planned:
    metered = metered or make_metered()
    return Planned(metered, make_write(quantity, metered=metered), highest_before, look=look)


FIRST_LOOK = FirstLook()
POLICY = Policy(now=AS_OF, as_of=AS_OF)
