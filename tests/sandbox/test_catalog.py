"""The embedded Stripe keeps the rules of products and prices: tiers, lookup keys, lists."""

from decimal import Decimal
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.state.objects import Tier

from .instants import NOW, PERIOD_START, unix
from .metering import Meter
from .wire import StripeWire

ENDIVE = "2026-10-28.endive"
TIERS = {
    "billing_scheme": "tiered",
    "tiers_mode": "graduated",
    "tiers[0][up_to]": "10",
    "tiers[0][unit_amount]": "5",
    "tiers[1][up_to]": "inf",
    "tiers[1][unit_amount_decimal]": "0.25",
    "tiers[1][flat_amount]": "3",
}


def new_price(sandbox: Sandbox, **changes: Any) -> dict[str, Any]:
    """The parameters of a metered price; a None leaves one out."""
    meter = next((each.id for each in sandbox.stripe.state.meters), None) or sandbox.stripe.add_meter()
    usual = {
        "currency": "usd",
        "product": sandbox.stripe.add_product(),
        "unit_amount_decimal": "0.00002",
        "recurring[interval]": "month",
        "recurring[usage_type]": "metered",
        "recurring[meter]": meter,
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def made(sandbox: Sandbox, stripe: StripeWire, **changes: Any) -> Any:
    return stripe("POST", "/v1/prices", new_price(sandbox, **changes), version=ENDIVE)


def test_active_products_are_listed_apart(sandbox: Sandbox, stripe: StripeWire) -> None:
    kept = stripe("POST", "/v1/products", {"name": "Epsilon"}).json["id"]
    archived = stripe("POST", "/v1/products", {"name": "Zeta", "active": "false"}).json["id"]
    assert [each["id"] for each in stripe("GET", "/v1/products").json["data"]] == [archived, kept]
    assert [each["id"] for each in stripe("GET", "/v1/products", {"active": "true"}).json["data"]] == [kept]


def test_an_amount_has_twelve_decimals_and_is_never_rounded(sandbox: Sandbox, stripe: StripeWire) -> None:
    smallest = made(sandbox, stripe, unit_amount_decimal="0.000000000001").json
    assert (smallest["unit_amount"], smallest["unit_amount_decimal"]) == (None, "0.000000000001")
    assert made(sandbox, stripe, unit_amount_decimal="0.0000000000001").status == 400


def test_a_lookup_key_is_of_one_price_and_moves_only_where_that_is_asked_for(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    first = made(sandbox, stripe, lookup_key="epsilon", active="false").json["id"]
    refused = made(sandbox, stripe, lookup_key="epsilon")
    assert (refused.status, refused.error["param"], first in refused.error["message"]) == (400, "lookup_key", True)
    second = made(sandbox, stripe, lookup_key="epsilon", transfer_lookup_key="true").json["id"]
    found = stripe("GET", "/v1/prices", {"lookup_keys[]": "epsilon"}).json["data"]
    assert [each["id"] for each in found] == [second]
    assert stripe("POST", f"/v1/prices/{first}", {"lookup_key": "epsilon"}).status == 400
    assert stripe("POST", f"/v1/prices/{second}", {"lookup_key": "epsilon"}).status == 200
    assert made(sandbox, stripe, lookup_key="e" * 201).status == 400


def test_tiers_are_shown_where_they_are_asked_for(sandbox: Sandbox, stripe: StripeWire) -> None:
    price = made(sandbox, stripe, unit_amount_decimal=None, lookup_key="tiered", **TIERS).json
    assert (price["billing_scheme"], price["tiers_mode"], price["unit_amount_decimal"]) == ("tiered", "graduated", None)
    assert "tiers" not in price
    expanded = {"lookup_keys[]": "tiered", "expand[]": "data.tiers"}
    (found,) = stripe("GET", "/v1/prices", expanded, version=ENDIVE).json["data"]
    assert found["tiers"] == [
        {
            "flat_amount": None,
            "flat_amount_decimal": None,
            "unit_amount": 5,
            "unit_amount_decimal": "5",
            "up_to": 10,
        },
        {
            "flat_amount": 3,
            "flat_amount_decimal": "3",
            "unit_amount": None,
            "unit_amount_decimal": "0.25",
            "up_to": None,
        },
    ]
    assert stripe("GET", f"/v1/prices/{price['id']}", {"expand[]": "tiers"}).json["tiers"] == found["tiers"]


@pytest.mark.parametrize(
    "changes",
    [
        {"billing_scheme": None},
        {"tiers_mode": None},
        {"tiers_mode": "steep"},
        {"unit_amount_decimal": "1"},
        {"tiers[1][up_to]": "20"},
        {"tiers[0][up_to]": "inf"},
        {"tiers[0][up_to]": "0"},
        {"tiers[0][unit_amount_decimal]": "5"},
        {"tiers[0][price]": "5"},
        {"tiers[2][up_to]": "5"},
        {"transform_quantity[divide_by]": "10", "transform_quantity[round]": "up"},
        {"currency": "USD"},
    ],
    ids=str,
)
def test_tiers_that_make_no_sense_are_refused(sandbox: Sandbox, stripe: StripeWire, changes: dict[str, Any]) -> None:
    wrong = {"unit_amount_decimal": None, **TIERS, **changes}
    if "tiers[2][up_to]" in changes:
        wrong |= {"tiers[1][up_to]": "7", "tiers[2][up_to]": "inf"}
    assert made(sandbox, stripe, **wrong).status == 400


@pytest.mark.parametrize(
    ("mode", "used", "cents"),
    [
        ("graduated", 0, 1),
        ("graduated", 10, 51),
        ("graduated", 11, 54),
        ("graduated", 30, 59),
        ("volume", 10, 51),
        ("volume", 11, 6),
        ("volume", 30, 11),
    ],
)
def test_a_quantity_costs_what_its_tiers_say(
    sandbox: Sandbox, metered: Meter, mode: Any, used: int, cents: int
) -> None:
    """The first ten cost 5 each and 1 in all; what is above them 0.25 each and 3 in all."""
    world = sandbox.stripe
    usage = metered()
    tiers = [Tier(10, Decimal(5), Decimal(1)), Tier(None, Decimal("0.25"), Decimal(3))]
    price = world.add_price(meter=usage.meter, tiers=tiers, tiers_mode=mode)
    customer = world.add_customer()
    subscription = world.add_subscription(customer, [price], period_start=PERIOD_START)
    if used:
        payload = {"stripe_customer_id": customer, "value": str(used)}
        world.create_meter_event(usage.event_name, payload, unix(NOW))
    (line,) = world.invoice_preview(subscription.id)
    assert (line.quantity, int(line.amount_cents)) == (used, cents)
