"""How others report usage on a schedule, each in its plainest form and at its best.

All list every page of the active subscriptions, ask OpenMeter exactly, make the SDK's two retries, log what fails, go
on with the next customer, and know that a repeated identifier means delivered. None has a lock of its own.
"""

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from three_months.plain import Failed, Item, Plain, Refused
from three_months.scenario import BEGIN, HOUR, SECOND, Kind
from three_months.ways import Said


class OtherWay:
    """What the other ways have in common: they come hourly, do nothing about the ends of periods, and name nothing."""

    meter: ClassVar[Kind]
    """The kind of billing meter that suits it: all its customers on billing meters are on one of these."""

    def __init__(self, plain: Plain, now: Callable[[], datetime]) -> None:
        self.plain = plain
        self.now = now

    def run(self) -> None:
        """Report; where the subscriptions or the usage cannot be had, log that and end."""
        try:
            self.report(list(self.plain.items()))
        except (Failed, Refused):
            return

    def run_twice_at_once(self) -> None:
        """Report twice: what one run does the other one does not see."""
        self.run()
        self.run()

    def report(self, items: list[Item]) -> None:
        """Report the usage of these items."""
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing."""

    def said(self) -> Said:
        """Say nothing."""
        return Said()


class SetAtAnchor(OtherWay):
    """OpenMeter's sample: one query and one `set` per item. Here at a fixed timestamp of the period.

    On a meter of formula `last`, one event with the period's total so far.
    """

    meter = "last"

    def report(self, items: list[Item]) -> None:
        """Set the usage of each item's period so far."""
        for item in items:
            try:
                usage = self.plain.usage(item.customer, item.period_start, self.now())
                if item.event_name:
                    self.plain.event(item, usage, self.now())
                else:
                    self.plain.record(item, "set", usage, self.timestamp(item))
            except (Failed, Refused):
                continue

    def timestamp(self, item: Item) -> datetime:
        """Return when what is set is said to be used."""
        return item.period_start + SECOND


class SetNow(SetAtAnchor):
    """The same with the present as the timestamp: each run adds a record with the whole total to those before."""

    def timestamp(self, item: Item) -> datetime:
        """Return now."""
        return self.now()


class HourlyAdditions(OtherWay):
    """Adds up whole hours, each customer's under an identifier made of customer and hour (Langfuse's way).

    Stamped with the hour's last second. Of legacy prices the identifier is the idempotency key of an `increment`. An
    hour is done when all its customers were answered; else the next run begins with it again.
    """

    meter = "additions"

    def __init__(self, plain: Plain, now: Callable[[], datetime]) -> None:
        super().__init__(plain, now)
        self._done_until = BEGIN

    def run_twice_at_once(self) -> None:
        """Report the same hours twice."""
        before = self._done_until
        self.run()
        self._done_until = before
        self.run()

    def report(self, items: list[Item]) -> None:
        """Add the hours that are over and not done."""
        end = BEGIN + (self.now() - BEGIN) // HOUR * HOUR
        hours = self.plain.everyones_hours(self._done_until, end)
        for hour in sorted(hours):
            results = [self._is_answered(item, hour, hours[hour].get(item.customer, 0)) for item in items]
            if not all(results):
                return
            self._done_until = hour + HOUR
        self._done_until = end

    def _is_answered(self, item: Item, hour: datetime, usage: int) -> bool:
        identifier, at = f"{item.customer}-{hour:%Y-%m-%dT%H}", hour + HOUR - SECOND
        try:
            if usage and item.event_name:
                self.plain.event(item, usage, at, identifier)
            elif usage:
                self.plain.record(item, "increment", usage, at, identifier)
        except Failed:
            return False
        except Refused:
            return True
        return True


class Deltas(OtherWay):
    """Adds what was used since each item's cursor, stamped now, and moves the cursor when Stripe has answered.

    The cursor is saved after each request. It begins with the item's period.
    """

    meter = "additions"

    def __init__(self, plain: Plain, now: Callable[[], datetime]) -> None:
        super().__init__(plain, now)
        self._cursors: dict[str, datetime] = {}
        """By item."""

    def run_twice_at_once(self) -> None:
        """Report the same deltas twice, each run by the cursors that it has read."""
        before = dict(self._cursors)
        self.run()
        self._cursors = before
        self.run()

    def report(self, items: list[Item]) -> None:
        """Add what each item has used since its cursor."""
        now = self.now()
        since: defaultdict[datetime, list[Item]] = defaultdict(list)
        for item in items:
            since[self._cursors.get(item.id, item.period_start)].append(item)
        for cursor, others in since.items():
            usage = self.plain.everyones_usage(cursor, now)
            for item in others:
                self._add(item, usage.get(item.customer, 0), now)

    def _add(self, item: Item, usage: int, now: datetime) -> None:
        try:
            if usage and item.event_name:
                self.plain.event(item, usage, now)
            elif usage:
                self.plain.record(item, "increment", usage, now)
        except (Failed, Refused):
            return
        self._cursors[item.id] = now
