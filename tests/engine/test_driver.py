"""One driver: every kind of call goes one way, over every transport, and nothing beside it acquires or decides."""

from __future__ import annotations

import ast
import asyncio
import functools
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2
import pytest

from conftest import run
from openaiasync import Client, InternalServerError
from openaiasync.engine.call import Call
from openaiasync.engine.engine import Engine
from openaiasync.testing import FakeAnswer, FakeTransport
from openaiasync.transport.httpx2 import HTTPXTransport
from scripted import CHAT, Seen, chunk, events, json_answer, scripted

SOURCE = Path(sys.modules["openaiasync"].__file__ or "").parent
ENGINE = str(SOURCE / "engine")
HI: Any = [{"role": "user", "content": "hi"}]


# All that stands on the engine; the server has a queue that is no part of a call.
ON_THE_ENGINE = (
    "engine bridge identity realtime chat methods official bulk otel server/front client.py options.py azure.py auth.py"
)
# What has the methods `acquire` and `try_acquire` but is no limiter of calls.
OTHER_LOCKS = {
    "engine/in_flight.py": "the limiter itself",
    "engine/uploads.py": "the lock of a file that threads read",
    "chat/session.py": "the lock that lets one turn run at a time",
}


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    """All nodes of a module's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def uses(name: str) -> Iterator[str]:
    """Where a name is used in the engine and what stands on it: called, bound to another name, or imported."""
    for place in ON_THE_ENGINE.split():
        for path in sorted((SOURCE / place).rglob("*.py")) if "." not in place else [SOURCE / place]:
            for node in nodes_of(path):
                if (
                    (isinstance(node, ast.Attribute) and node.attr == name)
                    or (isinstance(node, ast.Name) and node.id == name)
                    or (isinstance(node, ast.alias) and node.name == name)
                ):
                    yield path.relative_to(SOURCE).as_posix()


def calls_in(folder: str) -> Iterator[tuple[Path, str]]:
    """What is called in a folder of the package, as it is written, each with its file."""
    for path in sorted((SOURCE / folder).rglob("*.py")):
        for node in nodes_of(path):
            if isinstance(node, ast.Call):
                yield path.relative_to(SOURCE), ast.unparse(node.func).rpartition("self.")[2]


def subclasses(kind: type) -> Iterator[type]:
    """All subclasses of a class, at any depth."""
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


class TestOnePlace:
    """The invariants of the source."""

    @pytest.mark.parametrize(("name", "times"), [("decide", 2), ("RetryFacts", 3)])
    def test_only_the_driver_asks_the_retry_policy(self, name: str, times: int) -> None:
        """The policy is imported and asked in one place of the engine and of what stands on it."""
        assert list(uses(name)) == ["engine/call.py"] * times  # its import, its use, an annotation

    def test_only_the_driver_waits_for_a_slot(self) -> None:
        """A slot is waited for in one place, and taken without waiting in two: before that wait, and on the fast path.

        Under whatever name: every mention of the methods counts, not only calls of `limiter.acquire`.
        """
        found = {name: [path for path in uses(name) if path not in OTHER_LOCKS] for name in ("acquire", "try_acquire")}
        assert found == {"acquire": ["engine/call.py"], "try_acquire": ["engine/call.py"] * 2}
        assert OTHER_LOCKS.keys() == {path for name in found for path in uses(name)} - {"engine/call.py"}

    def test_there_is_one_loop_of_attempts(self) -> None:
        """One loop makes attempts, and it is the driver's."""
        loops = [
            (path.name, function.name)
            for path in sorted((SOURCE / "engine").rglob("*.py"))
            for function in nodes_of(path)
            if isinstance(function, ast.AsyncFunctionDef)
            for loop in ast.walk(function)
            if isinstance(loop, ast.While | ast.For | ast.AsyncFor)
            and any(isinstance(one, ast.Attribute) and one.attr in ("_send", "send", "_next") for one in ast.walk(loop))
        ]
        assert loops == [("call.py", "run")]

    @pytest.mark.parametrize("name", ["observe", "settle"])
    def test_only_the_driver_tells_what_is_learned(self, name: str) -> None:
        """What is learned about a server comes from the driver alone."""
        places = {path for path, called in calls_in("engine") if called.endswith(f"upstream.{name}")}
        assert places == {Path("engine/call.py")}

    def test_nobody_inherits_from_it(self) -> None:
        """Raw answers, sessions, the bridge and observers are given to call and engine; no class stands in for them."""
        import openaiasync.bridge
        import openaiasync.chat.session
        import openaiasync.engine.raw

        assert openaiasync.bridge.transport
        assert openaiasync.chat.session.ChatSession
        assert openaiasync.engine.raw.RawMethods
        assert [*subclasses(Call), *subclasses(Engine)] == []


async def functions_of(act: Callable[[], Awaitable[object]]) -> set[str]:
    """The functions of the engine that run in `act`, once everything is warm."""
    seen: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ENGINE):
            seen.add(f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_qualname}")

    await act()
    await act()
    sys.setprofile(note)
    try:
        await act()
    finally:
        sys.setprofile(None)
    return seen


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = [chunk("Hel"), chunk("lo."), chunk(finish="stop")]


async def in_two_parts(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """A chat answer whose body follows its head, or a stream."""
    if b'"stream":true' in seen.body:
        writer.write(events(STREAM))
        return
    body = json_answer(CHAT).partition(b"\r\n\r\n")[2]
    writer.write(HEAD)
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))


async def at_once(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """A chat answer in one write."""
    writer.write(json_answer(CHAT))


async def failing(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """An error that is sent again twice."""
    writer.write(json_answer({"error": {"message": "no"}}, 500, Retry_After_Ms="1"))


async def chat(client: Client) -> None:
    assert (await client.chat(HI)).text == "Hello."


async def stream(client: Client) -> None:
    async with client.chat.stream(HI) as opened:
        assert "".join([piece.text async for piece in opened]) == "Hello."


async def fail(client: Client) -> None:
    with pytest.raises(InternalServerError) as caught:
        await client.chat(HI)
    assert caught.value.tries == 3


class TestOneWay:
    """The same call over different transports takes the same functions of the engine."""

    @staticmethod
    def ways(script: Any, fake: FakeAnswer, act: Callable[[Client], Awaitable[None]], *, httpx: bool) -> list[set[str]]:
        """The functions over our own transport, the fake, and httpx."""
        found: list[set[str]] = []

        async def main() -> None:
            async with scripted(script) as server:
                options: dict[str, Any] = {"api_key": "k", "model": "m"}
                async with Client(api_base=server.url, http_other={"trust_env": False}, **options) as client:
                    found.append(await functions_of(lambda: act(client)))
                transport = FakeTransport(lambda request: fake)
                async with Client(api_base="http://fake", http_other={"transport": transport}, **options) as client:
                    found.append(await functions_of(lambda: act(client)))
                if httpx:
                    other = {"transport": HTTPXTransport(httpx2.AsyncClient(trust_env=False))}
                    async with Client(api_base=server.url, http_other=other, **options) as client:
                        found.append(await functions_of(lambda: act(client)))

        run(main())
        return found

    def test_an_answer_that_comes_at_once(self) -> None:
        """The usual small answer: a test with the fake exercises what production does, and it is short."""
        tcp, fake = self.ways(at_once, FakeAnswer(json=CHAT), chat, httpx=False)
        assert tcp == fake
        assert "call.py:Call.run" in tcp

    def test_the_drawing_in_the_docs(self) -> None:
        """The modules drawn in docs/architecture.md are those that a call goes through, in this order, and no other."""
        page = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
        drawing = page.partition("goes down through these modules")[2].partition("**The driver.**")[0]
        drawn = re.findall(r"\b(?:methods|engine|core|transport)/[a-z/]+", drawing)
        spine = re.findall(r"^    ([a-z]+/[a-z/]+)", drawing, re.MULTILINE)
        seen: list[str] = []

        def note(frame: FrameType, event: str, _: object) -> None:
            path = Path(frame.f_code.co_filename)
            if event == "call" and SOURCE in path.parents:
                module = path.relative_to(SOURCE).with_suffix("").as_posix()
                if module not in seen:
                    seen.append(module)

        async def main() -> None:
            async with scripted(at_once) as server, Client(api_base=server.url, api_key="k", model="m") as client:
                await chat(client)
                await chat(client)
                sys.setprofile(note)
                try:
                    await client.chat(HI)
                finally:
                    sys.setprofile(None)

        run(main())
        # Helpers of a few lines, and the listener of this test.
        beside = {
            "methods/common",
            "engine/config",
            "engine/sealing",
            "core/model/base",
            "transport/base",
            "testing/wire",
        }
        of_the_first_call = {"engine/prepare", "engine/codecs"}
        assert set(seen) - beside == set(drawn) - of_the_first_call
        assert [module for module in seen if module in spine] == spine

    def test_an_answer_in_two_parts(self) -> None:
        """A body that comes after its head is read in one way, whatever it is read from."""
        tcp, fake, httpx = self.ways(in_two_parts, FakeAnswer(json=CHAT, pause=0.001), chat, httpx=True)
        assert tcp == fake == httpx
        assert "body.py:read_whole" in tcp

    def test_a_stream(self) -> None:
        """Events are read in one way."""
        tcp, fake, httpx = self.ways(in_two_parts, FakeAnswer(events=STREAM), stream, httpx=True)
        assert tcp == fake == httpx
        assert "streams.py:AsyncStream.start" in tcp

    def test_a_websocket(self) -> None:
        """A WebSocket is opened by the driver: the same redirects, renewed keys, timeouts and errors as a call."""
        from realtime.loopback import loopback

        async def silent(ws: Any) -> None:
            await ws.wait_closed()

        async def connect(client: Client) -> None:
            async with client.realtime.connect(model="m"):
                pass

        async def main() -> set[str]:
            async with loopback(silent) as server, Client(api_base=server.url, api_key="k") as client:
                return await functions_of(lambda: connect(client))

        assert run(main()) >= {"call.py:Call.run", "call.py:Call._send", "prepare.py:RequestBuilder.credentials"}

    def test_failures(self) -> None:
        """Errors and retries are decided in one way."""
        answer = FakeAnswer(status=500, json={"error": {"message": "no"}}, headers={"Retry-After-Ms": "1"})
        tcp, fake, httpx = self.ways(failing, answer, fail, httpx=True)
        assert tcp == fake == httpx
        assert "call.py:Call._next" in tcp
