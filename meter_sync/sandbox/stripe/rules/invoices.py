"""Invoices: their drafts, what late usage changes of them, and their end.

Sources: Stripe's documentation of metered billing (billed in arrears, with the invoice of the period's end) and of
invoices (a draft is finalized about an hour after it was created).
"""

from collections.abc import Sequence
from dataclasses import replace

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.rules import events
from meter_sync.sandbox.stripe.rules.invoice_items import take_pending
from meter_sync.sandbox.stripe.rules.invoice_lines import line_for, preview
from meter_sync.sandbox.stripe.state.objects import (
    BillingReason,
    ClosedPeriod,
    Invoice,
    InvoiceStatus,
    Item,
    Period,
    Subscription,
)
from meter_sync.sandbox.stripe.state.stripe_state import StripeState


def upcoming(state: StripeState, subscription: Subscription) -> Invoice:
    """Return the next invoice as it would be now; it has no id of its own, since it does not exist yet."""
    periods = [item.period for item in state.items_of(subscription)]
    end = min(period.end for period in periods)
    return Invoice(
        id="in_upcoming",
        created=end,
        subscription=subscription.id,
        customer=subscription.customer,
        currency=state.price_of(state.items_of(subscription)[0]).currency,
        period=Period(min(period.start for period in periods), end),
        lines=preview(state, subscription.id),
        billing_reason="upcoming",
    )


def draft(
    state: StripeState,
    subscription: Subscription,
    billed: Sequence[tuple[Item, Period]],
    *,
    at: int,
    free: bool,
    billing_reason: BillingReason,
) -> Invoice:
    """Draft the invoice for these periods of a subscription's items, of which there is at least one.

    Stripe documentation, Pause payment collection: what is drafted while collection is paused stays a
    draft, or is voided or marked uncollectible.
    """
    prices = [(state.price_of(item), item, period) for item, period in billed]
    collection = subscription.pause_collection.behavior if subscription.pause_collection else None
    created = at + state.seconds_until_draft
    invoice = Invoice(
        id=state.new_id("in"),
        created=created,
        subscription=subscription.id,
        customer=subscription.customer,
        currency=prices[0][0].currency,
        period=Period(min(period.start for _, period in billed), at),
        lines=[
            line_for(state, price, item, period, item.billed_since, free=free)
            for price, item, period in prices
            if price.usage_type == "metered"
        ],
        billing_reason=billing_reason,
        finalizes_at=None if collection == "keep_as_draft" else created + state.seconds_from_draft_to_final,
        collection=collection,
    )
    take_pending(state, invoice)
    state.invoices.add(invoice, f"customer:{subscription.customer}", f"subscription:{subscription.id}")
    state.drafts[invoice.customer].append(invoice.id)
    subscription.latest_invoice = invoice.id
    if invoice.finalizes_at is not None:
        state.schedule(invoice.finalizes_at, "final", invoice.id)
    if created > at:
        state.schedule(created, "draft", invoice.id)
    else:
        events.of_invoice(state, events.INVOICE_CREATED, invoice, at)
    return invoice


def finalize(state: StripeState, invoice: Invoice, at: int) -> None:
    """Freeze an invoice. Nothing collects money here, so only what costs nothing is paid."""
    state.drafts[invoice.customer].remove(invoice.id)
    invoice.finalized_at = at
    invoice.status = "open"
    events.of_invoice(state, events.INVOICE_FINALIZED, invoice, at)
    if invoice.collection == "void":
        _become(state, invoice, "void", events.INVOICE_VOIDED, at)
    elif invoice.collection == "mark_uncollectible":
        _become(state, invoice, "uncollectible", "invoice.marked_uncollectible", at)
    elif not invoice.total_cents:
        _become(state, invoice, "paid", "invoice.paid", at)


def void_invoice(state: StripeState, identifier: str) -> None:
    """Void an invoice: only one that is open or uncollectible can be (Stripe documentation, status transitions)."""
    invoice = state.invoices.find(identifier)
    if invoice.status not in ("open", "uncollectible"):
        raise Refusal("You can only void invoices that are open or uncollectible.")
    _become(state, invoice, "void", events.INVOICE_VOIDED, state.now)


def delete_draft(state: StripeState, identifier: str) -> None:
    """Delete an invoice that is still a draft; what invoice items it had are pending again.

    The API reference says so of one-off invoices, and that those of subscriptions are to be voided. That a person can
    delete one of these all the same is assumed.
    """
    invoice = state.invoices.find(identifier)
    if invoice.status != "draft":
        raise Refusal("You can only delete draft invoices.")
    state.drafts[invoice.customer].remove(invoice.id)
    state.invoices.remove(invoice.id)
    for line in invoice.lines:
        item = state.items[line.item]
        item.closed = [replace(one, invoice=None) if one.invoice == invoice.id else one for one in item.closed]
    for pending in state.invoice_items:
        if pending.invoice == invoice.id:
            pending.invoice = None
    events.of_invoice(state, events.INVOICE_DELETED, invoice, state.now)


def _become(state: StripeState, invoice: Invoice, status: InvoiceStatus, event: str, at: int) -> None:
    invoice.status = status
    events.of_invoice(state, event, invoice, at)


def redraft(state: StripeState, item: Item, closed: ClosedPeriod) -> None:
    """Bring the draft of a closed period up to date with a record that came late."""
    invoice = state.invoices[closed.invoice or ""]
    for place, line in enumerate(invoice.lines):
        if line.item == item.id and line.invoice_item is None:
            price = state.prices[closed.price]
            invoice.lines[place] = line_for(state, price, item, closed.period, closed.billed_since, free=closed.free)


def redraft_customer(state: StripeState, customer: str) -> None:
    """Bring a customer's drafts up to date with a meter event that came late.

    Also those of canceled subscriptions: events count until an invoice is finalized.
    """
    for identifier in state.drafts[customer]:
        for line in state.invoices[identifier].lines:
            item = state.items[line.item]
            for closed in item.closed:
                if closed.invoice == identifier:
                    redraft(state, item, closed)


def is_draft(state: StripeState, closed: ClosedPeriod) -> bool:
    """Whether late records can still change what a closed period is billed."""
    return closed.invoice is not None and state.invoices[closed.invoice].status == "draft"
