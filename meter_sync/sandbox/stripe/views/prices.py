"""How Stripe shows products and prices, in each API version (API reference of 2025-01-27.acacia)."""

from meter_sync.sandbox.stripe.state.objects import Price, Product, Tier
from meter_sync.sandbox.stripe.views.view import Json, View


def show_product(view: View, product: Product) -> Json:
    """Show a product."""
    shown: Json = {
        "id": product.id,
        "object": "product",
        "active": product.active,
        "created": product.created,
        "description": None,
        "images": [],
        "livemode": view.livemode,
        "metadata": product.metadata,
        "name": product.name,
        "updated": product.created,
    }
    # Renamed to marketing_features in 2024-04-10; the 2023 shape requires it.
    return {**shown, "features": []} if view.legacy else shown


def show_price_with_tiers(view: View, price: Price) -> Json:
    """Show a price with its tiers, which are there only where they are asked for (API reference, Prices)."""
    tiers = {"tiers": [_show_tier(tier) for tier in price.tiers]} if price.tiers else {}
    return {**show_price(view, price), **tiers}


def _show_tier(tier: Tier) -> Json:
    flat, unit = tier.flat_amount_decimal, tier.unit_amount_decimal
    return {
        "flat_amount": int(flat) if flat and flat == int(flat) else None,
        "flat_amount_decimal": format(flat, "f") if flat else None,
        "unit_amount": int(unit) if unit == int(unit) else None,
        "unit_amount_decimal": format(unit, "f"),
        "up_to": tier.up_to,
    }


def show_price(view: View, price: Price) -> Json:
    """Show a price; `aggregate_usage` is readable only before 2025-03-31.basil."""
    recurring: Json = {
        "interval": price.interval,
        "interval_count": price.interval_count,
        "meter": price.meter,
        "trial_period_days": None,
        "usage_type": price.usage_type,
    }
    if view.legacy:
        recurring["aggregate_usage"] = price.aggregate_usage
    transform = price.transform_quantity
    unit = None if price.tiers else price.unit_amount_decimal
    return {
        "id": price.id,
        "object": "price",
        "active": price.active,
        "billing_scheme": "tiered" if price.tiers else "per_unit",
        "created": price.created,
        "currency": price.currency,
        "custom_unit_amount": None,
        "livemode": view.livemode,
        "lookup_key": price.lookup_key,
        "metadata": price.metadata,
        "nickname": price.nickname,
        "product": price.product,
        "recurring": recurring,
        "tax_behavior": "unspecified",
        "tiers_mode": price.tiers_mode,
        "transform_quantity": (
            None if transform is None else {"divide_by": transform.divide_by, "round": transform.round}
        ),
        "type": "recurring",
        "unit_amount": int(unit) if unit is not None and unit == int(unit) else None,
        "unit_amount_decimal": None if unit is None else format(unit, "f"),
    }
