"""The embedded Stripe's world, and methods to set it up and to look at it without HTTP.

The HTTP endpoints use the same methods, so a rule holds on both ways in. Every method takes the
world's lock and first lets the billing periods turn that have ended by the sandbox's clock.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from meter_sync.sandbox.clock import SandboxClock
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.protocol.permissions import Permissions
from meter_sync.sandbox.stripe.rules import invoices as stripe_invoices
from meter_sync.sandbox.stripe.rules import meters, usage_records
from meter_sync.sandbox.stripe.rules.billing_periods import Interval, Period
from meter_sync.sandbox.stripe.rules.usage_records import Action
from meter_sync.sandbox.stripe.state.objects import (
    Aggregation,
    Customer,
    Formula,
    Invoice,
    InvoiceLine,
    Meter,
    MeterEvent,
    Price,
    Product,
    TransformQuantity,
    UsageType,
    WindowSize,
)
from meter_sync.sandbox.stripe.state.setup import (
    transform_of,
    unix_seconds,
)
from meter_sync.sandbox.stripe.state.state import StripeState
from meter_sync.sandbox.stripe.webhooks import Webhooks
from meter_sync.sandbox.stripe.world_base import Metadata
from meter_sync.sandbox.stripe.world_subscriptions import SubscriptionView, SubscriptionWorld

__all__ = ["StripeWorld", "SubscriptionView"]

_LONGEST_IDENTIFIER = 100


class StripeWorld(SubscriptionWorld):
    """The state of the embedded Stripe and the rules by which it changes."""

    def __init__(self, clock: SandboxClock, keys: Mapping[str, Permissions]) -> None:
        super().__init__(clock, keys)
        self.webhooks = Webhooks(self)

    # -- setting up -----------------------------------------------------------------------------

    def add_customer(
        self,
        id: str | None = None,
        metadata: Metadata | None = None,
        test_clock: str | None = None,
        name: str | None = None,
        *,
        email: str | None = None,
        description: str | None = None,
    ) -> str:
        """Add a customer and return its id."""
        with self.settled() as state:
            customer = Customer(
                id=id or state.new_id("cus"),
                created=self.clock.timestamp(),
                metadata=dict(metadata or {}),
                name=name,
                email=email,
                description=description,
                test_clock=test_clock,
            )
            state.customers.add(customer)
            return customer.id

    def add_product(self, id: str | None = None, name: str = "Usage", metadata: Metadata | None = None) -> str:
        """Add a product and return its id."""
        with self.settled() as state:
            product = Product(
                id=id or state.new_id("prod"),
                created=self.clock.timestamp(),
                name=name,
                metadata=dict(metadata or {}),
            )
            state.products.add(product)
            return product.id

    def add_price(
        self,
        id: str | None = None,
        product: str | None = None,
        unit_amount_decimal: str | Decimal = "0.02",
        usage_type: UsageType = "metered",
        aggregate_usage: Aggregation = "sum",
        meter: str | None = None,
        interval: Interval = "month",
        interval_count: int = 1,
        active: bool = True,
        metadata: Metadata | None = None,
        lookup_key: str | None = None,
        transform_quantity: TransformQuantity | Mapping[str, object] | None = None,
        *,
        currency: str = "usd",
        nickname: str | None = None,
    ) -> str:
        """Add a recurring price per unit, in cents, and return its id."""
        with self.settled() as state:
            legacy = usage_type == "metered" and meter is None
            price = Price(
                id=id or state.new_id("price"),
                created=self.clock.timestamp(),
                product=product or self.add_product(),
                currency=currency,
                unit_amount_decimal=Decimal(unit_amount_decimal),
                usage_type=usage_type,
                aggregate_usage=aggregate_usage if legacy else None,
                meter=meter,
                interval=interval,
                interval_count=interval_count,
                active=active,
                metadata=dict(metadata or {}),
                lookup_key=lookup_key,
                transform_quantity=transform_of(transform_quantity),
                nickname=nickname,
            )
            state.product(price.product, param="product", status=400)
            if meter is not None and state.meter(meter, param="recurring[meter]", status=400).deactivated_at:
                raise Refusal(f"The meter {meter} is inactive.", param="recurring[meter]")
            state.prices.add(price)
            return price.id

    def add_meter(
        self,
        event_name: str = "api_requests",
        *,
        formula: Formula = "sum",
        window: WindowSize | None = None,
        customer_key: str = "stripe_customer_id",
        value_key: str = "value",
        display_name: str | None = None,
        id: str | None = None,
    ) -> str:
        """Add a billing meter and return its id; of active ones, each has an event name of its own."""
        with self.settled() as state:
            _check_event_name(state, event_name, param="event_name")
            now = self.clock.timestamp()
            meter = Meter(
                id=id or state.new_id("mtr"),
                created=now,
                updated=now,
                display_name=display_name or event_name,
                event_name=event_name,
                formula=formula,
                window=window,
                customer_key=customer_key,
                value_key=value_key,
            )
            state.meters.add(meter)
            return meter.id

    # -- changing -------------------------------------------------------------------------------

    def delete_customer(self, id: str, keep_subscriptions: bool = False) -> None:
        """Delete a customer, and cancel its subscriptions unless they are to be kept."""
        with self.settled() as state:
            state.customer(id).deleted = True
            if not keep_subscriptions:
                for subscription in list(state.subscriptions.shelf(f"customer:{id}").older_than(None)):
                    self.cancel(subscription)

    def create_usage_record(
        self,
        item_id: str,
        quantity: int,
        timestamp: int | None = None,
        action: Action = "increment",
    ) -> int:
        """Write a usage record by Stripe's rules; return its timestamp (given None: now)."""
        with self.settled() as state:
            item = state.item(item_id, param="subscription_item")
            price = state.price_of(item)
            usage_records.check_item(state.subscriptions[item.subscription], price, action)
            now = self.clock.now().timestamp()
            at = int(now) if timestamp is None else timestamp
            closed = usage_records.check_timestamp(item, price, at, now=now, grace_seconds=self.grace_seconds)
            if closed is not None and not stripe_invoices.is_draft(state, closed):
                raise Refusal(usage_records.TOO_OLD, param="timestamp")
            usage_records.record(item, at, quantity, action)
            if closed is not None:
                stripe_invoices.redraft(state, item, closed)
            return at

    def deactivate_meter(self, id: str) -> None:
        """Deactivate a meter: it takes no more events, but prices stay on it."""
        with self.settled() as state:
            meter = state.meter(id)
            meter.deactivated_at = meter.updated = self.clock.timestamp()

    def reactivate_meter(self, id: str) -> None:
        """Let a meter take events again, unless another active one has its event name."""
        with self.settled() as state:
            meter = state.meter(id)
            if meter.deactivated_at is not None:
                _check_event_name(state, meter.event_name)
                meter.deactivated_at, meter.updated = None, self.clock.timestamp()

    def create_meter_event(
        self,
        event_name: str,
        payload: Mapping[str, str],
        timestamp: int | None = None,
        identifier: str | None = None,
    ) -> MeterEvent:
        """Take a meter event by Stripe's rules (given None: now, and an identifier of Stripe's)."""
        with self.settled() as state:
            now = self.clock.timestamp()
            meter = _meter_named(state, event_name)
            event = MeterEvent(
                identifier=identifier or state.new_id("evt_id"),
                event_name=event_name,
                payload=dict(payload),
                timestamp=now if timestamp is None else timestamp,
                received=now,
            )
            if len(event.identifier) > _LONGEST_IDENTIFIER:
                raise Refusal("Invalid string: identifier has at most 100 characters.", param="identifier")
            meters.check_timestamp(event.timestamp, now)
            meters.check_digits(meter, event.payload)
            meters.check_identifier(state, event.identifier, now)
            meters.receive(state, meter, event, self.reject_meter_events_as)
            self._redraft_metered(state, meter, event)
            return event

    def event_lock(self, event_name: object, payload: object) -> tuple[str, str] | None:
        """Return whose events on which meter an event would be among, as far as its parameters say."""
        with self.lock:
            if not isinstance(event_name, str) or not isinstance(payload, dict):
                return None
            meter = _meter_named(self.state, event_name)
            customer = payload.get(meter.customer_key) if meter else None
            return (event_name, customer) if isinstance(customer, str) else None

    def cancel_meter_event(self, event_name: str, identifier: str) -> MeterEvent:
        """Cancel a meter event of the last 24 hours."""
        with self.settled() as state:
            event = meters.cancel(state, event_name, identifier, self.clock.timestamp())
            self._redraft_metered(state, _meter_named(state, event_name), event)
            return event

    def _redraft_metered(self, state: StripeState, meter: Meter | None, event: MeterEvent) -> None:
        """Bring the customer's drafts up to date: late events count until an invoice is finalized."""
        customer = event.payload.get(meter.customer_key) if meter else None
        if customer is not None:
            stripe_invoices.redraft_customer(state, customer)

    # -- looking --------------------------------------------------------------------------------

    def records(self, item_id: str) -> dict[int, int]:
        """Return all usage records of an item: timestamp to quantity."""
        with self.settled() as state:
            return dict(state.items[item_id].records)

    def total(self, item_id: str, at: datetime | None = None) -> int:
        """Return the aggregated usage of the period that contains `at` (default: the open one)."""
        with self.settled() as state:
            item = state.items[item_id]
            price = state.price_of(item)
            if at is None:
                return stripe_invoices.quantity_of(state, price, item, item.period)
            instant = unix_seconds(at)
            for period in [*(closed.period for closed in item.closed), item.period]:
                if period.start <= instant < period.end:
                    return stripe_invoices.quantity_of(state, price, item, period)
            raise ValueError(f"{item_id} has no period that contains {at}")

    def meter_events(self, meter_id: str, customer: str) -> list[MeterEvent]:
        """Return what was received for a customer on a meter and counts, in order; cancelled ones too."""
        with self.settled() as state:
            return list(state.meter_events[meter_id, customer])

    def period(self, item_id: str) -> Period:
        """Return the open period of an item."""
        with self.settled() as state:
            return state.items[item_id].period

    def invoice_preview(self, subscription_id: str) -> list[InvoiceLine]:
        """Return the lines that the subscription's next invoice would have now."""
        with self.settled() as state:
            return stripe_invoices.preview(state, state.subscription(subscription_id))

    @property
    def invoices(self) -> list[Invoice]:
        """All invoices, oldest first."""
        with self.settled() as state:
            return list(state.invoices)


def _check_event_name(state: StripeState, event_name: str, param: str | None = None) -> None:
    """Raise Refusal if an active meter has this event name."""
    if any(meter.event_name == event_name and meter.deactivated_at is None for meter in state.meters):
        raise Refusal(f"An active meter already exists with event name {event_name}.", param=param)


def _meter_named(state: StripeState, event_name: str) -> Meter | None:
    """Return the meter for an event name, an active one first."""
    named = [meter for meter in state.meters if meter.event_name == event_name]
    return min(named, key=lambda meter: meter.deactivated_at is not None, default=None)
