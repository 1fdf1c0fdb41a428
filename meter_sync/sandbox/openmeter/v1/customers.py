"""Customers in the first version: listing them, and the Stripe customer that their app data names.

A deleted customer is listed no more, unless it is asked for, and nothing else of it is answered.

Source: OpenMeter's OpenAPI document (Customer, CustomerPaginatedResponse, CustomerAppDataPaginatedResponse).
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from meter_sync.sandbox.openmeter.customers import Customer, named
from meter_sync.sandbox.openmeter.problems import Problem
from meter_sync.sandbox.openmeter.times import show_time

_ORDERS = {"id": "id", "name": "name", "createdAt": "created"}


def page(customers: Mapping[str, Customer], query: str) -> dict[str, Any]:
    """Return a page of the customers: by name unless another order is asked for, without deleted ones."""
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    try:
        number, size = int(asked.get("page", "1")), int(asked.get("pageSize", "100"))
        order = _ORDERS[asked.get("orderBy", "name")]
    except (ValueError, KeyError) as error:
        raise Problem(400, f"invalid page: {query}") from error
    if number < 1 or not 1 <= size <= 1000:
        raise Problem(400, f"invalid page: {query}")
    deleted = asked.get("includeDeleted") == "true"
    rows = [
        each for each in customers.values() if (deleted or not each.deleted_at) and _has_key(each, asked.get("key"))
    ]
    rows.sort(key=lambda each: getattr(each, order), reverse=asked.get("order") == "DESC")
    first = (number - 1) * size
    return _paginated([_show(each) for each in rows[first : first + size]], len(rows), number, size)


def found(customers: Mapping[str, Customer], id_or_key: str) -> Customer:
    """Return the customer with this id, or else with this key; refuse one that is unknown or was deleted."""
    by_id = customers.get(id_or_key)
    candidates = [by_id] if by_id else [each for each in customers.values() if each.key == id_or_key]
    customer = next((each for each in candidates if not each.is_deleted), None)
    if customer is None:
        raise Problem(404, f"customer not found: {id_or_key}")
    return customer


def filtered(customers: Mapping[str, Customer], id: str) -> Customer:
    """Return a customer to filter by; one that is unknown or deleted refuses the whole query."""
    customer = named(customers, id)
    if customer.is_deleted:
        raise Problem(404, f"customer not found: {id}")
    return customer


def app_data(customer: Customer) -> dict[str, Any]:
    """Return the app data of a customer: that of Stripe, if it has any, without the optional `app`."""
    items = []
    if customer.stripe_customer_id:
        items.append({"type": "stripe", "stripeCustomerId": customer.stripe_customer_id})
    return _paginated(items, len(items), 1, 100)


def _has_key(customer: Customer, part: str | None) -> bool:
    return part is None or part.lower() in (customer.key or "").lower()


def _show(customer: Customer) -> dict[str, Any]:
    created = show_time(customer.created)
    shown: dict[str, Any] = {
        "id": customer.id,
        "name": customer.name,
        "createdAt": created,
        "updatedAt": created,
        "usageAttribution": {"subjectKeys": list(customer.subjects)},
    }
    if customer.key:
        shown["key"] = customer.key
    return {**shown, "deletedAt": show_time(customer.deleted_at)} if customer.deleted_at else shown


def _paginated(items: list[dict[str, Any]], total: int, number: int, size: int) -> dict[str, Any]:
    return {"totalCount": total, "page": number, "pageSize": size, "items": items}
