"""`bridge.bridged_request`: sending short and long bodies, and failures while they are sent."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

import wireserver
from conftest import run
from scripted import json_answer, scripted

from .bridging import bridged, in_turn

BUSY = json_answer({"error": {"message": "busy"}}, 503, Retry_After="0")


def test_a_stream_of_unknown_length_arrives() -> None:
    """An asynchronous source is sent piece by piece as it comes, empty pieces left out."""
    got: list[wireserver.Request] = []

    async def source() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"two" * 50_000, b"three"):
            await asyncio.sleep(0)
            yield piece

    async def script(peer: wireserver.Peer) -> None:
        got.append(await peer.request())
        await peer.send(wireserver.HELLO)

    async def main() -> None:
        async with wireserver.Server(script) as server, bridged(f"http://127.0.0.1:{server.port}") as http:
            assert (await http.post("/x", content=source())).text == "hello"

    run(main())
    assert got[0].body == b"one" + b"two" * 50_000 + b"three"
    assert got[0].field("transfer-encoding") == "chunked"
    assert got[0].field("content-length") is None


@pytest.mark.parametrize("size", [1_000, 3_000_000])
def test_a_form_arrives(size: int) -> None:
    """A form with a file is sent under its length, whether it is read first or sent as it is read."""

    async def main() -> None:
        content = random.Random(size).randbytes(size)
        async with scripted(in_turn(json_answer({"id": "f-1"}))) as server, bridged(server.url) as http:
            await http.post("/files", data={"purpose": "x"}, files={"file": ("a.bin", io.BytesIO(content))})
            (seen,) = server.seen
            assert content in seen.body
            assert b'name="purpose"' in seen.body
            assert seen.headers["content-type"].startswith("multipart/form-data; boundary=")

    run(main())


def test_what_can_be_sent_again_is() -> None:
    """A short form is tried again whole; a source that can be read once is not, and the status comes out."""

    async def source() -> AsyncIterator[bytes]:
        yield b"once"

    async def main() -> None:
        async with wireserver.Server(_busy) as server:
            async with bridged(f"http://127.0.0.1:{server.port}", max_retries=2) as http:
                got = await http.post("/files", files={"file": ("a.bin", io.BytesIO(b"again"))})
                assert got.status_code == 503
                assert sum(len(peer_bodies) for peer_bodies in BODIES.values()) == 3
                assert len({body for bodies in BODIES.values() for body in bodies}) == 1
                BODIES.clear()
                got = await http.post("/files", content=source())
                assert (got.status_code, list(BODIES.values())) == (503, [[b"once"]])
                BODIES.clear()

    run(main())


BODIES: dict[int, list[bytes]] = {}


async def _busy(peer: wireserver.Peer) -> None:
    while True:
        request = await peer.request()
        BODIES.setdefault(peer.number, []).append(request.body)
        await peer.send(BUSY)


def test_a_source_that_fails_fails_the_request_with_its_own_error() -> None:
    """The caller's own exception comes out, and the connection is dropped."""

    async def source() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise KeyError("mine")

    async def main() -> None:
        async with wireserver.Server(wireserver.Peer.gone) as server:
            async with bridged(f"http://127.0.0.1:{server.port}", max_retries=2) as http:
                with pytest.raises(KeyError, match="mine"):
                    await http.post("/x", content=source())
                await server.settled()

    run(main())


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 65_536
        await asyncio.sleep(0)


def test_a_server_that_stops_reading() -> None:
    """An upload that is not taken is a WriteTimeout; one whose connection is reset a WriteError."""

    async def deaf(peer: wireserver.Peer) -> None:
        await peer.head()
        await asyncio.sleep(3600)

    async def rude(peer: wireserver.Peer) -> None:
        await peer.head()
        peer.reset()

    async def main(script: Any, error: type[Exception]) -> None:
        async with wireserver.Server(script) as server:
            url = f"http://127.0.0.1:{server.port}"
            async with bridged(url, httpx2.Timeout(30.0, read=0.3), max_retries=2) as http:
                with pytest.raises(error):
                    await http.post("/x", content=_endless())
            assert len(server.peers) == 1

    run(main(deaf, httpx2.WriteTimeout))
    run(main(rude, httpx2.WriteError))


def test_an_early_refusal_comes_out() -> None:
    """A server that answers before it has read the upload is heard."""

    async def script(peer: wireserver.Peer) -> None:
        await peer.head()
        await peer.send(json_answer({"error": {"message": "too large"}}, 413))
        await peer.gone()

    async def main() -> None:
        async with wireserver.Server(script) as server, bridged(f"http://127.0.0.1:{server.port}") as http:
            got = await http.post("/x", content=_endless())
            assert (got.status_code, got.json()["error"]["message"]) == (413, "too large")

    run(main())
