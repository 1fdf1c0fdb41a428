"""Bringing a shadow account up to its original: what it lacks is copied, and what is gone is taken away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from meter_sync.core.billing.item import BillingMeter, Customer, SubscriptionItem
from meter_sync.core.metering.mapping import COPY_OF
from meter_sync.core.planning.selection import Selection
from meter_sync.errors import ConfigurationError
from meter_sync.setup.steps import Action, Kind, Step
from meter_sync.shadow.plan import Copy, Originals, Plan, Subscribed, There, plan
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


async def look(original: StripeReader, shadow: StripeReader, *, may_be_one: bool) -> Looked:
    """Compare what an account has with what its shadow has; write nothing.

    `may_be_one` says that both keys are of one mode, so that they may be of one account. Raise ConfigurationError where
    they are, or where that cannot be told; MeterSyncError, or what StripeReader raises.
    """
    account, of_original = await account_of(shadow), await account_of(original)
    if may_be_one and (account is None or account == of_original):
        raise ConfigurationError(
            f"the shadow's key is of {account or 'an account that it may not read'}, and may be of the account itself, "
            f"{of_original or 'which the key of the runs may not read either'}; nothing was made",
            "take a key of a sandbox of its own, which may read Accounts",
            code="shadow_account",
        )
    listing = await Lister(original, with_customers=True).find(Selection(), ())
    originals, there = Originals(listing.items, frozenset(listing.unreadable)), await _there(shadow)
    return Looked(plan(originals, there), there, account)


async def _there(shadow: StripeReader) -> There:
    listing = await Lister(shadow, with_customers=False, only_with_key=COPY_OF).find(Selection(), ())
    meters = await billing_meters(shadow, Oddities())
    return There(
        meters={meter.event_name: meter for meter in meters.values() if meter.is_active},
        products=await copies.products(shadow),
        prices=_by_original(await copies.copies_at(shadow, "/v1/prices", "prices")),
        customers=_by_original(await copies.copies_at(shadow, "/v1/customers", "customers")),
        items=listing.items,
        ended=await copies.ended_copies(shadow),
    )


def _by_original(found: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, Copy]:
    return {metadata[COPY_OF]: Copy(id, metadata) for id, metadata in found}


def steps(plan: Plan) -> list[Step]:
    """Return what is to be done as steps, in the order in which it is done."""
    return [step for batch in _batches(plan) for step in batch]


_KINDS = {
    "prices": Kind.PRICE,
    "customers": Kind.CUSTOMER,
    "subscriptions": Kind.SUBSCRIPTION,
    "subscription_items": Kind.SUBSCRIPTION_ITEM,
}


def _batches(plan: Plan) -> list[list[Step]]:
    """Return the steps in batches, each of which stands on those before it.

    A price stands on its meter and its product; and what takes another one's place comes when that has ended.
    """
    gone, removed = Kind.SUBSCRIPTION, Kind.SUBSCRIPTION_ITEM
    return [
        [Step(Kind.BILLING_METER, Action.CREATE, None, f"event name {name}") for name in plan.meters],
        [_copy(Kind.PRODUCT, id) for id in plan.products],
        [_copy(Kind.PRICE, id) for id in plan.prices],
        [_copy(Kind.CUSTOMER, id) for id in plan.customers],
        [Step(_KINDS[kind], Action.UPDATE, id, "its original's metadata") for kind, id, _ in plan.metadata],
        [Step(gone, Action.REMOVE, id, why) for id, why in plan.gone_subscriptions.items()],
        [Step(removed, Action.REMOVE, one.id, "its original was removed") for one in plan.gone_items],
        [_copy(Kind.SUBSCRIPTION, one.items[0].subscription.id) for one in plan.subscriptions],
        [_copy(Kind.SUBSCRIPTION_ITEM, item.id) for item, _ in plan.added_items],
    ]


def _copy(kind: Kind, original: str) -> Step:
    return Step(kind, Action.CREATE, None, f"copy of {original}")


async def make(looked: Looked, original: StripeReader, shadow: StripeWriter) -> AsyncIterator[Step | Refused]:
    """Do what is to be done, and give each step when it is done, or when Stripe has refused it.

    Raise what StripeWriter raises but StripeRefused: what was given by then is done.
    """
    works = _Making(looked, original, shadow).works()
    for batch in (list(zip(some, work, strict=True)) for some, work in zip(_batches(looked.plan), works, strict=True)):
        for some in (batch[at : at + _AT_ONCE] for at in range(0, len(batch), _AT_ONCE)):
            carried_out = (_carried_out(step, work) for step, work in some)
            ends = await asyncio.gather(*carried_out, return_exceptions=True)
            for end in ends:
                if not isinstance(end, BaseException):
                    yield end
            for end in ends:
                if isinstance(end, BaseException):
                    raise end


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
        self._meters = {name: meter.id for name, meter in looked.there.meters.items()}
        self._prices = {original: copy.id for original, copy in looked.there.prices.items()}
        self._customers = {original: copy.id for original, copy in looked.there.customers.items()}

    def works(self) -> list[list[_Work]]:
        """Return the work of each step, in the batches in which the steps are."""
        plan, shadow = self._plan, self._shadow
        return [
            [partial(self._meter, meter) for meter in plan.meters.values()],
            [partial(self._product, id) for id in plan.products],
            [partial(self._price, id) for id in plan.prices],
            [partial(self._customer, customer) for customer in plan.customers.values()],
            [partial(copies.change_metadata, shadow, kind, id, changes) for kind, id, changes in plan.metadata],
            [partial(copies.cancel_subscription, shadow, id) for id in plan.gone_subscriptions],
            [partial(copies.remove_item, shadow, one.id) for one in plan.gone_items],
            [partial(self._subscription, one) for one in plan.subscriptions],
            [partial(self._item, item, subscription) for item, subscription in plan.added_items],
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

    async def _subscription(self, one: Subscribed) -> str:
        subscription = one.items[0].subscription
        for item in one.items:
            _of(self._prices, item.price.id)
        customer = _of(self._customers, subscription.customer.id)
        first = FirstPeriod(one.start, one.items[0].period.end, subscription.status == "trialing")
        return await copies.create_subscription(self._shadow, one.items, self._prices, customer, first)

    async def _item(self, item: SubscriptionItem, subscription: str) -> str:
        _of(self._prices, item.price.id)
        return await copies.add_item(self._shadow, item, self._prices, subscription)


def _of(made: Mapping[str, str], original: str) -> str:
    """Return the copy of an original. Raise _Lacking where there is none."""
    if original not in made:
        raise _Lacking(original)
    return made[original]
