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
