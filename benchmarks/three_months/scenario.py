"""What happens in the three months, as it is drawn: customers come, use, change their price, and go.

It is the same for every way of reporting, and knows none of them.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from meter_sync.sandbox.stripe.state.objects import BillingMode

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))

BEGIN = datetime(2025, 3, 1, tzinfo=UTC)
DAYS = 92
QUIET = 2 * DAY
"""At the end nothing goes wrong any more, so that what can be made up for is."""

RUN_AT = 7 * MINUTE + 13 * SECOND
"""When the full run comes after each hour."""
CLOSING_WITHIN = 3 * MINUTE

Kind = Literal["record", "hours", "additions", "last"]
"""Prices: legacy with aggregation sum; on a billing meter with windows of an hour, of raw sums, of the last value."""

KINDS: Sequence[Kind] = ("record", "record", "hours", "additions", "last", "hours")
"""Taken by turns: a third is legacy, a third has hour windows, and a third is on the two other meters."""

CUSTOMERS_OF_ONE_HOUR = 8
"""About so many periods end within the same minutes."""
BUSY_HOURS = range(8, 20)
"""Every day everybody uses something in the same hour of these, if at all, so that the other hours can be left out."""
DAILY_SHARE = 0.5
"""So many of the customers use something in a day's busy hour."""
LATER_SHARE = 0.15
"""So many of the customers come a month or two later than the others."""
TARDY_SHARE = 0.2
"""Of so many customers some events arrive late."""
LATE_SHARE = 0.1
"""So many of theirs."""
LATEST = timedelta(hours=36)
USES_AROUND_AN_END = (-5400, -80, -1, 0, 600)
"""Seconds from a period's end, its very last second among them."""
DAYS_UNITS, ENDS_UNITS = range(100, 1000), range(1, 9)
"""What is used at once: in an hour around an end about as much of a month's usage as if it were spread evenly."""


@dataclass(frozen=True, slots=True)
class Move:
    """A customer's item is put on another price."""

    at: datetime
    kind: Kind


What = Literal["price", "item", "follow", "overlap"]
"""The price changes; another item takes the place of one; another subscription follows at once, or some days before."""
WHATS: Sequence[What] = ("price", "item", "follow", "overlap")
OVERLAP = 2 * DAY
"""For so long two subscriptions of a customer live side by side."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a customer bills by changes in the midst of a period."""

    at: datetime
    what: What
    is_invoiced: bool
    """Whether a subscription that ends with it gets a last invoice."""


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer with one subscription of one item, billed monthly; more than one where it changes."""

    id: str
    kind: Kind
    start: datetime
    """When its first period starts: for most before the three months, of which nothing was used then."""
    ends: Sequence[datetime]
    """The ends of its periods within the three months, up to the last one if it cancels."""
    is_tardy: bool
    move: Move | None = None
    cancels_at: datetime | None = None
    """When it asks for its subscription to end with the period."""
    changes: Sequence[Change] = ()
    billing_mode: BillingMode = "classic"


@dataclass(frozen=True, slots=True)
class Use:
    """Something that was used, and when OpenMeter comes to know of it."""

    customer: str
    at: datetime
    arrives: datetime
    units: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that happens, whoever reports."""

    end: datetime
    customers: Sequence[Customer]
    uses: Sequence[Use]
    full_runs: Sequence[datetime]
    """The full runs that can find something new, in order."""
    closing_runs: Sequence[datetime]
    """The minutes around the ends of periods, in order."""


def draw(seed: int, customers: int, days: int = DAYS) -> Scenario:
    """Draw what happens to so many customers within so many days. The same seed draws the same."""
    drawn = random.Random(f"{seed}, {customers}, {days}")  # noqa: S311
    end = BEGIN + days * DAY
    everybody = _customers(drawn, customers, end)
    busy = [BEGIN + day * DAY + drawn.choice(BUSY_HOURS) * HOUR for day in range(days)]
    uses = sorted(_uses(drawn, everybody, busy, end - QUIET), key=lambda use: use.arrives)
    ends = sorted({each for one in everybody for each in one.ends})
    news = [*(use.arrives for use in uses), *ends, *(each + HOUR for each in ends)]
    news += [at for one in everybody for at in (one.start, one.cancels_at, one.move and one.move.at) if at]
    runs = {next_run(max(instant, BEGIN)) for instant in news}
    return Scenario(end, everybody, uses, sorted(run for run in runs if run < end), _minutes_around(ends))


def draw_changing(seed: int, customers: int, days: int = DAYS) -> Scenario:
    """Draw the same of customers who all change, in both billing modes, once or twice in the midst of periods."""
    drawn = random.Random(f"{seed}, {customers}, {days}, changing")  # noqa: S311
    usual = draw(seed, customers, days)
    everybody = [_changing(drawn, place, one, usual.end) for place, one in enumerate(usual.customers)]
    busy = [BEGIN + day * DAY + drawn.choice(BUSY_HOURS) * HOUR for day in range(days)]
    uses = sorted(_uses(drawn, everybody, busy, usual.end - QUIET), key=lambda use: use.arrives)
    ends = sorted({each for one in everybody for each in one.ends})
    changes = [each.at + pause for one in everybody for each in one.changes for pause in (timedelta(), HOUR, OVERLAP)]
    news = [*(use.arrives for use in uses), *ends, *(each + HOUR for each in ends), *(one.start for one in everybody)]
    runs = {next_run(max(instant, BEGIN)) for instant in (*news, *changes)}
    return Scenario(usual.end, everybody, uses, sorted(run for run in runs if run < usual.end), _minutes_around(ends))


def _changing(drawn: random.Random, place: int, one: Customer, until: datetime) -> Customer:
    """Return a customer who changes once or twice, a fortnight apart at least, and goes on."""
    first = max(one.start, BEGIN) + drawn.randrange(2, 20) * DAY + drawn.randrange(86_400) * SECOND
    instants = [first, first + drawn.randrange(14, 30) * DAY][: drawn.randrange(1, 3)]
    changes = [
        Change(at, drawn.choice(WHATS), is_invoiced=_chance(drawn, 0.5))
        for at in instants
        if at < until - QUIET - OVERLAP - DAY
    ]
    mode: BillingMode = "flexible" if place % 2 else "classic"
    ends = _ends(one.start, until, None)
    return replace(one, ends=ends, move=None, cancels_at=None, changes=changes, billing_mode=mode)


def months_after(instant: datetime, months: int) -> datetime:
    """Return the instant so many calendar months later; its day must not be one that some months lack."""
    years, month = divmod(instant.month - 1 + months, 12)
    return instant.replace(year=instant.year + years, month=month + 1)


def next_run(instant: datetime) -> datetime:
    """Return when the first full run at or after an instant comes."""
    return BEGIN - ((BEGIN + RUN_AT - instant) // HOUR) * HOUR + RUN_AT


def _customers(drawn: random.Random, number: int, until: datetime) -> list[Customer]:
    """Return customers whose periods start at odd seconds, several within the same minutes."""
    starts = max(2, number // CUSTOMERS_OF_ONE_HOUR)
    first = [
        datetime(2025, 2, 2 + place * 24 // starts, drawn.randrange(24), drawn.randrange(54), tzinfo=UTC)
        for place in range(starts)
    ]
    return [_customer(drawn, place, first[place % starts], until) for place in range(number)]


def _customer(drawn: random.Random, place: int, hour: datetime, until: datetime) -> Customer:
    kind = KINDS[drawn.randrange(len(KINDS))]
    is_tardy = _chance(drawn, TARDY_SHARE)
    comes_later = _chance(drawn, LATER_SHARE)
    start = months_after(hour, drawn.choice((1, 2)) if comes_later else 0) + drawn.randrange(240) * SECOND
    within = months_after(start, 1) + drawn.randrange(1, 24) * DAY + drawn.randrange(3600) * SECOND
    life = drawn.random()
    move = cancels_at = None
    if life < 0.12:
        cancels_at = within
    elif life < 0.2:
        move = Move(within, kind)
    elif life < 0.4 and kind == "record":
        move = Move(months_after(start, 2), "hours")
    ends = _ends(start, until, cancels_at)
    return Customer(f"cus_{place:04d}", kind, start, ends, is_tardy, move, cancels_at)


def _ends(start: datetime, until: datetime, cancels_at: datetime | None) -> list[datetime]:
    ends = [end for months in range(1, 5) if BEGIN < (end := months_after(start, months)) < until]
    return [end for end in ends if cancels_at is None or months_after(end, -1) <= cancels_at]


def _uses(
    drawn: random.Random, customers: Sequence[Customer], busy: Sequence[datetime], until: datetime
) -> Iterator[Use]:
    for customer in customers:
        gone_at = customer.ends[-1] if customer.cancels_at and customer.ends else until
        instants = [(hour + drawn.randrange(3600) * SECOND, DAYS_UNITS) for hour in busy if _chance(drawn, DAILY_SHARE)]
        instants += [(end + seconds * SECOND, ENDS_UNITS) for end in customer.ends for seconds in USES_AROUND_AN_END]
        for at, units in instants:
            if max(customer.start, BEGIN) <= at < min(gone_at, until):
                is_late = customer.is_tardy and _chance(drawn, LATE_SHARE)
                arrives = _later(drawn, at, busy) if is_late else at
                yield Use(customer.id, at, arrives, drawn.choice(units))


def _chance(drawn: random.Random, share: float) -> bool:
    return drawn.random() < share


def _later(drawn: random.Random, at: datetime, busy: Sequence[datetime]) -> datetime:
    """Return an instant in one of the busy hours that come soon."""
    hours = [hour for hour in busy if at < hour <= at + LATEST - HOUR]
    return drawn.choice(hours) + drawn.randrange(3600) * SECOND


def _minutes_around(ends: Sequence[datetime]) -> list[datetime]:
    minutes = set()
    for end in ends:
        minute = (end - CLOSING_WITHIN).replace(second=0) + MINUTE
        while minute <= end + CLOSING_WITHIN:
            minutes.add(minute)
            minute += MINUTE
    return sorted(minutes)
