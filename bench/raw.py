"""HTTP clients with only our types, decoded by msgspec; and the floor, a bare protocol."""

from __future__ import annotations

import asyncio
from typing import Any

from contender import KEY, MODEL, Contender, Seen

HEAD = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


class Raw(Contender):
    """Base of the raw HTTP clients: decoding by msgspec into our types, without any other feature."""

    async def open(self) -> None:
        import msgspec

        from openaiasync.types import CreateEmbeddingResponse
        from openaiasync.types.chat import ChatCompletion, ChatCompletionChunk

        self.encode = msgspec.json.Encoder().encode
        kinds = (ChatCompletion, ChatCompletionChunk, CreateEmbeddingResponse)
        self.whole, self.chunk, self.vectors = (msgspec.json.Decoder(kind).decode for kind in kinds)

    def body(self, **more: Any) -> bytes:
        return self.encode({"model": MODEL, "messages": self.messages, **more})

    async def post(self, name: str, body: bytes) -> bytes:
        raise NotImplementedError

    async def chat(self, name: str) -> Any:
        return self.whole(await self.post(name, self.body()))

    async def embed(self, name: str) -> int:
        kind = "float" if name.endswith("floats") else "base64"
        body = self.encode({"model": MODEL, "input": self.texts, "encoding_format": kind})
        self.answer = self.vectors(await self.post(name, body))
        return len(self.answer.data)

    def events(self, rest: bytes, data: bytes, seen: Seen) -> tuple[bytes, int]:
        """Decode the complete events; return the rest and the number of events."""
        *events, rest = (rest + data).split(b"\n\n")
        count = 0
        for event in events:
            if event != b"data: [DONE]":
                self.chunk(event[6:])
                count += 1
                if seen is not None:
                    seen()
        return rest, count


class Aiohttp(Raw):
    """aiohttp and msgspec, nothing else."""

    async def open(self) -> None:
        import aiohttp

        await super().open()
        connector = aiohttp.TCPConnector(limit=0, ssl=self.tls or True)
        self.session = aiohttp.ClientSession(headers=HEAD, connector=connector)

    async def post(self, name: str, body: bytes) -> bytes:
        async with self.session.post(f"{self.base}/{name}/chat/completions", data=body) as response:
            return await response.read()

    async def stream(self, name: str, seen: Seen = None) -> int:
        total, rest = 0, b""
        async with self.session.post(f"{self.base}/{name}/chat/completions", data=self.body(stream=True)) as response:
            async for data in response.content.iter_any():
                rest, count = self.events(rest, data, seen)
                total += count
        return total


class Httpx2(Raw):
    """httpx2 and msgspec."""

    async def open(self) -> None:
        import httpx2

        await super().open()
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        self.session = httpx2.AsyncClient(
            headers=HEAD, limits=limits, timeout=600, trust_env=False, verify=self.tls or True
        )

    async def post(self, name: str, body: bytes) -> bytes:
        response = await self.session.post(f"{self.base}/{name}/chat/completions", content=body)
        return response.content

    async def stream(self, name: str, seen: Seen = None) -> int:
        total, rest = 0, b""
        url = f"{self.base}/{name}/chat/completions"
        async with self.session.stream("POST", url, content=self.body(stream=True)) as response:
            async for data in response.aiter_raw():
                rest, count = self.events(rest, data, seen)
                total += count
        return total


class Pyreqwest(Raw):
    """pyreqwest (a Rust client) and msgspec."""

    async def open(self) -> None:
        from pyreqwest.client import ClientBuilder

        await super().open()
        self.session = ClientBuilder().default_headers(HEAD).http1_only().no_proxy().build()

    def request(self, name: str, body: bytes) -> Any:
        return self.session.post(f"{self.base}/{name}/chat/completions").body_bytes(body)

    async def post(self, name: str, body: bytes) -> bytes:
        response = await self.request(name, body).build().send()
        return bytes(await response.bytes())

    async def stream(self, name: str, seen: Seen = None) -> int:
        total, rest = 0, b""
        async with self.request(name, self.body(stream=True)).build_streamed() as response:
            while data := await response.body_reader.read_chunk():
                rest, count = self.events(rest, bytes(data), seen)
                total += count
        return total


class _Bare(asyncio.Protocol):
    """A connection of the floor: it finds the end of an answer in the simplest way that is correct for this server."""

    have = b""
    waiter: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if self.waiter is None:  # a stream: the reader takes everything received
            self.have += data
            return
        self.have += data
        end = self.have.find(b"\r\n\r\n")
        at = self.have.find(b"content-length: ")
        if end > 0 and (at < 0 or len(self.have) >= end + 4 + int(self.have[at + 16 : self.have.find(b"\r", at)])):
            body, self.have = self.have[end + 4 :], b""
            waiter, self.waiter = self.waiter, None
            waiter.set_result(body)


class Floor(Raw):
    """The lower limit for Python: a bare protocol that knows this server, and the same encoding and decoding."""

    async def open(self) -> None:
        await super().open()
        self.idle: list[_Bare] = []
        self.loop = asyncio.get_running_loop()
        self.host, self.port = self.base.partition("://")[2].split(":")

    async def post(self, name: str, body: bytes) -> bytes:
        if self.idle:
            peer = self.idle.pop()
        else:
            _, peer = await self.loop.create_connection(_Bare, self.host, int(self.port), ssl=self.tls)
        peer.waiter = waiter = self.loop.create_future()
        peer.transport.write(
            b"POST /%b/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (name.encode(), KEY.encode(), len(body), body)
        )
        answer = await waiter
        self.idle.append(peer)
        return answer

    async def stream(self, name: str, seen: Seen = None) -> int:
        _, peer = await self.loop.create_connection(_Events, self.host, int(self.port), ssl=self.tls)
        body = self.body(stream=True)
        peer.chunk, peer.done, peer.seen = self.chunk, self.loop.create_future(), seen
        peer.transport.write(
            b"POST /%b/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%b"
            % (name.encode(), len(body), body)
        )
        await peer.done
        peer.transport.abort()
        return peer.count


class _Events(asyncio.Protocol):
    """Read a stream of the floor: decode the text between ``data: `` and the end of its line."""

    rest = b""
    count = 0
    chunk: Any
    seen: Seen = None
    done: asyncio.Future[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        *events, self.rest = (self.rest + data).split(b"\n\n")
        for event in events:
            data = event[event.index(b"data: ") + 6 :]
            if data == b"[DONE]":
                self.done.set_result(None)
                return
            self.chunk(data)
            self.count += 1
            if self.seen is not None:
                self.seen()
