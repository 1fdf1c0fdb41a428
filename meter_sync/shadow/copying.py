"""Bringing a shadow account up to its original: what it lacks is copied, and what is gone is taken away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from meter_sync.core.billing.item import BillingMeter, Customer, SubscriptionItem
from meter_sync.core.planning.selection import Selection
from meter_sync.errors import ConfigurationError
from meter_sync.setup.steps import Action, Kind, Step
from meter_sync.shadow.plan import Plan, There, plan
from meter_sync.stripe_api import copies
from meter_sync.stripe_api.account import account_of
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeWriter
from meter_sync.stripe_api.copies import FirstPeriod
from meter_sync.stripe_api.listing import Lister
from meter_sync.stripe_api.not_understood import Oddities
from meter_sync.stripe_api.prices import billing_meters

_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Refused:
    """A step that Stripe refused; the others go on."""

    step: Step
    message: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What is to be done, and what is there already."""

    plan: Plan
    there: There
    account: str | None
    """The shadow account, if its key may read it."""


async def look(original: StripeReader, shadow: StripeReader) -> Looked:
    """Compare what an account has with what its shadow has; write nothing.

    Raise ConfigurationError where both keys are of one account, MeterSyncError, or what StripeReader raises.
    """
    account, of_original = await account_of(shadow), await account_of(original)
    if account is not None and account == of_original:
        raise ConfigurationError(
            f"the shadow's key is of {account}, which is the account itself; nothing was made",
            "make a sandbox in Stripe's Dashboard, and put a key of that one into the file of shadow.api_key_file",
            code="shadow_account",
        )
    listing = await Lister(original, with_customers=True).find(Selection(), ())
    there = await _there(shadow)
    return Looked(plan(listing.items, there), there, account)


async def _there(shadow: StripeReader) -> There:
    listing = await Lister(shadow, with_customers=False).find(Selection(), ())
    meters = await billing_meters(shadow, Oddities())
    return There(
        meters={meter.event_name: meter.id for meter in meters.values() if meter.is_active},
        products=await copies.products(shadow),
        prices=await copies.copies_at(shadow, "/v1/prices", "prices"),
        customers=await copies.copies_at(shadow, "/v1/customers", "customers"),
        items=listing.items,
    )


def steps(plan: Plan) -> list[Step]:
    """Return what is to be done as steps, in the order in which it is done."""
    return [step for batch in _batches(plan) for step in batch]


def _batches(plan: Plan) -> list[list[Step]]:
    """Return the steps in batches, each of which stands on those before it: a price on its meter and its product."""
    return [
        [Step(Kind.BILLING_METER, Action.CREATE, None, f"event name {name}") for name in plan.meters],
        [_copy(Kind.PRODUCT, id) for id in plan.products],
        [_copy(Kind.PRICE, id) for id in plan.prices],
        [_copy(Kind.CUSTOMER, id) for id in plan.customers],
        [_copy(Kind.SUBSCRIPTION, items[0].subscription.id) for items in plan.subscriptions],
        [_copy(Kind.SUBSCRIPTION_ITEM, item.id) for item, _ in plan.added_items],
        [Step(Kind.SUBSCRIPTION_ITEM, Action.REMOVE, one.id, "its original was removed") for one in plan.gone_items],
        [Step(Kind.SUBSCRIPTION, Action.REMOVE, id, "its original has ended") for id in plan.gone_subscriptions],
    ]


def _copy(kind: Kind, original: str) -> Step:
    return Step(kind, Action.CREATE, None, f"copy of {original}")


async def make(looked: Looked, original: StripeReader, shadow: StripeWriter) -> AsyncIterator[Step | Refused]:
    """Do what is to be done, and give each step when it is done, or when Stripe has refused it.

    Raise what StripeWriter raises but StripeRefused: what was given by then is done.
    """
    works = _Making(looked, original, shadow).works()
    for batch in map(list, map(zip, _batches(looked.plan), works)):
        for some in (batch[at : at + _AT_ONCE] for at in range(0, len(batch), _AT_ONCE)):
            for done in await asyncio.gather(*(_carried_out(step, work) for step, work in some)):
                yield done


_Work = Callable[[], Awaitable[str | None]]
"""Does a step, and returns the id of what was made."""


async def _carried_out(step: Step, work: _Work) -> Step | Refused:
    try:
        return replace(step, id=await work() or step.id)
    except StripeRefused as refusal:
        return Refused(step, refusal.message)
    except _Lacking as lacking:
        return Refused(step, f"{lacking} has no copy")


class _Lacking(Exception):
    """There is no copy of what a thing stands on; the message names that."""


class _Making:
    """The work of each step, and the copies that there are by now."""

    def __init__(self, looked: Looked, original: StripeReader, shadow: StripeWriter) -> None:
        self._plan = looked.plan
        self._original = original
        self._shadow = shadow
        self._meters = dict(looked.there.meters)
        self._prices = dict(looked.there.prices)
        self._customers = dict(looked.there.customers)

    def works(self) -> list[list[_Work]]:
        """Return the work of each step, in the batches in which the steps are."""
        plan, shadow = self._plan, self._shadow
        return [
            [partial(self._meter, meter) for meter in plan.meters.values()],
            [partial(self._product, id) for id in plan.products],
            [partial(self._price, id) for id in plan.prices],
            [partial(self._customer, customer) for customer in plan.customers.values()],
            [partial(self._subscription, items) for items in plan.subscriptions],
            [partial(self._item, item, subscription) for item, subscription in plan.added_items],
            [partial(copies.remove_item, shadow, one.id) for one in plan.gone_items],
            [partial(copies.cancel_subscription, shadow, id) for id in plan.gone_subscriptions],
        ]

    async def _meter(self, meter: BillingMeter) -> str:
        made = self._meters[meter.event_name] = await copies.create_meter(self._shadow, meter)
        return made

    async def _product(self, id: str) -> str:
        await copies.create_product(self._shadow, id, await copies.product_name(self._original, id))
        return id

    async def _price(self, id: str) -> str:
        original = await copies.price_to_copy(self._original, id)
        meter = None
        if original.recurring.meter is not None:
            meter = _of(self._meters, self._plan.event_names.get(original.recurring.meter, original.recurring.meter))
        made = self._prices[id] = await copies.create_price(self._shadow, original, meter)
        return made

    async def _customer(self, customer: Customer) -> str:
        made = self._customers[customer.id] = await copies.create_customer(self._shadow, customer)
        return made

    async def _subscription(self, items: Sequence[SubscriptionItem]) -> str:
        subscription, period = items[0].subscription, items[0].period
        for item in items:
            _of(self._prices, item.price.id)
        customer = _of(self._customers, subscription.customer.id)
        first = FirstPeriod(period.start, period.end, subscription.status == "trialing")
        return await copies.create_subscription(self._shadow, items, self._prices, customer, first)

    async def _item(self, item: SubscriptionItem, subscription: str) -> str:
        _of(self._prices, item.price.id)
        return await copies.add_item(self._shadow, item, self._prices, subscription)


def _of(made: Mapping[str, str], original: str) -> str:
    """Return the copy of an original. Raise _Lacking where there is none."""
    if original not in made:
        raise _Lacking(original)
    return made[original]
