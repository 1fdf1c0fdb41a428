"""The documents of the project, and what is looked up in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

NAMES = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md")),
)
"""All but the changelog, which tells of what was."""


def document(name: str) -> str:
    """Return the text of a document."""
    return ROOT.joinpath(name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """Return what stands under a heading of a document, up to the next one of its level or above."""
    text = re.sub(r"^( *)```.*?^\1```$", _without_comments, document(name), flags=re.DOTALL | re.MULTILINE)
    (level,) = re.findall(rf"^(#+) {re.escape(heading)}$", text, flags=re.MULTILINE)
    after = text.split(f"\n{level} {heading}\n", 1)[1]
    return re.split(rf"^#{{1,{len(level)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def _without_comments(block: re.Match[str]) -> str:
    """What begins like a heading in a block of code is a comment."""
    return re.sub(r"^#", " #", block[0], flags=re.MULTILINE)


def blocks(name: str, language: str) -> list[str]:
    """Return the blocks of a language in a document, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", document(name), flags=re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indentation}", "", block, flags=re.MULTILINE) for indentation, block in found]


def code_spans(name: str) -> list[str]:
    """Return what stands between backticks in a document's prose."""
    prose = re.sub(r"^( *)```.*?^\1```$", "", document(name), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", prose)


def table(text: str, head: str) -> list[list[str]]:
    """Return the cells of the one table with this head."""
    assert text.count(head) == 1, head
    rows = text.split(head)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]


def names_in(text: str) -> list[str]:
    """Return the names, such as `retry_seconds` or `stripe.rate`, that stand between backticks."""
    return re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)`", text)


def options_in(text: str) -> set[str]:
    """Return the long options that are named."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))


def slug(heading: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """The anchors of a document."""
    text = re.sub(r"^( *)```.*?^\1```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)}
