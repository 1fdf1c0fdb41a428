"""Endpoints of the embedded Stripe: products and their prices."""

from typing import Any

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.protocol.parameters import (
    Reader,
    amount,
    choice,
    flag,
    group,
    list_of,
    merged,
    text,
    text_map,
    whole,
)
from meter_sync.sandbox.stripe.state.objects import Price
from meter_sync.sandbox.stripe.views.prices import show_price, show_product
from meter_sync.sandbox.stripe.views.view import Json

_INTERVAL = choice("day", "week", "month", "year")
_USAGE_TYPE = choice("metered", "licensed")
_RECURRING = group(
    {
        "interval": _INTERVAL,
        "interval_count": whole(1, 1095),
        "usage_type": _USAGE_TYPE,
        "aggregate_usage": choice("sum", "last_during_period", "last_ever", "max"),
        "meter": text,
    },
    required=("interval",),
)


def _create_product(call: Call) -> Json:
    identifier = call.world.add_product(**call.params)
    return show_product(call.view, call.state.products[identifier])


def _get_product(call: Call) -> Json:
    return show_product(call.view, call.state.products.find(call.ids[0]))


def _create_price(call: Call) -> Json:
    params: dict[str, Any] = dict(call.params)
    recurring = params.pop("recurring")
    params.pop("billing_scheme", None)
    unit_amount = params.pop("unit_amount", None)
    if (unit_amount is None) == ("unit_amount_decimal" not in params):
        message = "Pass exactly one of unit_amount and unit_amount_decimal."
        raise Refusal(message, param="unit_amount")
    params.setdefault("unit_amount_decimal", unit_amount)
    recurring.setdefault("usage_type", "licensed")
    _check_recurring(call, recurring)
    identifier = call.world.add_price(**params, **recurring)
    return show_price(call.view, call.state.prices[identifier])


def _check_recurring(call: Call, recurring: dict[str, Any]) -> None:
    """Refuse what this API version does not know.

    Changelog of 2025-03-31.basil: `aggregate_usage` is gone and metered prices need a billing
    meter.
    """
    if not call.view.legacy:
        if "aggregate_usage" in recurring:
            name = "recurring[aggregate_usage]"
            raise Refusal(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
        if recurring["usage_type"] == "metered" and "meter" not in recurring:
            message = "Prices with recurring[usage_type]=metered must be backed by a meter."
            raise Refusal(message, param="recurring[meter]")
    if recurring["usage_type"] == "licensed" and {"aggregate_usage", "meter"} & recurring.keys():
        message = "A price with recurring[usage_type]=licensed takes no aggregation and no meter."
        raise Refusal(message, param="recurring[usage_type]")


def _get_price(call: Call) -> Json:
    return show_price(call.view, call.state.prices.find(call.ids[0], param="price"))


def _update_price(call: Call) -> Json:
    price = call.state.prices.find(call.ids[0], param="price")
    price.active = call.params.get("active", price.active)
    price.nickname = call.params.get("nickname", price.nickname)
    price.metadata = merged(price.metadata, call.params.get("metadata", {}))
    if "lookup_key" in call.params:
        price.lookup_key = call.params["lookup_key"] or None
    return show_price(call.view, price)


def _list_prices(call: Call) -> Json:
    params = call.params
    recurring = params.get("recurring", {})

    def matches(price: Price) -> bool:
        return (
            params.get("active") in (None, price.active)
            and params.get("product") in (None, price.product)
            and params.get("currency") in (None, price.currency)
            and params.get("type") in (None, "recurring")
            and recurring.get("usage_type") in (None, price.usage_type)
            and recurring.get("interval") in (None, price.interval)
            and recurring.get("meter") in (None, price.meter)
            and ("lookup_keys" not in params or price.lookup_key in params["lookup_keys"])
        )

    return page(call, call.state.prices, show_price, matches)


_PRICE_UPDATE: dict[str, Reader] = {
    "active": flag,
    "metadata": text_map,
    "lookup_key": text,
    "nickname": text,
}

ENDPOINTS = (
    Endpoint(
        "POST /v1/products",
        "products:write",
        _create_product,
        fields={"id": text, "name": text, "metadata": text_map},
        required=("name",),
    ),
    Endpoint("GET /v1/products/{}", "products:read", _get_product),
    Endpoint(
        "POST /v1/prices",
        "prices:write",
        _create_price,
        fields={
            **_PRICE_UPDATE,
            "billing_scheme": choice("per_unit"),
            "currency": text,
            "product": text,
            "recurring": _RECURRING,
            "transform_quantity": group(
                {"divide_by": whole(1), "round": choice("up", "down")},
                required=("divide_by", "round"),
            ),
            "unit_amount": whole(0),
            "unit_amount_decimal": amount,
        },
        required=("currency", "product", "recurring"),
    ),
    Endpoint(
        "GET /v1/prices",
        "prices:read",
        _list_prices,
        fields={
            **PAGING,
            "active": flag,
            "currency": text,
            "lookup_keys": list_of(text),
            "product": text,
            "recurring": group({"interval": _INTERVAL, "meter": text, "usage_type": _USAGE_TYPE}),
            "type": choice("one_time", "recurring"),
        },
    ),
    Endpoint("GET /v1/prices/{}", "prices:read", _get_price),
    Endpoint("POST /v1/prices/{}", "prices:write", _update_price, fields=_PRICE_UPDATE),
)
