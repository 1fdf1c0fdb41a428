"""The README says what is so."""

import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from meter_sync.cli import COMMANDS, cli
from meter_sync.cli.run.command import run
from meter_sync.cli.verify.command import verify
from meter_sync.config import ENVIRONMENT, load
from meter_sync.core.outcomes import ExitCode, Reason
from meter_sync.core.telling.comparison import Explanation

ROOT = Path(__file__).parents[2]
README = ROOT.joinpath("README.md").read_text(encoding="utf-8")


def help_of(command: click.Command) -> str:
    return command.get_help(click.Context(command, info_name=command.name))


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_options_table_and_the_help_of_run_name_the_same_options() -> None:
    section = README.split("## `meter-sync run`")[1].split("### Exit codes")[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("| `-"))

    assert options_in(table) == options_in(help_of(run)) - {"--help"}


def test_the_global_options_are_those_of_the_help() -> None:
    section = README.split("## `meter-sync run`")[1].split("### Exit codes")[0]

    assert options_in(help_of(cli)) <= options_in(section)


def test_every_command_of_the_readme_exists_with_its_options() -> None:
    shown = [
        line.split("#")[0].split()
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("meter-sync ")
    ]
    assert shown
    for words in shown:
        assert words[1] in COMMANDS
        command = cli.get_command(click.Context(cli), words[1])
        assert command
        assert options_in(" ".join(words[2:])) <= options_in(help_of(command))


def test_the_table_of_exit_codes_is_complete() -> None:
    section = README.split("### Exit codes")[1].split("### Reasons")[0]

    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, flags=re.MULTILINE)} == set(ExitCode)


def test_the_table_of_reasons_is_complete() -> None:
    section = README.split("### Reasons")[1].split("### Brakes")[0]
    first_column = " ".join(re.findall(r"^\| ([^|]*) \|", section, flags=re.MULTILINE))

    assert set(re.findall(r"`([a-z_]+)`", first_column)) == {reason.value for reason in Reason}


def test_the_table_of_settings_names_every_variable_once() -> None:
    table = README.split("| environment | TOML | default |")[1].split("### Mapping")[0]
    named = re.findall(r"`((?:STRIPE|OPENMETER|METER_SYNC)_[A-Z_]+)`", table)

    of_options = {
        parameter.envvar
        for command in (cli, run)
        for parameter in command.params
        if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str)
    }
    assert sorted(named) == sorted({*ENVIRONMENT, *of_options})


def crontab_line() -> str:
    lines = ROOT.joinpath("crontab.example").read_text().splitlines()
    (line,) = [line.split("* * * * ", 1)[1] for line in lines if line.startswith("7 ")]
    return line


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (75, 0), (1, 1), (3, 3), (4, 4), (78, 78)])
def test_the_crontab_line_mails_every_trouble_but_75_and_keeps_its_code(
    tmp_path: Path, code: int, expected: int
) -> None:
    command = tmp_path / "meter-sync"
    command.write_text(f"#!/bin/sh\necho what happened >&2\nexit {code}\n")
    command.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(tmp_path / "log")}

    done = subprocess.run(
        ["/bin/sh", "-c", crontab_line()], env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == expected
    assert done.stderr == ""
    assert done.stdout == ("what happened\n" if expected else "")
    assert (tmp_path / "log").read_text() == "what happened\n"


def test_the_configuration_shown_is_a_valid_one(tmp_path: Path) -> None:
    (shown,) = blocks("toml")
    for name in ("stripe_api_key", "openmeter_api_key"):
        tmp_path.joinpath(name).write_text("rk_live_example")
    file = tmp_path / "meter-sync.toml"
    file.write_text(shown.replace("/etc/meter-sync", str(tmp_path)))

    settings = load(file, {}, {})

    assert settings.stripe.is_live
    assert [row.rounding.value for row in settings.meters] == ["ceiling", "floor"]
    assert len(tomllib.loads(shown)) == 10


def test_the_crontab_example_and_the_unit_run_commands_that_exist() -> None:
    lines = [
        line
        for line in [*ROOT.joinpath("crontab.example").read_text().splitlines(), *"\n".join(blocks("ini")).splitlines()]
        if "meter-sync --" in line
    ]
    assert len(lines) >= 4
    for line in lines:
        words = line.split("meter-sync --", 1)[1].split("2>>")[0].split()
        (name,) = COMMANDS.keys() & set(words)
        command = cli.get_command(click.Context(cli), name)
        assert command
        assert options_in("--" + " ".join(words)) <= options_in(help_of(cli)) | options_in(help_of(command))


def test_the_two_lines_of_a_crontab_stand_together_in_the_example_and_in_the_readme() -> None:
    example = ROOT.joinpath("crontab.example").read_text()
    for line in ("7 * * * * meter-sync", "* * * * * meter-sync"):
        assert f"\n{line}" in example
        assert line in README


@pytest.mark.parametrize("line", ["meter-sync demo", "pytest"])
def test_one_line_sets_up_and_runs(line: str) -> None:
    commands = [text for block in blocks("sh") for text in block.splitlines() if text.startswith("python3 -m venv")]
    (command,) = [command for command in commands if line in command]

    assert command.count("\n") == 0
    assert README.index(command) < README.index("## What a run does")
    assert subprocess.run(["/bin/sh", "-n", "-c", command], check=False).returncode == 0


def test_the_section_of_verify_names_its_options_and_explanations() -> None:
    section = README.split("## `meter-sync verify`")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    options = "\n".join(row for row in rows if row.startswith("| `-"))
    reasons = " ".join(row.split("|")[1] for row in rows if not row.startswith("| `-"))

    assert options_in(options) == options_in(help_of(verify)) - {"--help"}
    assert set(re.findall(r"`([a-z_]+)`", reasons)) == {one.value for one in Explanation}
