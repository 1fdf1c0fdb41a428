"""Endpoints of the embedded Stripe: customers."""

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page
from meter_sync.sandbox.stripe.protocol.parameters import merged, text, text_map
from meter_sync.sandbox.stripe.state.objects import Customer
from meter_sync.sandbox.stripe.views.customers import show_customer
from meter_sync.sandbox.stripe.views.view import Json


def _create_customer(call: Call) -> Json:
    identifier = call.world.add_customer(**call.params)
    return show_customer(call.view, call.state.customers[identifier])


def _get_customer(call: Call) -> Json:
    return show_customer(call.view, call.state.customers.find(call.ids[0]))


def _update_customer(call: Call) -> Json:
    customer = call.state.customers.find(call.ids[0])
    if "metadata" in call.params:
        customer.metadata = merged(customer.metadata, call.params["metadata"])
    return show_customer(call.view, customer)


def _list_customers(call: Call) -> Json:
    email, test_clock = call.params.get("email"), call.params.get("test_clock")

    def matches(customer: Customer) -> bool:
        return not customer.deleted and email in (None, customer.email) and customer.test_clock == test_clock

    return page(call, call.state.customers, show_customer, matches)


def _delete_customer(call: Call) -> Json:
    call.world.delete_customer(call.ids[0])
    return show_customer(call.view, call.state.customers[call.ids[0]])


ENDPOINTS = (
    Endpoint(
        "POST /v1/customers",
        "customers:write",
        _create_customer,
        fields={
            "name": text,
            "email": text,
            "description": text,
            "metadata": text_map,
            "test_clock": text,
        },
    ),
    Endpoint(
        "GET /v1/customers", "customers:read", _list_customers, fields={**PAGING, "email": text, "test_clock": text}
    ),
    Endpoint("GET /v1/customers/{}", "customers:read", _get_customer),
    Endpoint("POST /v1/customers/{}", "customers:write", _update_customer, fields={"metadata": text_map}),
    Endpoint("DELETE /v1/customers/{}", "customers:write", _delete_customer),
)
