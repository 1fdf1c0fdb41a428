"""What a run talks to, opened and closed together."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from meter_sync import openmeter_api, stripe_api
from meter_sync.config import Settings
from meter_sync.ledger import Ledger
from meter_sync.net.pace import Limiter
from meter_sync.net.session import open_session
from meter_sync.net.stop import Stop
from meter_sync.openmeter_api.client import OpenMeter
from meter_sync.stripe_api.connection import StripeReader, StripeWriter
from meter_sync.stripe_api.listing import Lister
from meter_sync.stripe_api.meter_events import METER_EVENTS

Clock = Callable[[], datetime]

CONNECTIONS = 128


@dataclass(frozen=True, slots=True)
class Adapters:
    """Everything outside the core that a run needs."""

    stripe: StripeReader
    writer: StripeWriter | None
    """The same as `stripe` in a run that may write; None in a dry run."""
    lister: Lister
    openmeter: OpenMeter
    ledger: Ledger
    clock: Clock
    stop: Stop
    retry_seconds: float
    """How long a request, or a question whose answer lags, is tried."""


@asynccontextmanager
async def open_adapters(
    settings: Settings, ledger: Ledger, clock: Clock, stop: Stop, *, dry_run: bool
) -> AsyncIterator[Adapters]:
    """Open both clients. In a dry run the object that can write is not constructed."""
    access = stripe_api.connection.Access(
        key=settings.stripe.api_key.get_secret_value,
        api_base=settings.stripe.api_base,
        retry_seconds=settings.retry_seconds,
    )
    limiter = Limiter(
        settings.stripe.overall_rate,
        settings.stripe.endpoint_rate,
        stop,
        apart={f"post {METER_EVENTS}": settings.stripe.event_rate},
    )
    async with (
        open_session(settings.stripe.api_base, CONNECTIONS) as session,
        open_session(settings.openmeter.url, settings.openmeter.concurrency) as metering,
    ):
        writer = None if dry_run else StripeWriter(access, session, limiter, clock, stop)
        stripe = writer or StripeReader(access, session, limiter, clock, stop)
        yield Adapters(
            stripe=stripe,
            writer=writer,
            lister=Lister(stripe, with_customers=settings.mapping_rules.needs_customer_metadata),
            openmeter=OpenMeter(_openmeter_access(settings), metering, stop),
            ledger=ledger,
            clock=clock,
            stop=stop,
            retry_seconds=settings.retry_seconds,
        )
        await asyncio.sleep(0)  # lets the connections of the last answers close before the session does


def _openmeter_access(settings: Settings) -> openmeter_api.client.Access:
    secret = settings.openmeter.api_key
    return openmeter_api.client.Access(
        url=settings.openmeter.url,
        key=lambda: secret.get_secret_value() if secret else None,
        concurrency=settings.openmeter.concurrency,
        retry_seconds=settings.retry_seconds,
    )
