"""The tables of the documents say what the code says."""

import ast
import re
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import click
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from meter_sync import errors
from meter_sync.cli import cli
from meter_sync.cli.doctor import doctor
from meter_sync.cli.history import history
from meter_sync.cli.ledger import ledger
from meter_sync.cli.run import run
from meter_sync.cli.schedule import schedule
from meter_sync.cli.setup import setup
from meter_sync.cli.verify import verify
from meter_sync.cli.worker import worker
from meter_sync.config import ENVIRONMENT, Settings, load
from meter_sync.config.settings import BrakeSettings, MeterSettings
from meter_sync.core.outcomes import LIFTABLE, ExitCode, Outcome, Reason
from meter_sync.core.telling.comparison import Explanation
from meter_sync.doctor.examination import SECTIONS
from meter_sync.doctor.finding import PLACES
from meter_sync.doctor.permissions import PERMISSIONS
from meter_sync.ledger.checks import CHECKS
from tests.support.documents import ROOT, anchors, blocks, code_spans, document, names_in, options_in, section, table

OPTIONS = "| option | meaning |"
SETTINGS = "| environment | TOML | default | what it is |"
SECRETS = {
    "stripe.api_key",
    "stripe.setup_api_key",
    "stripe.webhook_secret",
    "openmeter.api_key",
    "shadow.api_key",
    "ledger_password",
}
"""They are refused in the TOML file."""
_OF_SETUP = {"price": "Options of `setup price`", "webhook": "The webhook", "shadow": "A shadow account"}
"""Where the options of each stand in docs/setup.md."""


def options_of(command: click.Command) -> set[str]:
    """The options of a command's help."""
    return options_in(command.get_help(click.Context(command, info_name=command.name))) - {"--help"}


@pytest.mark.parametrize("command", [run, verify, history, doctor], ids=lambda command: str(command.name))
def test_the_options_are_those_of_the_help(command: click.Command) -> None:
    rows = table(document(f"docs/{command.name}.md"), OPTIONS)

    assert options_in(" ".join(row[0] for row in rows)) == options_of(command)


def test_the_options_of_workers_are_those_of_the_help() -> None:
    rows = table(document("docs/workers.md"), OPTIONS)

    assert options_in(" ".join(row[0] for row in rows)) == options_of(worker)


@pytest.mark.parametrize("command", setup.commands.values(), ids=lambda command: str(command.name))
def test_the_options_of_setup_are_those_of_the_help(command: click.Command) -> None:
    heading = _OF_SETUP[str(command.name)]
    rows = table(section("docs/setup.md", heading), OPTIONS)

    assert options_in(" ".join(row[0] for row in rows)) == options_of(command)


def test_the_options_and_checks_of_ledger_are_those_of_the_code() -> None:
    page = "docs/ledger.md"
    options = table(section(page, "Copy"), OPTIONS)
    checks = table(section(page, "Check"), "| check | what must be true |")

    assert options_in(" ".join(row[0] for row in options)) == options_of(ledger.commands["copy"])
    assert [name for row in checks for name in names_in(row[0])] == ["database", "values", "books", *CHECKS]


def test_what_is_said_of_the_exit_codes_of_setup_is_of_exit_codes() -> None:
    rows = table(document("docs/setup.md"), "| code | when |")

    assert [int(row[0]) for row in rows] == sorted(ExitCode)


def test_the_options_of_schedules_are_those_of_the_help() -> None:
    rows = table(section("docs/operation.md", "Schedule"), OPTIONS)

    named = {option: " ".join(row[1:]).partition(":")[0] for row in rows for option in options_in(row[0])}
    for kind, word in (("crontab", "cron"), ("systemd", "systemd"), ("kubernetes", "Kubernetes")):
        of_all = {"--write", "--force"}
        assert of_all | {one for one, what in named.items() if word in what} == options_of(schedule.commands[kind])


def test_the_global_options_are_those_of_the_help() -> None:
    assert options_of(cli) <= options_in(section("docs/run.md", "Options"))


def test_the_sections_and_checks_of_doctor_are_complete() -> None:
    rows = table(document("docs/doctor.md"), "| section | ids | what is checked |")
    (only,) = [option for option in doctor.params if option.name == "only"]

    assert [name for row in rows for name in names_in(row[0])] == list(SECTIONS)
    assert sorted(id for row in rows for id in names_in(row[1])) == sorted(PLACES)
    assert isinstance(only.type, click.Choice)
    assert list(only.type.choices) == list(SECTIONS)


def test_where_doctor_says_to_look_there_is_something() -> None:
    for place in PLACES.values():
        page, _, anchor = place.partition("#")
        assert anchor in anchors(ROOT / page), place


def test_doctor_tries_the_permissions_of_the_table_and_names_each_as_it_does() -> None:
    rows = table(document("docs/security.md"), "| in the Dashboard | give | in messages | what for | without it |")

    assert [(row[0], row[1], *names_in(row[2])) for row in rows] == [
        (one.shown, one.access, one.in_messages) for one in PERMISSIONS
    ]


def test_the_brakes_that_can_be_lifted_are_named_with_the_option() -> None:
    (allow,) = [row[1] for row in table(document("docs/run.md"), OPTIONS) if "--allow" in row[0]]

    assert names_in(allow) == [reason.value for reason in LIFTABLE]


def test_the_exit_codes_are_complete() -> None:
    rows = table(document("docs/run.md"), "| code | meaning | what to do |")

    assert [int(row[0]) for row in rows] == sorted(ExitCode)


def test_the_outcomes_are_complete() -> None:
    (outcome,) = [row[1] for row in table(document("docs/run.md"), "| key | what it says |") if row[0] == "`outcome`"]

    assert set(names_in(outcome)) - {"report"} == {one.value for one in Outcome}


def test_the_reasons_are_complete() -> None:
    rows = table(document("docs/run.md"), "| reason | what happened |")

    assert sorted(names_in(" ".join(row[0] for row in rows))) == sorted(reason.value for reason in Reason)


def test_the_reasons_of_a_mismatch_are_complete() -> None:
    rows = table(document("docs/verify.md"), "| reason of a mismatch | what happened |")

    assert sorted(names_in(" ".join(row[0] for row in rows))) == sorted(one.value for one in Explanation)


def test_every_brake_is_described_with_its_thresholds() -> None:
    rows = table(document("docs/run.md"), "| brake | holds | thresholds under `[brakes]` |")

    assert set(names_in(" ".join(row[0] for row in rows))) == {reason.value for reason in LIFTABLE}
    assert set(names_in(" ".join(row[2] for row in rows))) == set(BrakeSettings.model_fields)


def raised_errors() -> Iterator[tuple[str, ExitCode]]:
    """Each code of an error that can end a run, and its exit code."""
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.MeterSyncError)
    }
    yield from ((kind.code, kind.exit_code) for kind in kinds.values())
    for path in ROOT.joinpath("meter_sync").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                for keyword in node.keywords:
                    if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                        yield str(keyword.value.value), kinds[node.func.id].exit_code
            if isinstance(node, ast.ClassDef) and node.name not in kinds:
                parents = [kinds[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in kinds]
                for part in node.body:
                    if parents and isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "code":
                        yield ast.literal_eval(part.value), parents[0].exit_code


def test_the_errors_that_end_a_run_are_complete() -> None:
    rows = table(document("docs/run.md"), "| code | exit code | what to do |")

    shown = {(name, int(row[1])) for row in rows for name in names_in(row[0])}

    assert shown == {(code, int(exit_code)) for code, exit_code in raised_errors()}


def test_the_warnings_and_errors_of_the_log_are_complete() -> None:
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in ROOT.joinpath("meter_sync").rglob("*.py")
        if "sandbox" not in path.parts
    )
    logged = re.findall(r'(?:log\.(?:warning|error)|write_event)\(\s*"(\w+)"|"(\w+_unread)"', source)
    rows = table(document("docs/operation.md"), "| event | what happened |")

    assert sorted(names_in(" ".join(row[0] for row in rows))) == sorted({"".join(names) for names in logged})


def test_the_settings_name_every_variable_once() -> None:
    rows = table(document("docs/configuration.md"), SETTINGS)
    named = re.findall(r"`([A-Z_]+)`", " ".join(row[0] for row in rows))

    of_options = {
        parameter.envvar
        for command in (cli, run)
        for parameter in command.params
        if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str)
    }
    assert sorted(named) == sorted({*ENVIRONMENT, *of_options})


def settings_in(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Each setting of the TOML file but `[[meters]]`, by its full name."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_in(field.annotation, f"{name}.")
        elif name != "meters" and prefix + name not in SECRETS:
            yield prefix + name, field


def written(default: object) -> str:
    """A default as a document writes it."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, str):
        return f"`{default}`"
    return f"{Decimal(str(default)).normalize():f}"


def test_the_settings_name_every_key_once_with_its_default() -> None:
    rows = table(document("docs/configuration.md"), SETTINGS)
    shown: dict[str, str] = {}
    for _, keys, default, _ in rows:
        if names := names_in(keys):
            shown.update(zip(names, default.split(", ") if len(names) > 1 else [default], strict=True))

    fields = dict(settings_in(Settings))

    assert sorted(shown) == sorted(fields)
    for name, field in fields.items():
        if isinstance(field.default, str | int | float | Decimal):
            assert shown[name] == written(field.default), name


def test_the_keys_of_a_meters_row_are_complete_with_their_defaults() -> None:
    rows = table(document("docs/configuration.md"), "| key | default | what it is |")

    assert {name for row in rows for name in names_in(row[0])} == set(MeterSettings.model_fields)
    for keys, default, _ in rows:
        field = MeterSettings.model_fields[names_in(keys)[0]]
        if isinstance(field.default, str | bool | Decimal):
            assert default == written(field.default)


def test_the_configuration_shown_is_a_valid_one(tmp_path: Path) -> None:
    (shown,) = blocks("docs/configuration.md", "toml")
    for name in ("stripe_api_key", "openmeter_api_key"):
        tmp_path.joinpath(name).write_text("rk_live_example")
    file = tmp_path / "meter-sync.toml"
    file.write_text(shown.replace("/etc/meter-sync", str(tmp_path)))

    settings = load(file, {}, {})

    assert settings.stripe.is_live
    assert [row.rounding.value for row in settings.meters] == ["ceiling", "floor"]
    assert len(tomllib.loads(shown)) == 13


def test_what_is_said_of_subjects_is_what_can_be_configured() -> None:
    rows = table(document("docs/mapping.md"), "| `mapping.subject` | the subject is |")
    for row in rows:
        subject = row[0].strip("`")
        settings = load(None, {"STRIPE_API_KEY": "rk_test_example", "METER_SYNC_SUBJECT": subject}, {})
        assert settings.mapping.subject == subject
    assert len(rows) == 5


def test_the_options_without_a_variable_are_as_said() -> None:
    """Nothing left behind in an environment can freeze, unbrake or narrow the billing."""
    (line,) = [
        line for line in document("docs/configuration.md").split("\n\n") if "and the selectors have no variable" in line
    ]
    for option in options_in(line):
        (found,) = [parameter for parameter in run.params if option in parameter.opts]
        assert found.envvar is None


def test_the_proxy_variables_are_those_that_are_read() -> None:
    rows = table(document("docs/operation.md"), "| variable | what it does |")
    named = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows))

    assert {"HTTPS_PROXY", "https_proxy", "NO_PROXY", "SSL_CERT_FILE"} <= set(named)
    assert "ALL_PROXY" in code_spans("docs/operation.md")
