"""`demo-chat`: a small rule-based conversation partner. It knows little, but its answers are real and repeatable."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

from ..server import ChatRequest, ContentDelta, ToolCallDelta
from .answers import Question, Rule, RuleAnswer, words_of
from .arithmetic import answer_arithmetic
from .dates import answer_date
from .facts import answer_fact, courtesy
from .instances import Filler, as_json, instance_of
from .memory import reflect, remember, tell_story
from .snippets import answer_code
from .style import Style, persona, style_of
from .tasks import answer_task
from .tool_choice import choose_calls, tell_results

__all__ = ["MAX_READ", "DemoConversation", "DemoReply", "reply_to", "token_chance_of"]

_RULES: Final = (
    Rule.on(r"\b(?:story|tale)\b", tell_story),
    Rule.on(r"\bmy\b|\bi am\b|\bi'm\b|\bcall me\b|\bname is\b|\bam i\b", remember),
    Rule.on(r"\b(?:code|commands?|shell|script|functions?|program|python|sql)\b", answer_code),
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
_HOW_MANY: Final = re.compile(r"\bhow many\b", re.IGNORECASE)
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
MAX_READ: Final = 2000
"""The number of characters of a text that the rules look at; some of their patterns are not linear."""
_MAX_EARLIER: Final = 50
_THOUGHTS: Final = (
    "The user says: {text}.",
    "It is about {topic}.",
    "I look through my rules, from the plainest to the vaguest.",
    "There are {size} words to go by.",
    "I should answer in a sentence or two, and stay polite.",
    "Let me put it into words.",
)
_EFFORTS: Final = {"minimal": 1, "low": 2, "medium": 4, "high": 5, "xhigh": 6, "max": 6}
_COMMON: Final = (" the", ",", " a", ".", " and", " of", " to", " in", " it", " is", " that", " you", " I", "!", " on",
                  " for", " not", " with", " as", " we", " at", " be", " this", " have")  # fmt: skip


@dataclass(frozen=True, slots=True)
class DemoConversation:
    """A chat request, reduced to what the rules use. `images` describes all images, the newest last."""

    request: ChatRequest
    question: Question
    images: Sequence[str] = ()
    fresh: bool = False
    """Whether the last message of the user has an image."""

    @classmethod
    def of(cls, request: ChatRequest, images: Sequence[str] = ()) -> DemoConversation:
        """Reduce a request. The same seed and choice give the same answer."""
        users = [message for message in request.messages if message.role == "user"]
        texts = [message.text[:MAX_READ] for message in users]
        system = " ".join(one.text[:MAX_READ] for one in request.messages if one.role in ("system", "developer"))
        variant = (request.seed or 0) + request.index
        question = Question(texts[-1] if texts else "", texts[-1 - _MAX_EARLIER : -1], system[:MAX_READ], variant)
        return cls(request, question, images, bool(users and users[-1].images))


@dataclass(frozen=True, slots=True)
class DemoReply:
    """An answer: text or tool calls, after some reasoning."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[ToolCallDelta, ...] = ()


def reply_to(conversation: DemoConversation) -> DemoReply:
    """Answer a conversation with tool calls, with JSON, or with text."""
    request, question = conversation.request, conversation.question
    reasoning = _think(question, request.reasoning_effort or "none")
    facts = tell_results(request.body["messages"])
    if facts is None and request.tools:
        calls = choose_calls(request, question)
        if calls:
            return DemoReply(reasoning=reasoning, calls=calls)
    if facts is None and conversation.images and _is_about_images(conversation):
        facts = _describe(conversation.images, question.text)
    form = request.response_format or {}
    if form.get("type", "text") != "text":
        return DemoReply(_as_json(form, question, facts), reasoning)
    style = style_of(question.system, question.text)
    answer = RuleAnswer(facts) if facts is not None else _answer(question)
    return DemoReply(style.apply(answer), reasoning)


def _is_about_images(conversation: DemoConversation) -> bool:
    """Return whether the question is about images: it says so, or it came with one and no rule answers it."""
    question = conversation.question
    if _AN_IMAGE.search(question.text):
        return True
    if not conversation.fresh:
        return False
    return bool(_ABOUT_IMAGES.search(question.text)) or not question.text.strip() or _by_rules(question) is None


def _describe(images: Sequence[str], text: str) -> str:
    if _HOW_MANY.search(text):
        return f"There {'is 1 image' if len(images) == 1 else f'are {len(images)} images'}."
    if len(images) == 1:
        return f"The image is {images[0].removesuffix('.')}."
    names = [*_ORDINALS, *(f"{place}th" for place in range(len(_ORDINALS) + 1, len(images) + 1))]
    described = zip(names, images, strict=False)
    return " ".join(f"The {name} image is {image.removesuffix('.')}." for name, image in described)


def _answer(question: Question) -> RuleAnswer:
    name = persona(question.system)
    lower = question.text.lower()
    if name and ("your name" in lower or "who are you" in lower):
        return RuleAnswer(f"My name is {name}.", name)
    if not question.text.strip():
        return RuleAnswer("You have said nothing yet.", "Nothing")
    return _by_rules(question) or reflect(question)


def _by_rules(question: Question) -> RuleAnswer | None:
    for rule in _RULES:
        if rule.cue.search(question.text) and (found := rule.answer(question)) is not None:
            return found
    return None


def _think(question: Question, effort: str) -> str:
    lines = _THOUGHTS[: _EFFORTS.get(effort, 0)]
    words = words_of(question.text)
    topic = max(words, key=len, default="nothing").lower()
    return " ".join(line.format(text=question.text.strip(" .!?")[:80], topic=topic, size=len(words)) for line in lines)


def _as_json(form: dict[str, Any], question: Question, facts: str | None) -> str:
    if form["type"] == "json_object":
        return as_json({"answer": facts if facts is not None else Style().apply(_answer(question))})
    schema: dict[str, Any] = form["json_schema"].get("schema") or {"type": "object"}
    return as_json(instance_of(schema, Filler(facts or question.text, question.variant)))


def token_chance_of(token: str, position: int, top: int) -> ContentDelta:
    """Return a token with a plausible, deterministic log probability, the likeliest of its `top` alternatives."""
    noise = crc32(f"{position}:{token}".encode("utf-8", "surrogatepass"))
    logprob = -(noise % 900) / 1000 - 0.0001
    alternatives = [(token, logprob)]
    for rank in range(1, top):
        other = _COMMON[(noise + rank) % len(_COMMON)]
        if other == token:
            other = "\n"
        alternatives.append((other, logprob - 1.5 - 0.5 * rank - (noise >> rank) % 100 / 1000))
    return ContentDelta(token, logprob, tuple(alternatives[:top]))
