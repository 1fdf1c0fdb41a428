"""What an invoice bills of a closed period, what OpenMeter says of it by now, and what the ledger has accounted for."""

from dataclasses import replace
from decimal import Decimal

import pytest

from meter_sync.core.billing.intake import Intake
from meter_sync.core.outcomes import Reason
from meter_sync.core.telling.closed_periods import Accounted, Line, compare_closed, is_awaited
from meter_sync.core.telling.comparison import Comparison, Expected, Explanation, Verdict

from .builders import END, HOUR, POLICY, make_item, make_metered, make_price, make_remembered

IN_UNITS = make_item(price=replace(make_price(), is_per_unit=True))
IN_PACKAGES = make_item()
BILLED = Line(100, is_draft=False, is_void=False)


def compared(
    line: Line | None, used: int = 100, accounted: Accounted | None = None, item: object = IN_UNITS, **more: object
) -> Comparison:
    metered = make_metered(item, intake=Intake.CLOSED)  # type: ignore[arg-type]
    policy = replace(POLICY, forgives_voided=bool(more.get("forgives")))
    remembered = make_remembered(100) if more.get("reported") else None
    return compare_closed(Expected(metered, Decimal(used), used), line, remembered, accounted or Accounted(), policy)


def told(one: Comparison) -> tuple[object, ...]:
    return one.verdict, one.reason, one.difference


def test_what_a_person_has_settled_is_not_expected_of_the_invoice() -> None:
    assert told(compared(BILLED, 140, Accounted(settled=40))) == (Verdict.MATCH, None, 0)
    assert told(compared(BILLED, 147, Accounted(settled=40))) == (Verdict.MISMATCH, Explanation.LATE_EVENTS, -7)


def test_what_came_beyond_what_was_named_is_told_apart_from_it() -> None:
    assert told(compared(BILLED, 105, Accounted(named=5))) == (Verdict.MISMATCH, Explanation.PERIOD_CLOSED, -5)
    more = compared(BILLED, 109, Accounted(named=5))
    assert told(more) == (Verdict.MISMATCH, Explanation.LATE_EVENTS, -9)
    assert "9 are not billed, of which a run has named 5" in str(more.message)


def test_what_is_not_known_differs_until_a_person_has_settled_it() -> None:
    unknown = compared(BILLED, 140, Accounted(not_known="its meter is gone"))
    assert told(unknown) == (Verdict.MISMATCH, Explanation.PERIOD_CLOSED, -40)
    assert compared(BILLED, 140, Accounted(is_settled=True)).verdict is Verdict.MATCH


def test_a_voided_invoice_bills_nothing_unless_that_is_forgiven() -> None:
    void = replace(BILLED, is_void=True)
    assert told(compared(void)) == (Verdict.MISMATCH, Explanation.LATE_EVENTS, -100)
    assert told(compared(void, forgives=True)) == (Verdict.SKIPPED, Reason.IGNORED, None)


@pytest.mark.parametrize("line", [BILLED, replace(BILLED, quantity=None)])
def test_a_line_that_tells_no_units_gives_way_to_what_stripe_acknowledged(line: Line) -> None:
    item = IN_PACKAGES if line.quantity else IN_UNITS
    assert told(compared(line, 140, item=item, reported=True)) == (Verdict.MISMATCH, Explanation.LATE_EVENTS, -40)
    assert told(compared(line, 140, item=item)) == (Verdict.SKIPPED, Reason.UNSETTLED, None)
    assert compared(line, 140, item=item).needs_attention


@pytest.mark.parametrize(
    ("line", "after", "awaited"),
    [
        (None, HOUR / 2, True),
        (None, HOUR, False),
        (BILLED, HOUR, False),
        (replace(BILLED, is_draft=True), 50 * HOUR, True),
        (replace(BILLED, is_draft=None), 50 * HOUR, True),
    ],
)
def test_an_invoice_that_may_still_come_or_change_is_awaited(line: Line | None, after: object, awaited: bool) -> None:
    metered = make_metered(IN_UNITS, intake=Intake.CLOSED)
    assert is_awaited(metered, line, replace(POLICY, now=END + after)) is awaited  # type: ignore[operator]
