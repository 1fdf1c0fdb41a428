"""A list that is read in ranges side by side: all of it, each row once, in hardly more requests than it has pages."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.stripe_api.ranges import Range, Ranges, Row, RowPage
from meter_sync.stripe_api.shapes import NotUnderstood
from tests.core.builders import many

NOW = 1_800_000_000
DAY, YEAR = 86_400, 365 * 86_400

Page = RowPage[str]


@dataclass
class Account:
    """What a list is of, in the order of creation, and who asks for it."""

    created: Sequence[int]
    page_size: int
    gone: set[int] = field(default_factory=set)
    asked: list[dict[str, Any]] = field(default_factory=list)
    ignores_bounds: bool = False

    def __post_init__(self) -> None:
        self.created = sorted(self.created)

    @property
    def pages(self) -> int:
        return max(1, math.ceil(len(self.created) / self.page_size))

    @property
    def newest_first(self) -> list[str]:
        return [str(number) for number in reversed(range(len(self.created))) if number not in self.gone]

    def create(self, at: int) -> None:
        """Let something new be there, whose `created` is that of the newest or later."""
        self.created = [*self.created, max([at, *self.created[-1:]])]

    def answer(self, params: dict[str, Any]) -> Page:
        """Answer as Stripe does: newest first, after a cursor that may be of something that is gone."""
        self.asked.append(params)
        bounds = {} if self.ignores_bounds else params.get("created", {})
        end = min(int(params.get("starting_after", len(self.created))), self._before(bounds.get("lt", 2 * NOW)))
        numbers = range(end - 1, self._before(bounds.get("gte", 0)) - 1, -1)
        there = (number for number in numbers if number not in self.gone)
        found = [Row(str(number), self.created[number], str(number)) for number in islice(there, self.page_size + 1)]
        return RowPage(found[: self.page_size], len(found) > self.page_size)

    def _before(self, instant: int) -> int:
        return bisect_left(self.created, instant)


def read(account: Account, at_once: int, next_answered: Callable[[int], int], meanwhile: Callable[[], object]) -> Any:
    """Read with so many requests under way; of those, one is answered next, and something happens."""
    ranges = Ranges[str]("the list")
    under_way: list[tuple[Range[str], dict[str, Any]]] = [(ranges.first, ranges.first.ask())]
    while under_way:
        part, params = under_way.pop(next_answered(len(under_way)))
        ranges.take(part, account.answer(params))
        meanwhile()
        while len(under_way) + (not part.is_over) < at_once and (older := ranges.split()):
            under_way.append((older, older.ask()))
        if not part.is_over:
            under_way.append((part, part.ask()))
    return ranges.rows


def read_in_turn(account: Account, at_once: int = 8) -> list[str]:
    found: list[str] = read(account, at_once, lambda _: 0, lambda: None)
    return found


bursts = st.lists(st.tuples(st.integers(0, 5 * YEAR), st.integers(1, 60), st.integers(1, 600)), max_size=5).map(
    lambda found: [NOW - age - number % seconds for age, count, seconds in found for number in range(count)]
)
accounts = st.one_of(
    st.integers(0, 150).map(lambda count: [NOW] * count),
    st.integers(0, 150).map(lambda count: [NOW - number for number in range(count)]),
    st.lists(st.integers(NOW - 20, NOW), max_size=150),
    st.lists(st.integers(NOW - 10 * YEAR, NOW), max_size=150),
    bursts,
)


@many
@given(accounts, st.integers(1, 6), st.integers(1, 16), st.randoms(), st.booleans())
def test_each_that_is_there_throughout_is_found_once_whatever_comes_and_goes_meanwhile(
    created: list[int], page_size: int, at_once: int, random: Random, is_quiet: bool
) -> None:
    account = Account(created, page_size)
    before = len(created)

    def happen() -> None:
        for _ in range(0 if is_quiet else random.choice([0, 0, 1, 3])):
            if random.random() < 0.5:
                account.create(NOW + random.choice([0, 1, 50]))
            elif account.created:
                account.gone.add(random.randrange(len(account.created)))

    found = read(account, at_once, random.randrange, happen)

    assert len(set(found)) == len(found)
    assert {str(number) for number in range(before)} - set(map(str, account.gone)) <= set(found)
    if is_quiet:
        assert found == account.newest_first
        assert len(account.asked) <= account.pages + 20 + account.pages // 6


@pytest.mark.parametrize("rows", [0, 1, 99, 100])
def test_what_is_one_page_is_one_request_without_bounds(rows: int) -> None:
    account = Account([NOW - DAY * number for number in range(rows)], page_size=100)

    assert read_in_turn(account) == account.newest_first
    assert account.asked == [{}]


def evenly(number: int) -> int:
    return NOW - number * 3_607


def growing(number: int) -> int:
    return NOW - int(YEAR * math.log(1 + number / 1_000))


def one_a_second(number: int) -> int:
    return NOW - number


def imported_years_ago(number: int) -> int:
    return NOW - 3 * YEAR - number // 20 if number > 1_000 else NOW - number * DAY


def in_bursts(number: int) -> int:
    return NOW - number // 1_000 * YEAR // 2 - number % 1_000


MANY = [evenly, growing, one_a_second, imported_years_ago, in_bursts]


@pytest.mark.parametrize("when", MANY)
def test_a_thousand_pages_are_read_eight_at_once_for_less_than_a_tenth_more(when: Callable[[int], int]) -> None:
    account = Account([when(number) for number in range(10_000)], page_size=10)
    under_way = list[int]()

    def oldest(how_many: int) -> int:
        under_way.append(how_many)
        return 0

    assert read(account, 8, oldest, lambda: None) == account.newest_first
    assert len(account.asked) < 1.1 * account.pages
    assert under_way.count(8) > 0.9 * account.pages


def test_crowds_that_are_far_apart_are_looked_for_in_no_more_requests() -> None:
    """Halving the time between them finds nothing most of the time: it ends where that would cost a tenth."""
    account = Account([NOW - number // 15 * 30 * DAY - number % 15 for number in range(10_000)], page_size=10)

    assert read_in_turn(account, 16) == account.newest_first
    assert len(account.asked) < 1.1 * account.pages


def test_seconds_are_whole_and_one_of_them_is_never_split() -> None:
    account = Account([NOW] * 500, page_size=5)

    assert read_in_turn(account, 16) == account.newest_first
    assert all(bounds["gte"] < bounds["lt"] for asked in account.asked if len(bounds := asked.get("created", {})) == 2)


def test_a_row_whose_creation_is_not_understood_is_kept() -> None:
    ranges = Ranges[str]("the list")

    ranges.take(ranges.first, RowPage([Row("a", 5, "a"), Row("b", None, "b"), Row("c", 3, "c")], False))

    assert ranges.rows == ["a", "b", "c"]


def test_a_list_that_does_not_heed_the_bounds_is_refused() -> None:
    account = Account([NOW - number for number in range(50)], page_size=5, ignores_bounds=True)

    with pytest.raises(NotUnderstood, match="was not created when it was asked for"):
        read_in_turn(account)


def test_one_that_is_in_two_ranges_is_refused_since_it_cannot_be_both() -> None:
    ranges, page = Ranges[str]("the list"), [Row(str(number), NOW - number, str(number)) for number in range(5)]
    ranges.take(ranges.first, RowPage(page, True))
    older = ranges.split()
    assert older is not None
    assert older.end is not None
    older.ask()

    with pytest.raises(NotUnderstood, match="it has 3 twice"):
        ranges.take(older, RowPage([Row("3", older.end - 1, "3")], False))


def test_a_list_that_goes_on_with_nothing_is_refused() -> None:
    ranges = Ranges[str]("the list")

    with pytest.raises(NotUnderstood, match="it goes on, but with nothing"):
        ranges.take(ranges.first, RowPage([], True))


def test_what_a_page_brings_of_before_a_split_is_left_to_the_other() -> None:
    """The split came while the page was under way, and the rows were fewer than they seemed."""
    ranges = Ranges[str]("the list")
    rows = [Row(str(number), NOW - number * DAY, str(number)) for number in range(5)]
    ranges.take(ranges.first, RowPage(rows, True))
    ranges.first.ask()
    older = ranges.split()
    assert older is not None
    assert older.end == ranges.first.start
    assert older.end is not None
    before = Row("old", older.end - 1, "old")

    ranges.take(ranges.first, RowPage([before], True))
    assert ranges.first.ask() == {"created": {"gte": older.end}, "starting_after": "4"}
    ranges.take(ranges.first, RowPage([], False))
    older.ask()
    ranges.take(older, RowPage([before], False))

    assert ranges.rows == ["0", "1", "2", "3", "4", "old"]
