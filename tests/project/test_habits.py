"""The habits of the project: checks of a commit, the usual tasks, the changelog."""

import re
import tomllib
from importlib import import_module
from typing import Any

from tests.project.test_code import CHECKS
from tests.support.documents import NAMES, blocks, document, table

RECIPES = dict(re.findall(r"^([a-z-]+)(?: \*\w+)?:\n((?:    .+\n)+)", document("justfile"), flags=re.MULTILINE))
"""The commands of each task."""


def hooks() -> list[dict[str, Any]]:
    """What each commit is checked with."""
    yaml = import_module("yaml")  # it has no types, unless somebody installed some
    (repository,) = yaml.safe_load(document(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    return list(repository["hooks"])


def test_a_commit_and_the_task_are_checked_for_what_the_tests_are() -> None:
    checks = {" ".join(check) for check in CHECKS}
    entries = {hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in hooks()}

    assert {re.sub(r" --no-cache| \.$", "", check) for check in checks} == entries
    assert {line.strip() for line in RECIPES["check"].splitlines()} == {
        check.removesuffix(" --no-cache") for check in checks
    }


def test_the_hooks_need_no_network() -> None:
    assert {hook["language"] for hook in hooks()} == {"system"}


def test_every_task_that_is_named_is_there() -> None:
    shown = [line for name in NAMES for block in blocks(name, "sh") for line in block.splitlines()]
    named = {words[1] for line in shown if (words := line.split())[:1] == ["just"] and len(words) > 1}
    named |= {span for text in map(document, NAMES) for span in re.findall(r"`just ([a-z-]+)", text)}

    assert named
    assert named <= RECIPES.keys()


def test_the_task_that_tests_is_the_command_of_the_readme() -> None:
    (command,) = [line for line in document("README.md").splitlines() if line.endswith("worksteal")]

    assert command.split(".venv/bin/")[-1] in RECIPES["test"]


def test_every_marker_of_the_tests_is_described() -> None:
    options = tomllib.loads(document("pyproject.toml"))["tool"]["pytest"]["ini_options"]
    described = {row[0].strip("`") for row in table(document("CONTRIBUTING.md"), "| marker | what it holds |")}

    assert {line.partition(":")[0] for line in options.get("markers", [])} - {"slow"} <= described


def test_the_changelog_is_kept_as_it_says() -> None:
    headings = re.findall(r"^#+ .+$", document("CHANGELOG.md"), flags=re.MULTILINE)

    assert headings[:2] == ["# Changelog", "## [Unreleased]"]
    assert all(
        re.fullmatch(
            r"## \[(Unreleased|\d+\.\d+\.\d+)\]( - \d{4}-\d\d-\d\d)?|"
            r"### (Added|Changed|Deprecated|Removed|Fixed|Security)",
            heading,
        )
        for heading in headings[1:]
    )
