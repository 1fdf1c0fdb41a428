"""Three months with everything that happens to customers: what was used is invoiced, or named.

Runs are the program's own, in this process and over real HTTP, by a clock that is moved; usage is counted by the
simulation, never by the program.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from meter_sync.sandbox.stripe.state.objects import CollectionPause
from tests.support.pages import check_page
from tests.support.statements import check_statements, statements
from tests.support.three_months import (
    BEGIN,
    CARRIED_BY_DAILY_RUNS,
    CARRYING,
    DAY,
    HOUR,
    KINDS,
    METERED,
    MINUTE,
    SECOND,
    SETTINGS,
    SUMS,
    Account,
    Found,
    Setting,
    Simulation,
)

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""What a simulation runs through is covered by other tests; measuring it would double its time."""

COLLECTION_PAUSES: tuple[CollectionPause, ...] = ("keep_as_draft", "mark_uncollectible", "void")


@contextmanager
def simulated(folder: Path, setting: Setting, seed: str, *, are_tardy: bool = False) -> Iterator[Simulation]:
    simulation = Simulation(folder, setting, seed, are_tardy=are_tardy)
    with simulation.world.sandbox.in_background():
        yield simulation


def use_now_and_then(simulation: Simulation) -> None:
    for days in range(5, 95, 14):
        for account in simulation.accounts:
            at = BEGIN + days * DAY + 3 * HOUR + simulation.random.randrange(3000) * SECOND
            simulation.at(at, partial(simulation.use, account))


def check(simulation: Simulation) -> None:
    """Invoice and named remainder are the usage, in every period of every item, to the unit; and for each customer.

    And the books are whole, and statements of them say the same, and so do their pages.
    """
    assert simulation.world.wrong_in_books() == {}
    check_statements(simulation.world, BEGIN)
    for one in statements(simulation.world, BEGIN):
        check_page(one)
    found = simulation.found()
    wrong = []
    for account in simulation.accounts:
        for spell in simulation.spells(account):
            key = spell.item, spell.start
            made = found.pop(key, Found(0, 0))
            if spell.is_open:
                made = replace(made, invoiced=simulation.stripe.total(spell.item))
            if made.invoiced + made.named != spell.usage + made.carried:
                wrong.append((account.kind, spell, made))
    assert wrong == []
    assert [one for one in found.items() if one[1].named or one[1].carried] == []
    wholes = [(account.kind, simulation.whole(account)) for account in simulation.accounts]
    assert [one for one in wholes if one[1].invoiced + one[1].open + one[1].waiting + one[1].named != one[1].used] == []


def check_that_only_what_ended_is_named(simulation: Simulation) -> None:
    """Of what goes on all that is late is carried: nobody is to settle it."""
    found = simulation.found()
    for account in simulation.accounts:
        spells = [spell for spell in simulation.spells(account) if spell.is_followed or spell.is_open]
        made = [(spell, found.get((spell.item, spell.start), Found(0, 0))) for spell in spells]
        assert [one for one in made if one[1].named] == [], account.kind
    assert any(made.carried > 0 for made in found.values())


def named(simulation: Simulation, account: Account) -> list[int]:
    found = simulation.found()
    return [made.named for (item, _), made in found.items() if item in account.items and made.named]


def exact_kinds(setting: Setting) -> tuple[str, ...]:
    """Of what is used in time all is invoiced: if somebody comes while Stripe takes it."""
    if setting.comes_right_after_the_end:
        return (*METERED, *SUMS)
    return METERED if setting.schedule == "hourly" else ()


def let_all_kinds_go_on(simulation: Simulation) -> None:
    for place, kind in enumerate(KINDS):
        first = BEGIN + 9 * HOUR + (17 + place * 7) * SECOND
        simulation.subscribe(kind, first)
        if place % 2:
            tardy = partial(simulation.subscribe_later, then=lambda _: None, is_tardy=True)
            tardy(kind, first + 14 * DAY + 13 * HOUR + 29 * MINUTE)
    use_now_and_then(simulation)
    simulation.play()


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_what_goes_on_is_invoiced_or_named(tmp_path: Path, setting: Setting) -> None:
    """Subscriptions of every kind of price, with usage in time and late."""
    with simulated(tmp_path, setting, "going on") as simulation:
        let_all_kinds_go_on(simulation)
        check(simulation)
        for account in simulation.accounts:
            if not account.is_tardy and account.kind in exact_kinds(setting):
                assert named(simulation, account) == [], account.kind


@pytest.mark.parametrize("setting", CARRYING, ids=str)
def test_what_goes_on_is_invoiced_although_it_is_late_if_that_is_carried(tmp_path: Path, setting: Setting) -> None:
    with simulated(tmp_path, setting, "carried") as simulation:
        let_all_kinds_go_on(simulation)
        check(simulation)
        check_that_only_what_ended_is_named(simulation)
        assert [named(simulation, account) for account in simulation.accounts] == [[]] * len(simulation.accounts)


Life = Callable[[Simulation, datetime], None]


def moves_at_a_periods_end(simulation: Simulation, begin: datetime) -> None:
    """From one kind of price to another when the period turns, and on to a third at the next."""
    kinds = simulation.random.sample(list(KINDS), 3)
    account = simulation.subscribe(kinds[0], begin)
    for turn, kind in enumerate(kinds[1:], start=1):
        simulation.at(months_after(begin, turn), simulation.changing(partial(simulation.move, account, kind)))


def moves_in_mid_period(simulation: Simulation, begin: datetime) -> None:
    """To another kind of price."""
    before, after = simulation.random.sample(list(KINDS), 2)
    account = simulation.subscribe(before, begin)
    simulation.at(some_day(simulation, begin), simulation.changing(partial(simulation.move, account, after)))


def moves_to_a_price_of_its_kind(simulation: Simulation, begin: datetime) -> None:
    account = simulation.subscribe(kind := simulation.random.choice(["record", "max", *METERED]), begin)
    other = simulation.price_like(kind)
    simulation.at(some_day(simulation, begin), lambda: simulation.change_price(account, other))


def moves_to_weeks(simulation: Simulation, begin: datetime) -> None:
    """To a price of another interval, with which a new period begins at once."""
    account = simulation.subscribe(kind := simulation.random.choice(["record", *METERED]), begin)
    weekly = simulation.price_like(kind, interval="week", interval_count=5)
    change = simulation.changing(lambda: simulation.stripe.change_price(account.items[0], weekly))
    simulation.at(some_day(simulation, begin), change)


def is_on_trial(simulation: Simulation, begin: datetime) -> None:
    simulation.subscribe(any_kind(simulation), begin, trial_end=some_day(simulation, begin))


def ends_its_trial_early(simulation: Simulation, begin: datetime) -> None:
    account = simulation.subscribe(any_kind(simulation), begin, trial_end=begin + 40 * DAY)
    end = simulation.changing(lambda: simulation.stripe.end_trial(account.subscription.id))
    simulation.at(some_day(simulation, begin), end)


def pauses_its_payments(simulation: Simulation, begin: datetime) -> None:
    account = simulation.subscribe(any_kind(simulation), begin)
    behavior = simulation.random.choice(COLLECTION_PAUSES)
    resumes = some_day(simulation, begin) + 30 * DAY
    pause = partial(simulation.stripe.pause_collection, account.subscription.id, behavior, resumes)
    simulation.at(some_day(simulation, begin), simulation.changing(pause))


def begins_its_cycle_anew(simulation: Simulation, begin: datetime) -> None:
    account = simulation.subscribe(any_kind(simulation), begin)
    restart = simulation.changing(lambda: simulation.stripe.restart_periods(account.subscription.id))
    simulation.at(some_day(simulation, begin), restart)


def has_its_item_replaced(simulation: Simulation, begin: datetime) -> None:
    """By one of another kind."""
    old, new = simulation.random.sample(list(KINDS), 2)
    account = simulation.subscribe(old, begin)
    simulation.at(some_day(simulation, begin), simulation.changing(partial(simulation.replace, account, new)))


def is_canceled_now(simulation: Simulation, begin: datetime, *, invoice_now: bool) -> None:
    account = simulation.subscribe(any_kind(simulation), begin)
    cancel = partial(simulation.stripe.cancel, account.subscription.id, invoice_now=invoice_now)
    simulation.at(some_day(simulation, begin), simulation.changing(cancel))


def is_canceled_at_the_periods_end(simulation: Simulation, begin: datetime) -> None:
    account = simulation.subscribe(any_kind(simulation), begin)
    cancel = partial(simulation.stripe.cancel_at_period_end, account.subscription.id)
    simulation.at(some_day(simulation, begin), simulation.changing(cancel))


def is_canceled_at_a_given_second(simulation: Simulation, begin: datetime) -> None:
    account = simulation.subscribe(any_kind(simulation), begin)
    end = some_day(simulation, begin) + 30 * DAY
    simulation.at(some_day(simulation, begin), lambda: simulation.stripe.cancel_at(account.subscription.id, end))


def has_its_item_replaced_on_one_meter(simulation: Simulation, begin: datetime) -> None:
    account = simulation.subscribe(kind := simulation.random.choice(METERED), begin)
    simulation.at(some_day(simulation, begin), simulation.changing(partial(simulation.replace, account, kind)))


def begins_with_a_short_period(simulation: Simulation, begin: datetime) -> None:
    """One that no run comes into."""
    simulation.subscribe_later(any_kind(simulation), begin, lambda _: None, period_end=begin + 20 * MINUTE)


def stands_still(simulation: Simulation, begin: datetime) -> None:
    """Its subscription itself is paused, not only the collection of its payments."""
    account = simulation.subscribe(any_kind(simulation), begin)
    pause = simulation.changing(lambda: simulation.stripe.set_status(account.subscription.id, "paused"))
    simulation.at(some_day(simulation, begin), pause)
    resume = simulation.changing(lambda: simulation.stripe.resume(account.subscription.id))
    simulation.at(some_day(simulation, begin) + 20 * DAY, resume)


def moves_right_before_a_periods_end(simulation: Simulation, begin: datetime) -> None:
    """So that no run comes between the move and the end."""
    before, after = simulation.random.sample(list(KINDS), 2)
    account = simulation.subscribe(before, begin)
    simulation.at(months_after(begin, 1) - 30 * SECOND, partial(simulation.move, account, after))


LIVES: list[Life] = [
    moves_in_mid_period,
    moves_to_a_price_of_its_kind,
    moves_to_weeks,
    ends_its_trial_early,
    pauses_its_payments,
    begins_its_cycle_anew,
    partial(is_canceled_now, invoice_now=False),
    partial(is_canceled_now, invoice_now=True),
    is_canceled_at_the_periods_end,
    is_canceled_at_a_given_second,
    moves_at_a_periods_end,
    is_on_trial,
    has_its_item_replaced,
    has_its_item_replaced_on_one_meter,
    begins_with_a_short_period,
    stands_still,
    moves_right_before_a_periods_end,
]


def some_day(simulation: Simulation, begin: datetime) -> datetime:
    """An odd second of the first period, about the same hour for all."""
    return begin + 25 * DAY + simulation.random.randrange(3000) * SECOND


def any_kind(simulation: Simulation) -> str:
    return simulation.random.choice(list(KINDS))


def months_after(begin: datetime, months: int) -> datetime:
    return begin.replace(month=begin.month + months)


def let_everything_change(simulation: Simulation) -> None:
    for place, life in enumerate(LIVES):
        life(simulation, BEGIN + 2 * DAY + 21 * HOUR + (59 + 23 * place) * SECOND)
    use_now_and_then(simulation)
    simulation.play()


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_what_changes_and_ends_is_invoiced_or_named(tmp_path: Path, setting: Setting) -> None:
    """Every change that Stripe offers, on prices that are drawn."""
    with simulated(tmp_path, setting, "changes") as simulation:
        let_everything_change(simulation)
        check(simulation)


def test_what_changes_and_ends_is_invoiced_or_named_once_where_late_usage_is_carried(tmp_path: Path) -> None:
    """The same, of customers whose usage may come days late: only what ended is named."""
    with simulated(tmp_path, CARRIED_BY_DAILY_RUNS, "changes carried", are_tardy=True) as simulation:
        let_everything_change(simulation)
        check(simulation)
        check_that_only_what_ended_is_named(simulation)
