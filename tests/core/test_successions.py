"""Which item has taken which one's place on a billing meter."""

from dataclasses import replace
from datetime import datetime

import pytest

from meter_sync.core.billing.item import BillingMeter, SubscriptionItem
from meter_sync.core.ownership import successions
from tests.core.builders import AS_OF, END, HOUR, START, make_item, make_price, make_subscription

METER = BillingMeter("mtr_1", "calls", "sum")


def on_meter(name: str, *, end: datetime = END, meter: BillingMeter | None = METER) -> SubscriptionItem:
    return make_item(name, price=make_price(billing_meter=meter), end=end)


def removed(name: str, at: datetime) -> SubscriptionItem:
    return replace(on_meter(name, end=at), is_followed=False)


def names(gone: list[SubscriptionItem], there: list[SubscriptionItem]) -> list[tuple[str, str]]:
    return [(old.id, new.id) for old, new in successions(gone, [*gone, *there])]


def test_what_stands_on_the_same_meter_of_the_subscription_has_the_place() -> None:
    assert names([removed("si_1", AS_OF)], [on_meter("si_2")]) == [("si_1", "si_2")]


def test_a_place_that_was_taken_twice_is_handed_on_in_order() -> None:
    gone = [removed("si_2", AS_OF), removed("si_1", AS_OF - HOUR)]
    new = replace(on_meter("si_3"), created=AS_OF)
    assert names(gone, [new]) == [("si_1", "si_2"), ("si_2", "si_3")]


@pytest.mark.parametrize(
    "other",
    [
        on_meter("si_2", meter=BillingMeter("mtr_2", "tokens", "sum")),
        on_meter("si_2", meter=None),
        replace(on_meter("si_2"), subscription=make_subscription("sub_2")),
        on_meter("si_2", end=AS_OF),
        replace(on_meter("si_2"), period=replace(on_meter("si_2").period, start=START + HOUR)),
    ],
    ids=["another meter", "no meter", "another subscription", "gone with it", "a period that began later"],
)
def test_nothing_else_has_it(other: SubscriptionItem) -> None:
    assert names([removed("si_1", AS_OF)], [other]) == []
