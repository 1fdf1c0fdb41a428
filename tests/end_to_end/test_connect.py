"""Accounts that are connected to a platform, and those of an organization: one key, and requests that name whose."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.platform import Platform


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path)
    with made.sandbox.in_background():
        yield made


def test_each_connected_account_is_billed_its_own_usage_with_the_platforms_key(platform: Platform) -> None:
    own = platform.subscribe(platform.sandbox.stripe, 99)
    done = platform.run()
    assert (done.code, platform.billed) == (0, [10, 20])
    assert platform.sandbox.stripe.total(own) == 0
    asked = {request.account for request in platform.sandbox.requests if request.server == "stripe"}
    assert asked == {shop.account for shop in platform.shops}
    assert [row["outcome"] for row in platform.run().document["items"]] == ["unchanged"] * 2


def test_an_account_that_is_not_connected_any_more_is_named_and_the_others_go_on(platform: Platform) -> None:
    platform.sandbox.disconnect_account(platform.shops[0])
    done = platform.run()
    first, second = done.document["accounts"]
    assert (done.code, first["error"]["code"], second["error"]) == (78, "stripe_account", None)
    assert platform.shops[0].account in first["error"]["message"]
    assert platform.billed == [0, 20]


def test_one_connected_account_in_two_rows_is_refused(platform: Platform) -> None:
    one, other = (shop.account for shop in platform.shops)
    done = platform.run(toml=platform.toml.replace(other, one))
    assert (done.code, f"are of Stripe account {one}" in done.stderr, platform.billed) == (78, True, [0, 0])


def test_an_organizations_key_names_the_account_of_each_request(platform: Platform) -> None:
    eu = platform.sandbox.add_account()
    item = platform.subscribe(eu, 7)
    key = platform.sandbox.organization_key([eu])
    toml = f'[[accounts]]\nname = "eu"\n[accounts.stripe]\naccount = "{eu.account}"\nkey_mode = "sandbox"\n'
    done = platform.run(toml=toml, STRIPE_API_KEY=key)
    assert (done.code, eu.total(item)) == (0, 7)
    unsaid = platform.run(toml=toml.replace('key_mode = "sandbox"', ""), STRIPE_API_KEY=key)
    assert (unsaid.code, "stripe.key_mode" in unsaid.stderr) == (78, True)


def test_all_connected_accounts_are_listed_at_each_run_and_chosen_by_their_metadata(platform: Platform) -> None:
    toml = '[connect]\nall = true\nmetadata = { meter_sync = "on" }\n'
    nothing = platform.run(toml=toml)
    assert (nothing.code, nothing.error_code) == (1, "nothing_selected")
    for shop in platform.shops:
        shop.state.account = replace(shop.state.account, metadata={"meter_sync": "on"})
    done = platform.run(toml=toml)
    assert (done.code, platform.billed) == (0, [10, 20])
    assert [row["name"] for row in done.document["accounts"]] == sorted(shop.account for shop in platform.shops)
    added = platform.sandbox.connect_account({"meter_sync": "on"})
    item = platform.subscribe(added, 5)
    assert platform.run(toml=toml).code == 0
    assert added.total(item) == 5


def test_a_connected_account_that_a_row_names_is_not_worked_on_twice(platform: Platform) -> None:
    done = platform.run(toml=platform.toml.partition('[[accounts]]\nname = "shop-1"')[0] + "[connect]\nall = true\n")
    names = [row["name"] for row in done.document["accounts"]]
    assert (done.code, platform.billed, names) == (0, [10, 20], ["shop-0", platform.shops[1].account])


def test_a_connected_account_whose_row_has_a_slip_gets_no_other_books_by_its_id(platform: Platform) -> None:
    row = platform.toml.partition('[[accounts]]\nname = "shop-1"')[0]
    done = platform.run(toml=f"{row}rat = 3\n[connect]\nall = true\n")
    assert (done.code, platform.billed) == (78, [0, 20])
    assert [row["name"] for row in done.document["accounts"]] == ["shop-0", platform.shops[1].account]


def test_one_connected_account_may_be_asked_for_without_listing_all(platform: Platform) -> None:
    done = platform.run("--account", platform.shops[1].account, toml="[connect]\nall = true\n")
    assert (done.code, platform.billed) == (0, [0, 20])
    assert not [one for one in platform.sandbox.requests if one.path == "/v1/accounts"]
