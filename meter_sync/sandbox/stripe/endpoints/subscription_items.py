"""Endpoints of the embedded Stripe: subscription items."""

from collections.abc import Iterable, Mapping
from typing import Any

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.protocol.parameters import choice, flag, merged, text, text_map, whole
from meter_sync.sandbox.stripe.state.objects import Price, Subscription
from meter_sync.sandbox.stripe.views.subscriptions import show_item
from meter_sync.sandbox.stripe.views.view import Json

PRORATION = choice("always_invoice", "create_prorations", "none")
"""What is to be done about what is paid in advance: nothing here, since only what is metered is billed."""


def check_quantity(price: Price, quantity: int | None) -> None:
    """Refuse a quantity for a metered price: it comes from usage (API reference, quantity)."""
    if price.usage_type == "metered" and quantity is not None:
        raise Refusal(f"Quantity should not be specified where usage_type is `metered` ({price.id}).", param="quantity")


def add_item(call: Call, subscription: Subscription, params: Mapping[str, Any]) -> str:
    """Add an item to a subscription by Stripe's rules, and return its id."""
    price = call.state.prices.find(params["price"], param="price", status=400)
    check_quantity(price, params.get("quantity"))
    if subscription.ended:
        raise Refusal("A canceled subscription can only update its cancellation_details and metadata.")
    taken: Iterable[str] = (call.state.items[each].price for each in subscription.items)
    if price.id in taken:
        raise Refusal(f"Cannot add multiple subscription items with the same plan: {price.id}", param="price")
    return call.world.add_item(
        subscription.id, price.id, metadata=params.get("metadata"), quantity=params.get("quantity")
    )


def change_item(call: Call, identifier: str, params: Mapping[str, Any]) -> None:
    """Change the price and the metadata of an item."""
    if "price" in params:
        call.world.change_price(identifier, params["price"])
    if "metadata" in params:
        before = call.state.items[identifier].metadata
        call.world.set_item_metadata(identifier, merged(before, params["metadata"]))


def _create_item(call: Call) -> Json:
    subscription = call.state.subscriptions.find(call.params["subscription"], param="subscription", status=400)
    return show_item(call.view, call.state.items[add_item(call, subscription, call.params)])


def _get_item(call: Call) -> Json:
    return show_item(call.view, call.state.item(call.ids[0]))


def _update_item(call: Call) -> Json:
    item = call.state.item(call.ids[0])
    change_item(call, item.id, call.params)
    return show_item(call.view, item)


def _delete_item(call: Call) -> Json:
    clear_usage = call.params.get("clear_usage", False)
    call.world.delete_item(call.ids[0], clear_usage=clear_usage)
    return {"id": call.ids[0], "object": "subscription_item", "deleted": True}


def _list_items(call: Call) -> Json:
    subscription = call.params["subscription"]
    call.state.subscriptions.find(subscription, param="subscription", status=400)
    items = call.state.items
    return page(call, items, show_item, shelf=items.shelf(f"subscription:{subscription}"))


ENDPOINTS = (
    Endpoint(
        "POST /v1/subscription_items",
        "subscriptions:write",
        _create_item,
        fields={
            "metadata": text_map,
            "price": text,
            "proration_behavior": PRORATION,
            "quantity": whole(0),
            "subscription": text,
        },
        required=("price", "subscription"),
    ),
    Endpoint(
        "GET /v1/subscription_items",
        "subscriptions:read",
        _list_items,
        fields={**PAGING, "subscription": text},
        required=("subscription",),
    ),
    Endpoint("GET /v1/subscription_items/{}", "subscriptions:read", _get_item),
    Endpoint(
        "POST /v1/subscription_items/{}",
        "subscriptions:write",
        _update_item,
        fields={"metadata": text_map, "price": text},
    ),
    Endpoint(
        "DELETE /v1/subscription_items/{}",
        "subscriptions:write",
        _delete_item,
        fields={"clear_usage": flag, "proration_behavior": PRORATION},
    ),
)
