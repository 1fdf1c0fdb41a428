"""From what somebody charges for so many units to the exact amount of one, in the minor unit in which Stripe has it."""

from decimal import Context, Decimal
from fractions import Fraction

from meter_sync.stripe_api.catalog import MOST_DECIMALS

ZERO_DECIMAL = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
)
"""Currencies without a minor unit (Stripe documentation, Supported currencies, Zero-decimal currencies)."""

THREE_DECIMAL = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))
"""Currencies whose minor unit is a thousandth (the same page, Three-decimal currencies).

All others have two decimals; so have ISK, HUF and TWD, of which its special cases say that amounts keep two.
"""

CONTRADICTED = frozenset(("ugx",))
"""Currencies that the same page has among those without a minor unit, and whose special case says two decimals."""

_EXACT = Context(prec=100)


class Unpriceable(ValueError):
    """An amount that Stripe cannot hold exactly; the message says why, and what would do."""


def decimals_of(currency: str) -> int:
    """Return how many decimals the minor unit of a currency has. Raise Unpriceable where that is not known."""
    if currency in CONTRADICTED:
        raise Unpriceable(
            f"Stripe's documentation gives amounts in {currency.upper()} both without and with two decimals, which "
            "would be a hundred times as much: make this price in Stripe's Dashboard"
        )
    return 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2


def unit_amount(amount: Decimal, per: int, currency: str) -> Decimal:
    """Given what so many units cost, in the currency itself, return what one costs, in its minor unit, exactly.

    Raise Unpriceable where that has more decimal places than Stripe takes: rounding it would bill another price.
    """
    exact = Fraction(amount) * 10 ** decimals_of(currency) / per
    scaled = exact * 10**MOST_DECIMALS
    if scaled.denominator != 1:
        raise Unpriceable(
            f"{money(amount, currency)} for {per:,} units is not exactly so much per unit: Stripe takes at most "
            f"{MOST_DECIMALS} decimal places of the currency's minor unit; choose another amount, or another number "
            "of units, that divides evenly"
        )
    return Decimal(scaled.numerator).scaleb(-MOST_DECIMALS, _EXACT).normalize(_EXACT)


def money(amount: Decimal, currency: str) -> str:
    """Return an amount as a person reads it: with all its decimals, and those that the currency usually has."""
    exponent = amount.normalize(_EXACT).as_tuple().exponent
    usual = 0 if currency in ZERO_DECIMAL | CONTRADICTED else 3 if currency in THREE_DECIMAL else 2
    decimals = max(usual, -exponent if isinstance(exponent, int) else 0)
    return f"{amount:,.{decimals}f} {currency.upper()}"
