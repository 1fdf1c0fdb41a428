"""What the ledger has of an item's period, and what of its usage became what: the rule by which a statement adds up."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.outcomes import Reason
from meter_sync.core.telling.history import Whose
from meter_sync.core.telling.statement.figures import Bridge, State


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps an item's period from being reported at present."""

    outcome: str
    reason: str
    message: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Lacking:
    """What was found out of what Stripe does not bill of a period that has ended, and what became of that."""

    quantity: int = 0
    """By sign: less than zero was billed too much."""
    why: str | None = None
    named_at: datetime | None = None
    carried: int = 0
    """What of it later periods have."""
    waits: bool = False
    """Whether the rest of it waits for the item's next period, rather than for a person."""
    settled: int = 0
    settled_at: datetime | None = None
    note: str | None = None
    not_known: str | None = None
    """Why it is not known whether Stripe bills the period at all, beyond that quantity."""
    is_forgiven: bool = False
    """Whether its invoice was voided, and nobody has to pay what that had."""

    @property
    def open_quantity(self) -> int:
        """What nobody has settled, and no later period has."""
        return self.quantity - self.settled - self.carried

    @property
    def is_unknown(self) -> bool:
        """Whether it is not known whether Stripe bills the period, and nobody has settled that."""
        return self.not_known is not None and self.settled_at is None


@dataclass(frozen=True, slots=True)
class Position:
    """What the ledger has of an item's period."""

    item: SubscriptionItem
    """As it was listed last."""
    whose: Whose
    price: str
    subjects: tuple[str, ...] = ()
    scale: Decimal = Decimal(1)
    usage: Decimal | None = None
    """What was used, as a run has read it last; None where none has."""
    due: int | None = None
    """The quantity that is to be billed for that, with what is carried into it."""
    stands: int | None = None
    """What Stripe has acknowledged of it."""
    is_concluded: bool = False
    """Whether Stripe takes no more usage of it, and it was found out what it bills."""
    is_closed: bool = False
    """Whether it is watched no more: nothing that kept it from being reported does so now."""
    carried_in: int = 0
    """How much of the quantity earlier periods did not bill."""
    lacking: Lacking = field(default_factory=Lacking)
    obstacle: Obstacle | None = None
    rejected: str | None = None
    """Why Stripe rejected what it had taken, where nothing was reported since."""
    invoice: str | None = None
    """The invoice that bills it, as far as a run has seen one."""
    used_by_day: Mapping[date, Decimal] = field(default_factory=dict)
    """What was used on each UTC day, in the unit of the quantity, by the instants that runs have read it at."""
    reported_by_day: Mapping[date, int] = field(default_factory=dict)
    """How much more Stripe held by the end of a day than by that of the day before."""

    @property
    def is_held(self) -> bool:
        """Whether something keeps its usage from being reported that may let it through yet."""
        return self.obstacle is not None and self.obstacle.reason != Reason.PERIOD_CLOSED.value

    @property
    def is_unknown(self) -> bool:
        """Whether it is not known whether Stripe bills what stands: where an invoice was seen, it does."""
        return self.lacking.is_unknown and self.invoice is None

    @property
    def is_metered(self) -> bool:
        """Whether it is known what was used."""
        return self.usage is not None or self.due is not None

    @property
    def used(self) -> Decimal:
        """What was used, in the unit of the quantity; zero where that is not known.

        A version that kept no usage of a period that has ended kept what was due.
        """
        if self.usage is not None:
            return self.usage * self.scale
        return Decimal(self.due_quantity - self.carried_in)

    @property
    def due_quantity(self) -> int:
        """What is to be billed, with what is carried into it."""
        return self.due if self.due is not None else (self.stands or 0) + self.lacking.quantity


def state_of(one: Position, as_of: datetime) -> State:
    """Say how far an item's period has come, at the instant of the last complete run."""
    if one.item.was_free:
        return State.FREE
    if one.is_concluded:
        return State.BILLED
    return State.RUNNING if one.whose.period.end > as_of else State.AWAITED


def bridge_of(one: Position, state: State) -> Bridge:
    """Return what became of the usage of an item's period: every unit of it is in one term."""
    used, due = one.used, one.due_quantity
    if state is State.FREE:
        return Bridge(used=used, free=used)
    lacking = one.lacking
    left, taken = lacking.open_quantity, due - lacking.quantity
    held = taken - (one.stands or 0) if one.is_held and state is not State.BILLED else 0
    bridge = Bridge(
        used=used,
        carried_in=one.carried_in,
        rounding=used + one.carried_in - due,
        held=held,
        carried_out=lacking.carried + (left if lacking.waits else 0),
        unbilled=0 if lacking.waits else left,
        settled=lacking.settled,
    )
    return _with(bridge, taken - held, one, state)


def _with(bridge: Bridge, stands: int, one: Position, state: State) -> Bridge:
    """Return a bridge with what stands in Stripe, or is on its way there."""
    lacking = one.lacking
    if state is not State.BILLED:
        return replace(bridge, still_open=stands)
    if one.is_unknown:
        return replace(bridge, unknown=stands)
    if lacking.is_forgiven or (lacking.not_known is not None and one.invoice is None):
        return replace(bridge, settled=bridge.settled + stands)
    return replace(bridge, billed=stands)
