"""The text of `period_closed`: what Stripe does not bill of a period and takes no more."""

from meter_sync.core.billing.intake import Intake

_STILL_TAKEN = "there is usage in hours or days that Stripe takes no more, late events or the end of a subscription"
_WHY = {
    Intake.RUNNING: _STILL_TAKEN,
    Intake.GRACE: _STILL_TAKEN,
    Intake.CLOSED: "Stripe takes no more usage of it",
    Intake.UNBILLED: "it ended without an invoice",
    Intake.VOIDED: "its invoice was voided",
}
_SETTLE = (
    "settle this by hand, for example with an invoice item or a credit note, and then say so with "
    "meter-sync history --settle"
)


def message(intake: Intake, lacking: int) -> str:
    """Given how far Stripe takes usage of a period, and what it lacks by sign, return what to say of it."""
    if not lacking:
        return f"{_WHY[intake]}: what was named of this period is not lacking any more; look whether it was settled"
    return f"{_WHY[intake]}: {in_words(lacking)} in this period; {_SETTLE}"


def without_advice(text: str) -> str:
    """Return what was said of a period without what to do about it, for who says that otherwise."""
    return text.removesuffix(f"; {_SETTLE}")


def not_known(whether: str, standing: int, lacking: int) -> str:
    """Return what to say of a period of which it is not known whether anything bills what stands in Stripe."""
    beyond = f", and {in_words(lacking)} beyond these" if lacking else ""
    look = "look at the customer's invoices"
    return f"it is not known whether {whether}: {standing} stand in Stripe{beyond}; {look}; {_SETTLE}"


def carried_on(intake: Intake, lacking: int) -> str:
    """Return the same of what is not left to a person, since late usage is carried."""
    becomes = "taken off the item's next period" if lacking < 0 else "added to the item's next period"
    return f"{_WHY[intake]}: {in_words(lacking)} in this period, and {becomes} (late_usage = carry)"


def no_later_timestamp(standing: int | None, quantity: int) -> str:
    """Return what to say of a period that has no timestamp left after the one of its last event."""
    return (
        f"Stripe holds {standing} at the last timestamp of the period; {quantity} can no longer be set: settle the "
        "difference by hand"
    )


def in_words(lacking: int) -> str:
    """Return what is not billed, or too much, in words."""
    return f"{-lacking} too many are billed" if lacking < 0 else f"{lacking} are not billed"
