"""Requests as curl commands: what a shell makes of them is the request, and no secret is in them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from conftest import run
from openaiasync import APIConnectionError, AsyncOpenAI, BadRequestError, Client, ClientClosedError
from openaiasync.core.model.meta import RequestInfo
from openaiasync.core.model.secrets import redacted
from scripted import Seen, answer, chat, json_answer, scripted

KEY = "sk-0123456789"
BASH = shutil.which("bash")
shell = pytest.mark.skipif(BASH is None, reason="needs bash")


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a curl that prints its arguments, each ended by a zero byte."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "curl"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def arguments(command: str, folder: Path) -> list[str]:
    """What curl is given when a shell runs the command."""
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "OPENAI_API_KEY": KEY, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=environment, timeout=50, check=True)
    assert done.stderr == b""
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NASTY = st.sampled_from(["'", '"', "$(id)", "`id`", "\\", "!", "\n", "@file", "-d", "%s", "~", "*", "\u20ac", " "])
VALUES = st.lists(NASTY | TEXTS, max_size=4).map("".join)
FIELD = st.text("abcXYZ019 \t'\"$`\\!&;|<>(){}[]*?~#%=@,éÿ", min_size=1, max_size=15).map(str.strip).filter(bool)
NAMES = st.text("abzAZ09!#$%&'*+-.^_`|~", min_size=1, max_size=8).filter(lambda name: name.lower() != "accept-encoding")


@shell
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PATCH"]),
    target=st.text("abc/?&=%20'$\"[]{}*~;#", max_size=15).map(lambda text: f"/v1/{text}"),
    fields=st.lists(st.tuples(NAMES, FIELD), max_size=3),
    hidden=st.lists(st.tuples(NAMES, st.sampled_from(["", "Bearer", "$ch'eme"])), max_size=2),
    body=VALUES,
)
@example("POST", "/v1/x", [("X-Empty", "")], [("Authorization", "Bearer"), ("api-key", "")], "@secret")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_shell_reads_back_the_request(
    fake: Path, method: str, target: str, fields: Any, hidden: Any, body: str
) -> None:
    """Whatever is in it: method, URL, header fields and body are what they were, and nothing is run."""
    request = RequestInfo(method, "http://host:1", target, fields, body.encode(), hidden)
    flags, *words = arguments(request.as_curl(), fake)
    assert set(flags) <= set("-sSNg")
    assert ("g" in flags) == bool(set("[]{}") & set(redacted(target)))
    if words[0] == "-X":
        assert words[1] == method
        words = words[2:]
    else:
        assert method == ("POST" if body else "GET")
    assert words.pop(0) == redacted(f"http://host:1{target}")
    known = {"authorization", "api-key", "x-api-key"}
    for name, value in fields:
        assert words[:2] == ["-H", f"{name}: {value}" if value else f"{name};"]
        words = words[2:]
    for name, scheme in hidden:
        value = f"{scheme} {KEY}".strip() if name.lower() in known else "[redacted]"
        assert words[:2] == ["-H", f"{name}: {value}"]
        words = words[2:]
    if body:
        assert words[0] == ("--data-raw" if body.startswith("@") else "--data-binary")
        assert words[1] == body
        words = words[2:]
    assert words == []


def send(act: Any, script: Any = chat, door: Any = Client, **options: Any) -> tuple[str, Seen]:
    """The command that `act` gives, and the last request that the server saw."""

    async def main() -> tuple[str, Seen]:
        async with scripted(script) as server:
            word = "api_base" if door is Client else "base_url"
            async with door(**{word: server.url}, api_key=KEY, **options) as client:
                return await act(client), server.seen[-1]

    return run(main())


@shell
def test_of_an_answer(fake: Path) -> None:
    """An answer's command asks for just what was asked for; the key comes from the shell's environment."""

    async def act(client: Client) -> str:
        return (await client.chat("it's $HOME")).meta.as_curl()

    command, seen = send(act, model="m")
    assert KEY not in command
    words = arguments(command, fake)
    assert words[-2:] == ["--data-binary", seen.body.decode()]
    assert f"Authorization: Bearer {KEY}" in words
    assert "--compressed" in words
    assert words[0] == "-sS"
    sent = {
        name: value for name, value in seen.headers.items() if name not in ("host", "content-length", "accept-encoding")
    }
    told = dict(word.split(": ", 1) for word in words if ": " in word and not word.startswith("{"))
    assert {name.lower(): value for name, value in told.items()} == sent


@pytest.mark.skipif(shutil.which("curl") is None or BASH is None, reason="needs curl")
def test_curl_itself_sends_the_same() -> None:
    """Run by a real curl against a real server, the command makes the same request."""

    async def main() -> None:
        async with scripted() as server:
            async with Client(api_base=server.url, api_key=KEY, model="m") as client:
                async with client.chat.stream("h\u00e9 'llo'") as stream:
                    async for _ in stream:
                        pass
                command = stream.meta.as_curl()
            environment = {**os.environ, "OPENAI_API_KEY": KEY, "no_proxy": "*"}
            process = await asyncio.create_subprocess_exec(
                "bash", "-c", command, env=environment, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            assert out.endswith(b"data: [DONE]\n\n")
            ours, theirs = server.seen
            assert (ours.method, ours.target, ours.body) == (theirs.method, theirs.target, theirs.body)
            assert theirs.headers == ours.headers

    run(main())


def test_of_an_error() -> None:
    """Errors have it too: with a status, without an answer, and (empty) without a request."""

    async def refused(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer({"error": {"message": "no"}}, 400))

    async def bad(client: Client) -> str:
        with pytest.raises(BadRequestError) as caught:
            await client.chat("hi")
        return caught.value.as_curl()

    command, seen = send(bad, refused, model="m")
    assert seen.body.decode() in command

    async def nobody(client: Client) -> str:
        with pytest.raises(APIConnectionError) as caught:
            await client.with_options(api_base="http://127.0.0.1:9/v1").chat("hi", max_retries=0)
        await client.chat("hi")
        return caught.value.as_curl()

    assert "http://127.0.0.1:9/v1/chat/completions" in send(nobody, model="m")[0]
    assert ClientClosedError("closed").as_curl() == ""


def test_of_a_stream() -> None:
    """curl must not hold a stream back."""

    async def act(client: Client) -> str:
        async with client.chat.stream("hi") as stream:
            return stream.meta.as_curl()

    assert send(act, model="m")[0].startswith("curl -sSN http://")


def test_bodies_that_fit_no_command() -> None:
    """Uploads, large bodies and bytes that are no text come from standard input, and a comment says so."""

    async def transcript(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer({"text": "words"}))

    async def upload(client: Client) -> str:
        return (await client.speech_to_text(b"RIFF", model="m")).meta.as_curl()

    command = send(upload, transcript)[0]
    assert command.endswith("--data-binary @-  # the upload is read from standard input")
    assert "multipart/form-data; boundary=" in command
    assert "RIFF" not in command

    async def large(client: Client) -> str:
        return (await client.chat("x" * 200_000)).meta.as_curl()

    command, seen = send(large, model="m")
    assert command.endswith(f"--data-binary @-  # the body of {len(seen.body):,} bytes is read from standard input")
    for content in (b"\xff\xfe", b"a\0b"):
        assert "@-  # the body of" in RequestInfo("POST", "http://h", "/", (), content).as_curl()


def test_what_may_be_secret() -> None:
    """Default and extra header fields are redacted, and a scheme is shown only where it is known to be one."""

    async def act(client: AsyncOpenAI) -> str:
        raw = await client.models.with_raw_response.list(
            extra_headers={"X-Extra": "extra-secret", "Authorization": "mine secret"},
            extra_query={"key": "in-query", "n": 1},
        )
        return raw.meta.as_curl()

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        assert seen.headers["authorization"] == "mine secret"
        writer.write(answer(b"{}"))

    command, seen = send(act, script, AsyncOpenAI, default_headers={"X-Default": "default-secret"})
    assert "key=in-query" in seen.target
    for secret in ("secret", "mine", "in-query", KEY):
        assert secret not in command
    assert "-H 'X-Default: [redacted]'" in command
    assert "-H 'X-Extra: [redacted]'" in command
    assert '-H "Authorization: $OPENAI_API_KEY"' in command
    assert "key=[redacted]&n=1" in command


@pytest.mark.parametrize("scheme", ["Bearer", "Token", "Ours", ""])
def test_the_clients_scheme_is_shown(scheme: str) -> None:
    """The scheme that the client was given stands before the key."""

    async def act(client: Client) -> str:
        return (await client.chat("hi")).meta.as_curl()

    command = send(act, model="m", auth_scheme=scheme)[0]
    assert f'-H "Authorization: {scheme + " " if scheme else ""}$OPENAI_API_KEY"' in command


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/a?api-key=1&b=2", "http://h/a?api-key=[redacted]&b=2"),
        ("http://h/a?b=2&access_token=x#f", "http://h/a?b=2&access_token=[redacted]#f"),
        ("http://h/a?SIG=x&monkey=y&keys=z", "http://h/a?SIG=[redacted]&monkey=y&keys=z"),
        ("http://h/key=1", "http://h/key=1"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    """Values of a query whose names say that they are secret are not shown; all else is."""
    assert redacted(url) == shown


def test_the_body_is_json_as_sent() -> None:
    """What the command holds can be read back without a shell."""
    body = {"text": "it's", "n": [1, None]}
    command = RequestInfo("POST", "http://h", "/", (), json.dumps(body).encode()).as_curl()
    quoted = command.partition("--data-binary ")[2]
    assert json.loads(quoted[1:-1].replace("'\"'\"'", "'")) == body
