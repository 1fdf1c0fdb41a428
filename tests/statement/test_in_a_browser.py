"""The page in a real browser: it asks nobody, fits a phone and paper, and can be read by everybody."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from pypdf import PdfReader

from meter_sync.core.telling.statement.figures import Bridge, Statement
from meter_sync.statement.page import page
from tests.statement.test_page import named, nothing
from tests.support.browser import a_browser
from tests.support.statement import CUSTOMERS, NASTY, a_large_statement, a_statement

pytestmark = pytest.mark.page

WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
_OPENED = "for (const one of document.querySelectorAll('details')) one.open = true"


def enormous() -> Statement:
    """Make a statement whose quantities are as long as they can be expected to be."""
    whole = a_statement().whole
    long = Bridge(billed=987_654_321_098_765, rounding=Decimal("0.123456"))
    long = replace(long, used=long.explained)
    first = replace(whole, bridge=long, cuts=replace(whole.cuts, in_periods=long.used))
    meters = [replace(one, days=[replace(day, used=long.used) for day in one.days]) for one in a_statement().meters]
    return a_statement(whole=first, meters=meters)


KINDS = {"some": a_statement, "nothing": nothing, "names": lambda: named(NASTY), "numbers": enormous}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as one:
        yield one


class Shown:
    """A page that is shown, and what the browser said and asked meanwhile."""

    def __init__(self, tab: Page, file: Path) -> None:
        self.tab = tab
        self.said: list[str] = []
        self.asked: list[str] = []
        tab.on("console", lambda message: self.said.append(message.text))
        tab.on("pageerror", lambda error: self.said.append(str(error)))
        tab.on("request", lambda request: self.asked.append(request.url))
        tab.goto(file.as_uri())


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """Show a statement in a window of a size, in light or dark."""
    contexts = []

    def shown(statement: Statement, viewport: Any = WIDE, scheme: Any = "light", locale: str = "en") -> Shown:
        file = tmp_path / "statement.html"
        file.write_text(page(statement, locale), encoding="utf-8")
        contexts.append(browser.new_context(viewport=viewport, color_scheme=scheme))
        return Shown(contexts[-1].new_page(), file)

    yield shown
    for one in contexts:
        one.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_browser_says_nothing_asks_nothing_and_finds_nothing_inaccessible(
    show: Any, kind: str, scheme: str
) -> None:
    shown = show(KINDS[kind](), scheme=scheme)
    shown.tab.evaluate(_OPENED)

    violations = Axe().run(shown.tab).response["violations"]

    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations] == []
    assert shown.said == []
    assert len(shown.asked) == 1


def test_what_is_dark_is_dark(show: Any) -> None:
    color = "getComputedStyle(document.documentElement).backgroundColor"

    assert show(a_statement(), scheme="light").tab.evaluate(color) == "rgb(255, 255, 255)"
    assert show(a_statement(), scheme="dark").tab.evaluate(color) == "rgb(20, 23, 27)"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("locale", ["en", "fr"])
def test_a_phone_scrolls_in_one_direction(show: Any, kind: str, locale: str) -> None:
    shown = show(KINDS[kind](), PHONE, locale=locale)
    shown.tab.evaluate(_OPENED)

    assert shown.tab.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    beyond = "[...document.querySelectorAll('main *')].filter(one => one.getBoundingClientRect().right > 391"
    assert shown.tab.evaluate(f"{beyond} && !one.closest('.unseen, thead, svg')).map(one => one.outerHTML)") == []


def test_a_phone_and_a_screen_show_each_cell_under_or_after_its_name(show: Any) -> None:
    shown = show(a_statement(), PHONE)
    label = "getComputedStyle(document.querySelector('.matters td:nth-child(3)'), '::before').content"

    assert shown.tab.evaluate(label).startswith('"Quantity"')
    assert shown.tab.evaluate("getComputedStyle(document.querySelector('.matters tbody tr')).display") == "block"
    assert show(a_statement()).tab.evaluate(label) == "none"


def test_on_a_phone_words_stand_beside_their_label_figures_on_the_right_and_captions_over_the_whole_width(
    show: Any,
) -> None:
    shown = show(a_statement(), PHONE)
    edges = """name => { const cell = document.querySelector(name), box = cell.getBoundingClientRect();
        const range = document.createRange(); range.selectNodeContents(cell);
        const words = [...range.getClientRects()].filter(one => one.width);
        return [Math.min(...words.map(one => one.left)) - box.left,
                box.right - Math.max(...words.map(one => one.right))]; }"""
    action = "getComputedStyle(document.querySelector('.matters .do'), '::before').content"

    for name in (".matters td:nth-child(2)", ".matters td:nth-child(4)", ".signatures td:nth-child(2)"):
        assert shown.tab.evaluate(edges, name)[0] > 100, name
    for name in (".largest td:nth-child(2)", ".changes td:nth-child(4)", ".changes td:nth-child(5)"):
        assert shown.tab.evaluate(edges, name)[1] < 1, name
    assert shown.tab.evaluate(action).startswith('"To do"')
    caption = "document.querySelector('.signatures caption').getBoundingClientRect().width"
    assert shown.tab.evaluate(caption) > 300


def test_on_paper_a_row_stays_with_its_details_a_heading_with_its_table_and_names_in_one_piece(
    show: Any, tmp_path: Path
) -> None:
    shown = show(a_statement())
    printed = tmp_path / "statement.pdf"

    shown.tab.pdf(path=printed, prefer_css_page_size=True)

    texts = [normalize("NFKC", one.extract_text()) for one in PdfReader(printed).pages]  # without ligatures
    pages = [" ".join(one.split()) for one in texts]
    for customer in CUSTOMERS:
        for item in customer.items:
            (page_of,) = [one for one in pages if f"{item.item} of subscription" in one]
            assert customer.customer in page_of
            assert item.invoice is None or item.invoice in page_of
            assert page_of.count(item.item) == 2
    for one in pages:
        assert one.count("The same by numbers") == one.count(" 2026-11-01 2,411 ") + one.count(" 2026-11-01 153 ")
        assert ("Can it still be billed by itself?" in one) is ("and has it settled. Unbilled" in one)


def test_on_paper_each_page_has_its_head_and_number_and_everything_is_opened(show: Any, tmp_path: Path) -> None:
    shown = show(a_statement(account="Acme (“EU”)"))
    printed = tmp_path / "statement.pdf"

    shown.tab.pdf(path=printed, prefer_css_page_size=True)

    pages = [" ".join(one.extract_text().split()) for one in PdfReader(printed).pages]
    assert len(pages) > 3
    for number, text in enumerate(pages, 1):
        assert "Acme (“EU”): usage billed, November 2026" in text
        assert f"Page {number} of {len(pages)}" in text
        assert "Digest 7d1f0c6a2f0b8e3f…, as of 2026-12-02 09:00:04 UTC" in text
    whole = " ".join(pages)
    assert whole.count("one usage record for the whole period") == 8
    assert "2026-11-13 8,438 -280 7,891" in whole
    assert "Show in Stripe" not in whole
    assert "Reviewed by" in pages[-1]


def test_on_paper_a_table_over_several_pages_has_its_head_on_each(show: Any, tmp_path: Path) -> None:
    shown = show(a_large_statement(60, told=False))
    printed = tmp_path / "statement.pdf"

    shown.tab.pdf(path=printed, prefer_css_page_size=True)

    pages = [one.extract_text() for one in PdfReader(printed).pages]
    assert sum("Why, and what to do" in one for one in pages) == sum("Have it looked at" in one for one in pages) > 3


def test_what_escaping_would_miss_runs_no_script_and_asks_nobody(show: Any) -> None:
    """The policy of the page forbids it a second time."""
    shown = show(a_statement())
    image = '<img src="https://example.com/x" onerror="window.hit = 1">'

    with shown.tab.expect_event("requestfailed") as failed:
        shown.tab.evaluate("image => document.body.insertAdjacentHTML('beforeend', image)", image)

    assert failed.value.failure == "csp"
    assert any("Content Security Policy" in one for one in shown.said)
    assert shown.tab.evaluate("window.hit") is None
