"""A run with all that it needs: what it is to do, and what it talks to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from aiohttp import ClientSession

from meter_sync import openmeter_api, stripe_api
from meter_sync.config import Settings
from meter_sync.core.metering.mapping import COPY_OF, MappingRules
from meter_sync.core.planning.brakes import Thresholds
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.selection import Selection
from meter_sync.core.schedule import Schedule
from meter_sync.ledger import Ledger, RunRecord
from meter_sync.net.pace import Limiter
from meter_sync.net.session import open_session
from meter_sync.net.stop import Stop
from meter_sync.openmeter_api.client import OpenMeter
from meter_sync.stripe_api.connection import StripeReader, StripeWriter
from meter_sync.stripe_api.listing import Lister
from meter_sync.stripe_api.meter_event_stream import (
    LONGEST_TRIED_SECONDS,
    METER_EVENT_STREAM,
    REQUESTS_PER_SECOND,
    MeterEventStream,
    stream_base,
)
from meter_sync.stripe_api.meter_events import METER_EVENTS
from meter_sync.sync.allowance import sharing_allowance, sharing_openmeter, sharing_platform
from meter_sync.sync.progress import Progress
from meter_sync.sync.request import Request

Clock = Callable[[], datetime]

CONNECTIONS = 128
_CONNECTIONS_OF_STREAM = 20


@dataclass(frozen=True, slots=True)
class Job:
    """What one run is to do, and everything outside the core that it needs."""

    run: RunRecord
    selection: Selection
    rules: MappingRules
    policy: Policy
    thresholds: Thresholds
    closing: timedelta | None
    """Only the items whose period ends or has ended within so long, as the ledger knows them."""
    is_about_rejections: bool
    """Only the subscriptions of which Stripe has rejected what it had taken, which is asked first."""
    test_clock: str | None
    """Only what is on this test clock; None for all that is on none."""
    stripe: StripeReader
    writer: StripeWriter | None
    """The same as `stripe` in a run that may write; None in a dry run."""
    stream: MeterEventStream | None
    """What takes events by the hundred, where the key and the settings allow it."""
    lister: Lister
    openmeter: OpenMeter
    ledger: Ledger
    clock: Clock
    """Says what now is: for a run on a test clock, its time."""
    stop: Stop
    retry_seconds: float
    """How long a request, or a question whose answer lags, is tried."""
    progress: Progress
    history: timedelta | None
    """How long what is over is kept; None for ever."""


@asynccontextmanager
async def open_reader(settings: Settings, clock: Clock, stop: Stop) -> AsyncIterator[StripeReader]:
    """Open what reads from Stripe, for a question that comes before a run; `clock` is this machine's."""
    async with open_session(settings.stripe.api_base, 1) as session:
        yield StripeReader(_access(settings), session, _limiter(settings, stop), clock, stop)
        await asyncio.sleep(0)  # lets the connection of the last answer close before the session does


@asynccontextmanager
async def open_openmeter(settings: Settings, stop: Stop) -> AsyncIterator[OpenMeter]:
    """Open what reads from OpenMeter."""
    secret = settings.openmeter.api_key
    access = openmeter_api.connection.Access(
        url=settings.openmeter.url,
        key=lambda: secret.get_secret_value() if secret else None,
        concurrency=settings.openmeter.concurrency,
        retry_seconds=settings.retry_seconds,
    )
    async with open_session(settings.openmeter.url, settings.openmeter.concurrency) as session:
        yield OpenMeter(access, session, stop)
        await asyncio.sleep(0)  # lets the connections of the last answers close before the session does


@asynccontextmanager
async def open_job(
    settings: Settings, request: Request, run: RunRecord, ledger: Ledger, clock: Clock, stop: Stop, progress: Progress
) -> AsyncIterator[Job]:
    """Open what a run talks to. In a dry run the object that can write is not constructed.

    `clock` is this machine's, also for a run on a test clock, whose own now stands still where it began.
    """
    access, limiter = _access(settings), _limiter(settings, stop)
    async with (
        open_session(settings.stripe.api_base, CONNECTIONS) as session,
        sharing_openmeter(settings, run, is_seen=not request.dry_run),
        open_openmeter(settings, stop) as openmeter,
        sharing_allowance(limiter, ledger, run, is_seen=not request.dry_run),
        sharing_platform(settings, limiter.platform, run, is_seen=not request.dry_run),
    ):
        writer = None if request.dry_run else StripeWriter(access, session, limiter, clock, stop)
        stripe = writer or StripeReader(access, session, limiter, clock, stop)
        async with _open_stream(settings, writer, session, limiter, clock, stop) as stream:
            yield Job(
                run=run,
                selection=request.selection,
                rules=settings.mapping_rules,
                policy=_policy(settings, request, run),
                thresholds=settings.thresholds,
                closing=request.closing,
                is_about_rejections=request.is_about_rejections,
                test_clock=request.test_clock,
                stripe=stripe,
                writer=writer,
                stream=stream,
                lister=Lister(
                    stripe,
                    with_customers=settings.mapping_rules.needs_customer_metadata,
                    test_clock=request.test_clock,
                    only_with_key=COPY_OF if settings.is_shadow else None,
                ),
                openmeter=openmeter,
                ledger=ledger,
                clock=clock if request.test_clock is None else lambda: run.started_at,
                stop=stop,
                retry_seconds=settings.retry_seconds,
                progress=progress,
                history=timedelta(days=settings.history_days) if settings.history_days else None,
            )
        await asyncio.sleep(0)  # lets the connections of the last answers close before the session does


@asynccontextmanager
async def _open_stream(
    settings: Settings, writer: StripeWriter | None, http: ClientSession, limiter: Limiter, clock: Clock, stop: Stop
) -> AsyncIterator[MeterEventStream | None]:
    """Open what takes meter events by the hundred, in a run that may write; nothing is sent before it is needed.

    Its requests are limited and counted with those of the writer, whose HTTP session its own sessions are opened by.
    """
    if writer is None or not settings.stripe.may_stream:
        yield None
        return

    def beside(access: stripe_api.connection.Access, through: ClientSession) -> StripeWriter:
        other = StripeWriter(access, through, limiter, clock, stop)
        other.tally = writer.tally
        return other

    address, access = stream_base(settings.stripe.api_base), _access(settings)
    access = replace(access, retry_seconds=min(access.retry_seconds, LONGEST_TRIED_SECONDS))
    async with open_session(address, _CONNECTIONS_OF_STREAM) as to_stream:
        yield MeterEventStream(
            beside(access, http),
            lambda token: beside(replace(access, key=lambda: token, api_base=address), to_stream),
        )
        await asyncio.sleep(0)  # lets the connections of the last answers close before the session does


def _access(settings: Settings) -> stripe_api.connection.Access:
    return stripe_api.connection.Access(
        key=settings.stripe.api_key.get_secret_value,
        api_base=settings.stripe.api_base,
        retry_seconds=settings.retry_seconds,
        account=settings.stripe.account,
        is_of_organization=settings.stripe.is_of_organization,
    )


def _limiter(settings: Settings, stop: Stop) -> Limiter:
    """Return what keeps to Stripe's limits: those of the account and, with a platform's key, those of the platform too.

    Which of the two a request for a connected account counts for is not documented, so it counts for both.
    """
    platform = None if settings.stripe.account is None else _limiter_of_one(settings, stop)
    return _limiter_of_one(settings, stop, platform)


def _limiter_of_one(settings: Settings, stop: Stop, platform: Limiter | None = None) -> Limiter:
    return Limiter(
        settings.stripe.overall_rate,
        settings.stripe.endpoint_rate,
        stop,
        apart={
            f"post {METER_EVENTS}": settings.stripe.event_rate,
            f"post {METER_EVENT_STREAM}": REQUESTS_PER_SECOND,
        },
        platform=platform,
    )


def _policy(settings: Settings, request: Request, run: RunRecord) -> Policy:
    return Policy(
        now=run.started_at,
        as_of=run.as_of,
        reads_everything=request.reads_everything,
        resend=request.resend,
        resend_after=timedelta(hours=settings.resend_after_hours),
        lookback=timedelta(days=settings.lookback_days),
        cadence=Schedule(run.schedule).interval,
        allowed=request.allowed,
        forgives_voided=settings.voided_invoices == "forgive",
    )
