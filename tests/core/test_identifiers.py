"""What an identifier of a meter event names is found in it again, and in none of another program's."""

from datetime import UTC, datetime

import pytest

from meter_sync.core.billing import identifiers
from meter_sync.core.billing.identifiers import Named
from tests.core.builders import START, make_item

RUN = "0a6f2c1e-5d4b-4c3a-9f2e-1b0c9d8e7f60"
HOUR = datetime(2026, 11, 1, 10, tzinfo=UTC)


def test_an_identifier_names_the_item_and_the_hour_or_the_period() -> None:
    item = make_item("si_NcLYdDxLHxlFo7")

    assert identifiers.named(identifiers.of_set(RUN, item.id, HOUR)) == Named(item.id, part=HOUR)
    for base in (0, 7, -7):
        of_addition = identifiers.of_addition(item, base, 2)
        assert identifiers.named(of_addition) == Named(item.id, period_start=START)


@pytest.mark.parametrize("other", ["", "event", f"{RUN}-si_1", "si_1-2026", f"{RUN}-{RUN}", "si_1-999999999999-0-0"])
def test_of_another_form_it_names_nothing(other: str) -> None:
    assert identifiers.named(other) is None
