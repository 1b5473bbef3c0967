"""The fake server itself: its two ways of running, its log, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import tomllib
import unittest
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from conftest import open_sockets, run
from openaiasync import Client
from openaiasync.testing import FakeServer
from wireserver import client_context, server_context

HI: Any = [{"role": "user", "content": "hi"}]


def ask(url: str, text: str = "hi", **more: Any) -> Any:
    """Ask as any program does that knows HTTP and nothing of this library."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-test"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"{url}/chat/completions", body, headers)
    with opener.open(request, timeout=20) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def test_a_program_without_an_event_loop_is_served() -> None:
    """The server runs in a thread of its own, logs what was sent, and is gone after the block."""
    before = threading.active_count()
    with FakeServer() as server:
        server.reply("one").fail(500, "out of order").reply("two")
        assert ask(server.url) == "one"
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(server.url)
        with caught.value as error:
            assert json.load(error)["error"]["message"] == "out of order"
        assert ask(server.url, "and now?") == "two"
        server.wait()
        assert [request.text for request in server.requests] == ["hi", "hi", "and now?"]
        assert [request.status for request in server.requests] == [200, 500, 200]
        last = server.requests[-1]
        assert (last.method, last.path, last.model) == ("POST", "/v1/chat/completions", "m")
        assert last.headers["authorization"] == "Bearer sk-test"
        assert last.messages == [{"role": "user", "content": "and now?"}]
        assert last.received <= (last.first_sent or 0) <= (last.ended or 0)
        assert (server.in_flight, server.peak, server.connections) == (0, 1, 3)
        url = server.url
    assert threading.active_count() == before
    with pytest.raises(urllib.error.URLError):
        ask(url)


def test_it_starts_fast() -> None:
    """So fast that each test can have one: a few milliseconds at the best of twenty."""
    took: list[float] = []
    for _ in range(20):
        server, began = FakeServer(), time.perf_counter()
        server.start()
        took.append(time.perf_counter() - began)
        server.close()
    assert min(took) < 0.005


def test_what_was_unexpected_is_told_at_the_end() -> None:
    """By `AssertionError` where the block ends; not in place of an error of the block's own."""
    with pytest.raises(AssertionError, match="unexpected request: POST"):
        with FakeServer() as server:
            with pytest.raises(urllib.error.HTTPError) as caught:
                ask(server.url)
            caught.value.close()
    with pytest.raises(KeyError):
        with FakeServer() as server:
            with pytest.raises(urllib.error.HTTPError) as caught:
                ask(server.url)
            caught.value.close()
            raise KeyError


def test_in_a_unittest_case() -> None:
    """`enterContext` takes it."""

    class Case(unittest.TestCase):
        def setUp(self) -> None:
            self.server = self.enterContext(FakeServer())

        def test(self) -> None:
            self.server.reply("Blue.")
            assert ask(self.server.url) == "Blue."

    result = unittest.TestResult()
    Case("test").run(result)
    assert (result.testsRun, result.failures, result.errors) == (1, [], [])


def test_who_leaves_is_logged() -> None:
    """A client that goes away in the middle of an answer is `cancelled`; the others are not."""

    async def main() -> None:
        async with FakeServer() as server, Client(api_base=server.url, model="m") as client:
            server.stream(["a", "b", 60.0, "c"]).reply("whole").hang()
            async with client.chat.stream("hi") as stream:
                assert (await anext(stream)).text == "a"
            assert (await client.chat("hi")).text == "whole"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await client.chat("hi")
            await server.settled()
            assert [request.cancelled for request in server.requests] == [True, False, True]
            assert server.in_flight == 0

    run(main())


def test_concurrency_and_connections_are_counted() -> None:
    """`peak` is the most requests at one time; requests of one connection have its number."""

    async def main() -> None:
        async with FakeServer() as server:
            server.stream("slowly", ttft=1, times=None)
            async with Client(api_base=server.url, model="m", http_max_in_flight=3) as client:
                await asyncio.gather(*(client.chat("hi") for _ in range(9)))
            assert (server.peak, server.connections, len(server.requests)) == (3, 3, 9)
            assert {request.connection for request in server.requests} == {0, 1, 2}

    run(main())


def test_forms_are_matched_too() -> None:
    """By the model and the texts that a multipart form has."""

    async def main() -> None:
        async with FakeServer() as server, Client(api_base=server.url, model="m") as client:
            server.when(model="whisper-1", path="/audio/transcriptions").reply("by whisper")
            server.when(body={"language": "de"}).reply("auf Deutsch")
            sound = ("a.wav", b"RIFF" + bytes(2_000))
            assert (await client.speech_to_text(sound, model="tiny", language="de")).text == "auf Deutsch"
            assert (await client.speech_to_text(sound, model="whisper-1")).text == "by whisper"
            assert [request.model for request in server.requests] == ["tiny", "whisper-1"]

    run(main())


def test_a_client_that_waits_to_be_asked_is_asked() -> None:
    """``Expect: 100-continue``, as curl sends it with a large body."""

    async def main() -> bytes:
        async with FakeServer() as server:
            server.reply("hi")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"{}")
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            return head

    assert run(main()).startswith(b"HTTP/1.1 200 OK\r\n")


def test_what_is_not_http_is_told() -> None:
    """A client that speaks something else is unexpected; the connection is closed."""

    async def main() -> None:
        with pytest.raises(AssertionError, match=r"not an HTTP/1\.1 request: 'EHLO example'"):
            async with FakeServer() as server:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(b"EHLO example\r\n\r\n")
                assert await reader.read() == b""
                writer.close()

    run(main())


@pytest.mark.parametrize("line", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nConnection: close\r\n"])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_without_kept_connections(line: bytes, streamed: bool) -> None:
    """The connection is closed after the answer, as such a client waits for; one of HTTP/1.0 gets no chunks."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": streamed}).encode()
    with FakeServer() as server, socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        server.reply("onetwo")
        sock.sendall(b"POST /v1/chat/completions %b" % line + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = b""
        while piece := sock.recv(65_536):
            answer += piece
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close" in head
    assert (b"Transfer-Encoding: chunked" in head) == (streamed and b"1.1" in line)
    if streamed and b"1.0" in line:
        assert rest.startswith(b"data: {")
        assert rest.endswith(b"data: [DONE]\n\n")
    assert b"onetwo" in rest


def test_over_tls() -> None:
    """With a context of the caller's."""

    async def main() -> None:
        async with FakeServer(tls=server_context()) as server:
            server.reply("safe")
            async with Client(api_base=server.url, model="m", http_other={"ssl": client_context()}) as client:
                assert server.url.startswith("https://")
                assert (await client.chat("hi")).text == "safe"

    run(main())


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    """Of the caller, not of the thread."""
    with FakeServer() as server, pytest.raises(OSError, match="in use"):
        FakeServer(port=server.port).start()


def test_closing_cuts_what_is_in_flight() -> None:
    """Nothing hangs and nothing is left: no thread, no socket."""
    before = open_sockets()
    ends: list[type[BaseException]] = []

    def fails() -> None:
        try:
            ask(server.url)
        except (OSError, http.client.HTTPException) as error:
            ends.append(type(error))

    with FakeServer() as server:
        server.hang()
        asking = threading.Thread(target=fails)
        asking.start()
        while not server.requests:
            time.sleep(0.001)
        with pytest.raises(TimeoutError, match="1 requests"):
            server.wait(0.01)
    asking.join(10)
    assert len(ends) == 1
    gc.collect()
    assert open_sockets() <= before


PLUGIN_TESTS = """
import json, os, sys, urllib.request, urllib.error
import pytest


def ask(text="hi"):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def test_nothing_is_loaded_before_it_is_used():
    loaded = [name for name in sys.modules if name.startswith("openaiasync.")]
    assert {name for name in loaded if name.count(".") > 1} == {"openaiasync.testing.plugin"}, loaded
    assert "OPENAI_BASE_URL" not in os.environ


def test_reply(openai_server):
    openai_server.reply("Blue.")
    assert ask() == "Blue."
    assert os.environ["OPENAI_API_KEY"] == "sk-test"
    assert "127.0.0.1" in os.environ["NO_PROXY"]


def test_unexpected(openai_server):
    openai_server.when(contains="moon").reply("Grey.")
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask("the sky")
    caught.value.close()


def test_unexpected_and_raised(openai_server):
    ask("the sun")


def is_about_the_moon(request):
    return request.json()["topic"] == "moon"


def test_broken_matcher(openai_server):
    openai_server.when(match=is_about_the_moon).reply("Grey.")
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask("the sky")
    caught.value.close()


def test_nothing_stays():
    assert "OPENAI_BASE_URL" not in os.environ
"""


def test_the_plugin(tmp_path: Path) -> None:
    """Found by its entry point, it costs nothing until its fixture is used, which leads every client to the server."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = project["entry-points"]["pytest11"]
    installed = tmp_path / "site" / "plugin_of_the_tests-1.dist-info"
    installed.mkdir(parents=True)
    lines = [f"{name} = {target}" for name, target in points.items()]
    (installed / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]), encoding="utf-8")
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: plugin-of-the-tests\nVersion: 1\n", encoding="utf-8"
    )
    (tmp_path / "test_inner.py").write_text(PLUGIN_TESTS, encoding="utf-8")
    source = str(Path(__file__).parents[2] / "src")
    path = os.pathsep.join([str(tmp_path / "site"), source])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-c",
        os.devnull,
    ]
    done = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "http_proxy": "http://127.0.0.1:9", "COLUMNS": "200"},
    )  # fmt: skip
    summary = done.stdout.splitlines()[-1]
    assert summary.startswith("3 failed, 3 passed in"), done.stdout  # and no error of a fixture beside them
    assert done.stdout.count("unexpected request: POST /v1/chat/completions") == 3  # one in the summary
    assert "'moon' is not in" in done.stdout
    assert "| the sky" in done.stdout
    assert "HTTPError: HTTP Error 501" in done.stdout
    assert "Captured openai_server call" in done.stdout
    assert "the function passed as match= is_about_the_moon (" in done.stdout
    assert 'return request.json()["topic"] == "moon"' in done.stdout


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"model":"m","messages":[],"n":"abc"}', 501),
        (b'{"model":"m","messages":[],"n":5000000}', 501),
        (b'{"model":"m","messages":[],"n":1e400}', 501),
        (b'{"model":"m","messages":[],"n":-1}', 501),
        (b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 200),
        (b'{"model":"m","messages":' + b"[" * 950 + b"]" * 950 + b"}", 200),
    ],
    ids=["text", "huge", "infinite", "negative", "deep", "less deep"],
)
def test_requests_that_no_server_answers(body: bytes, status: int) -> None:
    """They are answered or refused at once, and the refusal names the field; the server lives on."""

    async def main() -> None:
        async with FakeServer() as server:
            server.reply("x", times=None)
            for data, wanted in ((body, status), (b'{"model":"m","messages":[]}', 200)):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n\r\n"
                writer.write(head.encode() + data)
                assert (await reader.readline()).split()[1] == str(wanted).encode()
                writer.close()
            refused = server.explained()
            assert ("n=" in refused) == (status == 501)

    asyncio.run(main())
