"""Making a statement of an account from its ledger: no server is asked."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from meter_sync import __version__
from meter_sync.core.billing.item import Period
from meter_sync.core.schedule import Schedule
from meter_sync.core.telling.explanation import Sentence, explain
from meter_sync.core.telling.history import KEPT_DAYS, PastRun, Sought
from meter_sync.core.telling.statement.assembly import (
    LARGEST,
    Figures,
    Invoiced,
    completeness_of,
    figures_of_time,
    largest_changes,
    used_by_customer,
    verdict_of,
)
from meter_sync.core.telling.statement.digest import digest_of
from meter_sync.core.telling.statement.figures import (
    Bridge,
    Change,
    ChangedSince,
    CustomerFigures,
    ItemFigures,
    Signature,
    Statement,
    Told,
)
from meter_sync.core.telling.statement.position import Position
from meter_sync.core.telling.statement.times import time_before
from meter_sync.core.text import digits
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Ledger
from meter_sync.ledger.migrate import REVISIONS
from meter_sync.ledger.rows import RowUnread
from meter_sync.ledger.signatures import Signed

TOLD_OF = 1000
"""Of so many customers, the largest, it is told how their quantities came about; a page of more would be too large."""
_WRITES_TOLD = 3
_SIGNED_TIMES = 12
"""So many signed times, the last ones, are looked at again…"""
_KEPT = timedelta(days=KEPT_DAYS)
"""… as long as the ledger has surely all of them."""
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class About:
    """What a statement is to be about."""

    time: Period
    """Whole UTC days."""
    account: str = ""
    """The name of the account, where there are several."""
    customers: Sequence[str] = ()
    """Those that it is to be about, or none for all."""
    invoices: Invoiced | None = None
    """What Stripe says that invoices bill; None where it was not asked."""


def statement_of(ledger: Ledger, about: About) -> Statement:
    """Return the statement of a time, by what the ledger has: of one ledger always the same.

    Raise LedgerError, or MeterSyncError for a customer of whom it has nothing.
    """
    with ledger.statements.at_one_moment():
        _check_known(ledger, about.customers)
        return _statement(ledger, about)


def _check_known(ledger: Ledger, customers: Sequence[str]) -> None:
    unmatched = ledger.history.unmatched(Sought(customers=tuple(customers)))
    if unmatched:
        raise MeterSyncError(
            f"--customer {unmatched.value} matches nothing in the ledger; nothing was written",
            f"known are {', '.join(unmatched.known)}" if unmatched.known else "no run has listed a customer yet",
            code="nothing_selected",
        )


def _statement(ledger: Ledger, about: About) -> Statement:
    time, last = about.time, ledger.runs.last_complete_run()
    as_of = last.as_of if last else None
    bound = ledger.binding.read()
    found = _selected(ledger.statements.positions(time), about)
    figures = figures_of_time(found, time, as_of or _NEVER, about.invoices)
    signed, digest = ledger.signatures.all(), digest_of(figures, time)
    customers = _told(ledger, figures.customers)
    return Statement(
        account=about.account or None,
        stripe_account=bound.stripe_account if bound else None,
        is_live=ledger.mode == "live",
        since=time.start,
        until=time.end,
        version=__version__,
        ledger_revision=REVISIONS[-1],
        digest=digest,
        as_of=as_of,
        last_run=last.id if last else None,
        verdict=verdict_of(figures, time, as_of, len(ledger.damaged)),
        whole=figures.whole,
        meters=figures.meters,
        matters=figures.matters,
        without_report=figures.without_report,
        customers=customers,
        largest=customers[:LARGEST],
        changes=_changes(ledger, about, figures),
        completeness=completeness_of(figures, *_runs(ledger, time, last)),
        signatures=[_signature(one, digest) for one in signed if one.time == time] if not about.customers else [],
        changed_since=[*_changed(ledger, signed, as_of or _NEVER)],
        were_invoices_asked=about.invoices is not None,
        is_of_selected=tuple(about.customers),
        unread=tuple(f"{item}: {why}" for item, why in sorted(ledger.damaged.items())),
    )


def sums_of(bridge: Bridge) -> tuple[str, ...]:
    """Return the terms of a bridge as a signature keeps them."""
    return tuple(digits(getattr(bridge, name)) for name in Bridge.__match_args__)


def _selected(positions: Iterable[Position], about: About) -> Iterator[Position]:
    return (one for one in positions if not about.customers or one.whose.customer in about.customers)


def _ended_in(positions: Iterable[Position], time: Period) -> Iterator[Position]:
    return (one for one in positions if time.start < one.whose.period.end <= time.end)


def _changes(ledger: Ledger, about: About, figures: Figures) -> Sequence[Change]:
    before = time_before(about.time)
    earlier = used_by_customer(_ended_in(_selected(ledger.statements.positions(before), about), before))
    now = dict[tuple[str, str | None], Decimal]()
    for customer in figures.customers:
        for item in customer.items:
            key = customer.customer, item.meter
            now[key] = now.get(key, Decimal(0)) + item.bridge.used
    return largest_changes(earlier, now)


def _runs(
    ledger: Ledger, time: Period, last: PastRun | None
) -> tuple[Sequence[PastRun], PastRun | None, Period, timedelta]:
    """Return the runs of a time, the last complete one of all, in what of it there were runs, and what is late."""
    first, newest = ledger.runs.first_begun() or time.end, ledger.runs.last_begun() or time.start
    within = Period(min(max(time.start, first), time.end), max(min(time.end, newest), time.start))
    schedule = Schedule(last.schedule) if last else Schedule.HOURLY
    return ledger.runs.past(time.start, time.end, None), last, within, schedule.missed_after


def _signature(one: Signed, digest: str) -> Signature:
    return Signature(one.signed_by, one.signed_at, one.digest, one.digest == digest)


def _changed(ledger: Ledger, signed: Sequence[Signed], as_of: datetime) -> Iterator[ChangedSince]:
    """Yield the signed times whose figures are others by now, each by its last signature."""
    last_of_each = {one.time: one for one in signed}
    for one in [*last_of_each.values()][-_SIGNED_TIMES:]:
        if one.time.end < as_of - _KEPT:
            continue  # of what is older something may be forgotten by now
        figures = figures_of_time(ledger.statements.positions(one.time), one.time, as_of)
        if digest_of(figures, one.time) != one.digest:
            time, before = one.time, _bridge_of(one.bridge)
            yield ChangedSince(time.start, time.end, one.signed_by, one.signed_at, before, figures.whole.bridge)


def _bridge_of(sums: Sequence[str]) -> Bridge:
    """Return the bridge of which a signature keeps the terms; a later version may have more of them."""
    kinds = {name: type(getattr(Bridge(), name)) for name in Bridge.__match_args__}
    terms: dict[str, Any] = {name: kinds[name](text) for name, text in zip(kinds, sums, strict=False)}
    return Bridge(**terms)


def _told(ledger: Ledger, customers: Sequence[CustomerFigures]) -> list[CustomerFigures]:
    """Return the customers, the largest with how the quantities of their items came about."""
    told = [replace(one, items=[_item(ledger, item) for item in one.items]) for one in customers[:TOLD_OF]]
    return [*told, *customers[TOLD_OF:]]


def _item(ledger: Ledger, one: ItemFigures) -> ItemFigures:
    try:
        stories = ledger.history.stories(one.item, one.period.start)
    except RowUnread as error:  # of what no figure is made
        return replace(one, told=[Told("unread", error.message)])
    return replace(one, told=[told for story in stories for told in _shortened(explain(story))])


def _shortened(sentences: Sequence[Sentence]) -> Iterator[Told]:
    """Yield how a quantity came about, with its last writes alone: `history` has all."""
    many = [one for one in sentences if one.topic in _MANY]
    left_out = many[:-_WRITES_TOLD]
    for one in sentences:
        if one is (left_out and left_out[0]):
            said = f"{len(many)}, of which the last {_WRITES_TOLD} are told here: meter-sync history has all"
            yield Told("writes", said)
        elif one.topic not in _LEFT_OUT and one not in left_out:
            yield Told(one.topic, one.text)


_MANY = frozenset({"write", "addition", "part"})
_LEFT_OUT = frozenset({"item", "period"})
"""What the figures beside say already."""
