"""Endpoints of the embedded Stripe: subscriptions and their items."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from meter_sync.sandbox.instants import from_unix
from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page
from meter_sync.sandbox.stripe.endpoints.subscription_items import PRORATION, check_quantity
from meter_sync.sandbox.stripe.protocol.errors import Refusal, no_such
from meter_sync.sandbox.stripe.protocol.parameters import (
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
from meter_sync.sandbox.stripe.rules.billing_periods import period_at
from meter_sync.sandbox.stripe.state.objects import ENDED_STATUSES, STATUSES, BillingMode, Price, Subscription
from meter_sync.sandbox.stripe.views.subscriptions import show_subscription
from meter_sync.sandbox.stripe.views.view import Json, View

_THRESHOLDS = group({"amount_gte": whole(1), "reset_billing_cycle_anchor": flag})
_END_BEHAVIOR = group({"missing_payment_method": choice("create_invoice", "pause")}, ("missing_payment_method",))
TRIAL_SETTINGS = group({"end_behavior": _END_BEHAVIOR}, ("end_behavior",))
_BILLING_MODE = group({"type": choice("classic", "flexible")}, ("type",))
_NEW_ITEM = group({"price": text, "metadata": text_map, "quantity": whole(0)}, required=("price",))


_EXPANDABLE = {"customer": "customers:read", "schedule": "subscription_schedules:read"}
EXPANSIONS = frozenset(_EXPANDABLE)
"""What can be expanded of a subscription."""


def showing(call: Call, place: str = "") -> Callable[[View, Subscription], Json]:
    """Return how subscriptions are shown; expanding what is in a place of the answer needs the right to read it."""
    expanded = [name for name in _EXPANDABLE if call.expands(place + name)]
    for name in expanded:
        call.require(_EXPANDABLE[name])
    return partial(show_subscription, expanded=expanded)


def _create_subscription(call: Call) -> Json:
    """Create a subscription whose first period contains now.

    Simplified: usage before a backdated subscription's current period is not billed here, nobody pays, and nothing
    licensed is prorated.
    """
    shown = showing(call)
    params = call.params
    if ("days_until_due" in params) != (params.get("collection_method") == "send_invoice"):
        message = "You must pass `days_until_due` if, and only if, `collection_method` is `send_invoice`."
        raise Refusal(message, param="days_until_due")
    prices = [call.state.prices.find(each["price"], param="items", status=400) for each in params["items"]]
    if not prices:
        raise Refusal("Missing required param: items.", code="parameter_missing", param="items")
    for price, each in zip(prices, params["items"], strict=True):
        check_quantity(price, each.get("quantity"))
    customer = call.state.customers.find(params["customer"], param="customer", status=400)
    if customer.deleted:
        raise no_such("customer", customer.id, param="customer", status=400)
    if params.get("collection_method") == "send_invoice" and not customer.email:
        raise Refusal(
            "Missing email. In order to create invoices that are sent to the customer, the customer must have a valid "
            "email."
        )
    view = call.world.add_subscription(
        customer.id,
        [price.id for price in prices],
        metadata=params.get("metadata"),
        item_metadata=[each.get("metadata", {}) for each in params["items"]],
        quantities=[each.get("quantity") for each in params["items"]],
        billing_thresholds=_thresholds(params.get("billing_thresholds")),
        pauses_after_trial=pauses(params),
        billing_mode=_billing_mode(call),
        **_first_period(call, prices[0], call.state.now_of(customer.test_clock)),
    )
    return shown(call.view, call.state.subscriptions[view.id])


def pauses(params: Mapping[str, Any]) -> bool:
    """Whether a subscription is to be paused at its trial's end: nobody has a payment method here."""
    settings = params.get("trial_settings", {"end_behavior": {}})
    return bool(settings["end_behavior"].get("missing_payment_method") == "pause")


def _billing_mode(call: Call) -> BillingMode:
    default = "flexible" if call.view.version.is_flexible_by_default else "classic"
    mode: BillingMode = call.params.get("billing_mode", {"type": default})["type"]
    return mode


def _thresholds(given: dict[str, Any] | None) -> dict[str, object] | None:
    if given is None:
        return None
    return {"amount_gte": None, "reset_billing_cycle_anchor": None, **given}


def _first_period(call: Call, price: Price, now: int) -> dict[str, Any]:
    """Return when the first periods begin and end, and what they are counted from.

    A trial, or else a billing cycle anchor in the future, ends the first period early; a backdated
    subscription's periods are counted from its start (Stripe documentation, Billing cycle). `now` is in Unix seconds.
    """
    start = call.params.get("backdate_start_date", now)
    if start > now:
        raise Refusal("The backdated start date must be in the past.", param="backdate_start_date")
    end = future(call, "trial_end", now) or future(call, "billing_cycle_anchor", now)
    if end is not None:
        name = "trial_end" if "trial_end" in call.params else "period_end"
        return {"period_start": from_unix(start), name: from_unix(end), "created": from_unix(now)}
    period = period_at(start, price, now)
    return {"period_start": from_unix(period.start), "anchor": from_unix(start), "created": from_unix(now)}


def future(call: Call, name: str, now: int) -> int | None:
    """Return the Unix seconds given under a name, None for none; refuse what is not after now, in the same unit."""
    instant: int | None = call.params.get(name)
    if instant is not None and instant <= now:
        raise Refusal(f"Invalid timestamp: {name} must be an integer Unix timestamp in the future.", param=name)
    return instant


def _get_subscription(call: Call) -> Json:
    return showing(call)(call.view, call.state.subscriptions.find(call.ids[0]))


def _cancel_subscription(call: Call) -> Json:
    shown = showing(call)
    subscription = call.state.subscriptions.find(call.ids[0])
    if subscription.ended:
        raise no_such("subscription", subscription.id)
    call.world.cancel(subscription.id, invoice_now=call.params.get("invoice_now", False))
    return shown(call.view, subscription)


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
    shown = showing(call, "data.")
    shelf = None
    if "price" in params:
        state.prices.find(params["price"], param="price", status=400)
        shelf = state.subscriptions.shelf(f"price:{params['price']}")
    if "customer" in params:
        state.customers.find(params["customer"], param="customer", status=400)
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

    return page(call, state.subscriptions, shown, matches, shelf)


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


ENDPOINTS = (
    Endpoint(
        "POST /v1/subscriptions",
        "subscriptions:write",
        _create_subscription,
        fields={
            "backdate_start_date": whole(0),
            "billing_mode": _BILLING_MODE,
            "billing_cycle_anchor": whole(0),
            "billing_thresholds": _THRESHOLDS,
            "collection_method": choice("charge_automatically", "send_invoice"),
            "customer": text,
            "days_until_due": whole(1),
            "items": list_of(_NEW_ITEM),
            "metadata": text_map,
            "proration_behavior": PRORATION,
            "trial_end": whole(0),
            "trial_settings": TRIAL_SETTINGS,
        },
        required=("customer", "items"),
        expandable=EXPANSIONS,
    ),
    Endpoint(
        "GET /v1/subscriptions",
        "subscriptions:read",
        _list_subscriptions,
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
        expandable=frozenset(f"data.{name}" for name in EXPANSIONS),
    ),
    Endpoint("GET /v1/subscriptions/{}", "subscriptions:read", _get_subscription, expandable=EXPANSIONS),
    Endpoint(
        "DELETE /v1/subscriptions/{}",
        "subscriptions:write",
        _cancel_subscription,
        fields={"invoice_now": flag, "prorate": flag},
        expandable=EXPANSIONS,
    ),
)
