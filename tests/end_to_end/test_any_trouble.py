"""Whatever cannot be read, and for however long: each unit is billed once, or named once, or listed as not known.

The runs are the program's own, in this process and over real HTTP; what happens to them is drawn.
"""

import itertools
import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import BillingMode
from meter_sync.sandbox.stripe.views.usage_records import Unbounded
from tests.support.lives import Drawn, Life
from tests.support.ways import ALL_WAYS
from tests.support.world import METER, NOW, World

MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("minutes", "hours", "days"))
MOST_USES = 25
"""A value of a meter event has at most 15 digits."""
PAUSES = [MINUTE, 20 * MINUTE, HOUR, 5 * HOUR, 25 * HOUR, 3 * DAY, 6 * DAY]

OF_STRIPE = {
    "/v1/invoices$": (500, 403),
    "/v1/invoiceitems$": (500, 403),
    "/event_summaries$": (500, 400),
    "/usage_record_summaries$": (500, 400),
    "/v1/events$": (500, 403),
    "/v1/subscriptions/sub_": (500,),
}
"""What is read of Stripe, and with which status that fails."""

READS = [
    *(
        Fault(server="stripe", method="GET", path=path, status=status, times=None)
        for path, found in OF_STRIPE.items()
        for status in found
    ),
    *(Fault(server="openmeter", path=f"/{METER}/query$", status=status, times=None) for status in (500, 400)),
]
OF_INVOICES = [one for one in READS if "invoice" in one.path]
"""These say what is billed: to take what they did not say for nothing costs most."""


@dataclass
class Troubled(Drawn):
    """A customer whose subscriptions follow and overlap, and runs that do not learn what they ask for."""

    standing: list[Fault] = field(default_factory=list)
    """What goes wrong with the reads of every run, for some time or for ever."""
    unmapped: set[str] = field(default_factory=set)
    was_unmapped: bool = False
    """Of an item that went without a mapping nothing is known, though its price has one again."""
    is_meter_gone: bool = False
    last_troubled: datetime | None = None

    def run(self) -> None:
        if self.is_in_trouble:
            self.last_troubled = self.world.now
        self.life.run()

    @property
    def is_in_trouble(self) -> bool:
        now = self.world.now
        stands = any((one.since or now) <= now < (one.until or now + DAY) for one in self.standing)
        return stands or self.was_unmapped or self.is_meter_gone

    def _arm(self, *faults: Fault) -> None:
        self.world.sandbox.faults.clear()
        for fault in (*faults, *self.standing):
            self.world.sandbox.faults.add(fault)

    # -- what happens -------------------------------------------------------------------------------

    def use(self) -> None:
        """Each by another power of three: what becomes of each is seen in the sum."""
        if len(self.life.used) < MOST_USES:
            ago = self.random.choice((0, 90, 4000, 86_400))
            self.life.use(self.world.now - timedelta(seconds=ago), 3 ** len(self.life.used))

    def cancel(self) -> None:
        if self.life.living:
            self.life.cancel(self.any_living(), invoice_now=self.random.random() < 0.6)

    # -- what goes wrong ----------------------------------------------------------------------------

    def fail_once(self) -> None:
        """Let a read of the next run fail."""
        self._arm(replace(self.random.choice(READS), times=1))
        self.last_troubled = self.world.now
        self.run()
        self._arm()

    def fail(self) -> None:
        """Let a read fail from now on, or from a period's end on, for some time or for ever."""
        items = [item for subscription in self.life.living for item in self.life.items_of(subscription)]
        ends = [self.life.end_of(item) for item in items]
        since = min(ends) if ends and self.random.random() < 0.3 else self.world.now
        lasts = self.random.choice((None, None, 5 * HOUR, 2 * DAY, 6 * DAY))
        until = since + lasts if lasts else None
        read = self.random.choice(READS if self.random.random() < 0.5 else OF_INVOICES)
        self.standing.append(replace(read, since=since, until=until))
        self._arm()

    def let_summaries_lag(self) -> None:
        """Also beyond the hour in which an invoice is a draft."""
        self.world.stripe.summary_lag_seconds = self.random.choice((0, 120, 6 * 3600))

    def leave_bounds_out(self) -> None:
        unbounded: list[Unbounded] = ["none", "open", "all"]
        self.world.stripe.summaries_without_bounds = self.random.choice(unbounded)

    def remove_a_mapping(self) -> None:
        for item in self.life.items_of(self.any_living()) if self.life.living else ():
            price = self.world.stripe.state.items[item].price
            self.world.stripe.state.prices[price].metadata.clear()
            self.unmapped.add(price)
            self.was_unmapped = True

    def delete_the_meter(self) -> None:
        if not self.is_meter_gone:
            self.world.openmeter.delete_meter(METER)
        self.is_meter_gone = True

    def mend(self) -> None:
        self.standing.clear()
        self._arm()
        for price in self.unmapped:
            self.world.stripe.state.prices[price].metadata["om_meter_id"] = METER
        self.unmapped.clear()
        if self.is_meter_gone:
            self.world.openmeter.add_meter(METER, aggregation="SUM")
        self.is_meter_gone = False

    # -- how it goes --------------------------------------------------------------------------------

    def play(self, steps: int) -> None:
        """Let things happen, one after the other, with a run from time to time; then end everything, and run on."""
        happenings = [self.use] * 8 + [self.begin] * 2 + [self.cancel] * 2 + [self.change_price, self.replace_item]
        happenings += [self.fail] * 3 + [self.fail_once] * 2 + [self.let_summaries_lag, self.leave_bounds_out]
        happenings += [self.random.choice((self.remove_a_mapping, self.delete_the_meter)), self.mend, self.mend]
        self.begin()
        self.run()
        for _ in range(steps):
            self.random.choice(happenings)()
            if self.random.random() < 0.6:
                self.world.sandbox.clock.advance(self.random.choice(PAUSES))
                self.run()
        self.use()
        self.life.end_with(self.run)


FAST = (0, "hours", "flexible")


def lives() -> list[object]:
    """Return what is played: seed, way, mode. The fast tier plays one that tells no answer from none."""
    slow = [one for one in itertools.product(range(3), ALL_WAYS, ("classic", "flexible")) if one != FAST]
    return [FAST, *(pytest.param(*one, marks=pytest.mark.simulation) for one in slow)]


@pytest.mark.no_cover
@pytest.mark.parametrize(("seed", "way", "mode"), lives())
def test_each_unit_is_billed_once_or_named_once_or_listed_as_not_known(
    tmp_path: Path, seed: int, way: str, mode: BillingMode
) -> None:
    world = World(tmp_path, NOW)
    with world.sandbox.in_background():
        life = Life(world, way, mode, "week")
        troubled = Troubled(world, life, random.Random(f"{seed}{way}{mode}"))  # noqa: S311
        troubled.play(24)
        life.check_what_is_known(troubled.last_troubled)
