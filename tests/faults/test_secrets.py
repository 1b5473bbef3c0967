"""Keys: planted in every way in, looked for in everything that comes out."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
import pickle
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import run
from openaiasync import AsyncOpenAI, Client, OpenAIError
from scripted import CHAT, STREAM_HEAD, answer, chunk, event, json_answer
from wireserver import Peer, Server

from .calls import CALLS
from .invariants import LogText, chain, deep, error_faults, shown

KEY = "sk-Planted/0123+4567=89"  # what JSON and URLs write in ways of their own
IN_JSON = KEY.replace("/", "\\/")
IN_URL = "sk-Planted%2F0123%2B4567%3D89"
BASIC = base64.b64encode(f"user:{KEY}".encode()).decode()
SECRETS = (KEY, IN_JSON, IN_URL)


async def asked() -> str:
    return KEY


Make = Callable[[str, pytest.MonkeyPatch], Client]


def by_argument(url: str, patch: pytest.MonkeyPatch) -> Client:
    return Client(api_base=url, api_key=KEY, max_retries=1)


def by_official_argument(url: str, patch: pytest.MonkeyPatch) -> Client:
    return AsyncOpenAI(base_url=url, api_key=KEY, admin_api_key=KEY, webhook_secret=KEY, max_retries=1)


def by_environment(url: str, patch: pytest.MonkeyPatch) -> Client:
    patch.setenv("OPENAI_API_KEY", KEY)
    patch.setenv("OPENAI_ADMIN_KEY", KEY)
    return Client(api_base=url, max_retries=1)


def by_default_header(url: str, patch: pytest.MonkeyPatch) -> Client:
    return AsyncOpenAI(base_url=url, default_headers={"X-Api-Key": KEY, "Authorization": f"Bearer {KEY}"})


def by_custom_headers(url: str, patch: pytest.MonkeyPatch) -> Client:
    patch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Api-Key: {KEY}")
    return Client(api_base=url, max_retries=1)


def by_function(url: str, patch: pytest.MonkeyPatch) -> Client:
    return Client(api_base=url, api_key=asked, max_retries=1)


def by_userinfo(url: str, patch: pytest.MonkeyPatch) -> Client:
    return Client(api_base=url.replace("://", f"://user:{IN_URL}@"), max_retries=1)


def by_options(url: str, patch: pytest.MonkeyPatch) -> Client:
    plain = AsyncOpenAI(base_url=url, api_key="another")
    return plain.with_options(api_key=KEY, default_headers={"X-Api-Key": KEY})


WAYS: list[Make] = [
    by_argument, by_official_argument, by_environment, by_default_header, by_custom_headers, by_function, by_userinfo,
    by_options,
]  # fmt: skip
ECHO = f'{{"error": {{"message": "you sent {KEY}, that is {IN_JSON} or {BASIC}", "code": "{KEY}"}}}}'.encode()
EVENT = event(chunk("Hi"))
ECHOES: dict[str, bytes] = {
    "error status": answer(ECHO, 401),
    "error status in a header field": json_answer({}, 400, X_Key=KEY, X_Basic=BASIC),
    "error status in HTML": answer(b"<p>" + ECHO, 500, content_type="text/html"),
    "error in a 200": answer(ECHO),
    "no answer in a 200": answer(b"[" + ECHO + b"]"),
    "no JSON in a 200": answer(b"oops" + ECHO),
    "redirect": answer(b"", 307, Location=f"http://127.0.0.1:1/?key={IN_URL}"),
    "status line": b"HTTP/1.1 abc " + ECHO + b"\r\n\r\n",
    "event": STREAM_HEAD + EVENT + event(ECHO.decode()),
    "event that is no JSON": STREAM_HEAD + EVENT + event("oops" + ECHO.decode()),
    "stream cut": STREAM_HEAD + EVENT,
    "no event stream": answer(ECHO),
    "nothing": b"",
    "answer": json_answer({**CHAT, "system_fingerprint": "f"}, X_Echo=KEY),
}


@pytest.mark.parametrize("make", WAYS, ids=lambda make: make.__name__)
def test_a_key_is_shown_nowhere(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a repr, the log at DEBUG, an error, its causes, their tracebacks' locals, or a pickle; echoed or not."""
    monkeypatch.setattr("openaiasync.core.policy.retry.FIRST_PAUSE", 0.01)
    problems: list[str] = []
    seen: list[str] = []

    async def main() -> None:
        for title, raw in ECHOES.items():

            async def script(peer: Peer, raw: bytes = raw) -> None:
                seen.append(str((await peer.request()).fields))
                await peer.send(raw)
                await asyncio.sleep(0.02)

            async with Server(script) as server:
                client = make(f"http://127.0.0.1:{server.port}/v1", monkeypatch)
                async with client:
                    for call in ("stream",) if "event" in title or "stream" in title else ("chat", "models", "speech"):
                        problems.extend(f"{title}, {call}: {one}" for one in await looked_at(client, call, secrets))

    secrets = (*SECRETS, BASIC) if make is by_userinfo else SECRETS
    with LogText() as log:
        run(main())
    problems += [f"the log says {line}" for line in log.lines if any(secret in line for secret in secrets)]
    assert not problems, "\n".join(problems[:20])
    assert seen
    assert all(KEY in fields or BASIC in fields for fields in seen)  # and the server did get it


async def looked_at(client: Client, call: str, secrets: tuple[str, ...]) -> list[str]:
    """What shows a key after this call."""
    problems = [f"shown by {place}" for place, text in of_client(client) if any(one in text for one in secrets)]
    try:
        with_meta = await CALLS[call](client, [])
    except OpenAIError as error:
        return problems + error_faults(error, OpenAIError, *secrets)
    return problems + [f"shown by the answer {with_meta!r}"] * any(one in repr(with_meta) for one in secrets)


def of_client(client: Client) -> Iterator[tuple[str, str]]:
    for name, value in (
        ("client", client),
        ("config", client._config),
        ("configuration", client._calls.config),
        ("builder", client._calls.builder.__dict__),
        ("copy", copy.copy(client._config)),
    ):
        yield f"the repr of the {name}", deep(value) if name == "builder" else repr(value)
    for value in (client._calls.config.key, *(secret for _, secret in client._calls.config.secret_fields)):
        if not callable(value):
            yield "a pickle", repr(pickle.dumps(value))


def test_a_key_in_a_call_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Header fields of one call may carry a key too; errors do not show what was sent in them."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(json_answer({"error": "no"}, 400))

    async def main() -> None:
        async with Server(script) as server:
            async with Client(api_base=f"http://127.0.0.1:{server.port}/v1", model="m") as client:
                with pytest.raises(OpenAIError) as caught:
                    await client.chat("hi", extra_headers={"Authorization": f"Bearer {KEY}"})
                texts = [str(caught.value), deep(vars(caught.value)), repr(pickle.dumps(caught.value))]
                assert not [text for text in texts if KEY in text]

    with LogText() as log:
        run(main())
    assert not [line for line in log.lines if KEY in line]


BAD = KEY + "\r\nX-Evil: 1"


@contextmanager
def refused() -> Iterator[None]:
    """A mistake at construction, whose error must not show what it is about."""
    with pytest.raises((OpenAIError, ValueError)) as caught:
        yield
    text = [f"{place}: {shows}" for place, shows in shown(caught.value) if KEY in shows]
    assert not text, text[0][:300]
    assert len(list(chain(caught.value))) == 1 or not any(KEY in str(one) for one in chain(caught.value))


def test_a_key_that_cannot_be_sent_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Line ends, controls and what Latin-1 cannot carry are refused at construction, without showing the key."""
    for bad in (BAD, KEY + "\0", KEY + "\u20ac", "\x7f" + KEY):
        with refused():
            Client(api_base="http://x/v1", api_key=bad)
        with refused():
            AsyncOpenAI(base_url="http://x/v1", admin_api_key=bad, api_key="k")
        with refused():
            AsyncOpenAI(base_url="http://x/v1", default_headers={"X-Key": bad})
        with refused():
            AsyncOpenAI(base_url="http://x/v1").with_options(api_key=bad)
    with refused():
        Client(api_base=f"http://user:{KEY} @x/v1")
    with refused():
        Client(api_base=f"http://user:{KEY}@x:port/v1")
    monkeypatch.setenv("OPENAI_API_KEY", BAD)
    with refused():
        Client(api_base="http://x/v1")


@pytest.mark.parametrize("value", [BAD, "", None, 5, b"bytes"])
def test_an_asked_key_that_cannot_be_sent_is_not_quoted(value: Any) -> None:
    """The same for what the function answers, at the call."""

    async def key() -> Any:
        return value

    async def main() -> None:
        async with Client(api_base="http://127.0.0.1:9/v1", api_key=key, model="m") as client:
            with refused():
                await client.chat("hi")

    run(main())


def test_a_proxys_password_is_shown_nowhere() -> None:
    """Userinfo of a proxy is sent to the proxy and shown to nobody, also when the proxy refuses and echoes it."""

    async def script(peer: Peer) -> None:
        request = await peer.request()
        assert BASIC in str(request.fields)
        await peer.send(answer(ECHO, 407))

    async def main() -> None:
        async with Server(script) as server:
            for base in ("http://elsewhere.example/v1", "https://elsewhere.example/v1"):
                other: dict[str, Any] = {"proxy": f"http://user:{IN_URL}@127.0.0.1:{server.port}", "ssl": CONTEXT}
                async with Client(api_base=base, model="m", http_other=other, max_retries=0) as client:
                    problems = [text for _, text in of_client(client) if IN_URL in text or KEY in text]
                    assert not problems
                    with pytest.raises(OpenAIError) as caught:
                        await client.chat("hi")
                    assert IN_URL not in deep(vars(caught.value)) + str(caught.value)

    with LogText() as log:
        run(main())
    assert not [line for line in log.lines if BASIC in line or IN_URL in line]


CONTEXT = ssl.create_default_context()


def test_the_log_is_looked_at() -> None:
    """What looks for keys in the log sees DEBUG lines of the library."""

    async def main() -> None:
        async with Server() as server, Client(api_base=f"http://127.0.0.1:{server.port}/v1", model="m") as client:
            with pytest.raises(OpenAIError):
                await client.chat("hi")

    with LogText() as log:
        run(main())
    assert any("openaiasync" in line and "sending" in line for line in log.lines)
    assert logging.getLogger("openaiasync").level == logging.NOTSET
