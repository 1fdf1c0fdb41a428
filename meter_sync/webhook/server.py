"""The HTTP side: an event is answered with 2xx only when it is safe in the ledger."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import structlog
from aiohttp import web

from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Scope
from meter_sync.net.stop import Stop
from meter_sync.net.tasks import first_error_only
from meter_sync.webhook.accounts import Account, Accounts, Door, Unserved, named_in_log
from meter_sync.webhook.events import DEAUTHORIZED, Event, NotAnEvent, understand
from meter_sync.webhook.queue import Queue, Queues
from meter_sync.webhook.signature import SignatureRefused, verify
from meter_sync.webhook.worker import log_bug

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Work = Coroutine[None, None, None]

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
    """Takes events: verifies them, and queues those that ask for a report, each for its account."""

    accounts: Accounts
    doors: Sequence[Door]
    queues: Queues
    on_queued: Callable[[str], None]
    """Is told the name of the account whose queue has news."""
    _open: set[asyncio.Task[object]] = field(default_factory=set)
    """The requests that are not answered yet: aiohttp deals with each in a task of its own."""

    def application(self) -> web.Application:
        """Return the web application."""
        # Versions of aiohttp differ in whether they refuse this very size, so the last byte is counted below.
        application = web.Application(middlewares=[_answered, self._counted], client_max_size=LARGEST_BODY + 1)
        for door in self.doors:
            application.router.add_post(door.path, partial(self._receive, door))
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

    async def _receive(self, door: Door, request: web.Request) -> web.Response:
        if isinstance(door.account, Unserved):
            return _unserved(door.account)
        try:
            body = await _body_of(request)
            verify(body, request.headers.get("Stripe-Signature"), door.secrets)
            event = understand(_parsed(body))
        except (SignatureRefused, NotAnEvent) as refusal:
            return _refused(400, str(refusal))
        except web.HTTPRequestEntityTooLarge:
            return _refused(413, f"it has more than {LARGEST_BODY} bytes")
        except TimeoutError:
            return _refused(408, f"it did not arrive within {_SECONDS_FOR_A_BODY:.0f} s")
        except (ConnectionError, web.RequestPayloadError):
            return _refused(400, "it did not arrive as a whole")
        account = door.account or self.accounts.whose(event)
        if account is None or (door.account and not door.account.is_about(event)):
            return _ignored_of_another(event, door)
        if isinstance(account, Unserved):
            return _unserved(account, **_named(event))
        with named_in_log(account.name):
            return _ignored(event, account) or await self._queue(event, account)

    async def _queue(self, event: Event, account: Account) -> web.Response:
        about = _named(event)
        try:
            async with asyncio.timeout(_SECONDS_FOR_THE_LEDGER):
                is_new = await Queue(self.queues, account.scope).put(event.id, event.type, event.subscription)
        except (MeterSyncError, TimeoutError) as error:
            because = error.message if isinstance(error, MeterSyncError) else "the ledger is busy"
            log.error("webhook_not_queued", because=because, **about)
            return web.json_response({"result": "not queued, deliver it again"}, status=503)
        if not is_new:
            log.info("webhook_repeated", **about)
            return web.json_response({"result": "known"})
        log.info("webhook_queued", why=event.why, **about)
        self.on_queued(account.name)
        return web.json_response({"result": "queued"})

    async def _health(self, _request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_SECONDS_FOR_THE_LEDGER):
                waiting = await self.queues.by_account()
        except (MeterSyncError, TimeoutError):
            return web.json_response({"status": "the ledger cannot be used"}, status=503)
        return web.json_response({"status": "ok", **self._queued(waiting)})

    def _queued(self, waiting: Mapping[Scope, int]) -> dict[str, object]:
        """Return how many events wait, and of which account where there are several."""
        if self.accounts.only:
            return {"queued": waiting.get(self.accounts.only.scope, 0)}
        found = dict.fromkeys((one.name for one in self.accounts.served), 0)
        for scope, events in waiting.items():
            account = self.accounts.of(scope)
            if account:
                found[account.name] = events
        unserved = [one.name for one in self.accounts.unserved]
        return {"queued": sum(found.values()), "accounts": found, **({"unserved": unserved} if unserved else {})}


async def serve(receiver: Receiver, stop: Stop, host: str, port: int, meanwhile: Callable[[], Work]) -> None:
    """Receive events until the end is asked for; meanwhile, once it listens, something else is done.

    Then nothing new is accepted, and requests in flight and what was done meanwhile come to their end. Raise
    MeterSyncError if this address cannot be listened on.
    """
    runner = web.AppRunner(
        receiver.application(),
        access_log=None,
        logger=_quiet,
        shutdown_timeout=_SECONDS_FOR_CONNECTIONS_AT_SHUTDOWN,
    )
    await runner.setup()
    try:
        site = await _listen(runner, host, port, [door.path for door in receiver.doors])
        async with first_error_only(), asyncio.TaskGroup() as group:
            group.create_task(meanwhile())
            await stop.wait()
            log.info("webhook_stopping")
            await site.stop()
            await receiver.all_answered()  # the runner would not even read the rest of a body any more
            await runner.cleanup()
    finally:
        await runner.cleanup()
    log.info("webhook_stopped")


async def _listen(runner: web.AppRunner, host: str, port: int, paths: Sequence[str]) -> web.TCPSite:
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        raise MeterSyncError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}",
            "end what listens there, or choose another address with --host and --port",
            code="cannot_listen",
        ) from error
    log.info("webhook_listening", host=host, port=runner.addresses[0][1], path=paths[0], paths=len(paths))
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


def _named(event: Event) -> dict[str, str | None]:
    """Return what the log says of which event it is."""
    connected = {"stripe_account": event.account} if event.account else {}
    return {"event_id": event.id, "type": event.type, "subscription": event.subscription, **connected}


def _ignored(event: Event, account: Account) -> web.Response | None:
    """Return the answer to an event of an account that asks for no report, or None where it asks for one."""
    if event.is_live is not account.settings.stripe.is_live:
        # Stripe delivers both to a live platform's endpoints for connected accounts (documentation, Connect webhooks).
        return _ignore(event, "it is of the other mode (live or sandbox) than the key", is_usual=bool(event.account))
    if event.type == DEAUTHORIZED:
        message = (
            "the account has ended its connection to the platform: nothing of it can be read or billed any more; "
            "take its row out of the configuration, or let it connect again: what it used is then reported as far as "
            "Stripe takes it"
        )
        log.warning("webhook_deauthorized", message=message, **_named(event))
        return web.json_response({"result": "ignored"})
    return _ignore(event, "nothing to report", is_usual=True) if event.why is None else None


def _ignored_of_another(event: Event, door: Door) -> web.Response:
    """Answer an event of an account that is not served here with 2xx: Stripe would deliver it again and again."""
    if event.account:
        why = f"it is of account {event.account}, which is not served at {door.path}"
    else:
        why = f"it is of no connected account; for those with keys of their own there is {WEBHOOK_PATH}/NAME"
    return _ignore(event, why, is_usual=event.why is None)


def _ignore(event: Event, why: str, *, is_usual: bool) -> web.Response:
    if is_usual:
        log.info("webhook_ignored", why=why, **_named(event))
    else:
        log.warning("webhook_ignored", why=why, **_named(event))
    return web.json_response({"result": "ignored"})


def _unserved(account: Unserved, **about: str | None) -> web.Response:
    with named_in_log(account.name):
        log.error("webhook_not_queued", because=account.error.message, **about)
    return web.json_response({"result": "not queued, deliver it again"}, status=503)


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
        log_bug(error)
        return web.json_response({"error": "meter-sync itself failed"}, status=500)
