"""Writing hours and additions of one item as runs do."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import NAMESPACE_OID, uuid5

from meter_sync.core.billing import identifiers
from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.billing.way import Way
from meter_sync.core.planning.brakes import checked_before
from meter_sync.core.planning.memory import Addition, Memory, RememberedWindow
from meter_sync.core.planning.sends import Add, SetWindows, WindowQuantity
from meter_sync.core.planning.stages import Acknowledged, Intended, Write
from meter_sync.core.planning.windows import windows_of
from meter_sync.core.telling.history import Added, Entry, Sought, WrittenPart
from meter_sync.ledger import Ledger, RunRecord
from meter_sync.ledger.rows import WindowTaken
from meter_sync.ledger.windows import Wanted
from tests.core.builders import make_item, make_metered, make_method, make_write
from tests.support.world import NOW

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
START = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - 14 * DAY
"""When the item's period begins: it is open at `NOW`."""
ITEM = make_item(start=START, end=START + 30 * DAY, created=START - 90 * DAY)


def run_at(at: datetime) -> RunRecord:
    return RunRecord(str(uuid5(NAMESPACE_OID, at.isoformat())), at, at, "hourly", everything=True)


def set_hours(
    ledger: Ledger, at: datetime, hours: dict[int, int], *, item: SubscriptionItem = ITEM, taken: bool = True
) -> str:
    """Let a run at an instant set hours of the item, by their number in the period, and return its id."""
    run, remembered = run_at(at), windows_known(ledger, item)
    values = {start: one.value for start, one in remembered.items()} | {
        item.period.start + number * HOUR: value for number, value in hours.items()
    }
    total, windows = Decimal(0), []
    for start in sorted(values):
        total += values[start]
        before = remembered.get(start)
        one = WindowQuantity(start, start + SECOND, values[start], before.standing if before else 0, total)
        if one.is_sent or before is None or before.total != total:
            windows.append(one)
    write = _write(ledger, item, at, int(total), Way.WINDOWS)
    write = replace(write, sends=SetWindows(tuple(windows), 0, is_whole=True))
    _carry_out(ledger, run, write, at, taken=taken)
    return run.id


def add(ledger: Ledger, at: datetime, value: int, *, item: SubscriptionItem = ITEM, taken: bool = True) -> str:
    """Let a run at an instant add to what the item has, and return the event's identifier."""
    write = addition_of(ledger, at, value, item=item)
    _carry_out(ledger, run_at(at), write, at, taken=taken)
    assert isinstance(write.sends, Add)
    return write.sends.addition.identifier


def addition_of(ledger: Ledger, at: datetime, value: int, *, item: SubscriptionItem = ITEM) -> Write:
    known = ledger.memory.of([item]).remembered.get(item.id)
    base = known.acknowledged or 0 if known else 0
    identifier = identifiers.of_addition(item, base, known.additions.to_same_base if known else 0)
    addition = Addition(identifier, base, value, at, intended_at=at, as_of=at, attempted_at=at)
    write = _write(ledger, item, at, base + value, Way.ADDITIONS)
    return replace(write, found=replace(write.found, standing=base), sends=Add(addition))


def _write(ledger: Ledger, item: SubscriptionItem, at: datetime, quantity: int, way: Way) -> Write:
    known = ledger.memory.of([item]).remembered.get(item.id)
    method = make_method(way=way, stripe_meter="mtr_1")
    found = make_write(quantity, metered=make_metered(item, as_of=at), follows=known.run if known else None)
    return replace(found, method=method)


def _carry_out(ledger: Ledger, run: RunRecord, write: Write, at: datetime, *, taken: bool) -> None:
    ledger.runs.begin(run)
    ledger.listed.record([write.item], at)
    (intended,) = ledger.writes.claim(run, [checked_before(write)], at, 0)
    if taken:
        acknowledge(ledger, run, intended, at + SECOND)
    ledger.writes.release(run, [write])
    ledger.runs.finish(run.id, at, 0, {})


def acknowledge(ledger: Ledger, run: RunRecord, intended: Intended, at: datetime) -> None:
    sent = [part for part in windows_of(intended.write) if part.is_sent]
    taken = [WindowTaken(intended.write, part, at, f"req_{part.value}") for part in sent]
    ledger.writes.acknowledge_windows(run, taken)
    ledger.writes.acknowledge(run, [Acknowledged(intended, at, "req_last")])


def windows_known(ledger: Ledger, item: SubscriptionItem = ITEM) -> Mapping[datetime, RememberedWindow]:
    known = known_since(ledger, None, item).remembered.get(item.id)
    return known.windows.by_start if known else {}


def known_since(ledger: Ledger, since: datetime | None, item: SubscriptionItem = ITEM) -> Memory:
    """What a run knows that reads the item's usage since an instant, or all of its period."""
    return ledger.memory.with_windows(ledger.memory.of([item]), [Wanted(item.id, item.period.start, since)])


def told(ledger: Ledger, item: SubscriptionItem = ITEM) -> list[Entry]:
    """All that `history --parts` tells, without what names the requests of hours and additions."""
    found = ledger.history.entries(Sought(items=(item.id,)), with_parts=True)
    bare = [replace(one, request_id=None) if isinstance(one, WrittenPart | Added) else one for one in found]
    return sorted(bare, key=repr)
