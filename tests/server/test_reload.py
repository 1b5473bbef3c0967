"""Reloading an application: no connection is refused, requests in progress end with the old code, errors keep it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import Client
from openaiasync.server import ChatRequest, Server, serve

from .wire import Wire, until


def app_of(version: str, log: list[str], gate: asyncio.Event | None = None) -> Server:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        log.append(f"{version} up")
        yield version
        log.append(f"{version} down")

    app = Server(lifespan=lifespan)

    @app.chat("m")
    async def reply(request: ChatRequest) -> AsyncIterator[str]:
        yield f"{request.context.state} "
        if gate is not None and request.text == "wait":
            await gate.wait()
        yield version

    return app


class TestSwap:
    """`HTTPServer.reload`."""

    def test_requests_in_progress_end_with_the_old_application(self) -> None:
        """A stream goes on, kept connections get the new application, and the old one is shut down after the stream."""
        log: list[str] = []

        async def main() -> None:
            gate = asyncio.Event()
            async with serve(app_of("old", log, gate)) as server, Client(api_base=server.base_url, model="m") as client:
                assert (await client.chat("hi")).text == "old old"
                async with client.chat.stream("wait") as stream:
                    text = (await anext(stream)).text
                    await server.reload(app_of("new", log))
                    assert (await client.chat("hi")).text == "new new"
                    assert log == ["old up", "new up"]
                    gate.set()
                    async for piece in stream:
                        text += piece.text
                assert text == "old old"
                await until(lambda: log == ["old up", "new up", "old down"])
                assert server.total_connections <= 2
            assert log == ["old up", "new up", "old down", "new down"]

        run(main())

    def test_an_application_that_does_not_start(self) -> None:
        """It raises, and the old one is served."""
        log: list[str] = []

        def broken() -> Any:
            raise ValueError("no model file")

        async def main() -> None:
            async with serve(app_of("old", log)) as server, Client(api_base=server.base_url, model="m") as client:
                with pytest.raises(RuntimeError, match="no model file"):
                    await server.reload(Server(lifespan=broken))
                assert (await client.chat("hi")).text == "old old"
            with pytest.raises(RuntimeError, match="not running"):
                await server.reload(app_of("new", log))

        run(main())
        assert log == ["old up", "old down"]

    def test_closing_ends_all(self) -> None:
        """A stream of an old application that does not end is cancelled with the server, and both are shut down."""
        log: list[str] = []

        async def main() -> None:
            gate = asyncio.Event()
            async with serve(app_of("old", log, gate), grace=0.1) as server, Wire(server) as wire:
                body = {"model": "m", "messages": [{"role": "user", "content": "wait"}], "stream": True}
                asking = asyncio.create_task(wire.call("POST", "/v1/chat/completions", body))
                await until(lambda: server.in_flight == 1)
                await server.reload(app_of("new", log))
                await server.close()
                assert b"server_shutting_down" in (await asking).body
            assert sorted(log) == ["new down", "new up", "old down", "old up"]

        run(main())


MODULE = """
from openaiasync.server import Server
from words import WORD
app = Server()

@app.chat("m")
async def reply(request):
    return WORD
"""


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """`openaiasync serve module:app --reload` in a process; what it says on stderr is collected."""
    (folder / "module.py").write_text(MODULE)
    (folder / "words.py").write_text("WORD = 'one'")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    words = [sys.executable, "-m", "openaiasync", "serve", "module:app", "--port", "0", "--reload"]
    pipe = subprocess.PIPE
    child = subprocess.Popen(words, cwd=folder, env=environment, stdout=pipe, stderr=pipe, encoding="utf-8")
    assert child.stdout is not None
    assert child.stderr is not None
    said: list[str] = []
    errors = child.stderr
    reader = threading.Thread(target=lambda: said.extend(errors))
    reader.start()
    try:
        yield child, child.stdout.readline().strip(), said
    finally:
        child.kill()
        child.wait()
        reader.join()
        child.stdout.close()
        child.stderr.close()


@pytest.mark.timeout(60)
def test_serve_with_reload(tmp_path: Path) -> None:
    """While clients hammer the server its code changes, breaks and is mended: no request fails, and none is old."""

    async def main(child: subprocess.Popen[str], base_url: str, said: list[str]) -> None:
        done = asyncio.Event()
        heard: dict[str, int] = {}

        async def hammer(keep: bool) -> None:
            while not done.is_set():
                async with Client(api_base=base_url, model="m", max_retries=0) as client:
                    for _ in range(20 if keep else 1):
                        text = (await client.chat("hi")).text
                        heard[text] = heard.get(text, 0) + 1
                        await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            for keep in (True, False):
                group.create_task(hammer(keep))
            await until(lambda: heard.get("one", 0) > 5)
            (tmp_path / "words.py").write_text("WORD = 'two'")
            await until(lambda: "two" in heard, 20)
            (tmp_path / "words.py").write_text("WORD = 'three")
            await until(lambda: any("SyntaxError" in line for line in said), 20)
            before = heard["two"]
            await until(lambda: heard["two"] > before + 5)
            (tmp_path / "words.py").write_text("WORD = 'four'")
            await until(lambda: "four" in heard, 20)
            done.set()
        assert set(heard) == {"one", "two", "four"}
        assert any(line.startswith("  File ") and "words.py" in line for line in said)  # a traceback, line by line
        assert any(line.startswith("    WORD = 'three") for line in said)
        child.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(child.wait, 20) == 0

    with serving(tmp_path) as served:
        run(main(*served))
