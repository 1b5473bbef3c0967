"""Requests are checked field by field: 400, the parameter's name, a code, and words for people."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.core.schema.compiled import compile_schema
from openaiasync.core.schema.jsonschema import validation_errors
from openaiasync.server.chat import check_chat
from openaiasync.server.completions import check_completion
from openaiasync.server.errors import HTTPError
from openaiasync.server.request_schemas import BODIES
from openaiasync.server.validation import REQUEST_KINDS, body_schema, check_body, decode_object

MESSAGES = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def refused(body: dict[str, Any], kind: str = "chat") -> tuple[str | None, str | None]:
    """Which parameter is at fault, and the code; ``("", "")`` when nothing is."""
    operation = {
        "chat": "chat.completions.create",
        "completion": "completions.create",
        "embedding": "embeddings.create",
    }
    refusal: HTTPError | None = None
    try:
        check_body(operation[kind], body, strict=True)
        {"chat": check_chat, "completion": check_completion}.get(kind, lambda body: None)(body)
    except HTTPError as error:
        refusal = error
    if refusal is None:
        return "", ""
    assert (refusal.status, refusal.kind) == (400, "invalid_request_error")
    assert refusal.param is not None
    assert refusal.param.split("[")[0].split(".")[0] in refusal.message
    return refusal.param, refusal.code


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "demo-chat", "messages": MESSAGES, **more}


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"messages": "Hello"}, "messages", "invalid_type"),
        ({"messages": {}}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": ["Hello"]}, "messages[0]", "invalid_type"),
        ({"messages": [*MESSAGES, {}]}, "messages[1].role", "missing_required_parameter"),
        ({"messages": [{"role": "alien", "content": ""}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "invalid_value"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]", "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "smell", "smell": "x"}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]}]},
            "messages[0].content[0].image_url.url",
            "invalid_type",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "missing_required_parameter"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"type": "function"}]}]},
            "messages[0].tool_calls[0].id",
            "missing_required_parameter",
        ),
        ({"messages": [{"role": "user", "content": "x", "name": 5}]}, "messages[0].name", "invalid_type"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"top_p": -1}, "top_p", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 129}, "n", "invalid_value"),
        ({"n": 1.0}, "n", "invalid_type"),
        ({"n": True}, "n", "invalid_type"),
        ({"max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"seed": "x"}, "seed", "invalid_type"),
        ({"seed": 2**70}, "seed", "invalid_type"),
        ({"stop": 5}, "stop", "invalid_type"),
        ({"stop": ["a", 5]}, "stop[1]", "invalid_type"),
        ({"stop": list("abcde")}, "stop", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_type"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"logit_bias": []}, "logit_bias", "invalid_type"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "invalid_value"),
        ({"tools": {}}, "tools", "invalid_type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]},
            "tools[0].function.parameters",
            "invalid_type",
        ),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice", "invalid_value"),
        ({"tools": [TOOL], "tool_choice": 5}, "tool_choice", "invalid_type"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
            "invalid_value",
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
        ({"response_format": "json"}, "response_format", "invalid_type"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
        ({"metadata": {"a": 5}}, "metadata.a", "invalid_type"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata", "invalid_value"),
        ({"modalities": ["smell"]}, "modalities[0]", "invalid_value"),
        ({"audio": {"voice": "x"}}, "audio.format", "missing_required_parameter"),
        ({"functions": [{}]}, "functions[0].name", "missing_required_parameter"),
        ({"top_k": 5}, "top_k", "unknown_parameter"),
        ({"Model": "x"}, "Model", "unknown_parameter"),
    ],
)
def test_chat_requests(more: dict[str, Any], param: str, code: str) -> None:
    assert refused(chat(**more)) == (param, code)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"temperature": 0, "top_p": 1, "n": 128, "seed": -5, "stop": "x", "presence_penalty": -2},
        {"stop": ["a", "b", "c", "d"], "logprobs": True, "top_logprobs": 20, "user": "x", "metadata": {"a": "b"}},
        {"temperature": None, "stop": None, "tools": None, "tool_choice": None, "stream_options": None},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tools": [{"type": "custom", "custom": {"name": "f"}}], "tool_choice": "required"},
        {"messages": [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        {"messages": [{"role": "assistant", "content": None, "refusal": "No."}]},
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
    ],
)
def test_good_chat_requests(more: dict[str, Any]) -> None:
    assert refused(chat(**more)) == ("", "")


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": 5}, "prompt", "invalid_type"),
        ({"prompt": []}, "prompt", "missing_required_parameter"),
        ({"prompt": ["a", 5]}, "prompt[1]", "invalid_type"),
        ({"prompt": [1, "a"]}, "prompt[0]", "invalid_type"),
        ({"prompt": [[1], []]}, "prompt[1]", "invalid_value"),
        ({"prompt": [1.5]}, "prompt[0]", "invalid_type"),
        ({"best_of": 1, "n": 2}, "best_of", "invalid_value"),
        ({"best_of": 3, "stream": True}, "best_of", "invalid_value"),
        ({"logprobs": True}, "logprobs", "invalid_type"),
        ({"logprobs": 6}, "logprobs", "invalid_value"),
        ({"messages": MESSAGES}, "messages", "unknown_parameter"),
        ({"prompt": [1, 2, 3], "echo": True}, "echo", "invalid_value"),
        ({"prompt": [1, 2, 3], "suffix": "x", "max_tokens": 0, "best_of": 2, "n": 2}, "", ""),
        ({"prompt": ["a", "b"]}, "", ""),
        ({"prompt": [[1], [2, 3]]}, "", ""),
    ],
)
def test_completion_requests(more: dict[str, Any], param: str, code: str) -> None:
    assert refused({"model": "demo-complete", "prompt": "x", **more}, "completion") == (param, code)


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": {}}, "input", "invalid_type"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["x"] * 2049}, "input", "invalid_value"),
        ({"dimensions": 0}, "dimensions", "invalid_value"),
        ({"encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ({"input": ["x"] * 2048, "dimensions": 1, "encoding_format": "base64"}, "", ""),
    ],
)
def test_embedding_requests(more: dict[str, Any], param: str, code: str) -> None:
    assert refused({"model": "demo-embed", "input": "x", **more}, "embedding") == (param, code)


def test_unknown_fields_may_be_ignored() -> None:
    check_body("chat.completions.create", chat(top_k=5), strict=False)


def test_message_says_what_was_expected() -> None:
    with pytest.raises(HTTPError, match=r"'temperature': expected number, got a string"):
        check_body("chat.completions.create", chat(temperature="hot"), strict=True)
    with pytest.raises(HTTPError, match=r"'n': expected at most 128, got '129'"):
        check_body("chat.completions.create", chat(n=129), strict=True)
    with pytest.raises(HTTPError, match="must be a JSON object, not an array"):
        decode_object(b"[]")
    with pytest.raises(HTTPError, match="has no body"):
        decode_object(b"")


@pytest.mark.parametrize("name", sorted(BODIES))
def test_every_schema_can_be_compiled_and_explained(name: str) -> None:
    """The quick check and the walk that explains agree on every operation, whatever a request holds."""
    schema = body_schema(name)
    fits = compile_schema(schema, kinds=REQUEST_KINDS)
    for reference in schema["$defs"]:
        compile_schema({"$ref": f"#/$defs/{reference}", "$defs": schema["$defs"]}, kinds=REQUEST_KINDS)({})
    for body in ({}, {"model": 5}, {"input": []}, {"metadata": {"a": 1}}, {"n": 1.5}, {"tools": [{}]}):
        assert fits(body) == (not list(validation_errors(body, schema, kinds=REQUEST_KINDS, null_is_absent=True)))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.text(max_size=4)
    | st.sampled_from(["function", "user", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "name", "role", "content", "function", "text"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@given(st.sampled_from(sorted(BODIES)), st.data())
def test_the_quick_check_agrees_with_the_walk(name: str, data: st.DataObject) -> None:
    """For any values under the names that an operation has."""
    schema = body_schema(name)
    names = sorted(schema["properties"])
    body = data.draw(st.dictionaries(st.sampled_from(names), values, max_size=4))
    assert _fits(name)(body) == (not list(validation_errors(body, schema, kinds=REQUEST_KINDS, null_is_absent=True)))


@cache
def _fits(name: str) -> Callable[[Any], bool]:
    return compile_schema(body_schema(name), kinds=REQUEST_KINDS)


@pytest.mark.parametrize("tools", [[{}], [{"type": "function"}], [{"type": "custom", "custom": {"name": "f"}}]])
def test_allowed_tools_are_tools_of_the_request(tools: list[dict[str, Any]]) -> None:
    """The description lets any objects pass as allowed tools; the kit refuses those that `tools` does not have."""
    known = [{"type": "function", "function": {"name": "f"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": tools}}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": known, "tool_choice": choice}
    with pytest.raises(HTTPError) as caught:
        check_chat(body)
    assert (caught.value.status, caught.value.param) == (400, "tool_choice")
    choice["allowed_tools"] = {"mode": "auto", "tools": known}
    check_chat(body)
