"""Mistakes that users make: each is refused with the name of what they want, before anything is sent where possible."""

from __future__ import annotations

import asyncio
import logging
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from conftest import run
from openaiasync import AsyncOpenAI, Client, ConfigurationError, NotFoundError, OpenAIError
from openaiasync.server import Server
from openaiasync.types import CreateEmbeddingResponse, ImagesResponse
from openaiasync.types.chat import ChatCompletion, ChatCompletionChunk
from openaiasync.types.responses import Response
from scripted import Seen, answer, scripted

BASE = "http://localhost:1/v1"

CONSTRUCTORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "base_url": (lambda: Client(base_url=BASE), TypeError, "'api_base'"),  # type: ignore[call-arg]
    "timeout": (lambda: Client(timeout=3), TypeError, "'http_timeout'"),  # type: ignore[call-arg]
    "max_in_flight": (lambda: Client(max_in_flight=3), TypeError, "'http_max_in_flight'"),  # type: ignore[call-arg]
    "api_base": (lambda: AsyncOpenAI(api_base=BASE), TypeError, "'base_url'"),  # type: ignore[call-arg]
    "verify": (lambda: Client(verify=False), TypeError, "http_other=.*'ssl'"),  # type: ignore[call-arg]
    "host": (
        lambda: Client(api_base="localhost:8765/v1"),
        ConfigurationError,
        r"api_base.*http://localhost:8765/v1, not 'localhost:8765/v1'",
    ),
    "name": (lambda: Client(api_base="api.example.com/v1"), ConfigurationError, "https://api.example.com/v1"),
    "proxies": (lambda: Client(proxies={}), TypeError, "http_other=.*'proxy'"),  # type: ignore[call-arg]
    "other verify": (lambda: Client(http_other={"verify": False}), TypeError, "'verify'; did you mean 'ssl'"),
    "other proxies": (lambda: Client(http_other={"proxies": {}}), TypeError, "'proxies'; did you mean 'proxy'"),
    "a number as model": (lambda: Client(model=3), TypeError, "a model's name, or a mapping.*not int"),  # type: ignore[arg-type]
    "default_model": (lambda: Client(default_model="m"), TypeError, "'model'"),  # type: ignore[call-arg]
    "url": (lambda: Client(url=BASE), TypeError, "'api_base'"),  # type: ignore[call-arg]
    "url of AsyncOpenAI": (lambda: AsyncOpenAI(url=BASE), TypeError, "'base_url'"),  # type: ignore[call-arg]
    "token": (lambda: Client(token="sk-1"), TypeError, "'api_key'"),  # type: ignore[call-arg]
    "rpm": (lambda: Client(rpm=60), TypeError, r"limits=Limits\(rpm="),  # type: ignore[call-arg]
    "key by position": (lambda: Client("sk-1"), TypeError, r"^Client\(\) takes 1 .*api_key="),  # type: ignore[misc]
    "pickle": (lambda: pickle.dumps(Client(api_base=BASE)), TypeError, "pass the options instead"),
}


NAMES = {
    "OpenAI": "asynchronous only; use AsyncOpenAI or Client",
    "ChatCompletion": r"the class is openaiasync\.types\.chat\.ChatCompletion; client\.chat\(\.\.\.\) makes the call",
    "Response": r"the class is openaiasync\.types\.responses\.Response$",
    "Server": r"the class is openaiasync\.server\.Server$",
    "FakeServer": r"the class is openaiasync\.testing\.FakeServer$",
    "AsyncChat": r"the class is openaiasync\.resources\.AsyncChat$",
    "Cliennt": "did you mean 'Client'",
    "api_key": r"AsyncOpenAI\(api_key=",
    "nothing": "module 'openaiasync' has no attribute 'nothing'$",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_the_package_lacks(name: str) -> None:
    """An import says where the name is; attribute access says the same, and `hasattr` is False."""
    import openaiasync

    with pytest.raises(ImportError, match=NAMES[name]):
        exec(f"from openaiasync import {name}")
    with pytest.raises(AttributeError, match=NAMES[name]):
        getattr(openaiasync, name)
    assert not hasattr(openaiasync, name)


def test_a_class_of_another_package_of_types() -> None:
    with pytest.raises(
        ImportError,
        match=r"'openaiasync\.types' has no attribute 'ChatCompletion': the class is openaiasync\.types\.chat",
    ):
        exec("from openaiasync.types import ChatCompletion")


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_construction(name: str) -> None:
    """The error names the option that is meant."""
    make, kind, words = CONSTRUCTORS[name]
    with pytest.raises(kind, match=words):
        make()


def test_a_base_without_scheme_shows_no_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client(api_base="user:hunter2@localhost:8765/v1")
    assert "hunter2" not in str(caught.value)


def add(a: int, b: int) -> int:
    return a + b


ANSWER: Any = ChatCompletion.model_construct(choices=[{"index": 0, "message": {"role": "assistant", "content": "hi"}}])


PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
HI: Any = [{"role": "user", "content": "hi"}]

# The method that is called without a model and without a default one, as the error names it.
WITHOUT_MODEL: dict[str, Callable[[Client], Any]] = {
    "client.chat": lambda client: client.chat("hi"),
    "client.chat.stream": lambda client: client.chat.stream("hi"),
    "client.chat.parse": lambda client: client.chat.parse("hi", into=int),
    "client.chat.run_tools": lambda client: client.chat.run_tools("hi", tools=[add]),
    "session.say": lambda client: client.chat.session().say("hi"),
    "client.vision": lambda client: client.vision(image=PNG, prompt="What is it?"),
    "client.embedding": lambda client: client.embedding("hi"),
    "client.embed_many": lambda client: client.embed_many(["hi"]),
    "client.map": lambda client: client.map(["hi"]),
    "client.completion": lambda client: client.completion("hi"),
    "client.text_to_speech": lambda client: client.text_to_speech("hi", voice="alloy"),
    "client.speech_to_text": lambda client: client.speech_to_text(b"RIFF"),
    "client.chat.completions.create": lambda client: client.chat.completions.create(messages=HI),  # type: ignore[call-overload]
    "client.chat.completions.parse": lambda client: client.chat.completions.parse(messages=HI),
    "client.embeddings.create": lambda client: client.embeddings.create(input="hi"),  # type: ignore[call-arg]
    "client.audio.translations.create": lambda client: client.audio.translations.create(file=b"RIFF"),  # type: ignore[call-arg]
    "client.responses.compact": lambda client: client.responses.compact(input="hi"),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("name", WITHOUT_MODEL)
def test_a_missing_model(name: str) -> None:
    """The error names the method that was called, and the default for all calls; nothing is sent."""

    async def main() -> None:
        async with scripted() as server, Client(api_base=server.url) as client:
            wanted = rf"^{re.escape(name)}\(\) is missing the required parameter 'model'; .*Client\(model=\.\.\.\)$"
            with pytest.raises(TypeError, match=wanted):
                await WITHOUT_MODEL[name](client)
            assert server.seen == []

    run(main())


def test_a_model_without_default() -> None:
    """The model to be trained has no default, and the error names none."""

    async def main() -> None:
        async with scripted() as server, Client(api_base=server.url, model="m") as client:
            with pytest.raises(TypeError, match=r"^client\.fine_tuning\.jobs\.create\(\) is missing .*'model'$"):
                await client.fine_tuning.jobs.create(training_file="f")  # type: ignore[call-arg]

    run(main())


CALLS: dict[str, tuple[Callable[[Client], Any], str]] = {
    "unknown": (lambda client: client.chat("hi", colour=1), r"client\.chat\(\).*'colour'.*extra_body"),
    "near": (lambda client: client.chat("hi", temprature=1), "did you mean 'temperature'"),
    "tools": (lambda client: client.chat("hi", tools=[add]), r"'add'.*run_tools.*session"),
    "system": (lambda client: client.chat("hi", system="Be kind."), '"role": "system".*session'),
    "prompt": (lambda client: client.chat(prompt="hi"), "the text is the first argument"),
    "text to embed": (lambda client: client.embedding(text="hi"), r"^client\.embedding\(\) .*first argument"),
    "messages of a response": (lambda client: client.responses.create(messages=[]), "the text is input="),  # type: ignore[call-overload]
    "system of a response": (lambda client: client.responses.create(input="hi", system="x"), "'instructions'"),  # type: ignore[call-overload]
    "system of a turn": (lambda client: client.chat.session().say("hi", system="x"), r"chat\.session\(system=\.\.\.\)"),
    "option of the client": (lambda client: client.chat("hi", api_key="k"), r"client\.with_options\(api_key="),
    "None": (lambda client: client.chat(None), r"^client\.chat\(\) needs 'messages', not None"),
    "number": (lambda client: client.chat(3), "a text or a list of messages, not int"),
    "texts": (lambda client: client.chat(["hi"]), "not a list of texts"),
    "texts in a tuple": (lambda client: client.chat(("hi",)), "not a list of texts"),
    "texts with an option": (lambda client: client.chat(["hi"], timeout=3), "not a list of texts"),
    "texts with a flag": (lambda client: client.chat(["hi"], stream=False), "not a list of texts"),
    "texts in a request": (lambda client: client.chat({"messages": ["hi"]}), "not a list of texts"),
    "numbers": (lambda client: client.chat([3]), "each with a role and content, not a list of int"),
    "an answer": (lambda client: client.chat(ANSWER), "not ChatCompletion"),
    "answers": (lambda client: client.chat([ANSWER]), r"answer\.message"),
    "bytes": (lambda client: client.chat(b"hi"), "not bytes"),
    "embedding of None": (lambda client: client.embedding(None), "'input', not None"),
    "embedding of bytes": (lambda client: client.embedding(b"hi"), r"^client\.embedding\(\) takes a text, not bytes"),
    "speech of a number": (lambda client: client.text_to_speech(3, voice="alloy"), "takes a text, not int"),
    "picture": (lambda client: client.chat("hi", image="a.png"), r"'image'; use client\.vision.*session"),
    "type": (lambda client: client.chat("hi", into=int), r"client\.chat\.parse\(\.\.\., into="),
    "type as format": (lambda client: client.chat("hi", response_format=int), r"client\.chat\.parse\(\.\.\., into=int"),
    "no type": (lambda client: client.chat.parse("hi"), r"^client\.chat\.parse\(\) missing .*'into'"),
    "name of a type": (lambda client: client.chat.parse("hi", into="int"), "A type is needed, .*not the value 'int'"),
    "no tools": (lambda client: client.chat.run_tools("hi"), r"^client\.chat\.run_tools\(\) missing .*'tools'"),
    "misspelled limit of map": (lambda client: client.map(["hi"], max_inflight=3), r"^client\.map\(\).*max_in_flight"),
    "two texts to map": (lambda client: client.map(["a"], "b"), r"^client\.map\(\) takes rows and a function.*not str"),
    "two texts": (lambda client: client.chat("a", "b"), r"^client\.chat\(\) takes from 1 to 2 positional .*one text"),
    "two texts to a stream": (lambda client: client.chat.stream("a", "b"), r"^client\.chat\.stream\(\).*keyword"),
    "two texts in a session": (lambda client: client.chat.session().say("a", "b"), r"^session\.say\(\).*system="),
    "two texts to embed": (
        lambda client: client.embedding("a", "b"),
        r"^client\.embedding\(\) .*several texts are one list",
    ),
    "type by position": (lambda client: client.chat.parse("a", int), r"^client\.chat\.parse\(\) .*into=\.\.\."),
    "voice by position": (
        lambda client: client.text_to_speech("a", "alloy"),
        r"^client\.text_to_speech\(\) .*keywords",
    ),
    "system by position": (lambda client: client.chat.session("x"), r'^client\.chat\.session\(\).*system="'),
    "stream flag": (lambda client: client.chat("hi", stream=True), r"client\.chat\.stream"),
    "awaited stream": (lambda client: client.chat.stream("hi"), "async with"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    """A `TypeError` names the method and what to do; nothing is sent."""
    act, words = CALLS[name]

    async def main() -> None:
        async with scripted() as server, Client(api_base=server.url, model="m") as client:
            with pytest.raises(TypeError, match=words):
                await act(client)
            assert server.seen == []

    run(main())


@pytest.mark.parametrize("path", ["", "/api", "/openai"])
def test_a_base_without_version(path: str) -> None:
    """A 404 asks whether the base lacks /v1; one with it does not."""

    async def main() -> None:
        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(b"404 page not found", 404, "text/plain"))

        async with scripted(script) as server:
            root = server.url.removesuffix("/v1")
            async with Client(api_base=root + path, model="m") as client:
                with pytest.raises(NotFoundError, match=rf"lack /v1, as in {root}/v1\?") as caught:
                    await client.chat("hi")
                assert "404 page not found" in str(caught.value)
            async with Client(api_base=server.url, model="m") as client:
                with pytest.raises(NotFoundError) as caught:
                    await client.chat("hi")
                assert "lack" not in str(caught.value)

    run(main())


@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings/", "/models"])
@pytest.mark.parametrize("version", ["", "/v1"])
def test_a_base_that_ends_with_an_operation(version: str, path: str) -> None:
    """A 404 says where to end the base."""

    async def main() -> None:
        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(b"404 page not found", 404, "text/plain"))

        async with scripted(script) as server:
            root = server.url.removesuffix("/v1")
            async with Client(api_base=root + version + path, model="m") as client:
                with pytest.raises(NotFoundError, match=rf"path of an operation: shorten it to {root}/v1 "):
                    await client.chat("hi")

    run(main())


def test_a_base_that_repeats_its_version() -> None:
    async def main() -> None:
        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(b"404 page not found", 404, "text/plain"))

        async with scripted(script) as server, Client(api_base=f"{server.url}/v1", model="m") as client:
            with pytest.raises(NotFoundError, match=rf"repeats its version: shorten it to {server.url} "):
                await client.chat("hi")

    run(main())


@pytest.mark.parametrize("said", [b"", b"\x15\x03\x03\x00\x02\x02\x46"])
def test_http_to_a_tls_server(said: bytes) -> None:
    """A server that sends an alert, or closes without a byte, may speak TLS: the error asks for https."""

    async def main() -> None:
        async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(said)
            writer.close()

        async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with Client(api_base=f"http://127.0.0.1:{port}/v1", model="m", max_retries=0) as client:
                with pytest.raises(OpenAIError, match="URL begins with https://"):
                    await client.chat("hi")

    run(main())


def test_https_to_a_plain_server() -> None:
    """The error asks for the other scheme."""

    async def main() -> None:
        async with Server().serving() as plain:
            base = plain.replace("http:", "https:")
            async with Client(api_base=base, model="m", max_retries=0) as client:
                with pytest.raises(OpenAIError, match=r"plain HTTP\?.*http://"):
                    await client.chat("hi")

    run(main())


def test_many_waiting_calls_are_one_warning(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand calls over two slots: one line a minute, with their number."""
    monkeypatch.setattr("openaiasync.engine.in_flight.SLOW_QUEUE", 0.1)

    async def main() -> None:
        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3600)

        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            calls = [asyncio.ensure_future(client.chat("hi")) for _ in range(1000)]
            await asyncio.sleep(1.5)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    with caplog.at_level(logging.WARNING, "openaiasync"):
        run(main())
    [record] = caplog.records
    assert "998 calls have waited" in record.getMessage()


def test_reprs_tell_the_state() -> None:
    """A closed client shows that it is closed, and a session counts its turns."""

    async def main() -> None:
        async with scripted() as server:
            async with Client(api_base=server.url, model="m") as client:
                session = client.chat.session()
                await session.say("hi")
                assert repr(session) == "<ChatSession with the default model: 1 turn>"
                assert "hi" in session._repr_markdown_()
                assert repr(client) == f"<Client {server.url}>"
            assert repr(client) == f"<Client {server.url}, closed>"

    run(main())


def test_attributes_that_answers_lack() -> None:
    """The error says where the value is; `hasattr` and `dir` know nothing of the name, and a server's field wins."""
    for made, name, words in (
        (ANSWER, "content", r"\.text, or \.choices\[0\]\.message\.content"),
        (ANSWER, "parsed", r"client\.chat\.parse"),
        (ANSWER, "json", r"to_json\(\)"),
        (ChatCompletionChunk.model_construct(choices=[]), "content", r"\.text, or \.choices\[0\]\.delta\.content"),
        (CreateEmbeddingResponse.model_construct(data=[]), "embedding", r"\.vectors"),
        (ImagesResponse.model_construct(data=[]), "url", r"\.data\[0\]\.url"),
        (Response.model_construct(output=[]), "content", r"\.output_text"),
    ):
        with pytest.raises(
            AttributeError, match=rf"^'{type(made).__name__}' object has no attribute '{name}': .*{words}"
        ):
            getattr(made, name)
        assert not hasattr(made, name)
        assert name not in dir(made)
    assert "text" in dir(ANSWER)
    with pytest.raises(TypeError, match=r"write \.choices; to_dict\(\)"):
        ANSWER["choices"]
    assert ChatCompletion.model_construct(choices=[], content="a server's own").content == "a server's own"  # type: ignore[attr-defined]
