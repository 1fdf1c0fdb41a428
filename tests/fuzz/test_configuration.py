"""Configurations that are not what they should be: settings, or everything that is wrong in words."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meter_sync.config import ENVIRONMENT, Settings, load
from meter_sync.errors import ConfigurationError
from tests.fuzz import command
from tests.fuzz.profile import examples
from tests.support.world import NOW, World

KEY = {"STRIPE_API_KEY": "sk_test_x"}

SECTIONS = ("stripe", "openmeter", "mapping", "brakes", "meters", "ledger", "schedule", "retry_seconds", "unknown")
NAMES = (
    "api_key",
    "api_key_file",
    "api_base",
    "webhook_secret",
    "webhook_secret_file",
    "rate",
    "endpoint_rate",
    "meter_event_rate",
    "meter_event_stream",
    "url",
    "concurrency",
    "subject",
    "meter_key",
    "decrease_percent",
    "price",
    "lookup_key",
    "product",
    "stripe_meter",
    "openmeter",
    "filter",
    "scale",
    "rounding",
    "records",
    "shared",
    "ignore",
    "ledger",
    "schedule",
    "retry_seconds",
    "resend_after_hours",
    "lookback_days",
    "unknown",
)

TEXTS = st.text(max_size=8) | st.sampled_from(
    [
        "",
        " ",
        "price_1",
        "http://[",
        "https://[::1",
        "https://example.com:99999999",
        "http://127.0.0.1:8000",
        "//",
        "~nobody_of_this_name/x",
        "~",
        "a\0b",
        "/",
        "/dev/null/x",
        "x" * 5000,
        "customer.metadata.",
        "item.metadata.a",
        "openmeter.customer",
        "day",
        "floor",
        "nan",
        "inf",
        "-inf",
        "sNaN",
        "1e999999999",
        "1e-999999999",
        "0x10",
        "9" * 400,
        "hourly",
        "true",
        "2025-01-01T00:00:00Z",
        "sk_live_x",
    ]
)
NUMBERS = (
    st.integers()
    | st.sampled_from([-1, 0, 1, 2**63, 10**400])
    | st.floats()
    | st.sampled_from([1e308, 5e-324, float("nan"), float("inf")])
)
DATES = st.datetimes() | st.dates() | st.times()
PLAIN = TEXTS | NUMBERS | st.booleans() | DATES
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | TEXTS, inner, max_size=3),
    max_leaves=5,
)
SECTION = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)
ROW = st.fixed_dictionaries(
    {"openmeter": TEXTS},
    optional=dict.fromkeys(("price", "filter", "scale", "rounding", "shared", "ignore"), VALUES),
)
CONFIGURATIONS = st.dictionaries(
    st.sampled_from(SECTIONS + NAMES), SECTION | VALUES | st.lists(ROW, max_size=3), max_size=4
)


def toml(value: Any) -> str:
    """Write a value as TOML."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(_escaped(character) for character in value) + '"'
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{toml(name)} = {toml(inner)}" for name, inner in value.items()) + "}"
        case int() | float():
            return repr(value)
        case _:
            return str(value.isoformat())


def _escaped(character: str) -> str:
    is_plain = character.isprintable() and character not in '"\\' and not "\ud800" <= character <= "\udfff"
    return character if is_plain else f"\\U{ord(character):08x}"


def as_file(configuration: dict[str, Any]) -> bytes:
    return "".join(f"{toml(name)} = {toml(value)}\n" for name, value in configuration.items()).encode()


@contextmanager
def written(content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "meter-sync.toml")
        file.write_bytes(content)
        yield file


def loaded(content: bytes, environment: dict[str, str]) -> Settings | None:
    """Load a file. Whatever it has, there are settings or there is an error in words."""
    with written(content) as file:
        try:
            return load(file, environment, {})
        except ConfigurationError as error:
            if not error.details or not all(error.details):
                pytest.fail(f"it says nothing of what is wrong: {error}")
            return None


@given(CONFIGURATIONS)
@examples(60)
def test_a_configuration_of_any_values_is_loaded_or_refused_in_words(configuration: dict[str, Any]) -> None:
    loaded(as_file(configuration), KEY)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"\xff\xfe")
@example(b"a" * 100_000)
@example(b"a = " + b"[" * 5_000)
@example(b"a = " + b"{a=" * 5_000)
@example(b".".join([b"a"] * 5_000) + b" = 1")
@example(b"a = " + b"9" * 5_000)
@example(b"a = 1" + b"_0" * 5_000)
@example(b"a = 9999-99-99")
@example(b"a = 1e999999999")
@example(b"\x00")
@examples(30)
def test_a_file_of_any_bytes_is_loaded_or_refused_in_words(content: bytes) -> None:
    loaded(content, KEY)


@given(CONFIGURATIONS, st.integers(0, 10_000), st.binary(max_size=3))
@examples(30)
def test_a_file_that_was_damaged_is_loaded_or_refused_in_words(
    configuration: dict[str, Any], place: int, damage: bytes
) -> None:
    content = as_file(configuration)
    cut = place % (len(content) + 1)
    loaded(content[:cut] + damage + content[cut + 1 :], KEY)


@given(st.dictionaries(st.sampled_from(sorted(ENVIRONMENT)), TEXTS, max_size=6))
@examples(40)
def test_an_environment_of_any_texts_is_loaded_or_refused_in_words(environment: dict[str, str]) -> None:
    loaded(b"", environment)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose ledger is new for each example."""
    world = World(tmp_path_factory.mktemp("configured"), NOW)
    with world.sandbox.in_background():
        world.use(world.subscribe(), 5)
        yield world


@given(CONFIGURATIONS)
@examples(5)
def test_the_command_ends_with_a_code_of_the_contract_whatever_is_configured(
    world: World, configuration: dict[str, Any]
) -> None:
    world.config.write_bytes(as_file({name: value for name, value in configuration.items() if name != "ledger"}))
    world.ledger.unlink(missing_ok=True)

    code = command.run(world)

    with written(world.config.read_bytes()) as file:
        is_right = loaded(file.read_bytes(), world.environment()) is not None
    assert is_right or code == 78


@pytest.mark.parametrize("content", [b"\xff", b"a = " + b"[" * 5_000, b'mapping = {subject = "\\u0000"}'])
def test_the_installed_command_refuses_a_broken_file_without_a_traceback(world: World, content: bytes) -> None:
    world.config.write_bytes(content)

    done = world.run()

    assert (done.code, done.error_code) == (78, "configuration")
