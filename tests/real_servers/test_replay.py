"""Every recorded exchange of chat, completions, embeddings and models, played back to our client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import openaiasync
from conftest import run
from openaiasync import APIConnectionError, APIStatusError, Client, IncompleteStreamError

from .replay import Replay, replaying
from .transcripts import Exchange, read_all

PATHS = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models"}
STATUS_ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    405: "APIStatusError",
    422: "UnprocessableEntityError",
    500: "InternalServerError",
    501: "InternalServerError",
}
# A request of each path for answers to what our client would not send (no JSON, no messages).
USUAL: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"model": "tiny", "prompt": "hi"},
    "/v1/embeddings": {"model": "tiny", "input": "hi"},
}


def is_ours(exchange: Exchange) -> bool:
    one_model = exchange.path.startswith("/v1/models/") and len(exchange.path) > len("/v1/models/")
    return exchange.method in ("GET", "POST") and (exchange.path in PATHS or one_model)


OURS = [exchange for exchange in read_all() if is_ours(exchange) and exchange.status != 307]
ERRORS = [exchange for exchange in OURS if exchange.status >= 400]
STREAMS = [exchange for exchange in OURS if exchange.status == 200 and exchange.is_stream]
ANSWERS = [exchange for exchange in OURS if exchange.status == 200 and not exchange.is_stream]


def exchanges(of: list[Exchange]) -> Any:
    return pytest.mark.parametrize("exchange", of, ids=lambda exchange: exchange.name.replace(" ", "-"))


def request_of(exchange: Exchange) -> dict[str, Any]:
    """The recorded request as keyword arguments: unknown fields go into `extra_body`."""
    usual = USUAL[exchange.path]
    sent = exchange.request or usual
    if not usual.keys() <= sent.keys():
        sent = {**usual, **sent}
    known = parameters_of(exchange.path) | {"stream"}
    extra = {name: value for name, value in sent.items() if name not in known}
    params = {name: value for name, value in sent.items() if name in known}
    if exchange.is_stream:
        params["stream"] = True
    return {**params, "extra_body": extra} if extra else params


def parameters_of(path: str) -> frozenset[str]:
    from openaiasync import endpoints

    row = {
        "/v1/chat/completions": "chat.completions.create",
        "/v1/completions": "completions.create",
        "/v1/embeddings": "embeddings.create",
    }[path]
    return frozenset(endpoints.ENDPOINTS[row].accepted)


def call(client: Client, exchange: Exchange) -> Awaitable[Any]:
    """The official method of the exchange's path, with its request."""
    if exchange.method == "GET" or exchange.path.startswith("/v1/models"):
        name = exchange.path.removeprefix("/v1/models").strip("/")
        return client.models.retrieve(name) if name else client.models.list()
    methods: dict[str, Callable[..., Awaitable[Any]]] = {
        "/v1/chat/completions": client.chat.completions.create,
        "/v1/completions": client.completions.create,
        "/v1/embeddings": client.embeddings.create,
    }
    return methods[exchange.path](**request_of(exchange))


def client_of(replay: Replay) -> Client:
    return Client(api_base=replay.url, api_key="sk-of-the-tests", max_retries=0, http_timeout=10, http_stall_timeout=10)


def lost(expected: Any, got: Any, where: str = "") -> list[str]:
    """Where `got` lacks something that is in `expected`; a `null` may be left out."""
    if isinstance(expected, dict):
        if not isinstance(got, dict):
            return [f"{where}: {got!r}"]
        return [
            fault
            for key, value in expected.items()
            if not (value is None and key not in got)
            for fault in lost(value, got.get(key), f"{where}.{key}")
        ]
    if isinstance(expected, list):
        if not isinstance(got, list) or len(got) != len(expected):
            return [f"{where}: {got!r}"]
        return [
            fault
            for index, (one, other) in enumerate(zip(expected, got, strict=True))
            for fault in lost(one, other, f"{where}[{index}]")
        ]
    return [] if expected == got and type(expected) is type(got) else [f"{where}: {got!r}, not {expected!r}"]


def test_the_recordings_are_all_there() -> None:
    """None of the kinds of answer has gone missing from what is played back."""
    assert len(ERRORS) == 54
    assert len(ANSWERS) == 93
    assert len(STREAMS) == 37
    assert sum(exchange.cut for exchange in STREAMS) == 2


@exchanges(ERRORS)
def test_an_error_is_the_class_of_its_status(exchange: Exchange) -> None:
    """Whatever shape its body has, a refusal raises the class of its status and shows what the server said."""

    async def main() -> None:
        async with replaying(exchange) as replay, client_of(replay) as client:
            with pytest.raises(APIStatusError) as caught:
                await call(client, exchange)
            error = caught.value
            assert type(error) is getattr(openaiasync, STATUS_ERRORS[exchange.status])
            assert error.status_code == exchange.status
            assert error.response.content == exchange.body
            assert replay.bodies
            assert " ".join(said(exchange.body).split()) in str(error)

    run(main())


def said(body: bytes) -> str:
    """The words of the server, from whichever shape its error has."""
    try:
        value = json.loads(body)
    except ValueError:
        return ""
    if isinstance(value, dict) and isinstance(error := value.get("error"), dict):
        return str(error["message"])
    detail = value.get("detail") if isinstance(value, dict) else None
    return detail if isinstance(detail, str) else ""


@exchanges([exchange for exchange in ANSWERS if not exchange.cut])
def test_an_answer_loses_nothing(exchange: Exchange) -> None:
    """A recorded answer is decoded without an error, and its dump is the server's JSON, no more and no less."""

    async def main() -> None:
        async with replaying(exchange) as replay, client_of(replay) as client:
            answer = await call(client, exchange)
            assert answer.to_dict() == json.loads(exchange.body)
            assert answer.meta.status == 200
            sent = json.loads(replay.bodies[0]) if replay.bodies[0] else {}
            if exchange.method == "POST" and exchange.request is not None and "messages" in exchange.request:
                assert lost(exchange.request, sent) == []

    run(main())


@exchanges([exchange for exchange in ANSWERS if exchange.cut])
def test_a_cut_answer_is_an_error(exchange: Exchange) -> None:
    """An answer that breaks off before the length it announced is a connection error."""

    async def main() -> None:
        async with replaying(exchange) as replay, client_of(replay) as client:
            with pytest.raises(APIConnectionError):
                await call(client, exchange)

    run(main())


async def collect(stream: AsyncIterator[Any], into: list[Any]) -> None:
    async for chunk in stream:
        into.append(chunk)


@pytest.mark.parametrize("size", [None, 0, 7], ids=["as-it-came", "at-once", "7-bytes"])
@exchanges([exchange for exchange in STREAMS if not exchange.cut])
def test_a_stream_loses_nothing(exchange: Exchange, size: int | None) -> None:
    """Every recorded event arrives, typed and in order, whatever the pieces in which it comes."""

    async def main() -> None:
        async with replaying(exchange, size) as replay, client_of(replay) as client:
            chunks: list[Any] = []
            await collect(await call(client, exchange), chunks)
            assert lost(exchange.events, [chunk.to_dict() for chunk in chunks]) == []

    run(main())


@exchanges([exchange for exchange in STREAMS if exchange.cut])
def test_a_cut_stream_delivers_and_raises(exchange: Exchange) -> None:
    """What came before the cut is delivered, then the stream raises: it never looks complete."""

    async def main() -> None:
        async with replaying(exchange) as replay, client_of(replay) as client:
            chunks: list[Any] = []
            with pytest.raises(IncompleteStreamError):
                await collect(await call(client, exchange), chunks)
            assert lost(exchange.events, [chunk.to_dict() for chunk in chunks]) == []

    run(main())


@exchanges([one for one in STREAMS if not one.cut and one.path == "/v1/chat/completions"])
def test_a_chat_stream_adds_up(exchange: Exchange) -> None:
    """The final answer of `chat.stream` holds all the text, reasoning and tool arguments that came in pieces."""

    async def main() -> None:
        async with replaying(exchange) as replay, client_of(replay) as client:
            params = request_of(exchange)
            params.pop("stream", None)
            async with client.chat.stream(**params) as stream:
                answer = await stream.final()
        deltas = [choice for event in exchange.events for choice in event.get("choices", ())]
        for choice in answer.choices:
            own = [one["delta"] for one in deltas if one["index"] == choice.index]
            assert (choice.message.content or "") == "".join(delta.get("content") or "" for delta in own)
            thought = "".join(delta.get("reasoning_content") or "" for delta in own)
            if choice.index == 0:
                assert answer.reasoning == thought
            fragments = [call for delta in own for call in delta.get("tool_calls") or ()]
            arguments = "".join(call["function"].get("arguments") or "" for call in fragments)
            calls: Any = choice.message.tool_calls or ()
            assert "".join(call.function.arguments for call in calls) == arguments
            assert (
                choice.finish_reason == [one.get("finish_reason") for one in deltas if one["index"] == choice.index][-1]
            )

    run(main())


@exchanges([one for one in STREAMS if one.cut and one.path == "/v1/chat/completions"])
def test_a_cut_chat_stream_keeps_what_came(exchange: Exchange) -> None:
    """The error of a cut `chat.stream` holds the answer so far."""

    async def main() -> None:
        async with replaying(exchange) as replay, client_of(replay) as client:
            params = request_of(exchange)
            params.pop("stream", None)
            stream = client.chat.stream(**params)
            with pytest.raises(IncompleteStreamError) as caught:
                async with stream:
                    await stream.final()
            choices = [choice for event in exchange.events for choice in event["choices"] if choice["index"] == 0]
            text = "".join(choice["delta"].get("content") or "" for choice in choices)
            assert caught.value.partial.text == text == stream.text

    run(main())
