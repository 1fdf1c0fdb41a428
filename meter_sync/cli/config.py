"""`meter-sync config`: every setting in effect, and where it came from; it asks no server and writes nothing."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from meter_sync.cli.globals import Globals
from meter_sync.cli.options import output
from meter_sync.cli.printing import Column, Row, print_csv, print_error, print_json, print_table, printable
from meter_sync.errors import MeterSyncError

if TYPE_CHECKING:
    from meter_sync.config import Configuration, Origin, Settings

_MASKED = "********"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A setting, or an option that has a variable, as it is shown."""

    name: str
    value: Any
    source: "Origin"


@click.group()
def config() -> None:
    """Show every setting in effect and where it comes from, or check them.

    Asks no server, writes nothing and needs no key.
    """


@config.command()
@output
@click.pass_context
def show(context: click.Context, output: str) -> None:
    """Show every setting, its value in effect, and where it came from: a secret is never shown.

    Commands read the same from the same working directory, as the same user and with the same environment.
    """
    from meter_sync.config import SECRETS, usual_places

    options: Globals = context.obj
    options.start_logging()
    configuration = options.read_configuration(SECRETS)
    try:
        settings = options.in_effect(configuration, needed=())
    except MeterSyncError as error:
        _end_with(error, output, {"file": _file(configuration), "settings": []})
    shown = [*_options(context, configuration), *_settings(configuration, settings)]
    rows = [{"name": one.name, "value": one.value, "source": asdict(one.source)} for one in shown]
    places = [str(place) for place in usual_places()]
    if output == "json":
        print_json({**_in_effect(configuration, settings), "places": places, "settings": rows})
    elif output == "csv":
        print_csv(("name", "value", "source_kind", "source_name"), rows)
    else:
        columns = [Column("setting"), Column("value"), Column("from")]
        print_table(options, columns, [Row((one.name, _cell(one.value), _in_words(one.source))) for one in shown])
        if configuration.file is None:
            click.echo(printable(f"No configuration file was found; looked for {', '.join(places)}."))


@config.command()
@output
@click.pass_obj
def check(options: Globals, output: str) -> None:
    """Check every setting and name all problems at once, with exit code 78; or say that all is well.

    Checks what `run` needs, and the secret of webhooks where one is configured.
    """
    from meter_sync.config import SECRETS, WEBHOOK_SECRET, needed

    options.start_logging()
    configuration = options.read_configuration(SECRETS)
    wanted = needed(for_webhook=configuration.is_there(WEBHOOK_SECRET))
    try:
        settings = options.checked(configuration, wanted)
    except MeterSyncError as error:
        document = {"file": _file(configuration), "problems": list(error.details)}
        _end_with(error, output, document)
    if output == "json":
        print_json({**_in_effect(configuration, settings), "problems": []})
    elif output == "csv":
        print_csv(("problem",), [])
    else:
        file = configuration.file or "none was found"
        names = ", ".join(one.account for one in configuration.accounts)
        whose = f"Accounts: {names}." if names else f"Key: {settings.stripe.mode} mode."
        said = f"All is well. Configuration file: {file}. Ledger: {settings.ledger}. {whose}"
        click.echo(printable(said))


def _end_with(error: MeterSyncError, output: str, document: Mapping[str, Any]) -> NoReturn:
    print_error(error)
    if output == "json":
        print_json(document, error)
    elif output == "csv" and "problems" in document:
        print_csv(("problem",), [{"problem": said} for said in document["problems"]])
    sys.exit(error.exit_code)


def _in_effect(configuration: "Configuration", settings: "Settings") -> dict[str, str | None]:
    return {"file": _file(configuration), "ledger": str(settings.ledger)}


def _file(configuration: "Configuration") -> str | None:
    return str(configuration.file) if configuration.file else None


def _cell(value: Any) -> str:
    if value is None or value == []:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _in_words(source: "Origin") -> str:
    if source.kind == "credentials":
        return f"{source.name} (systemd's credentials)"
    return source.name or source.kind


def _settings(configuration: "Configuration", settings: "Settings") -> Iterator[_Shown]:
    from meter_sync.config import MASKED, SECRETS

    values = settings.model_dump(mode="json")
    secrets = {*MASKED, *(one.path for one in SECRETS)}
    rows = [row.model_dump(mode="json", exclude_unset=True) for row in settings.meters]
    key = settings.stripe.api_key.get_secret_value()
    by_the_key = {"stripe.rate": settings.stripe.overall_rate, "stripe.meter_event_rate": settings.stripe.event_rate}
    for name, origin in configuration.origins.items():
        section, _, setting = name.rpartition(".")
        value = rows if name == "meters" else (values[section] if section else values)[setting]
        if name in secrets:
            value = _MASKED if value else None
        elif value is None and key:
            value = by_the_key.get(name)
        yield _Shown(name, value, origin)


def _options(context: click.Context, configuration: "Configuration") -> Iterator[_Shown]:
    """Yield the options that have a variable: those of this command, and what the environment has for others."""
    from meter_sync.config import DEFAULT, OF_OPTIONS, Origin

    seen = set[str]()
    for one in (context.find_root(), context):
        for parameter in one.command.params:
            if parameter.name is None or not isinstance(parameter.envvar, str):
                continue
            seen.add(parameter.envvar)
            given = {
                ParameterSource.COMMANDLINE: Origin("option", parameter.opts[0]),
                ParameterSource.ENVIRONMENT: Origin("environment", parameter.envvar),
            }
            origin = given.get(one.get_parameter_source(parameter.name) or ParameterSource.DEFAULT, DEFAULT)
            value = _file(configuration) if parameter.opts[0] == "--config" else one.params[parameter.name]
            yield _Shown(parameter.opts[0], value, origin)
    for variable, option in OF_OPTIONS.items():
        value = os.environ.get(variable, "").strip()
        if value and variable not in seen:
            yield _Shown(option, value, Origin("environment", variable))
