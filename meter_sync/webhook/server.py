"""The HTTP side: an event is answered with 2xx only when it is safe in the ledger."""

import asyncio
import json
import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from aiohttp import web
from pydantic import SecretStr

from meter_sync.errors import MeterSyncError
from meter_sync.net.stop import Stop
from meter_sync.net.tasks import first_error_only
from meter_sync.webhook.events import Event, NotAnEvent, understand
from meter_sync.webhook.queue import Queue
from meter_sync.webhook.signature import SignatureRefused, verify
from meter_sync.webhook.worker import Worker

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()

WEBHOOK_PATH = "/webhook"
HEALTH_PATH = "/healthz"
LARGEST_BODY = 1_000_000
"""In bytes. Stripe's events have some thousands."""

_SECONDS_FOR_A_BODY = 10.0
_SECONDS_FOR_THE_LEDGER = 10.0
"""Stripe gives up waiting for an answer soon after."""
_SECONDS_FOR_OPEN_REQUESTS_AT_SHUTDOWN = 25.0
"""More than the two above together."""
_SECONDS_FOR_CONNECTIONS_AT_SHUTDOWN = 1.0

_quiet = logging.getLogger("meter_sync.webhook.http")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False
"""What aiohttp says of requests that are no HTTP: they are answered, and are nobody's concern."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Takes events: verifies them, and queues those that ask for a report."""

    secrets: Sequence[SecretStr]
    is_live: bool
    """The mode of the key: an event of the other one is about subscriptions that it does not know."""
    queue: Queue
    on_queued: Callable[[], None]
    _open: set[asyncio.Task[object]] = field(default_factory=set)
    """The requests that are not answered yet: aiohttp deals with each in a task of its own."""

    def application(self) -> web.Application:
        """Return the web application."""
        # Versions of aiohttp differ in whether they refuse this very size, so the last byte is counted below.
        application = web.Application(middlewares=[_answered, self._counted], client_max_size=LARGEST_BODY + 1)
        application.router.add_post(WEBHOOK_PATH, self._receive)
        application.router.add_get(HEALTH_PATH, self._health)
        return application

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if task := asyncio.current_task():
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        return await handler(request)

    async def all_answered(self) -> None:
        """Wait until each request is answered, but no longer than its body and the ledger may take."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS_FOR_OPEN_REQUESTS_AT_SHUTDOWN):
                while self._open:
                    await asyncio.wait(self._open)

    async def _receive(self, request: web.Request) -> web.Response:
        try:
            body = await _body_of(request)
            verify(body, request.headers.get("Stripe-Signature"), self.secrets)
            event = understand(_parsed(body))
        except (SignatureRefused, NotAnEvent) as refusal:
            return _refused(400, str(refusal))
        except web.HTTPRequestEntityTooLarge:
            return _refused(413, f"it has more than {LARGEST_BODY} bytes")
        except TimeoutError:
            return _refused(408, f"it did not arrive within {_SECONDS_FOR_A_BODY:.0f} s")
        except (ConnectionError, web.RequestPayloadError):
            return _refused(400, "it did not arrive as a whole")
        return await self._queue(event)

    async def _queue(self, event: Event) -> web.Response:
        about = {"event_id": event.id, "type": event.type, "subscription": event.subscription}
        if event.is_live is not self.is_live:
            log.warning("webhook_ignored", why="it is of the other mode (live or sandbox) than the key", **about)
            return web.json_response({"result": "ignored"})
        if event.why is None:
            log.info("webhook_ignored", why="nothing to report", **about)
            return web.json_response({"result": "ignored"})
        try:
            async with asyncio.timeout(_SECONDS_FOR_THE_LEDGER):
                is_new = await self.queue.put(event.id, event.type, event.subscription)
        except (MeterSyncError, TimeoutError) as error:
            because = error.message if isinstance(error, MeterSyncError) else "the ledger is busy"
            log.error("webhook_not_queued", because=because, **about)
            return web.json_response({"result": "not queued, deliver it again"}, status=503)
        if not is_new:
            log.info("webhook_repeated", **about)
            return web.json_response({"result": "known"})
        log.info("webhook_queued", why=event.why, **about)
        self.on_queued()
        return web.json_response({"result": "queued"})

    async def _health(self, _request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_SECONDS_FOR_THE_LEDGER):
                queued = len(await self.queue.waiting())
        except (MeterSyncError, TimeoutError):
            return web.json_response({"status": "the ledger cannot be used"}, status=503)
        return web.json_response({"status": "ok", "queued": queued})


async def serve(receiver: Receiver, worker: Worker, stop: Stop, host: str, port: int) -> None:
    """Receive events and let the worker work until the end is asked for.

    Then nothing new is accepted, and requests in flight and the worker come to their end. Raise MeterSyncError if
    this address cannot be listened on.
    """
    runner = web.AppRunner(
        receiver.application(),
        access_log=None,
        logger=_quiet,
        shutdown_timeout=_SECONDS_FOR_CONNECTIONS_AT_SHUTDOWN,
    )
    await runner.setup()
    try:
        site = await _listen(runner, host, port)
        async with first_error_only(), asyncio.TaskGroup() as group:
            group.create_task(worker.work())
            await stop.wait()
            log.info("webhook_stopping")
            await site.stop()
            await receiver.all_answered()  # the runner would not even read the rest of a body any more
            await runner.cleanup()
    finally:
        await runner.cleanup()
    log.info("webhook_stopped")


async def _listen(runner: web.AppRunner, host: str, port: int) -> web.TCPSite:
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        raise MeterSyncError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}",
            "end what listens there, or choose another address with --host and --port",
            code="cannot_listen",
        ) from error
    log.info("webhook_listening", host=host, port=runner.addresses[0][1], path=WEBHOOK_PATH)
    return site


async def _body_of(request: web.Request) -> bytes:
    """Return the body. Raise HTTPRequestEntityTooLarge, TimeoutError, or ConnectionError or RequestPayloadError."""
    body = b""
    size = request.content_length or 0
    if size <= LARGEST_BODY:
        async with asyncio.timeout(_SECONDS_FOR_A_BODY):
            body = await request.read()
        size = len(body)
    if size > LARGEST_BODY:
        raise web.HTTPRequestEntityTooLarge(max_size=LARGEST_BODY, actual_size=size)
    return body


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAnEvent("it is not JSON") from error


def _refused(status: int, why: str) -> web.Response:
    log.warning("webhook_refused", status=status, why=why)
    return web.json_response({"error": why}, status=status)


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 500 to what no one thought of, so that Stripe delivers it again, and say it in the log."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception as error:
        log.error("webhook_failed", because=type(error).__name__, traceback=traceback.format_exc())
        return web.json_response({"error": "meter-sync itself failed"}, status=500)
