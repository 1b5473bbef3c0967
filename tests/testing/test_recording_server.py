"""Record and replay over sockets: a recording server between clients and a server with scripted answers."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import unittest
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import APIConnectionError, APITimeoutError, AsyncOpenAI, Client, IncompleteStreamError, RateLimitError
from openaiasync.errors import InternalServerError
from openaiasync.testing import Cassette, CassetteError, FakeAnswer, FakeServer, RecordingServer, recording
from openaiasync.transport.cassette import RecordMode

HI: Any = [{"role": "user", "content": "Why is the sky blue?"}]
KEY = "sk-a-key-of-this-test-0123456789"
HERE = Path(__file__).parent


def client_of(server: RecordingServer, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(**{"base_url": server.url, "api_key": KEY, "max_retries": 0, **options})


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def record(path: Path, script: Any, act: Any, mode: Any = "once", **options: Any) -> Any:
    """Run `act` through a recording server before a server whose answers `script` adds; return what it returns."""

    async def main() -> Any:
        async with FakeServer() as upstream:
            script(upstream)
            async with RecordingServer(Cassette(path, mode, **options), upstream.url) as server:
                async with client_of(server) as client:
                    return await act(client)

    return run(main())


def replay(path: Path, act: Any, **options: Any) -> Any:
    """Run `act` against what was recorded; the upstream is a port on which nothing listens."""

    async def main() -> Any:
        async with RecordingServer(Cassette(path, "none", **options), "http://127.0.0.1:9/v1") as server:
            async with client_of(server) as client:
                return await act(client)

    return run(main())


async def ask(client: AsyncOpenAI) -> str:
    return (await client.chat.completions.create(messages=HI, model="m")).choices[0].message.content


def test_ten_turns_with_tools(tmp_path: Path) -> None:
    """Whole and streamed: the replayed conversation is the recorded one, and nothing is sent."""
    path = tmp_path / "talk.jsonl"

    def script(upstream: FakeServer) -> None:
        for turn in range(10):
            upstream.reply(tool_calls=[{"name": "add", "arguments": {"a": turn, "b": 1}, "id": f"call_{turn}"}])
            upstream.stream([f"turn {turn} ", "is ", str(turn + 1)])

    async def talk(client: AsyncOpenAI) -> list[Any]:
        messages: list[Any] = []
        for turn in range(10):
            messages.append({"role": "user", "content": f"add one to {turn}"})
            whole = await client.chat.completions.create(messages=messages, model="m")
            messages.append(whole.choices[0].message.to_dict())
            (call,) = whole.choices[0].message.tool_calls
            arguments = json.loads(call.function.arguments)
            result = str(arguments["a"] + arguments["b"])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
            stream = await client.chat.completions.create(messages=messages, model="m", stream=True)
            text = "".join([one.choices[0].delta.content or "" async for one in stream if one.choices])
            messages.append({"role": "assistant", "content": text})
        return messages

    recorded = record(path, script, talk)
    assert recorded[-1]["content"] == "turn 9 is 10"
    assert replay(path, talk) == recorded
    assert len(lines_of(path)) == 21


def test_every_kind_of_body(tmp_path: Path) -> None:
    """Vectors, sounds, uploads under another boundary and file name, lists with a query, answers without a body."""
    path = tmp_path / "kinds.jsonl"
    sound = bytes(range(256)) * 300

    def script(upstream: FakeServer) -> None:
        upstream.reply(embeddings=[[0.5, -1.0]]).reply(content=sound, content_type="audio/wav").reply("said")
        upstream.reply(json={"object": "list", "data": [{"id": "file-1", "object": "file"}], "has_more": False})
        upstream.reply(json={"id": "file-1", "object": "file", "deleted": True})

    names = iter(("tmp1.wav", "tmp2.wav"))

    async def act(client: AsyncOpenAI) -> list[Any]:
        vectors = (await client.embeddings.create(input=["a"], model="m")).data[0].embedding
        spoken = (await client.audio.speech.create(input="hi", model="m", voice="alloy")).content
        heard = await client.audio.transcriptions.create(file=(next(names), b"RIFF" + sound), model="m")
        files = [one.id async for one in client.files.list(limit=5)]
        deleted = await client.files.delete("file-1")
        return [list(vectors), spoken, heard.text, files, deleted.deleted]

    recorded = record(path, script, act)
    assert recorded == [[0.5, -1.0], sound, "said", ["file-1"], True]
    assert replay(path, act) == recorded
    (upload,) = [part for part in lines_of(path)[3]["request"]["body"]["form"] if "sha256" in part]
    assert (upload["name"], upload["file"], upload["size"]) == ("file", "tmp1.wav", 4 + len(sound))
    assert lines_of(path)[4]["request"]["query"] == [["limit", "5"]]


def test_another_upload_is_another_request(tmp_path: Path) -> None:
    """Files count by their content."""
    path = tmp_path / "uploads.jsonl"

    async def hear(client: AsyncOpenAI, content: bytes = b"RIFF1") -> str:
        return (await client.audio.transcriptions.create(file=("a.wav", content), model="m")).text

    record(path, lambda upstream: upstream.reply("said"), hear)
    with pytest.raises(InternalServerError, match="no recorded answer"):
        replay(path, lambda client: hear(client, b"RIFF2"))


def test_errors_are_what_they_were(tmp_path: Path) -> None:
    """On the socket, too: a 429 and its headers, a cut stream, a connection that is reset, a server that hangs."""
    path = tmp_path / "errors.jsonl"

    def script(upstream: FakeServer) -> None:
        upstream.fail(429, "slow down", retry_after=7).cut(after=2, text="one two three").cut(reset=True).hang()

    async def act(client: AsyncOpenAI) -> list[Any]:
        with pytest.raises(RateLimitError, match="slow down") as limited:
            await ask(client)
        with pytest.raises(IncompleteStreamError) as cut:
            await client.chat.stream(HI, model="m").final()
        with pytest.raises(APIConnectionError) as reset:
            await ask(client)
        assert not isinstance(reset.value, APITimeoutError)
        with pytest.raises(APITimeoutError):
            await ask(client.with_options(timeout=3))
        return [limited.value.response.headers["retry-after"], cut.value.partial.text]

    assert record(path, script, act) == ["7", "one two"]
    assert replay(path, act) == ["7", "one two"]


def test_pauses_are_replayed_at_speed_1(tmp_path: Path) -> None:
    """The time to the first piece and the gaps, as they were recorded."""
    path = tmp_path / "paced.jsonl"

    async def timed(client: AsyncOpenAI) -> list[float]:
        loop = asyncio.get_running_loop()
        began, times = loop.time(), []
        async with client.chat.stream(HI, model="m") as stream:
            async for piece in stream:
                if piece.text:
                    times.append(round(loop.time() - began, 1))
        return times

    recorded = record(path, lambda upstream: upstream.stream(["a", "b", 3.0, "c"], ttft=2.0, itl=0.5), timed)
    assert recorded == [2.0, 2.5, 6.0]
    assert replay(path, timed, speed=1) == recorded
    assert replay(path, timed) == [0.0, 0.0, 0.0]


def test_requests_that_overlap(tmp_path: Path) -> None:
    """Twenty at a time are twenty lines, each with its own answer."""
    path = tmp_path / "many.jsonl"

    async def act(client: AsyncOpenAI) -> list[str]:
        async def one(number: int) -> str:
            return (
                await client.chat.completions.create(messages=[{"role": "user", "content": str(number)}], model="m")
            ).text

        return await asyncio.gather(*map(one, range(20)))

    def script(upstream: FakeServer) -> None:
        upstream.reply(lambda request: "answer to " + request.text, times=None)

    recorded = record(path, script, act)
    assert recorded == [f"answer to {number}" for number in range(20)]
    assert replay(path, act) == recorded


def test_a_request_without_a_recording(tmp_path: Path) -> None:
    """It is not sent; the client sees why, and so does who closes the server."""
    path = tmp_path / "none.jsonl"

    async def main() -> None:
        async with FakeServer() as upstream:
            with pytest.raises(AssertionError, match=r"there is no cassette .*none\.jsonl"):
                async with RecordingServer(Cassette(path, "none"), upstream.url) as server:
                    async with client_of(server) as client:
                        with pytest.raises(InternalServerError, match="no recorded answer"):
                            await ask(client)
            assert upstream.requests == []

    run(main())
    assert not path.exists()


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """Is told to the client and at the end, and not recorded."""
    path = tmp_path / "down.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"

    async def main() -> None:
        with pytest.raises(AssertionError, match="cannot be reached"):
            async with RecordingServer(Cassette(path), url) as server, client_of(server) as client:
                with pytest.raises(InternalServerError, match="cannot be reached"):
                    await ask(client)

    run(main())
    assert not path.exists()


def test_websockets_are_refused(tmp_path: Path) -> None:
    """Clearly, and at the end as well."""
    with pytest.raises(AssertionError, match="WebSockets"):
        with RecordingServer(Cassette(tmp_path / "ws.jsonl", "none")) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("GET", "/v1/realtime", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
            response = connection.getresponse()
            assert (response.status, "WebSockets" in response.read().decode()) == (501, True)
            connection.close()


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "host:80", "http://", "http://host/v1?key=1", "https://u:hunter2@host/v1", "http://h:x/v1"]
)
def test_an_upstream_that_is_no_base_url(url: str, tmp_path: Path) -> None:
    """Is an error at once, which shows no password."""
    with pytest.raises(ValueError, match="upstream") as caught:
        RecordingServer(Cassette(tmp_path / "x"), url)
    assert "hunter2" not in str(caught.value)


def test_below_another_base_url(tmp_path: Path) -> None:
    """A cassette that was recorded below one path is replayed below another, and for a client without a socket."""
    path = tmp_path / "base.jsonl"

    async def main() -> None:
        async with FakeServer() as upstream:
            upstream.reply("yes")
            base = upstream.url.removesuffix("/v1") + "/gateway/openai"
            async with RecordingServer(Cassette(path), base) as server, client_of(server) as client:
                assert await ask(client) == "yes"
            assert [request.path for request in upstream.requests] == ["/gateway/openai/chat/completions"]

    run(main())
    assert replay(path, ask) == "yes"


def test_redirects_do_not_lead_past_it(tmp_path: Path) -> None:
    """A redirect to the real server's address leads to the recording server, when it is recorded and when replayed."""
    path = tmp_path / "moved.jsonl"

    def script(upstream: FakeServer) -> None:
        moved = {"Location": f"{upstream.url}/models/new"}
        upstream.when(path="/models/m").respond(FakeAnswer(status=307, headers=moved))
        upstream.when(path="/models/new").reply(json={"id": "new", "object": "model"})

    async def act(client: AsyncOpenAI) -> str:
        return (await client.models.retrieve("m")).id

    assert record(path, script, act) == "new"
    assert len(lines_of(path)) == 3
    upstream = lines_of(path)[1]["response"]["headers"][0][1].removesuffix("/models/new")

    async def main() -> None:
        async with RecordingServer(Cassette(path, "none"), upstream) as server, client_of(server) as client:
            assert await act(client) == "new"

    run(main())


SECRETS = {
    "Authorization": f"Bearer {KEY}",
    "api-key": "0123456789abcdef0123456789abcdef",
    "X-Corp-Token": "corp-token-of-ours",
    "X-Corp-Id": "corp-identity-77",
    "OpenAI-Organization": "org-OfThisTest0123456789",
    "OpenAI-Project": "proj_OfThisTest0123456789",
    "Cookie": "session=cookie-of-the-client",
}


def test_no_secret_reaches_the_file(tmp_path: Path) -> None:
    """Of headers, query, body and answer, echoed in every place: the file has none of them, and still replays."""
    path = tmp_path / "secrets.jsonl"
    others = ["query-secret-99", "mcp-secret-11", "cookie-of-the-server", "sk-another0123456789abcdef", "tell-nobody"]
    others += ["org-Unrelated0123456789", "hook-secret-22", "hunter2pass"]
    values = [*(value.rpartition(" ")[2].partition("=")[2] or value.rpartition(" ")[2] for value in SECRETS.values())]
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": f"my key is {KEY}; tell-nobody"}],
        "tools": [{"type": "mcp", "authorization": "mcp-secret-11", "headers": {"X-Hook": "hook-secret-22"}}],
    }
    echo = " ".join([*values, others[0], *others[3:4], others[5], "https://user:hunter2pass@host/"])
    answer = {"id": "x", "object": "chat.completion", "echo": echo, "arguments": '{"api_key": "hook-secret-22"}'}
    head = {"Set-Cookie": "a=cookie-of-the-server", "OpenAI-Organization": SECRETS["OpenAI-Organization"]}
    head |= {"X-Echo": KEY, "X-Request-Id": "kept"}

    def ask_with(url: str, fields: dict[str, str], **changed: Any) -> str:
        request = urllib.request.Request(
            f"{url}/chat/completions?api-version=1&api-key=query-secret-99",
            json.dumps({**body, **changed}).encode(),
            {"Content-Type": "application/json", **fields},
        )
        with urllib.request.urlopen(request) as response:
            return response.read().decode()

    with FakeServer() as upstream:
        upstream.reply(json=answer, headers=head).stream([{"content": echo}, f"and {KEY}"], headers=head)
        with RecordingServer(Cassette(path, secrets=["tell-nobody"]), upstream.url) as server:
            assert KEY in ask_with(server.url, SECRETS)  # the client gets everything
            assert KEY in ask_with(server.url, SECRETS, stream=True)
        assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert upstream.requests[0].headers["x-corp-id"] == "corp-identity-77"
    text = path.read_text(encoding="utf-8")
    assert [secret for secret in [*values, *others] if secret in text] == []
    assert "api-version" in text
    assert "kept" in text
    with RecordingServer(Cassette(path, "none", secrets=["tell-nobody"])) as server:
        other = "sk-of-somebody-else-0123456789"
        message = [{"role": "user", "content": f"my key is {other}; tell-nobody"}]
        replayed = ask_with(server.url, {"Authorization": f"Bearer {other}"}, messages=message)
        assert "[key] 0123" not in replayed
        assert "[key]" in replayed


def test_another_process_replays_it(tmp_path: Path) -> None:
    """With another client, another key and another server's address."""
    path = tmp_path / "sky.jsonl"
    record(path, lambda upstream: upstream.reply("It scatters light."), ask)
    program = (
        "import sys, asyncio\nfrom openaiasync import Client\nfrom openaiasync.testing import recording\n"
        "async def main():\n"
        "    async with Client(model='m') as client:\n"
        "        print((await client.chat('Why is the sky blue?')).text)\n"
        "with recording(sys.argv[1], 'none'):\n    asyncio.run(main())\n"
    )
    made = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert (made.stdout, made.stderr) == ("It scatters light.\n", "")


def test_the_first_format_is_read_for_ever() -> None:
    """A cassette written by hand in version 1, with fields of a later one: each kind of line still replays."""

    async def act(client: AsyncOpenAI) -> list[Any]:
        whole = await ask(client)
        stream = await client.chat.completions.create(messages=HI, model="m", stream=True)
        text = "".join([one.choices[0].delta.content or "" async for one in stream])
        with pytest.raises(RateLimitError, match="slow down"):
            await client.embeddings.create(input=["a"], model="m")
        spoken = (await client.audio.speech.create(input="hi", model="m", voice="alloy")).content
        heard = await client.audio.transcriptions.create(file=("any.wav", b"RIFF hello"), model="m")
        with pytest.raises(APIConnectionError):
            await client.models.retrieve("m")
        return [whole, text, spoken, heard.text]

    assert replay(HERE / "format-1.jsonl", act) == ["It scatters light.", "Blue.", b"RIFF\x00\xff", "hello"]


def _line(**response: Any) -> str:
    """A line that somebody wrote by hand."""
    return json.dumps({"request": {"method": "GET", "path": "/x"}, "response": {"status": 200, **response}})


@pytest.mark.parametrize("edit", ["CRLF", "BOM", "both", "spaces"])
def test_what_editors_do_to_a_file(edit: str, tmp_path: Path) -> None:
    """Line endings of Windows, a byte order mark and empty lines change nothing, and the file is added to."""
    path = tmp_path / "edited.jsonl"
    record(path, lambda upstream: upstream.reply("first"), ask)
    raw = path.read_bytes()
    if edit in ("CRLF", "both"):
        raw = raw.replace(b"\n", b"\r\n")
    if edit in ("BOM", "both"):
        raw = b"\xef\xbb\xbf" + raw
    if edit == "spaces":
        raw = raw.replace(b"\n", b" \n\n")
    path.write_bytes(raw)
    assert replay(path, ask) == "first"

    async def model(client: AsyncOpenAI) -> str:
        return (await client.models.retrieve("m")).id

    record(path, lambda upstream: upstream.reply(json={"id": "m", "object": "model"}), model, "new")
    assert path.read_bytes().startswith(raw)
    assert replay(path, model) == "m"


def test_another_version_of_a_client_replays_it(tmp_path: Path) -> None:
    """What a client says of itself in header fields is not compared: an upgrade changes nothing."""
    path = tmp_path / "upgrade.jsonl"

    def asked_by(version: str) -> Callable[[AsyncOpenAI], Any]:
        async def send(client: AsyncOpenAI) -> str | None:
            about = {"User-Agent": f"AsyncOpenAI/Python {version}", "x-stainless-package-version": version}
            return await ask(client.with_options(default_headers=about))

        return send

    record(path, lambda upstream: upstream.reply("same"), asked_by("1.0.0"))
    assert b"1.0.0" not in path.read_bytes()
    assert replay(path, asked_by("9.9.9")) == "same"


def test_files_that_are_no_cassettes(tmp_path: Path) -> None:
    """A newer version, another kind of file, a broken line: each is refused with what to do, and none is replaced."""
    good = (HERE / "format-1.jsonl").read_text(encoding="utf-8").splitlines()
    newer = good[0].replace('"version": 1', '"version": 2')
    cases = {
        "newer": ("\n".join([newer, *good[1:]]), "none", "version 2 of the format.*upgrade openaiasync"),
        "other": ("[1, 2]\n", "none", "is not a cassette"),
        "notes": ("my notes\n", "all", "is not a cassette and is not replaced"),
        "broken": (f"{good[0]}\n{{\n{good[1]}\n", "none", "line 2"),
        "merged": (f"{good[0]}\n{good[1]}\n<<<<<<< HEAD\n{good[1]}\n", "none", "line 3: an unresolved merge conflict"),
        "merged at the top": (f"<<<<<<< HEAD\n{good[0]}\n", "none", "line 1: an unresolved merge conflict"),
        "empty": (f'{good[0]}\n{{"request":{{"method":"GET","path":"/x"}}}}\n', "none", "line 2: .*either a response"),
        "status": (f"{good[0]}\n{_line(status=7)}\n", "none", "line 2: 7 is not the status"),
        "split": (f"{good[0]}\n{_line(headers=[['a', 'b' + chr(13)]])}\n", "none", "line 2: .*line break"),
        "base64": (f"{good[0]}\n{_line(body={'base64': '%'})}\n", "none", "line 2"),
    }
    for name, (text, mode, message) in cases.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(CassetteError, match=message):
            Cassette(path, mode)  # type: ignore[arg-type]
        assert path.read_text() == text


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    """What a program left that died while writing: the rest replays, and is added to."""
    path = tmp_path / "torn.jsonl"
    record(path, lambda upstream: upstream.reply("first"), ask)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"request": {"method": "PO')
    assert replay(path, ask) == "first"

    async def model(client: AsyncOpenAI) -> str:
        return (await client.models.retrieve("m")).id

    record(path, lambda upstream: upstream.reply(json={"id": "m", "object": "model"}), model, "new")
    assert path.read_bytes().startswith(whole)
    assert [one["request"]["path"] for one in lines_of(path)[1:]] == ["/chat/completions", "/models/m"]


def test_a_killed_process_leaves_what_was_complete(tmp_path: Path) -> None:
    """The answers that had ended are in the file when the process is killed in the middle of the next one."""
    path = tmp_path / "killed.jsonl"
    program = (
        "import sys, os, asyncio\nfrom openaiasync import AsyncOpenAI\n"
        "from openaiasync.testing import Cassette, FakeServer, RecordingServer\n"
        "async def main():\n"
        "    async with FakeServer() as upstream, RecordingServer(Cassette(sys.argv[1]), upstream.url) as server:\n"
        "        upstream.reply('first').hang(after=2)\n"
        "        client = AsyncOpenAI(base_url=server.url, api_key='sk')\n"
        "        ask = lambda **more: client.chat.completions.create(model='m', messages=[], **more)\n"
        "        await ask()\n"
        "        async for event in await ask(stream=True):\n"
        "            os._exit(9)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 9
    assert len(lines_of(path)) == 2
    (first,) = Cassette(path, "none").interactions
    modes: tuple[RecordMode, ...] = ("new", "all")  # its lock has ended with it, and holds up no further run
    for mode in modes:
        cassette = Cassette(path, mode)
        cassette.add(first)
        cassette.close()
        assert cassette.recorded == 1
    assert len(lines_of(path)) == 2


def test_in_a_unittest_case(tmp_path: Path) -> None:
    """`enterContext` takes it; the environment leads there and is what it was afterwards."""
    path = tmp_path / "case.jsonl"
    with FakeServer() as upstream:
        upstream.reply("Blue.")

        class Case(unittest.TestCase):
            def setUp(self) -> None:
                self.server = self.enterContext(recording(path, upstream=upstream.url))

            def test(self) -> None:
                async def main() -> str:
                    async with Client(model="m") as client:
                        return (await client.chat("Why?")).text

                assert os.environ["OPENAI_BASE_URL"] == self.server.url
                assert run(main()) == "Blue."

        for _ in range(2):
            result = unittest.TestResult()
            Case("test").run(result)
            assert (result.testsRun, result.failures, result.errors) == (1, [], [])
        assert len(upstream.requests) == 1
    assert not {"OPENAI_BASE_URL", "OPENAI_API_KEY"} & os.environ.keys()
