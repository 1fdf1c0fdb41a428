"""Statements for tests of the page: figures that add up, as the ledger's reader would give them."""

from collections.abc import Sequence
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
REQUESTS, STORAGE = "api_requests", "storage_gb_hours"
DIGEST = "sha256:7d1f0c6a2f0b8e3f54c1a9be9e4ad03f5f6c9a7e21d8b7430c5d1be2a6f4c9d8"

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
    quantity: int | None = None,
    told: bool = True,
) -> ItemFigures:
    """Make an item; what was used of it is what it became."""
    bridge = replace(bridge, used=bridge.explained)
    billed = bridge.billed + bridge.still_open if quantity is None else quantity
    lines = (
        Told("item", f"si_{number:014d} of subscription sub_1MowQVLkdI{number:014d}"),
        Told("written as", "one usage record for the whole period, set at its anchor to the total so far"),
        Told("query", f"OpenMeter's meter {meter}, from 2026-11-01T00:00:00Z up to and without 2026-12-01T00:00:00Z"),
        Told("usage", f"{bridge.used}"),
        Told("quantity", f"{bridge.used} rounded (floor) to {billed}"),
        Told(
            "write",
            f"2026-11-15T12:00:04Z: {billed // 2} in place of 0, taken by Stripe as req_1; run 92540a",
        ),
        Told(
            "write", f"2026-12-01T00:00:04Z: {billed} in place of {billed // 2}, taken by Stripe as req_2; run 7c66e0"
        ),
    )
    return ItemFigures(
        subscription=f"sub_1MowQVLkdI{number:014d}",
        item=f"si_{number:014d}",
        period=period,
        meter=meter,
        price="price_1MoBy5LkdIwHu7ixZhnattbh",
        state=state,
        bridge=bridge,
        quantity=billed,
        invoice=f"in_1MowQVLkdI{number:014d}" if state is State.BILLED else None,
        told=lines if told else (),
    )


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
        since=datetime(2026, 11, 27, 10, 7, 9, tzinfo=UTC),
        age_days=4,
        reason="4120 is more than 5 times the usual 610 of this item (increase)",
        to_do="have it looked at whether the usage is right: it is let through, or corrected",
        command=f"meter-sync history --explain {first.item}",
    )
    return replace(made, **changed)  # type: ignore[arg-type]  # whatever a test changes


def days(count: int = 30, scale: int = 40) -> list[Day]:
    """Make days on which usage grows by the week and rests at its end; the last three are not billed."""
    made = []
    for number in range(count):
        used = Decimal(scale * (20 + number // 7 * 6 - (12 if number % 7 in (0, 6) else 0) + number * 13 % 7))
        reported = used if number != 12 else -used / 4
        made.append(
            Day(SINCE.date() + timedelta(days=number), used, reported, used if number < count - 3 else Decimal(0))
        )
    return made


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
HELD = customer("cus_HooliHeldItBack1", item(4, Bridge(billed=610, held=3_510), period=ANCHORED))
OPEN = customer("cus_InitechStillOpen", item(5, Bridge(still_open=12_800), state=State.AWAITED))
TRIAL = customer("cus_PiedPiperOnTrial", item(6, Bridge(free=Decimal("441.125")), state=State.FREE, quantity=0))
SETTLED = customer("cus_UmbrellaSettled1", item(7, Bridge(billed=7_700, settled=120), meter=STORAGE))
UNKNOWN = customer("cus_StarkNotKnownYet", item(8, Bridge(unknown=95), state=State.AWAITED))
CUSTOMERS = (ACME, NORTH, OPEN, SETTLED, HELD, TRIAL, UNKNOWN)

MATTERS = (
    matter(
        MatterKind.UNBILLED,
        NORTH,
        2_950,
        reason="its invoice was final before the usage came",
        to_do="bill it by hand, for example by an invoice item, or waive it, and have it settled",
        command="meter-sync history --settle si_00000000000003 2026-11-01T00:00:00Z --note '…'",
    ),
    matter(
        MatterKind.UNKNOWN, UNKNOWN, 95, reason="Stripe has not said what became of 3 events", since=None, age_days=None
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
    ),
)


def a_statement(**changed: object) -> Statement:
    """Make a statement of November 2026 with some of everything; what is given replaces what it would have."""
    items = [one for each in CUSTOMERS for one in each.items]
    of_meter = {meter: [one.bridge for one in items if one.meter == meter] for meter in (REQUESTS, STORAGE)}
    whole = figures(None, [one.bridge for one in items], Cuts())
    used = {meter: sum((one.used for one in of_meter[meter]), Decimal(0)) for meter in of_meter}
    cuts = Cuts(used[REQUESTS], Decimal(4_120), Decimal(18_004)), Cuts(in_periods=used[STORAGE])
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
            "3 matters of 3 customers wait for somebody; all else is billed, or explained.",
        ),
        whole=replace(whole, cuts=cuts[0] + cuts[1]),
        meters=(
            figures(REQUESTS, of_meter[REQUESTS], cuts[0], days()),
            figures(STORAGE, of_meter[STORAGE], cuts[1], days(scale=3)),
        ),
        matters=MATTERS,
        without_report=("cus_NeverReported001",),
        customers=CUSTOMERS,
        largest=CUSTOMERS[:5],
        changes=(
            Change(NORTH.customer, REQUESTS, Decimal(31_000), Decimal(64_566)),
            Change(SETTLED.customer, STORAGE, Decimal(14_120), Decimal(7_820)),
            Change(ACME.customer, STORAGE, Decimal(9_800), Decimal("9119.5")),
        ),
        completeness=Completeness(
            items=8,
            by_state={State.FREE: 1, State.AWAITED: 2, State.BILLED: 5},
            by_outcome={"reported": 3, "unchanged": 4, "held": 1},
            runs=718,
            failed_runs=1,
            missed=(Period(datetime(2026, 11, 9, 3, tzinfo=UTC), datetime(2026, 11, 9, 5, tzinfo=UTC)),),
            schedule="hourly",
            pages=1,
        ),
        signatures=(Signature("Ada Lovelace", datetime(2026, 12, 1, 9, tzinfo=UTC), "sha256:0a11f7d2", False),),
        changed_since=(
            ChangedSince(
                since=datetime(2026, 10, 1, tzinfo=UTC),
                until=SINCE,
                signed_by="Ada Lovelace",
                signed_at=datetime(2026, 11, 3, 10, tzinfo=UTC),
                before=Bridge(used=Decimal(1000), billed=1000),
                now=Bridge(used=Decimal(1204), billed=1000, carried_out=204),
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
