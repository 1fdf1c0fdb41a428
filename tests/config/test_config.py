"""What the configuration means."""

from pathlib import Path

import pytest

from meter_sync.config import load
from meter_sync.errors import ConfigurationError


@pytest.mark.parametrize(
    ("key", "rate"),
    [("sk_live_1", 100.0), ("rk_live_1", 100.0), ("sk_test_1", 25.0), ("rk_test_1", 25.0), ("sk_test_live_1", 25.0)],
)
def test_a_sandbox_key_is_slower_than_a_live_one(key: str, rate: float) -> None:
    settings = load(None, {"STRIPE_API_KEY": key}, {})

    assert settings.stripe.overall_rate == rate
    assert settings.stripe.endpoint_rate == 25.0


@pytest.mark.parametrize(("key", "rate"), [("sk_live_1", 1000.0), ("rk_test_1", 25.0)])
def test_meter_events_have_a_rate_of_their_own(key: str, rate: float) -> None:
    assert load(None, {"STRIPE_API_KEY": key}, {}).stripe.event_rate == rate
    environment = {"STRIPE_API_KEY": key, "METER_SYNC_STRIPE_METER_EVENT_RATE": "40"}
    assert load(None, environment, {}).stripe.event_rate == 40.0


@pytest.mark.parametrize(
    ("key", "setting", "may_stream"),
    [
        ("sk_live_1", "", True),
        ("rk_live_1", "auto", True),
        ("sk_live_1", "never", False),
        ("rk_test_1", "auto", False),
        ("sk_test_live_1", "auto", False),
    ],
)
def test_the_meter_event_stream_is_for_live_keys_and_may_be_left_out(key: str, setting: str, may_stream: bool) -> None:
    environment = {"STRIPE_API_KEY": key, "METER_SYNC_STRIPE_METER_EVENT_STREAM": setting}
    assert load(None, environment, {}).stripe.may_stream is may_stream


def test_there_is_no_other_word_for_when_the_stream_is_used() -> None:
    environment = {"STRIPE_API_KEY": "sk_live_1", "METER_SYNC_STRIPE_METER_EVENT_STREAM": "always"}
    with pytest.raises(ConfigurationError, match="METER_SYNC_STRIPE_METER_EVENT_STREAM"):
        load(None, environment, {})


def test_both_rates_are_configurable() -> None:
    environment = {
        "STRIPE_API_KEY": "sk_live_1",
        "METER_SYNC_STRIPE_RATE": "200",
        "METER_SYNC_STRIPE_ENDPOINT_RATE": "50",
    }

    stripe = load(None, environment, {}).stripe

    assert (stripe.overall_rate, stripe.endpoint_rate) == (200.0, 50.0)


@pytest.mark.parametrize(
    "address", ["http://localhost:8888", "http://127.0.0.1:1/base/", "http://[::1]", "https://x.y"]
)
def test_plain_http_is_for_this_machine_only(address: str) -> None:
    assert load(None, {"STRIPE_API_KEY": "sk_test_1", "OPENMETER_URL": address}, {}).openmeter.url == address.rstrip(
        "/"
    )


@pytest.mark.parametrize(
    "address", ["http://10.0.0.1", "http://openmeter", "ftp://127.0.0.1", "openmeter.cloud", "https://"]
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="OPENMETER_URL"):
        load(None, {"STRIPE_API_KEY": "sk_test_1", "OPENMETER_URL": address}, {})


@pytest.mark.parametrize(
    "source", ["", "customer", "customer.name", "customer.metadata.", "price.metadata.x", "openmeter.customers"]
)
def test_a_subject_comes_from_a_known_place(source: str) -> None:
    with pytest.raises(ConfigurationError, match=r"mapping\.subject"):
        load(None, {"STRIPE_API_KEY": "sk_test_1"}, {"mapping": {"subject": source}})


def test_equal_filters_are_equal_however_they_are_written(tmp_path: Path) -> None:
    def filter_of(toml: str) -> object:
        file = tmp_path / "meter-sync.toml"
        file.write_text(f'[[meters]]\nprice = "p"\nopenmeter = "m"\nfilter = {toml}\n')
        return load(file, {"STRIPE_API_KEY": "sk_test_1"}, {}).mapping_rules.rows[0].filter

    assert filter_of('{ b = "x", a = ["2", "1", "2"] }') == filter_of('{ a = ["1", "2"], b = ["x"] }')


def test_a_filter_that_admits_nothing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "meter-sync.toml"
    file.write_text('[[meters]]\nprice = "p"\nopenmeter = "m"\nfilter = { model = [] }\n')

    with pytest.raises(ConfigurationError, match=r"meters\.0\.filter"):
        load(file, {"STRIPE_API_KEY": "sk_test_1"}, {})


def test_no_key_shows_in_a_representation() -> None:
    environment = {
        "STRIPE_API_KEY": "sk_test_hidden",
        "OPENMETER_API_KEY": "om_hidden",
        "STRIPE_WEBHOOK_SECRET": "whsec_hidden",
    }

    settings = load(None, environment, {})

    assert "hidden" not in repr(settings)
    assert "hidden" not in str(settings.model_dump())
    assert "hidden" not in settings.model_dump_json()


@pytest.mark.parametrize("days", ["0", "90", "400"])
def test_history_is_kept_for_some_months_or_for_ever(days: str, tmp_path: Path) -> None:
    assert kept(tmp_path, days) == int(days)


@pytest.mark.parametrize("days", ["1", "89", "-1"])
def test_history_is_not_forgotten_while_runs_may_need_it(days: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"history_days"):
        kept(tmp_path, days)


def kept(folder: Path, days: str) -> int:
    file = folder / "meter-sync.toml"
    file.write_text(f"history_days = {days}\n")
    return load(file, {"STRIPE_API_KEY": "sk_test_1"}, {}).history_days


def test_what_should_be_a_section_is_not_hidden_by_a_variable_of_it(tmp_path: Path) -> None:
    file = tmp_path / "meter-sync.toml"
    file.write_text("stripe = 3\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="stripe: must be a section"):
        load(file, {"STRIPE_API_KEY": "sk_test_1"}, {})
