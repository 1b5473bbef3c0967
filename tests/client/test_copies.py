"""Copies and pickles of clients, and what their configuration shows of itself."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

import pytest

from conftest import run
from openaiasync import AsyncAzureOpenAI, AsyncOpenAI, Client, ConfigurationError
from openaiasync.engine.config import BaseURL
from scripted import json_answer, scripted

KEY = "sk-Planted/0123+4567=89"
IN_URL = "sk-Planted%2F0123%2B4567%3D89"


class Named(Client):
    """A client of a user's, with an attribute of its own."""

    tags: list[str]


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_a_copy_calls_with_the_key_over_the_same_connections(how: Any) -> None:
    """What holds a client may be copied, as pydantic and others do: the copy is as good as the client."""

    async def main() -> None:
        async with scripted() as server, Named(api_base=server.url, api_key=KEY, model="m") as client:
            client.tags = ["a"]
            await client.chat("hi")
            twin = how(client)
            assert type(twin) is Named
            assert twin.api_key == KEY
            assert twin.tags == ["a"]
            assert (twin.tags is client.tags) is (how is copy.copy)
            await twin.chat("hi")
            twin.api_key = "another"
            await client.chat("hi")
            await how(client.chat)("hi")  # a namespace, too
            assert [one.headers["authorization"] for one in server.seen] == [f"Bearer {KEY}"] * 4
            assert server.connections == 1
            await twin.aclose()
            assert client.is_closed()

    run(main())


def test_copies_of_other_clients() -> None:
    """Azure's client and one with a function for a key keep theirs."""

    async def key() -> str:
        return KEY

    azure = AsyncAzureOpenAI(azure_endpoint="https://h", api_key=KEY, api_version="1")
    assert copy.deepcopy(azure).api_key == KEY
    assert copy.deepcopy(AsyncOpenAI(base_url="http://h/v1", api_key=key))._calls.config.key is key


def test_pickling_is_refused_with_advice() -> None:
    """Connections cannot be pickled, and a key should not."""
    client = Client(api_base=f"http://user:{IN_URL}@h/v1", model="m")
    for value in (client, client.chat, client._config):
        with pytest.raises(TypeError, match=r"pickled") as caught:
            pickle.dumps(value)
        assert KEY not in str(caught.value)


def test_a_configuration_shows_no_secret() -> None:
    """Not in the query of the base, not in the default query, not in a proxy's URL; nor in pickles."""
    client = AsyncOpenAI(base_url=f"http://h/v1?api-key={IN_URL}", default_query={"token": KEY}, api_key="k")
    base = BaseURL(f"http://u:{IN_URL}@h/v1?api-key={KEY}&a=b")
    proxied = Client(api_base="http://h/v1", http_other={"proxy": f"http://u:{IN_URL}@h:1"})
    shown = [client, client._config, str(client.base_url), base, str(base), proxied._config]
    assert not [one for one in map(repr, shown) if KEY in one or IN_URL in one]
    assert not [one for one in (KEY, IN_URL) if one.encode() in pickle.dumps(base)]
    assert "a=b" in str(base)


def refused(make: Any) -> str:
    """The error of a mistake, as a logger shows it with all locals; the test's own frames know the key."""
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    error = caught.value
    trace = error.__traceback__
    while trace is not None and "/tests/" in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    told = traceback.TracebackException(type(error), error, trace, capture_locals=True)
    text = "".join(told.format()) + repr(error.__context__) + repr(error.__cause__)
    assert KEY not in text, text
    return str(error)


def test_mistakes_show_no_key() -> None:
    """A TypeError or ConfigurationError of a constructor, a setter, `with_options`, for a key of the wrong type."""
    client: Any = Client(api_base="http://h/v1", api_key="k")
    refused(lambda: Client(api_base="http://h/v1", api_key=KEY, http_other={"wrong": 1}))
    refused(lambda: Client(api_base="http://h/v1", api_key=KEY.encode()))  # type: ignore[arg-type]
    refused(lambda: client.with_options(api_key=KEY, wrong=1))
    refused(lambda: setattr(client, "api_key", KEY.encode()))
    refused(lambda: setattr(client, "api_key", KEY + "\n1"))
    refused(lambda: setattr(client, "webhook_secret", KEY.encode()))
    refused(lambda: setattr(client, "base_url", f"http://u:{KEY}@h:port/v1"))
    refused(lambda: AsyncOpenAI(base_url="http://h/v1", default_headers={f"Authorization: Bearer {KEY}": "x"}))
    refused(lambda: AsyncAzureOpenAI(azure_endpoint="https://h", api_version="1", azure_ad_token=KEY.encode()))  # type: ignore[arg-type]


FRAMING = ["Host", "content-length", "Transfer-Encoding", "Connection", "Upgrade", "Keep-Alive", "Sec-WebSocket-Key"]
BAD = [
    *((name, "1") for name in FRAMING),
    ("X-A", "a\r\nb: c"),
    ("X A", "1"),
    ("", "1"),
    ("X-A", "\0"),
    ("X-A", "€"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_fields_that_would_change_the_message_are_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From every source: what frames a message is written by the library alone, or another request is smuggled in."""
    fields = {name: value}
    refused(lambda: AsyncOpenAI(base_url="http://h/v1", default_headers=fields))
    refused(lambda: AsyncOpenAI(base_url="http://h/v1").with_options(default_headers=fields))
    if name and "\r" not in value and "\0" not in value:
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"{name}: {value}")
        refused(lambda: Client(api_base="http://h/v1"))
        monkeypatch.delenv("OPENAI_CUSTOM_HEADERS")

    async def main() -> None:
        async with scripted() as server, Client(api_base=server.url, model="m") as client:
            with pytest.raises(ConfigurationError):
                await client.chat("hi", extra_headers=fields)
            with pytest.raises(ConfigurationError):
                await client.get("/x", cast_to=dict, options={"headers": fields})
            with pytest.raises(ConfigurationError):
                async with AsyncOpenAI(base_url=server.url, api_key="k").realtime.connect(
                    model="m", extra_headers=fields
                ):
                    pass
            assert not server.seen

    run(main())


def test_fields_of_the_environment_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field of the client's own takes the place of the environment's, whatever the case of its name."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: a\nX-Other: b")

    async def main() -> None:
        async def script(seen: Any, writer: Any) -> None:
            writer.write(json_answer({"object": "list", "data": []}))

        async with scripted(script) as server:
            async with AsyncOpenAI(base_url=server.url, api_key="k", default_headers={"x-team": b"c"}) as client:
                await client.models.list()
        assert (server.seen[0].headers["x-team"], server.seen[0].headers["x-other"]) == ("c", "b")

    run(main())


def test_what_a_base_may_be() -> None:
    """Port 0 is refused; what is not ASCII in path and query is percent-encoded, once."""
    for url in ("http://h:0/v1", "http://h\\@evil/v1", "http://h<x>/v1"):
        with pytest.raises(ConfigurationError):
            Client(api_base=url)
    base = BaseURL("http://h/v1/größe/%41?name=ü&x=%C3")
    assert base.target("/chat") == "/v1/gr%C3%B6%C3%9Fe/%41/chat?name=%C3%BC&x=%C3"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_deployment_is_no_other_path(name: str) -> None:
    """Neither the client's deployment nor a call's model may leave the path of deployments."""
    with pytest.raises(ConfigurationError, match="azure_deployment"):
        AsyncAzureOpenAI(azure_endpoint="https://h", api_key="k", api_version="1", azure_deployment=name)

    async def main() -> None:
        async with AsyncAzureOpenAI(azure_endpoint="https://h", api_key="k", api_version="1") as client:
            with pytest.raises(ValueError, match="another path"):
                await client.embeddings.create(input="hi", model=name)

    run(main())
