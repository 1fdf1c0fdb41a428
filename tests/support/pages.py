"""What the page of a statement shows, read as a person adds it up."""

import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from html import unescape

from meter_sync.core.telling.statement.figures import Statement
from meter_sync.statement import words
from meter_sync.statement.page import page

_ROW = re.compile(
    r'<tr><th scope="row"><a [^>]*><bdi>(?P<item>[^<]*)</bdi>.*?</th><td>.*?</td><td class="n">(?P<used>[^<]*)</td>'
    r'<td class="n">[^<]*</td><td>(?P<became>[^<]*)</td>'
)
_BRIDGE = re.compile(r'<section id="bridge">.*?</table>', flags=re.DOTALL)
_LINE = re.compile(r'<th scope="row">(?P<heading>[^<]*)<small>.*?</small></th><td class="n">(?P<amount>[^<]*)</td>')
_FIELDS = {term.heading.lower(): term.name for term in words.TERMS}


@dataclass(frozen=True, slots=True)
class ItemRow:
    """The row of an item's period."""

    item: str
    used: Decimal
    became: dict[str, Decimal]
    """By the names of terms."""


def item_rows(html: str) -> list[ItemRow]:
    """Return the rows of all customers' items on a page whose numbers are written as in English."""
    return [ItemRow(unescape(one["item"]), _number(one["used"]), _terms(one["became"])) for one in _ROW.finditer(html)]


def whole_bridge(html: str) -> dict[str, Decimal]:
    """Return the lines of the bridge of all meters together, by the names of terms."""
    (table,) = _BRIDGE.findall(html)
    lines = {one["heading"].lower(): _number(one["amount"]) for one in _LINE.finditer(table)}
    return {_FIELDS.get(heading, heading): amount for heading, amount in lines.items()}


def check_page(statement: Statement) -> None:
    """The page adds up by itself, row by row and in all, and its rows bill what the figures do."""
    html = page(statement, "en")
    rows, whole = item_rows(html), whole_bridge(html)
    assert [one for one in rows if sum(one.became.values()) != one.used] == []
    assert whole.keys() == {"used", *_FIELDS.values()}
    assert whole.pop("used") == sum(one.used for one in rows) == sum(whole.values())
    assert whole == {name: sum(one.became.get(name, Decimal(0)) for one in rows) for name in whole}
    billed, figures = Counter[str](), Counter[str]()
    for row in rows:
        billed[row.item] += int(row.became.get("billed", 0))
    for item in (item for customer in statement.customers for item in customer.items):
        figures[item.item] += item.bridge.billed
    assert billed == figures
    assert html.count("The lines add up to what was used: the difference is 0.") > 0


def _terms(text: str) -> dict[str, Decimal]:
    pairs = [piece.rpartition(" ") for piece in text.strip().split("; ") if piece != "nothing"]
    return {_FIELDS[heading]: _number(amount) for heading, _, amount in pairs}


def _number(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))
