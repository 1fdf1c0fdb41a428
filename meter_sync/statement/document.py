"""The figures of a statement for programs: quantities are decimal strings, times are UTC in ISO 8601."""

from collections.abc import Iterator, Mapping
from typing import Any

from meter_sync.core.billing.item import Period
from meter_sync.core.telling.statement.figures import (
    Bridge,
    Change,
    ChangedSince,
    Completeness,
    CustomerFigures,
    Cuts,
    Day,
    ItemFigures,
    Matter,
    MeterFigures,
    Signature,
    Statement,
)
from meter_sync.core.text import digits, utc

_TERMS: tuple[str, ...] = Bridge.__match_args__

COLUMNS = (
    *("customer", "subscription", "subscription_item", "price", "meter", "period_start", "period_end", "state"),
    *("used", "quantity", *_TERMS[1:], "difference", "invoiced", "invoice"),
)
"""The columns of csv: a line is an item's period, of which the terms of the bridge follow `quantity`."""


def document(statement: Statement) -> dict[str, Any]:
    """Return all of a statement: what `meter-sync statement` prints as JSON, but for the program's version."""
    made = {
        "digest": statement.digest,
        "version": statement.version,
        "ledger_revision": statement.ledger_revision,
        "as_of": statement.as_of and utc(statement.as_of),
        "last_run": statement.last_run,
        "invoices_asked": statement.were_invoices_asked,
    }
    verdict = {"judgement": statement.verdict.judgement.value, "sentence": statement.verdict.sentence}
    return {
        "account": statement.account,
        "stripe_account": statement.stripe_account,
        "livemode": statement.is_live,
        "since": utc(statement.since),
        "until": utc(statement.until),
        "only_customers": list(statement.is_of_selected),
        "made": made,
        "verdict": verdict,
        "whole": _meter(statement.whole),
        "meters": [_meter(one) for one in statement.meters],
        "matters": [_matter(one) for one in statement.matters],
        "without_report": list(statement.without_report),
        "customers": [_customer(one) for one in statement.customers],
        "largest": [one.customer for one in statement.largest],
        "changes": [_change(one) for one in statement.changes],
        "completeness": _completeness(statement.completeness),
        "unread": list(statement.unread),
        "signatures": [_signature(one) for one in statement.signatures],
        "changed_since": [_changed(one) for one in statement.changed_since],
    }


def rows(statement: Statement) -> Iterator[Mapping[str, Any]]:
    """Give the rows of csv, one for each item's period, with `COLUMNS`."""
    for customer in statement.customers:
        for item in customer.items:
            named = {"customer": customer.customer, **_item_but_told(item), **_bridge(item.bridge)}
            named |= {"period_start": utc(item.period.start), "period_end": utc(item.period.end)}
            yield {name: named[name] for name in COLUMNS}


def _bridge(bridge: Bridge) -> dict[str, Any]:
    terms = {name: digits(getattr(bridge, name)) for name in _TERMS}
    return {**terms, "explained": digits(bridge.explained), "difference": digits(bridge.difference)}


def _cuts(cuts: Cuts) -> dict[str, Any]:
    return {**{name: digits(getattr(cuts, name)) for name in Cuts.__match_args__}, "in_time": digits(cuts.in_time)}


def _day(day: Day) -> dict[str, Any]:
    amounts = {"used": day.used, "reported": day.reported, "billed": day.billed}
    return {"day": day.day.isoformat(), **{name: digits(amount) for name, amount in amounts.items()}}


def _meter(figures: MeterFigures) -> dict[str, Any]:
    return {
        "meter": figures.meter,
        "bridge": _bridge(figures.bridge),
        "cuts": _cuts(figures.cuts),
        "days": [_day(one) for one in figures.days],
    }


def _period(period: Period) -> dict[str, str]:
    return {"start": utc(period.start), "end": utc(period.end)}


def _matter(matter: Matter) -> dict[str, Any]:
    return {
        "kind": matter.kind.value,
        "customer": matter.customer,
        "subscription": matter.subscription,
        "subscription_item": matter.item,
        "period": _period(matter.period),
        "meter": matter.meter,
        "quantity": digits(matter.quantity),
        "since": matter.since and utc(matter.since),
        "age_days": matter.age_days,
        "reason": matter.reason,
        "to_do": matter.to_do,
        "command": matter.command,
        "note": matter.note,
        "settled_at": matter.settled_at and utc(matter.settled_at),
    }


def _customer(customer: CustomerFigures) -> dict[str, Any]:
    return {
        "customer": customer.customer,
        "subjects": list(customer.subjects),
        "bridge": _bridge(customer.bridge),
        "items": [_item(one) for one in customer.items],
    }


def _item_but_told(item: ItemFigures) -> dict[str, Any]:
    return {
        "subscription": item.subscription,
        "subscription_item": item.item,
        "price": item.price,
        "meter": item.meter,
        "period": _period(item.period),
        "state": item.state.value,
        "quantity": digits(item.quantity),
        "bridge": _bridge(item.bridge),
        "invoiced": digits(item.invoiced),
        "invoice": item.invoice,
    }


def _item(item: ItemFigures) -> dict[str, Any]:
    told = [{"topic": one.topic, "text": one.text} for one in item.told]
    return {**_item_but_told(item), "told": told}


def _change(change: Change) -> dict[str, Any]:
    amounts = {"before": digits(change.before), "now": digits(change.now)}
    return {"customer": change.customer, "meter": change.meter, **amounts}


def _completeness(completeness: Completeness) -> dict[str, Any]:
    return {
        "items": completeness.items,
        "states": {state.value: count for state, count in completeness.by_state.items()},
        "outcomes": dict(completeness.by_outcome),
        "runs": completeness.runs,
        "failed_runs": completeness.failed_runs,
        "pages": completeness.pages,
        "missed": [_period(one) for one in completeness.missed],
        "schedule": completeness.schedule,
    }


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "signed_by": signature.signed_by,
        "signed_at": utc(signature.signed_at),
        "digest": signature.digest,
        "is_of_this": signature.is_of_this,
    }


def _changed(changed: ChangedSince) -> dict[str, Any]:
    return {
        "since": utc(changed.since),
        "until": utc(changed.until),
        "signed_by": changed.signed_by,
        "signed_at": utc(changed.signed_at),
        "before": _bridge(changed.before),
        "now": _bridge(changed.now),
    }
