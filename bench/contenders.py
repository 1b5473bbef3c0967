"""The compared clients, each used in the way its documentation calls fastest, behind the methods of `Contender`.

Each runs in a process of its own, and has its own imports.
"""

from __future__ import annotations

from typing import Any

from contender import KEY, MODEL, Contender, Seen
from raw import Aiohttp, Floor, Httpx2, Pyreqwest


class Ours(Contender):
    """openaiasync, with all features on."""

    def client(self, name: str) -> Any:
        client = self.clients.get(name)
        if client is None:
            from openaiasync import Client

            client = self.clients[name] = Client(
                api_base=f"{self.base}/{name}",
                api_key=KEY,
                model=MODEL,
                http_max_in_flight=self.in_flight,
                http_connect_timeout=600.0,  # callgrind makes everything fifty times slower
                http_timeout=600.0,
                http_other={"trust_env": False, **({"ssl": self.tls} if self.tls else {})},
            )
        return client

    async def open(self) -> None:
        self.clients: dict[str, Any] = {}

    async def chat(self, name: str) -> Any:
        return await self.client(name).chat(self.messages)

    async def stream(self, name: str, seen: Seen = None) -> int:
        count = 0
        stream = await self.client(name).chat.completions.create(messages=self.messages, stream=True)
        async for _ in stream:
            count += 1
            if seen is not None:
                seen()
        return count

    async def embed(self, name: str) -> int:
        client = self.client(name)
        words = {"encoding_format": "float"} if name.endswith("floats") else {}
        self.answer = answer = await client.embedding(self.texts, model=MODEL, **words)
        return len(answer.data[0].embedding) and len(answer.data)


class OursLive(Ours):
    """openaiasync with streams through `chat.stream`, which accumulates text and answer."""

    async def stream(self, name: str, seen: Seen = None) -> int:
        count = 0
        async with self.client(name).chat.stream(self.messages) as stream:
            async for _ in stream:
                count += 1
                if seen is not None:
                    seen()
        return count


class OpenAI(Contender):
    """The official client."""

    def http_client(self) -> Any:
        import openai

        if self.tls is not None:
            return openai.DefaultAsyncHttpxClient(verify=self.tls)
        if self.in_flight > openai.DEFAULT_CONNECTION_LIMITS.max_connections:  # the others would not be sent at all
            limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=None, max_keepalive_connections=None)
            return openai.DefaultAsyncHttpxClient(limits=limits)
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

    async def stream(self, name: str, seen: Seen = None) -> int:
        count = 0
        async for _ in await self.client(name).chat.completions.create(
            model=MODEL, messages=self.messages, stream=True
        ):
            count += 1
            if seen is not None:
                seen()
        return count

    async def embed(self, name: str) -> int:
        words = {"encoding_format": "float"} if name.endswith("floats") else {}
        self.answer = await self.client(name).embeddings.create(model=MODEL, input=self.texts, **words)
        return len(self.answer.data)


class OpenAIAiohttp(OpenAI):
    """The official client over aiohttp, as its documentation advises for concurrency."""

    def http_client(self) -> Any:
        import openai

        return openai.DefaultAioHttpClient(**({"verify": self.tls} if self.tls else {}))


class LiteLLM(Contender):
    """litellm's asynchronous completion."""

    async def chat(self, name: str) -> Any:
        import litellm

        return await litellm.acompletion(
            model=f"openai/{MODEL}", api_base=f"{self.base}/{name}", api_key=KEY, messages=self.messages
        )

    async def stream(self, name: str, seen: Seen = None) -> int:
        import litellm

        count = 0
        async for _ in await litellm.acompletion(
            model=f"openai/{MODEL}", api_base=f"{self.base}/{name}", api_key=KEY, messages=self.messages, stream=True
        ):
            count += 1
            if seen is not None:
                seen()
        return count


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
