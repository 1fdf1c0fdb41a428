"""Endpoints of the embedded Stripe: subscriptions and their items."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from meter_sync.sandbox.billing_periods import period_at
from meter_sync.sandbox.stripe_catalog import merged
from meter_sync.sandbox.stripe_endpoints import PAGING, Call, Endpoint, page
from meter_sync.sandbox.stripe_errors import Refusal
from meter_sync.sandbox.stripe_objects import ENDED_STATUSES, STATUSES, Price, Subscription
from meter_sync.sandbox.stripe_parameters import (
    choice,
    flag,
    group,
    list_of,
    span,
    text,
    text_map,
    whole,
    within,
)
from meter_sync.sandbox.stripe_views import Json

_THRESHOLDS = group({"amount_gte": whole(1), "reset_billing_cycle_anchor": flag})
_NEW_ITEM = group({"price": text, "metadata": text_map, "quantity": whole(0)}, required=("price",))


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _show(call: Call, expansion: str) -> Callable[[Subscription], Json]:
    """Return how subscriptions are shown; expanding the customer needs the right to read it."""
    expand = call.expands(expansion)
    if expand:
        call.require("customers:read")
    return lambda subscription: call.views.subscription(subscription, expand_customer=expand)


def _check_quantity(price: Price, quantity: int | None) -> None:
    """Refuse a quantity for a metered price: it comes from usage (API reference, quantity)."""
    if price.usage_type == "metered" and quantity is not None:
        raise Refusal(
            f"Quantity should not be specified where usage_type is `metered` ({price.id}).",
            param="quantity",
        )


def _create_subscription(call: Call) -> Json:
    """Create a subscription whose first period contains now.

    Simplified: usage before a backdated subscription's current period is not billed here.
    """
    show = _show(call, "customer")
    params = call.params
    prices = [call.state.price(each["price"], param="items", status=400) for each in params["items"]]
    if not prices:
        raise Refusal("Missing required param: items.", code="parameter_missing", param="items")
    for price, each in zip(prices, params["items"], strict=True):
        _check_quantity(price, each.get("quantity"))
    customer = call.state.customer(params["customer"], param="customer", status=400)
    if customer.deleted:
        raise Refusal(f"No such customer: '{customer.id}'", code="resource_missing", param="customer")
    view = call.world.add_subscription(
        customer.id,
        [price.id for price in prices],
        metadata=params.get("metadata"),
        item_metadata=[each.get("metadata", {}) for each in params["items"]],
        quantities=[each.get("quantity") for each in params["items"]],
        billing_thresholds=_thresholds(params.get("billing_thresholds")),
        **_first_period(call, prices[0]),
    )
    return show(call.state.subscriptions[view.id])


def _thresholds(given: dict[str, Any] | None) -> dict[str, object] | None:
    if given is None:
        return None
    return {"amount_gte": None, "reset_billing_cycle_anchor": None, **given}


def _first_period(call: Call, price: Price) -> dict[str, Any]:
    """Return when the first periods begin and end, and what they are counted from.

    A trial, or else a billing cycle anchor in the future, ends the first period early; a backdated
    subscription's periods are counted from its start (Stripe documentation, Billing cycle).
    """
    now = call.world.clock.timestamp()
    start = call.params.get("backdate_start_date", now)
    if start > now:
        raise Refusal("The backdated start date must be in the past.", param="backdate_start_date")
    end = _future(call, "trial_end") or _future(call, "billing_cycle_anchor")
    if end is not None:
        name = "trial_end" if "trial_end" in call.params else "period_end"
        return {
            "period_start": _instant(start),
            name: _instant(end),
            "created": _instant(now),
        }
    period = period_at(start, price.interval, price.interval_count, now)
    return {
        "period_start": _instant(period.start),
        "anchor": _instant(start),
        "created": _instant(now),
    }


def _future(call: Call, name: str) -> int | None:
    instant: int | None = call.params.get(name)
    if instant is not None and instant <= call.world.clock.timestamp():
        raise Refusal(
            f"Invalid timestamp: {name} must be an integer Unix timestamp in the future.",
            param=name,
        )
    return instant


def _get_subscription(call: Call) -> Json:
    return _show(call, "customer")(call.state.subscription(call.ids[0]))


def _cancel_subscription(call: Call) -> Json:
    show = _show(call, "customer")
    subscription = call.state.subscription(call.ids[0])
    if subscription.ended:
        raise Refusal(
            f"No such subscription: '{subscription.id}'",
            status=404,
            code="resource_missing",
            param="id",
        )
    call.world.cancel(subscription.id, invoice_now=call.params.get("invoice_now", False))
    return show(subscription)


def _has_status(subscription: Subscription, wanted: str | None) -> bool:
    """Tell whether a list includes a status: without a filter, everything but `canceled`."""
    if wanted is None:
        return subscription.status != "canceled"
    if wanted == "ended":
        return subscription.status in ENDED_STATUSES
    return wanted in ("all", subscription.status)


def _list_subscriptions(call: Call) -> Json:
    """List subscriptions; those of test clocks only with `customer` or `test_clock`."""
    params, state = call.params, call.state
    show = _show(call, "data.customer")
    shelf = state.subscriptions.everything
    if "price" in params:
        state.price(params["price"], param="price", status=400)
        shelf = state.subscriptions.shelf(f"price:{params['price']}")
    if "customer" in params:
        state.customer(params["customer"], param="customer", status=400)
        shelf = state.subscriptions.shelf(f"customer:{params['customer']}")
    test_clock = params.get("test_clock")

    def matches(subscription: Subscription) -> bool:
        return (
            _has_status(subscription, params.get("status"))
            and ("customer" in params or subscription.test_clock == test_clock)
            and test_clock in (None, subscription.test_clock)
            and ("price" not in params or _contains(call, subscription, params["price"]))
            and within(params.get("created"), subscription.created)
            and _period_within(call, subscription)
        )

    return page(call, "subscription", state.subscriptions, shelf, show, matches)


def _contains(call: Call, subscription: Subscription, price: str) -> bool:
    return any(call.state.items[each].price == price for each in subscription.items)


def _period_within(call: Call, subscription: Subscription) -> bool:
    """Tell whether the latest start and the earliest end of its items' periods meet the filters."""
    start, end = call.params.get("current_period_start"), call.params.get("current_period_end")
    if start is None and end is None:
        return True
    periods = [call.state.items[each].period for each in subscription.items]
    return (
        bool(periods)
        and within(start, max(period.start for period in periods))
        and within(end, min(period.end for period in periods))
    )


def _create_item(call: Call) -> Json:
    params = call.params
    price = call.state.price(params["price"], param="price", status=400)
    _check_quantity(price, params.get("quantity"))
    subscription = call.state.subscription(params["subscription"], param="subscription", status=400)
    if subscription.ended:
        raise Refusal("A canceled subscription can only update its cancellation_details and metadata.")
    taken: Iterable[str] = (call.state.items[each].price for each in subscription.items)
    if price.id in taken:
        raise Refusal(f"Cannot add multiple subscription items with the same plan: {price.id}", param="price")
    identifier = call.world.add_item(
        subscription.id,
        price.id,
        metadata=params.get("metadata"),
        quantity=params.get("quantity"),
    )
    return call.views.item(call.state.items[identifier])


def _get_item(call: Call) -> Json:
    return call.views.item(call.state.item(call.ids[0]))


def _update_item(call: Call) -> Json:
    item = call.state.item(call.ids[0])
    if "price" in call.params:
        call.world.change_price(item.id, call.params["price"])
    item.metadata = merged(item.metadata, call.params.get("metadata", {}))
    return call.views.item(item)


def _delete_item(call: Call) -> Json:
    clear_usage = call.params.get("clear_usage", False)
    call.world.delete_item(call.ids[0], clear_usage=clear_usage)
    return {"id": call.ids[0], "object": "subscription_item", "deleted": True}


def _list_items(call: Call) -> Json:
    subscription = call.params["subscription"]
    call.state.subscription(subscription, param="subscription", status=400)
    items = call.state.items
    shelf = items.shelf(f"subscription:{subscription}")
    return page(call, "subscription_item", items, shelf, call.views.item)


ENDPOINTS = (
    Endpoint(
        method="POST",
        template="/v1/subscriptions",
        permission="subscriptions:write",
        fields={
            "backdate_start_date": whole(0),
            "billing_cycle_anchor": whole(0),
            "billing_thresholds": _THRESHOLDS,
            "customer": text,
            "items": list_of(_NEW_ITEM),
            "metadata": text_map,
            "trial_end": whole(0),
        },
        required=("customer", "items"),
        expandable=frozenset({"customer"}),
        carry_out=_create_subscription,
    ),
    Endpoint(
        method="GET",
        template="/v1/subscriptions",
        permission="subscriptions:read",
        fields={
            **PAGING,
            "created": span,
            "current_period_end": span,
            "current_period_start": span,
            "customer": text,
            "price": text,
            "status": choice("all", "ended", *sorted(STATUSES)),
            "test_clock": text,
        },
        expandable=frozenset({"data.customer"}),
        carry_out=_list_subscriptions,
    ),
    Endpoint(
        method="GET",
        template="/v1/subscriptions/{}",
        permission="subscriptions:read",
        expandable=frozenset({"customer"}),
        carry_out=_get_subscription,
    ),
    Endpoint(
        method="DELETE",
        template="/v1/subscriptions/{}",
        permission="subscriptions:write",
        fields={"invoice_now": flag, "prorate": flag},
        expandable=frozenset({"customer"}),
        carry_out=_cancel_subscription,
    ),
    Endpoint(
        method="POST",
        template="/v1/subscription_items",
        permission="subscriptions:write",
        fields={"metadata": text_map, "price": text, "quantity": whole(0), "subscription": text},
        required=("price", "subscription"),
        carry_out=_create_item,
    ),
    Endpoint(
        method="GET",
        template="/v1/subscription_items",
        permission="subscriptions:read",
        fields={**PAGING, "subscription": text},
        required=("subscription",),
        carry_out=_list_items,
    ),
    Endpoint(
        method="GET",
        template="/v1/subscription_items/{}",
        permission="subscriptions:read",
        carry_out=_get_item,
    ),
    Endpoint(
        method="POST",
        template="/v1/subscription_items/{}",
        permission="subscriptions:write",
        fields={"metadata": text_map, "price": text},
        carry_out=_update_item,
    ),
    Endpoint(
        method="DELETE",
        template="/v1/subscription_items/{}",
        permission="subscriptions:write",
        fields={"clear_usage": flag},
        carry_out=_delete_item,
    ),
)
