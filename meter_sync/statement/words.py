"""The words of a statement: what its terms, states and matters are called, and mean, to a person of finance."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from meter_sync.core.telling.statement.figures import Bridge, Judgement, MatterKind, State


@dataclass(frozen=True, slots=True)
class Term:
    """A line of the bridge."""

    name: str
    """Its field in `Bridge`."""
    heading: str
    meaning: str
    is_taken_off: bool = False
    """Whether it is taken off, not added, on the way to what was used."""

    def of(self, bridge: Bridge) -> Decimal | int:
        """Return its amount, with the sign by which all of them add up to what was used."""
        amount: Decimal | int = getattr(bridge, self.name)
        return -amount if self.is_taken_off else amount


TERMS = (
    Term("billed", "Billed", "What Stripe bills for the periods that ended in this time."),
    Term("carried_out", "Carried out", "Usage that came too late for its invoice. A later period bills it, or is to."),
    Term(
        "carried_in",
        "Carried in",
        "Usage of earlier periods that is part of what was billed here. It is taken off, since it was not used here.",
        is_taken_off=True,
    ),
    Term("rounding", "Rounding", "Stripe bills whole units. What was used beyond them; below zero, what was added."),
    Term("held", "Held", "A brake or a failure keeps it from being reported, until somebody has looked."),
    Term(
        "unbilled",
        "Unbilled",
        "Stripe does not bill it and takes it no more: somebody has to see to it. Below zero, too much was billed.",
    ),
    Term("settled", "Settled by hand", "Stripe does not bill it, and somebody has settled it another way."),
    Term("unknown", "Not known", "It was reported, and nobody knows yet whether Stripe bills it."),
    Term(
        "still_open", "Waits for an invoice", "Stripe has it, or is about to get it, and its invoice is still to come."
    ),
    Term("free", "Free", "Used on trial: it costs nothing."),
)
"""The lines of the bridge between what was used and what was billed, in their order."""


def terms_of(bridge: Bridge) -> Iterator[tuple[Term, Decimal | int]]:
    """Give the terms of a bridge that are not zero, with their amounts."""
    return ((term, amount) for term in TERMS if (amount := term.of(bridge)))


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What a line means for whoever asks whether that usage is billed yet."""

    heading: str
    can_be_billed: str
    """Whether Stripe still bills it by itself."""
    who_acts: str


OUTSTANDING = (
    Outstanding(
        "Waits for an invoice", "Yes: Stripe has it, or is about to get it, and the next invoice bills it.", "Nobody."
    ),
    Outstanding(
        "Held",
        "Yes, once it is let through or corrected, as long as its invoice is not final.",
        "Who knows whether the usage is right, with whoever runs meter-sync.",
    ),
    Outstanding(
        "Not known",
        "It may be billed already: Stripe has not said.",
        "Finance looks at the customer's invoices, bills what they lack, and has it settled.",
    ),
    Outstanding(
        "Unbilled", "No: Stripe takes it no more.", "Finance bills it by hand, or waives it, and has it settled."
    ),
)
"""The lines of the bridge that are not billed, and not explained for good: what comes of them."""

STATES: Mapping[State, str] = {
    State.FREE: "free, on trial",
    State.RUNNING: "running",
    State.AWAITED: "not final yet",
    State.BILLED: "closed",
}
"""How far a period has come."""

STATE_MEANINGS: Mapping[State, str] = {
    State.FREE: "The usage costs nothing.",
    State.RUNNING: "The period goes on.",
    State.AWAITED: "It has ended, and may change: its invoice is to come, or a draft, or late usage is watched for.",
    State.BILLED: "Stripe takes no more usage of it. What it bills is known, or named above.",
}


@dataclass(frozen=True, slots=True)
class KindInWords:
    """What a kind of matter is called, and means."""

    heading: str
    meaning: str


MATTERS: Mapping[MatterKind, KindInWords] = {
    MatterKind.INVOICE_DIFFERS: KindInWords(
        "Invoice differs", "By Stripe, the invoice bills something else than what was found out when it was closed."
    ),
    MatterKind.OVER_BILLED: KindInWords("Billed too much", "The invoice has more than was used."),
    MatterKind.UNBILLED: KindInWords("Unbilled", "It was used, and no invoice has it or will have it by itself."),
    MatterKind.UNKNOWN: KindInWords("Not known", "It was reported, and nobody knows yet whether Stripe bills it."),
    MatterKind.HELD: KindInWords("Held", "It looked wrong, and is not reported until somebody has looked."),
    MatterKind.REJECTED: KindInWords("Rejected by Stripe", "Stripe had taken it, and then refused it."),
    MatterKind.FAILED: KindInWords("Failed", "It could not be reported. Each run tries again."),
    MatterKind.SKIPPED: KindInWords("Left out", "It cannot be reported as it is set up."),
    MatterKind.SETTLED: KindInWords("Settled by hand", "Stripe does not bill it, and somebody has settled it."),
}

JUDGEMENTS: Mapping[Judgement, str] = {
    Judgement.AGREES: "It agrees",
    Judgement.OPEN: "Not all is billed yet",
    Judgement.ATTENTION: "Somebody has to act",
    Judgement.NOTHING: "Nothing to bill",
}
"""The verdict in a few words, before its sentence."""


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return the word for so many: that for one, or that for more, by default with an s."""
    return one if count == 1 else many or f"{one}s"
