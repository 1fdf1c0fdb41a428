"""Why an item was billed what it was billed, in words, from what the ledger tells."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

from meter_sync.core.billing.item import Period
from meter_sync.core.billing.quantity import InvalidUsage, billable
from meter_sync.core.billing.span import added_at, usage_end
from meter_sync.core.billing.way import Way, window_of
from meter_sync.core.metering.mapping import Method
from meter_sync.core.ownership import Share
from meter_sync.core.planning.lost import lost
from meter_sync.core.planning.memory import Remembered
from meter_sync.core.planning.period_closed import in_words
from meter_sync.core.telling.history import Added, Held, Remainder, Story, Write, WrittenPart
from meter_sync.core.text import digits, utc

MOST_PARTS = 24
"""How many hours or days are told one by one; `history --parts` has all."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing that is said, and what it is about."""

    topic: str
    text: str


def explain(story: Story) -> list[Sentence]:
    """Given what the ledger tells of an item's period, return in words how its quantity came about."""
    return [Sentence(topic, text) for topic, text in _told(story)]


_Said = Iterator[tuple[str, str]]
_Kind = TypeVar("_Kind", Added, Held, Remainder, Write, WrittenPart)


def _told(story: Story) -> _Said:
    whose = story.whose
    yield "item", f"{whose.item} of subscription {whose.subscription}, customer {whose.customer}"
    yield "price", _price(story)
    yield "period", _period(story)
    yield from _whose(story.share) if story.share and story.share.rivals else ()
    known = story.remembered
    if known is None:
        yield "result", _nothing(story)
    else:
        lacking = sum(one.quantity for one in _of(story, Remainder) if one.whose == whose)
        yield "result", _result(known) + (f"; {in_words(lacking)}" if lacking else "")
        yield "written as", _WAYS[known.method.way]
        if known.method.way is Way.RECORD:
            yield "anchor", f"{utc(known.anchor)}, the timestamp of its usage record, the same in every run"
        yield "counts from", _counts_from(story)
        last = next((one for one in reversed(_of(story, Write)) if one.usage is not None), None)
        yield "query", _query(story, known, last)
        if last and last.usage is not None:
            yield "usage", digits(last.usage)
            yield "quantity", _scaled(last, last.usage, known.method)
            yield from _carried(story)
            yield "before", "it was not known what Stripe held" if last.previous is None else f"{last.previous}"
    for entry in story.entries:
        if isinstance(entry, Write):
            yield "write", _write(entry, story)
        elif isinstance(entry, Held):
            yield entry.outcome, _held(entry)
    yield from [("lost", lost(story.falls))] if story.falls else ()
    yield from (("addition", _addition(one)) for one in _of(story, Added))
    yield from _parts(story)
    for left in _of(story, Remainder):
        what = left.why or (in_words(left.quantity) if left.quantity else "nothing is lacking any more")
        yield "waits" if left.waits else "not billed", f"{utc(left.named_at)}: {what}"
        for start, quantity in story.carried_on.items():
            yield "carried on", f"{quantity:+} in the quantity of its period that began {utc(start)}"
        if left.settled_at:
            yield "settled", f"{utc(left.settled_at)}: {left.settled} by hand: {left.note}"


def _price(story: Story) -> str:
    price = story.item.price
    if price.stripe_meter is None:
        return f"{price.id} of product {price.product}, legacy, aggregate_usage {price.aggregate_usage}"
    meter = price.billing_meter
    if meter is None:
        return f"{price.id} of product {price.product}, on billing meter {price.stripe_meter}"
    windows = f"windows of one {meter.window}" if meter.window else "no windows"
    formula = f"{meter.event_name}, formula {meter.formula}, {windows}"
    return f"{price.id} of product {price.product}, on billing meter {meter.id} ({formula})"


def _period(story: Story) -> str:
    period = story.whose.period
    text = f"{utc(period.start)} to {utc(period.end)}"
    if story.complete_until:
        text += f"; finished as of {utc(story.complete_until)}"
    if story.closed_at:
        text += f"; closed {utc(story.closed_at)}"
    return f"{text}: {story.closed_why}" if story.closed_why else text


def _whose(share: Share) -> _Said:
    """Say what of the period is the item's own, where another one could bill it as well."""
    rivals = ", ".join(share.rivals)
    billed = _stretches(share.billed) or "no time of it"
    yield "whose", f"{rivals} could bill the same; reported for this item: {billed}"
    if share.held:
        yield "whose", f"reported for none of them, and named with this item: {_stretches(share.held)}"


def _stretches(stretches: Sequence[Period]) -> str:
    return ", ".join(f"{utc(one.start)} to {utc(one.end)}" for one in stretches)


def _nothing(story: Story) -> str:
    """Say that nothing is remembered of the period, and why."""
    if story.closed_why:
        return "what was written for this item goes on with the other one"
    if _of(story, Held):
        return "nothing was written for this period: what kept it from being reported is told below"
    return "nothing had to be written for this period"


def _result(known: Remembered) -> str:
    if known.acknowledged is None:
        return f"{known.quantity} was to be written; Stripe has not said that it holds it"
    text = f"Stripe holds {known.acknowledged} for this period, by its own last answer"
    if known.acknowledged != known.quantity:
        text += f"; {known.quantity} was to be written since"
    if known.foreign:
        text += f"; {known.foreign} of it in records that are not from this program"
    return f"{text}; it rejected what it had taken: {known.rejected}" if known.rejected else text


_WAYS = {
    Way.RECORD: "one usage record for the whole period, set at its anchor to the total so far",
    Way.DAY_RECORDS: "one usage record for each UTC day, set to the usage of that day",
    Way.WINDOWS: "one meter event for each UTC window, with the usage of that window; the event received last counts",
    Way.LAST: "one meter event with the total so far; the one with the latest timestamp counts",
    Way.ADDITIONS: "meter events that are added up, each with what Stripe still lacked",
}


def _counts_from(story: Story) -> str:
    """Say from where on usage counts; the rules themselves are in `span`."""
    start, period = story.usage_start or story.whose.period.start, story.whose.period
    if start == period.start == story.item.period.start and story.item.cycle_start:
        return f"{utc(start)}, when its price changed within Stripe's period that began {utc(story.item.cycle_start)}"
    if start == period.start:
        return f"{utc(start)}, the start of the period"
    if start < period.start:
        return f"{utc(start)}, where the usage of the period before ended: the window at the boundary is billed here"
    if start == added_at(story.item):
        return f"{utc(start)}, when it was added to the running subscription"
    return f"{utc(start)}, from when on usage is its own: what was used before is billed, or named, with another item"


def _query(story: Story, known: Remembered, last: Write | None) -> str:
    item, period, method = story.item, story.whose.period, known.method
    start = story.usage_start or period.start
    is_in_windows = method.way is Way.WINDOWS and item.is_followed
    usage_ends = usage_end(period, window_of(method.way, item.price) if is_in_windows else None)
    end = (
        story.reported[-1].end
        if story.reported
        else min(last.as_of if last and last.as_of else known.as_of, usage_ends)
    )
    pairs = (f"{name} is {' or '.join(values)}" for name, values in method.filter)
    filtered = f" where {' and '.join(pairs)}" if method.filter else ""
    return (
        f"OpenMeter's meter {method.meter}{filtered}, of {', '.join(known.subjects)}, from {utc(start)} up to and "
        f"without {utc(end)}"
    )


def _scaled(write: Write, usage: Decimal, method: Method) -> str:
    """Say how the usage of a write became a quantity."""
    times = "" if method.scale == 1 else f" times {digits(method.scale)} is {digits(usage * method.scale)}"
    try:
        rounded = billable(usage, method.scale, method.rounding)
    except InvalidUsage as error:
        return f"{write.quantity}, although {error}"
    text = f"{digits(usage)}{times}, rounded ({method.rounding}) to {rounded}"
    if write.carried:
        text += f"; with {write.carried:+} that earlier periods do not bill"
    if rounded + write.carried == write.quantity:
        return text
    return f"{text}; {write.quantity} was written: {_WHY_LESS[method.way.is_by_window]}"


def _carried(story: Story) -> _Said:
    for start, quantity in story.carried.items():
        yield "carried", f"{quantity:+} of its period that began {utc(start)}, which that one does not bill"


_WHY_LESS = {
    True: "Stripe takes no more for some of its hours or days, or records of another program were found",
    False: "records of another program were found, and Stripe's total was left as it was",
}


def _write(one: Write, story: Story) -> str:
    before = "" if one.previous is None else f" in place of {one.previous}"
    used = "" if one.usage is None else f", for a usage of {digits(one.usage)}"
    beside = f", {one.at_anchor} of it in a record of this program" if one.at_anchor != one.quantity else ""
    is_at_anchor = story.remembered is not None and story.remembered.method.way is Way.RECORD
    at = f", timestamp {utc(one.timestamp)}" if is_at_anchor else ""
    numbers = f"{one.quantity}{before}{used}{beside}{at}"
    return f"{utc(one.intended_at)}: {numbers}, {_answer(one)}; run {one.run}"


def _answer(one: Write | WrittenPart) -> str:
    is_in_doubt = isinstance(one, WrittenPart) and one.acknowledged is None
    if one.acknowledged_at is None or is_in_doubt:
        return "not acknowledged by Stripe"
    return f"taken by Stripe {utc(one.acknowledged_at)} as {one.request_id or 'a request without a name'}"


def _held(one: Held) -> str:
    often = f"{one.times} times from {utc(one.first_at)} to {utc(one.last_at)}" if one.times > 1 else utc(one.first_at)
    used = "" if one.usage is None else f" for a usage of {digits(one.usage)}"
    numbers = "" if one.quantity is None else f" at {one.quantity}"
    before = "" if one.previous is None else f", while Stripe held {one.previous}"
    return f"{often}{used}{numbers}{before} ({one.reason}): {one.message or 'without a message'}; run {one.last_run}"


def _parts(story: Story) -> _Said:
    """Tell of hours and days: how many there are, and which the last write has changed or are in doubt."""
    parts, writes = _of(story, WrittenPart), _of(story, Write)
    if not parts:
        return
    since = writes[-1].intended_at - timedelta(seconds=1) if writes else None
    changed = [
        one
        for one in parts
        if one.acknowledged is None or (one.acknowledged_at and since and one.acknowledged_at >= since)
    ]
    used = sum(1 for one in parts if one.value)
    known = f"hours or days known: {len(parts)}, with usage: {used}"
    yield "parts", f"{known}, about which the last write was: {len(changed)}"
    for one in sorted(changed, key=lambda one: one.start)[:MOST_PARTS]:
        yield "part", f"from {utc(one.start)}: {one.value}, timestamp {utc(one.timestamp)}, {_answer(one)}"
    if len(changed) > MOST_PARTS:
        yield "part", f"and {len(changed) - MOST_PARTS} more: history --item {story.whose.item} --parts has all"


def _addition(one: Added) -> str:
    answer = f"taken by Stripe {utc(one.delivered_at)}" if one.delivered_at else "not known to have arrived"
    named = f" as {one.request_id}" if one.request_id else ""
    cancelled = f", cancelled {utc(one.cancelled_at)}" if one.cancelled_at else ""
    rejected = f", rejected later: {one.rejected}" if one.rejected else ""
    return (
        f"{utc(one.intended_at)}: {one.value:+} to {one.base}, timestamp {utc(one.timestamp)}, identifier "
        f"{one.identifier}, {answer}{named}{cancelled}{rejected}; run {one.run}"
    )


def _of(story: Story, kind: type[_Kind]) -> Sequence[_Kind]:
    return [one for one in story.entries if isinstance(one, kind)]
