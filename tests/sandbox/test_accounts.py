"""The embedded Stripe has several accounts: by keys of their own, and connected ones by the platform's key."""

import json
from collections.abc import Mapping

import pytest
from stripe import StripeClient

from meter_sync.sandbox import Sandbox, StripeWorld

from .instants import NOW, PERIOD_START
from .wire import ACACIA, Reply, StripeWire, send


def on_behalf_of(world: StripeWorld) -> dict[str, str]:
    return {"Stripe-Account": world.account}


def context(*worlds: StripeWorld) -> dict[str, str]:
    return {"Stripe-Context": "/".join(world.account for world in worlds)}


def item_in(world: StripeWorld) -> str:
    return world.add_subscription(world.add_customer(), [world.add_price()], period_start=PERIOD_START).items[0]


def of_the_second_api(sandbox: Sandbox, path: str, headers: Mapping[str, str], key: str | None = None) -> Reply:
    sent = {"Authorization": f"Bearer {key or sandbox.stripe_key}", "Stripe-Version": "2026-10-28.endive", **headers}
    return send("POST", sandbox.stripe_url + path, sent, b"{}")


def test_nothing_of_an_account_is_seen_in_another_and_no_id_is_in_two(sandbox: Sandbox, stripe: StripeWire) -> None:
    other, connected = sandbox.add_account(), sandbox.connect_account()
    items = [item_in(world) for world in (sandbox.stripe, other, connected)]
    assert len(set(items)) == 3
    ways: list[tuple[str, dict[str, str]]] = [
        (sandbox.stripe_key, {}),
        (other.key, {}),
        (sandbox.stripe_key, on_behalf_of(connected)),
    ]
    for mine, (key, headers) in zip(items, ways, strict=True):
        seen = {item: stripe("GET", f"/v1/subscription_items/{item}", key=key, headers=headers) for item in items}
        assert {item: reply.status for item, reply in seen.items()} == {
            item: 200 if item == mine else 404 for item in items
        }
        listed = stripe("GET", "/v1/subscriptions", key=key, headers=headers).json["data"]
        assert [one["items"]["data"][0]["id"] for one in listed] == [mine]
        assert seen[mine].headers["Stripe-Account"] == headers.get("Stripe-Account")


def test_the_sdk_acts_for_a_connected_account(sandbox: Sandbox) -> None:
    connected = sandbox.connect_account({"plan": "pro"})
    client = StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url}, stripe_version=ACACIA)
    made = client.v1.customers.create({"name": "Theirs"}, {"stripe_account": connected.account})
    assert made.id in [each.id for each in connected.state.customers]
    assert len(sandbox.stripe.state.customers) == 0
    by_context = client.v1.customers.list({}, {"stripe_context": connected.account})
    assert [each.id for each in by_context.auto_paging_iter()] == [made.id]
    account = client.v1.accounts.retrieve_current({}, {"stripe_account": connected.account})
    assert account.to_dict()["metadata"] == {"plan": "pro"}


def test_an_account_that_is_not_connected_any_more_or_never_was_is_refused(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    connected, other = sandbox.connect_account(), sandbox.add_account()
    assert stripe("GET", "/v1/prices", headers=on_behalf_of(connected)).status == 200
    sandbox.disconnect_account(connected)
    for world, key in ((connected, None), (other, None), (sandbox.stripe, other.key)):
        refused = stripe("GET", "/v1/prices", key=key, headers=on_behalf_of(world))
        assert (refused.status, refused.error["code"]) == (403, "account_invalid")
        assert f"does not have access to account '{world.account}'" in refused.error["message"]
    assert stripe("GET", "/v1/accounts").json["data"] == []


def test_a_connected_account_is_shown_to_its_platform_alone(sandbox: Sandbox, stripe: StripeWire) -> None:
    connected, other = sandbox.connect_account({"plan": "pro"}), sandbox.add_account()
    shown = stripe("GET", f"/v1/accounts/{connected.account}").json
    assert (shown["id"], shown["metadata"]) == (connected.account, {"plan": "pro"})
    for path, key in ((connected.account, other.key), (other.account, None)):
        refused = stripe("GET", f"/v1/accounts/{path}", key=key)
        assert (refused.status, refused.error["code"]) == (403, "account_invalid")


def test_idempotency_keys_are_of_an_account(sandbox: Sandbox, stripe: StripeWire) -> None:
    worlds = [sandbox.connect_account(), sandbox.connect_account()]
    made = [
        stripe("POST", "/v1/customers", {"name": "N"}, idempotency_key="one", headers=on_behalf_of(world))
        for world in (*worlds, worlds[0])
    ]
    assert [reply.status for reply in made] == [200, 200, 200]
    assert made[0].json["id"] == made[2].json["id"] != made[1].json["id"]
    assert [len(world.state.customers) for world in worlds] == [1, 1]


def test_a_restricted_key_may_do_less_in_connected_accounts(sandbox: Sandbox, stripe: StripeWire) -> None:
    connected = sandbox.connect_account()
    key = sandbox.stripe.add_restricted_key("rk_test_platform", {"prices:read"})

    def statuses(path: str) -> tuple[int, int]:
        return (
            stripe("GET", path, key=key).status,
            stripe("GET", path, key=key, headers=on_behalf_of(connected)).status,
        )

    assert statuses("/v1/prices") == (200, 200)
    sandbox.stripe.connect_permissions[key] = frozenset({"products:read"})
    assert statuses("/v1/prices") == (200, 403)
    assert statuses("/v1/products") == (403, 200)
    sandbox.stripe.connect_permissions[key] = frozenset()
    refused = stripe("GET", "/v1/products", key=key, headers=on_behalf_of(connected))
    assert refused.status == 403
    assert "does not have any Connect permissions" in refused.error["message"]


def test_a_request_is_answered_in_the_version_of_the_account_that_it_is_for(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    old = sandbox.connect_account()
    old.api_version = ACACIA
    reply = stripe("GET", "/v1/prices", version=None, headers=on_behalf_of(old))
    assert reply.headers["Stripe-Version"] == ACACIA
    assert stripe("GET", "/v1/prices", version=None).headers["Stripe-Version"] == sandbox.stripe.api_version != ACACIA


def test_an_organizations_key_names_account_and_version_and_reaches_what_is_in_the_organization(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    one, outside, connected = sandbox.add_account(), sandbox.add_account(), sandbox.connect_account()
    key = sandbox.organization_key([sandbox.stripe, one])

    def account(headers: Mapping[str, str], version: str | None = ACACIA) -> Reply:
        return stripe("GET", "/v1/account", key=key, headers=headers, version=version)

    reached = {path: account(context(*path)).json["id"] for path in ((sandbox.stripe,), (one,))}
    assert reached == {path: path[-1].account for path in reached}
    assert account(context(sandbox.stripe, connected)).json["id"] == connected.account
    assert [account(context(world)).status for world in (outside, connected)] == [403, 403]
    nameless, by_account, unversioned = account({}), account(on_behalf_of(one)), account(context(one), None)
    assert [nameless.status, by_account.status, unversioned.status] == [400, 400, 400]
    assert nameless.error["message"] == (
        "Please include the Stripe-Context header with your target account when using an Organization API key."
    )
    assert "Stripe-Version" in unversioned.error["message"]


def test_an_organizations_key_can_be_restricted(sandbox: Sandbox, stripe: StripeWire) -> None:
    key = sandbox.organization_key([sandbox.stripe], permissions={"prices:read"})
    of = {path: stripe("GET", path, key=key, headers=context(sandbox.stripe)) for path in ("/v1/prices", "/v1/account")}
    assert [reply.status for reply in of.values()] == [200, 403]


def test_the_second_api_takes_the_context_and_not_the_account(sandbox: Sandbox) -> None:
    connected = sandbox.connect_account()
    sandbox.stripe_key = "sk_live_platform"
    sandbox.stripe.keys[sandbox.stripe_key] = None
    session = "/v2/billing/meter_event_session"
    assert of_the_second_api(sandbox, session, on_behalf_of(connected)).status == 400
    token = of_the_second_api(sandbox, session, context(connected)).json["authentication_token"]
    # The token says whose events they are.
    event = {"event_name": "none", "identifier": "1", "payload": {"stripe_customer_id": "cus_1", "value": "1"}}
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"events": [event]}).encode()
    assert send("POST", f"{sandbox.stripe_url}/v2/billing/meter_event_stream", sent, body).status == 200
    with connected.settled() as state:
        assert len(state.reports) == 1
    assert sandbox.stripe.state.reports == []
    assert [seen.account for seen in sandbox.requests] == [connected.account] * 3


def test_connected_accounts_are_listed_newest_first_page_by_page(sandbox: Sandbox, stripe: StripeWire) -> None:
    worlds = [sandbox.connect_account({"n": str(number)}) for number in range(5)]
    sandbox.add_account()
    newest_first = [world.account for world in reversed(worlds)]
    client = StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url})
    listed = list(client.v1.accounts.list({"limit": 2}).auto_paging_iter())
    assert [account.id for account in listed] == newest_first
    assert [account.to_dict()["metadata"] for account in listed] == [{"n": str(n)} for n in (4, 3, 2, 1, 0)]
    back = stripe("GET", "/v1/accounts", {"ending_before": newest_first[2], "limit": 1}).json
    assert ([account["id"] for account in back["data"]], back["has_more"]) == ([newest_first[1]], True)
    since = int(NOW.timestamp())
    counts = [len(stripe("GET", "/v1/accounts", {f"created[{bound}]": since}).json["data"]) for bound in ("gte", "gt")]
    assert counts == [5, 0]
    worlds[0].metadata, worlds[0].account = {"n": "none"}, "acct_1Renamed"
    assert stripe("GET", "/v1/account", headers=on_behalf_of(worlds[0])).json["metadata"] == {"n": "none"}
    assert [account.id for account in client.v1.accounts.list().data] == [*newest_first[:-1], "acct_1Renamed"]


def test_a_request_that_was_seen_names_its_account(sandbox: Sandbox, stripe: StripeWire) -> None:
    other, connected = sandbox.add_account(key="sk_test_other"), sandbox.connect_account()
    sandbox.disconnect_account(connected)
    stripe("GET", "/v1/prices")
    stripe("GET", "/v1/prices", key="sk_test_other")
    stripe("GET", "/v1/prices", headers=on_behalf_of(connected))
    stripe("GET", "/v1/prices", key="sk_test_nobody")
    assert [seen.account for seen in sandbox.requests] == [
        sandbox.stripe.account,
        other.account,
        connected.account,
        None,
    ]


def test_only_a_world_with_keys_has_a_first_key(sandbox: Sandbox) -> None:
    assert sandbox.add_account().key != sandbox.add_account().key
    with pytest.raises(LookupError, match="has no key of its own"):
        _ = sandbox.connect_account().key
