"""Statements for tests of the page: figures that add up, as the ledger's reader would give them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from meter_sync.core.billing.item import Period
from meter_sync.core.telling.statement.figures import (
    Bridge,
    Change,
    ChangedSince,
    Completeness,
    CustomerFigures,
    Cuts,
    Day,
    ItemFigures,
    Judgement,
    Matter,
    MatterKind,
    MeterFigures,
    Signature,
    State,
    Statement,
    Told,
    Verdict,
)

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
MONTH = Period(SINCE, UNTIL)
ANCHORED = Period(datetime(2026, 10, 14, 9, 30, 17, tzinfo=UTC), datetime(2026, 11, 14, 9, 30, 17, tzinfo=UTC))
SHIFTED = Period(datetime(2026, 10, 30, 9, 30, 17, tzinfo=UTC), datetime(2026, 11, 30, 9, 30, 17, tzinfo=UTC))
"""It has 210 units of October, of which 30 were reported then."""
IN_DECEMBER = 96
"""So much was used, and reported, in November of the period after that."""
HALF, CORRECTED = timedelta(days=14, hours=12, seconds=4), 12
RUNS = ("1f07c3d2", "b24d90e7", "7c66e0b4")
REQUESTS, STORAGE = "api_requests", "storage_gb_hours"
DIGEST = "7d1f0c6a2f0b8e3f54c1a9be9e4ad03f5f6c9a7e21d8b7430c5d1be2a6f4c9d8"
OTHER_DIGEST = "0a11f7d2c83e5b96a4f01d7e2c9b8830e5a6d417f2b39c0484e1a7d5609bf3c2"

NASTY = (
    '<script>alert("1")</script>',
    "</style></td></details><img src=https://example.com/x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %} &amp; \" ' `",
    "شركة القياس",
    "left\u202eright\x00\x1b[31m",
    "long" * 125,
)
"""Names that a customer, or who writes into Stripe, may give."""


def item(
    number: int,
    bridge: Bridge,
    *,
    meter: str | None = REQUESTS,
    period: Period = MONTH,
    state: State = State.BILLED,
    told: bool = True,
) -> ItemFigures:
    """Make an item; what was used of it is what it became."""
    bridge = replace(bridge, used=bridge.explained)
    return ItemFigures(
        subscription=f"sub_1MowQVLkdI{number:014d}",
        item=f"si_{number:014d}",
        period=period,
        meter=meter,
        price="price_1MoBy5LkdIwHu7ixZhnattbh",
        state=state,
        bridge=bridge,
        quantity=int(bridge.used + bridge.carried_in - bridge.rounding - bridge.free),
        invoice=f"in_1MowQVLkdI{number:014d}" if state is State.BILLED else None,
        told=tuple(_told(number, bridge, meter, period)) if told else (),
    )


def _told(number: int, bridge: Bridge, meter: str | None, period: Period) -> Iterator[Told]:
    """Tell how a quantity came about, in the order and words of a ledger: its numbers are those of the bridge."""
    start, end, half = (f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (period.start, period.end, period.start + HALF))
    due = bridge.used - bridge.rounding
    yield Told("item", f"si_{number:014d} of subscription sub_1MowQVLkdI{number:014d}")
    yield Told("written as", "one usage record for the whole period, set at its anchor to the total so far")
    yield Told("query", f"OpenMeter's meter {meter}, from {start} up to and without {end}")
    yield Told("usage", f"{bridge.used}")
    if bridge.free:
        return
    yield Told("quantity", f"{bridge.used}, rounded ({'half_up' if bridge.rounding < 0 else 'floor'}) to {due:.0f}")
    if bridge.carried_in:
        yield Told("carried", f"+{bridge.carried_in} of its period that began 2026-10-01T00:00:00Z")
    stands = bridge.billed + bridge.still_open + bridge.unknown
    first = stands if bridge.held else stands // 2
    yield Told("write", f"{half}: {first} in place of 0, taken by Stripe as req_1; run {RUNS[0]}")
    if bridge.held:
        yield Told("held", f"2026-11-27T10:00:04Z at {due:.0f}, while Stripe held {stands}; run {RUNS[1]}")
    else:
        after = f"{period.end + timedelta(seconds=4):%Y-%m-%dT%H:%M:%SZ}"
        yield Told("write", f"{after}: {stands} in place of {first}, taken by Stripe as req_2; run {RUNS[2]}")
    if lacking := bridge.carried_out + bridge.unbilled + bridge.settled:
        yield Told("not billed", f"2026-12-01T02:00:04Z: its invoice was final before {lacking} of it came")
    if bridge.carried_out:
        yield Told("carried on", f"+{bridge.carried_out} in the quantity of its period that began {end}")


def customer(name: str, *items: ItemFigures, subjects: Sequence[str] | None = None) -> CustomerFigures:
    """Make a customer whose figures are the sums of those of the items."""
    whole = sum((one.bridge for one in items), Bridge())
    return CustomerFigures(name, (name,) if subjects is None else subjects, whole, items)


def matter(kind: MatterKind, of: CustomerFigures, quantity: int | None, **changed: object) -> Matter:
    """Make a matter of a customer's first item."""
    first = of.items[0]
    made = Matter(
        kind=kind,
        customer=of.customer,
        subscription=first.subscription,
        item=first.item,
        period=first.period,
        meter=first.meter,
        quantity=None if quantity is None else Decimal(quantity),
        since=datetime(2026, 11, 27, 10, 0, 4, tzinfo=UTC),
        age_days=4,
        reason="4120 is more than 5 times the usual 610 of this item (increase)",
        to_do="Have it looked at whether the usage is right: it is let through, or corrected.",
        command=f"meter-sync history --explain {first.item}",
    )
    return replace(made, **changed)  # type: ignore[arg-type]  # whatever a test changes


def days(
    count: int = 30, used: Decimal = Decimal(40_000), reported: int = 40_000, billed: Decimal | None = None
) -> list[Day]:
    """Make days on which usage grows by the week and rests at its end, with these sums; on the 13th less is reported.

    All of it is billed where nothing else is said.
    """
    of_use, of_reports = _spread(used, count), _spread(Decimal(reported), count)
    of_bills = of_use if billed is None else _spread(billed, count)
    if count > CORRECTED + 1:
        of_reports[CORRECTED + 1] += of_reports[CORRECTED] + 280
        of_reports[CORRECTED] = Decimal(-280)
    first = SINCE.date()
    return [
        Day(first + timedelta(days=number), of_use[number], of_reports[number], of_bills[number])
        for number in range(count)
    ]


def _spread(total: Decimal, count: int) -> list[Decimal]:
    """Return whole amounts of so many days, and on the last one the rest."""
    weights = [20 + day // 7 * 6 - (12 if day % 7 in (0, 6) else 0) + day * 13 % 7 for day in range(count)]
    amounts = [Decimal(int(total * one / sum(weights))) for one in weights]
    amounts[-1] += total - sum(amounts)
    return amounts


def figures(meter: str | None, bridges: Sequence[Bridge], cuts: Cuts, by_day: Sequence[Day] = ()) -> MeterFigures:
    """Make the figures of a meter, which are the sums of its items."""
    return MeterFigures(meter, sum(bridges, Bridge()), cuts, by_day)


ACME = customer(
    "cus_NffrFeUfNV2Hib",
    item(1, Bridge(billed=184_220, carried_in=310, rounding=Decimal("0.75"))),
    item(2, Bridge(billed=9_120, rounding=Decimal("-0.5")), meter=STORAGE),
    subjects=("acme-production", "acme-staging"),
)
NORTH = customer("cus_NorthwindTraders", item(3, Bridge(billed=60_412, carried_out=1_204, unbilled=2_950)))
HELD = customer(
    "cus_HooliHeldItBack1", item(4, Bridge(still_open=610, held=3_510), period=SHIFTED, state=State.AWAITED)
)
OPEN = customer("cus_InitechStillOpen", item(5, Bridge(still_open=12_800), state=State.AWAITED))
TRIAL = customer("cus_PiedPiperOnTrial", item(6, Bridge(free=Decimal("441.125")), state=State.FREE))
SETTLED = customer("cus_UmbrellaSettled1", item(7, Bridge(billed=7_700, settled=120), meter=STORAGE))
UNKNOWN = customer("cus_StarkNotKnownYet", item(8, Bridge(unknown=95)))
CUSTOMERS = (ACME, NORTH, OPEN, SETTLED, HELD, TRIAL, UNKNOWN)

CONCLUDED = {"since": datetime(2026, 12, 1, 2, 0, 4, tzinfo=UTC), "age_days": 1}
MATTERS = (
    matter(
        MatterKind.UNBILLED,
        NORTH,
        2_950,
        reason="its invoice was final before the usage came",
        to_do="Bill it by hand, for example by an invoice item, or waive it, and have it settled.",
        command="meter-sync history --settle si_00000000000003 2026-11-01T00:00:00Z --note '…'",
        **CONCLUDED,
    ),
    matter(
        MatterKind.UNKNOWN,
        UNKNOWN,
        95,
        reason="Stripe has not said which invoice bills it",
        to_do="Look at the customer's invoices, bill what they lack, and then have it settled.",
        command="meter-sync history --settle si_00000000000008 2026-11-01T00:00:00Z --note '…'",
        since=None,
        age_days=None,
    ),
    matter(MatterKind.HELD, HELD, 3_510),
    matter(
        MatterKind.SETTLED,
        SETTLED,
        120,
        reason="its invoice was final before the usage came",
        to_do=None,
        command=None,
        note="credit note CN-2026-118, agreed with Ms. O'Neill",
        settled_at=datetime(2026, 12, 2, 8, 15, tzinfo=UTC),
        **CONCLUDED,
    ),
)


CHANGES = (
    Change(NORTH.customer, REQUESTS, Decimal(31_000), Decimal(64_566)),
    Change(ACME.customer, REQUESTS, Decimal(171_004), Decimal("183910.75")),
    Change(SETTLED.customer, STORAGE, Decimal(14_120), Decimal(7_820)),
    Change(HELD.customer, REQUESTS, Decimal(610), Decimal(4_120)),
    Change(OPEN.customer, REQUESTS, Decimal(11_950), Decimal(12_800)),
    Change(ACME.customer, STORAGE, Decimal(9_800), Decimal("9119.5")),
    Change(TRIAL.customer, REQUESTS, Decimal(0), Decimal("441.125")),
    Change(UNKNOWN.customer, REQUESTS, Decimal(0), Decimal(95)),
)
OCTOBER = Bridge(used=Decimal(238_484), billed=238_174, carried_out=310)
"""Of all that the changes are against; the 310 that came too late are carried into ACME's November."""


def _meter(meter: str, used_before: Decimal, reported_before: int, in_later: int) -> MeterFigures:
    """Make the figures of a meter by those of its items; its days add up to what was used by calendar."""
    items = [one for each in CUSTOMERS for one in each.items if one.meter == meter]
    used = sum((one.bridge.used for one in items), Decimal(0))
    reported = sum(one.bridge.billed + one.bridge.still_open + one.bridge.unknown for one in items)
    billed = sum((one.bridge.used for one in items if one.state is State.BILLED), Decimal(0))
    cuts = Cuts(used, used_before, Decimal(in_later))
    by_day = days(30, cuts.in_time, reported - reported_before + in_later, billed)
    return figures(meter, [one.bridge for one in items], cuts, by_day)


def a_statement(**changed: object) -> Statement:
    """Make a statement of November 2026 with some of everything; what is given replaces what it would have."""
    meters = (_meter(REQUESTS, Decimal(210), 30, IN_DECEMBER), _meter(STORAGE, Decimal(0), 0, 0))
    bridges = [one.bridge for one in meters]
    made = Statement(
        account=None,
        stripe_account="acct_1NffrFLkdIwHu7ix",
        is_live=True,
        since=SINCE,
        until=UNTIL,
        version="0.1.0",
        ledger_revision="0042",
        digest=DIGEST,
        as_of=datetime(2026, 12, 2, 9, 0, 4, tzinfo=UTC),
        last_run="92540a1e",
        verdict=Verdict(
            Judgement.ATTENTION,
            "3 matters of 3 customers wait for somebody; of 2 the invoice may still change.",
        ),
        whole=figures(None, bridges, meters[0].cuts + meters[1].cuts),
        meters=meters,
        matters=MATTERS,
        without_report=("cus_NeverReported001",),
        customers=CUSTOMERS,
        largest=CUSTOMERS[:5],
        changes=CHANGES,
        completeness=Completeness(
            items=8,
            by_state={State.FREE: 1, State.AWAITED: 2, State.BILLED: 5},
            by_outcome={"reported": 3, "unchanged": 4, "held": 1},
            runs=719,
            failed_runs=1,
            missed=(Period(datetime(2026, 11, 9, 3, tzinfo=UTC), datetime(2026, 11, 9, 6, tzinfo=UTC)),),
            schedule="hourly",
            pages=1,
        ),
        signatures=(Signature("Ada Lovelace", datetime(2026, 12, 1, 9, tzinfo=UTC), OTHER_DIGEST, False),),
        changed_since=(
            ChangedSince(
                since=datetime(2026, 10, 1, tzinfo=UTC),
                until=SINCE,
                signed_by="Ada Lovelace",
                signed_at=datetime(2026, 11, 3, 10, tzinfo=UTC),
                before=replace(OCTOBER, used=OCTOBER.explained - 310, carried_out=0),
                now=OCTOBER,
            ),
        ),
    )
    return replace(made, **changed)  # type: ignore[arg-type]  # whatever a test changes


def a_large_statement(customers: int, told: bool = True) -> Statement:
    """Make a statement of so many customers, with two items each."""
    made = tuple(
        customer(
            f"cus_{number:014d}",
            item(2 * number, Bridge(billed=10_000_000 - number, rounding=Decimal("0.25")), told=told),
            item(2 * number + 1, Bridge(billed=5_000 + number, carried_out=3), meter=STORAGE, told=told),
        )
        for number in range(customers)
    )
    bridge = sum((one.bridge for one in made), Bridge())
    whole = MeterFigures(None, bridge, Cuts(in_periods=bridge.used))
    matters = tuple(matter(MatterKind.HELD, one, 3) for one in made)
    return a_statement(whole=whole, customers=made, largest=made[:10], matters=matters)
