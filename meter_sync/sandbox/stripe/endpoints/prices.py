"""Endpoints of the embedded Stripe: products and their prices."""

from decimal import Decimal
from itertools import pairwise
from typing import Any

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.protocol.parameters import (
    Reader,
    amount,
    at_most,
    choice,
    currency,
    flag,
    group,
    list_of,
    merged,
    text,
    text_map,
    whole,
)
from meter_sync.sandbox.stripe.rules.prices import give_lookup_key
from meter_sync.sandbox.stripe.state.objects import Price, Product, Tier
from meter_sync.sandbox.stripe.views.prices import show_price, show_price_with_tiers, show_product
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


def _list_products(call: Call) -> Json:
    active = call.params.get("active")

    def matches(product: Product) -> bool:
        return active in (None, product.active)

    return page(call, call.state.products, show_product, matches)


def _create_price(call: Call) -> Json:
    params: dict[str, Any] = {name: value for name, value in call.params.items() if name != "expand"}
    recurring = params.pop("recurring")
    params |= _amounts(params)
    recurring.setdefault("usage_type", "licensed")
    _check_recurring(call, recurring)
    identifier = call.world.add_price(**params, **recurring)
    return _shown(call, call.state.prices[identifier])


def _amounts(params: dict[str, Any]) -> dict[str, Any]:
    """Take the amounts out of the parameters of a price, and return what they say: one for all units, or tiers."""
    is_tiered = params.pop("billing_scheme", "per_unit") == "tiered"
    unit_amount = params.pop("unit_amount", None)
    if is_tiered:
        for name in ("unit_amount_decimal", "transform_quantity"):
            if unit_amount is not None or name in params:
                raise Refusal(f"A price with billing_scheme=tiered takes no {name}.", param=name)
        if "tiers_mode" not in params or not params.get("tiers"):
            raise Refusal("A price with billing_scheme=tiered needs tiers and tiers_mode.", param="tiers")
        return {"unit_amount_decimal": Decimal(0), "tiers": _tiers(params["tiers"])}
    if {"tiers", "tiers_mode"} & params.keys():
        raise Refusal("Tiers need billing_scheme=tiered.", param="tiers")
    if (unit_amount is None) == ("unit_amount_decimal" not in params):
        message = "Pass exactly one of unit_amount and unit_amount_decimal."
        raise Refusal(message, param="unit_amount")
    return {"unit_amount_decimal": params.get("unit_amount_decimal", unit_amount)}


def _tiers(given: list[dict[str, Any]]) -> list[Tier]:
    """Return the tiers: each ends after the one before, and the last has no end."""
    bounds = [tier["up_to"] for tier in given]
    if bounds[-1] is not None or None in bounds[:-1]:
        raise Refusal("The last tier, and no other, has up_to=inf.", param="tiers")
    if any(upper <= lower for lower, upper in pairwise(bounds[:-1])):
        raise Refusal("Each tier's up_to must be more than that of the one before.", param="tiers")
    return [Tier(tier["up_to"], *(_amount(tier, kind) for kind in ("unit", "flat"))) for tier in given]


def _amount(tier: dict[str, Any], kind: str) -> Decimal:
    """Return the amount per unit, or beside that, of a tier; nothing where it has none."""
    given = [tier[name] for name in (f"{kind}_amount", f"{kind}_amount_decimal") if name in tier]
    if len(given) > 1:
        raise Refusal(f"Pass only one of {kind}_amount and {kind}_amount_decimal.", param="tiers")
    return Decimal(given[0]) if given else Decimal(0)


def _up_to(value: Any, name: str) -> int | None:
    """Read the end of a tier; None for none."""
    return None if value == "inf" else int(whole(1)(value, name))


def _shown(call: Call, price: Price) -> Json:
    return (show_price_with_tiers if call.expands("tiers") else show_price)(call.view, price)


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
    return _shown(call, call.state.prices.find(call.ids[0], param="price"))


def _update_price(call: Call) -> Json:
    price = call.state.prices.find(call.ids[0], param="price")
    price.active = call.params.get("active", price.active)
    price.nickname = call.params.get("nickname", price.nickname)
    price.metadata = merged(price.metadata, call.params.get("metadata", {}))
    if "lookup_key" in call.params:
        transfer = call.params.get("transfer_lookup_key", False)
        give_lookup_key(call.state, price, call.params["lookup_key"] or None, transfer=transfer)
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

    show = show_price_with_tiers if call.expands("data.tiers") else show_price
    return page(call, call.state.prices, show, matches)


_PRICE_UPDATE: dict[str, Reader] = {
    "active": flag,
    "metadata": text_map,
    "lookup_key": at_most(200),
    "nickname": text,
    "transfer_lookup_key": flag,
}
_TIER = group(
    {
        "flat_amount": whole(0),
        "flat_amount_decimal": amount,
        "unit_amount": whole(0),
        "unit_amount_decimal": amount,
        "up_to": _up_to,
    },
    required=("up_to",),
)

ENDPOINTS = (
    Endpoint(
        "POST /v1/products",
        "products:write",
        _create_product,
        fields={"id": text, "name": text, "metadata": text_map, "active": flag},
        required=("name",),
    ),
    Endpoint("GET /v1/products", "products:read", _list_products, fields={**PAGING, "active": flag}),
    Endpoint("GET /v1/products/{}", "products:read", _get_product),
    Endpoint(
        "POST /v1/prices",
        "prices:write",
        _create_price,
        fields={
            **_PRICE_UPDATE,
            "billing_scheme": choice("per_unit", "tiered"),
            "currency": currency,
            "product": text,
            "recurring": _RECURRING,
            "transform_quantity": group(
                {"divide_by": whole(1), "round": choice("up", "down")},
                required=("divide_by", "round"),
            ),
            "unit_amount": whole(0),
            "unit_amount_decimal": amount,
            "tiers": list_of(_TIER),
            "tiers_mode": choice("graduated", "volume"),
        },
        required=("currency", "product", "recurring"),
        expandable=frozenset({"tiers"}),
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
        expandable=frozenset({"data.tiers"}),
    ),
    Endpoint("GET /v1/prices/{}", "prices:read", _get_price, expandable=frozenset({"tiers"})),
    Endpoint("POST /v1/prices/{}", "prices:write", _update_price, fields=_PRICE_UPDATE),
)
