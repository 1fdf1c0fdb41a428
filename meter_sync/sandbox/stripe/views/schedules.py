"""How Stripe shows subscription schedules, in each API version.

Shapes: Stripe's OpenAPI document of 2023-08-16, and the object types of stripe-python 16 for later versions.
"""

from meter_sync.sandbox.stripe.state.schedules import Phase, PhaseItem, Schedule
from meter_sync.sandbox.stripe.views.view import Json, View


def show_schedule(view: View, schedule: Schedule) -> Json:
    """Show a schedule, with its billing mode from 2025-03-31.basil on."""
    subscription = view.state.subscriptions[schedule.subscription]
    # A test clock's customers live by its time.
    now = schedule.phase_at(max(schedule.begun, view.state.now_of(subscription.test_clock)))
    is_released = schedule.status == "released"
    shown: Json = {
        "id": schedule.id,
        "object": "subscription_schedule",
        "application": None,
        "canceled_at": schedule.ended_at if schedule.status == "canceled" else None,
        "completed_at": schedule.ended_at if schedule.status == "completed" else None,
        "created": schedule.created,
        "current_phase": None,
        "customer": schedule.customer,
        "default_settings": _settings(),
        "end_behavior": schedule.end_behavior,
        "livemode": view.livemode,
        "metadata": schedule.metadata,
        "phases": [_phase(view, phase) for phase in schedule.phases],
        "released_at": schedule.ended_at if is_released else None,
        "released_subscription": schedule.subscription if is_released else None,
        "status": schedule.status,
        "subscription": None if is_released else schedule.subscription,
        "test_clock": subscription.test_clock,
    }
    if schedule.status == "active" and now is not None:
        shown["current_phase"] = {"start_date": now.start, "end_date": now.end}
    if not view.legacy:
        shown["billing_mode"] = {"flexible": None, "type": subscription.billing_mode}
        shown["pause_schedules"] = []
    return shown


def _settings() -> Json:
    return {
        "application_fee_percent": None,
        "billing_cycle_anchor": "automatic",
        "billing_thresholds": None,
        "collection_method": "charge_automatically",
        "default_payment_method": None,
        "description": None,
        "invoice_settings": {"issuer": {"type": "self"}},
        "on_behalf_of": None,
        "transfer_data": None,
    }


def _phase(view: View, phase: Phase) -> Json:
    currency = next((view.state.prices[item.price].currency for item in phase.items), "usd")
    return {
        "add_invoice_items": [],
        "application_fee_percent": None,
        "billing_cycle_anchor": "phase_start" if phase.restarts_periods else None,
        "billing_thresholds": None,
        "collection_method": None,
        "currency": currency,
        "default_payment_method": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "end_date": phase.end,
        "invoice_settings": None,
        "items": [_item(item) for item in phase.items],
        "metadata": {},
        "on_behalf_of": None,
        "proration_behavior": "create_prorations",
        "start_date": phase.start,
        "transfer_data": None,
        "trial_end": None,
    }


def _item(item: PhaseItem) -> Json:
    shown: Json = {
        "billing_thresholds": None,
        "discounts": [],
        "metadata": {},
        "price": item.price,
        "tax_rates": [],
    }
    return shown if item.quantity is None else {**shown, "quantity": item.quantity}
