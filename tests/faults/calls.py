"""The calls that scenarios make: each takes a client and a list for what streams deliver, and answers a plain value."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

from openaiasync import Client

__all__ = ["CALLS"]

HI: Any = [{"role": "user", "content": "hi"}]


async def chat(client: Client, delivered: list[str]) -> Any:
    return (await client.chat("hi", model="m")).text


async def stream(client: Client, delivered: list[str]) -> Any:
    async with client.chat.stream("hi", model="m") as live:
        async for piece in live:
            delivered += [piece.text]
    return "".join(delivered)


async def official_stream(client: Client, delivered: list[str]) -> Any:
    async for piece in await client.chat.completions.create(messages=HI, model="m", stream=True):
        delivered += [choice.delta.content or "" for choice in piece.choices]
    return "".join(delivered)


async def models(client: Client, delivered: list[str]) -> Any:
    return [model.id async for model in client.models()]


async def embedding(client: Client, delivered: list[str]) -> Any:
    return [len(one.embedding) for one in (await client.embedding("hi", model="m")).data]


async def speech(client: Client, delivered: list[str]) -> Any:
    return len((await client.text_to_speech("hi", model="m", voice="alloy")).content)


async def content(client: Client, delivered: list[str]) -> Any:
    return len((await client.files.content("file-1")).content)


async def delete(client: Client, delivered: list[str]) -> Any:
    return (await client.files.delete("file-1")).deleted


async def responses(client: Client, delivered: list[str]) -> Any:
    return (await client.responses.create(input="hi", model="m")).output_text


async def responses_stream(client: Client, delivered: list[str]) -> Any:
    kinds: list[str] = []
    async for event in await client.responses.create(input="hi", model="m", stream=True):
        kinds.append(str(event.type))
        delivered.append(getattr(event, "delta", "") or "")
    return kinds[-1]


async def upload(client: Client, delivered: list[str]) -> Any:
    return (await client.files.create(file=("f.jsonl", b"{}\n" * 100), purpose="batch")).id


async def large_upload(client: Client, delivered: list[str]) -> Any:
    file = ("f.jsonl", io.BytesIO(b"x" * 30_000_000))
    return (await client.files.create(file=file, purpose="batch")).id


async def empty_upload(client: Client, delivered: list[str]) -> Any:
    return (await client.files.create(file=("f.jsonl", b""), purpose="batch")).id


async def missing_upload(client: Client, delivered: list[str]) -> Any:
    from pathlib import Path

    return (await client.files.create(file=Path("no-such-folder/f.jsonl"), purpose="batch")).id


class Once(io.RawIOBase):
    """A file that can be read but not rewound."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        taken = self.left if size < 0 else min(size, self.left)
        self.left -= taken
        return b"x" * taken


async def once_upload(client: Client, delivered: list[str]) -> Any:
    return (await client.files.create(file=("f.jsonl", Once(300_000)), purpose="batch")).id


class Broken(Once):
    """A file whose disk dies in the middle."""

    def read(self, size: int = -1) -> bytes:
        if self.left < 200_000:
            raise OSError(5, "the disk died")
        return super().read(size)


async def broken_upload(client: Client, delivered: list[str]) -> Any:
    return (await client.files.create(file=("f.jsonl", Broken(300_000)), purpose="batch")).id


async def twice(client: Client, delivered: list[str]) -> Any:
    """Two calls, one after the other, on what may be one connection."""
    first = (await client.chat("one", model="m")).text
    return first + (await client.chat("two", model="m")).text


async def twice_later(client: Client, delivered: list[str]) -> Any:
    """The same with a pause, so that the loop sees what comes on an idle connection."""
    import asyncio

    first = (await client.chat("one", model="m")).text
    await asyncio.sleep(0.05)
    return first + (await client.chat("two", model="m")).text


async def twice_though_the_first_fails(client: Client, delivered: list[str]) -> Any:
    from openaiasync import APIError

    try:
        await client.chat("one", model="m")
    except APIError as error:
        delivered.append(type(error).__name__)
    return (await client.chat("two", model="m")).text


async def stream_twice(client: Client, delivered: list[str]) -> Any:
    for _ in range(2):
        await stream(client, delivered)
    return "".join(delivered)


CALLS: dict[str, Callable[[Client, list[str]], Awaitable[Any]]] = {
    name: call
    for name, call in list(globals().items())
    if callable(call) and getattr(call, "__module__", "") == __name__ and name.islower()
}
