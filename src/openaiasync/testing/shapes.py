"""Answers in the shapes of the API: one `Scripted` answer becomes the body, or the events, that a request asks for."""

from __future__ import annotations

import base64
import itertools
import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..core.model.plain import as_dict, is_dict, is_list
from ..transport.fake import FakeAnswer

__all__ = ["AnyRequest", "Scripted", "UnfitAnswer", "body_fields", "error_body", "messages_text", "render"]

_MAX_CHOICES = 2048
_NOTHING: Any = object()
# A field of a multipart form: a part with a name, but without a filename or a content type.
_FORM_FIELD = re.compile(rb'name="([^"\r\n]+)"\r\n\r\n([^\r\n]*)\r\n--')


class _Frame(NamedTuple):
    """An event without content of the answer: it is sent without a pause and is not counted."""

    event: dict[str, Any]


class AnyRequest(Protocol):
    """The view of a request used for matching and rendering, for sockets and for a `FakeTransport`."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    def json(self) -> Any: ...


class UnfitAnswer(ValueError):
    """The scripted answer does not suit this kind of request; the message says which would."""


@dataclass(kw_only=True)
class Scripted:
    """One scripted answer, independent of the request it answers.

    `pieces` are sent one by one in a stream: texts, whole events (dicts), raw bytes, and numbers, which are pauses in
    seconds. A request that does not stream gets their texts joined.
    """

    text: str | None = None
    tool_calls: Sequence[Mapping[str, Any]] = ()
    reasoning: str | None = None
    pieces: Sequence[str | bytes | float | Mapping[str, Any]] | None = None
    json: Any = _NOTHING
    content: bytes | None = None
    content_type: str = "application/octet-stream"
    embeddings: Sequence[Sequence[float]] | None = None
    finish_reason: str | None = None
    usage: Mapping[str, int] | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay: float = 0.0
    ttft: float = 0.0
    itl: float = 0.0
    cut_after: int | None = None


def render(request: AnyRequest, said: Scripted) -> FakeAnswer:
    """Render the answer in the form that this request requires. Raises `UnfitAnswer` if it has no such form."""
    if said.content is not None:
        fields = {"Content-Type": said.content_type, **said.headers}
        return _whole(said, FakeAnswer(body=said.content, headers=fields, status=said.status))
    if said.json is not _NOTHING:
        return _whole(said, FakeAnswer(json=said.json, headers=said.headers, status=said.status))
    body = body_fields(request)
    if said.embeddings is not None:
        return _whole(said, FakeAnswer(json=_embeddings(body, said), headers=said.headers))
    shape = next((shape for end, shape in _SHAPES.items() if request.path.endswith(end)), None)
    if shape is None:
        raise UnfitAnswer(
            f"a text or tool calls cannot answer {request.method} {request.path}: give json=, content= or embeddings="
        )
    answer = shape(body, said)
    if isinstance(answer, FakeAnswer):
        return _whole(said, answer)
    events, pauses, cut_after = _timed(answer, said)
    return FakeAnswer(
        events=events, done=not request.path.endswith("/responses"), headers=said.headers, status=said.status,
        delay=said.delay, pause=pauses, cut_after=cut_after,
    )  # fmt: skip


def error_body(message: str, kind: str = "server_error", code: str | None = None, param: str | None = None) -> Any:
    """Return an error object in the API's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def messages_text(body: Any) -> str:
    """Return all text of a request: of its messages, its prompt or its input."""
    if not is_dict(body):
        return ""
    return "\n".join(_texts([body.get(name) for name in ("instructions", "messages", "prompt", "input")]))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif is_list(value):
        for one in value:
            yield from _texts(one)
    elif is_dict(value):
        for name in ("content", "text", "output"):
            yield from _texts(value.get(name))


def body_fields(request: AnyRequest) -> dict[str, Any]:
    """Return the named values of a body: the members of a JSON object, or the plain fields of a form."""
    try:
        body = request.json()
    except (ValueError, RecursionError):
        fields = _FORM_FIELD.findall(request.body)
        return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields}
    return body if is_dict(body) else {}


def _whole(said: Scripted, answer: FakeAnswer) -> FakeAnswer:
    """Apply the delays and the cut to an answer in one piece; the cut counts bytes."""
    answer.delay = said.delay + said.ttft
    if said.cut_after is not None:
        (body,) = answer.pieces() or [b""]
        fields = answer.fields()
        answer = FakeAnswer(status=answer.status, headers=fields, delay=answer.delay)
        answer.body, answer.cut_after = [body[: said.cut_after], body[said.cut_after :] or b" "], 1
    return answer


def _timed(events: Iterable[Any], said: Scripted) -> tuple[list[Any], list[float], int | None]:
    """Return the events, the pause before each, and how many of them precede the cut.

    Only pieces of the answer have pauses (`ttft`, then `itl`) and are counted; framing events are sent at once.
    """
    kept: list[Any] = []
    pauses: list[float] = []
    extra, pieces, cut = 0.0, 0, 0
    for event in events:
        if isinstance(event, (int, float)):
            extra += event
            continue
        framing = isinstance(event, _Frame)
        kept.append(_named(event.event if framing else event))
        pauses.append(extra + (0.0 if framing else said.itl if pieces else said.ttft))
        extra = 0.0
        if not framing:
            pieces += 1
            if said.cut_after is not None and pieces <= said.cut_after:
                cut = len(kept)
    return kept, pauses, cut if said.cut_after is not None else None


def _pieces(said: Scripted) -> Sequence[str | bytes | float | Mapping[str, Any]]:
    """Return the pieces of a stream: those given, or the words of the text."""
    if said.pieces is not None:
        return said.pieces
    return re.findall(r"\s*\S+|\s+$", said.text or "")


def _text(said: Scripted) -> str | None:
    if said.text is None and said.pieces is not None:
        return "".join(piece for piece in said.pieces if isinstance(piece, str))
    return said.text


def _usage(body: Any, said: Scripted, sent: str = "prompt", made: str = "completion") -> dict[str, Any]:
    """Return the usage object; each word counts as a token."""
    given = said.usage or {}
    words = len(messages_text(body).split()), len((_text(said) or "").split()) + len(said.tool_calls)
    counts = [
        given.get(f"{name}_tokens", given.get(f"{other_name}_tokens", count))
        for name, other_name, count in (("prompt", "input", words[0]), ("completion", "output", words[1]))
    ]
    return {f"{sent}_tokens": counts[0], f"{made}_tokens": counts[1], "total_tokens": sum(counts)}


def _calls(said: Scripted) -> list[dict[str, Any]]:
    """Return tool calls in the API's form, from ``{"name": ..., "arguments": {...} or text, "id": ...}``."""
    made: list[dict[str, Any]] = []
    for number, call in enumerate(said.tool_calls):
        function = call.get("function", call)
        arguments = function.get("arguments", {})
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        made.append(
            {
                "id": call.get("id", f"call_{number + 1}"),
                "type": "function",
                "function": {"name": function["name"], "arguments": text},
            }
        )
    return made


# -- chat and text completions


def _count(body: dict[str, Any]) -> int:
    """Return the number of choices that a request asks for. Raises `UnfitAnswer` for one that no server makes."""
    count: Any = body.get("n")
    if count is None:
        return 1
    if type(count) is not int or not 1 <= count <= _MAX_CHOICES:
        raise UnfitAnswer(f"the request has n={str(count)[:40]!r}: servers take a number from 1 to {_MAX_CHOICES}")
    return count


def _chat(body: dict[str, Any], said: Scripted) -> FakeAnswer | list[Any]:
    calls = _calls(said)
    finish = said.finish_reason or ("tool_calls" if calls else "stop")
    base = {"id": "chatcmpl-test", "created": 1_700_000_000, "model": body.get("model", "test-model")}
    choices = range(_count(body))
    if not body.get("stream"):
        message: dict[str, Any] = {"role": "assistant", "content": _text(said), "refusal": None}
        message |= {"tool_calls": calls} if calls else {}
        message |= {"reasoning_content": said.reasoning} if said.reasoning else {}
        made = [{"index": n, "message": message, "logprobs": None, "finish_reason": finish} for n in choices]
        answer = {**base, "object": "chat.completion", "choices": made, "usage": _usage(body, said)}
        return FakeAnswer(json=answer, headers=said.headers, status=said.status)

    def chunk(delta: Any, index: int, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**base, "object": "chat.completion.chunk", "choices": [choice]}

    deltas: list[Any] = [{"reasoning_content": said.reasoning}] if said.reasoning else []
    deltas += [{"content": piece} if isinstance(piece, str) else piece for piece in _pieces(said)]
    deltas += itertools.chain.from_iterable(_call_deltas(number, call) for number, call in enumerate(calls))
    events: list[Any] = []
    for index in choices:
        first = {"role": "assistant"}
        for delta in deltas or [{}]:
            if is_dict(delta) and "choices" not in delta and "error" not in delta:
                events.append(chunk({**first, **delta}, index))
                first = {}
            else:
                events.append(delta)  # a pause, raw bytes, or a whole event, passed on unchanged
        events.append(_Frame(chunk({}, index, finish)))
    if as_dict(body.get("stream_options")).get("include_usage"):
        event: dict[str, Any] = {**base, "object": "chat.completion.chunk", "choices": [], "usage": _usage(body, said)}
        events.append(_Frame(event))
    return events


def _call_deltas(index: int, call: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the deltas of a tool call: its name first, then its arguments in parts."""
    function = call["function"]
    yield {"tool_calls": [{"index": index, **call, "function": {**function, "arguments": ""}}]}
    for part in _parts(function["arguments"]):
        yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}


def _parts(text: str, size: int = 8) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _completion(body: dict[str, Any], said: Scripted) -> FakeAnswer | list[Any]:
    base = {"id": "cmpl-test", "object": "text_completion", "created": 1_700_000_000}
    base["model"] = body.get("model", "test-model")

    def choice(text: str, finish: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}

    finish = said.finish_reason or "stop"
    if not body.get("stream"):
        whole = {**base, "choices": [choice(_text(said) or "", finish)], "usage": _usage(body, said)}
        return FakeAnswer(json=whole, headers=said.headers, status=said.status)
    pieces = [{**base, "choices": [choice(one, None)]} if isinstance(one, str) else one for one in _pieces(said)]
    return [*pieces, _Frame({**base, "choices": [choice("", finish)]})]


# -- responses


def _responses(body: dict[str, Any], said: Scripted) -> FakeAnswer | list[Any]:
    text = _text(said)
    output: list[dict[str, Any]] = []
    if text is not None:
        part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        item: dict[str, Any] = {
            "id": "msg_test",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }
        output.append(item)
    for call in _calls(said):
        names = {"id": f"fc_{call['id']}", "type": "function_call", "call_id": call["id"], "status": "completed"}
        output.append({**names, **call["function"]})
    whole = {
        "id": "resp_test", "object": "response", "created_at": 1_700_000_000, "status": "completed", "output": output,
        "model": body.get("model", "test-model"), "error": None, "incomplete_details": None, "instructions": None,
        "metadata": {}, "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "top_p": 1.0,
        "tools": body.get("tools") or [], "usage": _response_usage(body, said),
    }  # fmt: skip
    if not body.get("stream"):
        return FakeAnswer(json=whole, headers=said.headers, status=said.status)
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    begin = ("response.created", "response.in_progress")
    events: list[Any] = [_Frame({"type": kind, "response": started}) for kind in begin]
    for index, item in enumerate(output):
        events += _item_events(index, item, said)
    events.append(_Frame({"type": "response.completed", "response": whole}))
    numbers = itertools.count()
    return [_numbered(one, numbers) for one in events]


def _response_usage(body: Any, said: Scripted) -> dict[str, Any]:
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    return {**_usage(body, said, "input", "output"), **details}


def _numbered(event: Any, numbers: Iterator[int]) -> Any:
    if isinstance(event, _Frame):
        return _Frame({**event.event, "sequence_number": next(numbers)})
    return {**event, "sequence_number": next(numbers)} if is_dict(event) and "type" in event else event


def _named(event: Any) -> Any:
    """Return a server-sent event with an ``event:`` line, which only this endpoint sends."""
    if is_dict(event) and str(event.get("type")).startswith("response."):
        return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
    return event


def _item_events(index: int, item: dict[str, Any], said: Scripted) -> list[Any]:
    """Return the events of one output item, from ``added`` to ``done``."""
    at = {"item_id": item["id"], "output_index": index}
    started: dict[str, Any] = {**item, "status": "in_progress"}
    started["content" if item["type"] == "message" else "arguments"] = [] if item["type"] == "message" else ""
    events: list[Any] = [_Frame({"type": "response.output_item.added", "output_index": index, "item": started})]
    if item["type"] == "message":
        (part,) = item["content"]
        at["content_index"] = 0
        events.append(_Frame({"type": "response.content_part.added", **at, "part": {**part, "text": ""}}))
        event: dict[str, Any] = {"type": "response.output_text.delta", **at, "logprobs": []}
        events += [{**event, "delta": piece} if isinstance(piece, str) else piece for piece in _pieces(said)]
        events.append(_Frame({"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}))
        events.append(_Frame({"type": "response.content_part.done", **at, "part": part}))
    else:
        arguments = item["arguments"]
        event = {"type": "response.function_call_arguments.delta", **at}
        events += [{**event, "delta": part} for part in _parts(arguments)]
        done = {"type": "response.function_call_arguments.done", **at, "name": item["name"]}
        events.append(_Frame({**done, "arguments": arguments}))
    return [*events, _Frame({"type": "response.output_item.done", "output_index": index, "item": item})]


# -- the rest


def _transcription(body: dict[str, Any], said: Scripted) -> FakeAnswer:
    return FakeAnswer(json={"text": _text(said) or ""}, headers=said.headers, status=said.status)


def _embeddings(body: dict[str, Any], said: Scripted) -> dict[str, Any]:
    """Return vectors in the requested encoding: numbers, or base64 of 32-bit floats."""

    def vector(numbers: Sequence[float]) -> Any:
        if body.get("encoding_format") == "base64":
            return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        return list(numbers)

    data = [
        {"object": "embedding", "index": n, "embedding": vector(one)} for n, one in enumerate(said.embeddings or ())
    ]
    count = len(messages_text(body).split())
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": body.get("model", "test-model"), "usage": usage}


_SHAPES = {
    "/chat/completions": _chat,
    "/completions": _completion,
    "/responses": _responses,
    "/audio/transcriptions": _transcription,
    "/audio/translations": _transcription,
}
