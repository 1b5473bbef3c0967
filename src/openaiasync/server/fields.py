"""The fields of each request that the demo models take, and their checks."""

from __future__ import annotations

from typing import Any

from .errors import HTTPError
from .validation import (
    Fields,
    anything,
    flag,
    is_array,
    is_object,
    items,
    mapping,
    number,
    one_of,
    pattern,
    text,
    text_or_texts,
    whole,
    wrong,
)

__all__ = ["CHAT", "COMPLETION", "EMBEDDING", "METADATA", "check_chat", "check_completion"]

_ROLES = one_of("system", "developer", "user", "assistant", "tool", "function")
_NAME = pattern(r"[a-zA-Z0-9_-]{1,64}", "1 to 64 letters, digits, '_' or '-'")
_PART_FIELDS = {
    "text": "text",
    "refusal": "refusal",
    "image_url": "image_url",
    "input_audio": "input_audio",
    "file": "file",
}


def _required(value: dict[str, Any], name: str, param: str) -> Any:
    if value.get(name) is None:
        where = f"{param}.{name}"
        raise HTTPError(400, f"'{where}' is missing.", param=where, code="missing_required_parameter")
    return value[name]


def _content(value: Any, param: str) -> None:
    if type(value) is str:
        return
    if not is_array(value):
        raise wrong(param, "a string or an array of parts", value)
    items(_part, at_least=1)(value, param)


def _part(value: Any, param: str) -> None:
    mapping(value, param)
    kind = _required(value, "type", param)
    one_of(*_PART_FIELDS)(kind, f"{param}.type")
    content = _required(value, _PART_FIELDS[kind], param)
    if kind in ("text", "refusal"):
        text(content, f"{param}.{kind}")
    else:
        mapping(content, f"{param}.{kind}")
    if kind == "image_url":
        text(_required(content, "url", f"{param}.image_url"), f"{param}.image_url.url")


def _message(value: Any, param: str) -> None:
    mapping(value, param)
    role = _required(value, "role", param)
    _ROLES(role, f"{param}.role")
    content = value.get("content")
    calls = value.get("tool_calls")
    if content is not None:
        _content(content, f"{param}.content")
    elif role != "assistant" or not (calls or value.get("function_call") or value.get("refusal")):
        _required(value, "content", param)
    if calls is not None:
        items(_tool_call)(calls, f"{param}.tool_calls")
    if role == "tool":
        text(_required(value, "tool_call_id", param), f"{param}.tool_call_id")
    if value.get("name") is not None:
        text(value["name"], f"{param}.name")


def _tool_call(value: Any, param: str) -> None:
    mapping(value, param)
    text(_required(value, "id", param), f"{param}.id")
    kind = _required(value, "type", param)
    one_of("function", "custom")(kind, f"{param}.type")
    call = _required(value, kind, param)
    mapping(call, f"{param}.{kind}")
    text(_required(call, "name", f"{param}.{kind}"), f"{param}.{kind}.name")


def _tool(value: Any, param: str) -> None:
    mapping(value, param)
    kind = _required(value, "type", param)
    one_of("function", "custom")(kind, f"{param}.type")
    tool = _required(value, kind, param)
    mapping(tool, f"{param}.{kind}")
    _NAME(_required(tool, "name", f"{param}.{kind}"), f"{param}.{kind}.name")
    for name, check in (("description", text), ("parameters", mapping), ("strict", flag)):
        if tool.get(name) is not None:
            check(tool[name], f"{param}.{kind}.{name}")


def _tool_choice(value: Any, param: str) -> None:
    if type(value) is str:
        one_of("none", "auto", "required")(value, param)
        return
    if not is_object(value):
        raise wrong(param, "a string or an object", value)
    kind = _required(value, "type", param)
    one_of("function", "custom", "allowed_tools")(kind, f"{param}.type")
    inner, where = _required(value, kind, param), f"{param}.{kind}"
    mapping(inner, where)
    if kind != "allowed_tools":
        text(_required(inner, "name", where), f"{where}.name")
        return
    items(_tool)(_required(inner, "tools", where), f"{where}.tools")
    if inner.get("mode") is not None:
        one_of("auto", "required")(inner["mode"], f"{where}.mode")


def _response_format(value: Any, param: str) -> None:
    mapping(value, param)
    kind = _required(value, "type", param)
    one_of("text", "json_object", "json_schema")(kind, f"{param}.type")
    if kind == "json_schema":
        schema = _required(value, "json_schema", param)
        mapping(schema, f"{param}.json_schema")
        _NAME(_required(schema, "name", f"{param}.json_schema"), f"{param}.json_schema.name")
        if schema.get("schema") is not None:
            mapping(schema["schema"], f"{param}.json_schema.schema")


def _stream_options(value: Any, param: str) -> None:
    mapping(value, param)
    for name in ("include_usage", "include_obfuscation"):
        if value.get(name) is not None:
            flag(value[name], f"{param}.{name}")


def _metadata(value: Any, param: str) -> None:
    mapping(value, param)
    if len(value) > 16:
        raise HTTPError(400, f"'{param}' has more than 16 keys.", param=param, code="invalid_value")
    for name, item in value.items():
        text(item, f"{param}.{name}")


def _token_list(value: Any, param: str) -> None:
    items(whole(0), at_least=1)(value, param)


def _texts_or_tokens(value: Any, param: str) -> None:
    """A string, strings, token ids, or arrays of token ids."""
    if type(value) is str:
        return
    if not is_array(value):
        raise wrong(param, "a string or an array", value)
    first: Any = value[0] if value else ""
    if type(first) is int:
        _token_list(value, param)
    else:
        items(_token_list if is_array(first) else text, at_least=1, at_most=2048)(value, param)


_SAMPLING: Fields = {
    "model": text,
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "logit_bias": mapping,
    "max_tokens": whole(1),
    "n": whole(1, 128),
    "seed": whole(-(2**63), 2**63 - 1),
    "stop": text_or_texts(4),
    "stream": flag,
    "stream_options": _stream_options,
    "user": text,
}

CHAT: Fields = {
    **_SAMPLING,
    "messages": items(_message, at_least=1),
    "audio": anything,
    "function_call": anything,
    "functions": anything,
    "logprobs": flag,
    "max_completion_tokens": whole(1),
    "metadata": _metadata,
    "modalities": items(one_of("text", "audio")),
    "moderation": anything,
    "parallel_tool_calls": flag,
    "prediction": anything,
    "prompt_cache_key": text,
    "prompt_cache_options": anything,
    "prompt_cache_retention": text,
    "reasoning_effort": one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "response_format": _response_format,
    "safety_identifier": text,
    "service_tier": text,
    "store": flag,
    "tool_choice": _tool_choice,
    "tools": items(_tool, at_most=128),
    "top_logprobs": whole(0, 20),
    "verbosity": one_of("low", "medium", "high"),
    "web_search_options": mapping,
}

COMPLETION: Fields = {
    **_SAMPLING,
    "prompt": _texts_or_tokens,
    "best_of": whole(1, 20),
    "echo": flag,
    "logprobs": whole(0, 5),
    "max_tokens": whole(0),
    "suffix": text,
}

EMBEDDING: Fields = {
    "model": text,
    "input": _texts_or_tokens,
    "dimensions": whole(1, 4096),
    "encoding_format": one_of("float", "base64"),
    "user": text,
}

METADATA: Fields = {"metadata": _metadata}


def check_chat(body: dict[str, Any]) -> None:
    """What no field can tell alone."""
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise HTTPError(400, "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs", code="invalid_value")
    _check_stream_options(body)
    tools: list[dict[str, Any]] = body.get("tools") or []
    choice: Any = body.get("tool_choice")
    if choice not in (None, "none", "auto") and not tools:
        raise HTTPError(400, "'tool_choice' needs 'tools'.", param="tool_choice", code="invalid_value")
    if is_object(choice) and choice["type"] != "allowed_tools":
        kind: str = choice["type"]
        name = choice[kind]["name"]
        if not any(tool["type"] == kind and tool[kind]["name"] == name for tool in tools):
            raise HTTPError(
                400, f"'tool_choice' names {name!r}, which 'tools' has not.", param="tool_choice", code="invalid_value"
            )
    for name in ("audio", "functions", "function_call"):
        if body.get(name):
            raise HTTPError(
                400, f"This server's models do not serve '{name}'.", param=name, code="unsupported_parameter"
            )


def check_completion(body: dict[str, Any]) -> None:
    """What no field can tell alone."""
    _check_stream_options(body)
    best_of, n = body.get("best_of"), body.get("n") or 1
    if best_of is not None and best_of < n:
        raise HTTPError(400, "'best_of' must be at least 'n'.", param="best_of", code="invalid_value")
    if best_of is not None and best_of > n and body.get("stream"):
        raise HTTPError(400, "'best_of' cannot be streamed.", param="best_of", code="invalid_value")


def _check_stream_options(body: dict[str, Any]) -> None:
    if body.get("stream_options") is not None and not body.get("stream"):
        message = "'stream_options' is only allowed when 'stream' is true."
        raise HTTPError(400, message, param="stream_options", code="invalid_value")
