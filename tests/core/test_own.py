"""What of an item's period is its own: who shares no usage with anybody is not compared with all others."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import Customer, Period
from meter_sync.core.ownership import shares
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.own import Prepared, claim_of, own
from meter_sync.core.planning.stages import Listed, Metered
from tests.core.builders import AS_OF, END, START, few, make_item, make_metered, make_price, make_subscription
from tests.support.growth import steps_of

_DAY = timedelta(days=1)


def prepared(number: int, customer: str, subject: str, stripe_meter: str | None = None, days: int = 0) -> Prepared:
    """An item of a customer whose period begins some days later than others."""
    item = make_item(
        f"si_{number}",
        subscription=make_subscription(f"sub_{number}", customer=Customer(customer)),
        price=make_price(stripe_meter=stripe_meter),
        start=START + days * _DAY,
        end=END + days * _DAY,
    )
    return Listed(item), make_metered(item, subjects=(subject,))


_ITEMS = st.lists(
    st.tuples(
        st.sampled_from("abcde"), st.sampled_from("vwxyz"), st.sampled_from([None, "mtr_1", "mtr_2"]), st.integers(0, 3)
    ),
    max_size=7,
)


@few
@given(_ITEMS)
def test_each_is_left_what_is_its_own_among_all_claims(items: list[tuple[str, str, str | None, int]]) -> None:
    every = [prepared(number, *one) for number, one in enumerate(items)]
    expected = shares(claim for one, found in every if (claim := claim_of(one, found, ())))
    for (one, found), result in zip(every, own(every, [], Memory()), strict=True):
        billed = [
            Period(part.start, min(part.end, AS_OF)) for part in expected[one.item.key].billed if part.start < AS_OF
        ]
        assert (list(result.own) if isinstance(result, Metered) else []) == billed
        assert result is found or result.item is one.item


def _of_customers(how_many: int) -> list[Prepared]:
    return [prepared(number, f"cus_{number}", f"cus_{number}") for number in range(how_many)]


def test_of_customers_with_one_item_each_nothing_is_divided() -> None:
    alone = _of_customers(50)
    rivals = [prepared(number, f"cus_{number % 25}", f"cus_{number % 25}") for number in range(50)]
    assert own(alone, [], Memory()) == [found for _, found in alone]
    assert 5 * steps_of(lambda: own(alone, [], Memory())) < steps_of(lambda: own(rivals, [], Memory()))
