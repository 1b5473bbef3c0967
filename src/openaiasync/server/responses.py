"""The Responses API, served by a model's chat handler: input items become messages, pieces become output items.

A separate handler for responses returns the whole object, or yields events as dicts.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..core.model.plain import as_dict, is_dict
from ..lazy import resolve_annotations
from .chat import ChoiceWriter
from .context import RequestContext, event_of
from .errors import HTTPError
from .handlers import RegisteredHandler, open_handler
from .pieces import ContentDelta, ReasoningDelta, RefusalDelta, ToolCallDelta, plain
from .requests import ChatRequest, ResponseRequest, input_items
from .store import page_of, read_page_ask
from .tokens import count_prompt

if TYPE_CHECKING:
    from .app import Server

__all__ = [
    "ResponseStore",
    "cancel_response",
    "count_input_tokens",
    "create_response",
    "delete_response",
    "get_response",
    "list_input_items",
]

_MAX_KEPT: Final = 1000
_TERMINAL: Final = frozenset(["response.completed", "response.failed", "response.incomplete", "error"])
_INPUT: Final = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


class ResponseStore:
    """Responses by id, each with the items of its conversation. The oldest are dropped to make room for new ones."""

    def __init__(self, capacity: int = _MAX_KEPT) -> None:
        self._capacity = capacity
        self._kept: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}

    def keep(self, response: dict[str, Any], items: list[dict[str, Any]]) -> None:
        """Store a response with its input items."""
        self._kept[response["id"]] = response, items
        while len(self._kept) > self._capacity:
            del self._kept[next(iter(self._kept))]

    def get(self, id: str, param: str = "response_id") -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return a response and its input items. Raises `HTTPError` (404)."""
        if id not in self._kept:
            raise HTTPError(404, f"The response {id!r} does not exist.", param=param, code="not_found")
        return self._kept[id]

    def delete(self, id: str) -> dict[str, Any]:
        """Delete a response and return the object that confirms it. Raises `HTTPError` (404)."""
        self.get(id)
        del self._kept[id]
        return {"id": id, "object": "response", "deleted": True}


async def get_response(app: Server, context: RequestContext) -> None:
    """Serve ``GET /responses/{response_id}``."""
    await context.send_json(app.responses_kept.get(context.arguments["response_id"])[0])


async def delete_response(app: Server, context: RequestContext) -> None:
    """Serve ``DELETE /responses/{response_id}``."""
    await context.send_json(app.responses_kept.delete(context.arguments["response_id"]))


async def cancel_response(app: Server, context: RequestContext) -> None:
    """Refuse ``POST /responses/{response_id}/cancel``: responses are stored once they are complete."""
    id: str = app.responses_kept.get(context.arguments["response_id"])[0]["id"]
    message = f"The response {id!r} cannot be cancelled: it was not created in the background."
    raise HTTPError(400, message, param="response_id", code="invalid_state")


async def count_input_tokens(app: Server, context: RequestContext) -> None:
    """Serve ``POST /responses/input_tokens``: the count that a response reports unless its handler has another."""
    body = await app.read_body(context)
    count = count_prompt(_chat_body(body, _items(app, body)))
    await context.send_json({"object": "response.input_tokens", "input_tokens": count})


async def list_input_items(app: Server, context: RequestContext) -> None:
    """Serve ``GET /responses/{response_id}/input_items``."""
    _, items = app.responses_kept.get(context.arguments["response_id"])
    listed: list[dict[str, Any]] = []
    for place, item in enumerate(items):
        content = item.get("content")
        parts = {"content": [{"type": "input_text", "text": content}]} if isinstance(content, str) else {}
        listed.append({"id": f"item_{place}", "type": "message", **item, **parts})
    await context.send_json(page_of(listed, read_page_ask(context.query())))


async def create_response(app: Server, context: RequestContext) -> None:
    """Serve ``POST /responses``."""
    body = await app.read_body(context)
    handler = app.handlers.find("response", body.get("model") or "", "chat")
    if handler.kind == "response":
        await _own(app, context, body, handler)
        return
    items = _items(app, body)
    chat = _chat_body(body, items)
    async with app.admitted(context):
        writer = _ResponseWriter(body, chat, context)

        def keep() -> None:
            if body.get("store") is not False:
                app.responses_kept.keep(writer.response(), items)

        if body.get("stream"):
            app.spend(context, writer.prompt_tokens)
            await context.send_events(writer.events(handler, keep))
            return
        async with context.presence():
            await writer.run(handler)
        response = writer.response()
        app.spend(context, response["usage"]["total_tokens"])
        keep()
        await context.send_json(response)


async def _own(app: Server, context: RequestContext, body: dict[str, Any], handler: RegisteredHandler) -> None:
    """Serve a request with a handler for responses."""
    async with app.admitted(context):
        app.spend(context, 0)
        events = _own_events(handler, ResponseRequest(body, context))
        if body.get("stream"):
            await context.send_events(_encoded(events))
            return
        last: dict[str, Any] = {}
        async with context.presence(), aclosing(events) as given:
            async for event in given:
                last = event
        if last["type"] == "error":
            raise HTTPError(500, last.get("message") or "The model failed.", code=last.get("code"))
        await context.send_json(last["response"])


async def _encoded(events: AsyncGenerator[dict[str, Any]]) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for event in events:
            yield event_of(event, event["type"])


async def _own_events(handler: RegisteredHandler, request: ResponseRequest) -> AsyncGenerator[dict[str, Any]]:
    """Yield the events of a handler for responses, of which the last one is terminal.

    A whole response becomes events. Raises `TypeError` for what is neither, `ValueError` without a terminal event.
    """
    number = 0
    last = ""
    async with aclosing(open_handler(handler, request, whole=not request.stream)) as items:
        async for item in items:
            value = plain(item)
            for event in _events_of_whole(value, request) if "output" in as_dict(value) else (value,):
                last = str(as_dict(event).get("type") or "")
                if not last or (last in _TERMINAL and last != "error" and not is_dict(event.get("response"))):
                    raise TypeError(
                        "a response handler returned or yielded neither a response, which has 'output', nor an event, "
                        f"which has a 'type': {type(item).__name__}"
                    )
                yield {"sequence_number": number, **event}
                number += 1
            if last in _TERMINAL:
                return
    raise ValueError(f"the response handler ended without one of the events {', '.join(sorted(_TERMINAL))}")


def _events_of_whole(response: dict[str, Any], request: ResponseRequest) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream that ends with this response. Required fields that it lacks are added."""
    added = {"id": f"resp_{os.urandom(24).hex()}", "object": "response", "created_at": int(time.time())}
    response = {**added, "status": "completed", "model": request.model, **response}
    unfinished: dict[str, Any] = {**response, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": unfinished}
    yield {"type": "response.in_progress", "response": unfinished}
    for place, item in enumerate(response["output"]):
        at: dict[str, Any] = {"output_index": place, "item_id": item.get("id") or ""}
        parts: list[dict[str, Any]] = item.get("content") or []
        without: dict[str, Any] = {**item, "status": "in_progress", "content": []} if parts else item
        yield {"type": "response.output_item.added", "output_index": place, "item": without}
        for number, part in enumerate(parts):
            here = {**at, "content_index": number}
            word, kind = ("refusal", "refusal") if "refusal" in part else ("text", str(part["type"]))
            more: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
            yield {"type": "response.content_part.added", **here, "part": {**part, word: ""}}
            yield {"type": f"response.{kind}.delta", **here, "delta": part[word], **more}
            yield {"type": f"response.{kind}.done", **here, word: part[word], **more}
            yield {"type": "response.content_part.done", **here, "part": part}
        yield {"type": "response.output_item.done", "output_index": place, "item": item}
    kind = response["status"] if response["status"] in ("failed", "incomplete") else "completed"
    yield {"type": f"response.{kind}", "response": response}


# -------------------------------------------------------------------------------------------------- input


def _items(app: Server, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all input items, those of the earlier responses first."""
    given = input_items(body)
    previous: str | None = body.get("previous_response_id")
    if previous is None:
        return list(given)
    response, items = app.responses_kept.get(previous, "previous_response_id")
    return [*items, *response["output"], *given]


def _chat_body(body: dict[str, Any], items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the chat request that is equivalent to a request of the Responses API."""
    messages: list[dict[str, Any]] = []
    for place, item in enumerate(items):
        try:
            messages += _messages(item, place)
        # the schema, a union of all items, accepts some items that lack a property
        except (KeyError, TypeError, AttributeError):
            message = f"The input item of the type {item.get('type') or 'message'!r} is incomplete."
            raise HTTPError(400, message, param=f"input[{place}]", code="invalid_value") from None
    if not messages:  # handlers rely on a last message, which chat requests always have
        text = "'input' has no message: this model needs one, which a 'prompt' or 'instructions' do not replace."
        raise HTTPError(400, text, param="input", code="missing_required_parameter")
    if body.get("instructions"):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    chat: dict[str, Any] = {"model": body.get("model") or "", "messages": _with_calls_joined(messages)}
    if body.get("max_output_tokens"):
        chat["max_completion_tokens"] = body["max_output_tokens"]
    for name in ("temperature", "top_p", "user", "metadata", "parallel_tool_calls"):
        if body.get(name) is not None:
            chat[name] = body[name]
    effort = as_dict(body.get("reasoning")).get("effort")
    if effort:
        chat["reasoning_effort"] = effort
    form = as_dict(as_dict(body.get("text")).get("format"))
    if form.get("type") == "json_schema":
        schema = {name: one for name, one in form.items() if name != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form.get("type") == "json_object":
        chat["response_format"] = form
    tools = [
        {"type": tool["type"], tool["type"]: {name: one for name, one in tool.items() if name != "type"}}
        for tool in body.get("tools") or ()
        if tool["type"] in ("function", "custom")
    ]
    if tools:
        chat["tools"] = tools
        choice: Any = body.get("tool_choice") or "auto"
        named = is_dict(choice) and choice.get("type") in ("function", "custom")
        chat["tool_choice"] = {"type": choice["type"], choice["type"]: {"name": choice["name"]}} if named else choice
    return chat


def _messages(item: dict[str, Any], place: int) -> Iterator[dict[str, Any]]:
    kind = item.get("type") or "message"
    if kind == "message":
        content: Any = item.get("content")
        yield {"role": item["role"], "content": content if isinstance(content, str) else [*map(_part, content or ())]}
    elif kind in ("function_call", "custom_tool_call"):
        inner = "function" if kind == "function_call" else "custom"
        word = "arguments" if inner == "function" else "input"
        call = {"id": item["call_id"], "type": inner, inner: {"name": item["name"], word: item.get(word) or ""}}
        yield {"role": "assistant", "content": None, "tool_calls": [call]}
    elif kind in ("function_call_output", "custom_tool_call_output"):
        output: Any = item.get("output")
        text = output if isinstance(output, str) else [*map(_part, output or ())]
        yield {"role": "tool", "tool_call_id": item["call_id"], "content": text}
    elif kind != "reasoning":
        message = f"Input items of the type {kind!r} are not supported by this model."
        raise HTTPError(400, message, param=f"input[{place}].type", code="invalid_value")


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part["type"]
    if kind in _INPUT:
        return {"type": "text", "text": part[_INPUT[kind]]}
    if kind == "input_image" and part.get("image_url"):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    return {"type": kind, kind: part}


def _with_calls_joined(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages, with consecutive tool calls joined in one message, as in chat requests."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        last = joined[-1] if joined else {}
        if message.get("tool_calls") and last.get("tool_calls"):
            joined[-1] = {**last, "tool_calls": [*last["tool_calls"], *message["tool_calls"]]}
        else:
            joined.append(message)
    return joined


# -------------------------------------------------------------------------------------------------- output


class _ResponseWriter:
    """Turns the pieces of a chat handler into output items, and into the events of a stream."""

    def __init__(self, body: dict[str, Any], chat: dict[str, Any], context: RequestContext) -> None:
        self._body = body
        self._request = ChatRequest(chat, context)
        self._choice = ChoiceWriter(0, chat)  # counts tokens, and has the finish reason
        self._output: list[dict[str, Any]] = []
        self._number = 0
        self._status = "in_progress"
        self._id = f"resp_{os.urandom(24).hex()}"
        self._created = int(time.time())
        self.prompt_tokens: int = count_prompt(chat)

    async def run(self, handler: RegisteredHandler) -> None:
        """Run the handler to its end."""
        async with aclosing(self._pieces(handler, whole=True)) as events:
            async for _ in events:
                pass

    async def events(self, handler: RegisteredHandler, on_complete: Any) -> AsyncGenerator[bytes]:
        """Yield the answer as server-sent events; `on_complete` is called before the last one."""
        started = False
        async with aclosing(self._pieces(handler, whole=False)) as events:
            async for event in events:
                if not started:
                    started = True
                    for kind in ("response.created", "response.in_progress"):
                        yield self._event(kind, {"response": {**self.response(), "output": []}})
                yield self._event(event["type"], event)
        on_complete()
        kind = "response.incomplete" if self._status == "incomplete" else "response.completed"
        yield self._event(kind, {"response": self.response()})

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        event = {**fields, "type": kind, "sequence_number": self._number}
        self._number += 1
        return event_of(event, kind)

    async def _pieces(self, handler: RegisteredHandler, *, whole: bool) -> AsyncGenerator[dict[str, Any]]:
        async with aclosing(open_handler(handler, self._request, whole=whole)) as items:
            async for item in items:
                for piece in self._choice.pieces(item):
                    for delta, _ in self._choice.add_piece(piece):
                        for event in self._delta(piece, delta):
                            yield event
                if self._choice.ended:
                    break
        for delta, _ in self._choice.end():
            for event in self._delta(ContentDelta(""), delta):
                yield event
        for event in self._close():
            yield event
        self._status = "incomplete" if self._choice.finish in ("length", "content_filter") else "completed"

    def _delta(self, piece: object, delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the events for one delta of the choice; an item of another kind ends the one before it."""
        if isinstance(piece, ReasoningDelta):
            yield from self._open("reasoning", {"summary": [], "content": []}, "reasoning_text", {"text": ""})
            yield from self._grow("text", "response.reasoning_text.delta", delta["reasoning_content"])
        elif isinstance(piece, ToolCallDelta):
            call: dict[str, Any] = delta["tool_calls"][0]
            kind = "custom" if "custom" in call else "function"
            word, item = ("input", "custom_tool_call") if kind == "custom" else ("arguments", "function_call")
            if "id" in call:
                yield from self._close()
                yield from self._open(item, {"call_id": call["id"], "name": call[kind]["name"], word: ""})
            text = call[kind][word]
            self._output[-1][word] += text
            yield self._at(f"response.{item}_{word}.delta", delta=text)
        elif isinstance(piece, RefusalDelta):
            yield from self._open("message", {"role": "assistant", "content": []}, "refusal", {"refusal": ""})
            yield from self._grow("refusal", "response.refusal.delta", delta["refusal"])
        else:
            part: dict[str, Any] = {"text": "", "annotations": [], "logprobs": []}
            yield from self._open("message", {"role": "assistant", "content": []}, "output_text", part)
            yield from self._grow("text", "response.output_text.delta", delta["content"])

    def _open(
        self, kind: str, fields: dict[str, Any], part: str = "", content: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        last = self._output[-1] if self._output else {}
        if not (last.get("status") == "in_progress" and last["type"] == kind and part):
            yield from self._close()
            prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}[kind]
            id = f"{prefix}_{os.urandom(24).hex()}"
            self._output.append({"id": id, "type": kind, "status": "in_progress", **fields})
            yield self._at("response.output_item.added", item=_copy(self._output[-1]))
        parts: list[dict[str, Any]] = self._output[-1].get("content", [])
        if content is not None and (not parts or parts[-1]["type"] != part):
            parts.append({"type": part, **content})
            yield self._at("response.content_part.added", part=_copy(parts[-1]))

    def _grow(self, word: str, kind: str, text: str) -> Iterator[dict[str, Any]]:
        self._output[-1]["content"][-1][word] += text
        more: dict[str, Any] = {"logprobs": []} if kind == "response.output_text.delta" else {}
        yield self._at(kind, delta=text, **more)

    def _close(self) -> Iterator[dict[str, Any]]:
        """Yield the events that end the item in progress."""
        if not self._output or self._output[-1]["status"] != "in_progress":
            return
        item = self._output[-1]
        for part in item.get("content", ()):
            word = "refusal" if part["type"] == "refusal" else "text"
            kind = "response.refusal.done" if word == "refusal" else f"response.{part['type']}.done"
            more: dict[str, Any] = {"logprobs": []} if part["type"] == "output_text" else {}
            yield self._at(kind, **{word: part[word]}, **more)
            yield self._at("response.content_part.done", part=part)
        for word, kind in (("arguments", "function_call"), ("input", "custom_tool_call")):
            if item["type"] == kind:
                yield self._at(f"response.{kind}_{word}.done", name=item["name"], **{word: item[word]})
        item["status"] = "completed"
        yield self._at("response.output_item.done", item=_copy(item))

    def _at(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return an event about the item in progress."""
        event: dict[str, Any] = {"type": kind, "output_index": len(self._output) - 1, **fields}
        if "item" not in fields:
            event["item_id"] = self._output[-1]["id"]
            if self._output[-1]["type"] in ("message", "reasoning"):
                event["content_index"] = len(self._output[-1]["content"]) - 1
        return event

    def response(self) -> dict[str, Any]:
        """Return the response object in its current state."""
        body = self._body
        total, reasoning = self._choice.tokens()
        report = self._choice.usage
        prompt = report.prompt_tokens if report is not None else self.prompt_tokens
        reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
        reason = reasons.get(self._choice.finish)
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": self._status,
            "error": None,
            "incomplete_details": {"reason": reason} if self._status == "incomplete" else None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "metadata": body.get("metadata") or {},
            "model": body.get("model") or "",
            "output": self._output,
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "previous_response_id": body.get("previous_response_id"),
            "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
            "store": body.get("store") is not False,
            "temperature": 1.0 if body.get("temperature") is None else body["temperature"],
            "text": body.get("text") or {"format": {"type": "text"}},
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": body.get("tools") or [],
            "top_p": 1.0 if body.get("top_p") is None else body["top_p"],
            "truncation": body.get("truncation") or "disabled",
            "usage": None
            if self._status == "in_progress"
            else {
                "input_tokens": prompt,
                "input_tokens_details": {
                    "cached_tokens": report.cached_tokens if report is not None else 0,
                    "cache_write_tokens": 0,
                },
                "output_tokens": total,
                "output_tokens_details": {"reasoning_tokens": reasoning},
                "total_tokens": prompt + total,
            },
        }


def _copy(value: Any) -> Any:
    """Return a copy of the value, so that later changes do not show in earlier events."""
    return msgspec.json.decode(msgspec.json.encode(value))


resolve_annotations(__name__)
