"""The rows of `[[accounts]]`: what an account has of its own comes before what all have in common."""

from pathlib import Path

import pytest

from meter_sync.config import SECRETS, Configuration, Settings, read
from meter_sync.errors import ConfigurationError

NEEDED = [one for one in SECRETS if one.path in ("stripe.api_key", "openmeter.api_key")]


def configuration(folder: Path, toml: str, **environment: str) -> Configuration:
    file = folder / "meter-sync.toml"
    file.write_text(toml, encoding="utf-8")
    return read(file, environment, {}, SECRETS)


def settings(folder: Path, toml: str, **environment: str) -> dict[str, Settings]:
    """The settings of each account."""
    found = configuration(folder, toml, **environment)
    found.of_the_account(())
    return {one.account: one.settings(NEEDED) for one in found.accounts}


def problems(folder: Path, toml: str, **environment: str) -> str:
    """What is wrong with what all accounts have in common."""
    with pytest.raises(ConfigurationError) as raised:
        configuration(folder, toml, **environment).of_the_account(())
    return raised.value.message


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for name, secret in {"eu": "rk_live_eu", "us": "rk_test_us", "all": "rk_test_all", "om": "om_eu"}.items():
        (tmp_path / name).write_text(secret, encoding="utf-8")
    return tmp_path


def test_an_account_has_its_own_settings_before_the_common_ones(keys: Path) -> None:
    toml = f"""
        [stripe]
        rate = 50
        [mapping]
        subject = "openmeter.customer"
        meter_key = "meter"
        [[meters]]
        product = "prod_1"
        openmeter = "common"
        [[meters]]
        price = "price_2"
        openmeter = "both"
        [[accounts]]
        name = "eu"
        [accounts.stripe]
        api_key_file = "{keys}/eu"
        [accounts.mapping]
        subject = "customer.id"
        [[accounts.meters]]
        product = "prod_1"
        openmeter = "own"
        [[accounts]]
        name = "us"
        [accounts.stripe]
        api_key_file = "{keys}/us"
        rate = 10
        [accounts.brakes]
        held_items = 3
        """
    found = settings(keys, toml)
    eu, us = found["eu"], found["us"]
    assert (eu.account, eu.scope.account, eu.scope.mode, us.scope.mode) == ("eu", "eu", "live", "sandbox")
    assert (eu.stripe.rate, us.stripe.rate) == (50, 10)
    assert (eu.mapping.subject, eu.mapping.meter_key, us.mapping.subject) == (
        "customer.id",
        "meter",
        "openmeter.customer",
    )
    assert [row.openmeter for row in eu.meters] == ["own", "both"]
    assert [row.openmeter for row in us.meters] == ["common", "both"]
    assert (eu.brakes.held_items, us.brakes.held_items) == (Settings().brakes.held_items, 3)


def test_a_key_of_an_accounts_own_comes_before_any_that_is_for_all(keys: Path) -> None:
    """From the environment, from the file, and from systemd: with another account's key it would be billed twice."""
    (keys / "stripe_api_key").write_text("rk_test_all", encoding="utf-8")
    rows = f'[[accounts]]\nname = "eu"\n[accounts.stripe]\napi_key_file = "{keys}/eu"\n[[accounts]]\nname = "us"\n'
    for common, environment in (
        ("", {"STRIPE_API_KEY": "rk_test_all"}),
        ("", {"STRIPE_API_KEY_FILE": str(keys / "all")}),
        (f'[stripe]\napi_key_file = "{keys}/all"\n', {}),
        ("", {"CREDENTIALS_DIRECTORY": str(keys)}),
    ):
        found = settings(keys, common + rows, **environment)
        got = [found[name].stripe.api_key.get_secret_value() for name in ("eu", "us")]
        assert got == ["rk_live_eu", "rk_test_all"], environment


def test_a_credential_of_systemd_may_be_one_accounts(keys: Path) -> None:
    (keys / "stripe_api_key.eu").write_text("rk_test_own", encoding="utf-8")
    rows = '[[accounts]]\nname = "eu"\n[accounts.stripe]\napi_key_file = "/not/for/this/user"\n'
    found = settings(keys, rows, CREDENTIALS_DIRECTORY=str(keys))
    assert found["eu"].stripe.api_key.get_secret_value() == "rk_test_own"


def test_what_systemd_hands_over_for_an_account_comes_before_what_a_variable_has_for_all(keys: Path) -> None:
    (keys / "stripe_api_key.eu").write_text("rk_test_own", encoding="utf-8")
    rows = '[[accounts]]\nname = "eu"\n[[accounts]]\nname = "us"\n'
    for common in ({"STRIPE_API_KEY_FILE": str(keys / "all")}, {"STRIPE_API_KEY": "rk_test_all"}):
        found = settings(keys, rows, CREDENTIALS_DIRECTORY=str(keys), **common)
        got = [found[name].stripe.api_key.get_secret_value() for name in ("eu", "us")]
        assert got == ["rk_test_own", "rk_test_all"], common


SHADOWS = """
    [[accounts]]
    name = "eu"
    [accounts.stripe]
    account = "acct_1Eu"
    [accounts.shadow]
    api_key_file = "{keys}/us"
    [[accounts]]
    name = "real"
    [accounts.stripe]
    account = "acct_1Eu"
    """


def test_a_row_in_shadow_mode_works_with_the_shadows_key_and_books_and_another_row_with_its_own(keys: Path) -> None:
    found = settings(keys, SHADOWS.format(keys=keys), STRIPE_API_KEY="rk_live_all")
    eu, real = found["eu"], found["real"]
    assert (eu.is_shadow, eu.stripe.api_key.get_secret_value(), eu.stripe.account) == (True, "rk_test_us", None)
    assert (eu.account, eu.scope.account, eu.scope.mode, eu.ledger) == ("eu", "eu/shadow", "sandbox", real.ledger)
    assert (real.is_shadow, real.stripe.account, real.scope.account, real.scope.mode) == (
        False,
        "acct_1Eu",
        "real",
        "live",
    )


def test_two_rows_with_one_shadow_are_refused_as_two_of_one_account_are(keys: Path) -> None:
    rows = SHADOWS.format(keys=keys) + f'[accounts.shadow]\napi_key_file = "{keys}/us"\n'
    assert "eu and real are of one Stripe key" in problems(keys, rows, STRIPE_API_KEY="rk_live_all")


def test_a_shadows_key_that_is_handed_over_for_a_row_without_a_shadow_keeps_that_row_from_running(keys: Path) -> None:
    (keys / "shadow_api_key.eu").write_text("rk_test_us", encoding="utf-8")
    found = configuration(
        keys, '[[accounts]]\nname = "eu"\n', CREDENTIALS_DIRECTORY=str(keys), STRIPE_API_KEY="rk_test_1"
    )
    with pytest.raises(ConfigurationError, match="a key for shadow mode is handed over"):
        found.accounts[0].settings(NEEDED)


def test_a_common_key_is_not_sent_to_another_server_of_one_account(keys: Path) -> None:
    rows = '[[accounts]]\nname = "eu"\n[accounts.openmeter]\nurl = "https://openmeter.example"\n'
    found = settings(keys, rows, STRIPE_API_KEY="rk_test_all", OPENMETER_API_KEY="om_all")
    assert (found["eu"].openmeter.url, found["eu"].openmeter.api_key) == ("https://openmeter.example", None)
    own = rows + f'api_key_file = "{keys}/om"\n'
    key = settings(keys, own, STRIPE_API_KEY="rk_test_all", OPENMETER_API_KEY="om_all")["eu"].openmeter.api_key
    assert key is not None
    assert key.get_secret_value() == "om_eu"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("[[accounts]]\n[accounts.stripe]\nrate = 1\n", "a name is missing"),
        ('[[accounts]]\nname = "Shop"\n', "'Shop'"),
        ('[[accounts]]\nname = "a/b"\n', "'a/b'"),
        ('[[accounts]]\nname = "eu"\n[[accounts]]\nname = "eu"\n', "two rows have the name eu"),
        ("accounts = 3\n", "must be rows"),
        ('[shadow]\napi_key_file = "/x"\n[[accounts]]\nname = "eu"\n', "[shadow] is for one account"),
        ('[shadow]\napi_key_file = "/x"\n[connect]\nall = true\n', "[shadow] is for one account"),
        ('[[accounts]]\nname = "eu"\n[[accounts]]\nname = "us"\n', "eu and us are of one Stripe key"),
    ],
)
def test_what_is_wrong_with_the_rows_as_such_keeps_all_from_running(tmp_path: Path, rows: str, said: str) -> None:
    assert said in problems(tmp_path, rows, STRIPE_API_KEY="rk_test_all")


def test_a_key_in_a_row_is_refused_and_not_shown(tmp_path: Path) -> None:
    found = configuration(tmp_path, '[[accounts]]\nname = "eu"\n[accounts.stripe]\napi_key = "rk_test_secret"\n')
    with pytest.raises(ConfigurationError) as raised:
        found.accounts[0].settings(NEEDED)
    assert "[[accounts]] eu: stripe.api_key: a key does not belong into" in raised.value.message
    assert "rk_test_secret" not in raised.value.message


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('[[accounts]]\nname = "eu"\nschedule = "daily"\n', "schedule: is not a setting of an account"),
        ('[[accounts]]\nname = "eu"\nmapings = {}\n', "did you mean mapping?"),
        ('[[accounts]]\nname = "eu"\nstripe = 3\n', "stripe"),
        ('[[accounts]]\nname = "eu"\nmeters = 3\n', "meters"),
    ],
)
def test_what_is_wrong_with_one_row_is_said_of_that_account(tmp_path: Path, rows: str, said: str) -> None:
    found = configuration(tmp_path, rows + '[[accounts]]\nname = "us"\n', STRIPE_API_KEY="rk_test_all")
    eu, us = found.accounts
    with pytest.raises(ConfigurationError) as raised:
        eu.settings(NEEDED)
    assert "[[accounts]] eu:" in raised.value.message
    assert said in raised.value.message
    assert us.settings(NEEDED).account == "us"
