"""The clients that are compared, each used as its documentation says is fastest, behind the same four methods.

Each is imported in a process of its own. `chat` answers one typed completion, `stream` the number of typed events of
one stream, `embed` the number of vectors of one answer. Contenders without types of their own decode into ours.
"""

from __future__ import annotations

import asyncio
from typing import Any

from payloads import messages, texts

MODEL = "gpt-4o-mini"
KEY = "sk-bench-0123456789abcdef"
HEAD = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


def _decoders() -> tuple[Any, Any, Any]:
    import msgspec

    from openaiasync.types import CreateEmbeddingResponse
    from openaiasync.types.chat import ChatCompletion, ChatCompletionChunk

    return tuple(msgspec.json.Decoder(kind) for kind in (ChatCompletion, ChatCompletionChunk, CreateEmbeddingResponse))


class Contender:
    """What every contender has; `base` is the server, whose paths begin with the name of an answer."""

    def __init__(self, base: str, in_flight: int) -> None:
        self.base = base
        self.in_flight = in_flight
        self.messages = messages()
        self.texts = texts()

    async def open(self) -> None:
        """Make what is used for all calls."""

    async def chat(self, name: str) -> Any:
        raise NotImplementedError

    async def stream(self, name: str) -> int:
        raise NotImplementedError

    async def embed(self, name: str) -> int:
        raise NotImplementedError


class Ours(Contender):
    """openaiasync, with everything it does on."""

    def client(self, name: str) -> Any:
        client = self.clients.get(name)
        if client is None:
            from openaiasync import Client

            client = self.clients[name] = Client(
                api_base=f"{self.base}/{name}",
                api_key=KEY,
                model=MODEL,
                http_max_in_flight=self.in_flight,
                http_other={"trust_env": False},
            )
        return client

    async def open(self) -> None:
        self.clients: dict[str, Any] = {}

    async def chat(self, name: str) -> Any:
        return await self.client(name).chat(self.messages)

    async def stream(self, name: str) -> int:
        count = 0
        stream = await self.client(name).chat.completions.create(messages=self.messages, stream=True)
        async for _ in stream:
            count += 1
        return count

    async def embed(self, name: str) -> int:
        client = self.client(name)
        if name == "floats":
            answer = await client.embedding(self.texts, model=MODEL, encoding_format="float")
        else:
            answer = await client.embedding(self.texts, model=MODEL)
        return len(answer.data[0].embedding) and len(answer.data)


class OursLive(Ours):
    """The same, its streams through `chat.stream`, which keeps text and answer so far."""

    async def stream(self, name: str) -> int:
        count = 0
        async with self.client(name).chat.stream(self.messages) as stream:
            async for _ in stream:
                count += 1
        return count


class OpenAI(Contender):
    """The official client."""

    def http_client(self) -> Any:
        return None

    async def open(self) -> None:
        self.clients: dict[str, Any] = {}

    def client(self, name: str) -> Any:
        if name not in self.clients:
            import openai

            self.clients[name] = openai.AsyncOpenAI(
                base_url=f"{self.base}/{name}", api_key=KEY, http_client=self.http_client()
            )
        return self.clients[name]

    async def chat(self, name: str) -> Any:
        return await self.client(name).chat.completions.create(model=MODEL, messages=self.messages)

    async def stream(self, name: str) -> int:
        count = 0
        async for _ in await self.client(name).chat.completions.create(
            model=MODEL, messages=self.messages, stream=True
        ):
            count += 1
        return count

    async def embed(self, name: str) -> int:
        words = {"encoding_format": "float"} if name == "floats" else {}
        return len((await self.client(name).embeddings.create(model=MODEL, input=self.texts, **words)).data)


class OpenAIAiohttp(OpenAI):
    """The official client over aiohttp, as its documentation advises for concurrency."""

    def http_client(self) -> Any:
        import openai

        return openai.DefaultAioHttpClient()


class LiteLLM(Contender):
    """litellm's asynchronous completion."""

    async def chat(self, name: str) -> Any:
        import litellm

        return await litellm.acompletion(
            model=f"openai/{MODEL}", api_base=f"{self.base}/{name}", api_key=KEY, messages=self.messages
        )

    async def stream(self, name: str) -> int:
        import litellm

        count = 0
        async for _ in await litellm.acompletion(
            model=f"openai/{MODEL}", api_base=f"{self.base}/{name}", api_key=KEY, messages=self.messages, stream=True
        ):
            count += 1
        return count


class Raw(Contender):
    """What the raw HTTP clients share: msgspec into our types, and nothing else of what a client does."""

    async def open(self) -> None:
        import msgspec

        self.encode = msgspec.json.Encoder().encode
        self.whole, self.chunk, self.vectors = (decoder.decode for decoder in _decoders())

    def body(self, **more: Any) -> bytes:
        return self.encode({"model": MODEL, "messages": self.messages, **more})

    async def post(self, name: str, body: bytes) -> bytes:
        raise NotImplementedError

    async def chat(self, name: str) -> Any:
        return self.whole(await self.post(name, self.body()))

    async def embed(self, name: str) -> int:
        kind = "float" if name == "floats" else "base64"
        body = self.encode({"model": MODEL, "input": self.texts, "encoding_format": kind})
        return len(self.vectors(await self.post(name, body)).data)

    def events(self, rest: bytes, data: bytes) -> tuple[bytes, int]:
        """Decode the events that are whole; what is left, and how many there were."""
        *events, rest = (rest + data).split(b"\n\n")
        count = 0
        for event in events:
            if event != b"data: [DONE]":
                self.chunk(event[6:])
                count += 1
        return rest, count


class Aiohttp(Raw):
    """aiohttp and msgspec, nothing else."""

    async def open(self) -> None:
        import aiohttp

        await super().open()
        self.session = aiohttp.ClientSession(headers=HEAD, connector=aiohttp.TCPConnector(limit=0))

    async def post(self, name: str, body: bytes) -> bytes:
        async with self.session.post(f"{self.base}/{name}/chat/completions", data=body) as response:
            return await response.read()

    async def stream(self, name: str) -> int:
        total, rest = 0, b""
        async with self.session.post(f"{self.base}/{name}/chat/completions", data=self.body(stream=True)) as response:
            async for data in response.content.iter_any():
                rest, count = self.events(rest, data)
                total += count
        return total


class Httpx2(Raw):
    """httpx2 and msgspec."""

    async def open(self) -> None:
        import httpx2

        await super().open()
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        self.session = httpx2.AsyncClient(headers=HEAD, limits=limits, timeout=600, trust_env=False)

    async def post(self, name: str, body: bytes) -> bytes:
        response = await self.session.post(f"{self.base}/{name}/chat/completions", content=body)
        return response.content

    async def stream(self, name: str) -> int:
        total, rest = 0, b""
        url = f"{self.base}/{name}/chat/completions"
        async with self.session.stream("POST", url, content=self.body(stream=True)) as response:
            async for data in response.aiter_raw():
                rest, count = self.events(rest, data)
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

    async def stream(self, name: str) -> int:
        total, rest = 0, b""
        async with self.request(name, self.body(stream=True)).build_streamed() as response:
            while data := await response.body_reader.read_chunk():
                rest, count = self.events(rest, bytes(data))
                total += count
        return total


class _Bare(asyncio.Protocol):
    """One connection of the floor: finds the end of an answer in the simplest way that is right for this server."""

    have = b""
    waiter: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if self.waiter is None:  # a stream: whoever reads takes all there is
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
    """The least that Python can do: a bare protocol that knows this server, and the same encoding and decoding."""

    async def open(self) -> None:
        await super().open()
        self.idle: list[_Bare] = []
        self.loop = asyncio.get_running_loop()
        self.host, self.port = self.base.removeprefix("http://").split(":")

    async def post(self, name: str, body: bytes) -> bytes:
        if self.idle:
            peer = self.idle.pop()
        else:
            _, peer = await self.loop.create_connection(_Bare, self.host, int(self.port))
        peer.waiter = waiter = self.loop.create_future()
        peer.transport.write(
            b"POST /%b/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (name.encode(), KEY.encode(), len(body), body)
        )
        answer = await waiter
        self.idle.append(peer)
        return answer

    async def stream(self, name: str) -> int:
        _, peer = await self.loop.create_connection(_Events, self.host, int(self.port))
        body = self.body(stream=True)
        peer.chunk, peer.done = self.chunk, self.loop.create_future()
        peer.transport.write(
            b"POST /%b/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%b"
            % (name.encode(), len(body), body)
        )
        await peer.done
        peer.transport.abort()
        return peer.count


class _Events(asyncio.Protocol):
    """A stream of the floor: decodes what stands between ``data: `` and the end of its line."""

    rest = b""
    count = 0
    chunk: Any
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


CONTENDERS: dict[str, type[Contender]] = {
    "ours": Ours,
    "ours, chat.stream": OursLive,
    "openai": OpenAI,
    "openai[aiohttp]": OpenAIAiohttp,
    "litellm": LiteLLM,
    "aiohttp+msgspec": Aiohttp,
    "httpx2+msgspec": Httpx2,
    "pyreqwest+msgspec": Pyreqwest,
    "floor": Floor,
}
