"""Restricted keys: what each may do, and what Stripe says to one that may not."""

import re

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.api import ENDPOINTS
from meter_sync.sandbox.stripe.endpoints.endpoint import Endpoint
from meter_sync.sandbox.stripe.endpoints.meter_event_stream import STREAM_PATH
from meter_sync.sandbox.stripe.protocol.permissions import EVERY_PERMISSION

from .instants import NOW, unix
from .wire import StripeWire

KEY, SECRET_KEY = "rk_live_restricted", "sk_live_secret"
"""Of live mode, since the meter event stream has no other."""
IN_MESSAGES = {
    "accounts:read": "rak_accounts_kyc_basic_read",
    "billing_meters:read": "rak_billing_meter_read",
    "billing_meters:write": "rak_billing_meter_write",
    "connected_accounts:read": "rak_connected_account_read",
    "customers:read": "rak_customer_read",
    "customers:write": "rak_customer_write",
    "events:read": "rak_event_read",
    "invoices:read": "rak_invoice_read",
    "meter_events:read": "rak_billing_meter_event_read",
    "meter_events:write": "rak_billing_meter_event_write",
    "prices:read": "rak_plan_read",
    "prices:write": "rak_plan_write",
    "products:read": "rak_product_read",
    "products:write": "rak_product_write",
    "subscription_schedules:read": "rak_subscription_schedule_read",
    "subscription_schedules:write": "rak_subscription_schedule_write",
    "subscriptions:read": "rak_subscription_read",
    "subscriptions:write": "rak_subscription_write",
    "test_clocks:read": "rak_billing_clock_read",
    "test_clocks:write": "rak_billing_clock_write",
    "usage_records:read": "rak_usage_record_read",
    "usage_records:write": "rak_usage_record_write",
    "webhook_endpoints:read": "rak_webhook_read",
    "webhook_endpoints:write": "rak_webhook_write",
}
"""What endpoints need, and how Stripe calls it."""


def asked(sandbox: Sandbox, stripe: StripeWire, endpoint: Endpoint, key: str) -> tuple[int, str]:
    """Ask an endpoint for something that is not there; return the status and what is said.

    An account must be there: that one is none is answered with 403, too.
    """
    method, path = endpoint.route.split()
    name = sandbox.connect_account().account if path.startswith("/v1/accounts/") else "none"
    sent = sandbox.stripe.event_sessions.open(key, unix(NOW)).token if path == STREAM_PATH else key
    reply = stripe(method, path.replace("{}", name), key=sent)
    return reply.status, "" if reply.status == 200 else reply.error["message"]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.route)
def test_every_endpoint_needs_its_own_permission_and_no_other(
    sandbox: Sandbox, stripe: StripeWire, endpoint: Endpoint
) -> None:
    needed = endpoint.permission
    enough = {needed, needed.replace(":read", ":write")} & EVERY_PERMISSION

    sandbox.stripe.add_restricted_key(KEY, EVERY_PERMISSION - enough)
    status, said = asked(sandbox, stripe, endpoint, KEY)
    assert status == 403
    assert f"Having the '{IN_MESSAGES[needed]}' permission" in said

    for one in enough:
        sandbox.stripe.add_restricted_key(KEY, {one})
        assert asked(sandbox, stripe, endpoint, KEY)[0] != 403


def test_reading_is_get_and_writing_is_the_rest() -> None:
    needed = {(endpoint.route.split()[0], endpoint.permission.split(":")[1]) for endpoint in ENDPOINTS}

    assert {access for method, access in needed if method == "GET"} == {"read"}
    assert {access for method, access in needed if method != "GET"} == {"write"}


def test_the_refusal_is_worded_as_stripes(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.add_restricted_key("rk_test_51abcdefghijWXYZ", set())

    refused = stripe("GET", "/v1/subscriptions", key="rk_test_51abcdefghijWXYZ")

    assert (refused.status, refused.error["type"]) == (403, "invalid_request_error")
    assert refused.error["message"] == (
        "The provided key 'rk_test_************WXYZ' does not have the required permissions for this endpoint on"
        f" account '{sandbox.stripe.account}'. Having the 'rak_subscription_read' permission would allow this request"
        " to continue."
    )


def test_a_refused_write_changes_nothing(sandbox: Sandbox, stripe: StripeWire) -> None:
    world = sandbox.stripe
    item = world.add_subscription(world.add_customer(), [world.add_price()]).items[0]
    sandbox.stripe.add_restricted_key(KEY, EVERY_PERMISSION - {"usage_records:write"})

    refused = stripe("POST", f"/v1/subscription_items/{item}/usage_records", {"quantity": 5}, key=KEY)

    assert refused.status == 403
    assert world.total(item) == 0


def test_a_secret_key_may_do_everything(stripe: StripeWire, sandbox: Sandbox) -> None:
    sandbox.stripe.keys[SECRET_KEY] = None
    assert 403 not in {asked(sandbox, stripe, endpoint, SECRET_KEY)[0] for endpoint in ENDPOINTS}


def test_a_permission_that_stripe_lacks_cannot_be_given(sandbox: Sandbox) -> None:
    for unknown in ("price:read", "events:write", "prices", "prices:none"):
        with pytest.raises(ValueError, match=re.escape(unknown)):
            sandbox.stripe.add_restricted_key(KEY, {unknown})


def test_the_account_of_the_key_is_named(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.account = "acct_1Other"
    sandbox.stripe.add_restricted_key(KEY, {"accounts:read"})

    shown = stripe("GET", "/v1/account", key=KEY).json

    assert (shown["id"], shown["object"]) == ("acct_1Other", "account")
