"""The queue of Stripe's events: each event is new once, wherever the ledger is."""

from meter_sync.ledger import Place, Scope, open_ledger
from meter_sync.ledger.webhook_queue import WebhookEvent
from tests.support.world import NOW


def test_an_event_is_new_once_also_after_it_is_done(place: Place) -> None:
    event = WebhookEvent("evt_1", "invoice.created", "sub_1", NOW)
    with open_ledger(place, Scope("", "sandbox")) as ledger:
        assert [ledger.webhook_queue.enqueue(event) for _ in range(2)] == [True, False]
        assert [one.id for one in ledger.webhook_queue.waiting()] == ["evt_1"]
        ledger.webhook_queue.record_done(["evt_1"], NOW)
        assert (ledger.webhook_queue.enqueue(event), ledger.webhook_queue.waiting()) == (False, [])


def test_an_event_of_one_account_is_another_ones_too(place: Place) -> None:
    event = WebhookEvent("evt_1", "invoice.created", "sub_1", NOW)
    for account in ("eu", "us"):
        with open_ledger(place, Scope(account, "sandbox")) as ledger:
            assert ledger.webhook_queue.enqueue(event)
