"""`demo-chat`: a small rule-based conversation partner. It knows little, but what it does is real and repeatable."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from .arithmetic import answer_arithmetic
from .base import ChatModel, ChatRequest, Reply
from .dates import answer_date
from .facts import answer_fact, courtesy
from .said import Rule, Said, Turn
from .schema import Filler, as_json, instance_of
from .sight import describe, look_at
from .style import Style, persona, style_of
from .talk import reflect, remember, tell_story
from .tasks import answer_task
from .tokens import message_text, words_of
from .tools import choose_calls, tell_results

__all__ = ["DemoChat"]

_RULES: Final = (
    Rule.on(r"\b(?:story|tale)\b", tell_story),
    Rule.on(r"\bmy\b|\bi am\b|\bi'm\b|\bcall me\b|\bname is\b|\bam i\b", remember),
    Rule.on(r"\b(?:how many|count|number of|name|list|give|tell|revers|back|upper|lower|capital|sort|alphabet|spell|"
            r"say|please|repeat|echo)", answer_task),
    Rule.on(r"\b(?:day|date|weekday|when|tomorrow|yesterday|days)\b", answer_date),
    Rule.on(r"\d", answer_arithmetic),
    Rule.on(r"\b(?:how|hi|hello|hey|good|greetings|bonjour|hallo|guten|hola|thank|thx|merci|danke|gracias|bye|goodbye|"
            r"see|au|tschüss|adiós)", courtesy),
    Rule.on("", answer_fact),
)  # fmt: skip
_AN_IMAGE: Final = re.compile(r"\b(?:images?|pictures?|photos?)\b", re.IGNORECASE)
_ABOUT_IMAGES: Final = re.compile(
    r"\b(?:see|show|shown|describe|look|colou?rs?|pixels?|format)\b|^\s*what(?:'s| is) (?:this|it)\b", re.IGNORECASE
)
_MAX_READ = 2000  # characters of a text that the rules look at; some of their patterns are not linear
_MAX_EARLIER = 50
_THOUGHTS: Final = (
    "The user says: {text}.",
    "It is about {topic}.",
    "I look through my rules, from the plainest to the vaguest.",
    "There are {size} words to go by.",
    "I should answer in a sentence or two, and stay polite.",
    "Let me put it into words.",
)
_EFFORTS: Final = {"minimal": 1, "low": 2, "medium": 4, "high": 5, "xhigh": 6, "max": 6}


class DemoChat(ChatModel):
    """The chat model of the built-in server."""

    def __init__(self, id: str = "demo-chat", *, token_delay: float = 0.0) -> None:
        super().__init__(id, token_delay=token_delay)

    def reply(self, ask: ChatRequest) -> Reply:
        """Answer a conversation: with tool calls, with JSON, or with words. Raises `Refusal` (400) for a bad image."""
        messages = list(ask.messages)
        turn = _turn(messages, ask.variant)
        sights, fresh = look_at(messages)
        reasoning = _think(turn, ask.effort)
        told = tell_results(messages)
        if told is None and ask.tools:
            calls = choose_calls(ask, turn.text)
            if calls:
                return Reply(reasoning=reasoning, calls=calls)
        if told is None and sights and (_AN_IMAGE.search(turn.text) or (fresh and _is_about_images(turn))):
            told = describe(sights, turn.text)
        kind = (ask.response_format or {}).get("type", "text")
        if kind != "text":
            return Reply(_as_json(ask, turn, told), reasoning)
        style = style_of(turn.system, turn.text)
        return Reply(style.apply(Said(told) if told is not None else _say(turn, style)), reasoning)


def _turn(messages: Sequence[dict[str, Any]], variant: int) -> Turn:
    users = [message_text(message)[:_MAX_READ] for message in messages if message["role"] == "user"]
    system = " ".join(
        message_text(message)[:_MAX_READ] for message in messages if message["role"] in ("system", "developer")
    )
    text = users[-1] if users else ""
    return Turn(text, users[-1 - _MAX_EARLIER : -1], system[:_MAX_READ], variant)


def _is_about_images(turn: Turn) -> bool:
    """Whether a text that came with images asks about them, or nothing else is known to answer to it."""
    return _ABOUT_IMAGES.search(turn.text) is not None or not turn.text.strip() or _by_rules(turn) is None


def _say(turn: Turn, style: Style) -> Said:
    name = persona(turn.system)
    lower = turn.text.lower()
    if name and ("your name" in lower or "who are you" in lower):
        return Said(f"My name is {name}.", name)
    if not turn.text.strip():
        return Said("You have said nothing yet.", "Nothing")
    return _by_rules(turn) or reflect(turn)


def _by_rules(turn: Turn) -> Said | None:
    for rule in _RULES:
        if rule.cue.search(turn.text) and (said := rule.answer(turn)) is not None:
            return said
    return None


def _think(turn: Turn, effort: str) -> str:
    lines = _THOUGHTS[: _EFFORTS.get(effort, 0)]
    words = words_of(turn.text)
    topic = max(words, key=len, default="nothing").lower()
    return " ".join(line.format(text=turn.text.strip(" .!?")[:80], topic=topic, size=len(words)) for line in lines)


def _as_json(ask: ChatRequest, turn: Turn, told: str | None) -> str:
    form = ask.response_format or {}
    if form["type"] == "json_object":
        said = told if told is not None else _say(turn, Style()).text
        return as_json({"answer": said})
    schema: dict[str, Any] = form["json_schema"].get("schema") or {"type": "object"}
    return as_json(instance_of(schema, Filler(told or turn.text, turn.variant)))
