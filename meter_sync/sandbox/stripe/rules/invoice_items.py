"""Invoice items: what a subscription in the billing mode `flexible` bills of usage from before a change in mid-period.

Source: Stripe's documentation of billing modes and of changing subscriptions: in `classic` only what is stamped at or
after a change is billed on the new price or item, and nobody bills what was stamped before; in `flexible` an invoice
item bills what was reported by then. That it waits for the subscription's next invoice is assumed.
"""

from meter_sync.sandbox.stripe.rules.invoice_lines import line_for
from meter_sync.sandbox.stripe.state.objects import Invoice, InvoiceItem, Item, Period, Price
from meter_sync.sandbox.stripe.state.stripe_state import StripeState


def bill_before_change(state: StripeState, item: Item, price: Price) -> None:
    """Bill, by an invoice item, what was reported of an item's meter until now, when it leaves this price.

    Nothing is billed of usage records, which this mode does not know (assumed), nor on a trial, nor where nothing was
    reported.
    """
    subscription = state.subscriptions[item.subscription]
    if subscription.billing_mode != "flexible" or price.meter is None or subscription.status == "trialing":
        return
    # Of a window that goes on, what stands there is billed.
    line = line_for(state, price, item, item.period, item.billed_since, free=False)
    if not line.quantity:
        return
    identifier = state.new_id("ii")
    line.period = Period(max(item.period.start, item.billed_since or 0), state.now)
    line.invoice_item = identifier
    customer = subscription.customer
    pending = InvoiceItem(identifier, state.now, customer, subscription.id, price.currency, line)
    state.invoice_items.add(pending, f"customer:{customer}", f"subscription:{subscription.id}")


def take_pending(state: StripeState, invoice: Invoice) -> None:
    """Add to an invoice what is pending of its subscription."""
    shelf = state.invoice_items.shelf(f"subscription:{invoice.subscription}")
    for identifier in reversed(list(shelf.older_than(None))):
        pending = state.invoice_items[identifier]
        if pending.invoice is None:
            pending.invoice = invoice.id
            invoice.lines.append(pending.line)
