"""What the command `meter-sync run` says to the sandbox, and what it is answered."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from meter_sync.sandbox import RequestSeen, Sandbox
from tests.support.forked import template
from tests.support.world import UNHURRIED

from .messages import Request, Response, send

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
PERIOD_START = datetime(2026, 11, 1, tzinfo=UTC)

METERED_START = datetime(2026, 10, 10, 12, 30, tzinfo=UTC)
METERED_END = datetime(2026, 11, 10, 12, 30, tzinfo=UTC)
"""The period of the items on billing meters, which ends soon."""

HELD = 4
"""The exit code of a run that held something."""

PAGE = 100
"""Rows on a page of Stripe's lists, as this program asks for them."""

EMBEDDED = 10
"""Items that a subscription shows, and lines that an invoice shows."""

CONFIGURATION = """
[[meters]]
price = "price_filtered"
openmeter = "tokens"
filter = { model = ["large", "small"] }
"""


@dataclass(frozen=True)
class Exchange:
    """A request as the sandbox saw it, and its answer."""

    seen: RequestSeen
    request: Request
    response: Response

    @property
    def version(self) -> str:
        return self.seen.headers["stripe-version"]

    @property
    def place(self) -> str:
        return f"{self.seen.method} {self.seen.path}?{self.seen.query}"


def runs_with_usage_records(sandbox: Sandbox, folder: Path) -> list[Exchange]:
    """Run the command so that it sends each kind of request it knows on legacy prices; return all exchanges.

    More subscriptions than fit on a page, more items than a subscription shows, a filtered meter,
    meters named by slug and by id, customers with and without their metadata, a schedule, and each selector.
    """
    customer, subscription = _set_up(sandbox)
    sandbox.stripe.add_schedule(subscription)
    exchanges: list[Exchange] = []
    with sandbox.in_background():
        for subject, selector in (
            ("customer.metadata.key", ()),
            ("subscription.metadata.key", ("--dry-run", "--customer", customer)),
            ("customer.metadata.key", ("--dry-run", "--subscription", subscription)),
            ("subscription.metadata.key", ("--dry-run", "--price", "price_filtered")),
        ):
            exchanges += _run(sandbox, folder, *selector, METER_SYNC_SUBJECT=subject)
    return exchanges


def runs_with_billing_meters(sandbox: Sandbox, folder: Path) -> list[Exchange]:
    """Run the command so that it sends each kind of request it knows on billing meters; return all exchanges.

    Meters with hours, of additions and of the last value; subjects that are OpenMeter's customers, found by
    their key and by their app data; windows that Stripe has already; events that are rejected, and one that is
    cancelled; a canceled subscription; a period that has ended, with more lines on its invoice than are shown; and a
    test clock, with a subscription that was canceled by it.
    """
    stripe, openmeter = sandbox.stripe, sandbox.openmeter
    prices = [_metered_price(sandbox, f"hours_{number}", window="hour") for number in range(EMBEDDED + 1)]
    by_hour, scheduled = _subscribe(sandbox, "by-hour", prices, METERED_START)
    stripe.add_schedule(scheduled)
    added, _ = _subscribe(sandbox, "added", [_metered_price(sandbox, "additions")], METERED_START)
    last, canceled = _subscribe(sandbox, "last", [_metered_price(sandbox, "last", formula="last")], METERED_START)
    openmeter.add_customer(by_hour, subjects=["by-hour"])
    openmeter.add_customer(last, subjects=["last"])
    openmeter.add_customer("ours", subjects=["added"], stripe_customer_id=added)
    for event_name, subject in (("hours_0", "by-hour"), ("additions", "added"), ("last", "last")):
        openmeter.add_event(event_name, subject, NOW - timedelta(hours=2), 5)
    taken = {"stripe_customer_id": by_hour, "value": "4"}
    stripe.create_meter_event("hours_0", taken, int(METERED_START.timestamp()))
    exchanges: list[Exchange] = []
    with sandbox.in_background():

        def run(*options: str, accepted: int = 0) -> None:
            nonlocal exchanges
            exchanges += _run(sandbox, folder, *options, METER_SYNC_SUBJECT="openmeter.customer", accepted=accepted)

        stripe.reject_meter_events_as = "meter_event_customer_not_found"
        run("--customer", last)
        stripe.reject_meter_events_as = None
        run("--allow", "decrease", accepted=HELD)
        for value in (7, -7):
            openmeter.add_event("additions", "added", NOW - timedelta(hours=1), value)
            run("--allow", "decrease")
        stripe.cancel(canceled)
        sandbox.clock.move_to(METERED_END + timedelta(minutes=10))
        run()
        clock = stripe.add_test_clock(METERED_END)
        simulated = stripe.add_customer(test_clock=clock)
        openmeter.add_customer(simulated, subjects=["simulated"])
        ending, _ = (stripe.add_subscription(simulated, [price], period_start=METERED_START).id for price in prices[:2])
        run("--test-clock", clock)
        stripe.cancel(ending)
        run("--test-clock", clock)
        run()
    return exchanges


def _metered_price(sandbox: Sandbox, event_name: str, **meter: Any) -> str:
    """Return a new price on a billing meter of its own, for what a meter of the same name counts."""
    sandbox.openmeter.add_meter(event_name)
    identifier = sandbox.stripe.add_meter(event_name, **meter)
    return sandbox.stripe.add_price(meter=identifier, metadata={"om_meter_id": event_name})


def _set_up(sandbox: Sandbox) -> tuple[str, str]:
    """Return a customer and its subscription with more items than are embedded."""
    stripe, openmeter = sandbox.stripe, sandbox.openmeter
    openmeter.add_meter("tokens", group_by={"model": "$.model"})
    stripe.add_price(id="price_filtered")
    for number in range(PAGE + 1):
        _subscribe(sandbox, f"subject-{number}", ["price_filtered"])
    data = {"model": "large", "value": 5}
    openmeter.add_event("tokens", "subject-3", PERIOD_START.replace(day=2), data=data)
    meters = [openmeter.add_meter(f"calls_{n}", "COUNT") for n in range(EMBEDDED + 1)]
    prices = [stripe.add_price(metadata={"om_meter_id": meter}) for meter in meters]
    openmeter.add_event("calls_0", "subject-of-many", PERIOD_START.replace(day=3))
    return _subscribe(sandbox, "subject-of-many", prices)


def _subscribe(
    sandbox: Sandbox, subject: str, prices: list[str], period_start: datetime = PERIOD_START
) -> tuple[str, str]:
    """Return a new customer and its subscription, both of which name the subject."""
    metadata = {"key": subject}
    customer = sandbox.stripe.add_customer(metadata=metadata)
    view = sandbox.stripe.add_subscription(customer, prices, period_start=period_start, metadata=metadata)
    return customer, view.id


def _run(sandbox: Sandbox, folder: Path, *options: str, accepted: int = 0, **environment: str) -> list[Exchange]:
    """Run the command as of the sandbox's clock; return what it said and what it was answered.

    The answers are asked for at once: until the clock moves, asking again changes nothing.
    """
    before = len(sandbox.requests)
    as_of = [] if "--test-clock" in options else ["--as-of", sandbox.clock.now().isoformat()]
    config = folder / "meter-sync.toml"
    config.write_text(CONFIGURATION)
    ours = ("METER_SYNC_", "OPENMETER_", "STRIPE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = template().run(
        ["--config", str(config), "run", *as_of, *options],
        {
            **kept,
            **sandbox.environment(),
            **UNHURRIED,
            "XDG_CONFIG_HOME": str(folder),  # the SDK keeps a file there
            "METER_SYNC_LEDGER": str(folder / "ledger.sqlite3"),
            **environment,
        },
        folder,
    )
    assert done.returncode == accepted, done.stdout + done.stderr
    return [exchange(sandbox, seen) for seen in sandbox.requests[before:]]


def exchange(sandbox: Sandbox, seen: RequestSeen) -> Exchange:
    """Return a request with its answer, which repeating it brings.

    The clock stands still, reads change nothing, and a write with its idempotency key is answered
    from memory.
    """
    request = Request.seen(seen)
    response = send(seen.server, sandbox, request)
    assert response.status_code == seen.status
    return Exchange(seen, request, response)
