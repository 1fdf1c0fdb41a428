"""What the installed command `meter-sync run` says to the sandbox, and what it is answered."""

import os
import subprocess
import sysconfig
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from meter_sync.sandbox import RequestSeen, Sandbox

from .messages import Request, Response, send

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
PERIOD_START = datetime(2026, 11, 1, tzinfo=UTC)

PAGE = 100
"""Rows on a page of Stripe's lists, as this program asks for them."""

EMBEDDED = 10
"""Items that a subscription shows."""

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


def all_ways_of_running(sandbox: Sandbox, folder: Path) -> list[Exchange]:
    """Run the command so that it sends each kind of request it knows; return all exchanges.

    More subscriptions than fit on a page, more items than a subscription shows, a filtered meter,
    meters named by slug and by id, customers with and without their metadata, and each selector.
    """
    customer, subscription = _set_up(sandbox)
    with sandbox.in_background():
        for subject, selector in (
            ("customer.metadata.key", ()),
            ("subscription.metadata.key", ("--dry-run", "--customer", customer)),
            ("customer.metadata.key", ("--dry-run", "--subscription", subscription)),
            ("subscription.metadata.key", ("--dry-run", "--price", "price_filtered")),
        ):
            _run(sandbox, folder, *selector, METER_SYNC_SUBJECT=subject)
        return [_exchange(sandbox, seen) for seen in tuple(sandbox.requests)]


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


def _subscribe(sandbox: Sandbox, subject: str, prices: list[str]) -> tuple[str, str]:
    """Return a new customer and its subscription, both of which name the subject."""
    metadata = {"key": subject}
    customer = sandbox.stripe.add_customer(metadata=metadata)
    view = sandbox.stripe.add_subscription(customer, prices, period_start=PERIOD_START, metadata=metadata)
    return customer, view.id


def _run(sandbox: Sandbox, folder: Path, *options: str, **environment: str) -> None:
    config = folder / "meter-sync.toml"
    config.write_text(CONFIGURATION)
    ours = ("METER_SYNC_", "OPENMETER_", "STRIPE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = Path(sysconfig.get_path("scripts")) / "meter-sync"
    done = subprocess.run(
        [command, "--config", config, "run", "--as-of", NOW.isoformat(), *options],
        env={
            **kept,
            **sandbox.environment(),
            "XDG_CONFIG_HOME": str(folder),  # the SDK keeps a file there
            "METER_SYNC_LEDGER": str(folder / "ledger.sqlite3"),
            "METER_SYNC_STRIPE_RATE": "1000",
            "METER_SYNC_STRIPE_ENDPOINT_RATE": "1000",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def _exchange(sandbox: Sandbox, seen: RequestSeen) -> Exchange:
    """Return a request with its answer, which repeating it brings.

    The clock stands still, reads change nothing, and a write with its idempotency key is answered
    from memory.
    """
    request = Request.seen(seen)
    response = send(seen.server, sandbox, request)
    assert response.status_code == seen.status
    return Exchange(seen, request, response)
