"""Where the servers are: keys travel encrypted, and addresses have nothing secret in them."""

from pathlib import Path
from typing import Any

import pytest

from meter_sync.config import Settings, load
from meter_sync.errors import ConfigurationError

KEY = {"STRIPE_API_KEY": "sk_test_1"}
PRIVATE = "http://openmeter.internal:8888"
ADDRESSES = ("OPENMETER_URL", "STRIPE_API_BASE")


def settings(tmp_path: Path, toml: str, **environment: str) -> Settings:
    file = tmp_path / "meter-sync.toml"
    file.write_text(toml)
    return load(file, {**KEY, **environment}, {})


def test_plain_http_into_a_private_network_is_for_openmeter_and_must_be_allowed(tmp_path: Path) -> None:
    allowed = "[openmeter]\nallow_plain_http = true\n"

    assert settings(tmp_path, allowed, OPENMETER_URL=PRIVATE).openmeter.url == PRIVATE
    assert settings(tmp_path, f'{allowed}url = "{PRIVATE}"\n').openmeter.url == PRIVATE
    for refused in ("", "[openmeter]\nallow_plain_http = false\n"):
        with pytest.raises(ConfigurationError, match=r"OPENMETER_URL: must begin with https.*allow_plain_http"):
            settings(tmp_path, refused, OPENMETER_URL=PRIVATE)


def test_nothing_allows_plain_http_to_stripe(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="STRIPE_API_BASE: must begin with https"):
        settings(tmp_path, "[openmeter]\nallow_plain_http = true\n", STRIPE_API_BASE="http://stripe.internal")
    with pytest.raises(ConfigurationError, match=r"stripe\.allow_plain_http: is not a setting"):
        settings(tmp_path, "[stripe]\nallow_plain_http = true\n")


@pytest.mark.parametrize("section", ["stripe", "openmeter"])
@pytest.mark.parametrize("name", ["verify", "verify_tls", "verify_ssl_certs", "insecure", "tls", "ca_file"])
def test_no_setting_is_about_verifying_certificates(tmp_path: Path, section: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a setting"):
        settings(tmp_path, f"[{section}]\n{name} = false\n")


@pytest.mark.parametrize("variable", ADDRESSES)
@pytest.mark.parametrize(
    "address",
    [
        "https://user:hidden@example.com",
        "https://hidden@example.com",
        "https://:hidden@example.com",
        "https://user:hidden",
        "https://example.com/?token=hidden",
        "https://example.com/#hidden",
        "https://user:hidden\u2100@example.com",
        "https://[hidden",
    ],
)
def test_an_address_has_no_secret_in_it_and_none_is_said(variable: str, address: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable}: must ") as refused:
        load(None, {**KEY, variable: address}, {})

    assert "hidden" not in refused.value.message


@pytest.mark.parametrize("key", ["om hidden", "om_hidden\nX-Other: 1", "om_hidden\r", "om_hiddén", "om_\x00hidden"])
def test_a_key_that_no_header_can_have_is_refused_and_not_said(tmp_path: Path, key: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(f"{key}.".encode())
    environments: tuple[dict[str, Any], ...] = (
        {"OPENMETER_API_KEY": f"{key}."},
        {"OPENMETER_API_KEY_FILE": str(file)},
    )
    for environment in environments:
        with pytest.raises(ConfigurationError, match="OPENMETER_API_KEY is no key") as refused:
            load(None, {**KEY, **environment}, {})
        assert "hidd" not in refused.value.message


def test_an_openmeter_without_a_key_is_a_server_of_ones_own() -> None:
    assert load(None, KEY, {}).openmeter.api_key is None
