"""Making a statement of what the ledger has: sums, cuts, what is to be looked at, and the verdict."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from meter_sync.core.billing.item import Period, PeriodKey, SubscriptionItem
from meter_sync.core.telling.history import PastRun
from meter_sync.core.telling.statement.figures import (
    Bridge,
    Change,
    Completeness,
    CustomerFigures,
    Cuts,
    Day,
    ItemFigures,
    Judgement,
    Matter,
    MatterKind,
    MeterFigures,
    State,
    Verdict,
)
from meter_sync.core.telling.statement.matters import NEEDS_SOMEBODY, differing, matters_of
from meter_sync.core.telling.statement.position import Position, bridge_of, state_of
from meter_sync.core.text import date_and_time

LARGEST = 10
"""So many of the largest customers, and of the largest changes, are named by themselves."""
_ORDER = {kind: number for number, kind in enumerate(MatterKind)}
_A_DAY = timedelta(days=1)
_DONE = (0, 3, 4)
"""The exit codes of runs that did what could be done."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All that positions say of a time."""

    whole: MeterFigures
    meters: Sequence[MeterFigures]
    matters: Sequence[Matter]
    without_report: Sequence[str]
    customers: Sequence[CustomerFigures]
    by_state: Mapping[State, int]


@dataclass(slots=True)
class _OfMeter:
    bridge: Bridge = field(default_factory=Bridge)
    cuts: Cuts = field(default_factory=Cuts)
    used: defaultdict[date, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    reported: defaultdict[date, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    billed: defaultdict[date, Decimal] = field(default_factory=lambda: defaultdict(Decimal))


@dataclass(slots=True)
class _OfCustomer:
    subjects: set[str] = field(default_factory=set)
    items: list[ItemFigures] = field(default_factory=list)
    is_reported: bool = False
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Invoiced:
    """What Stripe says that invoices bill."""

    lines: Mapping[PeriodKey, tuple[int | None, str | None]]
    """Of items' periods, and on which invoice; None where the line, or the status of its invoice, does not say."""
    not_understood: Collection[str] = ()
    """The subscriptions of which an invoice is not understood."""

    def of(self, item: SubscriptionItem) -> tuple[int | None, str | None]:
        """Return what is billed of an item's period, None where that is not said, and on which invoice.

        Nothing is said of a part of a period, which ended with a change.
        """
        if item.is_cut or item.subscription.id in self.not_understood:
            return None, None
        return self.lines.get(item.invoice_key, (0, None))


def figures_of_time(
    positions: Iterable[Position], time: Period, as_of: datetime, invoices: Invoiced | None = None
) -> Figures:
    """Given what the ledger has of items' periods that overlap a time of whole UTC days, return what they say of it.

    A period belongs to the time in which it ends: one that ends with its last instant too. What was used in the time in
    periods that end later is in the cut by time alone. `as_of` is the instant of the last complete run, and `invoices`
    is what Stripe says, where it was asked.
    """
    meters = defaultdict[str | None, _OfMeter](_OfMeter)
    customers = defaultdict[str, _OfCustomer](_OfCustomer)
    matters, by_state = list[Matter](), Counter[State]()
    for one in positions:
        state = state_of(one, as_of)
        of_meter = meters[one.whose.meter]
        bridge = bridge_of(one, state)
        _add_days(of_meter, one, bridge, time)
        is_in_time = time.start < one.whose.period.end <= time.end
        if is_in_time or state is State.RUNNING:  # what goes on now needs somebody, whatever the time
            matters += matters_of(one, state, as_of)
        if not is_in_time:
            of_meter.cuts += Cuts(in_later_periods=_within(one.used_by_day, time))
            continue
        by_state[state] += 1
        of_meter.bridge += bridge
        before = sum((used for day, used in one.used_by_day.items() if day < time.start.date()), Decimal(0))
        of_meter.cuts += Cuts(in_periods=one.used, used_before=before)
        line = None if invoices is None else invoices.of(one.item)
        if line and line[0] is not None and (differs := differing(one, state, bridge, line[0])):
            matters.append(differs)
        _add_item(customers[one.whose.customer], one, state, bridge, line)
    sums = [_figures(meter, found, time) for meter, found in sorted(meters.items(), key=lambda one: one[0] or "")]
    return Figures(
        whole=_whole(sums),
        meters=[one for one in sums if one.meter is not None or one.bridge != Bridge() or one.cuts != Cuts()],
        matters=sorted(matters, key=_in_order),
        without_report=sorted(id for id, one in customers.items() if not (one.is_reported or one.is_kept)),
        customers=sorted((_customer(id, one) for id, one in customers.items()), key=_by_size),
        by_state=dict(by_state),
    )


def used_by_customer(positions: Iterable[Position]) -> dict[tuple[str, str | None], Decimal]:
    """Return what was used in periods, by customer and meter."""
    found = defaultdict[tuple[str, str | None], Decimal](Decimal)
    for one in positions:
        found[one.whose.customer, one.whose.meter] += one.used
    return dict(found)


def largest_changes(
    before: Mapping[tuple[str, str | None], Decimal], now: Mapping[tuple[str, str | None], Decimal]
) -> list[Change]:
    """Return which customers' usage of a meter differs most from that of the time before."""
    nothing = Decimal(0)
    changes = [Change(*key, before.get(key, nothing), now.get(key, nothing)) for key in {**before, **now}]
    changed = [one for one in changes if one.before != one.now]
    return sorted(changed, key=lambda one: (-abs(one.now - one.before), one.customer, one.meter or ""))[:LARGEST]


def completeness_of(
    figures: Figures, runs: Sequence[PastRun], last: PastRun | None, time: Period, missed_after: timedelta
) -> Completeness:
    """Given the runs that began in a time, and the last complete one of all, say whether everything was looked at.

    Runs are missed where none was complete for longer than the schedule allows.
    """
    every = [one for one in runs if one.everything]
    return Completeness(
        items=sum(figures.by_state.values()),
        by_state=figures.by_state,
        by_outcome=last.counts if last else {},
        runs=len(every),
        failed_runs=sum(one.exit_code not in _DONE for one in every),
        missed=list(_missed(every, time, missed_after)),
        schedule=last.schedule if last else None,
        pages=last.pages if last else None,
    )


def verdict_of(figures: Figures, time: Period, as_of: datetime | None, unread: int) -> Verdict:
    """Say in one sentence whether what was used is billed; of so many items the ledger could not be read.

    `as_of` is the instant of the last complete run: of what came later in the time nothing is known.
    """
    periods = sum(figures.by_state.values())
    if as_of is None:
        return Verdict(Judgement.NOTHING, "No run over the whole account has done its work yet: nothing is known.")
    if figures.whole.bridge.difference:
        gap = f"{figures.whole.bridge.difference:f} of what was used is not explained"
        return Verdict(Judgement.ATTENTION, f"The books do not add up: {gap}. Do not sign, and have this looked at.")
    if unread:
        about = f"What the ledger has of {_many(unread, 'item')} cannot be read"
        return Verdict(Judgement.ATTENTION, f"{about}, and is in none of the figures. Do not sign.")
    waiting, still = [one for one in figures.matters if one.kind in NEEDS_SOMEBODY], list(_still_open(figures))
    if as_of < time.end:
        still.append(f"runs have looked at it only until {date_and_time(as_of)} UTC")
    if waiting:
        customers = len({one.customer for one in waiting})
        about = f"{_many(len(waiting), 'matter')} of {_many(customers, 'customer')}"
        return Verdict(Judgement.ATTENTION, f"{'; '.join([f'{about} wait for somebody', *still])}.")
    if not periods and as_of >= time.end:
        return Verdict(Judgement.NOTHING, "No billing period ended in this time: there is nothing to be billed yet.")
    if still:
        return Verdict(Judgement.OPEN, f"Of {_many(periods, 'period')}, {'; '.join(still)}; nothing waits for anybody.")
    return Verdict(Judgement.AGREES, f"All that was used in {_many(periods, 'period')} is billed, or explained.")


def _still_open(figures: Figures) -> Iterator[str]:
    running, awaited = (figures.by_state.get(state, 0) for state in (State.RUNNING, State.AWAITED))
    if running:
        yield f"{running:,} have not ended yet"
    if awaited:
        yield f"of {awaited:,} the invoice may still change"


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _add_days(found: _OfMeter, one: Position, bridge: Bridge, time: Period) -> None:
    """Add what was used on each day of a period: what was used first is billed first."""
    left = max(bridge.billed - bridge.carried_in + bridge.rounding, Decimal(0)) if bridge.billed else Decimal(0)
    for day, used in sorted(one.used_by_day.items()):
        billed = min(used, left)
        left -= billed
        if _is_in(day, time):
            found.used[day] += used
            found.billed[day] += billed
    for day, reported in one.reported_by_day.items():
        if _is_in(day, time):
            found.reported[day] += reported


def _within(by_day: Mapping[date, Decimal], time: Period) -> Decimal:
    return sum((used for day, used in by_day.items() if _is_in(day, time)), Decimal(0))


def _is_in(day: date, time: Period) -> bool:
    return time.start.date() <= day <= (time.end - _A_DAY).date()


def _add_item(
    found: _OfCustomer, one: Position, state: State, bridge: Bridge, line: tuple[int | None, str | None] | None
) -> None:
    whose = one.whose
    found.subjects.update(one.subjects)
    found.is_reported |= one.stands is not None
    found.is_kept |= one.obstacle is not None or bool(bridge.used)
    quantity = one.due_quantity if one.is_metered else None
    invoiced, invoice = line or (None, None)
    figures = ItemFigures(
        subscription=whose.subscription,
        item=whose.item,
        period=whose.period,
        meter=whose.meter,
        price=one.price,
        state=state,
        bridge=bridge,
        quantity=quantity,
        invoiced=invoiced,
        invoice=invoice or one.invoice,
    )
    found.items.append(figures)


def _customer(customer: str, found: _OfCustomer) -> CustomerFigures:
    items = sorted(found.items, key=lambda one: (one.meter or "", one.item, one.period.start))
    return CustomerFigures(customer, sorted(found.subjects), sum((one.bridge for one in items), Bridge()), items)


def _by_size(one: CustomerFigures) -> tuple[Decimal, str]:
    return -one.bridge.used, one.customer


def _in_order(one: Matter) -> tuple[int, Decimal, str, str, datetime]:
    return _ORDER[one.kind], -(one.quantity or Decimal(0)), one.customer, one.item, one.period.start


def _figures(meter: str | None, found: _OfMeter, time: Period) -> MeterFigures:
    return MeterFigures(
        meter,
        found.bridge,
        found.cuts,
        [Day(day, found.used[day], found.reported[day], found.billed[day]) for day in _days_of(time)],
    )


def _whole(meters: Sequence[MeterFigures]) -> MeterFigures:
    bridge, cuts = sum((one.bridge for one in meters), Bridge()), sum((one.cuts for one in meters), Cuts())
    return MeterFigures(None, bridge, cuts)


def _days_of(time: Period) -> Iterator[date]:
    day = time.start.date()
    while day < time.end.date():
        yield day
        day += _A_DAY


def _missed(runs: Sequence[PastRun], time: Period, missed_after: timedelta) -> Iterator[Period]:
    """Yield the stretches of a time in which no run was complete, where they are longer than is allowed."""
    done = sorted(one.started_at for one in runs if one.exit_code in _DONE)
    since = time.start
    for at in [*done, time.end]:
        if at - since > missed_after:
            yield Period(since, at.astimezone(UTC))
        since = at
