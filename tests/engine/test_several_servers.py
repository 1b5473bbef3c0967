"""One client, several servers: calls are shared out, and go elsewhere where a server fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from conftest import run
from openaiasync import APIConnectionError, Client, ConfigurationError
from scripted import CHAT, Scripted, Seen, chat, json_answer, scripted


class Moody:
    """A script whose server works, fails or takes its time, as the test says."""

    def __init__(self, pause: float = 0.01) -> None:
        self.pause = pause
        self.status = 200
        self.dead = False

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.pause)
        if self.dead:
            writer.close()
        elif self.status != 200:
            writer.write(json_answer({"error": {"message": "no"}}, self.status))
        elif seen.method == "GET":
            writer.write(json_answer({"object": "list", "data": []}))
        else:
            await chat(seen, writer)


@asynccontextmanager
async def servers(*scripts: Moody, **options: Any) -> AsyncIterator[tuple[Client, list[Scripted]]]:
    """Servers with these scripts, and a client of all."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(scripted(script)) for script in scripts]
        bases: Any = {server.url: f"key-{number}" for number, server in enumerate(found)}
        client = Client(**{"api_base": bases, "model": "m", "http_max_in_flight": None, **options})
        yield await stack.enter_async_context(client), found


def test_calls_are_shared_out_with_keys_of_their_own() -> None:
    """Whole answers and streams go to both servers, each with its key; the quicker one gets more."""

    async def main() -> None:
        async with servers(Moody(0.01), Moody(0.05)) as (client, (quick, slow)):

            async def several() -> None:
                for _ in range(20):
                    await client.chat("hi")
                    async with client.chat.stream("hi") as stream:
                        async for _ in stream:
                            pass

            await asyncio.gather(*(several() for _ in range(4)))
            assert len(quick.seen) + len(slow.seen) == 160
            assert len(quick.seen) > 1.5 * len(slow.seen) > 8
            for number, server in enumerate((quick, slow)):
                assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer key-{number}"}

    run(main())


@pytest.mark.parametrize("fault", ["dead", "500", "429"])
def test_a_server_that_fails(fault: str) -> None:
    """No call fails, and none waits for a pause; the server is left alone, and used again once it works."""
    bad = Moody()

    async def main() -> None:
        async with servers(bad, Moody()) as (client, (one, other)):
            if fault == "dead":
                bad.dead = True
            else:
                bad.status = int(fault)
            began = asyncio.get_running_loop().time()
            await asyncio.gather(*(client.chat("hi") for _ in range(30)))
            assert asyncio.get_running_loop().time() - began < 0.5
            assert len(other.seen) == 30
            if fault == "429":
                return
            count = len(one.seen)
            for _ in range(20):
                await client.chat("hi")
            assert len(one.seen) == count
            bad.dead, bad.status = False, 200
            await asyncio.sleep(5)
            await client.chat("hi")  # the probe
            await asyncio.gather(*(client.chat("hi") for _ in range(10)))
            assert len(one.seen) > count + 2

    run(main())


def test_all_servers_fail() -> None:
    """The call fails as with one server, after as many retries."""
    bad, worse = Moody(), Moody()
    bad.dead = worse.dead = True

    async def main() -> None:
        async with servers(bad, worse) as (client, both):
            with pytest.raises(APIConnectionError):
                await client.chat("hi")
            assert sum(len(server.seen) for server in both) == 3

    run(main())


def test_what_belongs_to_one_server() -> None:
    """Lists, files and batches are on the first server."""

    async def main() -> None:
        async with servers(Moody(), Moody()) as (client, (one, other)):
            for _ in range(4):
                await client.models.list()
                await client.files.list()
            assert (len(one.seen), len(other.seen)) == (8, 0)

    run(main())


def test_variants() -> None:
    """Clients made from it share the servers; with another base they have that one alone."""

    async def main() -> None:
        async with servers(Moody(), Moody()) as (client, (one, other)):
            patient = client.with_options(max_retries=5)
            await asyncio.gather(*(patient.chat("hi") for _ in range(6)))
            assert (len(one.seen), len(other.seen)) == (3, 3)
            alone = client.with_options(base_url=one.url)
            await asyncio.gather(*(alone.chat("hi") for _ in range(6)))
            assert (len(one.seen), len(other.seen)) == (9, 3)
            client.base_url = other.url
            await client.chat("hi")
            assert (len(one.seen), len(other.seen)) == (9, 4)
            assert "key-" not in repr(client) + repr(vars(client))

    run(main())


def test_many_rows_go_to_all() -> None:
    """`client.map` uses every server of the client."""

    async def main() -> None:
        async with servers(Moody(), Moody()) as (client, both):
            rows = await client.map(map(str, range(60)))
            assert all(row.ok for row in rows)
            assert all(server.seen for server in both)

    run(main())


@pytest.mark.parametrize("bases", [[], {}, ["http://a", "no URL"], {"http://a": "k", "http://b": "line\nbreak"}])
def test_what_cannot_work(bases: Any) -> None:
    """A missing base, an invalid URL and a key that a field cannot carry are refused at construction."""
    with pytest.raises(ConfigurationError):
        Client(api_base=bases, model="m")


def test_one_base_in_a_list() -> None:
    """A list of one is that one."""

    async def main() -> None:
        async with scripted() as server, Client(api_base=[server.url], model="m") as client:
            assert (await client.chat("hi")).model == CHAT["model"]

    run(main())
