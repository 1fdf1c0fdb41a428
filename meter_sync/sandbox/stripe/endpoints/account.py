"""Endpoints of the embedded Stripe: the account that a request is for, and those that are connected to it."""

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page
from meter_sync.sandbox.stripe.protocol.errors import no_access
from meter_sync.sandbox.stripe.protocol.parameters import span, within
from meter_sync.sandbox.stripe.state.accounts import Account
from meter_sync.sandbox.stripe.state.store import Store
from meter_sync.sandbox.stripe.views.accounts import show_account
from meter_sync.sandbox.stripe.views.view import Json


def _get_account(call: Call) -> Json:
    """Show the account that the key is of, or the one that a header names."""
    return show_account(call.view, call.state.account)


def _get_connected(call: Call) -> Json:
    """Show an account that is connected to the one that the request is for."""
    (id,) = call.ids
    if id not in call.world.connected:
        raise no_access(id)
    return show_account(call.view, call.world.connected[id].state.account)


def _list_accounts(call: Call) -> Json:
    """List the connected accounts, newest first: "If you're not a platform, the list is empty" (API reference)."""
    store: Store[Account] = Store("account")
    for connected in tuple(call.world.connected.values()):
        store.add(connected.state.account)
    return page(call, store, show_account, lambda account: within(call.params.get("created"), account.created))


ENDPOINTS = (
    Endpoint("GET /v1/account", "accounts:read", _get_account),
    Endpoint("GET /v1/accounts/{}", "connected_accounts:read", _get_connected),
    Endpoint("GET /v1/accounts", "connected_accounts:read", _list_accounts, fields={**PAGING, "created": span}),
)
