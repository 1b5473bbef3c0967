"""The command line in a process or in this one, and a server that records its requests."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import IO, Any, cast
from unittest import mock

from openaiasync.cli.command_line import run
from openaiasync.demo import demo_app
from openaiasync.server import Server, ServerThread, serve, start_in_thread

COMMAND = [sys.executable, "-m", "openaiasync"]
Answer = tuple[int, bytes] | None


def environment(**more: str) -> dict[str, str]:
    """The test's environment with a terminal that has a name and 100 columns."""
    return {**os.environ, "TERM": "xterm", "COLUMNS": "100", **more}


def call(
    *arguments: str, stdin: bytes | IO[bytes] | None = None, timeout: float = 30.0, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end. Without `stdin` it gets none. Output is text, undecodable bytes as escapes."""
    give: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin or subprocess.DEVNULL}
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, timeout=timeout, env=environment(**env), check=False, **give
    )
    out, err = (data.decode("utf-8", "backslashreplace") for data in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def inside(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run one command within this process, in a tenth of the time of `call`."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        with (
            open(given.fileno(), encoding="utf-8", closefd=False) as text,
            mock.patch.object(sys, "stdin", text),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = run(list(arguments))
    written = (cast("io.BytesIO", stream.buffer).getvalue().decode() for stream in (out, err))
    return subprocess.CompletedProcess(arguments, code, *written)


@contextmanager
def started(*arguments: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running command with pipes; killed if it still runs at the end of the block."""
    child = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONUNBUFFERED="1", **env),
    )
    with child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def one_line(text: str) -> bool:
    """Return whether an error is one line, without a traceback."""
    return text.startswith("openaiasync: ") and text.endswith("\n") and text.count("\n") == 1


class Spy:
    """The demo server's application, which records path and body of every request in `requests`.

    `answer(path, body)` gives status and body, or `None` to let the demo models answer.
    """

    def __init__(
        self, answer: Callable[[str, Any], Answer] = lambda path, body: None, app: Server | None = None
    ) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._answer = answer
        self._app = app or demo_app(strict=True)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        asked = json.loads(body) if body else None
        self.requests.append((scope["path"], asked))
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        answer = self._answer(scope["path"], asked)
        if answer is None:
            first = iter([{"type": "http.request", "body": body, "more_body": False}])

            async def replay() -> Any:
                return next(first, None) or await receive()

            await self._app(scope, replay, send)
            return
        kind = b"application/json" if answer[1].lstrip()[:1] in (b"{", b"[") else b"text/event-stream"
        head = {"type": "http.response.start", "status": answer[0], "headers": [(b"content-type", kind)]}
        await send(head)
        await send({"type": "http.response.body", "body": answer[1]})

    def bodies(self, path: str) -> list[Any]:
        """Return the bodies of requests whose paths have this ending."""
        return [body for asked, body in self.requests if asked.endswith(path)]


@contextmanager
def spied(
    answer: Callable[[str, Any], Answer] = lambda path, body: None, app: Server | None = None
) -> Iterator[tuple[ServerThread, Spy]]:
    """A server on a free port, and the record of its requests."""
    spy = Spy(answer, app)
    with start_in_thread(serve(spy, grace=0.0)) as server:
        yield server, spy


def refused(message: str, status: int = 400) -> Answer:
    """An error object with this status."""
    return status, json.dumps({"error": {"message": message, "type": "x", "param": None, "code": None}}).encode()
