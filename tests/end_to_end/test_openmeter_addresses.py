"""What OpenMeter's address says, and answers that are none: one clear message, the right exit code, nothing written."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from meter_sync.sandbox import Fault
from tests.support.world import METER, World

Row = dict[str, Any]
VERSIONS = ["v1", "v3"]
EACH_VERSION = pytest.mark.parametrize("openmeter_version", VERSIONS, indirect=True)


@pytest.fixture
def used(world: World) -> World:
    """A world in which a customer has used 5."""
    world.use(world.subscribe(), 5)
    return world


def error_at(world: World, url: str) -> Row:
    """Return the error that a run at an address ends with, which is one of the configuration."""
    done = world.run(OPENMETER_URL=url)
    assert (done.code, world.writes) == (78, [])
    error: Row = done.document["error"]
    return error


@pytest.mark.parametrize("openmeter_version", ["v3"], indirect=True)
@pytest.mark.parametrize("written", ["", "/api", "/api/v1", "/v1/v3"])
def test_an_address_at_which_only_v3_answers_names_it(used: World, written: str) -> None:
    server = used.sandbox.openmeter_url
    error = error_at(used, server + written)
    assert error["code"] == "openmeter_address"
    if written != "/v1/v3":
        assert f"set OPENMETER_URL to {server}/api/v3, where it answers" in error["hint"]


@pytest.mark.parametrize("openmeter_version", ["v1"], indirect=True)
@pytest.mark.parametrize("written", ["/v3", "/api/v3", "/api/v1", "/api"])
def test_an_address_at_which_only_v1_answers_names_it(used: World, written: str) -> None:
    server = used.sandbox.openmeter_url
    error = error_at(used, server + written)
    assert (error["code"], error["hint"]) == ("openmeter_address", f"set OPENMETER_URL to {server}, where it answers")


@pytest.mark.parametrize("openmeter_version", ["v3"], indirect=True)
def test_the_address_of_konnect_has_no_api_in_it(used: World) -> None:
    done = used.run(OPENMETER_URL=f"{used.sandbox.openmeter_url}/v3")
    assert (done.code, done.verdict) == (0, ("reported", None))


@EACH_VERSION
@pytest.mark.parametrize("token", ["om_other", "kpat_other", "spat_other"])
def test_a_token_of_somebody_else_ends_the_run(used: World, token: str) -> None:
    done = used.run(OPENMETER_API_KEY=token)
    assert (done.code, done.error_code, used.writes) == (78, "openmeter_key", [])
    assert "organization and region" in done.document["error"]["hint"]
    assert token not in done.stdout + done.stderr


@EACH_VERSION
@pytest.mark.parametrize("token", ["kpat_0123456789", "spat_0123456789"])
def test_a_token_of_konnect_goes_as_bearer(used: World, token: str) -> None:
    used.openmeter.token = token
    assert used.run(OPENMETER_API_KEY=token).verdict == ("reported", None)


@EACH_VERSION
def test_a_page_instead_of_json_is_not_openmeter(used: World) -> None:
    used.sandbox.faults.add(
        Fault(server="openmeter", replace_text="<html>Welcome</html>", replace_content_type="text/html", times=None)
    )
    done = used.run()
    assert (done.code, done.error_code, used.writes) == (78, "openmeter_address", [])
    assert "an answer of type text/html instead of JSON" in done.document["error"]["message"]


@EACH_VERSION
@pytest.mark.parametrize("name", ["API-Requests", "api requests", "../meters", "Ünits", "api_requests "])
def test_a_meter_of_another_spelling_is_not_found(world: World, name: str) -> None:
    world.subscribe(world.stripe.add_price(metadata={"om_meter_id": f"{name}x"}))
    done = world.run()
    assert (done.code, done.verdict, world.writes) == (4, ("skipped", "meter_not_found"), [])


def rewritten(world: World, change: Callable[[Row], object]) -> None:
    """Change each row that answers a query."""

    def rewrite(body: str) -> bytes:
        answer = json.loads(body)
        for row in answer["data"]:
            change(row)
        return json.dumps(answer).encode()

    world.sandbox.faults.add(Fault(server="openmeter", path="/query$", rewrite=rewrite, times=None))


ODD = {
    "a string that is no number": lambda row: row.update(value="much"),
    "a number without an end": lambda row: row.update(value="1e99999999999999999999"),
    "a value in JSON's own numbers": lambda row: row.update(value=5),
    "no value": lambda row: row.pop("value"),
    "dimensions that are null": lambda row: row.update(dimensions=None),
    "no dimensions": lambda row: row.pop("dimensions"),
    "dimensions of v1": lambda row: row.update(groupBy=row.pop("dimensions")),
    "a subject that is null": lambda row: row["dimensions"].update(subject=None),
    "another subject": lambda row: row["dimensions"].update(subject="somebody"),
}


@pytest.mark.parametrize("openmeter_version", ["v3"], indirect=True)
@pytest.mark.parametrize("change", ODD.values(), ids=ODD.keys())
def test_a_row_that_is_not_understood_leaves_the_item_as_it_is(used: World, change: Callable[[Row], object]) -> None:
    rewritten(used, change)
    done = used.run()
    assert (done.code, done.verdict, used.writes) == (1, ("failed", "openmeter_error"), [])
    assert f"OpenMeter did not answer for meter {METER}: a " in done.item["message"]


@EACH_VERSION
def test_a_filter_by_the_subject_is_refused_rather_than_left_out(used: World) -> None:
    used.configure(f'[[meters]]\nprice = "{used.price}"\nopenmeter = "{METER}"\nfilter = {{ subject = "nobody" }}\n')
    done = used.run()
    assert (done.code, done.verdict, used.writes) == (1, ("failed", "openmeter_error"), [])
    assert "check the filter" in done.item["message"]


@pytest.mark.parametrize("openmeter_version", ["v3"], indirect=True)
def test_what_is_wrong_with_a_question_is_said_and_what_it_is_found_by_is_logged(used: World) -> None:
    used.configure(f'[[meters]]\nprice = "{used.price}"\nopenmeter = "{METER}"\nfilter = {{ region = "eu" }}\n')
    done = used.run(METER_SYNC_LOG_LEVEL="info", METER_SYNC_LOG_FORMAT="json")
    assert (done.code, done.verdict, used.writes) == (1, ("failed", "openmeter_error"), [])
    assert "region" in done.item["message"]
    assert "correlation_id" in done.stderr
    correlation_id = next(json.loads(line)["correlation_id"] for line in done.stderr.splitlines() if "refused" in line)
    assert correlation_id
    assert correlation_id not in done.stdout


@EACH_VERSION
def test_meters_and_customers_are_found_over_all_pages(world: World) -> None:
    for number in range(205):
        world.openmeter.add_meter(f"meter_{number}")
    subscription = world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "meter_204"}))
    for number in range(204):
        world.openmeter.add_customer(f"customer_{number}")
    world.openmeter.add_customer("the_last", subjects=["acme"], stripe_customer_id=world.customer_of(subscription))
    world.use("acme", 7, meter="meter_204")
    done = world.run(METER_SYNC_SUBJECT="openmeter.customer")
    assert (done.verdict, world.billed(subscription)) == (("reported", None), 7)


@EACH_VERSION
@pytest.mark.parametrize("status", [404, 410])
def test_a_meter_that_is_gone_meanwhile_leaves_its_items_as_they_are(used: World, status: int) -> None:
    used.sandbox.faults.add(Fault(server="openmeter", path="/query$", status=status, times=None))
    done = used.run()
    assert (done.code, done.verdict, used.writes) == (1, ("failed", "openmeter_error"), [])
    assert f"HTTP status {status}" in done.item["message"]


@EACH_VERSION
@pytest.mark.parametrize("status", [404, 410])
def test_a_customer_that_is_gone_meanwhile_spoils_no_other(world: World, status: int) -> None:
    subscriptions = [world.subscribe() for _ in range(5)]
    customers = [world.openmeter.add_customer(world.customer_of(one)) for one in subscriptions]
    for one in subscriptions:
        world.use(one, 7)
    world.sandbox.faults.add(Fault(server="openmeter", path="/query$", body=customers[2], status=status, times=None))
    assert world.run(METER_SYNC_SUBJECT="openmeter.customer").code == 3
    assert [world.billed(one) for one in subscriptions] == [7, 7, 0, 7, 7]
