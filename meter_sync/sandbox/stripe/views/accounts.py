"""How Stripe shows accounts (API reference, Accounts)."""

from meter_sync.sandbox.stripe.state.accounts import Account
from meter_sync.sandbox.stripe.views.view import Json, View


def show_account(_: View, account: Account) -> Json:
    """Show an account, as its own key and as its platform sees it."""
    return {
        "id": account.id,
        "object": "account",
        "business_type": "company",
        "charges_enabled": True,
        "country": "US",
        "created": account.created,
        "default_currency": "usd",
        "details_submitted": True,
        "email": "sandbox@example.com",
        "metadata": dict(account.metadata),
        "payouts_enabled": True,
        "type": "standard",
    }
