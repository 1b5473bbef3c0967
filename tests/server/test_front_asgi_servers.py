"""The front on other ASGI servers: bytes, streams, uploads, clients that leave by the hundred, WebSockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
from pathlib import Path

import pytest

from conftest import run
from openaiasync.testing import FakeServer
from openaiasync.transport.fake import FakeAnswer

from .fronts import chat
from .test_asgi_servers import INSTALLED, running
from .wire import Wire, request

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(180)]

APP = """
from openaiasync import Limits
from openaiasync.server import Front
app = Front(["URL"], limits=Limits(max_in_flight=50), max_queue=2000, record="recorded.jsonl")
"""
CHAT = "/v1/chat/completions"
STREAM = request("POST", CHAT, chat(stream=True))


class _Place:
    """Where a server in another process listens."""

    def __init__(self, port: int) -> None:
        self.port = port


@pytest.mark.parametrize("name", INSTALLED)
def test_what_passes(name: str, tmp_path: Path) -> None:
    """Whole bodies, events, a long upload, an error, a refused WebSocket."""
    body = os.urandom(400_000)
    events = [b'data: {"n": %d}\n\n' % number for number in range(50)] + [b"data: [DONE]\n\n"]
    sound = FakeAnswer(headers={"Content-Type": "audio/mpeg"}, body=[body[:1000], body[1000:]])
    stream = FakeAnswer(headers={"Content-Type": "text/event-stream"}, body=events, pause=0.001)

    async def main() -> None:
        async with FakeServer() as upstream:
            with running(name, tmp_path, APP.replace("URL", upstream.url)) as (_, port):
                async with Wire(_Place(port)) as wire:
                    upstream.respond(sound).respond(stream).respond(FakeAnswer(json={"id": "file-1"})).fail(
                        400, "no", code="wrong"
                    )
                    answer = await wire.call("POST", "/v1/audio/speech", chat())
                    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()
                    answer = await wire.call("POST", CHAT, chat(stream=True))
                    assert answer.body == b"".join(events)
                    fields = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(3 << 20)}
                    await wire.send(request("POST", "/v1/files", None, fields) + b"y" * (3 << 20))
                    assert (await wire.answer("POST")).status == 200
                    assert upstream.requests[-1].body == b"y" * (3 << 20)
                    assert (await wire.call("POST", CHAT, chat())).error()["code"] == "wrong"
                async with Wire(_Place(port)) as wire:
                    key = base64.b64encode(b"0123456789abcdef").decode()
                    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": key,
                               "Sec-WebSocket-Version": "13"}  # fmt: skip
                    await wire.send(request("GET", "/v1/realtime?model=m", None, upgrade))
                    async with asyncio.timeout(10):
                        status = (await wire.reader.readline()).split()[1]
                    assert status in (b"403", b"501")
                assert len(upstream.requests) == 4

    run(main(), timeout=120, real_clock=True)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_thousand_clients_that_leave_at_random(name: str, tmp_path: Path) -> None:
    """No request upstream goes on, and no slot stays taken, wherever they leave."""

    async def main() -> None:
        chance = random.Random(5)
        async with FakeServer() as upstream:
            upstream.stream("one two three four five", ttft=0.01, itl=0.01, times=None)
            with running(name, tmp_path, APP.replace("URL", upstream.url)) as (_, port):

                async def leave() -> None:
                    async with Wire(_Place(port)) as wire:
                        await wire.send(STREAM)
                        await asyncio.sleep(chance.random() * 0.2)

                for _ in range(5):
                    await asyncio.gather(*(leave() for _ in range(200)))

                async def settled() -> bool:
                    async with Wire(_Place(port)) as wire:
                        text = (await wire.call("GET", "/metrics")).body.decode()
                    return (
                        upstream.in_flight == 0
                        and "openaiasync_slots_used 0\n" in text
                        and "openaiasync_slots_waiting 0\n" in text
                        and f'openaiasync_upstream_in_flight{{upstream="127.0.0.1:{upstream.port}"}} 0\n' in text
                    )

                async with asyncio.timeout(20):
                    while not await settled():
                        await asyncio.sleep(0.05)
                async with Wire(_Place(port)) as wire:
                    assert (await wire.call("POST", CHAT, chat(stream=True))).body.endswith(b"data: [DONE]\n\n")

    run(main(), timeout=120, real_clock=True)
