"""Every dependency is bounded on both sides, with the reason beside it."""

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.project

ROOT = Path(__file__).parents[2]
PYPROJECT = ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
DIRECT: list[str] = PROJECT["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
ITSELF = "meter-sync["
"""So begins what an extra has of another one."""
ALL = [one for some in (DIRECT, *EXTRAS.values()) for one in some if not one.startswith(ITSELF)]
NEEDED = {*DIRECT, *EXTRAS["test"], *EXTRAS["notify"], *EXTRAS["postgres"], *EXTRAS["worker"]} - {f"{ITSELF}postgres]"}
"""What the tests run with; the other extras may be installed too."""
LOWER, UPPER, EXACT = {">=", ">"}, {"<", "<="}, "=="


def test_there_are_dependencies_to_look_at() -> None:
    assert len(DIRECT) >= 10
    assert len(ALL) > len(DIRECT)


@pytest.mark.parametrize("dependency", ALL)
def test_a_dependency_is_bounded_below_and_above(dependency: str) -> None:
    operators = {one.operator for one in Requirement(dependency).specifier}

    assert EXACT in operators or (operators & LOWER and operators & UPPER)


@pytest.mark.parametrize("dependency", ALL)
def test_the_reason_stands_beside_the_bounds(dependency: str) -> None:
    (line,) = re.findall(rf'^    "{re.escape(dependency)}",(.*)$', PYPROJECT, flags=re.MULTILINE)

    assert re.fullmatch(r" +# \S.{9,}", line)


@pytest.mark.parametrize("dependency", ALL)
def test_what_is_installed_here_is_within_the_bounds(dependency: str) -> None:
    wanted = Requirement(dependency)
    if wanted.marker and not wanted.marker.evaluate():
        pytest.skip(f"{wanted.name} is not for this machine")
    try:
        installed = version(wanted.name)
    except PackageNotFoundError:
        assert dependency not in NEEDED
        pytest.skip(f"{wanted.name} is not installed")

    assert wanted.specifier.contains(installed, prereleases=True)


def test_whatever_the_program_imports_is_a_dependency() -> None:
    """What comes with another dependency may go, or change, with it."""
    imported = {
        name.partition(".")[0]
        for path in ROOT.joinpath("meter_sync").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imports_of(node)
    }
    distributions = {
        canonicalize_name(distribution)
        for name in imported - set(sys.stdlib_module_names) - {"meter_sync"}
        for distribution in packages_distributions()[name]
    }

    of_extras = {name_of(one) for extra in ("notify", "postgres", "worker") for one in EXTRAS[extra]} - {"meter-sync"}

    assert distributions == {*map(name_of, DIRECT), *of_extras}


def name_of(dependency: str) -> str:
    """The name of a distribution, as it is compared."""
    return canonicalize_name(Requirement(dependency).name)


def imports_of(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []
