"""What a person of finance looks for on the page: what waits and who acts, sums that meet, what was signed."""

from dataclasses import replace
from datetime import timedelta

from meter_sync.statement import words
from tests.statement.test_page import text_of_some, told
from tests.support.statement import SINCE, UNTIL, a_statement


def test_the_head_says_what_waits_for_an_invoice_and_for_a_decision_and_in_which_units() -> None:
    head = text_of_some().partition("Attention (4)")[0]

    assert "Waits for an invoice 13,410 Waits for a decision 6,555" in head
    assert "Matters to look at 1 of them a customer without a report 4" in head
    assert "in the units that Stripe bills; there are no amounts of money on this page." in head
    assert "Units of different meters are added up here" in head
    assert "Units of different meters" not in told(a_statement(meters=a_statement().meters[:1]))


def test_customers_without_a_report_need_attention_and_what_is_settled_does_not() -> None:
    attention, _, after = (
        text_of_some().partition("What needs attention")[2].partition("Settled by hand: nothing to do")
    )
    nothing_left = told(a_statement(matters=a_statement().matters[-1:], without_report=()))

    assert (
        "and nothing keeps it: Ask whether they should have used something, and have the mapping looked at. "
        in attention
    )
    assert "cus_NeverReported001" in attention
    assert ("CN-2026-118" in attention, "CN-2026-118" in after) == (False, True)
    assert "What needs attention Nothing: all that was used is billed" in nothing_left
    assert "0 Quantities in the units" in nothing_left


def test_the_days_of_a_meter_add_up_to_what_was_used_by_calendar_or_it_is_said_what_is_missing() -> None:
    (meter, other), text = a_statement().meters, text_of_some()
    lacking = replace(meter, days=[replace(meter.days[0], used=meter.days[0].used - 7), *meter.days[1:]])

    assert "All days 265,818.875 258,203 248,571.75" in text
    for one in (meter, other):
        assert f"What was used on all days is what was used by calendar: {one.cuts.in_time:,}." in text
    assert "by calendar, 265,818.875: of 7 it is not known on which day" in told(a_statement(meters=[lacking, other]))


def test_a_signature_of_this_time_whose_figures_have_changed_is_named_at_the_top_unless_it_was_signed_anew() -> None:
    (old,) = a_statement().signatures
    anew = replace(old, signed_by="Grace Hopper", signed_at=old.signed_at + timedelta(hours=1), is_of_this=True)
    said = "Signed by Ada Lovelace on 2026-12-01 09:00:00; its figures have changed since."
    of_this = replace(a_statement().changed_since[0], since=SINCE, until=UNTIL)

    assert text_of_some().index(said) < text_of_some().index("What needs attention")
    assert said not in told(a_statement(signatures=[old, anew]))
    assert said in told(a_statement(signatures=[replace(anew, signed_at=SINCE), old]))
    assert told(a_statement(changed_since=[of_this])).count("have changed since") == 1


def test_what_changed_is_told_against_the_month_before_by_its_name_in_amounts_and_percent() -> None:
    text = text_of_some()

    assert "What changed most Against October 2026." in text
    assert "cus_NorthwindTraders api_requests 31,000 64,566 +33,566 +108%" in text
    assert "14,120 7,820 -6,300 -45%" in text
    assert "0 441.125 +441.125 new" in text


def test_each_line_that_is_not_billed_says_who_acts() -> None:
    assert {one.heading for one in words.OUTSTANDING} <= {one.heading for one in words.TERMS}
    for one in words.OUTSTANDING:
        assert f"{one.heading} {one.can_be_billed} {one.who_acts}" in text_of_some()
