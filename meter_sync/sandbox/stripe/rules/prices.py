"""Products and their prices: how they come into being.

Source: API reference, Products and Prices (tiers, lookup keys).
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.state.objects import (
    Aggregation,
    Interval,
    Metadata,
    Price,
    Product,
    Tier,
    TiersMode,
    TransformQuantity,
    UsageType,
)
from meter_sync.sandbox.stripe.state.stripe_state import StripeState


def add_product(
    state: StripeState,
    id: str | None = None,
    name: str = "Usage",
    metadata: Metadata | None = None,
    active: bool = True,
) -> str:
    """Add a product and return its id."""
    product = Product(
        id=id or state.new_id("prod"),
        created=state.now,
        name=name,
        metadata=dict(metadata or {}),
        active=active,
    )
    state.products.add(product)
    return product.id


def add_price(
    state: StripeState,
    id: str | None = None,
    product: str | None = None,
    unit_amount_decimal: str | Decimal = "0.02",
    usage_type: UsageType = "metered",
    aggregate_usage: Aggregation = "sum",
    meter: str | None = None,
    interval: Interval = "month",
    interval_count: int = 1,
    active: bool = True,
    metadata: Metadata | None = None,
    lookup_key: str | None = None,
    transform_quantity: TransformQuantity | Mapping[str, object] | None = None,
    *,
    currency: str = "usd",
    nickname: str | None = None,
    tiers: Sequence[Tier] = (),
    tiers_mode: TiersMode | None = None,
    transfer_lookup_key: bool = False,
) -> str:
    """Add a recurring price per unit, in cents, or by tiers, and return its id."""
    legacy = usage_type == "metered" and meter is None
    price = Price(
        id=id or state.new_id("price"),
        created=state.now,
        product=product or add_product(state),
        currency=currency,
        unit_amount_decimal=Decimal(unit_amount_decimal),
        usage_type=usage_type,
        aggregate_usage=aggregate_usage if legacy else None,
        meter=meter,
        interval=interval,
        interval_count=interval_count,
        active=active,
        metadata=dict(metadata or {}),
        lookup_key=None,
        transform_quantity=_transform_of(transform_quantity),
        nickname=nickname,
        tiers=tuple(tiers),
        tiers_mode=tiers_mode,
    )
    state.products.find(price.product, param="product", status=400)
    if meter is not None and state.meters.find(meter, param="recurring[meter]", status=400).deactivated_at:
        raise Refusal(f"The meter {meter} is inactive.", param="recurring[meter]")
    give_lookup_key(state, price, lookup_key, transfer=transfer_lookup_key)
    state.prices.add(price)
    return price.id


def give_lookup_key(state: StripeState, price: Price, lookup_key: str | None, *, transfer: bool = False) -> None:
    """Give a price a lookup key, None to take it away.

    One that another price has, archived or not, is refused, or taken from that one where it is to be transferred.
    """
    for other in state.prices:
        if lookup_key is not None and other is not price and other.lookup_key == lookup_key:
            if not transfer:
                raise Refusal(f"A price (`{other.id}`) already uses that lookup key.", param="lookup_key")
            other.lookup_key = None
    price.lookup_key = lookup_key


def _transform_of(given: TransformQuantity | Mapping[str, object] | None) -> TransformQuantity | None:
    """Return a transformation given as such or as Stripe's JSON."""
    if given is None or isinstance(given, TransformQuantity):
        return given
    rounding = given["round"]
    if rounding not in ("up", "down"):
        raise ValueError(f"not a way to round: {rounding!r}")
    return TransformQuantity(int(str(given["divide_by"])), "up" if rounding == "up" else "down")
