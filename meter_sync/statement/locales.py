"""Numbers, dates and times as the readers of a locale write them; the words of a statement stay English."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime
from babel.numbers import format_compact_decimal, format_decimal, format_percent

from meter_sync.core.billing.item import Period
from meter_sync.core.telling.statement.times import time_before
from meter_sync.core.text import date_and_time, digits
from meter_sync.errors import ArgumentsError

DEFAULT = "en"
"""English of no country. There, a day is written `2026-11-30`: English has no one order of day and month, and whoever
reads 03/04 in another country than its writer reads another day. `en-US` or `en-GB` writes as it is usual there."""

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_MIDNIGHT = time()
_THOUSAND = 1000
_MOST_DIGITS = 100
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Written:
    """How a locale writes. All times are UTC; no amount is rounded but by `short` and `share`."""

    locale: Locale

    def number(self, amount: Decimal | int) -> str:
        """Return an amount with all its digits, in groups; minus zero is zero."""
        plain = Decimal(digits(amount)) if amount else Decimal(0)
        with localcontext(prec=_MOST_DIGITS):  # what formats it calculates with it, and would round at 28 digits
            return format_decimal(plain, locale=self.locale, decimal_quantization=False)

    def short(self, amount: Decimal) -> str:
        """Return an amount for the axis of a chart, in hundredths of a thousand, of a million and so on: `1.25M`."""
        if abs(amount) < _THOUSAND:
            return self.number(amount)
        return format_compact_decimal(amount, locale=self.locale, fraction_digits=2)

    def share(self, part: Decimal, whole: Decimal) -> str:
        """Return how much a part is of a whole that is not zero, in whole percent."""
        return format_percent(part / whole, locale=self.locale)

    def change(self, before: Decimal, now: Decimal) -> str:
        """Return how much more or less there is now, in whole percent with its sign; `new` where nothing was before."""
        if not before:
            return "new"
        return f"{'+' if now > before else ''}{self.share(now - before, before)}"

    def day(self, day: date) -> str:
        """Return a day."""
        return day.isoformat() if self._is_of_no_country else format_date(day, "medium", locale=self.locale)

    def short_day(self, day: date) -> str:
        """Return a day for the axis of a chart, without its year."""
        return f"{day:%m-%d}" if self._is_of_no_country else format_date(day, self._day_and_month, locale=self.locale)

    def instant(self, instant: datetime) -> str:
        """Return an instant in UTC, to the second."""
        instant = instant.astimezone(UTC)
        if self._is_of_no_country:
            return date_and_time(instant)
        return format_datetime(instant, "medium", tzinfo=UTC, locale=self.locale)

    def period(self, period: Period) -> str:
        """Return a period with its first instant and the first one after it; as days where both are midnights."""
        start, end = period.start.astimezone(UTC), period.end.astimezone(UTC)
        if start.time() == end.time() == _MIDNIGHT:
            return f"{self.day(start.date())} to {self.day(end.date())}"
        return f"{self.instant(start)} to {self.instant(end)}"

    def name(self, since: datetime, until: datetime) -> str:
        """Return what a time is called: a month by its English name, whole days by the first and the last one."""
        since, until = since.astimezone(UTC), until.astimezone(UTC)
        first, last = since.date(), (until - _DAY).date()
        if since.time() != _MIDNIGHT or until.time() != _MIDNIGHT:
            return self.period(Period(since, until))
        if first.day == until.day == 1 and (first.year, first.month) == (last.year, last.month):
            return f"{_MONTHS[first.month - 1]} {first.year}"
        return self.day(first) if first == last else f"{self.day(first)} to {self.day(last)}"

    def name_before(self, since: datetime, until: datetime) -> str:
        """Return what the time of the same length before another one is called: of months, as many months before."""
        before = time_before(Period(since.astimezone(UTC), until.astimezone(UTC)))
        return self.name(before.start, before.end)

    @property
    def _is_of_no_country(self) -> bool:
        return str(self.locale) == DEFAULT

    @property
    def _day_and_month(self) -> str:
        """The locale's short date without its year."""
        skeleton = self.locale.datetime_skeletons.get("Md")
        return str(skeleton.pattern) if skeleton else "d.M."


def written_for(tag: str) -> Written:
    """Return how a locale writes, which is named as `de`, `de-CH` or `de_CH`.

    Raise ArgumentsError for one that Unicode's data, which come with babel, do not have.
    """
    try:
        locale = Locale.parse(tag.strip().replace("-", "_"))
    except (UnknownLocaleError, ValueError, TypeError) as error:
        raise ArgumentsError(
            f"there is no locale {tag!r}; no statement was made",
            "give a language, with a country or without: en, en-GB, en-US, de, de-CH, fr, pt-BR, ja",
        ) from error
    return Written(locale)
