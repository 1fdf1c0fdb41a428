"""The HTTP side of both embedded servers: one aiohttp application around one API function.

Recording what was seen, faults, latency and what is under way at once live here, so that the APIs stay plain functions.
"""

import asyncio
import email.utils
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from aiohttp import web

from meter_sync.sandbox.http import sending
from meter_sync.sandbox.http.faults import Fault, Faults, Server
from meter_sync.sandbox.http.traffic import Answer, Api, Incoming, Locks, RequestSeen

LOOPBACK = "127.0.0.1"
_LARGEST_BODY = 256 * 1024 * 1024
_SECONDS_FOR_OPEN_REQUESTS_AT_SHUTDOWN = 1.0
_TURNS_UNTIL_CONNECTIONS_ARE_THE_RUNNERS = 4
_NO_FAULT = Fault(delay_seconds=0.0)


class Surroundings(Protocol):
    """What a server asks its sandbox for at each request, since tests change it while it serves."""

    faults: Faults
    date_skew_seconds: float

    def saw(self, request: RequestSeen) -> None:
        """Take note of a request."""


class LocalServer:
    """One embedded server on loopback."""

    def __init__(
        self,
        name: Server,
        api: Api,
        surroundings: Surroundings,
        *,
        latency_seconds: Callable[[Incoming], float],
        failure: Callable[[Incoming, Fault, int], Answer],
        locks: Locks = lambda _: None,
        account: Callable[[Incoming], str | None] = lambda _: None,
    ) -> None:
        self._name = name
        self._api = api
        self._surroundings = surroundings
        self._latency_seconds = latency_seconds
        self._failure = failure
        self._locks = locks
        self._account = account
        self._locked: set[Hashable] = set()
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> int:
        """Listen on this port, or on a free one if it is 0; return the port."""
        application = web.Application(client_max_size=_LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=_SECONDS_FOR_OPEN_REQUESTS_AT_SHUTDOWN,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close all connections and stop listening."""
        if self._runner is not None:
            # asyncio forgets to close a connection that was accepted, but not yet given to the runner, as it stops.
            for _ in range(_TURNS_UNTIL_CONNECTIONS_ARE_THE_RUNNERS):
                await asyncio.sleep(0)
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        arrived = time.monotonic()
        read = await _read(request)
        incoming = replace(read, account=self._account(read))
        fault = self._surroundings.faults.take(self._name, incoming) or _NO_FAULT
        answer = await self._outcome(incoming, fault)
        # Noted before it is sent: a client that has its answer finds its request in the list.
        self._note(incoming, answer, arrived)
        if answer is None:
            return sending.nothing(request)
        response = self._response(answer, fault)
        if fault.truncate:
            return await sending.half(request, response)
        if fault.drip_seconds is not None:
            return await sending.slowly(request, response, fault.drip_seconds)
        if fault.fill_bytes is not None:
            return await sending.filled(request, response, fault.fill_bytes, is_announced=not fault.chunked)
        return response

    async def _outcome(self, incoming: Incoming, fault: Fault) -> Answer | None:
        """Carry the request out unless the fault forbids it; return the answer, None for none."""
        if fault.drop == "before":
            return None
        if fault.status is not None:
            return self._failure(incoming, fault, fault.status)
        with self._under_way(incoming) as admitted:
            await asyncio.sleep(self._latency_seconds(incoming))
            answer = self._api(admitted)
        if fault.delay_seconds:
            await asyncio.sleep(fault.delay_seconds)
        if fault.drop == "after":
            return None
        if fault.replace_text is not None:
            return Answer(status=200, body=fault.replace_text, content_type=fault.replace_content_type)
        if fault.relabel is not None:
            return replace(answer, content_type=fault.relabel)
        return answer

    @contextmanager
    def _under_way(self, incoming: Incoming) -> Iterator[Incoming]:
        """Hold what the request is about, or give the request with the note that another one holds it."""
        lock = self._locks(incoming)
        if lock is None:
            yield incoming
        elif lock in self._locked:
            yield replace(incoming, finds_locked=True)
        else:
            self._locked.add(lock)
            try:
                yield incoming
            finally:
                self._locked.remove(lock)

    def _note(self, incoming: Incoming, answer: Answer | None, arrived: float) -> None:
        self._surroundings.saw(
            RequestSeen(
                server=self._name,
                method=incoming.method,
                path=incoming.path,
                query=incoming.query,
                body=incoming.body,
                status=None if answer is None else answer.status,
                headers=_masked(incoming.headers),
                at=arrived,
                account=incoming.account,
            )
        )

    def _response(self, answer: Answer, fault: Fault = _NO_FAULT) -> web.Response:
        served_at = time.time() + self._surroundings.date_skew_seconds
        headers = {"Date": email.utils.formatdate(served_at, usegmt=True), **answer.headers}
        if answer.body:
            headers.setdefault("Content-Type", answer.content_type)
        body = fault.rewrite(answer.body) if fault.rewrite else answer.body.encode("utf-8")
        return web.Response(status=answer.status, body=body or None, headers=headers)


async def _read(request: web.Request) -> Incoming:
    return Incoming(
        method=request.method,
        path=request.path,
        query=request.rel_url.raw_query_string,
        headers={name.lower(): value for name, value in request.headers.items()},
        body=(await request.read()).decode("utf-8", errors="replace"),
    )


def _masked(headers: Mapping[str, str]) -> Mapping[str, str]:
    if "authorization" not in headers:
        return headers
    scheme = headers["authorization"].split(" ", 1)[0]
    return {**headers, "authorization": f"{scheme} ****"}
