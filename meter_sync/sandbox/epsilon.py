"""An example to show the program with. Epsilon, a serverless product: $0.20 per 1,000,000 requests, many customers."""

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
class Check:
    """What a customer used, as OpenMeter's events say, next to where Stripe and the ledger have it."""

    customer: EpsilonCustomer
    used: Decimal
    elsewhere: Mapping[str, str]
    """Amounts, as a person reads them, and what they are."""
    is_right: bool
    """Whether every unit is there, once, and at its price."""


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
        return await self._use({one.id: one.period_start - timedelta(days=2) for one in self.customers})

    async def use_more(self, since: datetime) -> int:
        """Ingest what half of the customers used since then; return the events' number."""
        return await self._use({one.id: since for one in self.customers[::2]})

    async def _use(self, since: Mapping[str, datetime]) -> int:
        now = self._sandbox.clock.now()
        events = [
            event
            for number, customer in enumerate(self.customers)
            if customer.id in since
            for event in self._usage(number, customer, since[customer.id], now)
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

    def invoices(self) -> list[Check]:
        """Return each customer's invoice as it would be now, next to what its events add up to."""
        found = []
        for customer in self.customers:
            (line,) = self._sandbox.stripe.invoice_preview(customer.subscription)
            used = self._used(customer)
            packages = -(-int(used) // REQUESTS_PER_PACKAGE)
            is_right = used == line.quantity and line.amount_cents == packages * CENTS_PER_PACKAGE
            shown = {"billed": f"{line.quantity:,}", "invoice": f"${line.amount_cents / 100:,.2f}"}
            found.append(Check(customer, used, shown, is_right))
        return found

    def month(self, named: Mapping[str, int]) -> list[Check]:
        """Return where the usage of each customer since its first period began is: on that period's invoice, or later.

        `named` has what is not billed, by subscription, as the ledger names it.
        """
        stripe = self._sandbox.stripe
        invoiced = {invoice.subscription: sum(line.quantity for line in invoice.lines) for invoice in stripe.invoices}
        found = []
        for customer in self.customers:
            amounts = {
                "invoiced": invoiced[customer.subscription],
                "next period": stripe.invoice_preview(customer.subscription)[0].quantity,
                "named": named.get(customer.subscription, 0),
            }
            used = self._used(customer)
            shown = {name: f"{amount:,}" for name, amount in amounts.items()}
            found.append(Check(customer, used, shown, is_right=used == sum(amounts.values())))
        return found

    def _used(self, customer: EpsilonCustomer) -> Decimal:
        now = self._sandbox.clock.now()
        return self._sandbox.openmeter.usage(METER, customer.id, customer.period_start, now)

    def an_event(self) -> dict[str, Any]:
        """Return one more event: a million requests of the largest customer, now."""
        return self._event(self.customers[-1].id, self._sandbox.clock.now(), REQUESTS_PER_PACKAGE)

    async def _ingest(self, events: Sequence[dict[str, Any]]) -> int:
        headers = {
            "Authorization": f"Bearer {self._sandbox.openmeter_key}",
            "Content-Type": "application/cloudevents-batch+json",
        }
        address = self._sandbox.environment()["OPENMETER_URL"] + self._sandbox.events_path
        async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as session:
            for first in range(0, len(events), _EVENTS_PER_POST):
                batch = list(events[first : first + _EVENTS_PER_POST])
                async with session.post(address, json=batch, headers=headers):
                    pass
        return len(events)
