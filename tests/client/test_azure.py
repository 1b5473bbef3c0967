"""`AsyncAzureOpenAI`: where its requests go, with which credentials, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import openaiasync
from conftest import run
from faults.invariants import deep, error_faults
from openaiasync import AsyncAzureOpenAI, ConfigurationError
from openaiasync.lib.azure import MutuallyExclusiveAuthError
from realtime.loopback import CREATED, loopback, say
from scripted import CHAT, Scripted, Seen, chat, chunk, events, json_answer, scripted

KEY = "azure-key-of-the-tests"
TOKEN = "entra-token-of-the-tests"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
LIST = {"object": "list", "data": []}


async def anything(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """A chat for a POST, an empty list for the rest."""
    if seen.method == "GET":
        writer.write(json_answer(LIST))
    else:
        await chat(seen, writer)


def client_of(server: Scripted, **options: Any) -> AsyncAzureOpenAI:
    given = {"azure_endpoint": server.url.removesuffix("/v1"), "api_version": "2025-04-01", "api_key": KEY}
    return AsyncAzureOpenAI(**{**given, **options})


async def chats(client: Any, model: str = "gpt 4") -> Any:
    return await client.chat.completions.create(model=model, messages=MESSAGES)


CALLS: dict[str, Callable[[AsyncAzureOpenAI], Any]] = {
    "chat/completions": chats,
    "chat": lambda client: client.chat("hi", model="gpt 4"),
    "completions": lambda client: client.completions.create(model="gpt 4", prompt="a"),
    "embeddings": lambda client: client.embeddings.create(model="gpt 4", input="a"),
    "images/generations": lambda client: client.images.generate(model="gpt 4", prompt="a"),
    "images/edits": lambda client: client.images.edit(model="gpt 4", prompt="a", image=b"x"),
    "audio/speech": lambda client: client.audio.speech.create(model="gpt 4", voice="alloy", input="a"),
    "audio/transcriptions": lambda client: client.audio.transcriptions.create(model="gpt 4", file=b"x"),
    "audio/translations": lambda client: client.audio.translations.create(model="gpt 4", file=b"x"),
    "post": lambda client: client.post("/chat/completions", cast_to=dict, body={"model": "gpt 4"}),
}
PATHS = {"chat": "chat/completions", "post": "chat/completions"}


class TestPaths:
    """The model, or the deployment, stands in the path of the operations that have one."""

    @pytest.mark.parametrize("name", list(CALLS))
    @pytest.mark.parametrize("deployment", [None, "mine"])
    def test_operations_with_a_deployment(self, name: str, deployment: str | None) -> None:
        """`azure_deployment` for all of them, or each call's model; version and key are there."""

        async def main() -> None:
            async with scripted(anything) as server, client_of(server, azure_deployment=deployment) as client:
                with contextlib.suppress(openaiasync.APIError):  # the answer is a chat, whatever was asked
                    await CALLS[name](client)
            seen = server.seen[0]
            path = f"/openai/deployments/{deployment or 'gpt%204'}/{PATHS.get(name, name)}"
            assert seen.target == f"{path}?api-version=2025-04-01"
            assert seen.headers["api-key"] == KEY
            assert "authorization" not in seen.headers

        run(main())

    @pytest.mark.parametrize("deployment", [None, "mine"])
    def test_operations_without_one(self, deployment: str | None) -> None:
        """Everything else is right below the resource, streams and raw answers among them as they are."""

        async def main() -> None:
            async with scripted(anything) as server, client_of(server, azure_deployment=deployment) as client:
                await client.models.list()
                await client.files.list(limit=3, extra_query={"x": 1})
                raw = await client.models.with_raw_response.list()
                assert raw.status_code == 200
                async with client.chat.completions.with_streaming_response.create(
                    model="m", messages=MESSAGES, extra_query={"x": 1}
                ) as response:
                    await response.read()
            targets = [seen.target for seen in server.seen]
            chat_path = f"/openai/deployments/{deployment or 'm'}/chat/completions?api-version=2025-04-01&x=1"
            assert targets == [
                "/openai/models?api-version=2025-04-01",
                "/openai/files?api-version=2025-04-01&limit=3&x=1",
                "/openai/models?api-version=2025-04-01",
                chat_path,
            ]

        run(main())

    @pytest.mark.parametrize(
        ("base", "path"),
        [
            ("/v9", "/v9/deployments/m/chat/completions"),
            ("/openai/deployments/d", "/openai/deployments/d/chat/completions"),
        ],
    )
    def test_a_base_of_its_own(self, base: str, path: str) -> None:
        """`base_url` in place of the endpoint; one that is a deployment's already stays as it is."""

        async def main() -> None:
            async with scripted(anything) as server:
                url = server.url.removesuffix("/v1") + base
                async with client_of(server, azure_endpoint=None, base_url=url) as client:
                    assert client.base_url == f"{url}/"
                    await chats(client, "m")
            assert server.seen[0].target == f"{path}?api-version=2025-04-01"

        run(main())

    def test_streams(self) -> None:
        """A stream is asked for in the same place."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(events([chunk("Hello."), chunk(finish="stop")]))

        async def main() -> None:
            async with scripted(script) as server, client_of(server) as client:
                stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
                assert "".join([chunk.text async for chunk in stream]) == "Hello."
            assert server.seen[0].target.startswith("/openai/deployments/m/chat/completions?")

        run(main())


class TestCredentials:
    """One of a key, a token and a function that answers tokens."""

    def test_tokens(self) -> None:
        """A token, and one that is asked for at each try: asynchronous, or blocking in a thread of its own."""
        threads: list[bool] = []

        async def asynchronous() -> str:
            return f"{TOKEN}-a"

        def blocking() -> str:
            threads.append(threading.current_thread() is threading.main_thread())
            return f"{TOKEN}-{len(threads)}"

        async def main() -> None:
            async with scripted(anything) as server:
                async with client_of(server, api_key=None, azure_ad_token=TOKEN) as client:
                    assert client.api_key == ""
                    await chats(client)
                    await chats(client.with_options(azure_ad_token_provider=asynchronous))
                    turned = client.with_options(azure_ad_token_provider=blocking, max_retries=0)
                    await chats(turned)
                    await chats(turned)
                    await chats(turned.with_options(api_key=KEY))
            sent = [(seen.headers.get("authorization"), seen.headers.get("api-key")) for seen in server.seen]
            assert sent == [
                (f"Bearer {TOKEN}", None),
                (f"Bearer {TOKEN}-a", None),
                (f"Bearer {TOKEN}-1", None),
                (f"Bearer {TOKEN}-2", None),
                (None, KEY),
            ]
            assert threads == [False, False]

        run(main())

    def test_a_function_for_keys(self) -> None:
        """`api_key` may be an asynchronous function, as everywhere; the caller's own fields win."""

        async def key() -> str:
            return KEY

        async def main() -> None:
            async with scripted(anything) as server, client_of(server, api_key=key) as client:
                await chats(client)
                await client.models.list(extra_headers={"api-key": "other"})
                client.api_key = "next"
                await chats(client)
            assert [seen.headers["api-key"] for seen in server.seen] == [KEY, "other", "next"]

        run(main())

    @pytest.mark.parametrize("answer", ["", None, 5])
    def test_a_function_that_answers_no_token(self, answer: Any) -> None:
        """Is told by its name; nothing is sent."""

        async def main() -> None:
            async with scripted(anything) as server:
                async with client_of(server, api_key=None, azure_ad_token_provider=lambda: answer) as client:
                    with pytest.raises(ConfigurationError, match="azure_ad_token_provider"):
                        await chats(client)
            assert server.seen == []

        run(main())

    def test_a_function_that_hangs(self) -> None:
        """The call's deadline ends it, also where it blocks a thread."""
        release = threading.Event()

        def hang() -> str:
            release.wait(20)
            return TOKEN

        async def main() -> None:
            async with scripted(anything) as server:
                async with client_of(server, api_key=None, azure_ad_token_provider=hang) as client:
                    with pytest.raises(openaiasync.APITimeoutError) as caught:
                        await client.with_options(http_deadline=0.1).models.list()
                    assert caught.value.clock == "deadline"

        run(main())
        release.set()

    def test_a_key_is_shown_nowhere(self) -> None:
        """Not by the client, and not by an error of a server that echoes it."""

        async def echo(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({"error": {"message": f"bad {seen.headers['api-key']}"}}, 401))

        async def main() -> None:
            async with scripted(echo) as server, client_of(server) as client:
                assert KEY not in deep(client) + deep(client._config)
                with pytest.raises(openaiasync.AuthenticationError, match=r"bad \[key\]") as caught:
                    await chats(client)
                assert not error_faults(caught.value, OSError, KEY)

        run(main())


class TestOptions:
    """What it takes, from where, and what it refuses."""

    def test_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Endpoint, version and credentials come from it; a token wins over a key; a given one over both."""
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com/")
        monkeypatch.setenv("OPENAI_API_VERSION", "v")
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
        monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
        client = AsyncAzureOpenAI()
        assert (client.base_url, client.api_key) == ("https://mine.openai.azure.com/openai/", KEY)
        monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", TOKEN)
        assert AsyncAzureOpenAI().api_key == ""
        assert AsyncAzureOpenAI(api_key="given").api_key == "given"
        assert AsyncAzureOpenAI(azure_deployment="d").base_url == "https://mine.openai.azure.com/openai/deployments/d/"

    @pytest.mark.parametrize(
        ("options", "error", "text"),
        [
            ({"api_key": None}, ConfigurationError, "no credentials"),
            ({"api_version": None}, ConfigurationError, "no API version"),
            ({"azure_endpoint": None}, ConfigurationError, "no endpoint"),
            ({"base_url": "http://h"}, ConfigurationError, "mutually exclusive"),
            ({"azure_endpoint": "h"}, ConfigurationError, "absolute http"),
            ({"azure_ad_token": TOKEN}, MutuallyExclusiveAuthError, "pass one of"),
            ({"azure_ad_token_provider": lambda: TOKEN}, MutuallyExclusiveAuthError, "pass one of"),
            ({"api_key": None, "azure_ad_token_provider": TOKEN}, ConfigurationError, "must be a function"),
            ({"api_key": "a\nb"}, ConfigurationError, "api_key"),
            ({"azure_endpiont": "h"}, TypeError, "azure_endpiont"),
        ],
    )
    def test_what_cannot_work(self, options: dict[str, Any], error: type[Exception], text: str) -> None:
        """Is refused at construction; no message quotes a credential."""
        given = {"azure_endpoint": "http://127.0.0.1:1", "api_version": "v", "api_key": KEY}
        with pytest.raises(error, match=text) as caught:
            AsyncAzureOpenAI(**{**given, **options})
        assert KEY not in str(caught.value)
        assert TOKEN not in str(caught.value)

    def test_without_credentials(self) -> None:
        """Where they are not enforced, none are sent: not those of OpenAI either."""

        async def main() -> None:
            async with scripted(anything) as server:
                async with client_of(server, api_key=None, _enforce_credentials=False) as client:
                    await chats(client)
            assert {"authorization", "api-key"}.isdisjoint(server.seen[0].headers)

        run(main())

    def test_relatives(self) -> None:
        """`with_options` keeps what Azure needs, and changes it; another base leaves the deployment behind."""

        async def main() -> None:
            async with scripted(anything) as server, client_of(server, azure_deployment="one") as client:
                for options in (
                    {"timeout": 5.0},
                    {"api_version": "next", "default_query": {"q": 1}},
                    {"azure_deployment": "two"},
                    {"base_url": f"{server.url}/other"},
                ):
                    relative = client.with_options(**options)
                    assert type(relative) is AsyncAzureOpenAI
                    assert relative._calls.shared is client._calls.shared
                    await chats(relative.copy(max_retries=1), "m")
                with pytest.raises(TypeError, match="no option 'data_residency'"):
                    client.with_options(data_residency="eu")
                with pytest.raises(TypeError, match="no option"):
                    client.with_options(azure_deploymnet="x")
            assert [seen.target for seen in server.seen] == [
                "/openai/deployments/one/chat/completions?api-version=2025-04-01",
                "/openai/deployments/one/chat/completions?q=1&api-version=next",
                "/openai/deployments/two/chat/completions?api-version=2025-04-01",
                "/v1/other/deployments/m/chat/completions?api-version=2025-04-01",
            ]
            assert [seen.headers["api-key"] for seen in server.seen] == [KEY] * 4

        run(main())

    def test_answers_are_those_of_openai(self) -> None:
        """The same types and the same words."""

        async def main() -> None:
            async with scripted(anything) as server, client_of(server) as client:
                assert (await chats(client)).to_dict() == CHAT
                assert (await client.chat("hi", model="m")).text == "Hello."

        run(main())


class TestRealtime:
    """Over WebSockets."""

    @pytest.mark.parametrize(
        ("options", "model", "path"),
        [
            ({}, "m", "/openai/realtime?api-version=2025-04-01&deployment=m"),
            ({"azure_deployment": "d"}, "m", "/openai/realtime?api-version=2025-04-01&deployment=d"),
            ({"websocket": True}, "m", "/ws/realtime?api-version=2025-04-01&deployment=m"),
        ],
    )
    def test_where_it_goes(self, options: dict[str, Any], model: str, path: str) -> None:
        """The deployment is a parameter there, and the key the same field."""

        async def script(ws: ServerConnection) -> None:
            await say(ws, CREATED)

        async def main() -> None:
            async with loopback(script) as server:
                given: dict[str, Any] = {
                    "azure_endpoint": f"http://127.0.0.1:{server.port}",
                    "api_version": "2025-04-01",
                }
                if options.pop("websocket", False):
                    given["websocket_base_url"] = f"ws://127.0.0.1:{server.port}/ws"
                async with AsyncAzureOpenAI(api_key=KEY, **given, **options) as client:
                    async with client.realtime.connect(model=model) as connection:
                        assert (await connection.recv()).type == "session.created"
                    async with client.beta.realtime.connect(model=model):
                        pass
                    with pytest.raises(ConfigurationError, match="needs a model"):
                        await client.with_options(base_url="http://h").realtime.connect().enter()
            assert [request.path for request in server.requests] == [path, path]
            assert (server.field("api-key"), server.field("authorization")) == (KEY, None)

        run(main())
