"""What is kept of usage between runs is what the next one reads; what cannot be read is asked for anew."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.metering.mapping import Grouping
from meter_sync.core.metering.meter import Aggregation
from meter_sync.core.metering.sharing import Kept, KeptUsage, Series
from meter_sync.ledger import Ledger, Place, Scope, open_ledger
from tests.support.tables import FILE_ONLY, carry_out, rows

START = datetime(2026, 11, 1, 9, 30, 17, tzinfo=UTC)
HOUR = timedelta(hours=1)
SERIES = Series("01meter", "requests", (("model", ("a", "b")),), Grouping.SUBJECT, Aggregation.SUM)
OTHER = replace(SERIES, filter=())
KEPT = Kept(
    read_at=START + 30 * HOUR,
    as_of=START + 31 * HOUR,
    joints=(START, START + 2 * HOUR, START + 30 * HOUR),
    totals={"cus_1": (Decimal("1.5"), None), "cus_ü": (Decimal(0),)},
    usages={
        ("si_1", START): KeptUsage(("cus_1",), START + 2 * HOUR, Decimal("0.1")),
        ("si_1", START + HOUR): KeptUsage(("cus_1", "cus_ü"), START + 2 * HOUR, None),
        ("si_2 1", START): KeptUsage(("cus_ü",), START + 2 * HOUR, None, WindowSize.HOUR),
    },
)
CHANGED = Kept(
    read_at=KEPT.read_at,
    as_of=START + 32 * HOUR,
    joints=(*KEPT.joints[:2], START + 31 * HOUR),
    totals={"cus_1": (Decimal(2), Decimal(3))},
    usages={("si_1", START): KeptUsage(("cus_1",), START + 2 * HOUR, Decimal(7))},
)


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    with open_ledger(place, Scope("", "sandbox")) as ledger:
        yield ledger


def test_what_was_recorded_is_read_and_each_series_is_its_own(ledger: Ledger) -> None:
    ledger.kept.record({}, {SERIES: KEPT, OTHER: CHANGED})
    assert ledger.kept.read() == {SERIES: KEPT, OTHER: CHANGED}


def test_what_changed_is_changed_and_what_went_is_gone(ledger: Ledger) -> None:
    ledger.kept.record({}, {SERIES: KEPT, OTHER: KEPT})
    ledger.kept.record({SERIES: KEPT, OTHER: KEPT}, {SERIES: CHANGED})
    assert ledger.kept.read() == {SERIES: CHANGED}
    ledger.kept.forget()
    assert ledger.kept.read() == {}


@FILE_ONLY
def test_what_did_not_change_writes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    ledger.kept.record({}, {SERIES: KEPT})
    before = path.read_bytes()
    ledger.kept.record({SERIES: KEPT}, {SERIES: KEPT})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "usages", "totals"),
    [
        ("UPDATE kept_usages SET usage = 'much' WHERE usage IS NOT NULL", 2, 2),
        ("UPDATE kept_usages SET usage = 'NaN' WHERE usage IS NOT NULL", 2, 2),
        ("UPDATE kept_usages SET subjects = '{'", 0, 2),
        ("UPDATE kept_usages SET \"window\" = 'minute' WHERE need = 'si_1'", 1, 2),
        ("UPDATE kept_totals SET totals = '[\"x\"]' WHERE subject = 'cus_1'", 3, 1),
        ("UPDATE kept_totals SET totals = '[\"Infinity\"]' WHERE subject = 'cus_1'", 3, 1),
    ],
)
def test_a_row_that_cannot_be_read_is_not_there_and_the_next_record_mends_it(
    ledger: Ledger, place: Place, damage: str, usages: int, totals: int
) -> None:
    ledger.kept.record({}, {SERIES: KEPT})
    carry_out(place, damage)
    found = ledger.kept.read()
    assert (len(found[SERIES].usages), len(found[SERIES].totals)) == (usages, totals)
    ledger.kept.record(found, {SERIES: KEPT})
    assert ledger.kept.read() == {SERIES: KEPT}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE kept_series SET joints = 'x'",
        "UPDATE kept_series SET joints = '[]'",
        "UPDATE kept_series SET joints = '[9, 9]'",
        "UPDATE kept_series SET filter = 'x'",
        "UPDATE kept_series SET aggregation = 'x'",
        "UPDATE kept_series SET grouping = 'x'",
    ],
)
def test_a_series_that_cannot_be_read_is_not_there_and_nothing_of_it_stays(
    ledger: Ledger, place: Place, damage: str
) -> None:
    ledger.kept.record({}, {SERIES: KEPT})
    carry_out(place, damage)
    assert ledger.kept.read() == {}
    ledger.kept.record({}, {SERIES: CHANGED})
    assert rows(ledger, "kept_usages") == len(CHANGED.usages)
