"""Sending an answer otherwise than whole and at once."""

import asyncio
import math
from contextlib import suppress

from aiohttp import web

_PIECES = 20
_PIECE_BYTES = 64 * 1024


def nothing(request: web.Request) -> web.StreamResponse:
    """Close the connection; what aiohttp then tries to send goes nowhere."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def half(request: web.Request, whole: web.Response) -> web.StreamResponse:
    """Send the headers, with the length of the whole body, and half of the body; then hang up."""
    body = _body(whole)
    response = await _begun(request, whole, len(body))
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def slowly(request: web.Request, whole: web.Response, seconds: float) -> web.StreamResponse:
    """Send the body in pieces, with a pause after each, over so long in all or until the client has gone."""
    body = _body(whole)
    response = await _begun(request, whole, len(body))
    size = max(1, math.ceil(len(body) / _PIECES))
    with suppress(ConnectionError):
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
            await asyncio.sleep(seconds / _PIECES)
    return response


async def filled(request: web.Request, whole: web.Response, spaces: int, *, is_announced: bool) -> web.StreamResponse:
    """Send the body and then so many spaces or until the client has gone; announced means with a Content-Length."""
    body = _body(whole)
    response = await _begun(request, whole, len(body) + spaces if is_announced else None)
    with suppress(ConnectionError):
        await response.write(body)
        for sent in range(0, spaces, _PIECE_BYTES):
            await response.write(b" " * min(_PIECE_BYTES, spaces - sent))
    return response


async def _begun(request: web.Request, whole: web.Response, length: int | None) -> web.StreamResponse:
    """Send the headers, with this length or, without one, for a body in chunks."""
    response = web.StreamResponse(status=whole.status, headers=whole.headers)
    if length is None:
        response.headers.popall("Content-Length", None)
        response.enable_chunked_encoding()
    else:
        response.content_length = length
    await response.prepare(request)
    return response


def _body(whole: web.Response) -> bytes:
    return whole.body if isinstance(whole.body, bytes) else b""
