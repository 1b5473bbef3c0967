"""Streams as servers send them, by the API's description: for tests of our helpers, and of the official ones beside."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from scripted import LAST_CHUNK, STREAM_HEAD

TEXT = '{"x":1,"name":"ab"}'
TOKEN = {"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}


# -------------------------------------------------------------------------------------------------- chat


def piece(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk of a chat answer."""
    choice = {"index": index, "delta": delta, "finish_reason": finish, **more}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def called(index: int, arguments: str, name: str | None = None, **more: Any) -> dict[str, Any]:
    """A delta with a piece of a tool call, with the name where it begins."""
    function: dict[str, Any] = {"arguments": arguments}
    begins = {} if name is None else {"id": f"t{index}", "type": "function"}
    if name is not None:
        function["name"] = name
    return {"tool_calls": [{"index": index, **begins, "function": function}], **more}


def scored(**tokens: int) -> dict[str, Any]:
    """Log probabilities of so many tokens of each kind."""
    return {"logprobs": {name: [TOKEN] * tokens[name] if name in tokens else None for name in ("content", "refusal")}}


BEGIN = {"role": "assistant", "content": ""}
CHATS: dict[str, list[dict[str, Any]]] = {
    "text": [piece(BEGIN), piece({"content": '{"x"'}), piece({"content": ':1,"name":"ab"}'}), piece({}, "stop")],
    "log probabilities": [
        piece({"role": "assistant", "content": '{"x":1,'}, **scored(content=2)),
        piece({"content": '"name":"ab"}'}, **scored(content=1)),
        piece({}, "stop"),
    ],
    "refusal": [
        piece({"role": "assistant", "refusal": "No"}, **scored(refusal=1)),
        piece({"refusal": ", never"}, **scored(refusal=2)),
        piece({}, "stop"),
    ],
    "tools": [
        piece(called(0, "", "P", role="assistant", content=None)),
        piece(called(0, '{"x":')),
        piece(called(0, '1,"name":"q"}')),
        piece(called(1, "", "P")),
        piece(called(1, '{"x":2,"name":"r"}')),
        piece({}, "tool_calls"),
    ],
    "text and tools": [
        piece({"role": "assistant", "content": TEXT}),
        piece(called(0, '{"x":5,"name":"q"}', "P")),
        piece({}, "tool_calls"),
    ],
    "two choices": [
        piece({"role": "assistant", "content": '{"x":1,'}),
        piece({"role": "assistant", "content": '{"x":2,'}, index=1),
        piece({"content": '"name":"a"}'}),
        piece({"content": '"name":"b"}'}, index=1),
        piece({}, "stop"),
        piece({}, "stop", index=1),
    ],
    "length": [piece({"role": "assistant", "content": '{"x'}), piece({}, "length")],
    "filter": [piece({"role": "assistant", "content": '{"x'}), piece({}, "content_filter")],
    "usage": [
        piece({"role": "assistant", "content": TEXT}),
        piece({}, "stop"),
        {**piece({}), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
    ],
}


# -------------------------------------------------------------------------------------------------- responses


def response(status: str = "in_progress", output: Iterable[Any] = (), **more: Any) -> dict[str, Any]:
    """A response as an event shows it."""
    plain = dict.fromkeys(("error", "incomplete_details", "instructions"))
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    fixed = {"id": "r", "object": "response", "created_at": 1, "model": "m", "parallel_tool_calls": True}
    known = {"metadata": {}, "temperature": 1, "top_p": 1, "tool_choice": "auto", "tools": []}
    counted = {"usage": {**usage, **details}} if status != "in_progress" else {}
    return {**fixed, **plain, **known, "status": status, "output": list(output), **counted, **more}


def part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message(text: str | None, status: str = "completed", **more: Any) -> dict[str, Any]:
    content = [] if text is None else [part(text)]
    return {"id": "msg", "type": "message", "role": "assistant", "status": status, "content": content, **more}


def function_call(arguments: str, status: str = "completed", **more: Any) -> dict[str, Any]:
    fixed = {"id": "fc", "type": "function_call", "call_id": "c1", "name": "P"}
    return {**fixed, "arguments": arguments, "status": status, **more}


def numbered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"sequence_number": number, **event} for number, event in enumerate(events)]


def text_event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "item_id": "msg", "output_index": 0, "content_index": 0, **more}


RESPONSE = numbered(
    [
        {"type": "response.created", "response": response()},
        {"type": "response.in_progress", "response": response()},
        {"type": "response.output_item.added", "output_index": 0, "item": message(None, "in_progress")},
        text_event("content_part.added", part=part("")),
        text_event("output_text.delta", delta=TEXT[:8], logprobs=[]),
        text_event("output_text.delta", delta=TEXT[8:], logprobs=[]),
        text_event("output_text.done", text=TEXT, logprobs=[]),
        text_event("content_part.done", part=part(TEXT)),
        {"type": "response.output_item.done", "output_index": 0, "item": message(TEXT)},
        {"type": "response.output_item.added", "output_index": 1, "item": function_call("", "in_progress")},
        {"type": "response.function_call_arguments.delta", "item_id": "fc", "output_index": 1, "delta": TEXT[:5]},
        {"type": "response.function_call_arguments.delta", "item_id": "fc", "output_index": 1, "delta": TEXT[5:]},
        {"type": "response.function_call_arguments.done", "item_id": "fc", "output_index": 1, "arguments": TEXT}
        | {"name": "P"},
        {"type": "response.output_item.done", "output_index": 1, "item": function_call(TEXT)},
        {"type": "response.completed", "response": response("completed", [message(TEXT), function_call(TEXT)])},
    ]
)
CUT = response("incomplete", [message(TEXT[:8], "incomplete")], incomplete_details={"reason": "max_output_tokens"})
RESPONSES: dict[str, list[dict[str, Any]]] = {
    "complete": RESPONSE,
    "incomplete": [*RESPONSE[:5], {"type": "response.incomplete", "sequence_number": 5, "response": CUT}],
    "without output at its end": [*RESPONSE[:-1], {**RESPONSE[-1], "response": response("completed", output=())}],
}
RESPONSES["without output at its end"][-1]["response"]["output"] = None


# -------------------------------------------------------------------------------------------------- assistants


def run_of(status: str) -> dict[str, Any]:
    names = "required_action last_error expires_at started_at cancelled_at failed_at completed_at incomplete_details"
    more = "usage max_prompt_tokens max_completion_tokens truncation_strategy tool_choice response_format"
    fixed = {"id": "run", "object": "thread.run", "created_at": 1, "thread_id": "th", "assistant_id": "as"}
    known = {"model": "m", "instructions": "", "tools": [], "metadata": {}, "parallel_tool_calls": True}
    return {**fixed, **known, **dict.fromkeys(f"{names} {more}".split()), "status": status}


def step_of(status: str, calls: list[Any]) -> dict[str, Any]:
    names = "last_error expired_at cancelled_at failed_at completed_at metadata usage"
    fixed = {"id": "st", "object": "thread.run.step", "created_at": 1, "assistant_id": "as", "thread_id": "th"}
    details = {"type": "tool_calls", "tool_calls": calls}
    known = {"run_id": "run", "type": "tool_calls", "step_details": details}
    return {**fixed, **known, **dict.fromkeys(names.split()), "status": status}


def step_delta(*calls: dict[str, Any]) -> dict[str, Any]:
    details = {"type": "tool_calls", "tool_calls": list(calls)}
    return {"id": "st", "object": "thread.run.step.delta", "delta": {"step_details": details}}


def message_of(status: str, content: list[Any]) -> dict[str, Any]:
    names = "incomplete_details completed_at incomplete_at"
    fixed = {"id": "msg", "object": "thread.message", "created_at": 1, "thread_id": "th", "role": "assistant"}
    known = {"assistant_id": "as", "run_id": "run", "attachments": [], "metadata": {}}
    return {**fixed, **known, **dict.fromkeys(names.split()), "status": status, "content": content}


def message_delta(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": "msg", "object": "thread.message.delta", "delta": {"content": list(parts)}}


def _code(index: int, text: str, **more: Any) -> dict[str, Any]:
    return {"index": index, "type": "code_interpreter", "code_interpreter": {"input": text}, **more}


def _text(index: int, value: str, **more: Any) -> dict[str, Any]:
    return {"index": index, "type": "text", "text": {"value": value, **more}}


_IMAGE = {"type": "image_file", "image_file": {"file_id": "f", "detail": "auto"}}
_CONTENT = [
    {"type": "text", "text": {"value": "Hello", "annotations": []}},
    _IMAGE,
    {"type": "text", "text": {"value": "Bye", "annotations": []}},
]
RUN: list[tuple[str, Any]] = [
    ("thread.run.created", run_of("queued")),
    ("thread.run.in_progress", run_of("in_progress")),
    ("thread.run.step.created", step_of("in_progress", [])),
    ("thread.run.step.delta", step_delta(_code(0, "", id="c0"))),
    ("thread.run.step.delta", step_delta(_code(0, "print"))),
    ("thread.run.step.delta", step_delta(_code(0, "(1)"))),
    (
        "thread.run.step.delta",
        step_delta({"index": 1, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}),
    ),
    ("thread.run.step.delta", step_delta({"index": 1, "type": "function", "function": {"arguments": "{}"}})),
    ("thread.run.step.completed", step_of("completed", [])),
    ("thread.message.created", message_of("in_progress", [])),
    ("thread.message.in_progress", message_of("in_progress", [])),
    ("thread.message.delta", message_delta(_text(0, "Hel", annotations=[]))),
    ("thread.message.delta", message_delta(_text(0, "lo"))),
    ("thread.message.delta", message_delta({"index": 1, **_IMAGE})),
    ("thread.message.delta", message_delta(_text(2, "Bye"))),
    ("thread.message.completed", message_of("completed", _CONTENT)),
    ("thread.run.completed", run_of("completed")),
]


def named_events(events: Iterable[tuple[str, Any]], done: bool = True) -> bytes:
    """A whole stream of events that have names."""
    rows = [(name, json.dumps(data)) for name, data in events] + ([("done", "[DONE]")] if done else [])
    raws = [f"event: {name}\ndata: {data}\n\n".encode() for name, data in rows]
    return STREAM_HEAD + b"".join(b"%x\r\n%s\r\n" % (len(raw), raw) for raw in raws) + LAST_CHUNK
