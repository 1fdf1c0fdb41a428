"""Endpoint of the embedded Stripe: the account that a key is of."""

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.views.view import Json


def _get_account(call: Call) -> Json:
    """Show the account that the key is of."""
    return {
        "id": call.world.account,
        "object": "account",
        "business_type": "company",
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "email": "sandbox@example.com",
        "metadata": {},
        "payouts_enabled": True,
        "type": "standard",
    }


ENDPOINTS = (Endpoint("GET /v1/account", "accounts:read", _get_account),)
