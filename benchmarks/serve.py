"""The other process: builds a scenario in the sandbox, serves it, and obeys one word per line.

Its own words go to standard output, one JSON value per line: first the environment variables that
point a program at it, then the answer to each command.
"""

import gc
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from scenario import (
    NO_LIMIT,
    OPENMETER_QUERY_SECONDS,
    STRIPE_ENDPOINT_RATE,
    STRIPE_OVERALL_RATE,
    STRIPE_READ_SECONDS,
    STRIPE_WRITE_SECONDS,
    Scenario,
    Traffic,
)

from meter_sync.sandbox import Latency, RateLimits, RequestSeen, Sandbox

STRIPE_KEY = "sk_live_sandbox"
"""Of live mode, so that a program which knows Stripe's limits expects the live ones."""

METER = "tokens"
WEEK, ENDS_WITHIN = timedelta(days=7), timedelta(minutes=30)
"""The periods that are about to end, and how soon: later than any measurement takes."""

OLDEST_START = timedelta(days=20)
STARTS_WITHIN = timedelta(days=15)

SUBSCRIBED_BEFORE = timedelta(days=60)
"""Customers of a billing meter have lived through a period's boundary, as most customers of an account have."""

LATE, RECENT = timedelta(days=2), timedelta(hours=1)
"""Two hours of the stretch that every run reads again: one that was sent long ago, and the last whole one."""

ONE_IN = 100
"""Of so many customers one has new usage in the steady state."""

NOT_LOOKED_BACK_TO = timedelta(days=4)
"""Before what `lookback_days` says by default, and after the start of every item's period."""

JUST_BEFORE, JUST_BEGUN = timedelta(seconds=1), timedelta(seconds=30)


class Served:
    """A sandbox with the account of a scenario in it."""

    def __init__(self, scenario: Scenario) -> None:
        self._sandbox = Sandbox(stripe_key=STRIPE_KEY)
        self._scenario = scenario
        self._rounds = 0
        self._now = _now()
        self._starts = _period_starts(scenario, self._now)
        self._sandbox.openmeter.add_meter(METER, "SUM", METER, "$.value")
        if scenario.meter_event_rate is None:
            self._price = self._sandbox.stripe.add_price()
            self._items = self._add_items()
        else:
            meter = self._sandbox.stripe.add_meter(METER, window="hour")
            self._price = self._sandbox.stripe.add_price(meter=meter)
            self._items = self._add_items(SUBSCRIBED_BEFORE)
            self._use_at(LATE, range(scenario.items))
        self._ending = range(len(self._items), len(self._items) + scenario.ending)
        if scenario.ending:
            self._starts += [self._now + ENDS_WITHIN - WEEK] * scenario.ending
            weekly = self._sandbox.stripe.add_price(interval="week")
            self._items += [
                self._add_item(number, weekly, self._starts[number], self._starts[number]) for number in self._ending
            ]
        self.use()
        if scenario.latency:
            self._sandbox.latency = Latency(
                stripe_read=STRIPE_READ_SECONDS,
                stripe_write=STRIPE_WRITE_SECONDS,
                openmeter_query=OPENMETER_QUERY_SECONDS,
            )
        self._sandbox.rate_limits = _rate_limits(scenario)

    @contextmanager
    def serving(self) -> Iterator[dict[str, str]]:
        """Serve; give the environment variables that point a program here."""
        gc.disable()  # Serving leaves no garbage in cycles; looking for it would hold up every answer at once.
        with self._sandbox.in_background():
            yield self._sandbox.environment()

    def use(self) -> None:
        """Add one event to every item's period, long enough ago to be complete."""
        self._rounds += 1
        for number, start in enumerate(self._starts):
            self._add_usage(number, start + timedelta(hours=self._rounds))

    def use_some(self) -> int:
        """Add two events to one item in a hundred, one of them late; return how many of their windows change."""
        some = range(0, len(self._items), ONE_IN)
        self._use_at(LATE, some)
        self._use_at(RECENT, some)
        return 2 * len(some)

    def use_ending(self) -> None:
        """Add an event to every item whose period is about to end."""
        self._use_at(RECENT, self._ending)

    def written(self) -> int:
        """Return how many POSTs to Stripe there were since the traffic was asked for."""
        return sum(request.server == "stripe" and request.method == "POST" for request in self._sandbox.requests)

    def use_now(self) -> None:
        """Add an event of the second before to every item."""
        self._use_at_instant(_now() - JUST_BEFORE, range(len(self._items)))

    def use_one_in_100_now(self) -> None:
        """Add an event of the second before to one item in a hundred."""
        self._use_at_instant(_now() - JUST_BEFORE, range(0, len(self._items), ONE_IN))

    def use_one_in_100_late(self) -> None:
        """Add an event of some days ago to others, one item in a hundred."""
        self._use_at_instant(self._now - NOT_LOOKED_BACK_TO, range(1, self._scenario.items, ONE_IN))

    def begin_one_in_100(self) -> int:
        """Add an item with usage for every hundred that there were, of a period that has just begun."""
        some = range(len(self._items), len(self._items) + self._scenario.items // ONE_IN)
        for number in some:
            start = _now() - JUST_BEGUN + timedelta(seconds=number % JUST_BEGUN.seconds)
            self._starts.append(start)
            self._items.append(self._add_item(number, self._price, start, start))
        self._use_at_instant(_now() - JUST_BEFORE, some)
        return len(some)

    def limit(self) -> None:
        """Have Stripe's default limits hold from now on."""
        self._sandbox.rate_limits = _rate_limits(replace(self._scenario, limited=True))

    def limit_not(self) -> None:
        """Have no limits hold from now on but that of meter events, where there is one."""
        self._sandbox.rate_limits = _rate_limits(replace(self._scenario, limited=False))

    def traffic(self) -> dict[str, Any]:
        """Return the requests since the last call, counted."""
        seen = list(self._sandbox.requests)
        self._sandbox.requests.clear()
        return asdict(_counted(seen))

    def wrong_items(self) -> int:
        """Count the items for which Stripe does not hold what OpenMeter has."""
        now = datetime.now(UTC)
        return sum(
            self._sandbox.stripe.total(item) != self._sandbox.openmeter.usage(METER, _customer(number), start, now)
            for number, (item, start) in enumerate(zip(self._items, self._starts, strict=True))
        )

    def _use_at(self, age: timedelta, numbers: Iterable[int]) -> None:
        self._use_at_instant(self._now - age, numbers)

    def _use_at_instant(self, at: datetime, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._add_usage(number, at)

    def _add_usage(self, number: int, at: datetime) -> None:
        self._sandbox.openmeter.add_event(METER, _customer(number), at, 1 + number % 7)

    def _add_items(self, subscribed_before: timedelta = timedelta(0)) -> list[str]:
        """Add a customer with one item for each period start; they subscribed so long before it."""
        return [
            self._add_item(number, self._price, start, start - subscribed_before)
            for number, start in enumerate(self._starts)
        ]

    def _add_item(self, number: int, price: str, start: datetime, created: datetime) -> str:
        customer = self._sandbox.stripe.add_customer(_customer(number))
        subscription = self._sandbox.stripe.add_subscription(
            customer, [price], period_start=start, created=created, item_metadata={"om_meter_id": METER}
        )
        return subscription.items[0]


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _customer(number: int) -> str:
    return f"cus_{number:06d}"


def _period_starts(scenario: Scenario, now: datetime) -> list[datetime]:
    """Return each item's period start: all in the past by days, none near its period's end."""
    step = STARTS_WITHIN // scenario.period_starts // timedelta(seconds=1)
    return [
        now - OLDEST_START + timedelta(seconds=step * (number % scenario.period_starts))
        for number in range(scenario.items)
    ]


def _rate_limits(scenario: Scenario) -> RateLimits | None:
    """Return the limits that are enforced, or None for none at all."""
    if scenario.meter_event_rate is None and not scenario.limited:
        return None
    limits = (STRIPE_OVERALL_RATE, STRIPE_ENDPOINT_RATE) if scenario.limited else (NO_LIMIT, NO_LIMIT)
    return RateLimits(*limits, scenario.meter_event_rate or NO_LIMIT)


def _counted(seen: Sequence[RequestSeen]) -> Traffic:
    stripe = [request for request in seen if request.server == "stripe"]
    posts = [request for request in stripe if request.method == "POST"]
    reads = [request for request in stripe if request.method == "GET"]
    summaries = [one for one in reads if one.path.endswith(("/usage_record_summaries", "/event_summaries"))]
    return Traffic(
        stripe_lists=len(reads) - len(summaries),
        stripe_summaries=len(summaries),
        stripe_posts=len(posts),
        openmeter_queries=sum(one.server == "openmeter" and one.path.endswith("/query") for one in seen),
        refused=sum(request.status == 429 for request in seen),
        total=len(seen),
        post_rate=_per_second([request.at for request in posts if request.status == 200]),
    )


def _per_second(arrivals: Sequence[float]) -> float:
    if len(arrivals) < 2:
        return 0.0
    return (len(arrivals) - 1) / (max(arrivals) - min(arrivals))


def main() -> None:
    """Serve the scenario given as JSON until standard input ends."""
    served = Served(Scenario(**json.loads(sys.argv[1])))
    commands: dict[str, Callable[[], Any]] = {
        "use": served.use,
        "use_some": served.use_some,
        "use_ending": served.use_ending,
        "written": served.written,
        "use_now": served.use_now,
        "use_one_in_100_now": served.use_one_in_100_now,
        "use_one_in_100_late": served.use_one_in_100_late,
        "begin_one_in_100": served.begin_one_in_100,
        "limit": served.limit,
        "limit_not": served.limit_not,
        "traffic": served.traffic,
        "wrong_items": served.wrong_items,
    }
    with served.serving() as environment:
        _say(environment)
        for line in sys.stdin:
            _say(commands[line.strip()]())


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
