"""One server that remembers, and the same calls made by both clients."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import typing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from forms import parts_of
from scripted import LAST_CHUNK, STREAM_HEAD, Seen, answer, event, json_answer, scripted

from .examples import DEEPEST, answer_of, example, members

OPTIONS = frozenset({"extra_headers", "extra_query", "extra_body", "timeout", "self", "stream", "return"})
KEYS = {"api_key": "sk-oracle", "admin_api_key": "sk-admin", "organization": "org-1", "project": "proj-1"}


class Recorded(NamedTuple):
    """The requests of a call and its outcome: an answer, the events of a stream, or an error."""

    sent: dict[str, Any] | None
    came: Any


class Served(NamedTuple):
    """What the server answers."""

    content_type: str
    body: Any  # JSON values, bytes, or the list of a stream's events

    def wire(self) -> bytes:
        if self.content_type == "text/event-stream":
            whole = b"".join(_event(value) for value in self.body)
            return STREAM_HEAD + whole + LAST_CHUNK
        if isinstance(self.body, bytes):
            return answer(self.body, content_type=self.content_type)
        return json_answer(self.body)


def _event(value: Any) -> bytes:
    if isinstance(value, dict) and value.keys() >= {"event", "data"}:  # as Assistants name theirs
        raw = f"event: {value['event']}\ndata: {json.dumps(value['data'])}\n\n".encode()
        return b"%x\r\n%s\r\n" % (len(raw), raw)
    return event(value)


class Both:
    """The server, a client of each kind, and what the server is to answer next."""

    def __init__(self, theirs: Any, ours: Any, seen: list[Seen]) -> None:
        self.theirs = theirs
        self.ours = ours
        self.seen = seen
        self.served = Served("application/json", {})

    async def call(self, method: str, params: dict[str, Any], served: Served) -> tuple[Recorded, Recorded]:
        """The method of both clients; first the official one's."""
        self.served = served
        return await self._one(self.theirs, method, params), await self._one(self.ours, method, params)

    async def _one(self, client: Any, method: str, params: dict[str, Any]) -> Recorded:
        self.seen.clear()
        _rewind(params)
        came: Any
        try:
            came = functools.reduce(getattr, method.split("."), client)(**params)
            if inspect.isawaitable(came):
                came = await came
            if params.get("stream") or hasattr(came, "__anext__"):
                came = [one async for one in came]
        except Exception as error:
            came = error
        return Recorded(structure(self.seen[0]) if self.seen else None, came)


def _rewind(params: dict[str, Any]) -> None:
    """What the first client read of a file, the second one reads too."""
    for value in params.values():
        for part in value if isinstance(value, tuple) else ():
            if hasattr(part, "seek"):
                part.seek(0)


@asynccontextmanager
async def both() -> AsyncIterator[Both]:
    """Run the server and both clients while the block runs."""
    import openai

    import openaiasync

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(pair.served.wire())

    async with scripted(script) as server:
        options: dict[str, Any] = {"base_url": server.url, "max_retries": 0, "timeout": 10.0, **KEYS}
        async with openai.AsyncOpenAI(**options) as theirs, openaiasync.AsyncOpenAI(**options) as ours:
            pair = Both(theirs, ours, server.seen)
            yield pair


FIELDS = ("authorization", "openai-organization", "openai-project", "openai-beta", "accept", "content-type")


def structure(seen: Seen) -> dict[str, Any]:
    """A request as values that do not depend on order, boundaries or spelling."""
    url = urlsplit(seen.target)
    fields = {name: seen.headers[name] for name in FIELDS if name in seen.headers}
    kind = fields.get("content-type", "")
    body: Any = seen.body
    if kind.startswith("multipart/"):
        empty = seen.body.count(b"\r\n") < 2  # nothing but the end of a form
        body = [] if empty else sorted(map(tuple, parts_of(kind, seen.body)), key=repr)
        fields["content-type"] = "multipart/form-data"
    elif kind == "application/json" and seen.body:
        body = json.loads(seen.body)
    query = sorted(parse_qsl(url.query, keep_blank_values=True))
    return {"method": seen.method, "path": url.path, "query": query, "fields": fields, "body": body}


# -------------------------------------------------------------------------------------------------- what to call


@functools.cache
def _client() -> Any:
    import openai

    return openai.AsyncOpenAI(api_key="sk", admin_api_key="sk")


def official(method: str) -> Any:
    """The official client's function behind a dotted name."""
    return inspect.unwrap(functools.reduce(getattr, method.split("."), _client()))


@functools.cache
def hints_of(method: str) -> dict[str, Any]:
    """The official method's parameters, and its answer under ``"return"``."""
    return typing.get_type_hints(official(method), include_extras=True)


def required_of(method: str) -> set[str]:
    """The parameters that the official method cannot be called without, by its first overload."""
    function = official(method)
    first = next(iter(typing.get_overloads(function)), function)
    parameters = inspect.signature(first).parameters
    return {name for name, one in parameters.items() if one.default is inspect.Parameter.empty} - OPTIONS


def params_of(method: str, variant: str) -> dict[str, Any]:
    """Values for the official method's parameters."""
    names = required_of(method) if variant == "least" else hints_of(method).keys() - OPTIONS
    return {name: example(hint, name, variant) for name, hint in hints_of(method).items() if name in names}


class Result(NamedTuple):
    """What the official method answers."""

    whole: Any  # the type of its answer, or of a page's items; `None`: nothing
    events: Any  # the type of its stream's events
    page: str  # the name of its page


def result_of(method: str) -> Result:
    """The official method's answer, by its return type."""
    whole, events, page = None, None, ""
    for hint in members(hints_of(method)["return"]):
        name = getattr(typing.get_origin(hint), "__name__", "")
        if name == "AsyncStream":
            (events,) = typing.get_args(hint)
        elif name == "AsyncPaginator":
            whole, kind = typing.get_args(hint)
            page = kind.__name__.partition("[")[0]
        elif whole is None:
            whole = hint
    return Result(whole, events, page)


def served_for(method: str, variant: str, stray: bool) -> Served:
    """What the server says to this method."""
    whole, events, page = result_of(method)
    if whole is None and events is not None:
        return stream_for(method)
    if getattr(whole, "__name__", "") == "HttpxBinaryResponseContent":
        return Served("application/octet-stream", b"\x00\x01binary")
    if whole is str:
        return Served("text/plain", b"some text")
    if page:
        items = [answer_of(whole, "item", variant, stray=stray)] * (0 if variant == "least" else 2)
        return Served("application/json", {"object": "list", "data": items, "has_more": False})
    return Served("application/json", answer_of(whole, "answer", variant, stray=stray) if whole else {})


def stream_for(method: str) -> Served:
    """A stream with an event of every kind the method knows, and its end."""
    kinds = members(result_of(method).events)
    values: list[Any] = [answer_of(kind, "event", "first", depth=DEEPEST - 3) for kind in kinds]
    return Served("text/event-stream", [*values, "[DONE]"])
