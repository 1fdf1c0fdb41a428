"""The secrets that webhooks are signed with: where they come from, and who needs them."""

from pathlib import Path

import pytest

from meter_sync.config import load
from meter_sync.errors import ConfigurationError

KEY = {"STRIPE_API_KEY": "sk_test_1"}


def secrets(environment: dict[str, str], file: Path | None = None) -> list[str]:
    settings = load(file, {**KEY, **environment}, {}, for_webhook=True)
    return [secret.get_secret_value() for secret in settings.stripe.webhook_secret]


def toml(folder: Path, text: str) -> Path:
    file = folder / "meter-sync.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    "several", ["whsec_a,whsec_b", " whsec_a whsec_b ", "whsec_a\nwhsec_b\n", "whsec_a, whsec_b,", "whsec_a,b,whsec_a"]
)
def test_several_are_separated_by_commas_or_space(several: str) -> None:
    assert secrets({"STRIPE_WEBHOOK_SECRET": several.replace(",b,", ",whsec_b,")}) == ["whsec_a", "whsec_b"]


def test_a_file_has_one_per_line(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("whsec_new\nwhsec_old\n")

    assert secrets({"STRIPE_WEBHOOK_SECRET_FILE": str(file)}) == ["whsec_new", "whsec_old"]
    config = toml(tmp_path, f'[stripe]\nwebhook_secret_file = "{file}"\n')
    assert secrets({}, config) == ["whsec_new", "whsec_old"]


def test_the_variable_wins_over_the_file_and_the_file_over_the_credential(tmp_path: Path) -> None:
    (tmp_path / "stripe_webhook_secret").write_text("whsec_credential\n")
    (tmp_path / "secrets").write_text("whsec_file\n")
    credential = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    named = {**credential, "STRIPE_WEBHOOK_SECRET_FILE": str(tmp_path / "secrets")}

    assert secrets(credential) == ["whsec_credential"]
    assert secrets(named) == ["whsec_file"]
    assert secrets({**named, "STRIPE_WEBHOOK_SECRET": "whsec_variable"}) == ["whsec_variable"]


def test_only_the_webhook_needs_one(tmp_path: Path) -> None:
    load(None, KEY, {})
    load(None, {**KEY, "STRIPE_WEBHOOK_SECRET_FILE": str(tmp_path / "of another user")}, {})
    load(None, {**KEY, "STRIPE_WEBHOOK_SECRET": "nonsense"}, {})

    with pytest.raises(ConfigurationError, match="STRIPE_WEBHOOK_SECRET") as missing:
        load(None, KEY, {}, for_webhook=True)
    assert missing.value.exit_code == 78


@pytest.mark.parametrize("wrong", ["hidden", "sk_test_hidden", "whsec_a,hidden", "we_hidden"])
def test_what_is_no_webhook_secret_is_refused_without_a_character_of_it(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="whsec_") as refused:
        load(None, {**KEY, "STRIPE_WEBHOOK_SECRET": wrong}, {}, for_webhook=True)

    assert "hidden" not in refused.value.message


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cannot be read"), ("", "no webhook secret"), ("\n,\n", "no webhook")]
)
def test_a_file_without_a_secret_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "secrets"
    if text is not None:
        file.write_text(text)

    with pytest.raises(ConfigurationError, match=said):
        load(None, {**KEY, "STRIPE_WEBHOOK_SECRET_FILE": str(file)}, {}, for_webhook=True)


def test_a_secret_in_the_configuration_file_is_refused(tmp_path: Path) -> None:
    config = toml(tmp_path, '[stripe]\nwebhook_secret = "whsec_hidden"\n')

    for for_webhook in (False, True):
        with pytest.raises(ConfigurationError, match=r"stripe\.webhook_secret_file") as refused:
            load(config, KEY, {}, for_webhook=for_webhook)
        assert "hidden" not in refused.value.message


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    environment = {
        "OPENMETER_URL": "nonsense",
        "OPENMETER_API_KEY_FILE": str(tmp_path / "missing"),
        "METER_SYNC_SCHEDULE": "weekly",
    }

    with pytest.raises(ConfigurationError) as refused:
        load(None, environment, {}, for_webhook=True)

    for name in ("OPENMETER_URL", "missing", "METER_SYNC_SCHEDULE", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"):
        assert name in refused.value.message
