"""The figures for programs: whole, exact, and those that are signed."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from meter_sync.core.telling.statement.figures import Bridge, Judgement, Told, Verdict
from meter_sync.statement.document import COLUMNS, document, figures_of, rows
from tests.support.statement import ACME, CUSTOMERS, MATTERS, NORTH, UNTIL, a_statement


def test_the_document_has_each_figure_of_the_statement() -> None:
    made = json.loads(json.dumps(document(a_statement())))

    assert made["whole"]["bridge"]["used"] == "282872.375"
    assert made["whole"]["bridge"]["difference"] == "0"
    assert [one["meter"] for one in made["meters"]] == ["api_requests", "storage_gb_hours"]
    assert made["meters"][0]["days"][12] == {"day": "2026-11-13", "used": "1120", "reported": "-280", "billed": "1120"}
    assert made["customers"][0]["items"][0]["told"][3] == {"topic": "usage", "text": "183910.75"}
    assert made["matters"][0]["to_do"].startswith("bill it by hand")
    assert (made["since"], made["until"], made["livemode"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", True)


def test_the_rows_add_up_to_the_whole() -> None:
    made = list(rows(a_statement()))

    assert [tuple(row) for row in made] == [COLUMNS] * 8
    for name in ("used", "billed", "unbilled", "still_open", "rounding", "difference"):
        whole = document(a_statement())["whole"]["bridge"][name]
        assert sum(Decimal(row[name]) for row in made) == Decimal(whole)


def test_what_is_signed_is_the_same_however_and_whenever_it_is_made() -> None:
    later = a_statement(
        account="renamed",
        stripe_account=None,
        version="9.9.9",
        ledger_revision="0099",
        digest="another",
        as_of=UNTIL + timedelta(days=40),
        last_run="another",
        verdict=Verdict(Judgement.ATTENTION, "The oldest for 44 days."),
        matters=[
            replace(one, age_days=44, since=UNTIL, reason="in other words", to_do="something else") for one in MATTERS
        ],
        changes=(),
        signatures=(),
        changed_since=(),
        were_invoices_asked=True,
        customers=[
            replace(
                one,
                items=[replace(each, invoice="in_1", invoiced=1, told=[Told("write", "packed")]) for each in one.items],
            )
            for one in CUSTOMERS
        ],
        completeness=replace(a_statement().completeness, by_outcome={"unchanged": 8}, runs=1, failed_runs=0, missed=()),
    )

    assert figures_of(later) == figures_of(a_statement())


def test_what_is_signed_is_other_once_a_quantity_is() -> None:
    signed = figures_of(a_statement())
    first = replace(ACME.items[0], quantity=184_221)
    changed = (
        a_statement(customers=[replace(ACME, items=[first, *ACME.items[1:]]), *CUSTOMERS[1:]]),
        a_statement(matters=MATTERS[1:]),
        a_statement(whole=replace(a_statement().whole, bridge=Bridge())),
        a_statement(is_of_selected=[NORTH.customer]),
        a_statement(until=UNTIL + timedelta(days=1)),
    )

    assert [one for one in changed if figures_of(one) == signed] == []
