"""Keys in what a caller hands in: no error about the arguments shows them, whichever method found the mistake."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from conftest import run
from openaiasync import APIStatusError, AsyncOpenAI, Client, ConfigurationError
from openaiasync.core.model.secrets import HiddenFields, Secret, Secrets
from openaiasync.realtime.reconnect import ReconnectPolicy
from openaiasync.transport.tcp import TcpSettings
from scripted import answer
from wireserver import Peer, Server

KEY = "sk-Planted/0123+4567"
HI: Any = [{"role": "user", "content": "hi"}]
EXTRA: Any = {"X-Extra": KEY}

Method = Callable[[Any], Any]


def session(client: Any) -> Any:
    return client.chat.session(nonsense=1, extra_headers=EXTRA)


def session_stream(client: Any) -> Any:
    return client.chat.session().stream("hi", nonsense=1, extra_headers=EXTRA)


def chat_stream_of_a_dict(client: Any) -> Any:
    return client.chat.stream({"messages": HI, "nonsense": 1, "extra_headers": EXTRA})


def stream_tools(client: Any) -> Any:
    return client.chat.stream_tools("hi", tools=[3], extra_headers=EXTRA)


def stream_parse(client: Any) -> Any:
    return client.chat.stream_parse("hi", into=3, extra_headers=EXTRA)


def pages(client: Any) -> Any:
    return client.models.list(nonsense=1, extra_headers=EXTRA)


def connect(client: Any) -> Any:
    return client.realtime.connect(model="m", nonsense=1, extra_headers=EXTRA)


def vision_stream(client: Any) -> Any:
    return client.vision.stream(3, "what?", extra_headers=EXTRA)


async def vision(client: Any) -> Any:
    return await client.vision(3, "what?", extra_headers=EXTRA)


async def fields_in_a_list(client: Any) -> Any:
    return await client.chat("hi", extra_headers=[KEY])


async def query_in_a_list(client: Any) -> Any:
    return await client.chat("hi", extra_query=[KEY])


def webhook(client: Any) -> Any:
    return client.webhooks.unwrap("{}", {}, secret=f"whsec_{KEY}!!")


def forged_webhook(client: Any) -> Any:
    headers = {"webhook-signature": "v1,AAAA", "webhook-timestamp": "1", "webhook-id": "x"}
    return client.webhooks.verify_signature("{}", headers, secret=KEY)


METHODS: list[Method] = [
    session, session_stream, chat_stream_of_a_dict, stream_tools, stream_parse, pages, connect, vision_stream, vision,
    fields_in_a_list, query_in_a_list, webhook, forged_webhook,
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_no_argument_error_shows_a_key(method: Method) -> None:
    """`TypeError` and `ValueError` about arguments: no key in the text or in the locals of any frame."""

    async def main() -> None:
        async with Client(api_base="http://127.0.0.1:1/v1", model="m") as client:
            made = method(client)
            if asyncio.iscoroutine(made):
                await made

    with pytest.raises((TypeError, ValueError)) as caught:
        run(main())
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert KEY not in text


def test_an_echo_quoted_twice_is_taken_out() -> None:
    """A gateway that quotes another server's JSON in the text of its own error writes a key with other escapes."""
    theirs = json.dumps({"error": {"message": json.dumps({"key": KEY}).replace("/", "\\/")}})
    body = json.dumps({"error": {"message": theirs}}).encode()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(body, 401))

    async def main() -> None:
        async with Server(script) as server:
            async with AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=KEY, max_retries=0) as client:
                await client.models.list()

    with pytest.raises(APIStatusError) as caught:
        run(main())
    assert "[key]" in str(caught.value)
    for text in (str(caught.value), repr(caught.value.body), repr(pickle.dumps(caught.value))):
        assert "0123+4567" not in text


def test_json_of_a_raw_answer_shows_no_key() -> None:
    """What is not JSON raises `ValueError` without the key that the body echoes."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(f"not JSON: {KEY}".encode()))

    async def main() -> None:
        async with Server(script) as server:
            async with AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=KEY, max_retries=0) as client:
                methods = client.chat.completions.with_streaming_response
                async with methods.create(messages=HI, model="m") as raw:
                    await raw.json()

    with pytest.raises(json.JSONDecodeError) as caught:
        run(main())
    assert "[key]" in caught.value.doc
    assert KEY not in caught.value.doc
    assert b"0123" not in pickle.dumps(caught.value)


def test_settings_with_a_password_are_not_pickled() -> None:
    """`TcpSettings` whose proxy has a password refuse; others pickle; copies share them."""
    hidden = TcpSettings(proxy="http://user:password@proxy:1")
    with pytest.raises(TypeError, match="proxy's password"):
        pickle.dumps(hidden)
    assert copy.copy(hidden) is copy.deepcopy(hidden) is hidden
    plain = TcpSettings(proxy="http://proxy:1", keepalive=3.0)
    assert pickle.loads(pickle.dumps(plain)) == plain


def test_header_fields_of_a_reconnection_are_hidden_once() -> None:
    """Realtime hides a caller's header fields as every other call does."""
    policy = ReconnectPolicy(None, 1, 0.0, 0.0, {}, HiddenFields({"X": KEY}))
    assert repr(policy.extra_headers) == "{'X': '[redacted]'}"
    assert policy.extra_headers["X"] == KEY


def test_limits_of_another_type() -> None:
    """`limits=` of another type is a configuration error."""
    wrong: Any = KEY
    with pytest.raises(ConfigurationError, match="limits must be a Limits, not str"):
        Client(api_base="http://127.0.0.1:1/v1", limits=wrong)


@pytest.mark.parametrize("path", ["x y", "/x\r\nX-Injected: 1", "/é", "/a?b=c d"])
def test_paths_are_encoded(path: str) -> None:
    """A path that the caller writes cannot end the request line, whatever it holds."""
    lines: list[str] = []

    async def script(peer: Peer) -> None:
        request = await peer.request()
        lines.append(request.line.split(" ")[1])
        assert request.field("x-injected") is None
        await peer.send(answer(b"{}"))

    async def main() -> None:
        async with Server(script) as server:
            async with AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0, api_key="k") as client:
                await client.get(path, cast_to=dict)

    run(main())
    assert len(lines[0].split()) == 1
    assert lines[0].startswith("/v1/")
    assert lines[0].isascii()
    assert lines[0].isprintable()
    assert " " not in lines[0]


class TestCleaning:
    """`Secrets.clean`, which looks at all texts of a value at once before it looks at each."""

    secrets = Secrets(Secret(KEY), Secret("12345678"))

    def test_what_holds_none_stays(self) -> None:
        value = {"a": ["b", {"c": (1, 2.5, None, True, b"d")}], "e": [Secret("x")]}
        assert self.secrets.clean(value) is value

    @pytest.mark.parametrize("value", [KEY, KEY.encode(), 12345678], ids=["text", "bytes", "number"])
    def test_wherever_one_stands(self, value: Any) -> None:
        for made in ([value], {"a": [value]}, {"a": ({"b": value},)}, [["x", [value]]]):
            assert KEY not in repr(self.secrets.clean(made))
            assert "12345678" not in repr(self.secrets.clean(made))

    def test_what_is_nested_too_deeply_is_cut(self) -> None:
        deep: Any = KEY
        for _ in range(200):
            deep = [deep]
        assert KEY not in repr(self.secrets.clean(deep))
