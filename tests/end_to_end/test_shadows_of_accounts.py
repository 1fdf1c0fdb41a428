"""An account in shadow mode beside another: each has a sandbox and books of its own, and the other is billed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shadowed import EU, US, Shadowed, shadowed_account


@pytest.fixture
def shadowed(tmp_path: Path) -> Iterator[Shadowed]:
    with shadowed_account(tmp_path) as found:
        yield found


def test_one_run_bills_the_shadow_of_an_account_and_another_account_itself(shadowed: Shadowed) -> None:
    both, toml = shadowed.both, shadowed.toml()
    shadowed.copied()

    done = both.meter_sync("run", "--output", "json", toml=toml)
    compared = both.meter_sync("verify", "--account", EU, "--output", "json", toml=toml)

    assert (done.code, both.billed) == (0, {EU: 0, US: 20}), done.stderr
    assert (shadowed.sandbox.stripe.total(shadowed.copy), shadowed.written) == (10, [])
    assert [(one["name"], one["run"].get("shadow")) for one in done.document["accounts"]] == [(EU, True), (US, None)]
    (beside,) = compared.document["shadow"]["items"]
    assert (compared.code, beside["in_shadow"], beside["in_account"]) == (0, "10", "0")
    assert [shadowed.was_used(name) for name in ("eu/shadow", EU, US)] == [True, False, True]


def test_a_shadow_beside_others_is_verified_and_bills_nothing_twice(shadowed: Shadowed) -> None:
    both = shadowed.both
    shadowed.copied()
    # Who is billed by the second account asks the OpenMeter of the first, where the customers have the same id.
    shared = shadowed.toml().replace(both.sandboxes[US].openmeter_url, both.sandboxes[EU].openmeter_url)
    toml = shared.replace("us.openmeter", "eu.openmeter")
    both.meter_sync("run", toml=toml)
    all_, one, told = (
        both.meter_sync(*arguments, "--output", "json", toml=toml)
        for arguments in (("verify",), ("verify", "--account", US), ("history",))
    )
    assert [row["run"].get("shadow") for row in all_.document["accounts"]] == [True, None]
    assert (all_.document["billed_twice"], one.document["billed_twice"]) == ([], [])
    assert (all_.document["unbilled_subjects"], one.document["unbilled_subjects"]) == ([], [])
    assert [row["name"] for row in told.document["accounts"]] == [EU, US]
    assert {row["account"] for row in told.document["runs"]} == {EU, US}
