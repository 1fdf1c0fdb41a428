"""The part of the embedded Stripe's world that sets subscriptions up and changes them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.rules import events, lifecycle
from meter_sync.sandbox.stripe.state.objects import BillingReason, CollectionPause, PauseCollection, Price, Subscription
from meter_sync.sandbox.stripe.state.setup import (
    known_status,
    metadata_at,
    new_item,
    period_beside,
    unix_seconds,
)
from meter_sync.sandbox.stripe.state.state import StripeState
from meter_sync.sandbox.stripe.world_base import Metadata, WorldBase


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """The ids of a new subscription and its items, in the order of the prices given."""

    id: str
    items: list[str]


class SubscriptionWorld(WorldBase):
    """Subscriptions: each change is told of by one event, with what it was before."""

    def add_subscription(
        self,
        customer: str,
        prices: Sequence[str],
        *,
        id: str | None = None,
        period_start: datetime | None = None,
        period_end: datetime | None = None,
        anchor: datetime | None = None,
        created: datetime | None = None,
        status: str = "active",
        metadata: Metadata | None = None,
        item_metadata: Metadata | Sequence[Metadata] | None = None,
        billing_thresholds: Mapping[str, object] | None = None,
        trial_end: datetime | None = None,
        pauses_after_trial: bool = False,
        quantities: Sequence[int | None] | None = None,
    ) -> SubscriptionView:
        """Add a subscription with one item per price.

        Its first periods begin at `period_start` (default now) and end at `period_end`, at the end
        of the trial, or by the price's interval counted from `anchor` (default: the period's
        start). `created`, default `period_start`, is later for a backdated subscription.
        """
        with self.settled() as state:
            owner = state.customer(customer, param="customer", status=400)
            now = self.clock.timestamp()
            start = now if period_start is None else unix_seconds(period_start)
            stub_end = period_end or trial_end
            subscription = Subscription(
                id=id or state.new_id("sub"),
                created=start if created is None else unix_seconds(created),
                customer=customer,
                status=known_status("trialing" if trial_end is not None else status),
                metadata=dict(metadata or {}),
                anchor=unix_seconds(anchor) if anchor else unix_seconds(stub_end) if stub_end else start,
                start_date=start,
                billing_thresholds=dict(billing_thresholds) if billing_thresholds else None,
                trial_start=start if trial_end else None,
                trial_end=unix_seconds(trial_end) if trial_end else None,
                pauses_after_trial=pauses_after_trial,
                canceled_at=now if status == "canceled" else None,
                ended_at=now if status == "canceled" else None,
                test_clock=owner.test_clock,
            )
            state.subscriptions.add(subscription, f"customer:{customer}")
            for place, price in enumerate(prices):
                new_item(
                    state,
                    subscription,
                    state.price(price, param="price", status=400),
                    start=start,
                    end=unix_seconds(stub_end) if stub_end else None,
                    created=subscription.created + self.item_created_delay_seconds,
                    metadata=metadata_at(item_metadata, place),
                    quantity=quantities[place] if quantities else None,
                )
            lifecycle.schedule(state, subscription)
            events.of_subscription(state, events.CREATED, subscription, subscription.created)
            return SubscriptionView(subscription.id, list(subscription.items))

    def add_item(
        self,
        subscription_id: str,
        price: str,
        created: datetime | None = None,
        metadata: Metadata | None = None,
        *,
        quantity: int | None = None,
    ) -> str:
        """Add an item to a subscription in mid-period, and return its id.

        Its period is that of the other items with the same interval, or the one that contains now.
        """
        with self.settled() as state, self.changing(subscription_id) as subscription:
            chosen = state.price(price, param="price", status=400)
            period = period_beside(state, subscription, chosen, self.clock.timestamp())
            item = new_item(
                state,
                subscription,
                chosen,
                start=period.start,
                end=period.end,
                created=self.clock.timestamp() if created is None else unix_seconds(created),
                metadata=dict(metadata or {}),
                quantity=quantity,
            )
            lifecycle.schedule(state, subscription)
            return item.id

    # -- changing -------------------------------------------------------------------------------

    @contextmanager
    def changing(self, subscription_id: str) -> Iterator[Subscription]:
        """Change a subscription within: all of it is told of by one event."""
        with self.settled() as state:
            subscription = state.subscription(subscription_id, param="subscription", status=400)
            with events.changing(state, subscription, self.clock.timestamp()):
                yield subscription

    def set_status(self, subscription_id: str, status: str) -> None:
        """Give a subscription another status: `canceled` cancels it, `paused` and then `active` resumes it."""
        with self.settled() as state:
            subscription, now = state.subscription(subscription_id), self.clock.timestamp()
            if status == "canceled":
                self.cancel(subscription_id)
            elif status == "paused":
                lifecycle.pause(state, subscription, now)
            elif status == "active" and subscription.status == "paused":
                lifecycle.resume(state, subscription, now, new_anchor=False)
            else:
                with self.changing(subscription_id):
                    subscription.status = known_status(status)
                lifecycle.schedule(state, subscription)

    def set_subscription_metadata(self, subscription_id: str, metadata: Metadata) -> None:
        """Replace a subscription's metadata."""
        with self.changing(subscription_id) as subscription:
            subscription.metadata = dict(metadata)

    def set_item_metadata(self, item_id: str, metadata: Metadata) -> None:
        """Replace an item's metadata."""
        with self.settled() as state:
            item = state.item(item_id)
            with self.changing(item.subscription):
                item.metadata = dict(metadata)

    def change_price(self, item_id: str, price: str) -> None:
        """Put an item on another price in mid-period; its id and its creation time stay.

        What was used before is billed with the period, by the price at its end. Only another interval
        begins new periods now, and bills at once (Stripe documentation, Change subscription prices).
        """
        with self.settled() as state:
            item = state.item(item_id)
            old, new = state.price_of(item), state.price(price, param="price", status=400)
            now = self.clock.timestamp()
            with self.changing(item.subscription) as subscription:
                turned = (old.interval, old.interval_count) != (new.interval, new.interval_count)
                if turned:
                    lifecycle.close_all(state, subscription, now)
                item.price = new.id
                if turned:
                    lifecycle.begin(state, subscription, now)
                state.subscriptions.put_on(f"price:{new.id}", subscription.id)
                _take_off_unused(state, subscription, old)

    def delete_item(self, item_id: str, *, clear_usage: bool = False) -> None:
        """Delete an item; with usage in its open period only if the usage is cleared explicitly."""
        with self.settled() as state:
            item = state.item(item_id)
            price = state.price_of(item)
            used = any(timestamp >= item.period.start for timestamp in item.records)
            if price.takes_usage_records and used and not clear_usage:
                raise Refusal(
                    "This subscription item has usage in its current period: pass clear_usage=true"
                    " to delete it together with its usage.",
                    param="clear_usage",
                )
            with self.changing(item.subscription) as subscription:
                item.deleted = True
                subscription.items.remove(item.id)
                state.items.take_off(f"subscription:{subscription.id}", item.id)
                _take_off_unused(state, subscription, price)
                lifecycle.schedule(state, subscription)

    def restart_periods(self, subscription_id: str) -> None:
        """Reset the billing cycle anchor to now: what is open is invoiced, and new periods begin."""
        with self.changing(subscription_id) as subscription:
            lifecycle.restart(self.state, subscription, self.clock.timestamp())

    # -- trials and pauses ----------------------------------------------------------------------

    def start_trial(self, subscription_id: str, trial_end: datetime) -> None:
        """Put a subscription on trial from now, or move the end of its trial."""
        with self.changing(subscription_id) as subscription:
            now, end = self.clock.timestamp(), unix_seconds(trial_end)
            lifecycle.start_trial(self.state, subscription, now, end)

    def end_trial(self, subscription_id: str) -> None:
        """End a subscription's trial now."""
        with self.changing(subscription_id) as subscription:
            lifecycle.end_trial(self.state, subscription, self.clock.timestamp())

    def pause_collection(
        self,
        subscription_id: str,
        behavior: CollectionPause | None,
        resumes_at: datetime | None = None,
    ) -> None:
        """Pause the collection of payment, until an instant or until it is resumed by None."""
        pause = None
        if behavior is not None:
            pause = PauseCollection(behavior, None if resumes_at is None else unix_seconds(resumes_at))
        with self.changing(subscription_id) as subscription:
            lifecycle.pause_collection(self.state, subscription, self.clock.timestamp(), pause)

    def resume(self, subscription_id: str, *, new_anchor: bool = True) -> None:
        """Resume a paused subscription, with a billing cycle that begins now or with its old one."""
        with self.settled() as state:
            subscription = state.subscription(subscription_id)
            lifecycle.resume(state, subscription, self.clock.timestamp(), new_anchor=new_anchor)

    # -- canceling ------------------------------------------------------------------------------

    def cancel(self, subscription_id: str, *, invoice_now: bool = False) -> None:
        """Cancel a subscription now; its open usage stays unbilled unless it is invoiced now."""
        with self.settled() as state:
            subscription = state.subscription(subscription_id)
            if not subscription.ended:
                reason: BillingReason | None = "subscription_update" if invoice_now else None
                lifecycle.end(state, subscription, self.clock.timestamp(), reason)

    def cancel_at_period_end(self, subscription_id: str) -> None:
        """Let a subscription end with its current period."""
        with self.settled() as state:
            subscription = state.subscription(subscription_id)
            lifecycle.end_with_period(state, subscription, self.clock.timestamp())

    def cancel_at(self, subscription_id: str, instant: datetime | None) -> None:
        """Let a subscription end at an instant; None keeps it."""
        with self.settled() as state:
            subscription = state.subscription(subscription_id)
            end = None if instant is None else unix_seconds(instant)
            lifecycle.end_later(state, subscription, self.clock.timestamp(), end)


def _take_off_unused(state: StripeState, subscription: Subscription, price: Price) -> None:
    """Find a subscription no more by a price that none of its items is on."""
    if all(item.price != price.id for item in state.items_of(subscription)):
        state.subscriptions.take_off(f"price:{price.id}", subscription.id)
