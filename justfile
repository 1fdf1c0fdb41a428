# The usual tasks: `just` lists them. Each is what stands below its name, and can as well be typed.
# They take the tools from .venv, which `just setup` makes.

export PATH := justfile_directory() / ".venv/bin" + ":" + env("PATH")

_list:
    @just --list

# Make .venv with everything, and let each commit be checked
setup:
    python3 -m venv .venv
    pip install -q -e '.[test,docs,dev]'
    pre-commit install

# The fast tests, or one: just test tests/core/test_span.py
test *what:
    python -m pytest -n auto --dist worksteal {{what}}

# Every test, with coverage: what CI runs
test-all:
    python -m pytest -m "" -n auto --dist worksteal --cov

# What each commit is checked for
check:
    ruff check .
    ruff format --check .
    mypy
    lint-imports

# Format, and mend what can be mended
format:
    ruff check --fix .
    ruff format .

# Build the documentation, each link checked
docs:
    mkdocs build --strict

# Read the documentation while writing it
docs-serve:
    mkdocs serve

# The whole job against an embedded Stripe and OpenMeter
demo:
    meter-sync demo
