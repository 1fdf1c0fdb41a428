"""Which environment variables there are, and what is said of one that there is not."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from meter_sync.cli import cli
from meter_sync.config import ENVIRONMENT, OF_OPTIONS, load
from meter_sync.errors import ConfigurationError

KEY = {"STRIPE_API_KEY": "sk_test_1"}


def commands(parent: click.Command) -> Iterator[click.Command]:
    """A command, and those in it."""
    yield parent
    if isinstance(parent, click.Group):
        context = click.Context(parent)
        for name in parent.list_commands(context):
            yield from commands(parent.get_command(context, name) or parent)


def test_the_variables_of_options_are_those_that_the_command_line_reads() -> None:
    options = {
        parameter.envvar: parameter.opts[0]
        for command in commands(cli)
        for parameter in command.params
        if isinstance(parameter.envvar, str)
    }

    assert options
    assert {name: option.split()[-1] for name, option in OF_OPTIONS.items()} == options
    assert not ENVIRONMENT.keys() & OF_OPTIONS.keys()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("METER_SYNC_LEDGR", "METER_SYNC_LEDGER"),
        ("METER_SYNC_SHEDULE", "METER_SYNC_SCHEDULE"),
        ("METER_SYNC_OPENMETER_CONCURENCY", "METER_SYNC_OPENMETER_CONCURRENCY"),
        ("METER_SYNC_CONFIG_FILE", "METER_SYNC_CONFIG"),
        ("METER_SYNC_WEBHOK_PORT", "METER_SYNC_WEBHOOK_PORT"),
    ],
)
def test_a_variable_with_a_slip_is_refused_with_the_nearest_name(name: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(None, {**KEY, name: "8431"}, {})

    assert refused.value.details == (f"{name} is no variable of meter-sync; did you mean {meant}?",)


def test_where_no_name_is_near_none_is_named() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(None, {**KEY, "METER_SYNC_XYZZY": "1"}, {})

    assert refused.value.details == ("METER_SYNC_XYZZY is no variable of meter-sync",)


def test_what_is_known_empty_or_another_programs_is_no_problem() -> None:
    others = {"METER_SYNCED": "1", "STRIPE_DEVICE_NAME": "laptop", "METER_SYNC_NOTHING": " "}

    settings = load(None, {**KEY, **others, **dict.fromkeys(OF_OPTIONS, "1")}, {})

    assert settings.stripe.mode == "sandbox"


def test_what_kubernetes_sets_for_a_service_of_that_name_is_no_problem() -> None:
    """It is in every container beside a Service that is named meter-sync, or meter-sync-webhook."""
    of_kubernetes = {
        "METER_SYNC_SERVICE_HOST": "10.0.0.11",
        "METER_SYNC_SERVICE_PORT": "8431",
        "METER_SYNC_SERVICE_PORT_HTTP": "8431",
        "METER_SYNC_PORT": "tcp://10.0.0.11:8431",
        "METER_SYNC_PORT_8431_TCP": "tcp://10.0.0.11:8431",
        "METER_SYNC_PORT_8431_TCP_PROTO": "tcp",
        "METER_SYNC_PORT_8431_TCP_PORT": "8431",
        "METER_SYNC_PORT_8431_TCP_ADDR": "10.0.0.11",
    }
    another = {name.replace("SYNC_", "SYNC_WEBHOOK_", 1): value for name, value in of_kubernetes.items()}

    assert load(None, {**KEY, **of_kubernetes, **another}, {}).stripe.mode == "sandbox"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('scheduel = "hourly"', "scheduel: is not a setting ({file}); did you mean schedule?"),
        ("[stripe]\nrat = 3", "stripe.rat: is not a setting ({file}); did you mean rate?"),
        ('[stripe]\nledger = "x"', "stripe.ledger: is not a setting ({file}); did you mean ledger?"),
        (
            '[[meters]]\nopenmeter = "m"\nprize = "p"\nprice = "q"',
            "meters.0.prize: is not a setting ({file}); did you mean price?",
        ),
        ("[mapping]\nxyzzy = 1", "mapping.xyzzy: is not a setting ({file})"),
    ],
)
def test_a_key_with_a_slip_is_refused_with_the_nearest_name(tmp_path: Path, toml: str, said: str) -> None:
    file = tmp_path / "meter-sync.toml"
    file.write_text(toml)

    with pytest.raises(ConfigurationError) as refused:
        load(file, KEY, {})

    assert refused.value.details == (said.format(file=file),)
