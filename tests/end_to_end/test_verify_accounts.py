"""`verify` of several accounts: each by itself, and what only shows where they are looked at together."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import StripeWorld, SubscriptionView
from tests.support.accounts import Accounts, accounts
from tests.support.platform import Platform
from tests.support.postgres import new_ledger
from tests.support.world import METER, Outcome

EU, US = "eu", "us"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
"""By the sandbox's clock, which the tests may set forward; usage of the last 31 days is looked at."""


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Accounts]:
    """Two accounts, each with an OpenMeter of its own."""
    with accounts(tmp_path, EU, US, now=NOW, period_start=NOW - 9 * DAY) as made:
        yield made


@pytest.fixture
def shops(tmp_path: Path) -> Iterator[Platform]:
    """Two accounts that share an OpenMeter."""
    made = Platform(tmp_path, now=NOW)
    with made.sandbox.in_background():
        yield made


def verified(made: Accounts | Platform, *arguments: str, toml: str = "", **variables: str) -> Outcome:
    return made.meter_sync("verify", "--output", "json", *arguments, toml=toml, **variables)


def codes(done: Outcome) -> dict[str, int]:
    return {row["name"]: row["summary"]["exit_code"] for row in done.document["accounts"]}


# -- each by itself ----------------------------------------------------------------------------------


def test_all_accounts_are_compared_by_one_command(both: Accounts) -> None:
    both.run()
    done = verified(both)
    assert (done.code, codes(done), done.stderr) == (0, {EU: 0, US: 0}, "")
    document = done.document
    found = [(row["account"], row["expected"], row["actual"], row["outcome"]) for row in document["items"]]
    assert found == [(EU, "10", "10", "match"), (US, "20", "20", "match")]
    assert (document["summary"]["items"], document["summary"]["match"], document["run"]["id"]) == (2, 2, None)
    assert document["summary"]["stripe_requests"] == sum(
        row["summary"]["stripe_requests"] for row in document["accounts"]
    )
    assert [document[name] for name in ("unbilled_subjects", "unbilled_usage", "unbilled_unknown")] == [[], [], []]
    assert document["billed_twice"] == []


def test_a_table_and_csv_say_whose_each_item_is(both: Accounts) -> None:
    both.run()
    heading, *rows = both.meter_sync("verify").stdout.splitlines()
    assert (heading.split()[0], [row.split()[0] for row in rows[:2]]) == ("account", [EU, US])
    assert rows[-1].startswith("2 accounts, 2 items. ")
    as_csv = csv.DictReader(io.StringIO(both.meter_sync("verify", "--output", "csv").stdout))
    assert [(row["account"], row["difference"]) for row in as_csv] == [(EU, "0"), (US, "0")]
    assert both.meter_sync("verify", "--quiet").stdout == ""


def test_what_goes_wrong_with_one_account_changes_nothing_for_another(both: Accounts) -> None:
    both.run()
    both.sandboxes[EU].stripe.keys.clear()
    done = verified(both)
    assert (done.code, codes(done)) == (78, {EU: 78, US: 0})
    assert [(row["account"], row["outcome"]) for row in done.document["items"]] == [(US, "match")]
    assert "account eu: Stripe does not accept the API key" in done.stderr
    assert done.document["unbilled_subjects"] == []


def test_a_difference_of_one_account_is_its_own(both: Accounts) -> None:
    both.run("--account", US)
    done = both.meter_sync("verify", "--quiet")
    assert (done.code, "Exit codes: eu 4." in done.stdout) == (4, True)
    assert (done.stdout.splitlines()[1].split()[0], " us " in done.stdout) == (EU, False)


def test_only_the_accounts_that_are_named_are_compared(both: Accounts) -> None:
    one = verified(both, "--account", US)
    assert ([row["account"] for row in one.document["items"]], "accounts" in one.document) == ([US], False)
    assert len(one.document["run"]["id"]) == 36
    several = verified(both, "--account", US, "--account", EU, "--sample", "366")
    assert list(codes(several)) == [EU, US]


def test_a_customer_is_looked_for_in_all_accounts(both: Accounts) -> None:
    extra = both.sandboxes[US].stripe.add_customer(id="cus_extra")
    price = next(iter(both.sandboxes[US].stripe.state.prices)).id
    both.sandboxes[US].stripe.add_subscription(extra, [price], period_start=NOW - DAY)
    done = verified(both, "--customer", extra)
    assert (done.code, [row["account"] for row in done.document["items"]]) == (0, [US])
    assert [done.document[name] for name in ("unbilled_subjects", "unbilled_unknown", "billed_twice")] == [None] * 3
    nobody = verified(both, "--customer", "cus_nobody")
    assert (nobody.code, {row["error"]["code"] for row in nobody.document["accounts"]}) == (1, {"nothing_selected"})


def test_a_sample_and_closed_periods_are_of_each_account(both: Accounts) -> None:
    sample = verified(both, "--sample", "1").document
    assert (len(sample["items"]), sample["summary"]["sample"]["of_items"]) == (2, 2)
    assert (sample["unbilled_subjects"], sample["billed_twice"]) == (None, [])
    closed = verified(both, "--closed", "40")
    assert (closed.code, closed.document["items"], closed.document["billed_twice"]) == (0, [], None)


# -- usage that nobody bills -------------------------------------------------------------------------


def queries(shops: Platform) -> int:
    """How often OpenMeter was asked for usage."""
    return sum(one.server == "openmeter" and one.path.endswith("/query") for one in shops.sandbox.requests)


def test_what_another_account_of_an_openmeter_bills_is_not_unbilled(shops: Platform) -> None:
    shops.run()
    done = verified(shops)
    assert (done.code, done.document["unbilled_subjects"], done.document["unbilled_unknown"]) == (0, [], [])


def test_what_none_of_the_accounts_bills_is_named_once_and_asked_for_once(shops: Platform) -> None:
    shops.run()
    shops.sandbox.openmeter.add_event(METER, "cus_nobody", NOW - HOUR, value=7)
    shops.sandbox.requests.clear()
    sample = verified(shops, "--sample", "1")
    without = queries(shops)
    done = verified(shops)
    assert (sample.code, done.code) == (0, 4)
    (one,) = done.document["unbilled_subjects"]
    assert (one["account"], one["meter"], one["subject"], one["usage"]) == (None, METER, "cus_nobody", "7")
    assert queries(shops) == 2 * without + 1
    assert "nobody bills 7 of meter api_requests" in shops.meter_sync("verify", "--quiet").stdout


def test_an_openmeter_of_its_own_says_whose_usage_nobody_bills(both: Accounts) -> None:
    both.run()
    both.sandboxes[US].openmeter.add_event(METER, "cus_nobody", NOW - HOUR, value=7)
    done = verified(both)
    assert [(row["account"], row["subject"]) for row in done.document["unbilled_subjects"]] == [(US, "cus_nobody")]
    both.sandboxes[EU].faults.add(Fault(server="openmeter", path="/query$", times=None, status=500))
    unread = verified(both, METER_SYNC_RETRY_SECONDS="0")
    assert [row["subject"] for row in unread.document["unbilled_subjects"]] == ["cus_nobody"]
    assert ["meter api_requests" in one for one in unread.document["unbilled_unknown"]] == [True]


def test_an_account_that_could_not_be_listed_makes_it_unknown_and_its_subjects_are_not_named(shops: Platform) -> None:
    shops.run()
    shops.sandbox.disconnect_account(shops.shops[1])
    done = verified(shops)
    assert (codes(done), done.document["unbilled_subjects"]) == ({"shop-0": 0, "shop-1": 78}, None)
    (why,) = done.document["unbilled_unknown"]
    assert why.endswith("nobody bills is not known: account shop-1: it could not be listed")
    assert "cus_" not in why


def test_a_row_with_a_slip_makes_it_unknown_too(shops: Platform) -> None:
    shops.run()
    done = verified(shops, toml=f"{shops.toml}rat = 3\n")
    assert (codes(done), done.document["unbilled_subjects"]) == ({"shop-0": 0, "shop-1": 78}, None)
    assert "the configuration of account shop-1 is wrong" in done.document["unbilled_unknown"][0]


@pytest.mark.parametrize("on_server", [False, pytest.param(True, marks=pytest.mark.every_way)])
def test_for_accounts_that_are_not_asked_for_the_ledger_says_what_they_bill(shops: Platform, on_server: bool) -> None:
    if on_server:
        shops.ledger = new_ledger()
    shops.run("--account", "shop-0")
    unknown = verified(shops, "--account", "shop-0")
    assert (unknown.code, unknown.document["unbilled_subjects"]) == (3, None)
    said = shops.meter_sync("verify", "--account", "shop-0", "--quiet").stdout
    assert "is not known: account shop-1: no run has listed whom it bills" in said
    shops.run("--account", "shop-1")
    shops.sandbox.openmeter.add_event(METER, "cus_nobody", NOW - HOUR, value=7)
    shops.sandbox.requests.clear()
    known = verified(shops, "--account", "shop-0")
    assert (known.code, [row["subject"] for row in known.document["unbilled_subjects"]]) == (4, ["cus_nobody"])
    asked = {one.account for one in shops.sandbox.requests if one.server == "stripe"}
    assert asked == {shops.shops[0].account}


def test_connected_accounts_that_no_row_names_are_compared_and_the_ledger_knows_them(shops: Platform) -> None:
    toml = "[connect]\nall = true\n"
    shops.run(toml=toml)
    one, other = sorted(str(shop.account) for shop in shops.shops)
    done = verified(shops, toml=toml)
    assert (done.code, codes(done)) == (0, {one: 0, other: 0})
    alone = verified(shops, "--account", one, toml=toml)
    assert (alone.code, alone.document["unbilled_subjects"]) == (0, [])


# -- usage that two accounts bill --------------------------------------------------------------------

BY_METADATA = '[mapping]\nsubject = "customer.metadata.om"\n'
ROWS = (
    {"eu": 'filter = { region = "eu" }', "some": 'filter = { region = ["eu", "us"] }', "theirs": "ignore = true"},
    {"us": 'filter = { region = "us" }', "shared": "shared = true", "planned": "report = false"},
)
"""By price, what the rows of each account say of it."""
ITEMS = (
    {
        "acme": "whole",
        "many, acme-eu": "whole",
        "of-two-meters": "whole",
        "apart": "eu",
        "overlapping": "some",
        "part-of-whole": "eu",
        "shared": "whole",
        "planned": "whole",
        "other-software": "theirs",
    },
    {
        "acme": "whole",
        "acme-us, many": "whole",
        "of-two-meters": "another",
        "apart": "us",
        "overlapping": "us",
        "part-of-whole": "whole",
        "shared": "shared",
        "planned": "planned",
        "other-software": "whole",
    },
)
"""By subject, the price of its subscription in each account."""
MOVED = {"moved": (True, 0), "moved-too-late": (True, 2), "moved-unbilled": (False, 2)}
"""Whether the subscription in one account ended with an invoice, and how many hours before that the other's began."""


def toml_of(shops: Platform) -> str:
    """Return the rows of the accounts, each with its own rows for meters."""
    toml = BY_METADATA
    for number, (shop, rows) in enumerate(zip(shops.shops, ROWS, strict=True)):
        toml += f'[[accounts]]\nname = "shop-{number}"\n[accounts.stripe]\naccount = "{shop.account}"\n'
        for price, row in rows.items():
            meter = "" if "ignore" in row else 'openmeter = "gb"'
            toml += f'[[accounts.meters]]\nprice = "price_{price}"\n{meter}\n{row}\n'
    return toml


def subscribe(shop: StripeWorld, subject: str, price: str, since: datetime) -> SubscriptionView:
    customer = shop.add_customer(metadata={"om": subject})
    return shop.add_subscription(customer, [f"price_{price}"], period_start=since)


@pytest.fixture(scope="module")
def billed_twice(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[str]]]:
    """What `verify` says of subjects that several accounts bill: the meter and the accounts of each."""
    shops = Platform(tmp_path_factory.mktemp("shops"), now=NOW)
    shops.sandbox.openmeter.add_meter("gb", group_by={"region": "$.region"})
    for shop, items, rows in zip(shops.shops, ITEMS, ROWS, strict=True):
        shop.add_price(id="price_whole", metadata={"om_meter_id": "gb"})
        shop.add_price(id="price_another", metadata={"om_meter_id": METER})
        for price in rows:
            shop.add_price(id=f"price_{price}")
        for subject, price in items.items():
            subscribe(shop, subject, price, NOW - 9 * DAY)
    first, second = shops.shops
    gone = {subject: subscribe(first, subject, "whole", NOW - 9 * DAY) for subject in MOVED}
    with shops.sandbox.in_background():
        assert shops.run("--account", "shop-0", toml=toml_of(shops)).code == 4  # for customers without this metadata
        for subject, (invoice_now, hours) in MOVED.items():
            first.cancel(gone[subject].id, invoice_now=invoice_now)
            subscribe(second, subject, "whole", NOW - hours * HOUR)
        shops.sandbox.clock.advance(timedelta(minutes=1))
        shops.now += timedelta(minutes=1)
        shops.run("--account", "shop-0", toml=toml_of(shops))
        done = verified(shops, toml=toml_of(shops))
    assert codes(done) == {"shop-0": 4, "shop-1": 4}
    return {one["subject"]: (one["meter"], one["accounts"]) for one in done.document["billed_twice"]}


@pytest.mark.parametrize("subject", ["acme", "many", "overlapping", "part-of-whole", "moved-too-late"])
def test_a_subject_whose_usage_two_accounts_bill_is_named(
    billed_twice: dict[str, tuple[str, list[str]]], subject: str
) -> None:
    """Also one of many of an item, what two filters let through, and for a time what has moved."""
    assert billed_twice[subject] == ("gb", ["shop-0", "shop-1"])


@pytest.mark.parametrize(
    "subject",
    [
        *("acme-eu", "acme-us", "of-two-meters", "apart", "shared", "planned", "other-software"),
        *("moved", "moved-unbilled"),
    ],
)
def test_usage_that_one_account_bills_is_not_billed_twice(
    billed_twice: dict[str, tuple[str, list[str]]], subject: str
) -> None:
    """By its meter, its filter or its time; and what a row says is shared, not reported or another program's."""
    assert subject not in billed_twice


def test_usage_that_two_accounts_bill_ends_each_verification_of_one_of_them_with_4(shops: Platform) -> None:
    for shop in shops.shops:
        shop.add_price(id="price_whole", metadata={"om_meter_id": METER})
        subscribe(shop, "acme", "whole", NOW - 9 * DAY)
    toml = BY_METADATA + shops.toml
    sample = shops.meter_sync("verify", "--sample", "366", "--quiet", toml=toml)
    assert (sample.code, "billed twice: subject acme of meter api_requests" in sample.stdout) == (4, True)
    shops.run("--account", "shop-0", toml=toml)
    alone = verified(shops, "--account", "shop-1", "--sample", "366", toml=toml)
    named = [{"meter": METER, "subject": "acme", "accounts": ["shop-0", "shop-1"]}]
    assert (alone.code, alone.document["billed_twice"]) == (4, named)


def test_what_has_one_name_in_two_openmeters_is_not_billed_twice(both: Accounts) -> None:
    """Both customers have the same id in these two sandboxes, and the meters the same slug."""
    done = verified(both)
    assert [row["subjects"] for row in done.document["items"]] == [["cus_1Sandbox00000001"]] * 2
    assert done.document["billed_twice"] == []


def test_two_keys_for_one_openmeter_are_known_by_the_ids_of_its_meters(shops: Platform) -> None:
    shops.sandbox.openmeter.token = None  # any key will do
    toml = ""
    for number, shop in enumerate(shops.shops):
        key = shops.folder / f"key-{number}"
        key.write_text(f"om_{number}", encoding="utf-8")
        toml += f'[[accounts]]\nname = "shop-{number}"\n[accounts.stripe]\naccount = "{shop.account}"\n'
        toml += f'[accounts.openmeter]\nurl = "{shops.sandbox.openmeter_url}"\napi_key_file = "{key}"\n'
    assert shops.run(toml=toml).code == 0
    assert (verified(shops, toml=toml).document["unbilled_subjects"]) == []
    alone = verified(shops, "--account", "shop-0", toml=toml)
    assert (alone.code, alone.document["unbilled_subjects"]) == (0, [])
