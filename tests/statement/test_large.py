"""A page stays small enough for a browser and a person, and says what it leaves out."""

import re
from dataclasses import replace

import pytest

from meter_sync.statement.page import page
from tests.support.statement import ANCHORED, a_large_statement, a_statement

pytestmark = pytest.mark.page

MOST_BYTES = 3_000_000
LONG = "x" * 500


def test_a_thousand_customers_are_less_than_three_megabytes() -> None:
    statement = a_large_statement(1_000)
    asked = [
        replace(
            one,
            items=[
                replace(each, period=ANCHORED, invoice=f"in_{one.customer}{place:010}", invoiced=7)
                for place, each in enumerate(one.items)
            ],
        )
        for one in statement.customers
    ]
    html = page(replace(statement, customers=asked, were_invoices_asked=True), "en")

    assert 2_000_000 < len(html.encode()) < MOST_BYTES
    assert html.count('<details class="customer">') == 1_000
    (told,) = re.findall(r"told here for the (\d+) largest", html)
    assert html.count("<summary>How ") == 2 * int(told) > 200
    assert "500 more have</strong> no place here: these are the gravest" in html


def test_customers_beyond_a_thousand_are_sums_by_meter() -> None:
    html = page(a_large_statement(1_003), "en")

    assert len(html.encode()) < MOST_BYTES
    assert "3 more customers have</strong> no place of their own here" in html
    storage = sum(5_000 + number + 3 for number in (1_000, 1_001, 1_002))
    assert f'<td class="n">3</td><td class="n">3</td><td class="n">{storage:,}</td>' in html


def test_a_hundred_thousand_customers_are_a_page_as_well() -> None:
    some = a_large_statement(1_000, told=False)
    html = page(replace(some, customers=[*some.customers] * 100), "en")

    assert len(html.encode()) < MOST_BYTES
    assert "99,000 more customers have</strong>" in html


def test_a_customer_with_too_many_items_is_a_sum_and_the_others_have_their_place() -> None:
    some = a_large_statement(10)
    first = some.customers[0]
    html = page(replace(some, customers=[replace(first, items=[*first.items] * 2_500), *some.customers[1:]]), "en")

    assert len(html.encode()) < MOST_BYTES
    assert html.count('<details class="customer">') == 9
    assert "1 more customer has</strong>" in html
    assert '<td class="n">1</td><td class="n">2,500</td>' in html


def test_a_page_of_the_longest_names_has_fewer_customers() -> None:
    some = a_large_statement(1_000)
    long = [
        replace(one, customer=f"{LONG}{place}", items=[replace(each, price=LONG, item=LONG) for each in one.items])
        for place, one in enumerate(some.customers)
    ]
    html = page(replace(some, customers=long, matters=()), "en")

    assert len(html.encode()) < MOST_BYTES
    assert html.count('<details class="customer">') == 500
    assert "500 more customers have</strong>" in html


def test_a_year_of_many_meters_has_the_charts_of_some() -> None:
    meter = a_statement().meters[0]
    year = [meter.days[place % 30] for place in range(365)]
    html = page(a_statement(meters=[replace(meter, days=year)] * 50), "en")

    assert len(html.encode()) < MOST_BYTES
    assert html.count('role="img"') == 8
    assert "42 more meters have</strong> no place here" in html
