"""How many queries are under way at once to a server, for however many accounts it is asked."""

import asyncio
from contextlib import nullcontext

import pytest

from meter_sync.net.places import places_shared
from meter_sync.net.session import open_session
from meter_sync.net.stop import Stop
from meter_sync.openmeter_api.connection import Access, Connection


class Server:
    """Answers once nothing more comes, and counts how many requests were there at once."""

    def __init__(self, expected: int) -> None:
        self.most = 0
        self._open = 0
        self._all = asyncio.Barrier(expected)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self._open += 1
        self.most = max(self.most, self._open)
        await self._all.wait()  # until as many are there as may be
        self._open -= 1
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
        )
        await writer.drain()
        writer.close()


@pytest.mark.parametrize(("is_shared", "most"), [(True, 2), (False, 4)])
def test_accounts_of_one_server_share_its_places(is_shared: bool, most: int) -> None:
    """Two connections of two places each, and four requests through each."""

    async def asked() -> int:
        server = Server(most)
        listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with listening, open_session(url, 8) as session:
            with places_shared() if is_shared else nullcontext():
                access = Access(url, lambda: None, 2, 0)
                connections = [Connection(access, session, Stop()) for _ in range(2)]
            await asyncio.gather(*(one.get("/x", "x") for one in connections for _ in range(4)))
        return server.most

    assert asyncio.run(asked()) == most
