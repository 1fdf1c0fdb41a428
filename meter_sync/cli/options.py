"""Options that several commands share, and the types of their values."""

import contextlib
import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from meter_sync.core.planning.selection import Selection

OPENMETER_VERSION = click.option(
    "--openmeter",
    "openmeter_version",
    type=click.Choice(["v1", "v3"]),
    default="v1",
    show_default=True,
    help="The version of OpenMeter's API that is served; Konnect has v3 alone.",
)
"""For commands that serve an OpenMeter of their own."""

Command = Callable[..., None]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Instant(click.ParamType[datetime]):
    """An instant in ISO 8601 with its offset from UTC, or, where that is taken, a plain date: its midnight in UTC."""

    name = "ISO8601"

    def __init__(self, *, or_date: bool = False) -> None:
        self._or_date = or_date

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse the instant, or say how it should look."""
        with contextlib.suppress(ValueError, OverflowError):
            instant = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
            if self._or_date and re.fullmatch(r"\d{4}-\d\d-\d\d", str(value), re.ASCII):
                return instant.replace(tzinfo=UTC)
            if instant.tzinfo:
                return instant.astimezone(UTC)
        date = ", nor a date such as 2026-11-01" if self._or_date else ""
        return self.fail(
            f"{value!r} is not an instant with its offset, such as 2026-11-01T00:00:00Z{date}.", param, ctx
        )


class Duration(click.ParamType[timedelta]):
    """A length of time with its unit, in words `what`; its unit is one of some letters."""

    name = "DURATION"

    def __init__(self, what: str, units: str, at_least: timedelta = timedelta(0)) -> None:
        self._what = what
        self._units = units
        self._at_least = at_least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse the length, or say how it should look."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(f"([1-9][0-9]{{0,4}})([{self._units}])", str(value))
        length = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
        if length is None or length < self._at_least:
            self.fail(f"{value!r} is not {self._what}.", param, ctx)
        return length


def repeatable(option: str, metavar: str, what: str) -> Callable[[Command], Command]:
    """Return what gives a command an option that may be given several times, as a tuple with a name in the plural."""
    name = f"{option.removeprefix('--')}s"
    return click.option(option, name, multiple=True, metavar=metavar, help=f"{what}; repeatable.")


def accounts_of(what: str) -> Callable[[Command], Command]:
    """Return what gives a command the option that says which of several accounts it is about."""
    return repeatable("--account", "NAME", what)


def selectors(command: Command) -> Command:
    """Give a command the options that say which items it is about: AND between kinds, OR within one.

    It is called with them as a `selection`.
    """

    @repeatable("--customer", "cus_x", "Only this customer")
    @repeatable("--subscription", "sub_x", "Only this subscription")
    @repeatable("--meter", "SLUG", "Only this OpenMeter meter")
    @repeatable("--price", "price_x", "Only this price")
    @functools.wraps(command)
    def selecting(
        customers: tuple[str, ...],
        subscriptions: tuple[str, ...],
        meters: tuple[str, ...],
        prices: tuple[str, ...],
        **others: Any,
    ) -> None:
        command(selection=Selection(customers, subscriptions, prices, meters), **others)

    return selecting


class Matching(click.ParamType[str]):
    """A text of some form: the pattern that it matches, and what it is in words."""

    def __init__(self, name: str, pattern: str, what: str) -> None:
        self.name = name
        self._pattern = pattern
        self._what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Admit the text, or say what it should be."""
        if not re.fullmatch(self._pattern, str(value)):
            self.fail(f"{value!r} is not {self._what}.", param, ctx)
        return str(value)


_TEST_CLOCK = Matching("TEST_CLOCK", "[A-Za-z0-9_.-]{1,200}", "the id of a test clock")
"""It goes into an address, and names books in the ledger."""


def test_clock(but_not: str) -> Callable[[Command], Command]:
    """Return what gives a command the option of a test clock; `but_not` says what else it is refused with."""
    return click.option(
        "--test-clock",
        type=_TEST_CLOCK,
        metavar="clock_x",
        help="Only what is on this test clock of a sandbox, with its time as now; the selectors choose among that. "
        f"Refused with a live key{but_not}.",
    )


def output(command: Command) -> Command:
    """Give a command the option that says how results are printed."""
    return click.option(
        "--output",
        type=click.Choice(["table", "json", "csv"]),
        default="table",
        show_default=True,
        envvar="METER_SYNC_OUTPUT",
        show_envvar=True,
        help="How results are printed on stdout.",
    )(command)


def quiet(unless: str) -> Callable[[Command], Command]:
    """Return what gives a command the option to print nothing unless an item is as it says."""
    return click.option(
        "--quiet",
        is_flag=True,
        envvar="METER_SYNC_QUIET",
        show_envvar=True,
        help=f"Print no table or csv unless an item {unless}.",
    )
