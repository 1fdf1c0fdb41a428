"""A first metered price: what is there of it in Stripe and OpenMeter, and making the rest."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.metering.mapping import MappingRules
from meter_sync.core.metering.meter import Aggregation
from meter_sync.errors import ArgumentsError, MeterSyncError
from meter_sync.openmeter_api.client import OpenMeter
from meter_sync.openmeter_api.port import MeterDefinition
from meter_sync.setup.steps import Action, Kind, Step, found
from meter_sync.setup.wanted import WantedPrice
from meter_sync.stripe_api import catalog
from meter_sync.stripe_api.catalog import CatalogMeter, CatalogPrice, NewMeter, NewPrice, ProductData, Tier
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeWriter

_NOUNS = {WindowSize.HOUR: "windows of one hour", WindowSize.DAY: "windows of one day", None: "no windows"}


@dataclass(frozen=True, slots=True)
class PricePlan:
    """What is wanted, and what is there of it."""

    meter: MeterDefinition
    """The OpenMeter meter, as it is or is to be made."""
    new_meter: NewMeter
    """The billing meter, as it is wanted."""
    new_price: NewPrice
    """The price, as it is wanted: the ids of what is still to be made are empty."""
    product_name: str
    openmeter_meter: Step
    product: Step
    billing_meter: Step
    price: Step

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of it, in the order in which it is made: the price last, since with it somebody can be billed."""
        return self.openmeter_meter, self.product, self.billing_meter, self.price


async def plan(stripe: StripeReader, openmeter: OpenMeter, wanted: WantedPrice, rules: MappingRules) -> PricePlan:
    """Find what is there of a price, its product and both its meters; write nothing.

    The price is found by its lookup key, the billing meter by its event name, the product by the price or by its name.
    Raise ArgumentsError for what cannot be billed, MeterSyncError, or what StripeReader raises.
    """
    defined = await openmeter.definition(wanted.meter)
    meter = defined or _to_be_made(wanted)
    formula, window = _billing_of(meter.aggregation, wanted)
    price = await catalog.price_of(stripe, wanted.lookup_key)
    product = await _product(stripe, wanted, price)
    there = await catalog.active_meter(stripe, wanted.meter)
    new_meter = NewMeter(wanted.name, wanted.meter, formula, window and window.value)
    new_price = NewPrice(
        product=product.id if product else "",
        stripe_meter=there.id if there else "",
        currency=wanted.currency,
        tiers=wanted.unit_tiers,
        tiers_mode=wanted.tiers_mode,
        interval=wanted.interval,
        lookup_key=wanted.lookup_key,
        metadata={rules.meter_key: wanted.meter},
    )
    return PricePlan(
        meter=meter,
        new_meter=new_meter,
        new_price=new_price,
        product_name=wanted.name,
        openmeter_meter=_step_of_meter(defined, meter, wanted),
        product=_step_of_product(product, wanted),
        billing_meter=_step_of_billing_meter(there, new_meter, window),
        price=_step_of_price(price, new_price, wanted, rules),
    )


async def make(plan: PricePlan, stripe: StripeWriter, openmeter: OpenMeter) -> AsyncIterator[Step]:
    """Make what is not there, one after the other, and give each step when it is done, with the id of what was made.

    Raise what StripeWriter and OpenMeter raise: what was given by then is made.
    """
    if plan.openmeter_meter.is_to_do:
        await openmeter.create_meter(plan.meter)
        yield replace(plan.openmeter_meter, id=plan.meter.slug)
    product, meter = plan.product.id, plan.billing_meter.id
    if product is None:
        product = await catalog.create_product(stripe, plan.product_name)
        yield replace(plan.product, id=product)
    if meter is None:
        meter = await catalog.create_meter(stripe, plan.new_meter)
        yield replace(plan.billing_meter, id=meter)
    if plan.price.is_to_do:
        price = await catalog.create_price(stripe, replace(plan.new_price, product=product, stripe_meter=meter))
        yield replace(plan.price, id=price)


def _to_be_made(wanted: WantedPrice) -> MeterDefinition:
    aggregation = wanted.aggregation or Aggregation.COUNT
    if aggregation is Aggregation.COUNT and wanted.value_property:
        raise ArgumentsError(
            f"OpenMeter has no meter {wanted.meter}, and one that counts events counts nothing in them; nothing was "
            "made",
            "leave --value-property out, or say how it is to count with --aggregation, such as sum",
        )
    if aggregation is not Aggregation.COUNT and not wanted.value_property:
        raise ArgumentsError(
            f"OpenMeter has no meter {wanted.meter}, and one with the aggregation {aggregation} needs to know what of "
            "an event it counts; nothing was made",
            "add --value-property '$.NAME', a JSONPath into the event's data",
        )
    event_type = wanted.event_type or wanted.meter
    return MeterDefinition(wanted.meter, aggregation, event_type, wanted.value_property, wanted.name)


def _billing_of(aggregation: Aggregation, wanted: WantedPrice) -> tuple[str, WindowSize | None]:
    """Return the formula and the window of a billing meter that can hold a usage (docs/how-stripe-is-told.md).

    What adds up goes by windows, each of which is set; of all else the period's total is, which is the last event.
    """
    if aggregation.adds_up:
        return "sum", wanted.window or WindowSize.HOUR
    if wanted.window is not None:
        raise ArgumentsError(
            f"the usage of meter {wanted.meter} ({aggregation}) does not add up over hours or days, so no billing "
            "meter with windows can hold it; nothing was made",
            "leave --window out: the period's total is reported then, to a billing meter with the formula last",
        )
    return "last", None


async def _product(stripe: StripeReader, wanted: WantedPrice, price: CatalogPrice | None) -> ProductData | None:
    """Return the product of a price that is there, the one that was named, or the only one of the name; None for none.

    Raise MeterSyncError where there are several of that name, or none of that id.
    """
    named = wanted.product or (price.product if price else None)
    if named:
        try:
            return await catalog.product(stripe, named)
        except StripeRefused as refusal:
            if not refusal.is_missing:
                raise
            raise MeterSyncError(
                f"there is no product {named}; nothing was made", "correct --product, or leave it out"
            ) from refusal
    same = await catalog.products_named(stripe, wanted.name)
    if len(same) > 1:
        raise MeterSyncError(
            f"{len(same)} products are called {wanted.name}: {', '.join(one.id for one in same)}; nothing was made",
            "say which with --product, or choose another --name",
            code="setup_differs",
        )
    return same[0] if same else None


def _step_of_meter(there: MeterDefinition | None, meter: MeterDefinition, wanted: WantedPrice) -> Step:
    counted = f" of {meter.value_property}" if meter.value_property else ""
    what = f"{meter.slug}: {meter.aggregation}{counted} of events of type {meter.event_type}"
    if there is None:
        return Step(Kind.OPENMETER_METER, Action.CREATE, None, what)
    asked = [
        ("aggregation", there.aggregation, wanted.aggregation),
        ("event type", there.event_type, wanted.event_type),
        ("value property", there.value_property, wanted.value_property),
    ]
    differences = [_other(name, has, want) for name, has, want in asked if want is not None and has != want]
    return found(Kind.OPENMETER_METER, there.slug, what, differences)


def _step_of_product(there: ProductData | None, wanted: WantedPrice) -> Step:
    if there is None:
        return Step(Kind.PRODUCT, Action.CREATE, None, wanted.name)
    differences = [] if there.active else ["is archived"]
    if wanted.product is None and there.name != wanted.name:
        differences.append(_other("name", there.name, wanted.name))
    return found(Kind.PRODUCT, there.id, there.name, differences)


def _step_of_billing_meter(there: CatalogMeter | None, new: NewMeter, window: WindowSize | None) -> Step:
    what = f"event name {new.event_name}, formula {new.formula}, {_NOUNS[window]}"
    if there is None:
        return Step(Kind.BILLING_METER, Action.CREATE, None, what)
    asked = [
        ("formula", there.formula, new.formula),
        ("window", there.event_time_window, new.window),
        ("mapping of customers", there.customer_mapping, "by_id"),
    ]
    return found(
        Kind.BILLING_METER, there.id, what, [_other(name, has, want) for name, has, want in asked if has != want]
    )


def _step_of_price(there: CatalogPrice | None, new: NewPrice, wanted: WantedPrice, rules: MappingRules) -> Step:
    mapped = f"metadata {rules.meter_key} = {wanted.meter}"
    what = f"{wanted.in_words}; lookup key {wanted.lookup_key}, {mapped}"
    ruled = _ruled_otherwise(there, new, wanted, rules)
    if there is None and ruled is None:
        return Step(Kind.PRICE, Action.CREATE, None, what)
    if there is None:
        return Step(Kind.PRICE, Action.DIFFERS, wanted.lookup_key, what, (str(ruled),))
    return found(Kind.PRICE, there.id, what, [*_differences(there, new, rules.meter_key), *([ruled] if ruled else [])])


def _differences(there: CatalogPrice, new: NewPrice, meter_key: str) -> Iterator[str]:
    """Yield how a price is not the one that is wanted."""
    if not there.active:
        yield "is archived, and has the lookup key all the same"
    recurring = there.recurring
    has = recurring and (recurring.usage_type, recurring.interval, recurring.interval_count)
    if recurring is None or has != ("metered", new.interval, 1):
        yield _other("interval and usage", has and " ".join(map(str, has)), f"metered {new.interval} 1")
    elif recurring.meter != (new.stripe_meter or None):
        yield _other("billing meter", recurring.meter, new.stripe_meter or "one that is still to be made")
    asked = [
        ("product", there.product, new.product),
        ("currency", there.currency, new.currency),
        (f"metadata {meter_key}", there.metadata.get(meter_key), new.metadata[meter_key]),
        ("tiers mode", there.tiers_mode, new.tiers_mode),
    ]
    yield from (_other(name, one, want) for name, one, want in asked if one != want)
    if there.transform_quantity is not None:
        yield "divides the quantity and rounds it (transform_quantity)"
    if there.tiers_mode == new.tiers_mode and _tiers_of(there) != list(new.tiers):
        yield _other("amount", _in_words(_tiers_of(there)), _in_words(list(new.tiers)))


def _tiers_of(there: CatalogPrice) -> list[Tier] | None:
    """Return what one unit costs, by tiers; None where that is not all that is charged."""
    if there.tiers_mode is None:
        return None if there.unit_amount_decimal is None else [Tier(None, there.unit_amount_decimal)]
    tiers = there.tiers or []
    if any(tier.flat_amount_decimal or tier.unit_amount_decimal is None for tier in tiers):
        return None
    return [Tier(tier.up_to, tier.unit_amount_decimal) for tier in tiers if tier.unit_amount_decimal is not None]


def _in_words(tiers: list[Tier] | None) -> str:
    if tiers is None:
        return "something else than an amount per unit"
    return ", ".join(f"{tier.unit_amount:f}" + ("" if tier.up_to is None else f" up to {tier.up_to}") for tier in tiers)


def _ruled_otherwise(there: CatalogPrice | None, new: NewPrice, wanted: WantedPrice, rules: MappingRules) -> str | None:
    """Return how the configuration maps the price otherwise than its metadata will, if it does: its rows win."""
    for row in rules.rows:
        names = [
            (row.price, there.id if there else None),
            (row.lookup_key, wanted.lookup_key),
            (row.product, new.product),
            (row.stripe_meter, new.stripe_meter),
        ]
        if any(name is not None and name == its_own for name, its_own in names):
            other = "ignores it" if row.ignore else f"names the meter {row.openmeter}"
            return f"has a [[meters]] row in the configuration that {other}" if row.openmeter != wanted.meter else None
    return None


def _other(name: str, has: object, wanted: object) -> str:
    return f"has the {name} {_none(has)}, not {_none(wanted)}"


def _none(value: object) -> str:
    return "none" if value is None else str(value)
