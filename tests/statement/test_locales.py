"""Numbers and dates as the readers of a locale write them, and nothing rounded."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from meter_sync.core.billing.item import Period
from meter_sync.errors import ArgumentsError
from meter_sync.statement.locales import written_for
from tests.support.statement import ANCHORED, SINCE, UNTIL

NINE = datetime(2026, 12, 2, 9, 0, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("locale", "number", "instant"),
    [
        ("en", "-282,872.375", "2026-12-02 09:00:04"),
        ("en-US", "-282,872.375", "Dec 2, 2026, 9:00:04\u202fAM"),
        ("en_GB", "-282,872.375", "2 Dec 2026, 09:00:04"),
        ("de", "-282.872,375", "02.12.2026, 09:00:04"),
        ("fr", "-282\u202f872,375", "2 déc. 2026, 09:00:04"),
        ("ja", "-282,872.375", "2026/12/02 9:00:04"),
    ],
)
def test_numbers_and_times_are_those_of_the_locale(locale: str, number: str, instant: str) -> None:
    written = written_for(locale)

    assert written.number(Decimal("-282872.3750")) == number
    assert written.instant(NINE.astimezone(timezone(timedelta(hours=5)))) == instant


def test_no_amount_is_rounded_but_on_an_axis() -> None:
    written = written_for("en")

    assert written.number(Decimal("12345678901234567890.000000001")) == "12,345,678,901,234,567,890.000000001"
    assert [written.number(Decimal(one)) for one in ("-0", "0.00", "1E+3")] == ["0", "0", "1,000"]
    amounts = ("0", "0.25", "-500", "1500", "1250000")
    assert [written.short(Decimal(one)) for one in amounts] == ["0", "0.25", "-500", "1.5K", "1.25M"]
    assert written_for("de").short_day(date(2026, 12, 2)) == "2.12."


@pytest.mark.parametrize(
    ("since", "until", "name"),
    [
        (SINCE, UNTIL, "November 2026"),
        (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), "December 2026"),
        (SINCE, SINCE + timedelta(days=1), "2026-11-01"),
        (SINCE, SINCE + timedelta(days=7), "2026-11-01 to 2026-11-07"),
        (SINCE, UNTIL + timedelta(days=31), "2026-11-01 to 2026-12-31"),
        (SINCE, SINCE + timedelta(hours=6), "2026-11-01 00:00:00 to 2026-11-01 06:00:00"),
    ],
)
def test_a_time_has_the_name_that_people_give_it(since: datetime, until: datetime, name: str) -> None:
    assert written_for("en").name(since, until) == name


@pytest.mark.parametrize(
    ("since", "until", "name"),
    [
        (SINCE, UNTIL, "October 2026"),
        (datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC), "December 2026"),
        (SINCE, datetime(2027, 1, 1, tzinfo=UTC), "2026-09-01 to 2026-10-31"),
        (SINCE, SINCE + timedelta(days=7), "2026-10-25 to 2026-10-31"),
    ],
)
def test_the_time_before_has_its_own_name(since: datetime, until: datetime, name: str) -> None:
    assert written_for("en").name_before(since, until) == name


def test_a_period_has_its_first_instant_and_the_first_one_after_it() -> None:
    assert written_for("en").period(Period(SINCE, UNTIL)) == "2026-11-01 to 2026-12-01"
    assert written_for("en").period(ANCHORED) == "2026-10-14 09:30:17 to 2026-11-14 09:30:17"


@pytest.mark.parametrize("locale", ["", "x", "klingon", "de-XX", "../../etc/passwd", "\x00"])
def test_a_locale_that_is_not_known_is_named(locale: str) -> None:
    with pytest.raises(ArgumentsError, match="there is no locale") as caught:
        written_for(locale)

    assert "de-CH" in caught.value.hint
