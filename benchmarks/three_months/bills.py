"""What was billed in the end, against what was used: counted here, without any of the program's own counting."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate

from meter_sync.sandbox import StripeWorld
from meter_sync.sandbox.stripe.state.objects import ClosedPeriod, Item
from three_months.scenario import BEGIN, HOUR, Scenario, Use
from three_months.ways import Place, Said


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
    carried_into: int = 0
    """What earlier periods do not bill, and was added to this one."""
    carried_on: int = 0
    """What this one does not bill, and was added to later ones, or waits for the next."""
    is_followed: bool = False
    """Whether the item has a next period, at the price that it has in the whole of this one."""

    @property
    def due(self) -> int:
        """Units that are to be billed with this period."""
        return self.used + self.carried_into - self.carried_on

    @property
    def over(self) -> int:
        """Units billed that were not due."""
        return max(self.billed - self.due, 0)

    @property
    def under(self) -> int:
        """Units due that are not billed."""
        return max(self.due - self.billed, 0)

    @property
    def unexplained(self) -> int:
        """Units by which invoice and what is named differ from what was due."""
        return abs(self.due - self.billed - self.named)


@dataclass(frozen=True, slots=True)
class Account:
    """All of a customer's usage, whichever period has it: what it says needs nobody's word for what was carried."""

    customer: str
    used: int
    billed: int
    """On all invoices."""
    still_open: int
    """What Stripe holds for the open period, and what waits for the next one."""
    named: int

    @property
    def unexplained(self) -> int:
        """Units that are on no invoice, not open and not named, or that are twice among them."""
        return abs(self.used - self.billed - self.still_open - self.named)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """All bills of one way of reporting together."""

    way: str
    bills: Sequence[Bill]
    accounts: Sequence[Account] = ()

    @property
    def billed_percent(self) -> float:
        """What was billed, of what was used."""
        return 100 * sum(bill.billed for bill in self.bills) / sum(bill.used for bill in self.bills)

    @property
    def customers_billed_wrongly(self) -> int:
        """Customers with an invoice that is not exact, be it named or not."""
        return len({bill.customer for bill in self.bills if bill.billed != bill.due})

    @property
    def over(self) -> int:
        """Units billed that were not due."""
        return sum(bill.over for bill in self.bills)

    @property
    def under(self) -> int:
        """Units due that are not billed."""
        return sum(bill.under for bill in self.bills)

    @property
    def carried(self) -> int:
        """Units, over or under, that are billed with a later period instead."""
        return sum(abs(bill.carried_on) for bill in self.bills)

    @property
    def named(self) -> int:
        """Units, over or under, that are named."""
        return sum(abs(bill.named) for bill in self.bills)

    @property
    def unexplained(self) -> int:
        """Units that are neither billed exactly nor named."""
        return sum(bill.unexplained for bill in self.bills)


class Books:
    """What is on Stripe's invoices, and what a way says of the rest, in the periods of Stripe."""

    def __init__(self, stripe: StripeWorld, scenario: Scenario, said: Said) -> None:
        self._stripe = stripe
        self._usage = _Usage(scenario.uses)
        self._end = scenario.end
        self._changing = {one.id for one in scenario.customers if one.changes}
        self._moved_at = {one.id: one.move.at for one in scenario.customers if one.move}
        self._items = {item.id: item for item in stripe.state.items}
        lines = [line for invoice in stripe.invoices for line in invoice.lines]
        # Of a change there may be an invoice item that waits for the next invoice.
        lines += [one.line for one in stripe.state.invoice_items if one.invoice is None]
        self._invoiced = self._sums(((line.item, _instant(line.period.start)), line.quantity) for line in lines)
        self._named = self._sums(said.named.items())
        self._waiting = self._sums(said.waiting.items())
        self._into = self._sums(((item, into), units) for ((item, _), into), units in said.carried.items())
        self._on = self._sums((place, units) for (place, _), units in said.carried.items())

    def bills(self) -> Iterator[Bill]:
        """Yield the bill of every period that ended within the three months and is on a final invoice.

        Of customers who change in the midst of a period, and so by several items at once, it is one of all.
        """
        for item in self._items.values():
            changes = self._stripe.state.subscriptions[item.subscription].customer in self._changing
            for bill in () if changes else self._bills_of(item):
                if bill.end > BEGIN:
                    yield bill
        for one in self.accounts():
            if one.customer in self._changing:
                used = one.used - one.still_open
                yield Bill(one.customer, "", BEGIN, self._end, used, one.billed, one.named)

    def accounts(self) -> Iterator[Account]:
        """Yield what became of each customer's usage as a whole."""
        items = defaultdict[str, list[Item]](list)
        for item in self._items.values():
            items[self._stripe.state.subscriptions[item.subscription].customer].append(item)
        for customer, its_own in items.items():
            yield Account(
                customer,
                used=self._usage.of(customer),
                billed=_of_items(self._invoiced, its_own),
                still_open=sum(map(self._still_open, its_own)),
                named=_of_items(self._named, its_own),
            )

    def _still_open(self, item: Item) -> int:
        is_over = self._stripe.state.subscriptions[item.subscription].ended or item.deleted
        # What waits for a period that never comes is not open, but lost.
        return 0 if is_over else self._stripe.total(item.id) + _of_items(self._waiting, [item])

    def _bills_of(self, item: Item) -> Iterator[Bill]:
        """Yield the bills of an item.

        A window that straddles a boundary belongs to what follows (Stripe moves it to the next invoice as a whole), but
        with the last period everything has to be billed.
        """
        subscription = self._stripe.state.subscriptions[item.subscription]
        began = None
        for closed in item.closed:
            start, end = _instant(closed.period.start), _instant(closed.period.end)
            is_last = subscription.ended and closed is item.closed[-1]
            until = end if is_last else _floor(self._stripe, end, closed.price)
            place = item.id, start
            yield Bill(
                subscription.customer,
                closed.price,
                start,
                end,
                used=self._usage.between(subscription.customer, began or start, until),
                billed=self._invoiced[place],
                named=self._named[place],
                carried_into=self._into[place],
                carried_on=self._on[place] + self._waiting[place],
                is_followed=not is_last and not self._is_moved_in(subscription.customer, closed),
            )
            began = until

    def _is_moved_in(self, customer: str, closed: ClosedPeriod) -> bool:
        """Whether a customer's item is put on another price within a period, or when the next one begins."""
        moved_at = self._moved_at.get(customer)
        return moved_at is not None and closed.period.start < moved_at.timestamp() <= closed.period.end

    def _sums(self, parts: Iterable[tuple[Place, int]]) -> Counter[Place]:
        """Add up by the periods of Stripe, of which each has the stretches that begin in it."""
        sums: Counter[Place] = Counter()
        for (item, start), units in parts:
            known = self._items[item]
            periods = [*(closed.period for closed in known.closed), known.period]
            begun = max(period.start for period in periods if period.start <= start.timestamp())
            sums[item, _instant(begun)] += units
        return sums


def _of_items(sums: Counter[Place], items: Iterable[Item]) -> int:
    ids = {item.id for item in items}
    return sum(units for (its, _), units in sums.items() if its in ids)


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

    def of(self, customer: str) -> int:
        """Return all that was used."""
        return self._totals.get(customer, [0])[-1]

    def between(self, customer: str, start: datetime, end: datetime) -> int:
        """Return what was used from one instant until just before another."""
        instants, totals = self._instants.get(customer, []), self._totals.get(customer, [0])
        return totals[bisect_left(instants, end)] - totals[bisect_left(instants, start)]


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
