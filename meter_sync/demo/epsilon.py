"""Epsilon, a serverless product: $0.20 per 1,000,000 requests, and customers of very different sizes."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp

from meter_sync.sandbox import Sandbox

METER = "epsilon_requests"
CUSTOMERS = 36
REQUESTS_PER_PACKAGE = 1_000_000
CENTS_PER_PACKAGE = 20

_EVENTS_PER_POST = 500
_NAMES = ("acorn", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet")
_KINDS = ("labs", "games", "cloud", "media")


KINDS: Mapping[str, Mapping[str, str] | None] = {
    "usage record": None,
    "hour windows": {"formula": "sum", "window": "hour"},
    "day windows": {"formula": "sum", "window": "day"},
    "period's total": {"formula": "last"},
    "additions": {"formula": "sum"},
}
"""The kinds of prices: a legacy one, and one on each kind of billing meter that can hold a total."""


@dataclass(frozen=True, slots=True)
class EpsilonCustomer:
    """A customer of Epsilon with its one subscription."""

    id: str
    name: str
    kind: str
    """How its price takes usage."""
    subscription: str
    period_start: datetime


@dataclass(frozen=True, slots=True)
class InvoiceCheck:
    """What a customer used, as OpenMeter's events say, next to what Stripe's invoice would say."""

    customer: EpsilonCustomer
    used: Decimal
    billed: int
    amount_cents: Decimal

    @property
    def is_right(self) -> bool:
        """Whether the invoice has exactly what was used, and its price."""
        packages = -(-int(self.used) // REQUESTS_PER_PACKAGE)
        return self.used == self.billed and self.amount_cents == packages * CENTS_PER_PACKAGE


@dataclass(frozen=True, slots=True)
class MonthCheck:
    """What a customer used since its first period began, next to where Stripe and the ledger have it."""

    customer: EpsilonCustomer
    used: Decimal
    invoiced: int
    """On the invoice of the period that has ended."""
    going_on: int
    """So far in the next one."""
    named: int
    """What the ledger names as not billed."""

    @property
    def is_right(self) -> bool:
        """Whether every unit is somewhere, once."""
        return self.used == self.invoiced + self.going_on + self.named


class Epsilon:
    """The product in a sandbox; `seed` makes the same customers and usage each time."""

    def __init__(self, sandbox: Sandbox, seed: int = 20) -> None:
        self._sandbox = sandbox
        self._random = random.Random(seed)  # noqa: S311 (an example's usage is no secret)
        self._events = 0
        self.customers: list[EpsilonCustomer] = []

    def set_up(self) -> None:
        """Make the meter, the package price and the customers, whose periods began at odd seconds."""
        self._sandbox.openmeter.add_meter(METER, aggregation="SUM", value_property="$.requests")
        product = self._sandbox.stripe.add_product(name="Epsilon")
        prices = [(kind, self._price(product, kind, meter)) for kind, meter in KINDS.items()]
        self.customers = [self._customer(number, *prices[number % len(prices)]) for number in range(CUSTOMERS)]

    def _price(self, product: str, kind: str, meter: Mapping[str, Any] | None) -> str:
        stripe = self._sandbox.stripe
        event_name = f"{METER}_{kind.replace(' ', '_')}"
        return stripe.add_price(
            product=product,
            unit_amount_decimal=str(CENTS_PER_PACKAGE),
            transform_quantity={"divide_by": REQUESTS_PER_PACKAGE, "round": "up"},
            metadata={"om_meter_id": METER},
            meter=stripe.add_meter(event_name, **meter) if meter else None,
        )

    def _customer(self, number: int, kind: str, price: str) -> EpsilonCustomer:
        stripe = self._sandbox.stripe
        name = f"{_NAMES[number % len(_NAMES)]}-{_KINDS[number // len(_NAMES) % len(_KINDS)]}"
        ago = timedelta(seconds=self._random.randrange(2 * 86_400, 26 * 86_400))
        start = (self._sandbox.clock.now() - ago).replace(microsecond=0)
        customer = stripe.add_customer(id=f"cus_{name.replace('-', '_')}", name=name)
        subscription = stripe.add_subscription(customer, [price], period_start=start)
        return EpsilonCustomer(customer, name, kind, subscription.id, start)

    async def use_so_far(self) -> int:
        """Ingest what each customer used since its period began, and some from before it; return the events' number.

        Usage from before the period is there to be left out.
        """
        now = self._sandbox.clock.now()
        events = [
            event
            for number, customer in enumerate(self.customers)
            for event in self._usage(number, customer, customer.period_start - timedelta(days=2), now)
        ]
        return await self._ingest(events)

    async def use_more(self, since: datetime) -> int:
        """Ingest what half of the customers used since then; return the events' number."""
        now = self._sandbox.clock.now()
        events = [
            event
            for number, customer in enumerate(self.customers)
            if number % 2 == 0
            for event in self._usage(number, customer, since, now)
        ]
        return await self._ingest(events)

    def _usage(
        self, number: int, customer: EpsilonCustomer, start: datetime, end: datetime
    ) -> Iterable[dict[str, Any]]:
        """Yield events of batched requests; sizes grow from nothing at all to tens of millions."""
        if number == 0:
            return
        typical = 10 ** (1 + 5 * number / CUSTOMERS)
        seconds = int((end - start).total_seconds())
        for _ in range(self._random.randrange(5, 60)):
            at = start + timedelta(seconds=self._random.randrange(seconds))
            yield self._event(customer.id, at, round(typical * self._random.lognormvariate(0, 1)))

    def _event(self, subject: str, at: datetime, requests: int) -> dict[str, Any]:
        self._events += 1
        return {
            "specversion": "1.0",
            "id": f"epsilon-{self._events}",
            "source": "epsilon-gateway",
            "type": METER,
            "subject": subject,
            "time": at.isoformat(),
            "data": {"requests": requests},
        }

    def ends(self) -> list[tuple[datetime, EpsilonCustomer]]:
        """Return when each customer's period ends, the soonest first."""
        stripe = self._sandbox.stripe
        found = []
        for customer in self.customers:
            (item,) = stripe.state.subscriptions[customer.subscription].items
            found.append((datetime.fromtimestamp(stripe.period(item).end, UTC), customer))
        return sorted(found, key=lambda each: each[0])

    async def use_at(self, customer: EpsilonCustomer, at: datetime) -> None:
        """Let a customer make 1,000 requests more."""
        await self._ingest([self._event(customer.id, at, 1000)])

    def month(self, named: Mapping[str, int]) -> list[MonthCheck]:
        """Return where the usage of each customer is; `named` has what is not billed, by subscription."""
        stripe, now = self._sandbox.stripe, self._sandbox.clock.now()
        invoiced = {invoice.subscription: sum(line.quantity for line in invoice.lines) for invoice in stripe.invoices}
        return [
            MonthCheck(
                customer=customer,
                used=self._sandbox.openmeter.usage(METER, customer.id, customer.period_start, now),
                invoiced=invoiced[customer.subscription],
                going_on=stripe.invoice_preview(customer.subscription)[0].quantity,
                named=named.get(customer.subscription, 0),
            )
            for customer in self.customers
        ]

    def an_event(self) -> dict[str, Any]:
        """Return one more event: a million requests of the largest customer, now."""
        return self._event(self.customers[-1].id, self._sandbox.clock.now(), REQUESTS_PER_PACKAGE)

    async def _ingest(self, events: Sequence[dict[str, Any]]) -> int:
        headers = {
            "Authorization": f"Bearer {self._sandbox.openmeter_key}",
            "Content-Type": "application/cloudevents-batch+json",
        }
        address = f"{self._sandbox.openmeter_url}/api/v1/events"
        async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as session:
            for first in range(0, len(events), _EVENTS_PER_POST):
                batch = list(events[first : first + _EVENTS_PER_POST])
                async with session.post(address, json=batch, headers=headers):
                    pass
        return len(events)

    def invoices(self) -> list[InvoiceCheck]:
        """Return each customer's invoice as it would be now, next to what its events add up to."""
        return [self._invoice(customer) for customer in self.customers]

    def _invoice(self, customer: EpsilonCustomer) -> InvoiceCheck:
        now = self._sandbox.clock.now()
        (line,) = self._sandbox.stripe.invoice_preview(customer.subscription)
        return InvoiceCheck(
            customer=customer,
            used=self._sandbox.openmeter.usage(METER, customer.id, customer.period_start, now),
            billed=line.quantity,
            amount_cents=line.amount_cents,
        )
