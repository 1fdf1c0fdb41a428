"""What one unit costs is exactly what somebody charges for many, in the minor unit in which Stripe has it."""

from decimal import Decimal

import pytest

from meter_sync.setup.amounts import Unpriceable, money, unit_amount


@pytest.mark.parametrize(
    ("amount", "per", "currency", "one"),
    [
        ("0.20", 1_000_000, "usd", "0.00002"),
        ("0.20", 1, "usd", "20"),
        ("0", 1, "usd", "0"),
        ("0.01", 10**12, "eur", "0.000000000001"),
        ("999999999999.99", 1, "usd", "99999999999999"),
        ("500", 1000, "jpy", "0.5"),
        ("1.5", 1000, "kwd", "1.5"),
        ("5", 1, "isk", "500"),
        ("5", 1, "huf", "500"),
    ],
)
def test_an_amount_for_many_is_exactly_so_much_for_one(amount: str, per: int, currency: str, one: str) -> None:
    assert f"{unit_amount(Decimal(amount), per, currency):f}" == one


@pytest.mark.parametrize(
    ("amount", "per", "currency"), [("0.20", 3, "usd"), ("0.01", 10**13, "usd"), ("0.0000000000001", 1, "jpy")]
)
def test_what_would_have_to_be_rounded_is_refused(amount: str, per: int, currency: str) -> None:
    with pytest.raises(Unpriceable, match="12 decimal places"):
        unit_amount(Decimal(amount), per, currency)


def test_a_currency_of_which_stripe_says_two_things_is_refused() -> None:
    with pytest.raises(Unpriceable, match="UGX"):
        unit_amount(Decimal(5), 1, "ugx")


@pytest.mark.parametrize(
    ("amount", "currency", "said"),
    [
        ("0.2", "usd", "0.20 USD"),
        ("0.0005", "usd", "0.0005 USD"),
        ("1500", "jpy", "1,500 JPY"),
        ("1.5", "kwd", "1.500 KWD"),
        ("100", "usd", "100.00 USD"),
    ],
)
def test_an_amount_is_said_with_all_its_decimals(amount: str, currency: str, said: str) -> None:
    assert money(Decimal(amount), currency) == said
