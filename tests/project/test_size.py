"""A function fits a screen, and a module has one reason to change."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.project

PACKAGE = Path(__file__).parents[2] / "meter_sync"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FUNCTION, LONGEST_MODULE = 50, 400


def test_no_module_is_longer_than_its_readers_were_promised() -> None:
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in MODULES}
    assert len(lines) > 100
    assert {path: count for path, count in lines.items() if count > LONGEST_MODULE} == {}


def test_no_function_is_longer_than_its_readers_were_promised() -> None:
    functions = [
        (str(path.relative_to(PACKAGE)), node.name, (node.end_lineno or 0) - node.lineno + 1)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1000
    assert [one for one in functions if one[2] > LONGEST_FUNCTION] == []
