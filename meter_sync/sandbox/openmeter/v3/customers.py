"""Customers in the third version, and the Stripe customer that their billing data name.

A deleted customer is in no list, and no parameter puts it there; by its id it is shown all the same, with when it was
deleted, and its usage is counted. Its data in apps are deleted with it.

Sources: OpenMeter's OpenAPI document of v3 (BillingCustomer, BillingCustomerData, ListCustomersParamsFilter), and its
server for what is deleted.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from meter_sync.sandbox.openmeter.customers import Customer
from meter_sync.sandbox.openmeter.times import show_time
from meter_sync.sandbox.openmeter.v3.paging import Listing


def listed(customers: Mapping[str, Customer]) -> Iterable[Customer]:
    """Return the customers that lists are made of."""
    return [each for each in customers.values() if not each.deleted_at]


def show_customer(customer: Customer) -> dict[str, Any]:
    """Return a customer as JSON; one without a key has an empty one, although the document allows none."""
    created = show_time(customer.created)
    shown: dict[str, Any] = {
        "id": customer.id,
        "key": customer.key or "",
        "name": customer.name,
        "labels": {},
        "created_at": created,
        "updated_at": created,
    }
    if customer.subjects:
        shown["usage_attribution"] = {"subject_keys": list(customer.subjects)}
    if customer.deleted_at:
        shown["deleted_at"] = show_time(customer.deleted_at)
    return shown


def show_billing(customer: Customer) -> dict[str, Any]:
    """Return the billing data of a customer, without the optional billing profile."""
    if customer.stripe_customer_id is None or customer.is_deleted:
        return {"app_data": {}}
    return {"app_data": {"stripe": {"customer_id": customer.stripe_customer_id}}}


CUSTOMERS = Listing[Customer](
    fields={"key": lambda customer: customer.key or "", "name": lambda customer: customer.name},
    orders={
        "id": lambda customer: customer.id,
        "name": lambda customer: customer.name,
        "created_at": lambda customer: customer.created,
    },
    order="name",
    show=show_customer,
)
