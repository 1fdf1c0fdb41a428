"""The third version of the embedded OpenMeter's API lists and shows meters and customers as OpenMeter's server does."""

from typing import Any
from urllib.parse import urlencode

import pytest

from meter_sync.sandbox import Sandbox

from .wire import OpenMeterWire, Reply

BASE = "/api/v3/openmeter"
NOBODY = "01SANDB0X09999999999999999"


def listed(openmeter: OpenMeterWire, collection: str, **asked: object) -> Reply:
    return openmeter("GET", f"{BASE}/{collection}?{urlencode(asked)}")


def keys(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.text
    return [each["key"] for each in reply.json["data"]]


def fill(sandbox: Sandbox, collection: str, *names: str) -> None:
    for name in names:
        if collection == "meters":
            sandbox.openmeter.add_meter(name)
        else:
            sandbox.openmeter.add_customer(name)


COLLECTIONS = pytest.mark.parametrize("collection", ["meters", "customers"])


# -- pages ---------------------------------------------------------------------------------------


@COLLECTIONS
def test_a_page_has_20_rows_unless_more_are_asked_for_and_at_most_100(
    sandbox: Sandbox, openmeter: OpenMeterWire, collection: str
) -> None:
    fill(sandbox, collection, *(f"n{number:03d}" for number in range(101)))
    first, all_but_one = listed(openmeter, collection), listed(openmeter, collection, **{"page[size]": 100})
    assert keys(first) == [f"n{number:03d}" for number in range(20)]
    assert first.json["meta"] == {"page": {"number": 1, "size": 20, "total": 101}}
    assert len(keys(all_but_one)) == 100
    assert keys(listed(openmeter, collection, **{"page[size]": 100, "page[number]": 2})) == ["n100"]
    assert keys(listed(openmeter, collection, **{"page[size]": 100, "page[number]": 3})) == []
    assert listed(openmeter, collection, **{"page[size]": 101}).status == 400


@COLLECTIONS
@pytest.mark.parametrize(
    "asked",
    [
        {"page[number]": 0},
        {"page[number]": "one"},
        {"page[size]": 0},
        {"page[size]": "²"},
        {"page[limit]": 10},
        {"page": 2},
        {"sort": "size"},
        {"sort": "name up"},
        {"filter[size]": "x"},
        {"filter[key][is]": "x"},
        {"filter": "x"},
        {"includeDeleted": "true"},
    ],
)
def test_a_list_that_makes_no_sense_is_refused_by_its_parameter(
    openmeter: OpenMeterWire, collection: str, asked: dict[str, object]
) -> None:
    refused = listed(openmeter, collection, **asked)
    assert refused.status == 400
    (told,) = refused.json["invalid_parameters"]
    assert (told["source"], told["field"]) == ("query", next(iter(asked)))


@COLLECTIONS
def test_a_repeated_parameter_is_refused(openmeter: OpenMeterWire, collection: str) -> None:
    assert openmeter("GET", f"{BASE}/{collection}?filter[key]=a&filter[key]=b").status == 400


@COLLECTIONS
@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"filter[key]": "acme"}, ["acme"]),
        ({"filter[key][eq]": "acme"}, ["acme"]),
        ({"filter[key][eq]": "ACME"}, []),
        ({"filter[key][neq]": "acme"}, ["acme_2", "other"]),
        ({"filter[key][contains]": "CME"}, ["acme", "acme_2"]),
        ({"filter[key][oeq]": "other, acme"}, ["acme", "other"]),
        ({"filter[key][ocontains]": "th,2"}, ["acme_2", "other"]),
        ({"filter[name][eq]": "other"}, ["other"]),
        ({"filter[name][eq]": "other", "filter[key][eq]": "acme"}, []),
    ],
)
def test_what_is_filtered_is_what_is_counted(
    sandbox: Sandbox, openmeter: OpenMeterWire, collection: str, asked: dict[str, object], found: list[str]
) -> None:
    fill(sandbox, collection, "acme", "acme_2", "other")
    reply = listed(openmeter, collection, **asked)
    assert keys(reply) == found
    assert reply.json["meta"]["page"]["total"] == len(found)


def test_meters_are_in_the_order_of_their_making_unless_another_is_asked_for(
    sandbox: Sandbox, openmeter: OpenMeterWire
) -> None:
    fill(sandbox, "meters", "c", "a", "b")
    assert keys(listed(openmeter, "meters")) == ["c", "a", "b"]
    assert keys(listed(openmeter, "meters", sort="key")) == ["a", "b", "c"]
    assert keys(listed(openmeter, "meters", sort="key desc")) == ["c", "b", "a"]


@pytest.mark.parametrize(("order", "seen"), [("name", ["b", "c", "c"]), ("id", ["b", "c", "a"])])
def test_by_name_a_customer_that_is_added_between_two_pages_is_not_seen(
    sandbox: Sandbox, openmeter: OpenMeterWire, order: str, seen: list[str]
) -> None:
    fill(sandbox, "customers", "b", "c")
    asked = {"page[size]": 2, **({} if order == "name" else {"sort": order})}
    found = keys(listed(openmeter, "customers", **asked))
    fill(sandbox, "customers", "a")
    assert found + keys(listed(openmeter, "customers", **asked, **{"page[number]": 2})) == seen


# -- one of them ---------------------------------------------------------------------------------


def test_a_meter_is_found_by_its_id_alone(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    labels = {"team": "core"}
    identifier = sandbox.openmeter.add_meter("tokens", "COUNT", group_by={"model": "$.model"}, metadata=labels)
    shown = openmeter("GET", f"{BASE}/meters/{identifier}").json
    assert listed(openmeter, "meters").json["data"] == [shown]
    assert openmeter("GET", f"/api/v1/meters/{identifier}").json["id"] == shown["id"]
    assert {name: shown[name] for name in ("key", "aggregation", "event_type", "dimensions", "labels")} == {
        "key": "tokens",
        "aggregation": "count",
        "event_type": "tokens",
        "dimensions": {"model": "$.model"},
        "labels": labels,
    }
    assert "value_property" not in shown
    for other in ("tokens", identifier.lower(), NOBODY):
        assert openmeter("GET", f"{BASE}/meters/{other}").status == 404
        assert openmeter("POST", f"{BASE}/meters/{other}/query", {}).status == 404


def test_a_deleted_meter_is_not_there(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    identifier = sandbox.openmeter.add_meter("tokens")
    sandbox.openmeter.delete_meter("tokens")
    assert keys(listed(openmeter, "meters")) == []
    assert openmeter("GET", f"{BASE}/meters/{identifier}").status == 404
    assert openmeter("POST", f"{BASE}/meters/{identifier}/query", {}).status == 404


def test_a_customer_is_found_by_its_id_alone(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    identifier = sandbox.openmeter.add_customer("acme", name="Acme", subjects=["a", "b"])
    shown = openmeter("GET", f"{BASE}/customers/{identifier}").json
    assert listed(openmeter, "customers").json["data"] == [shown]
    assert (shown["key"], shown["name"]) == ("acme", "Acme")
    assert shown["usage_attribution"] == {"subject_keys": ["a", "b"]}
    for other in ("acme", NOBODY):
        assert openmeter("GET", f"{BASE}/customers/{other}").status == 404
        assert openmeter("GET", f"{BASE}/customers/{other}/billing").status == 404


def test_a_customer_without_key_and_subjects_has_an_empty_key_and_no_attribution(
    sandbox: Sandbox, openmeter: OpenMeterWire
) -> None:
    sandbox.openmeter.add_customer(name="Bare")
    (shown,) = listed(openmeter, "customers").json["data"]
    assert shown["key"] == ""
    assert "usage_attribution" not in shown


def test_a_deleted_customer_is_listed_no_more_but_shown(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    fill(sandbox, "customers", "kept")
    deleted = sandbox.openmeter.add_customer("deleted", stripe_customer_id="cus_deleted")
    assert openmeter("GET", f"{BASE}/customers/{deleted}/billing").json["app_data"] != {}
    sandbox.openmeter.delete_customer(deleted)
    assert keys(listed(openmeter, "customers")) == ["kept"]
    assert "deleted_at" in openmeter("GET", f"{BASE}/customers/{deleted}").json
    assert openmeter("GET", f"{BASE}/customers/{deleted}/billing").json["app_data"] == {}


def test_the_billing_data_of_a_customer_name_its_stripe_customer(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    billed = sandbox.openmeter.add_customer("acme", stripe_customer_id="cus_acme")
    plain = sandbox.openmeter.add_customer("other")

    def app_data(customer: str) -> Any:
        return openmeter("GET", f"{BASE}/customers/{customer}/billing").json["app_data"]

    assert app_data(billed) == {"stripe": {"customer_id": "cus_acme"}}
    assert app_data(plain) == {}
