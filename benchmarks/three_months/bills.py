"""What was billed in the end, against what was used: counted here, without any of the program's own counting."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate

from meter_sync.sandbox import StripeWorld
from meter_sync.sandbox.stripe.state.objects import Item
from three_months.scenario import BEGIN, HOUR, Use
from three_months.ways import Named


@dataclass(frozen=True, slots=True)
class Bill:
    """A period of a customer that has ended."""

    customer: str
    price: str
    start: datetime
    end: datetime
    used: int
    billed: int
    """On the final invoice."""
    named: int
    """What is known to be billed too little, or, negative, too much."""

    @property
    def over(self) -> int:
        """Units billed that were not used."""
        return max(self.billed - self.used, 0)

    @property
    def under(self) -> int:
        """Units used that are not billed."""
        return max(self.used - self.billed, 0)

    @property
    def unexplained(self) -> int:
        """Units by which invoice and what is named differ from the usage."""
        return abs(self.used - self.billed - self.named)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """All bills of one way of reporting together."""

    way: str
    bills: Sequence[Bill]

    @property
    def billed_percent(self) -> float:
        """What was billed, of what was used."""
        return 100 * sum(bill.billed for bill in self.bills) / sum(bill.used for bill in self.bills)

    @property
    def customers_billed_wrongly(self) -> int:
        """Customers with an invoice that is not exact, be it named or not."""
        return len({bill.customer for bill in self.bills if bill.billed != bill.used})

    @property
    def over(self) -> int:
        """Units billed that were not used."""
        return sum(bill.over for bill in self.bills)

    @property
    def under(self) -> int:
        """Units used that are not billed."""
        return sum(bill.under for bill in self.bills)

    @property
    def named(self) -> int:
        """Units, over or under, that are named."""
        return sum(abs(bill.named) for bill in self.bills)

    @property
    def unexplained(self) -> int:
        """Units that are neither billed exactly nor named."""
        return sum(bill.unexplained for bill in self.bills)


def bills(stripe: StripeWorld, uses: Iterable[Use], named: Named) -> Iterator[Bill]:
    """Yield the bill of every period that ended within the three months and is on a final invoice."""
    invoiced: defaultdict[tuple[str, datetime], int] = defaultdict(int)
    for invoice in stripe.invoices:
        for line in invoice.lines:
            invoiced[line.item, _instant(line.period.start)] += line.quantity
    usage = _Usage(uses)
    for item in stripe.state.items:
        for bill in _bills_of(stripe, item, usage, invoiced, named):
            if bill.end > BEGIN:
                yield bill


def _bills_of(
    stripe: StripeWorld, item: Item, usage: "_Usage", invoiced: Mapping[tuple[str, datetime], int], named: Named
) -> Iterator[Bill]:
    """Yield the bills of an item.

    A window that straddles a boundary belongs to what follows (Stripe moves it to the next invoice as a whole), but
    with the last period everything has to be billed.
    """
    subscription = stripe.state.subscriptions[item.subscription]
    began = None
    for closed in item.closed:
        start, end = _instant(closed.period.start), _instant(closed.period.end)
        is_last = subscription.ended and closed is item.closed[-1]
        until = end if is_last else _floor(stripe, end, closed.price)
        used = usage.between(subscription.customer, began or start, until)
        key = item.id, start
        yield Bill(subscription.customer, closed.price, start, end, used, invoiced[key], named.get(key, 0))
        began = until


def _floor(stripe: StripeWorld, instant: datetime, price: str) -> datetime:
    """Return where the windows of a price end at an instant."""
    meter = stripe.state.prices[price].meter
    if meter is None or stripe.state.meters[meter].window is None:
        return instant
    return instant - (instant - BEGIN) % HOUR


class _Usage:
    """What each customer used, with running totals."""

    def __init__(self, uses: Iterable[Use]) -> None:
        by_customer: defaultdict[str, list[Use]] = defaultdict(list)
        for use in sorted(uses, key=lambda use: use.at):
            by_customer[use.customer].append(use)
        self._instants = {customer: [use.at for use in own] for customer, own in by_customer.items()}
        self._totals = {customer: [0, *accumulate(use.units for use in own)] for customer, own in by_customer.items()}

    def between(self, customer: str, start: datetime, end: datetime) -> int:
        """Return what was used from one instant until just before another."""
        instants, totals = self._instants.get(customer, []), self._totals.get(customer, [0])
        return totals[bisect_left(instants, end)] - totals[bisect_left(instants, start)]


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
