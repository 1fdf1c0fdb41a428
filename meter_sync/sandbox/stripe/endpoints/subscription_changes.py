"""Endpoints of the embedded Stripe: changing, pausing and resuming a subscription."""

from typing import Any

from meter_sync.sandbox.instants import from_unix
from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.subscription_items import add_item, change_item
from meter_sync.sandbox.stripe.endpoints.subscriptions import EXPANSIONS, TRIAL_SETTINGS, future, pauses, showing
from meter_sync.sandbox.stripe.protocol.errors import Refusal, no_such
from meter_sync.sandbox.stripe.protocol.parameters import (
    choice,
    flag,
    group,
    instant_or_now,
    list_of,
    merged,
    or_empty,
    text,
    text_map,
    whole,
)
from meter_sync.sandbox.stripe.rules.events import changing
from meter_sync.sandbox.stripe.state.objects import Subscription
from meter_sync.sandbox.stripe.views.view import Json

_PRORATION = choice("always_invoice", "create_prorations", "none")
"""Taken and without effect: prorations are of licensed items, which are not billed here."""
_PAUSE = group(
    {"behavior": choice("keep_as_draft", "mark_uncollectible", "void"), "resumes_at": whole(0)}, ("behavior",)
)
_CHANGED_ITEM = group(
    {
        "clear_usage": flag,
        "deleted": flag,
        "id": text,
        "metadata": text_map,
        "price": text,
        "quantity": whole(0),
    }
)


def _update_subscription(call: Call) -> Json:
    """Change a subscription; whatever changes together is told of by one event."""
    shown = showing(call)
    subscription, params = call.state.subscriptions.find(call.ids[0]), call.params
    if subscription.ended and params.keys() - {"expand", "metadata"}:
        raise Refusal("A canceled subscription can only update its cancellation_details and metadata.")
    _check(call, subscription)
    with changing(call.state, subscription.id):
        for change in params.get("items", []):
            _update_item(call, subscription, change)
        if params.get("billing_cycle_anchor") == "now":
            call.world.restart_periods(subscription.id)
        if "trial_end" in params:
            _update_trial(call, subscription, params["trial_end"])
        if "trial_settings" in params:
            subscription.pauses_after_trial = pauses(params)
        if "pause_collection" in params:
            _update_collection(call, subscription, params["pause_collection"])
        _update_end(call, subscription)
        if "metadata" in params:
            call.world.set_subscription_metadata(subscription.id, merged(subscription.metadata, params["metadata"]))
    return shown(call.view, subscription)


def _check(call: Call, subscription: Subscription) -> None:
    """Refuse, before anything is changed, what is wrong with the request by itself."""
    if {"cancel_at", "cancel_at_period_end"} <= call.params.keys():
        message = "You may only specify one of these parameters: cancel_at, cancel_at_period_end."
        raise Refusal(message, param="cancel_at")
    for name in ("cancel_at", "trial_end"):
        future(call, name, call.state.now_of(subscription.test_clock))


def _update_item(call: Call, subscription: Subscription, change: dict[str, Any]) -> None:
    """Add an item, or change or delete the one whose id is given."""
    if "id" not in change:
        if "price" not in change:
            raise Refusal("Missing required param: items[price].", code="parameter_missing", param="items")
        add_item(call, subscription, change)
        return
    item = call.state.item(change["id"], param="items", status=400)
    if item.subscription != subscription.id:
        raise no_such("subscription_item", item.id, param="items", status=400)
    if change.get("deleted"):
        call.world.delete_item(item.id, clear_usage=change.get("clear_usage", False))
    else:
        change_item(call, item.id, change)


def _update_trial(call: Call, subscription: Subscription, trial_end: int | None) -> None:
    if trial_end is not None:
        call.world.start_trial(subscription.id, from_unix(trial_end))
    elif subscription.status == "trialing":
        call.world.end_trial(subscription.id)


def _update_collection(call: Call, subscription: Subscription, pause: dict[str, Any] | None) -> None:
    if pause is None:
        call.world.pause_collection(subscription.id, None)
        return
    resumes_at = pause.get("resumes_at")
    call.world.pause_collection(
        subscription.id, pause["behavior"], None if resumes_at is None else from_unix(resumes_at)
    )


def _update_end(call: Call, subscription: Subscription) -> None:
    """Let the subscription end later, or keep it (API reference, Update a subscription)."""
    params = call.params
    if params.get("cancel_at_period_end"):
        call.world.cancel_at_period_end(subscription.id)
    elif "cancel_at_period_end" in params or "cancel_at" in params:
        end = params.get("cancel_at")
        call.world.cancel_at(subscription.id, None if end is None else from_unix(end))


def _resume_subscription(call: Call) -> Json:
    shown = showing(call)
    subscription = call.state.subscriptions.find(call.ids[0])
    if subscription.status != "paused":
        raise Refusal("You can only resume a subscription whose status is `paused`.")
    call.world.resume(subscription.id, new_anchor=call.params.get("billing_cycle_anchor", "now") == "now")
    return shown(call.view, subscription)


ENDPOINTS = (
    Endpoint(
        "POST /v1/subscriptions/{}",
        "subscriptions:write",
        _update_subscription,
        fields={
            "billing_cycle_anchor": choice("now", "unchanged"),
            "cancel_at": or_empty(whole(0)),
            "cancel_at_period_end": flag,
            "items": list_of(_CHANGED_ITEM),
            "metadata": text_map,
            "pause_collection": or_empty(_PAUSE),
            "proration_behavior": _PRORATION,
            "trial_end": instant_or_now,
            "trial_settings": TRIAL_SETTINGS,
        },
        expandable=EXPANSIONS,
    ),
    Endpoint(
        "POST /v1/subscriptions/{}/resume",
        "subscriptions:write",
        _resume_subscription,
        fields={"billing_cycle_anchor": choice("now", "unchanged"), "proration_behavior": _PRORATION},
        expandable=EXPANSIONS,
    ),
)
