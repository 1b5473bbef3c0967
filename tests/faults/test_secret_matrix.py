"""A server that echoes the key: every kind of method, every kind of key, every place of the echo.

The server finds the key in the request itself, so that a key that changes with each call is echoed to its own call.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import pickle
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import httpx2
import pydantic
import pytest

from conftest import run
from openaiasync import AsyncAzureOpenAI, AsyncOpenAI, AsyncStream, BaseModel, Client, OpenAIError
from openaiasync.bridge import transport
from scripted import CHAT, STREAM_HEAD, answer, chunk, event, head
from wireserver import Peer, Server

from .invariants import LogText, chain

HI: Any = [{"role": "user", "content": "hi"}]
STEM = "sk-Planted/0123+4567"  # what JSON and URLs write in ways of their own; each kind of key adds a tail
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100)


class Shape(pydantic.BaseModel):
    n: int


class Plain(BaseModel):
    id: str


# ---------------------------------------------------------------------------------------------------- kinds of method

Method = Callable[[Any], Awaitable[Any]]


async def drain(stream: Any) -> None:
    async with stream as pieces:
        async for _ in pieces:
            pass


async def chat(client: Any) -> Any:
    return await client.chat("hi")


async def official(client: Any) -> Any:
    return await client.chat.completions.create(messages=HI, model="m")


async def page(client: Any) -> Any:
    return [model async for model in client.models.list()]


async def content(client: Any) -> Any:
    return await client.files.content("f")


async def text(client: Any) -> Any:
    return await client.files.retrieve_content("f")


async def speech(client: Any) -> Any:
    return await client.text_to_speech("hi", model="m", voice="alloy")


async def speech_stream(client: Any) -> Any:
    await drain(client.text_to_speech.stream("hi", model="m", voice="alloy"))


async def transcript(client: Any) -> Any:
    return await client.speech_to_text(WAV, model="m")


async def transcript_as_text(client: Any) -> Any:
    return await client.audio.transcriptions.create(file=("a.wav", WAV), model="m", response_format="text")


async def transcript_stream(client: Any) -> Any:
    await drain(client.speech_to_text.stream(WAV, model="m"))


async def raw(client: Any) -> Any:
    return (await client.chat.completions.with_raw_response.create(messages=HI, model="m")).parse()


async def raw_to(client: Any) -> Any:
    return (await client.chat.completions.with_raw_response.create(messages=HI, model="m")).parse(to=Plain)


async def raw_page(client: Any) -> Any:
    return (await client.models.with_raw_response.list()).parse()


async def raw_parse(client: Any) -> Any:
    raw = await client.chat.completions.with_raw_response.parse(messages=HI, model="m", response_format=Shape)
    return raw.parse()


async def streamed_raw(client: Any) -> Any:
    async with client.chat.completions.with_streaming_response.create(messages=HI, model="m") as raw:
        return await raw.parse()


async def streamed_raw_parse(client: Any) -> Any:
    methods = client.chat.completions.with_streaming_response
    async with methods.parse(messages=HI, model="m", response_format=Shape) as raw:
        return await raw.parse()


async def streamed_raw_lines(client: Any) -> Any:
    async with client.audio.speech.with_streaming_response.create(input="hi", model="m", voice="alloy") as raw:
        async for _ in raw.iter_lines():
            pass


async def streamed_raw_stream(client: Any) -> Any:
    async with client.chat.completions.with_streaming_response.create(messages=HI, model="m", stream=True) as raw:
        await drain(await raw.parse())


async def get_dict(client: Any) -> Any:
    return await client.get("/x", cast_to=dict)


async def get_model(client: Any) -> Any:
    return await client.get("/x", cast_to=Plain)


async def post_list(client: Any) -> Any:
    return await client.post("/x", cast_to=list[int], body={"a": 1})


async def get_stream(client: Any) -> Any:
    await drain(await client.get("/x", cast_to=Plain, stream=True, stream_cls=AsyncStream[Plain]))


async def chat_stream(client: Any) -> Any:
    await drain(client.chat.stream("hi"))


async def chat_final(client: Any) -> Any:
    async with client.chat.stream("hi") as stream:
        return await stream.final()


async def official_stream(client: Any) -> Any:
    await drain(await client.chat.completions.create(messages=HI, model="m", stream=True))


async def responses(client: Any) -> Any:
    return await client.responses.create(input="hi", model="m")


async def responses_stream(client: Any) -> Any:
    await drain(await client.responses.create(input="hi", model="m", stream=True))


async def responses_parse(client: Any) -> Any:
    return await client.responses.parse(input="hi", model="m", text_format=Shape)


async def helper_responses_stream(client: Any) -> Any:
    await drain(client.responses.stream(input="hi", model="m", text_format=Shape))


async def own_parse(client: Any) -> Any:
    return await client.chat.parse("hi", into=Shape, repair=0)


async def own_stream_parse(client: Any) -> Any:
    await drain(client.chat.stream_parse("hi", into=Shape, repair=0))


async def helper_parse(client: Any) -> Any:
    return await client.chat.completions.parse(messages=HI, model="m", response_format=Shape)


async def helper_stream(client: Any) -> Any:
    async with client.chat.completions.stream(messages=HI, model="m", response_format=Shape) as stream:
        return await stream.get_final_completion()


async def tools(client: Any) -> Any:
    return await client.chat.run_tools("hi", tools=[])


async def session(client: Any) -> Any:
    return await client.chat.session().say("hi")


async def session_stream(client: Any) -> Any:
    await drain(client.chat.session().stream("hi"))


async def embedding(client: Any) -> Any:
    return await client.embedding("hi", model="m")


async def embed_many(client: Any) -> Any:
    return await client.embedding.many(["a", "b"], model="m")


async def image(client: Any) -> Any:
    return await client.image_generate("hi", model="m")


async def vision(client: Any) -> Any:
    return await client.vision(b"\x89PNG\r\n\x1a\n", "what?", model="m")


async def upload(client: Any) -> Any:
    return await client.files.create(file=("f.jsonl", io.BytesIO(b"x" * 10_000)), purpose="batch")


async def polled(client: Any) -> Any:
    return await client.vector_stores.files.create_and_poll("f", vector_store_id="v", poll_interval_ms=1)


async def delete(client: Any) -> Any:
    return await client.files.delete("f")


async def realtime(client: Any) -> Any:
    async with client.realtime.connect(model="m") as connection:
        await connection.recv()


async def with_hooks(client: Any) -> Any:
    seen: list[str] = []
    try:
        hook = lambda told: seen.append(f"{told!r} {vars(told)!r}")  # noqa: E731
        return await client.chat("hi", on_request=hook, on_error=hook)
    finally:
        assert not [one for one in seen if STEM in one]


EXTRA: Any = {"X-Extra-Key": f"{STEM}=extra"}


async def chat_extra(client: Any) -> Any:
    return await client.chat("hi", extra_headers=EXTRA)


async def official_extra(client: Any) -> Any:
    given = {"extra_headers": EXTRA, "extra_query": {"api_key": STEM}}
    return await client.chat.completions.create(messages=HI, model="m", **given)


async def stream_extra(client: Any) -> Any:
    await drain(client.chat.stream("hi", extra_headers=EXTRA))


async def get_extra(client: Any) -> Any:
    return await client.get("/x", cast_to=Plain, options={"headers": EXTRA, "params": {"token": STEM}})


async def parse_extra(client: Any) -> Any:
    return await client.chat.parse("hi", into=Shape, repair=0, extra_headers=EXTRA)


async def helper_extra(client: Any) -> Any:
    return await client.chat.completions.parse(messages=HI, model="m", response_format=Shape, extra_headers=EXTRA)


async def session_extra(client: Any) -> Any:
    return await client.chat.session(extra_headers=EXTRA).say("hi", extra_headers=EXTRA)


async def realtime_extra(client: Any) -> Any:
    async with client.realtime.connect(model="m", extra_headers=EXTRA) as connection:
        await connection.recv()


async def wrong_extra(client: Any) -> Any:
    return await client.chat("hi", extra_headers={**EXTRA, "X-Bad": f"{STEM}\r\n"})


async def unknown_extra(client: Any) -> Any:
    return await client.embeddings.create(input="hi", model="m", no_such_word=1, extra_headers=EXTRA)


async def raw_extra(client: Any) -> Any:
    raw = await client.embeddings.with_raw_response.create(input="hi", model="m", extra_headers=EXTRA)
    return raw.parse()


async def bridged(client: Any) -> Any:
    url = str(client._calls.config.base).partition("?")[0]
    fields = {"Authorization": f"Bearer {STEM}=bridged"}
    async with httpx2.AsyncClient(transport=transport(max_retries=0), base_url=url, headers=fields) as other:
        async with other.stream("POST", "/chat/completions", json={"messages": HI, "stream": True}) as streamed:
            async for _ in streamed.aiter_bytes():
                pass


METHODS: list[Method] = [
    chat, official, page, content, text, speech, speech_stream, transcript, transcript_as_text, transcript_stream, raw,
    raw_to, raw_page, raw_parse, streamed_raw, streamed_raw_parse, streamed_raw_lines, streamed_raw_stream, get_dict,
    get_model, post_list, get_stream, chat_stream, chat_final, official_stream, responses, responses_stream,
    responses_parse, helper_responses_stream, own_parse, own_stream_parse, helper_parse, helper_stream, tools, session,
    session_stream, embedding, embed_many, image, vision, upload, polled, delete, realtime, with_hooks,
    chat_extra, official_extra, stream_extra, get_extra, parse_extra, helper_extra, session_extra, realtime_extra,
    wrong_extra, unknown_extra, raw_extra, bridged,
]  # fmt: skip

# ------------------------------------------------------------------------------------------------------- kinds of key

Make = Callable[[str], Any]
OPTIONS: dict[str, Any] = {"max_retries": 0}


def static(url: str) -> Any:
    return Client(api_base=url, api_key=f"{STEM}=static", model="m", http_max_in_flight=16, **OPTIONS)


def asked(url: str) -> Any:
    async def key() -> str:
        return f"{STEM}=asked"

    return Client(api_base=url, api_key=key, model="m", http_max_in_flight=16, **OPTIONS)


def changing(url: str) -> Any:
    numbers = itertools.count()

    async def key() -> str:
        return f"{STEM}={next(numbers)}"

    return Client(api_base=url, api_key=key, model="m", http_max_in_flight=16, **OPTIONS)


def azure(url: str) -> Any:
    return AsyncAzureOpenAI(base_url=url, api_key=f"{STEM}=azure", api_version="1", **OPTIONS)


def azure_token(url: str) -> Any:
    return AsyncAzureOpenAI(base_url=url, azure_ad_token_provider=lambda: f"{STEM}=token", api_version="1", **OPTIONS)


def default_field(url: str) -> Any:
    return AsyncOpenAI(base_url=url, api_key="other", default_headers={"X-Api-Key": f"{STEM}=field"}, **OPTIONS)


def userinfo(url: str) -> Any:
    url = url.replace("://", "://user:sk-Planted%2F0123%2B4567%3Duser@")
    return Client(api_base=url, model="m", http_max_in_flight=16, **OPTIONS)


def query(url: str) -> Any:
    return AsyncOpenAI(base_url=url, api_key="other", default_query={"api-key": f"{STEM}=query"}, **OPTIONS)


KEYS: list[Make] = [static, asked, changing, azure, azure_token, default_field, userinfo, query]

# -------------------------------------------------------------------------------------------------- places of the echo

Place = Callable[[str], bytes]


def error_of(key: str) -> dict[str, Any]:
    told = {"message": f"no such key: {key}", "code": key, "param": key, "type": key, key: [key]}
    return {"error": told}


def everything(key: str) -> bytes:
    """An answer of many kinds, none of them right, with the key all over it."""
    return json.dumps(
        {
            "id": [key],
            "object": key,
            "data": [{"embedding": key}, key],
            "choices": [key],
            "output": key,
            "text": {key: 1},
        }
    ).encode()


def words(key: str) -> str:
    return f'{{"n": "{key}"}}'


def right_answer(key: str) -> dict[str, Any]:
    """A good chat answer that says the key."""
    return {**CHAT, "choices": [{**CHAT["choices"][0], "message": {"role": "assistant", "content": words(key)}}]}  # type: ignore[index]


def in_escapes(key: str) -> str:
    """The key as JSON in which every character is an escape."""
    return "".join(f"\\u{ord(one):04x}" for one in key)


def escaped(key: str) -> bytes:
    hidden = in_escapes(key)
    return f'{{"error": {{"message": "{hidden}", "code": "{hidden}"}}}}'.encode()


def events(*data: Any) -> bytes:
    return STREAM_HEAD + b"".join(map(event, data))


PLACES: dict[str, Place] = {
    "200": lambda key: answer(everything(key)),
    "200, not JSON": lambda key: answer(b"oops " + key.encode()),
    "200, a list": lambda key: answer(json.dumps([key]).encode()),
    "200, HTML": lambda key: answer(f"<p>{key}</p>".encode(), content_type="text/html"),
    "200, an error": lambda key: answer(json.dumps(error_of(key)).encode()),
    "200, an escaped error": lambda key: answer(escaped(key)),
    "200, words cut in an escaped key": lambda key: answer(f'"{"x" * (500 - len(STEM))}{in_escapes(key)}"'.encode()),
    "200, what does not fit": lambda key: answer(json.dumps(right_answer(key)).encode()),
    "200, another kind": lambda key: answer(key.encode(), content_type=f"text/{key}"),
    "401": lambda key: answer(json.dumps(error_of(key)).encode(), 401),
    "400, escaped": lambda key: answer(escaped(key), 400),
    "404, a string": lambda key: answer(json.dumps(key).encode(), 404),
    "500, HTML": lambda key: answer(f"<p>{key.replace('/', '&#x2F;')} {key}</p>".encode(), 500, "text/html"),
    "429, cut in the key": lambda key: answer(b"x" * (65_536 - 15) + key.encode() * 9, 429, "text/plain"),
    "header of a 200": lambda key: answer(b"oops", X_Echo=key, X_Request_Id=key),
    "header of an error": lambda key: answer(b"{}", 403, X_Echo=key, X_Request_Id=key),
    "event": lambda key: events(chunk("Hi"), error_of(key)),
    "event of that name": lambda key: events(chunk("Hi")) + _chunked(f"event: error\ndata: {key}\n\n"),
    "event that is not JSON": lambda key: events(chunk("Hi"), f"oops {key}"),
    "event, then cut": lambda key: events(chunk(key)),
    "event, what does not fit": lambda key: events(chunk(words(key)), chunk(finish="stop"), "[DONE]") + b"0\r\n\r\n",
    "field of an event": lambda key: events({**chunk("Hi"), "extra": key, "object": key}, key),
    "body cut": lambda key: head(Content_Type="application/json", Content_Length="99999") + everything(key),
    "coding": lambda key: answer(everything(key), Content_Encoding="gzip"),
    "unknown coding": lambda key: answer(everything(key), Content_Encoding=key),
    "redirect elsewhere": lambda key: answer(b"", 307, Location=f"http://127.0.0.1:1/{key}?a={key}"),
    "redirect without end": lambda key: answer(b"", 308, Location=f"/v1/{key}?a={key}&b={_in_url(key)}"),
    "status line": lambda key: f"HTTP/1.1 {key} {key}\r\n\r\n".encode(),
    "head": lambda key: f"HTTP/1.1 200 OK\r\n{key}\r\n\r\n".encode(),
    "chunk size": lambda key: head(Transfer_Encoding="chunked") + f"{key}\r\n".encode(),
}  # fmt: skip


def _in_url(key: str) -> str:
    return key.replace("/", "%2f").replace("+", "%2b").replace("=", "%3d")


def _chunked(text: str) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text.encode())


# --------------------------------------------------------------------------------------------------------- the search

MARKS = tuple(
    mark
    for stem in (STEM, STEM.replace("/", "\\/"), "sk-Planted%2F0123%2B4567", "sk-Planted%2f0123%2b4567", STEM[:14])
    for mark in (stem,)
)


def holds(text: str) -> bool:
    return any(mark in text for mark in MARKS)


def inside(value: Any, depth: int = 6) -> Iterator[str]:
    """The `repr` of a value, and of all that is in it, private attributes too."""
    yield repr(value)
    if depth == 0 or isinstance(value, (str, bytes, int, float, type(None), type)):
        return
    parts: list[Any] = []
    if isinstance(value, dict):
        parts = [*value, *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = list(value)
    elif type(value).__module__.startswith("openaiasync") and not callable(value):
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        names = {*getattr(value, "__dict__", ()), *getattr(value, "__struct_fields__", ()), *slots}
        parts = [getattr(value, name, None) for name in names if not name.startswith("__")]
    for part in parts:
        yield from inside(part, depth - 1)


def leaks(error: BaseException) -> list[str]:
    """Where an error, its chain or one of their tracebacks shows the key."""
    found: list[str] = []
    for one in chain(error):
        name = type(one).__name__
        if holds(f"{one} {one!r} {getattr(one, '__notes__', '')!r}"):
            found.append(f"{name} as text")
        for attribute, value in vars(one).items():
            if any(map(holds, inside(value))):
                found.append(f"{name}.{attribute}")
        trace = one.__traceback__
        while trace is not None:
            frame: FrameType = trace.tb_frame
            # The test's own frames know the key, and an HTTP library above the bridge holds what it hands out.
            if not any(part in frame.f_code.co_filename for part in ("/tests/", "/httpx2/")):
                for variable, value in frame.f_locals.items():
                    if holds(repr(value)) or (
                        isinstance(value, (dict, list, tuple)) and any(map(holds, inside(value)))
                    ):
                        found.append(f"{name}: local {variable} of {frame.f_code.co_qualname}")
            trace = trace.tb_next
        response = getattr(one, "response", None)
        if response is not None and holds(
            f"{response.text} {response.content!r} {dict(response.headers)!r} {response.url}"
        ):
            found.append(f"{name}.response")
    if isinstance(error, OpenAIError):
        if holds(repr(pickle.dumps(error))):
            found.append("a pickle")
        found += [f"curl {one}" for one in [error.as_curl()] if holds(one)]
    return found


# ----------------------------------------------------------------------------------------------------------- the games


def key_in(fields: list[tuple[str, str]], line: str) -> str:
    """The key as the server reads it from a request."""
    import base64
    from urllib.parse import parse_qs, unquote, urlsplit

    for name, value in sorted(fields, key=lambda field: field[0].lower() != "x-extra-key"):
        if name.lower() == "authorization" and value.startswith("Basic "):
            return base64.b64decode(value[6:]).decode().partition(":")[2]
        if STEM in value:
            return value.rpartition(" ")[2]
    found = parse_qs(urlsplit(line.split(" ")[1]).query, strict_parsing=False).get("api-key")
    return f"{STEM}=query" if found is None else unquote(found[0])  # a redirect led away from it


@asynccontextmanager
async def echoing(place: Place) -> AsyncIterator[str]:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        await peer.send(place(key_in(request.fields, request.line)))

    async with Server(script) as server:
        yield f"http://127.0.0.1:{server.port}/v1"


async def play(make: Make, title: str, methods: list[Method]) -> list[str]:
    """Kinds of method against one echo, all at once: more than eight calls are under way."""
    found: list[str] = []

    async def one(method: Method) -> None:
        name = f"{make.__name__}, {title}, {method.__name__}"
        try:
            made = await method(client)
        except Exception as error:
            found.extend(f"{name}: {leak}" for leak in leaks(error))
            return
        meta = getattr(made, "meta", None)
        if meta is not None and any(map(holds, inside([meta, meta.headers, pickle.loads(pickle.dumps(meta))], 2))):
            found.append(f"{name}: the answer's meta")

    async with echoing(PLACES[title]) as url:
        async with make(url) as client:
            await asyncio.gather(*map(one, methods))
    return found


WHOLE = (static, asked)  # kinds of key that every method meets in every place, in each run of the tests
SHARES = 3  # of the methods, of which the other kinds of key play one; `slow` are those that play the others


def games() -> Iterator[Any]:
    """Kind of key, place, methods: in each run every kind of key meets every method and every place."""
    for number, make in enumerate(KEYS):
        for turn, title in enumerate(PLACES):
            name = f"{make.__name__}-{title}"
            if make in WHOLE:
                yield pytest.param(make, title, METHODS, id=name)
                continue
            for share in range(SHARES):
                methods = METHODS[(number + turn + share) % SHARES :: SHARES]
                marks = [pytest.mark.slow] if share else []
                yield pytest.param(make, title, methods, id=f"{name}-{share}", marks=marks)


@pytest.mark.parametrize(("make", "title", "methods"), list(games()))
def test_an_echoed_key_is_shown_nowhere(make: Make, title: str, methods: list[Method]) -> None:
    """Not in an error's texts, attributes, pickles, causes and tracebacks, not in the log or a warning."""
    with LogText() as log, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = run(play(make, title, methods))
    found += [f"the log says {line}" for line in log.lines if "openaiasync" in line and holds(line)]
    found += [f"a warning says {one.message}" for one in warned if holds(str(one.message))]
    assert not found, f"{len(found)} leaks:\n" + "\n".join(found)


def test_every_kind_of_key_meets_every_method_and_every_place() -> None:
    """What a run leaves to the slow ones is combinations, never a kind of method or a place."""
    for kinds in zip(*[(param.values[0], param.values[1]) for param in games() if not param.marks], strict=True):
        assert set(kinds) in (set(KEYS), set(PLACES))
    for make in KEYS:
        met = [param.values[2] for param in games() if param.values[0] is make and not param.marks]
        assert {method for methods in met for method in methods} == set(METHODS)
        assert len(met) == len(PLACES)
