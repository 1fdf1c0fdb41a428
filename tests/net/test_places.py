"""How many queries are under way at once to a server, for however many accounts it is asked."""

import asyncio
from contextlib import nullcontext, suppress

import pytest

from meter_sync.net.places import Places, places_shared
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


@pytest.mark.parametrize(("others", "mine"), [(0, 4), (1, 2), (2, 1), (9, 1)])
def test_each_of_those_who_ask_a_server_has_its_part_of_the_places(others: int, mine: int) -> None:
    async def taken() -> int:
        places, found = Places(4), 0
        await places.leave_to(3)
        await places.leave_to(others)
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0):
                    await places.__aenter__()
                found += 1
        return found

    assert asyncio.run(taken()) == mine


def test_places_that_are_taken_are_left_as_soon_as_they_are_free() -> None:
    async def left() -> bool:
        places = Places(2)
        async with places, asyncio.TaskGroup() as tasks:
            async with places:
                leaving = tasks.create_task(places.leave_to(1))
                await asyncio.sleep(0)
                waits = not leaving.done()
            await leaving
        return waits

    assert asyncio.run(left())
