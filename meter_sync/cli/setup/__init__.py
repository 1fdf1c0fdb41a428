"""`meter-sync setup`: makes what the first metered product, or the webhook, needs; it shows its plan first."""

import functools
import re
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from meter_sync.cli.globals import Globals
from meter_sync.cli.options import Matching, accounts_of, output

if TYPE_CHECKING:
    from meter_sync.cli.setup.conduct import Asked
    from meter_sync.setup.wanted import WantedPrice, WantedTier

_AGGREGATIONS = ("count", "sum", "unique_count", "max", "min", "latest", "avg")
_LONGEST_NAME = 250
"""Both Stripe and OpenMeter take as many characters of a name (API reference, Billing meters; OpenMeter's document)."""


class Amount(click.ParamType[Decimal]):
    """An amount of money in the currency itself, as 0.20."""

    name = "AMOUNT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Parse the amount, or say how it should look."""
        if isinstance(value, Decimal):
            return value
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,15})?", str(value)):
            self.fail(f"{value!r} is not an amount such as 0.20.", param, ctx)
        return Decimal(str(value))


class Tier(click.ParamType[tuple[int | None, Decimal]]):
    """Up to which unit a tier goes, and what so many units cost there."""

    name = "UP_TO:AMOUNT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, Decimal]:
        """Parse the tier, or say how it should look."""
        if isinstance(value, tuple):
            return value
        up_to, _, amount = str(value).partition(":")
        if not re.fullmatch("inf|[1-9][0-9]{0,17}", up_to):
            self.fail(f"{value!r} is not a tier such as 1000000:0.20 or inf:0.10.", param, ctx)
        return None if up_to == "inf" else int(up_to), Amount().convert(amount, param, ctx)


class Address(click.ParamType[str]):
    """Where Stripe is to deliver events to."""

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Admit an address that Stripe can reach, and nothing secret in it."""
        try:
            parts = urlsplit(str(value))
            is_address = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address or not str(value).isascii() or not str(value).isprintable() or " " in str(value):
            self.fail("that is not an address such as https://hooks.example.com/webhook.", param, ctx)
        if parts.username is not None or parts.password is not None or parts.fragment:
            self.fail("it must have no user, no password and no fragment in it.", param, ctx)
        return str(value)


_SLUG = Matching("SLUG", "(?=.{1,64}$)[a-z0-9]+(_[a-z0-9]+)*", "the slug of a meter, such as epsilon_requests")
_NAME = Matching(
    "TEXT", rf"(?=.*\S)[^\x00-\x1f\x7f]{{1,{_LONGEST_NAME}}}", f"a name of 1 to {_LONGEST_NAME} characters"
)
_LOOKUP_KEY = Matching("KEY", r"[\x21-\x7e]{1,200}", "a lookup key of 1 to 200 characters without spaces")
_ID = Matching("prod_x", "[A-Za-z0-9_.-]{1,255}", "the id of a product")
_EVENT_TYPE = Matching("TYPE", r"[^\x00-\x1f\x7f]{1,255}", "the type of events")
_VALUE_PROPERTY = Matching("JSONPATH", r"\$\.\S{1,255}", "a JSONPath such as $.requests")


def planned(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what becomes of its plan."""

    @click.option("--dry-run", "-n", is_flag=True, help="Show the plan, and make nothing.")
    @click.option("--yes", is_flag=True, help="Do not ask before the plan is carried out.")
    @output
    @accounts_of("The account that it is about, where there are several")
    @functools.wraps(command)
    def with_plan(dry_run: bool, yes: bool, output: str, accounts: tuple[str, ...], **others: Any) -> None:
        from meter_sync.cli.setup.conduct import Asked

        options: Globals = click.get_current_context().obj
        command(asked=Asked(options, output, accounts, dry_run=dry_run, yes=yes), **others)

    return with_plan


@click.group()
def setup() -> None:
    """Make what the first metered product, or the webhook, needs.

    Each command shows its plan first and asks. What is there already is left as it is, so it can be run again.
    Needs a key of its own, STRIPE_SETUP_API_KEY, and never touches usage.
    """


@setup.command()
@click.option("--name", type=_NAME, required=True, help="The product, as customers see it on invoices.")
@click.option("--meter", type=_SLUG, required=True, help="The OpenMeter meter; it is made where there is none.")
@click.option(
    "--window",
    type=click.Choice(["hour", "day"]),
    help="The windows of the billing meter.  [default: hour; none where usage does not add up]",
)
@click.option("--per", type=click.IntRange(1, 10**15), default=1, show_default=True, help="For so many units…")
@click.option("--amount", type=Amount(), help="… so much is charged, in the currency itself: 0.20 is 20 cents.")
@click.option(
    "--currency", type=Matching("ISO", "[A-Za-z]{3}", "a currency such as usd"), required=True, help="Such as usd."
)
@click.option(
    "--tier",
    "tiers",
    type=Tier(),
    multiple=True,
    help="In the place of --amount: what --per units cost up to that unit; repeatable, the last one with inf.",
)
@click.option(
    "--tiers",
    "tiers_mode",
    type=click.Choice(["graduated", "volume"]),
    help="Whether each unit costs what its tier says, or all what the last one's says.  [default: graduated]",
)
@click.option(
    "--interval",
    type=click.Choice(["month", "year"]),
    default="month",
    show_default=True,
    help="How often it is billed.",
)
@click.option("--lookup-key", type=_LOOKUP_KEY, help="By which the price is found again.  [default: the meter's slug]")
@click.option("--product", type=_ID, help="An existing product, where its name does not tell which.")
@click.option(
    "--aggregation",
    type=click.Choice(_AGGREGATIONS, case_sensitive=False),
    help="How the OpenMeter meter is to count.  [default: as it does; count where it is made]",
)
@click.option("--event-type", type=_EVENT_TYPE, help="The events that it counts.  [default: the meter's slug]")
@click.option("--value-property", type=_VALUE_PROPERTY, help="What of an event's data it counts; not for count.")
@planned
def price(asked: "Asked", **wanted: Any) -> None:
    """Make a recurring metered price, its product, its billing meter and its OpenMeter meter.

    What of it is there already is found, the price by its lookup key, and must be as it is asked for.
    """
    from meter_sync.cli.setup.prices import make_price

    make_price(asked, _wanted_price(**wanted))


def _wanted_price(
    *,
    amount: Decimal | None,
    tiers: tuple[tuple[int | None, Decimal], ...],
    tiers_mode: str | None,
    currency: str,
    window: str | None,
    aggregation: str | None,
    lookup_key: str | None,
    meter: str,
    **others: Any,
) -> "WantedPrice":
    from meter_sync.core.billing.item import WindowSize
    from meter_sync.core.metering.meter import Aggregation
    from meter_sync.setup.amounts import Unpriceable
    from meter_sync.setup.wanted import WantedPrice

    if (amount is None) == (not tiers):
        raise click.UsageError("Needs either --amount or --tier.")
    if tiers_mode and not tiers:
        raise click.UsageError("--tiers says how each --tier counts, and there is none.")
    wanted = WantedPrice(
        meter=meter,
        tiers=_tiers(amount, tiers),
        tiers_mode="volume" if tiers_mode == "volume" else "graduated" if tiers else None,
        currency=currency.lower(),
        window=WindowSize(window) if window else None,
        aggregation=Aggregation(aggregation.upper()) if aggregation else None,
        lookup_key=lookup_key or meter,
        **others,
    )
    try:
        _ = wanted.unit_tiers
    except Unpriceable as error:
        raise click.UsageError(str(error)) from error
    return wanted


def _tiers(amount: Decimal | None, given: tuple[tuple[int | None, Decimal], ...]) -> "tuple[WantedTier, ...]":
    from meter_sync.setup.wanted import WantedTier

    if amount is not None:
        return (WantedTier(None, amount),)
    ends = [up_to for up_to, _ in given]
    known = [end for end in ends if end is not None]
    if ends[-1] is not None or len(known) < len(ends) - 1 or known != sorted(set(known)):
        raise click.UsageError("Each --tier must end after the one before, and the last one, and no other, with inf.")
    return tuple(WantedTier(up_to, cost) for up_to, cost in given)


@setup.command()
@planned
def shadow(asked: Any) -> None:
    """Copy what the account has into the sandbox of [shadow], so that runs can be tried there on real usage.

    What is copied already is left, what is gone is taken away: run it before each full run. Needs no key for setup:
    the account is only read, with the key of the runs, and the key of the sandbox makes the copies.
    """
    from meter_sync.cli.setup.copies import make_shadow

    make_shadow(asked)


@setup.command()
@click.option("--url", type=Address(), required=True, help="Where `meter-sync webhook` is reached from outside.")
@planned
def webhook(asked: "Asked", url: str) -> None:
    """Make the event destinations that `meter-sync webhook` needs, and keep their secrets.

    The secrets go into the file that stripe.webhook_secret_file names, beside those that are in it.
    """
    from meter_sync.cli.setup.destinations import make_destinations

    make_destinations(asked, url)
