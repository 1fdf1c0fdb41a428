"""What is billed of a billing meter where a price changes, or an item comes or goes, in mid-period."""

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.state.objects import BillingMode

from .instants import DAY, HOUR, NOW, PERIOD_END, PERIOD_START, SECOND, unix
from .wire import StripeWire

ENDIVE = "2026-10-28.endive"
LAST, WINDOWS, RAW = {"formula": "last"}, {"formula": "sum", "window": "day"}, {"formula": "sum"}
KINDS = [RAW, WINDOWS, {"formula": "sum", "window": "hour"}, LAST]
MODES: list[BillingMode] = ["classic", "flexible"]


class Changing:
    """A subscription on a billing meter, whose customer has sent 100."""

    def __init__(self, sandbox: Sandbox, meter: dict[str, str], mode: BillingMode) -> None:
        self.stripe = sandbox.stripe
        self.clock = sandbox.clock
        self.customer = self.stripe.add_customer()
        self.meter = self.stripe.add_meter("calls", **meter)  # type: ignore[arg-type]
        self.old, self.new = (self.stripe.add_price(meter=self.meter) for _ in range(2))
        view = self.stripe.add_subscription(self.customer, [self.old], period_start=PERIOD_START, billing_mode=mode)
        self.subscription, (self.item,) = view.id, view.items
        self.send(100, unix(NOW - DAY))

    def send(self, value: int, at: int) -> None:
        self.stripe.create_meter_event("calls", {"stripe_customer_id": self.customer, "value": str(value)}, at)

    def bills(self) -> list[tuple[str, int]]:
        """Return the price and quantity of each line of the invoice of the period's end."""
        self.clock.move_to(PERIOD_END + SECOND)
        return sorted((line.price, line.quantity) for line in self.stripe.invoices[-1].lines if line.quantity)


@pytest.mark.parametrize("kind", KINDS)
def test_in_classic_a_changed_price_bills_what_is_stamped_from_the_change_on(
    sandbox: Sandbox, kind: dict[str, str]
) -> None:
    changing = Changing(sandbox, kind, "classic")
    changing.stripe.change_price(changing.item, changing.new)
    changing.send(50, unix(NOW))
    changing.send(7, unix(NOW - 2 * DAY))
    assert changing.bills() == [(changing.new, 50)]


@pytest.mark.parametrize("kind", KINDS)
def test_in_flexible_an_invoice_item_bills_what_was_reported_before_it(sandbox: Sandbox, kind: dict[str, str]) -> None:
    changing = Changing(sandbox, kind, "flexible")
    changing.stripe.change_price(changing.item, changing.new)
    changing.send(50, unix(NOW))
    changing.send(7, unix(NOW - 2 * DAY))
    assert changing.bills() == sorted([(changing.old, 100), (changing.new, 50)])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_takes_the_place_of_a_removed_item_bills_from_its_creation_on(
    sandbox: Sandbox, kind: dict[str, str], mode: BillingMode
) -> None:
    changing = Changing(sandbox, kind, mode)
    changing.stripe.add_item(changing.subscription, changing.new)
    changing.stripe.delete_item(changing.item)
    changing.send(50, unix(NOW))
    before = [(changing.old, 100)] if mode == "flexible" else []
    assert changing.bills() == sorted([*before, (changing.new, 50)])


def test_the_next_period_bills_all_of_itself(sandbox: Sandbox) -> None:
    changing = Changing(sandbox, RAW, "classic")
    changing.stripe.change_price(changing.item, changing.new)
    changing.bills()
    changing.send(3, unix(PERIOD_END))
    assert changing.stripe.total(changing.item) == 3


def test_an_invoice_item_waits_for_the_next_invoice_and_is_billed_once(sandbox: Sandbox, stripe: StripeWire) -> None:
    changing = Changing(sandbox, RAW, "flexible")
    changing.stripe.change_price(changing.item, changing.new)
    (pending,) = stripe(
        "GET", "/v1/invoiceitems", {"customer": changing.customer, "pending": "true"}, version=ENDIVE
    ).json["data"]
    whose = pending["parent"]["subscription_details"]
    assert (pending["quantity"], pending["invoice"], whose["subscription_item"]) == (100, None, changing.item)
    assert pending["period"] == {"start": unix(PERIOD_START), "end": unix(NOW)}
    changing.bills()
    (billed,) = stripe("GET", "/v1/invoiceitems", {"pending": "false"}, version=ENDIVE).json["data"]
    (invoice,) = stripe("GET", "/v1/invoices", {"subscription": changing.subscription}, version=ENDIVE).json["data"]
    of_item = [line for line in invoice["lines"]["data"] if line["parent"]["type"] == "invoice_item_details"]
    assert (billed["invoice"], [line["quantity"] for line in of_item]) == (invoice["id"], [100])
    sandbox.clock.advance(40 * DAY)
    assert sum(line.invoice_item is not None for one in changing.stripe.invoices for line in one.lines) == 1


def test_nothing_is_an_invoice_item_on_a_trial_nor_of_nothing(sandbox: Sandbox, stripe: StripeWire) -> None:
    changing = Changing(sandbox, RAW, "flexible")
    changing.stripe.start_trial(changing.subscription, NOW + DAY)
    changing.send(5, unix(NOW))
    sandbox.clock.advance(HOUR)
    changing.stripe.change_price(changing.item, changing.new)
    sandbox.clock.advance(2 * DAY)
    changing.stripe.change_price(changing.item, changing.old)
    assert stripe("GET", "/v1/invoiceitems").json["data"] == []
