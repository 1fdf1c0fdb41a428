"""The page of a statement says all that its figures say, and nothing in a name changes what it is."""

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from justhtml import JustHTML

from meter_sync.core.telling.statement.figures import (
    Bridge,
    Completeness,
    Cuts,
    Judgement,
    MatterKind,
    MeterFigures,
    State,
    Statement,
    Verdict,
)
from meter_sync.statement import words
from meter_sync.statement.charts import chart_of
from meter_sync.statement.page import page
from tests.statement.golden import GOLDEN
from tests.support.pages import check_page
from tests.support.statement import (
    ACME,
    NASTY,
    NORTH,
    REQUESTS,
    SINCE,
    a_statement,
    customer,
    days,
    item,
    matter,
)


class Read(HTMLParser):
    """What a reader of HTML finds in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self._pieces: list[str] = []
        self._is_style = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._part(tag)
        self.tags.add(tag)
        self._is_style = tag == "style"
        for name, value in attributes:
            self.attributes.setdefault(name, set()).add(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._part(tag)

    def _part(self, tag: str) -> None:
        """Begin a word after what is no part of a line."""
        if tag not in ("a", "b", "bdi", "code", "span", "strong"):
            self._pieces.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._is_style:
            self._pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self._pieces).split())


def told(statement: Statement, locale: str = "en") -> str:
    """Return the text of a statement's page."""
    return Read(page(statement, locale)).text


@cache
def html_of_some() -> str:
    """Return the page of a statement with some of everything."""
    return page(a_statement(), "en")


@cache
def text_of_some() -> str:
    """Return its text."""
    return Read(html_of_some()).text


def named(names: Sequence[str]) -> Statement:
    """Make a statement in which everything that has a name has each of these, once."""
    customers = []
    for number, name in enumerate(names):
        one = item(number, Bridge(billed=number + 1), meter=name)
        lines = [replace(line, topic=name, text=name) for line in one.told]
        one = replace(one, item=name, subscription=name, price=name, invoice=name, invoiced=number, told=lines)
        customers.append(customer(name, one, subjects=[name, "another"]))
    return a_statement(
        account=names[0],
        stripe_account=names[1],
        version=names[2],
        last_run=names[1],
        customers=customers,
        largest=customers,
        without_report=names,
        is_of_selected=names,
        were_invoices_asked=True,
        meters=[MeterFigures(name, Bridge(), Cuts(), days(3)) for name in names],
        matters=[
            matter(
                MatterKind.SETTLED, one, 1, reason=one.customer, to_do=one.customer, note=one.customer, settled_at=SINCE
            )
            for one in customers
        ],
        changes=[replace(a_statement().changes[0], customer=name, meter=name) for name in names],
        signatures=[replace(a_statement().signatures[0], signed_by=name) for name in names],
        changed_since=[replace(a_statement().changed_since[0], signed_by=name) for name in names],
    )


def nothing() -> Statement:
    """Make a statement of a time in which no period ended, of an account that never ran."""
    return a_statement(
        stripe_account=None,
        as_of=None,
        last_run=None,
        verdict=Verdict(Judgement.NOTHING, "No period ended in November 2026."),
        whole=MeterFigures(None, Bridge(), Cuts()),
        meters=(),
        matters=(),
        without_report=(),
        customers=(),
        largest=(),
        changes=(),
        completeness=Completeness(0, {}, {}, 0, 0, (), None),
        signatures=(),
        changed_since=(),
    )


def test_the_layout_is_the_one_that_somebody_has_looked_at() -> None:
    """Renewed by `python -m tests.statement.golden`."""
    assert html_of_some() == GOLDEN.read_text(encoding="utf-8")


def test_the_verdict_and_what_to_do_stand_before_the_figures() -> None:
    text = text_of_some()

    assert text.index("3 matters of 3 customers wait for somebody") < text.index("What needs attention")
    assert text.index("Bill it by hand, for example") < text.index("From used to billed The way")


def test_each_term_of_the_bridge_is_shown_explained_and_adds_up() -> None:
    whole = a_statement().whole.bridge
    text = text_of_some()

    assert f"Used What OpenMeter measured, in the unit that Stripe bills. {whole.used:,}" in text
    for term in words.TERMS:
        assert f"{term.heading} {term.meaning} {term.of(whole):,}" in text
    assert sum(Decimal(term.of(whole)) for term in words.TERMS) == whole.used
    assert f"All lines together {whole.used:,} Difference 0 The lines add up to what was used" in text


def test_the_rows_of_all_customers_add_up_to_the_bridge() -> None:
    check_page(a_statement())


def test_a_bridge_that_does_not_add_up_is_not_to_be_signed() -> None:
    wrong = replace(a_statement().whole.bridge, used=Decimal("282873.375"))
    text = told(a_statement(whole=replace(a_statement().whole, bridge=wrong)))

    assert "These lines do not add up. 1 of what was used is not explained. Do not sign this statement" in text


def test_both_cuts_and_what_lies_between_them_are_shown() -> None:
    text = text_of_some()

    assert (
        "used in the periods that ended in November 2026 282,872.375 Of that, used before November 2026 began -210"
        in text
    )
    assert "in periods that end later 96 By calendar: used in November 2026, whatever its period 282,758.375" in text


def test_each_quantity_leads_to_its_writes() -> None:
    text = text_of_some()

    for one in ACME.items:
        assert f"How {one.quantity:,} came about item {one.item} of subscription {one.subscription}" in text


def test_a_chart_has_its_numbers_beside_it() -> None:
    read = Read(html_of_some())

    assert read.text.count("The same by numbers") == 2
    (meter, _) = a_statement().meters
    assert f"Most was used on 2026-11-30: {meter.days[-1].used:,}." in read.text
    assert f"2026-11-13 {meter.days[12].used:,} -280 {meter.days[12].billed:,}" in read.text


def test_a_day_without_anything_has_no_bar_and_a_meter_without_anything_no_chart() -> None:
    some = days(4)
    chart = chart_of([some[0], replace(some[1], used=Decimal(0), billed=Decimal(0)), *some[2:]])

    assert chart
    assert chart.used.count("M") == 3
    assert chart.reported.count("L") == 3
    assert chart_of([replace(one, used=Decimal(0), reported=Decimal(0), billed=Decimal(0)) for one in some]) is None
    assert chart_of([]) is None


def test_what_stripe_invoiced_stands_beside_what_is_to_be_billed() -> None:
    first, second = (replace(one, invoice=f"in_{place}", invoiced=184_220) for place, one in enumerate(ACME.items))
    asked = a_statement(customers=[replace(ACME, items=(first, second))], were_invoices_asked=True)
    html = page(asked, "en")

    assert 'href="https://dashboard.stripe.com/acct_1NffrFLkdIwHu7ix/invoices/in_0"' in html
    assert "in_0 says 184,220, as here" in Read(html).text
    assert "in_1 says 184,220, not as here" in Read(html).text


@pytest.mark.parametrize(
    ("stripe_account", "is_live", "address"),
    [
        ("acct_1", True, "https://dashboard.stripe.com/acct_1/customers/cus_NffrFeUfNV2Hib"),
        ("acct_1", False, "https://dashboard.stripe.com/acct_1/test/customers/cus_NffrFeUfNV2Hib"),
        (None, True, "https://dashboard.stripe.com/customers/cus_NffrFeUfNV2Hib"),
    ],
)
def test_a_customer_is_one_click_from_stripe(stripe_account: str | None, is_live: bool, address: str) -> None:
    read = Read(page(a_statement(stripe_account=stripe_account, is_live=is_live), "en"))

    assert address in read.attributes["href"]
    assert ("test mode" in read.text) is not is_live


def test_names_with_markup_stay_text() -> None:
    html = page(named(NASTY), "en")
    read = Read(html)

    assert not read.tags & {"script", "img", "iframe", "link", "object"}
    assert not [name for name in read.attributes if name.startswith("on")] + [*read.attributes.get("style", ())]
    shown = [re.sub("[\u202e\x00\x1b]", "\N{REPLACEMENT CHARACTER}", name) for name in NASTY]
    assert [name for name in shown if read.text.count(" ".join(name.split())) < 10] == []
    assert html.count("<style>") == html.count("</style>") == 1
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e]", html)


@pytest.mark.parametrize("make", [a_statement, nothing, lambda: named(NASTY)], ids=["some", "nothing", "nasty"])
def test_the_html_is_valid(make: Callable[[], Statement]) -> None:
    JustHTML(page(make(), "en"), strict=True)


def test_the_style_is_the_only_thing_that_the_page_allows() -> None:
    html = page(a_statement(account='"; } </style>'), "en")
    (style,) = re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL)
    hashed = b64encode(sha256(style.encode()).digest()).decode()

    assert f"content=\"default-src 'none'; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'none'\"" in html
    assert "url(" not in style.replace("url(#hatch)", "")


def test_the_same_figures_are_the_same_bytes() -> None:
    assert page(a_statement(), "en") == html_of_some()


def test_the_page_is_written_as_its_locale_does_and_its_words_stay_english() -> None:
    text = told(a_statement(), "fr")

    assert "November 2026 acct_" in text
    assert "As of 2 déc. 2026, 09:00:04, the last complete run" in text
    assert "All lines together 282 872,375 Difference 0" in text
    assert "31 000 64 566 +33 566" in text


def test_a_time_in_which_no_period_ended_has_a_page_too() -> None:
    text = told(nothing())

    assert "Nothing to bill No period ended in November 2026." in text
    assert "no run over the whole account was ever complete" in text
    assert "The lines add up to what was used: the difference is 0." in text


def test_a_statement_of_some_customers_says_so_before_its_figures() -> None:
    text = told(a_statement(is_of_selected=[NORTH.customer]))

    assert text.index("This is not the whole account. It is about cus_NorthwindTraders only.") < text.index(
        "Somebody has to act"
    )


def test_a_signed_time_that_has_changed_is_named_with_what_changed() -> None:
    text = text_of_some()

    assert "A signed statement has changed. Ada Lovelace signed that of October 2026" in text
    assert "what is not as it was signed Term As signed Now Used 238,174 238,484 Carried out 0 310" in text
    assert "other figures than these" in text


def test_missed_runs_and_how_far_periods_have_come_are_told() -> None:
    text = text_of_some()

    assert "8 periods of items ended in November 2026. 719 runs over the whole account were made" in text
    assert "Runs were missed 1 time" in text
    assert "2026-11-09 03:00:00 to 2026-11-09 06:00:00" in text
    assert "Not final yet It has ended, and may change: its invoice is to come" in text
    assert "late usage is watched for. 2 Closed" in text
    assert "All periods that ended 8 of 8" in text
    assert "Held 1 All items that it listed 8" in text
    assert "The last complete run read 1 page of items in Stripe." in text


def test_what_could_not_be_read_is_named_before_any_figure() -> None:
    text = told(a_statement(unread=["si_1: its period has no end"]))

    assert text.index("Not all could be read. What the ledger has of 1 item is in none") < text.index("Used")
    assert "cannot be read, and is in none of the figures: si_1: its period has no end" in text


def test_what_to_type_stands_below_what_to_do() -> None:
    assert "and have it settled. Whoever runs meter-sync: meter-sync history --settle si_0" in text_of_some()


def test_what_changed_is_not_told_where_nothing_was_used_before() -> None:
    changes = [replace(one, before=Decimal(0)) for one in a_statement().changes]
    text = told(a_statement(changes=changes))

    assert "What changed most The ledger has no usage of October 2026. Each customer" in text


def test_a_single_meter_is_not_told_twice() -> None:
    one = a_statement().meters[0]
    text = told(a_statement(meters=[one], whole=replace(one, meter=None, days=())))

    assert text.count("The lines add up") == 1
    assert "Meters count different things" not in text


def test_every_kind_state_and_judgement_has_words() -> None:
    assert words.MATTERS.keys() == set(MatterKind)
    assert words.STATES.keys() == words.STATE_MEANINGS.keys() == set(State)
    assert words.JUDGEMENTS.keys() == set(Judgement)
    assert tuple(term.name for term in words.TERMS) == tuple(name for name in Bridge.__match_args__ if name != "used")


def test_a_usage_of_no_known_meter_and_a_quantity_that_is_not_known_are_said_to_be_so() -> None:
    unknown = replace(item(1, Bridge(billed=1), meter=None), quantity=None)
    whose = customer("cus_1", unknown)
    text = told(a_statement(customers=[whose], matters=[matter(MatterKind.UNKNOWN, whose, None)]))

    assert "meter not known" in text
    assert "not known" in text.split("How it came about")[0]


def test_more_meters_than_a_page_has_room_for_are_counted() -> None:
    meter = MeterFigures(REQUESTS, Bridge(), Cuts(), [*days(3)] * 500)
    text = told(a_statement(meters=[meter] * 3))

    assert "1 more meter has no place here" in text
