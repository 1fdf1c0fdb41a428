"""Customers: how they come into being, and what remains of one that is deleted."""

from meter_sync.sandbox.stripe.rules import subscriptions
from meter_sync.sandbox.stripe.state.objects import Customer, Metadata
from meter_sync.sandbox.stripe.state.stripe_state import StripeState


def add_customer(
    state: StripeState,
    id: str | None = None,
    metadata: Metadata | None = None,
    test_clock: str | None = None,
    name: str | None = None,
    *,
    email: str | None = None,
    description: str | None = None,
) -> str:
    """Add a customer, on a test clock if one is named, and return its id."""
    if test_clock is not None:
        state.test_clocks.find(test_clock, param="test_clock", status=400)
    customer = Customer(
        id=id or state.new_id("cus"),
        created=state.now_of(test_clock),
        metadata=dict(metadata or {}),
        name=name,
        email=email,
        description=description,
        test_clock=test_clock,
    )
    state.customers.add(customer)
    return customer.id


def delete_customer(state: StripeState, id: str, keep_subscriptions: bool = False) -> None:
    """Delete a customer, and cancel its subscriptions unless they are to be kept."""
    state.customers.find(id).deleted = True
    if not keep_subscriptions:
        for subscription in list(state.subscriptions.shelf(f"customer:{id}").older_than(None)):
            subscriptions.cancel(state, subscription)
