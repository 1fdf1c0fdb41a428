"""How Stripe shows customers (API reference of 2025-01-27.acacia)."""

from meter_sync.sandbox.stripe.state.objects import Customer
from meter_sync.sandbox.stripe.views.view import Json, View


def show_customer(view: View, customer: Customer) -> Json:
    """Show a customer; of a deleted one only a stub is left."""
    if customer.deleted:
        return {"id": customer.id, "object": "customer", "deleted": True}
    return {
        "id": customer.id,
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": customer.created,
        "currency": None,
        "delinquent": False,
        "description": customer.description,
        "email": customer.email,
        "livemode": view.livemode,
        "metadata": customer.metadata,
        "name": customer.name,
        "phone": None,
        "shipping": None,
        "test_clock": customer.test_clock,
    }
