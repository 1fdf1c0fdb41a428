"""The embedded OpenMeter counts the usage of its customers, and lists them, as OpenMeter's server does."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.openmeter.series import Aggregation

from .wire import OpenMeterWire, Reply

T0 = datetime(2026, 11, 1, tzinfo=UTC)
SPAN = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"}
QUERY = "/api/v1/meters/tokens/query"
CUSTOMERS = "/api/v1/customers"

Ask = Callable[..., Reply]


@pytest.fixture
def ask(sandbox: Sandbox, openmeter: OpenMeterWire) -> Ask:
    """Query a meter that five subjects have used, in steps of an hour, for the customers given."""
    sandbox.openmeter.add_meter("tokens", group_by={"model": "$.model"})
    for hour, subject in enumerate(("acme", "a", "b", "other", "nobody")):
        data = {"value": 2**hour, "model": "large" if hour % 2 else "small"}
        sandbox.openmeter.add_event("tokens", subject, T0 + timedelta(hours=hour), data=data)

    def query(*customers: str, **fields: object) -> Reply:
        return openmeter("POST", QUERY, {**SPAN, "filterCustomerId": customers, **fields})

    return query


@pytest.fixture
def acme(sandbox: Sandbox) -> str:
    return sandbox.openmeter.add_customer("acme", subjects=["a", "b"])


def rows(reply: Reply) -> list[tuple[str | None, str | None, float]]:
    """Return the customer, the subject and the value of each row."""
    assert reply.status == 200, reply.text
    return [(row.get("customerId"), row["subject"], row["value"]) for row in reply.json["data"]]


def names(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.text
    return [each["name"] for each in reply.json["items"]]


def listed(openmeter: OpenMeterWire, **asked: object) -> Reply:
    return openmeter("GET", f"{CUSTOMERS}?{urlencode(asked)}")


# -- queries -------------------------------------------------------------------------------------


def test_a_customer_has_used_what_its_key_and_its_subjects_have(ask: Ask, acme: str) -> None:
    assert rows(ask(acme)) == [(None, None, 1 + 2 + 4)]


def test_several_customers_are_one_row_unless_grouped_by_customer(sandbox: Sandbox, ask: Ask, acme: str) -> None:
    other = sandbox.openmeter.add_customer(subjects=["other"])
    assert rows(ask(acme, other)) == [(None, None, 15)]
    grouped = ask(acme, other, groupBy=["customer_id"])
    assert sorted(rows(grouped)) == sorted([(acme, None, 7), (other, None, 8)])
    # It is no dimension of the meter.
    assert [row["groupBy"] for row in grouped.json["data"]] == [{}, {}]


def test_a_customer_without_usage_has_no_row(sandbox: Sandbox, ask: Ask, acme: str) -> None:
    idle, empty = sandbox.openmeter.add_customer("idle"), sandbox.openmeter.add_customer(name="Empty")
    assert rows(ask(acme, idle, empty, groupBy=["customer_id"])) == [(acme, None, 7)]
    assert rows(ask(empty)) == []


def test_a_key_that_is_also_a_subject_counts_once(sandbox: Sandbox, ask: Ask) -> None:
    customer = sandbox.openmeter.add_customer("a", subjects=["a", "b"])
    assert rows(ask(customer)) == [(None, None, 6)]


def test_a_customer_can_be_split_by_subjects_dimensions_and_windows(ask: Ask, acme: str) -> None:
    by_subject = rows(ask(acme, groupBy=["customer_id", "subject"]))
    assert by_subject == [(acme, "acme", 1), (acme, "a", 2), (acme, "b", 4)]
    assert rows(ask(acme, groupBy=["customer_id"], filterGroupBy={"model": ["small"]})) == [(acme, None, 5)]
    hours = ask(acme, groupBy=["customer_id"], windowSize="HOUR").json["data"]
    assert [(row["windowStart"], row["value"]) for row in hours] == [
        ("2026-11-01T00:00:00Z", 1),
        ("2026-11-01T01:00:00Z", 2),
        ("2026-11-01T02:00:00Z", 4),
    ]


@pytest.mark.parametrize(
    ("subjects", "found"),
    [(["a"], [("a", 2)]), (["other", "b", "a"], [("a", 2), ("b", 4)]), (["other"], []), ([], [("acme", 1), ("a", 2)])],
)
def test_subjects_and_customers_together_are_what_is_both(
    ask: Ask, acme: str, subjects: list[str], found: list[tuple[str, float]]
) -> None:
    until = {} if subjects else {"to": "2026-11-01T02:00:00Z"}
    by_subject = ask(acme, subject=subjects, groupBy=["customer_id", "subject"], **until)
    assert rows(by_subject) == [(acme, subject, value) for subject, value in found]


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [("SUM", 14), ("COUNT", 4), ("UNIQUE_COUNT", 3), ("AVG", 3.5), ("MIN", 2), ("MAX", 6), ("LATEST", 4)],
)
def test_all_subjects_of_a_customer_are_one_for_every_aggregation(
    sandbox: Sandbox, openmeter: OpenMeterWire, acme: str, aggregation: Aggregation, value: float
) -> None:
    sandbox.openmeter.add_meter("tokens", aggregation)
    for hour, (subject, used) in enumerate((("a", 2), ("b", 2), ("a", 6), ("acme", 4))):
        sandbox.openmeter.add_event("tokens", subject, T0 + timedelta(hours=hour), used)
    reply = openmeter("POST", QUERY, {**SPAN, "filterCustomerId": [acme], "groupBy": ["customer_id"]})
    assert rows(reply) == [(acme, None, value)]


def test_the_get_query_filters_by_customer_as_the_post_query(openmeter: OpenMeterWire, ask: Ask, acme: str) -> None:
    asked = urlencode([*SPAN.items(), ("filterCustomerId", acme), ("groupBy", "customer_id")])
    assert openmeter("GET", f"{QUERY}?{asked}").json == ask(acme, groupBy=["customer_id"]).json


@pytest.mark.parametrize("how", ["never_was", "deleted", "deleted_after_it_was_listed"])
def test_one_customer_that_is_not_there_refuses_the_whole_query(
    sandbox: Sandbox, openmeter: OpenMeterWire, ask: Ask, acme: str, how: str
) -> None:
    gone = sandbox.openmeter.add_customer("gone")
    if how == "never_was":
        gone = "01SANDB0X09999999999999999"
    elif how == "deleted":
        sandbox.openmeter.delete_customer(gone)
    else:
        sandbox.openmeter.delete_after_listing(gone)
        assert "gone" in names(listed(openmeter))
    refused = ask(acme, gone, groupBy=["customer_id"])
    assert refused.status == 404
    assert gone in refused.json["detail"]
    assert rows(ask(acme, groupBy=["customer_id"])) == [(acme, None, 7)]


def test_rows_by_customer_need_the_customers_to_be_named(openmeter: OpenMeterWire, ask: Ask, acme: str) -> None:
    assert openmeter("POST", QUERY, {**SPAN, "groupBy": ["customer_id"]}).status == 400
    assert ask(acme, groupBy=["customer_id"]).status == 200


def test_more_than_100_customers_are_refused(sandbox: Sandbox, ask: Ask) -> None:
    customers = [sandbox.openmeter.add_customer(f"customer_{number}") for number in range(101)]
    assert ask(*customers[:100]).status == 200
    assert ask(*customers).status == 400


# -- listing and app data ------------------------------------------------------------------------


def test_the_app_data_of_a_customer_names_its_stripe_customer(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    billed = sandbox.openmeter.add_customer("acme", stripe_customer_id="cus_acme")
    plain = sandbox.openmeter.add_customer("other")

    def apps(customer: str) -> list[Any]:
        reply = openmeter("GET", f"{CUSTOMERS}/{customer}/apps")
        assert reply.json["totalCount"] == len(reply.json["items"])
        items: list[Any] = reply.json["items"]
        return items

    for customer in (billed, "acme"):
        assert apps(customer) == [{"type": "stripe", "stripeCustomerId": "cus_acme"}]
    for customer in (plain, "other"):
        assert apps(customer) == []


@pytest.mark.parametrize("how", ["deleted", "deleted_after_it_was_listed"])
def test_a_customer_that_is_unknown_or_deleted_has_no_app_data(
    sandbox: Sandbox, openmeter: OpenMeterWire, how: str
) -> None:
    gone = sandbox.openmeter.add_customer("acme", stripe_customer_id="cus_acme")
    if how == "deleted":
        sandbox.openmeter.delete_customer(gone)
    else:
        sandbox.openmeter.delete_after_listing(gone)
        assert names(listed(openmeter)) == ["acme"]
    for customer in (gone, "acme", "01SANDB0X09999999999999999", "nobody"):
        assert openmeter("GET", f"{CUSTOMERS}/{customer}/apps").status == 404


def test_the_key_of_a_deleted_customer_names_the_one_that_has_it_now(
    sandbox: Sandbox, openmeter: OpenMeterWire
) -> None:
    sandbox.openmeter.delete_customer(sandbox.openmeter.add_customer("acme", stripe_customer_id="cus_before"))
    sandbox.openmeter.add_customer("acme", stripe_customer_id="cus_now")
    (shown,) = openmeter("GET", f"{CUSTOMERS}/acme/apps").json["items"]
    assert shown["stripeCustomerId"] == "cus_now"


def test_a_listed_customer_shows_its_key_and_its_subjects(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    keyed = sandbox.openmeter.add_customer("acme", name="Acme", subjects=["a", "b"])
    bare = sandbox.openmeter.add_customer(name="Bare")
    first, second = listed(openmeter).json["items"]
    assert (first["id"], first["key"], first["usageAttribution"]) == (keyed, "acme", {"subjectKeys": ["a", "b"]})
    assert (second["id"], second["usageAttribution"]) == (bare, {"subjectKeys": []})
    assert "key" not in second


def test_customers_are_paged_by_name_unless_another_order_is_asked_for(
    sandbox: Sandbox, openmeter: OpenMeterWire
) -> None:
    for name in ("c", "a", "e", "b", "d"):
        sandbox.openmeter.add_customer(name=name)
    pages = [listed(openmeter, page=number, pageSize=2) for number in (1, 2, 3, 4)]
    assert [names(page) for page in pages] == [["a", "b"], ["c", "d"], ["e"], []]
    assert {page.json["totalCount"] for page in pages} == {5}
    by_id = [listed(openmeter, page=number, pageSize=2, orderBy="id") for number in (1, 2, 3)]
    assert [names(page) for page in by_id] == [["c", "a"], ["e", "b"], ["d"]]
    assert names(listed(openmeter, order="DESC")) == ["e", "d", "c", "b", "a"]


@pytest.mark.parametrize(("order", "seen"), [("name", ["b", "c", "c"]), ("id", ["b", "c", "a"])])
def test_by_name_a_customer_that_is_added_between_two_pages_is_not_seen(
    sandbox: Sandbox, openmeter: OpenMeterWire, order: str, seen: list[str]
) -> None:
    for name in ("b", "c"):
        sandbox.openmeter.add_customer(name=name)
    found = names(listed(openmeter, page=1, pageSize=2, orderBy=order))
    sandbox.openmeter.add_customer(name="a")
    assert found + names(listed(openmeter, page=2, pageSize=2, orderBy=order)) == seen


def test_deleted_customers_are_listed_only_when_asked_for(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    sandbox.openmeter.add_customer("kept")
    sandbox.openmeter.delete_customer(sandbox.openmeter.add_customer("deleted"))
    assert names(listed(openmeter)) == ["kept"]
    deleted, kept = listed(openmeter, includeDeleted="true").json["items"]
    assert "deletedAt" in deleted
    assert "deletedAt" not in kept


def test_customers_are_found_by_a_part_of_their_key(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    for key in ("cus_Acme", "cus_other", None):
        sandbox.openmeter.add_customer(key)
    assert names(listed(openmeter, key="acme")) == ["cus_Acme"]


@pytest.mark.parametrize("asked", [{"page": 0}, {"page": "one"}, {"pageSize": 0}, {"pageSize": 1001}, {"orderBy": "x"}])
def test_a_page_that_makes_no_sense_is_refused(openmeter: OpenMeterWire, asked: dict[str, object]) -> None:
    assert listed(openmeter, **asked).status == 400


def test_customers_are_shown_to_the_right_token_and_changed_by_nobody(
    sandbox: Sandbox, openmeter: OpenMeterWire
) -> None:
    customer = sandbox.openmeter.add_customer("acme")
    for path in (CUSTOMERS, f"{CUSTOMERS}/{customer}/apps"):
        assert openmeter("GET", path, token="wrong").status == 401
        assert openmeter("POST", path, {}).status == 405
