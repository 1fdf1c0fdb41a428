"""The file of secrets is added to, whole or not at all, and is its owner's alone."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from meter_sync.errors import ConfigurationError
from meter_sync.setup.secrets_file import SecretsFile

NEW = SecretStr("whsec_new")


@pytest.mark.parametrize("before", ["", "whsec_old\n", "whsec_old", "whsec_a, whsec_b\n"])
def test_what_was_there_stays_and_the_new_one_has_a_line_of_its_own(tmp_path: Path, before: str) -> None:
    path = tmp_path / "secrets"
    path.write_text(before)
    path.chmod(0o644)
    file = SecretsFile(path)
    counted = file.count()
    file.check()

    file.add(NEW)

    text = path.read_text()
    assert text.splitlines()[-1] == "whsec_new"
    assert text.startswith(before)
    assert (file.count(), path.stat().st_mode & 0o777) == (counted + 1, 0o600)
    assert os.listdir(tmp_path) == ["secrets"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "secrets"
    path.symlink_to(tmp_path / "elsewhere" / "secrets")

    SecretsFile(path).add(NEW)

    assert path.is_symlink()
    assert path.read_text() == "whsec_new\n"


@pytest.mark.parametrize("wrong", ["no secret", "no folder", "a folder"])
def test_what_cannot_be_added_to_is_refused_before_anything_is_made(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / ("missing/secrets" if wrong == "no folder" else "secrets")
    if wrong == "no secret":
        path.write_text("sk_live_hidden\n")
    if wrong == "a folder":
        path.mkdir()

    with pytest.raises(ConfigurationError, match="secrets") as refused:
        SecretsFile(path).check()

    assert "hidden" not in refused.value.message


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_text("whsec_old\n")
    file = SecretsFile(path)

    with pytest.raises(UnicodeEncodeError):
        file.add(SecretStr("\ud800"))

    assert path.read_text() == "whsec_old\n"
    assert os.listdir(tmp_path) == ["secrets"]
