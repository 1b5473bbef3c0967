"""The choice of the tool that `demo-chat` calls, and of its arguments."""

from __future__ import annotations

import re
from typing import Any

from ..core.model.plain import is_dict
from ..server import ChatRequest, ToolCallDelta
from ..server.requests import texts_of
from .answers import Question
from .arithmetic import find_expression
from .instances import Filler, as_json, instance_of

__all__ = ["choose_calls", "tell_results"]

_WEAK_WORDS = "a an and by for from get give in is it me my of on or that the this to use what with you your"
_WEAK = frozenset(_WEAK_WORDS.split())


def _stems(text: str) -> set[str]:
    """Return the words of prose or of a ``snake_case`` or ``camelCase`` name, without their usual endings."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    words = re.findall(r"[a-z]+", text.lower())
    return {re.sub(r"(?:ing|ed|es|s|e)$", "", word) for word in words if word not in _WEAK and len(word) > 2}


def _score(tool: dict[str, Any], stems: set[str]) -> float:
    """Return how well a tool matches the question: words of the name count twice, words of the description once."""
    body: dict[str, Any] = tool[tool["type"]]
    name = len(_stems(str(body["name"])) & stems)
    described = len(_stems(str(body.get("description") or "")) & stems)
    return 2 * name + described


def choose_calls(request: ChatRequest, question: Question) -> tuple[ToolCallDelta, ...]:
    """Return the calls for the user's last text, or an empty list if no tool matches and none is required or named."""
    tools, choice = request.tools, request.tool_choice
    must = choice == "required"
    if isinstance(choice, dict):
        kind: str = choice["type"]
        if kind == "allowed_tools":
            allowed: dict[str, Any] = choice[kind]
            names = {_name(tool) for tool in allowed["tools"]}
            tools = [tool for tool in tools if _name(tool) in names]
            must = allowed.get("mode") == "required"
        else:
            tools = [tool for tool in tools if _name(tool) == choice[kind]["name"]]
            must = True
    elif choice == "none":
        return ()
    stems = _stems(question.text)
    ranked = sorted(tools, key=lambda tool: -_score(tool, stems))
    wanted = [tool for tool in ranked if _score(tool, stems) >= 2] or (ranked[:1] if must else [])
    if request.body.get("parallel_tool_calls") is False or must:
        wanted = wanted[:1]
    return tuple(_call(tool, question.text, question.variant) for tool in wanted)


def _name(tool: dict[str, Any]) -> str:
    return str(tool[tool["type"]]["name"])


def _call(tool: dict[str, Any], text: str, variant: int) -> ToolCallDelta:
    body: dict[str, Any] = tool[tool["type"]]
    if tool["type"] == "custom":
        return ToolCallDelta(str(body["name"]), text, kind="custom")
    schema: dict[str, Any] = body.get("parameters") or {}
    arguments = instance_of({"type": "object", **schema}, Filler(text, variant))
    expression = find_expression(text)
    if expression is not None and is_dict(arguments) and "expression" in arguments:
        arguments["expression"] = expression
    return ToolCallDelta(str(body["name"]), as_json(arguments))


def tell_results(messages: list[dict[str, Any]]) -> str | None:
    """Return the tool results at the end of the conversation in words, `None` if it does not end with a tool result."""
    results: list[dict[str, Any]] = []
    for message in reversed(messages):
        if message["role"] not in ("tool", "function"):
            break
        results.insert(0, message)
    if not results:
        return None
    names = {
        str(call["id"]): str(call[call["type"]]["name"])
        for message in messages
        for call in message.get("tool_calls") or ()
    }
    sentences: list[str] = []
    for message in results:
        name = names.get(str(message.get("tool_call_id")), str(message.get("name") or "the tool"))
        sentences.append(f"{name} says: {_plain(texts_of(message.get('content')))}")
    return " ".join(sentences)


def _plain(content: str) -> str:
    """Return a tool's result in words: a JSON object as "name: value" pairs, any other text unchanged."""
    pairs = re.findall(r"\"([^\"]+)\"\s*:\s*(?:\"([^\"]*)\"|([-\w.]+))", content) if content.startswith("{") else []
    text = ", ".join(f"{name}: {string or other}" for name, string, other in pairs) or content.strip() or "nothing"
    return text if text[-1] in ".!?" else text + "."
