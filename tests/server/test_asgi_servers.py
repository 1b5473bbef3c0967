"""The server kit on other ASGI servers, with other clients: the official ones of Python and Node, LangChain, curl.

Servers and clients are used where they are installed; the Node client where `OPENAIASYNC_NODE` names a folder with it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(120)]

APP = """
import asyncio, pathlib, time
from contextlib import asynccontextmanager
from openaiasync.server import Server, ToolCallDelta

@asynccontextmanager
async def lifespan():
    yield "state"

app = Server(lifespan=lifespan, cors=["https://page.example"], send_timeout=1.0)
log = pathlib.Path("log.txt")

@app.chat("m")
async def reply(request):
    with open("began.txt", "a") as began:
        print(request.text, file=began)
    yield f"{request.context.state} "
    if request.text == "wait":
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            log.write_text(f"cancelled {time.time()}")
            raise
    if request.text == "flood":
        outcome = "stopped"
        try:
            for _ in range(3000):
                yield "x" * 10_000
            outcome = "unbounded"
        finally:
            log.write_text(f"{outcome} {time.time()}")
    if request.text == "last":
        await asyncio.sleep(1.5)
    if request.tools:
        yield ToolCallDelta("f", '{"a": 1}')
    yield request.text

@app.embedding("e")
async def embed(request):
    return [[1.0, 2.0] for _ in request.inputs]

@app.transcription("t")
async def transcribe(request):
    return f"{len(request.file.content)} bytes"

@app.completion("c")
async def complete(request):
    yield f"{request.prompt} and "
    yield "so on"

@app.image("i")
async def draw(request):
    return b"\\x89PNG\\r\\n\\x1a\\n" + bytes(len(request.images))

@app.speech("s")
async def speak(request):
    return request.text.encode()

@app.moderation("mod")
async def moderate(request):
    return [{"violence": 0.9 if "hit" in one else 0.1} for one in request.inputs]
"""

COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "module:app", "--port", "PORT", "--log-level", "warning",
                "--timeout-graceful-shutdown", "GRACE"],
    "hypercorn": ["-m", "hypercorn", "module:app", "--bind", "127.0.0.1:PORT", "--graceful-timeout", "GRACE"],
    "granian": ["-m", "granian", "module:app", "--interface", "asgi", "--port", "PORT", "--log-level", "warning",
                "--workers-kill-timeout", "GRACE"],
    "openaiasync": ["-m", "openaiasync", "serve", "module:app", "--port", "PORT", "--grace", "GRACE"],
}  # fmt: skip
INSTALLED = [name for name in COMMANDS if find_spec(name)]


def free_port() -> int:
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(
    name: str, folder: Path, app: str = APP, *, grace: int = 10
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The application on a server, in a process; `grace` is the time in seconds that requests get to end."""
    (folder / "module.py").write_text(app, encoding="utf-8")
    port = free_port()
    command = [
        sys.executable,
        *(word.replace("PORT", str(port)).replace("GRACE", str(grace)) for word in COMMANDS[name]),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    # A session of its own: some servers have workers, which outlive a parent that is killed.
    child = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with closing(socket.socket()) as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield child, port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def curl(port: int, path: str, *arguments: str) -> str:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "20", *arguments, f"http://127.0.0.1:{port}{path}"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def body(text: str, **more: object) -> str:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more})


@pytest.mark.parametrize("name", INSTALLED)
def test_with_curl(name: str, tmp_path: Path) -> None:
    """Whole and streamed answers, errors, uploads, the state of the lifespan, and the page of another origin."""
    with running(name, tmp_path) as (_, port):
        chat = "/v1/chat/completions"
        whole = json.loads(curl(port, chat, "-d", body("hi"), "-H", "Content-Type: application/json"))
        assert whole["choices"][0]["message"]["content"] == "state hi"
        stream = curl(port, chat, "-N", "-d", body("hi", stream=True), "-H", "Content-Type: application/json")
        events = [line.removeprefix("data: ") for line in stream.splitlines() if line]
        assert events[-1] == "[DONE]"
        deltas = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events[:-1]]
        assert "".join(deltas) == "state hi"
        wrong = curl(port, chat, "-d", body("hi", n=0), "-H", "Content-Type: application/json", "-w", "\n%{http_code}")
        assert wrong.endswith("\n400")
        assert json.loads(wrong.rpartition("\n")[0])["error"]["param"] == "n"
        sound = tmp_path / "a.wav"
        sound.write_bytes(bytes(70_000))
        heard = curl(port, "/v1/audio/transcriptions", "-F", f"file=@{sound}", "-F", "model=t")
        assert json.loads(heard)["text"] == "70000 bytes"
        assert json.loads(curl(port, "/health")) == {"status": "ok"}
        asked = curl(port, chat, "-i", "-X", "OPTIONS", "-H", "Origin: https://page.example",
                     "-H", "Access-Control-Request-Method: POST").lower()  # fmt: skip
        assert "access-control-allow-origin: https://page.example" in asked


@pytest.mark.parametrize("name", INSTALLED)
def test_with_the_official_client(name: str, tmp_path: Path) -> None:
    """Chat, streams, tools, embeddings, responses, uploads, errors."""
    openai = pytest.importorskip("openai")
    with running(name, tmp_path) as (_, port):
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k", max_retries=0)
        messages = [{"role": "user", "content": "hi"}]
        assert client.chat.completions.create(model="m", messages=messages).choices[0].message.content == "state hi"
        chunks = list(client.chat.completions.create(
            model="m", messages=messages, stream=True, stream_options={"include_usage": True}))  # fmt: skip
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "state hi"
        assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens > 0
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
        called = client.chat.completions.create(model="m", messages=messages, tools=tools).choices[0]
        assert (called.finish_reason, called.message.tool_calls[0].function.arguments) == ("tool_calls", '{"a": 1}')
        assert client.embeddings.create(model="e", input=["a", "b"]).data[1].embedding == [1.0, 2.0]
        response = client.responses.create(model="m", input="hi")
        assert response.output_text == "state hi"
        events = list(client.responses.create(model="m", input="hi", stream=True))
        assert events[-1].type == "response.completed"
        assert events[-1].response.output_text == "state hi"
        assert client.audio.transcriptions.create(model="t", file=b"1234").text == "4 bytes"
        assert client.audio.translations.create(model="t", file=b"12345").text == "5 bytes"
        assert client.audio.speech.create(model="s", input="la", voice="alloy").read() == b"la"
        assert client.completions.create(model="c", prompt="one").choices[0].text == "one and so on"
        pieces = client.completions.create(model="c", prompt="one", stream=True)
        assert "".join(piece.choices[0].text for piece in pieces) == "one and so on"
        drawn = base64.b64decode(client.images.generate(model="i", prompt="x").data[0].b64_json)
        assert drawn.startswith(b"\x89PNG")
        edited = client.images.edit(model="i", prompt="x", image=("a.png", drawn, "image/png"))
        assert len(base64.b64decode(edited.data[0].b64_json)) == len(drawn) + 1
        flags = client.moderations.create(model="mod", input=["hit him", "hello"]).results
        assert [one.flagged for one in flags] == [True, False]
        stored = client.chat.completions.create(model="m", messages=messages, store=True, metadata={"k": "v"})
        assert [one.id for one in client.chat.completions.list(metadata={"k": "v"})] == [stored.id]
        assert client.chat.completions.delete(stored.id).deleted
        assert client.responses.retrieve(response.id).output_text == "state hi"
        line = {"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"model": "e", "input": "a"}}
        file = client.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch")
        assert client.files.retrieve(file.id).filename == "in.jsonl"
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
        )  # fmt: skip
        end = time.monotonic() + 20
        while batch.status != "completed" and time.monotonic() < end:
            time.sleep(0.02)
            batch = client.batches.retrieve(batch.id)
        result = json.loads(client.files.content(batch.output_file_id).read())
        assert result["response"]["body"]["data"][0]["embedding"] == [1.0, 2.0]
        assert client.files.delete(file.id).deleted
        assert [model.id for model in client.models.list()] == ["m", "e", "t", "c", "i", "s", "mod"]
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.chat.completions.create(model="other", messages=messages)


NODE = """
import OpenAI, { toFile } from "openai";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "k", maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];
const found = {};
found.chat = (await client.chat.completions.create({ model: "m", messages })).choices[0].message.content;
found.stream = "";
const options = { stream: true, stream_options: { include_usage: true } };
for await (const chunk of await client.chat.completions.create({ model: "m", messages, ...options })) {
  found.stream += chunk.choices[0]?.delta?.content ?? "";
  found.tokens = chunk.usage?.completion_tokens ?? 0;
}
const tools = [{ type: "function", function: { name: "f", parameters: { type: "object" } } }];
const called = await client.chat.completions.create({ model: "m", messages, tools });
found.call = called.choices[0].message.tool_calls[0].function.arguments;
found.vector = (await client.embeddings.create({ model: "e", input: "a" })).data[0].embedding;
const file = await toFile(Buffer.from("1234"), "a.wav");
found.heard = (await client.audio.transcriptions.create({ model: "t", file })).text;
found.response = (await client.responses.create({ model: "m", input: "hi" })).output_text;
found.events = [];
for await (const event of await client.responses.create({ model: "m", input: "hi", stream: true }))
  found.events.push(event.type);
found.completion = (await client.completions.create({ model: "c", prompt: "one" })).choices[0].text;
found.speech = (await (await client.audio.speech.create({ model: "s", input: "la", voice: "alloy" })).text());
found.flagged = (await client.moderations.create({ model: "mod", input: "hit" })).results[0].flagged;
found.image = (await client.images.generate({ model: "i", prompt: "x" })).data[0].b64_json;
found.models = (await client.models.list()).data.map((model) => model.id);
try {
  await client.chat.completions.create({ model: "other", messages });
} catch (error) {
  found.error = [error.status, error.code];
}
console.log(JSON.stringify(found));
"""


@pytest.mark.parametrize("name", INSTALLED)
def test_with_the_node_client(name: str, tmp_path: Path) -> None:
    """The official client for JavaScript: every operation of the kit that it has."""
    folder = os.environ.get("OPENAIASYNC_NODE")
    if not folder or shutil.which("node") is None:
        pytest.skip("OPENAIASYNC_NODE names no folder with the npm package 'openai', or there is no node")
    script = Path(folder, f"clients-{os.getpid()}.mjs")
    script.write_text(NODE, encoding="utf-8")
    try:
        with running(name, tmp_path) as (_, port):
            words = ["node", str(script), f"http://127.0.0.1:{port}/v1"]
            done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=60)
    finally:
        script.unlink()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["chat"], found["stream"], found["response"]) == ("state hi",) * 3
    assert found["tokens"] == 2
    assert (found["call"], found["vector"], found["heard"]) == ('{"a": 1}', [1, 2], "4 bytes")
    assert (found["events"][0], found["events"][-1]) == ("response.created", "response.completed")
    assert (found["completion"], found["speech"], found["flagged"]) == ("one and so on", "la", True)
    assert base64.b64decode(found["image"]).startswith(b"\x89PNG")
    assert found["models"] == ["m", "e", "t", "c", "i", "s", "mod"]
    assert found["error"] == [404, "model_not_found"]


@pytest.mark.parametrize("name", INSTALLED)
def test_with_langchain(name: str, tmp_path: Path) -> None:
    """Chats, streams, tools and embeddings."""
    langchain = pytest.importorskip("langchain_openai")
    openai = pytest.importorskip("openai")
    with running(name, tmp_path) as (_, port), openai.DefaultHttpxClient() as http:
        base = {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": "k", "max_retries": 0, "http_client": http}
        chat = langchain.ChatOpenAI(model="m", **base)
        assert chat.invoke("hi").content == "state hi"
        assert "".join(piece.content for piece in chat.stream("hi")) == "state hi"
        tools = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}]
        assert chat.bind_tools(tools).invoke("hi").tool_calls[0]["args"] == {"a": 1}
        vectors = langchain.OpenAIEmbeddings(model="e", check_embedding_ctx_length=False, **base)
        assert vectors.embed_documents(["a", "b"]) == [[1.0, 2.0], [1.0, 2.0]]


def send(port: int, text: str, *, stream: bool = True, receive_buffer: int = 0) -> socket.socket:
    """A connection that has sent a chat request."""
    data = body(text, stream=stream).encode()
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    sock.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
    return sock


def read_until(sock: socket.socket, word: bytes) -> bytes:
    """What is received up to a word, or to the end."""
    received = b""
    while word not in received:
        piece = sock.recv(65_536)
        if not piece:
            break
        received += piece
    return received


def list_models(sock: socket.socket) -> bytes:
    """The whole answer to a request on a kept connection; empty where the server has closed it."""
    with suppress(ConnectionError):
        sock.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, _, content = read_until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if length is None:
            return head
        while len(content) < int(length[1]) and (piece := sock.recv(65_536)):
            content += piece
        return head + b"\r\n\r\n" + content
    return b""


def wait_for_requests(folder: Path, count: int) -> None:
    """Wait until the application handles so many requests, and forget them."""
    began, end = folder / "began.txt", time.monotonic() + 15
    while not began.exists() or len(began.read_text(encoding="utf-8").splitlines()) < count:
        assert time.monotonic() < end, "the application has not received all requests"
        time.sleep(0.002)
    began.unlink()


def wait_for_log(folder: Path, text: str) -> float:
    """Wait until the application has written this, and return the time behind it."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        with suppress(FileNotFoundError, ValueError):  # not there yet, or not written yet
            word, when = (folder / "log.txt").read_text(encoding="utf-8").split()
            if word == text:
                (folder / "log.txt").unlink()
                return float(when)
        time.sleep(0.002)
    raise AssertionError(f"the application has not written {text!r}")


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves(name: str, streamed: bool, tmp_path: Path) -> None:
    """Its handler is cancelled within 50 ms, on every server: the best of some, for the machine may be busy."""
    with running(name, tmp_path) as (_, port):
        times: list[float] = []
        for _ in range(5):
            with send(port, "wait", stream=streamed) as sock:
                wait_for_requests(tmp_path, 1)
                if streamed:
                    assert b"state" in read_until(sock, b"state")
                left = time.time()
            times.append(wait_for_log(tmp_path, "cancelled") - left)
        assert min(times) < 0.05, times


@pytest.mark.parametrize("name", INSTALLED)
def test_a_client_that_does_not_read(name: str, tmp_path: Path) -> None:
    """The send timeout ends its handler on every server, before 30 MB are buffered for it."""
    with running(name, tmp_path) as (_, port), send(port, "flood", receive_buffer=4096):
        wait_for_log(tmp_path, "stopped")


# Servers that close idle connections at once, so that the kit cannot answer a late request on them.
CLOSING = {"uvicorn", "hypercorn", "granian"}


@pytest.mark.parametrize("name", INSTALLED)
def test_sigterm(name: str, tmp_path: Path) -> None:
    """What ends in time is finished; at the deadline streams end with an error event, other requests with a 503.

    Then the process ends. A late request on a kept connection gets 503 and Retry-After from the built-in server, and a
    closed connection from the others, as every client that keeps connections has to expect. granian tells the
    application nothing: at its deadline the worker is killed, which cuts the stream, and other requests get no answer.
    """
    with running(name, tmp_path, grace=3) as (child, port), send(port, "hi", stream=False) as kept:
        with (
            send(port, "last") as last,
            send(port, "last", stream=False) as whole,
            send(port, "wait") as late,
            send(port, "wait", stream=False) as late_whole,
        ):
            kept.settimeout(5)
            assert b'"usage"' in read_until(kept, b"}}}")
            wait_for_requests(tmp_path, 5)
            for sock in (last, late):
                assert b"state" in read_until(sock, b"state")
            child.send_signal(signal.SIGTERM)
            while (answer := list_models(kept)).startswith(b"HTTP/1.1 200 "):
                time.sleep(0.01)  # the signal is not handled yet
            if name in CLOSING:
                assert answer == b""
            else:
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"retry-after: 1" in answer
            assert b"[DONE]" in read_until(last, b"[DONE]")
            assert b'"finish_reason":"stop"' in read_until(whole, b'"finish_reason":"stop"')
            received = read_until(late, b"server_shutting_down")
            assert (b"server_shutting_down" in received) == (name != "granian"), received[-300:]
            assert b"[DONE]" not in received
            answer = read_until(late_whole, b"}}")
            if name == "granian":
                assert answer == b""
            else:
                head, _, content = answer.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 503 ")
                assert b"retry-after: 1" in head.lower()
                assert json.loads(content)["error"]["code"] == "server_shutting_down"
        child.wait(20)


def test_mounted_in_starlette(tmp_path: Path) -> None:
    """Below a path of a larger application, with the lifespan of the server."""
    pytest.importorskip("starlette")
    if not find_spec("uvicorn"):
        pytest.skip("uvicorn is not installed")
    mounted = APP.replace("app = Server(", "kit = app = Server(") + (
        "\nfrom starlette.applications import Starlette\nfrom starlette.routing import Mount\n"
        'app = Starlette(routes=[Mount("/llm", app=kit)], lifespan=kit.mounted_lifespan)\n'
    )
    with running("uvicorn", tmp_path, mounted) as (_, port):
        whole = json.loads(
            curl(port, "/llm/v1/chat/completions", "-d", body("hi"), "-H", "Content-Type: application/json")
        )
        assert whole["choices"][0]["message"]["content"] == "state hi"
        assert json.loads(curl(port, "/llm/v1/models"))["data"][0]["id"] == "m"
