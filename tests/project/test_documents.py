"""What the documents name is there: commands, options, files, links."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import click
import pytest

from meter_sync.cli import COMMANDS, cli
from meter_sync.cli.schedule.systemd import made
from meter_sync.core.planning import stages
from tests.schedule.installations import PLAIN, WEBHOOK_SECRET
from tests.support.documents import NAMES, ROOT, anchors, blocks, code_spans, document, options_in, section, table

BEFORE_A_COMMAND = {"&&", "||", ";", "*"}


def codes(name: str) -> Iterator[str]:
    """The lines of code in a document, in blocks and in its prose."""
    for language in ("sh", "text"):
        for block in blocks(name, language):
            yield from block.splitlines()
    for unit in blocks(name, "ini"):
        yield from (line.removeprefix("ExecStart=") for line in unit.splitlines())
    yield from code_spans(name)


def words_of(line: str) -> list[str]:
    """What a shell would read."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # an apostrophe of a picture, or of an explanation
        return []


def commands_in(line: str) -> Iterator[list[str]]:
    """The arguments of each call of the program."""
    words = words_of(line)
    for place, word in enumerate(words):
        before = words[place - 1] if place else "&&"
        if word.endswith("/bin/meter-sync") or (word == "meter-sync" and _may_precede(before)):
            rest = words[place + 1 :]
            yield rest[: next((at for at, one in enumerate(rest) if re.match(r"\||&|>|2>|…", one)), len(rest))]
    if words and words[0] in COMMANDS and len(words) > 1 and words[1].startswith("-"):
        yield words


def _may_precede(word: str) -> bool:
    return word in BEFORE_A_COMMAND or "=" in word


CALLS = [(name, arguments) for name in NAMES for line in codes(name) for arguments in commands_in(line) if arguments]


def test_there_are_commands_to_look_at() -> None:
    assert len(CALLS) > 60
    assert {name for name, _ in CALLS} >= {"README.md", "docs/faq.md", "docs/operation.md", "docs/webhook.md"}


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[f"{name}: {' '.join(words)}" for name, words in CALLS])
def test_every_command_that_is_shown_is_understood(name: str, arguments: list[str]) -> None:
    """With its options and their values, as far as they can be told without carrying it out."""
    at = next((place for place, word in enumerate(arguments) if word in COMMANDS), len(arguments))
    assert options_in(" ".join(arguments[:at])) <= options_in(cli.get_help(click.Context(cli)))
    if at == len(arguments):
        assert {"--version", "--help"} & set(arguments)
        return
    command = cli.get_command(click.Context(cli), arguments[at])
    assert command
    words = arguments[at + 1 :]
    if isinstance(command, click.Group):
        if not words:  # prose may name a group without its command
            return
        command, words = command.commands[words[0]], words[1:]
    try:
        command.make_context(command.name, words)
    except click.MissingParameter:  # nor does it repeat what a command needs each time
        assert not words
    except click.BadOptionUsage as error:  # prose may name an option without its value
        assert "requires" in error.message  # noqa: PT017
    except click.exceptions.Exit:
        assert "--help" in arguments


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_understands_every_block(name: str) -> None:
    for block in blocks(name, "sh"):
        assert subprocess.run(["/bin/sh", "-n", "-c", block], check=False).returncode == 0


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/")])
def test_lists_are_written_so_that_both_readers_of_markdown_see_them(name: str) -> None:
    """mkdocs takes a block into a list item only from four spaces on, and begins a list only after an empty line."""
    text = document(name)
    prose = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)

    assert not re.search(r"^ {1,3}```", text, flags=re.MULTILINE)
    assert not re.search(r"^[A-Za-z`\[][^\n]*\n(\* |\d+\. )", prose, flags=re.MULTILINE)


_SCHEMES = ("only-light", "only-dark")
"""Of a picture: in which colours of the page it is shown."""


@pytest.mark.parametrize("name", [*NAMES, "CHANGELOG.md"])
def test_every_link_leads_somewhere(name: str) -> None:
    here = ROOT / name
    for link in re.findall(r"\]\(([^)\s]+)\)", document(name)):
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            continue
        target = here.parent / path if path else here
        assert target.exists(), link
        assert not anchor or anchor in _SCHEMES or anchor in anchors(target), link


def test_the_pages_link_to_pages_only() -> None:
    """The built documentation has no other files."""
    for name in NAMES:
        if name.startswith("docs/"):
            assert "](.." not in document(name)


def test_every_page_is_in_the_navigation_and_on_the_first_page() -> None:
    navigation = ROOT.joinpath("mkdocs.yml").read_text(encoding="utf-8")
    first = document("docs/index.md")
    for name in NAMES:
        page = name.removeprefix("docs/")
        if page not in (name, "index.md"):
            assert f"- {page}\n" in navigation
            assert f"]({page})" in first


ROOMS = (
    "",
    "meter_sync",
    "meter_sync/sync",
    "meter_sync/core/planning",
    "meter_sync/ledger",
    "meter_sync/sandbox",
    "meter_sync/sandbox/openmeter",
    "meter_sync/sandbox/stripe",
)
"""Where the files are that are named without their folders."""


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "docs/security.md"])
def test_every_file_that_is_named_is_there(name: str) -> None:
    named = [
        span
        for span in code_spans(name)
        if re.fullmatch(r"\.?[\w./-]+", span) and ("/" in span or span.endswith(".py")) and not span.startswith("/")
    ]
    assert [span for span in named if not any(ROOT.joinpath(room, span).exists() for room in ROOMS)] == []


def test_the_files_of_commands_are_there() -> None:
    named = [
        word
        for name in NAMES
        for block in blocks(name, "sh")
        for line in block.splitlines()
        for word in words_of(line)
        if re.match(r"(tests|benchmarks)/", word)
    ]
    assert len(named) >= 5
    assert [word for word in named if not ROOT.joinpath(word).exists()] == []


def test_the_stages_are_types_that_there_are() -> None:
    rows = table(section("ARCHITECTURE.md", "The stages of an item"), "| stage | what has been found | who makes it |")

    assert [row[0] for row in rows if not hasattr(stages, row[0].strip("`"))] == []


def test_the_glossary_is_short_and_says_each_word_once() -> None:
    words = [row[0] for row in table(document("ARCHITECTURE.md"), "| word | meaning |")]

    assert len(words) == len(set(words)) <= 20


def test_the_schedules_run_commands_that_exist() -> None:
    """In the crontab and in the units: the manifests have the same arguments."""
    units = made(replace(PLAIN, webhook_secrets=(WEBHOOK_SECRET,)), "root").printed
    crontab = ROOT.joinpath("crontab.example").read_text()
    lines = [line for line in [*crontab.splitlines(), *units.splitlines()] if "meter-sync --" in line]
    assert len(lines) == 10
    for line in lines:
        words = line.split("meter-sync --", 1)[1].split("2>>")[0].split()
        (name,) = COMMANDS.keys() & set(words)
        command = cli.get_command(click.Context(cli), name)
        assert command
        helps = cli.get_help(click.Context(cli)) + command.get_help(click.Context(command))
        assert options_in("--" + " ".join(words)) <= options_in(helps)
