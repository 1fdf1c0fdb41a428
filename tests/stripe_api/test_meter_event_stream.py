"""Where the meter event stream is."""

import pytest

from meter_sync.stripe_api.meter_event_stream import stream_base


@pytest.mark.parametrize(
    ("api_base", "found"),
    [
        ("https://api.stripe.com", "https://meter-events.stripe.com"),
        ("https://api.stripe.com:443", "https://meter-events.stripe.com"),
        ("https://stripe.example.com/gateway", "https://stripe.example.com/gateway"),
        ("https://api.stripe.com.example.com", "https://api.stripe.com.example.com"),
        ("http://127.0.0.1:12111", "http://127.0.0.1:12111"),
    ],
)
def test_the_stream_has_a_host_of_its_own_at_stripe_and_nowhere_else(api_base: str, found: str) -> None:
    assert stream_base(api_base) == found
