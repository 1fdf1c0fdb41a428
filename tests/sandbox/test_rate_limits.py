"""The embedded Stripe's rate limits, of which meter events have their own."""

from meter_sync.sandbox import RateLimits, Sandbox, StripeWorld
from meter_sync.sandbox.stripe.protocol.rate_limits import METER_EVENTS, RateLimiter

from .metering import Meter
from .wire import StripeWire


def test_requests_above_a_limit_are_refused_with_its_reason(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.rate_limits = RateLimits(overall_per_second=3, endpoint_per_second=2)
    prices = [stripe("GET", "/v1/prices") for _ in range(3)]
    assert [reply.status for reply in prices] == [200, 200, 429]
    assert prices[2].headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
    assert prices[2].error["code"] == "rate_limit"
    others = [stripe("GET", path) for path in ("/v1/account", "/v1/customers")]
    assert [reply.status for reply in others] == [200, 429]
    assert others[1].headers["Stripe-Rate-Limited-Reason"] == "global-rate"


def test_meter_events_are_limited_by_a_rate_of_their_own(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    sandbox.rate_limits = RateLimits(meter_events_per_second=0)
    refused = usage.send(5, identifier="once")
    assert (refused.status, refused.error["code"]) == (429, "rate_limit")
    assert refused.headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
    assert usage.stripe("GET", "/v1/account").status == 200
    # What the limiter refuses leaves nothing behind.
    sandbox.rate_limits = None
    assert usage.upcoming() == 0
    assert usage.send(5, identifier="once").status == 200


def test_the_other_limits_do_not_hold_meter_events_back_nor_do_these_use_them_up(
    sandbox: Sandbox, metered: Meter
) -> None:
    usage = metered()
    sandbox.rate_limits = RateLimits(overall_per_second=0, endpoint_per_second=0, meter_events_per_second=3)
    assert usage.stripe("GET", "/v1/account").status == 429
    assert [usage.send(1).status for _ in range(3)] == [200, 200, 200]
    sandbox.rate_limits = RateLimits(overall_per_second=1, endpoint_per_second=1, meter_events_per_second=3)
    assert usage.stripe("GET", "/v1/account").status == 200


def test_adjustments_and_summaries_are_limited_as_every_other_endpoint(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    usage.send(1, identifier="once")
    sandbox.rate_limits = RateLimits(endpoint_per_second=0)
    assert [usage.cancel("once").status, usage.summaries().status] == [429, 429]


def test_no_more_meter_events_pass_in_a_second_than_their_rate() -> None:
    limiter, limits = RateLimiter(), RateLimits(meter_events_per_second=2)
    found = [limiter.reason_to_refuse(limits, METER_EVENTS, ["acct_1"]) for _ in range(3)]
    assert found == [None, None, "endpoint-rate"]


def test_a_request_for_a_connected_account_counts_for_it_and_for_its_platform(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    one, two, other = sandbox.connect_account(), sandbox.connect_account(), sandbox.add_account()
    sandbox.rate_limits = RateLimits(overall_per_second=3, endpoint_per_second=2)

    def status(path: str, connected: StripeWorld | None = None, key: str | None = None) -> int:
        headers = {} if connected is None else {"Stripe-Account": connected.account}
        return stripe("GET", path, headers=headers, key=key).status

    assert [status("/v1/prices", one), status("/v1/prices", two)] == [200, 200]
    # Neither has used up its own limit, but their platform has.
    assert [status("/v1/prices", one), status("/v1/prices")] == [429, 429]
    assert [status("/v1/customers"), status("/v1/products", two)] == [200, 429]
    assert [status("/v1/prices", key=other.key) for _ in range(3)] == [200, 200, 429]


def test_an_account_that_has_used_up_its_limit_is_closed_to_its_platform_too(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    connected = sandbox.connect_account()
    connected.keys["sk_test_theirs"] = None
    sandbox.rate_limits = RateLimits(endpoint_per_second=1)
    assert stripe("GET", "/v1/prices", key="sk_test_theirs").status == 200
    assert stripe("GET", "/v1/prices", headers={"Stripe-Account": connected.account}).status == 429
    assert stripe("GET", "/v1/prices").status == 200


def test_the_limits_of_a_connected_account_hold_for_whoever_asks() -> None:
    limiter, limits = RateLimiter(), RateLimits(overall_per_second=2)
    found = [limiter.reason_to_refuse(limits, "GET", asked) for asked in (["a", "b"], ["c", "b"], ["d", "b"], ["a"])]
    assert found == [None, None, "global-rate", None]
    # What the limiter refuses counts for nobody.
    assert [limiter.reason_to_refuse(limits, "GET", ["d"]) for _ in range(2)] == [None, None]
