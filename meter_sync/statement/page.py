"""The page of a statement: one file of HTML that needs nothing else, neither a script nor a request to anywhere."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from typing import Any
from unicodedata import category

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from meter_sync.core.telling.statement.figures import Matter, MatterKind, Signature, Statement
from meter_sync.statement import charts, folding, words
from meter_sync.statement.dashboard import Dashboard
from meter_sync.statement.folding import Folded
from meter_sync.statement.locales import Written, written_for

_LOADER = PackageLoader("meter_sync.statement")
_HEAD, _FOOT = "HEAD-OF-EACH-PAGE", "FOOT-OF-EACH-PAGE"
"""Stand in the style sheet for the texts at the head and at the foot of each printed page."""
_DIGITS = 16
"""So much of the digest stands at the foot of each page: enough to tell one statement from another."""


@dataclass(frozen=True, slots=True)
class Group:
    """The matters of a kind."""

    kind: MatterKind
    matters: Sequence[Matter]


def page(statement: Statement, locale: str) -> str:
    """Return a statement as a page of HTML, with numbers and dates as the readers of a locale write them.

    The same figures give the same text. Its style sheet is allowed by its hash, and nothing else is: whatever a name
    may contain, a browser runs no script and asks nobody. Raise ArgumentsError for a locale that is not known.
    """
    written = written_for(locale)
    environment = _environment(written, Dashboard(statement.stripe_account, statement.is_live))
    name = written.name(statement.since, statement.until)
    account = statement.account or statement.stripe_account or "the Stripe account"
    source, _, _ = _LOADER.get_source(environment, "style.css")
    style = source.replace(_HEAD, _in_css(f"{account}: usage billed, {name}"))
    style = style.replace(_FOOT, _in_css(_foot(statement, written)))
    template = environment.get_template("page.html.jinja")
    matters = [one for one in statement.matters if one.kind is not MatterKind.SETTLED]
    settled = [one for one in statement.matters if one.kind is MatterKind.SETTLED]
    head = {
        "statement": statement,
        "account": account,
        "name": name,
        "before": written.name_before(statement.since, statement.until),
        "style": Markup(style),  # noqa: S704 - the only words in it are escaped
        "style_hash": b64encode(sha256(style.encode()).digest()).decode(),
        "groups": _groups(matters[: folding.MOST_MATTERS]),
        "more_matters": max(0, len(matters) - folding.MOST_MATTERS),
        "settled": settled[: folding.MOST_MATTERS],
        "more_settled": max(0, len(settled) - folding.MOST_MATTERS),
        "outdated": _outdated(statement),
        "to_look_at": len(matters) + len(statement.without_report),
    }
    text = ""
    for room in folding.ROOMS:
        shown = folding.folded(statement, room)
        text = template.render(head, shown=shown, terms_shown=_terms_shown(statement, shown))
        if len(text.encode()) < folding.MOST_BYTES:
            break
    return text


def _environment(written: Written, dashboard: Dashboard) -> Environment:
    environment = Environment(
        loader=_LOADER,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {
        "charts": charts,
        "dashboard": dashboard,
        "folding": folding,
        "words": words,
        "written": written,
    }
    environment.filters |= {
        "number": written.number,
        "day": written.day,
        "instant": lambda instant: _unbroken(written.instant(instant)),
        "period": lambda period: _unbroken(written.period(period), " to "),
        "words": _in_whole_words,
        "signed": lambda amount: f"+{written.number(amount)}" if amount > 0 else written.number(amount),
    }
    return environment


def _shown(value: Any) -> Any:
    """Return what is put into the page: a text of any server without what HTML forbids or what turns a line around."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join("\N{REPLACEMENT CHARACTER}" if category(one)[0] == "C" else one for one in value)


def _unbroken(text: str, between: str = " ") -> Markup:
    """Return a text of which no piece with a hyphen in it is broken: a date, or, where it is short, a whole instant."""
    return escape(between).join(
        Markup('<span class="t">{}</span>').format(piece) if "-" in piece else escape(piece)
        for piece in text.split(between)
    )


def _in_whole_words(text: str) -> Markup:
    """Return a text of which no word is broken that fits into a line, as at the hyphens of an option."""
    return Markup(" ").join(Markup('<span class="id">{}</span>').format(_shown(word)) for word in text.split(" "))


def _foot(statement: Statement, written: Written) -> str:
    as_of = f"as of {written.instant(statement.as_of)} UTC" if statement.as_of else "before any complete run"
    return f"Digest {statement.digest[:_DIGITS]}…, {as_of}"


def _in_css(text: str) -> str:
    """Return a text for a string of CSS: all but letters, digits and spaces as numbers, so that it cannot end there."""
    return "".join(one if (one.isascii() and one.isalnum()) or one == " " else f"\\{ord(one):06x} " for one in text)


def _groups(matters: Sequence[Matter]) -> list[Group]:
    return [Group(kind, list(some)) for kind, some in groupby(matters, key=lambda one: one.kind)]


def _outdated(statement: Statement) -> Signature | None:
    """Return the newest signature of this time where the figures are others by now, and their sums do not tell it."""
    newest = max(statement.signatures, key=lambda one: one.signed_at, default=None)
    told = {(one.since, one.until) for one in statement.changed_since}
    if newest is None or newest.is_of_this or (statement.since, statement.until) in told:
        return None
    return newest


def _terms_shown(statement: Statement, shown: Folded) -> bool:
    """Say whether each meter has a bridge of its own: not where there is one meter, whose bridge is that of all."""
    return len(shown.meters) > 1 or any(one.bridge != statement.whole.bridge for one in shown.meters)
