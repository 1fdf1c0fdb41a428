"""What is said of security is so: the table of permissions, and SECURITY.md."""

import re

import pytest

from meter_sync.config import OpenMeterSettings, StripeSettings
from tests.support.documents import document, section, table
from tests.support.permissions import FOR_SETUP, PERMISSIONS

SECURITY = document("SECURITY.md")
HEAD = "| in the Dashboard | give | in messages | what for | without it |"


def rows() -> list[list[str]]:
    """The cells of the table of permissions."""
    return table(section("docs/security.md", "The key for Stripe"), HEAD)


def test_the_table_names_exactly_the_permissions_that_are_needed() -> None:
    shown = [(row, access, name) for row, access, name, _, _ in rows()]

    assert shown == [(one.row, one.access, f"`rak_{one.in_messages}`") for one in PERMISSIONS]


def test_the_table_says_which_of_them_are_optional_and_what_is_logged() -> None:
    logged = {name: set(re.findall(r"`(\w+_unread)`", without)) for _, _, name, _, without in rows()}

    assert logged == {f"`rak_{one.in_messages}`": set(one.unread) for one in PERMISSIONS}


def test_the_table_of_the_key_for_setup_names_what_it_needs() -> None:
    rows = table(
        section("docs/security.md", "The key for setup"), "| in the Dashboard | give | in messages | what for |"
    )

    assert [row[:3] for row in rows] == [[one.row, one.access, f"`rak_{one.in_messages}`"] for one in FOR_SETUP]


def test_what_is_said_of_plain_http_is_a_setting_of_openmeter_only() -> None:
    assert "openmeter.allow_plain_http = true" in SECURITY
    assert "openmeter.allow_plain_http" in document("docs/security.md")
    assert "openmeter.allow_plain_http" in document("docs/configuration.md")
    assert "allow_plain_http" in OpenMeterSettings.model_fields
    assert "allow_plain_http" not in StripeSettings.model_fields


def test_nobody_is_invented() -> None:
    """No address, telephone or person that the project does not have."""
    assert not re.findall(r"https?://|[\w.]+@[\w.]+|\+\d{6,}", SECURITY)


@pytest.mark.parametrize("word", ["restricted key", "SSL_CERT_FILE", "0600", "private vulnerability reporting"])
def test_what_somebody_looks_for_is_there(word: str) -> None:
    assert word in SECURITY
