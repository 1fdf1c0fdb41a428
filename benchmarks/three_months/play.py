"""The stage: a sandbox in which the three months happen, and someone reports."""

import heapq
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from meter_sync.core.metering.mapping import LateUsage
from meter_sync.sandbox import Sandbox
from three_months.bills import Accuracy, Books
from three_months.other_ways import Deltas, HourlyAdditions, OtherWay, SetAtAnchor, SetNow
from three_months.plain import METER, Plain
from three_months.scenario import BEGIN, MINUTE, OVERLAP, Change, Customer, Kind, Scenario, Use
from three_months.this_program import ThisProgram
from three_months.troubles import Killed, Troubles, Weather
from three_months.ways import Way

THIS_PROGRAM = "meter-sync"
CARRYING = "meter-sync, carry"
OWN_WAYS: Mapping[str, LateUsage] = {THIS_PROGRAM: LateUsage.NAME, CARRYING: LateUsage.CARRY}
"""This program, and what it makes of usage that comes too late for the invoice of its own period."""
OTHER_WAYS: Mapping[str, type[OtherWay]] = {
    "set at the anchor": SetAtAnchor,
    'set at "now"': SetNow,
    "hourly additions": HourlyAdditions,
    "deltas with a cursor": Deltas,
}
WAYS = (*OWN_WAYS, *OTHER_WAYS)

SUMMARY_LAG_SECONDS = 60
"""Stripe's summaries are eventually consistent."""

_HAPPENS, _CLOSING_RUN, _FULL_RUN = range(3)
"""What comes first of what comes at one instant."""


class Play:
    """The three months for one way of reporting."""

    def __init__(self, scenario: Scenario, troubles: Troubles, way: str, folder: Path) -> None:
        self._scenario = scenario
        self._troubles = troubles
        self._name = way
        self._folder = folder
        self._sandbox = Sandbox(now=BEGIN)
        self._sandbox.stripe.summary_lag_seconds = SUMMARY_LAG_SECONDS
        self._items: dict[str, str] = {}
        """By customer."""
        self._customer_of: dict[str, str] = {}
        """The same turned about."""
        self._weather = Weather(troubles.spells, self._sandbox.clock.now, self._customer_of)
        self._sandbox.faults = self._weather
        self._agenda: list[tuple[datetime, int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._sandbox.openmeter.add_meter(METER)
        self._meters: dict[Kind, str] = {
            "hours": self._sandbox.stripe.add_meter("hours", window="hour"),
            "additions": self._sandbox.stripe.add_meter("additions"),
            "last": self._sandbox.stripe.add_meter("last", formula="last"),
        }
        self._prices = {kind: [self._price(kind) for _ in range(2)] for kind in ("record", *self._meters)}
        """Two of each kind: customers move from one to the other."""

    def accuracy(self) -> Accuracy:
        """Let everything happen, and return what came of it."""
        self._plan()
        with self._sandbox.in_background(), self._way() as way:
            self._plan_runs(way)
            while self._agenda:
                instant, _, _, happens = heapq.heappop(self._agenda)
                self._sandbox.clock.move_to(max(instant, self._sandbox.clock.now()))
                happens()
            self._sandbox.clock.move_to(self._scenario.end)
            way.run()
            books = Books(self._sandbox.stripe, self._scenario, way.said())
            return Accuracy(self._name, list(books.bills()), list(books.accounts()))

    # -- what happens -------------------------------------------------------------------------------

    def _at(self, instant: datetime, rank: int, happens: Callable[[], None]) -> None:
        if instant < self._scenario.end:
            heapq.heappush(self._agenda, (instant, rank, next(self._numbers), happens))

    def _plan(self) -> None:
        for customer in self._scenario.customers:
            self._plan_life(customer)
        for use in self._scenario.uses:
            self._at(use.arrives, _HAPPENS, partial(self._use, use))

    def _plan_life(self, customer: Customer) -> None:
        def subscribe() -> None:
            stripe = self._sandbox.stripe
            stripe.add_customer(customer.id)
            self._subscribe(customer, self._prices[self._kind(customer.kind)][0], period_start=customer.start)

        def cancel() -> None:
            stripe = self._sandbox.stripe
            stripe.cancel_at_period_end(stripe.state.items[self._items[customer.id]].subscription)

        self._at(customer.start, _HAPPENS, subscribe)
        for change in customer.changes:
            self._at(change.at, _HAPPENS, partial(self._change, customer, change))
        if customer.cancels_at:
            self._at(customer.cancels_at, _HAPPENS, cancel)
        if move := customer.move:
            price = self._prices[self._kind(move.kind)][1]
            self._at(move.at, _HAPPENS, lambda: self._sandbox.stripe.change_price(self._items[customer.id], price))

    def _subscribe(self, customer: Customer, price: str, **details: Any) -> None:
        mode = customer.billing_mode
        (item,) = self._sandbox.stripe.add_subscription(customer.id, [price], billing_mode=mode, **details).items
        self._items[customer.id], self._customer_of[item] = item, customer.id

    def _change(self, customer: Customer, change: Change) -> None:
        stripe, item, price = self._sandbox.stripe, self._items[customer.id], self._price(self._kind(customer.kind))
        subscription = stripe.state.items[item].subscription
        end = partial(stripe.cancel, subscription, invoice_now=change.is_invoiced)
        match change.what:
            case "price":
                stripe.change_price(item, price)
            case "item":
                new = stripe.add_item(subscription, price)
                stripe.delete_item(item, clear_usage=True)
                self._items[customer.id], self._customer_of[new] = new, customer.id
            case "follow":
                end()
                self._subscribe(customer, price)
            case "overlap":
                self._subscribe(customer, price)
                self._at(change.at + OVERLAP, _HAPPENS, end)

    def _use(self, use: Use) -> None:
        self._sandbox.openmeter.add_event(METER, use.customer, use.at, use.units)

    def _price(self, kind: Kind) -> str:
        return self._sandbox.stripe.add_price(meter=self._meters.get(kind), metadata={"om_meter_id": METER})

    def _kind(self, kind: Kind) -> Kind:
        other = OTHER_WAYS.get(self._name)
        return kind if other is None or kind == "record" else other.meter

    # -- who reports --------------------------------------------------------------------------------

    @contextmanager
    def _way(self) -> Iterator[Way]:
        if self._name in OWN_WAYS:
            yield ThisProgram(self._sandbox, self._folder, self._weather, OWN_WAYS[self._name])
            return
        names = {meter: kind for kind, meter in self._meters.items()}
        with closing(Plain(self._sandbox, names, lambda: self._weather.is_killed)) as plain:
            yield OTHER_WAYS[self._name](plain, self._sandbox.clock.now)

    def _plan_runs(self, way: Way) -> None:
        for run in sorted({*self._scenario.full_runs, *self._troubles.runs_after()}):
            self._at(run, _FULL_RUN, partial(self._full_run, way, run))
            if run in self._troubles.repeated:
                self._at(run + MINUTE, _FULL_RUN, partial(self._unless_missed, way.run, run + MINUTE))
        for minute in self._scenario.closing_runs:
            self._at(minute, _CLOSING_RUN, partial(self._unless_missed, way.close, minute))

    def _full_run(self, way: Way, run: datetime) -> None:
        with self._weather.killing(self._troubles.kills.get(run)):
            self._unless_missed(way.run_twice_at_once if run in self._troubles.together else way.run, run)

    def _unless_missed(self, run: Callable[[], None], instant: datetime) -> None:
        if self._troubles.is_missed(instant):
            return
        with suppress(Killed):
            run()
        self._sandbox.requests.clear()
