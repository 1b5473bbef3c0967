"""Reasoning that a model writes into its text, for servers that do not separate it.

Models mark it with different tags. Some have the opening tag in their prompt, so that only the closing one is written.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .partial_json import PartialJSON

__all__ = ["AnswerJSON", "ThinkSplitter", "answers_in", "drop_lone_reasoning", "split_thinking"]


class _Tags(NamedTuple):
    """A pair of tags, and the models that write it."""

    opening: str
    closing: str
    models: str


TAGS: tuple[_Tags, ...] = (
    _Tags("<think>", "</think>", "DeepSeek R1, Qwen 3, GLM, MiniMax, Hunyuan, Nemotron, most others"),
    _Tags("<thinking>", "</thinking>", "models that were prompted for it"),
    _Tags("<thought>", "</thought>", "Gemini's OpenAI endpoint, EXAONE Deep"),
    _Tags("<reasoning>", "</reasoning>", "models that were prompted for it"),
    _Tags("<reflection>", "</reflection>", "Reflection"),
    _Tags("<longcat_think>", "</longcat_think>", "LongCat"),
    _Tags("<mm:think>", "</mm:think>", "MiniMax"),
    _Tags("<seed:think>", "</seed:think>", "Seed-OSS"),
    _Tags("[THINK]", "[/THINK]", "Magistral"),
    _Tags("◁think▷", "◁/think▷", "Kimi VL"),
    _Tags("<|START_THINKING|>", "<|END_THINKING|>", "Command A"),
    _Tags("<|start_think|>", "<|end_think|>", "Snowball"),
    _Tags("<|begin_of_thought|>", "<|end_of_thought|>", "OpenThinker, Sky-T1"),
    _Tags("<|inner_prefix|>", "<|inner_suffix|>", "Apertus"),
    _Tags("<unused94>", "<unused95>", "MedGemma"),
    _Tags("<|channel>thought", "<channel|>", "Gemma 4"),
    _Tags("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>", "gpt-oss"),
)
# Other ends of reasoning: gpt-oss names its channels, with a format, or without where its special tokens are removed.
_FINAL = r"<\|channel\|>final(?:\s*<\|constrain\|>\s*\w+)?\s*<\|message\|>|assistantfinal"
# Names that prompts and fine-tunes give such tags, and the blanks that models put into them.
_NAMED = (
    r"(?:\w{1,20}[_:-])?(?:think|thinking|think_\w{1,20}|thoughts?|reasoning|reflection|scratchpad|monologue|analysis|"
    r"chain[_-]of[_-]thought|cot)"
)
_OTHER_CLOSINGS = (
    _FINAL,
    r"\[BEGIN FINAL RESPONSE\]",  # Apriel
    r"Here is my response:",  # Granite 3.2
    rf"</\s{{0,4}}{_NAMED}\s{{0,4}}>",
)
_OTHER_OPENINGS = (
    rf"<{_NAMED}\s{{0,4}}>",
    r"<\|channel\|>(?:analysis|commentary)[^<]*<\|message\|>",
    r"\AHere is my thought process:",
)

_OPENING = re.compile("|".join([*_OTHER_OPENINGS, *(re.escape(pair.opening) for pair in TAGS)]), re.IGNORECASE)
_CLOSING = re.compile("|".join([*_OTHER_CLOSINGS, *(re.escape(pair.closing) for pair in TAGS)]), re.IGNORECASE)
_TAG = re.compile(f"(?P<opening>{_OPENING.pattern})|(?P<closing>{_CLOSING.pattern})", re.IGNORECASE)
_BLANK = re.compile(r"[\ufeff\s]*")
_SIGNS = re.compile(r"[<\[◁]|assistantfinal|Here is my", re.IGNORECASE)  # every tag has one of these
_WINDOW = 80  # characters that a tag may have
_MOST_TAGS = 1_000  # tags in a growing text that may each start the value over; later ones are text
_TRIED = 8  # JSON values that are searched for in a text
_END = re.compile(r"<\|end\|>")
_INK = re.compile(r"\S")
_LONGEST = max(len(pair.opening) for pair in TAGS)


# -------------------------------------------------------------------- whole texts


def answers_in(text: str) -> list[str]:
    """Return the candidates for the answer in a text, best first: the text after the reasoning, then all around it.

    A text without reasoning is the answer itself; reasoning that never ends leaves "". Tags in a JSON value are text.
    """
    if _SIGNS.search(text) is None:
        return [text]
    at = 0
    while opening := _OPENING.match(text, _begin(text, at)):
        closing = _CLOSING.search(text, opening.end())
        if closing is None and opening[0].startswith("<|"):
            closing = _END.search(text, opening.end())
        if closing is None:
            return [""]
        at = closing.end()
    rest = text[_begin(text, at) :]
    values = _json_spans(rest)
    tags = [tag for tag in _TAG.finditer(rest) if not any(a < tag.start() < b for a, b in values)]
    last = next((i for i in range(len(tags) - 1, -1, -1) if tags[i]["closing"] is not None), None)
    if last is None:
        # Reasoning that begins after the answer is not part of it.
        return [rest] if not tags or not rest[: tags[0].start()].strip() else [rest[: tags[0].start()]]
    outside: list[str] = []
    at, inside = 0, False
    for tag in tags[: last + 1]:
        if tag["opening"] is not None and not inside:
            outside.append(rest[at : tag.start()])
            inside = True
        elif tag["closing"] is not None:
            if not inside:  # a closing tag alone ends reasoning that began before the text
                outside.clear()
            at, inside = tag.end(), False
    after = rest[at:]
    return [after, "".join([*outside, after])]


def _begin(text: str, at: int) -> int:
    """Return where the text continues after white space."""
    ink = _BLANK.match(text, at)
    return at if ink is None else ink.end()


def _json_spans(text: str) -> list[tuple[int, int]]:
    """Return the spans of complete JSON values in a text."""
    found: list[tuple[int, int]] = []
    at = 0
    for _ in range(_TRIED):
        parser = PartialJSON(skip_prose=True)
        parser.feed(text[at:])
        if not parser.complete:
            break
        start, end = parser.span
        found.append((at + start, at + end))
        at += end
    return found


# -------------------------------------------------------------------- texts that grow


class AnswerJSON:
    """The JSON value in a text that is being written, after any reasoning: `PartialJSON` past the tags.

    Only a closing tag without an opening one shows that all text before it was reasoning: the value starts over there.
    """

    __slots__ = ("_inside", "_json", "_tags", "_tail", "_tentative", "_whole")

    def __init__(self) -> None:
        self._json: PartialJSON = PartialJSON(skip_prose=True)
        self._inside = False
        self._tags = 0
        self._tail = ""  # the last characters, where a tag may have begun
        self._tentative: PartialJSON | None = None  # the text after a tag that may be part of the value
        self._whole = False  # the value was complete before that tag

    @property
    def value(self) -> object:
        """The plain values so far, `None` before any. They grow: copy them to keep them."""
        return None if self._inside and self._json.outside else self._json.value

    def feed(self, piece: str) -> None:
        """Add the next piece of the text, cut anywhere."""
        known = at = len(self._tail)
        text = self._tail + piece
        begin = 0  # of what may belong to a tag
        if self._tags < _MOST_TAGS and _SIGNS.search(text) is not None:
            for tag in _TAG.finditer(text):
                if tag.end() > known and self._tags < _MOST_TAGS:
                    self._tags += 1
                    self._plain(text[at : tag.end()])
                    at = begin = tag.end()
                    self._tagged(tag["opening"] is not None)
        self._plain(text[at:])
        self._tail = text[max(begin, len(text) - _WINDOW) :]

    def _plain(self, text: str) -> None:
        if not text:
            return
        if not self._inside:
            self._json.feed(text)
        if self._tentative is not None:
            self._try(text)

    def _tagged(self, opening: bool) -> None:
        """Note a tag, which was fed already."""
        parser = self._json
        if opening:
            if parser.outside or parser.complete:
                self._inside = True
        elif self._inside and parser.complete:
            self._inside, self._whole, self._tentative = False, True, PartialJSON(skip_prose=True)
        elif parser.in_text and not self._inside:
            self._whole, self._tentative = False, PartialJSON(skip_prose=True)
        else:
            self._json, self._inside, self._tentative = PartialJSON(skip_prose=True), False, None

    def _try(self, text: str) -> None:
        """Take text after a tag in a string: the answer if the value before it breaks, else part of that value."""
        parser = self._tentative
        assert parser is not None
        parser.feed(text)
        if self._json.broken or (self._whole and not parser.outside):
            self._json, self._tentative = parser, None
        elif self._json.complete and not self._whole:
            self._tentative = None


# -------------------------------------------------------------------- text and reasoning apart


class ThinkSplitter:
    """Separates reasoning from text in pieces, however they are cut: `feed` them, then `end`.

    Only blocks at the beginning of an answer are reasoning (several may follow each other, with white space around):
    later tags are text. White space after a block is dropped. A block that is never closed is reasoning to the end.
    """

    __slots__ = ("_after", "_blank", "_closing", "_held", "_plain")

    def __init__(self) -> None:
        self._blank: list[str] = []  # white space before the first block or the text
        self._held = ""  # what may become a tag, shorter than one
        self._closing = ""  # the closing tag of the open block
        self._after = False  # a block was closed
        self._plain = False  # the text has begun: tags no longer count

    def feed(self, piece: str) -> tuple[str, str]:
        """Return the text and the reasoning in a piece; either may be ""."""
        if self._plain:
            return piece, ""
        piece, self._held = self._held + piece, ""
        thinking: list[str] = []
        at = 0
        while at < len(piece) and not self._plain:
            at = self._close(piece, at, thinking) if self._closing else self._open(piece, at)
        return ("".join(self._leading()) + piece[at:] if self._plain else ""), "".join(thinking)

    def end(self) -> tuple[str, str]:
        """Return the characters still held back: text, or reasoning that was never closed."""
        held, self._held = self._held, ""
        return ("", held) if self._closing else ("".join(self._leading()) + held, "")

    def _leading(self) -> list[str]:
        """Return the white space before the text; it counts only if no block came before."""
        blank, self._blank = self._blank, []
        return [] if self._after else blank

    def _close(self, piece: str, at: int, thinking: list[str]) -> int:
        """Continue inside a block at a place in the piece; return how far it was read."""
        closing = self._closing
        found = piece.find(closing, at)
        if found >= 0:
            thinking.append(piece[at:found])
            self._closing, self._after, self._blank = "", True, []
            return found + len(closing)
        cut = len(piece) - _overlap(piece, closing, at)
        thinking.append(piece[at:cut])
        self._held = piece[cut:]
        return len(piece)

    def _open(self, piece: str, at: int) -> int:
        """Continue before a block or the text at a place in the piece; return how far it was read."""
        ink = _INK.search(piece, at)
        begin = len(piece) if ink is None else ink.start()
        self._blank.append(piece[at:begin])
        for pair in TAGS:
            if piece.startswith(pair.opening, begin):
                self._closing = pair.closing
                return begin + len(pair.opening)
        if len(piece) - begin < _LONGEST and any(pair.opening.startswith(piece[begin:]) for pair in TAGS):
            self._held = piece[begin:]
            return len(piece)
        self._plain = True
        return begin


def _overlap(text: str, tag: str, start: int) -> int:
    """Return how many characters at the end of a text, from `start`, may be the beginning of a tag."""
    for length in range(min(len(tag) - 1, len(text) - start), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0


def split_thinking(text: str) -> tuple[str, str]:
    """Return the text without the reasoning at its beginning, and that reasoning."""
    splitter = ThinkSplitter()
    said, thought = splitter.feed(text)
    more_said, more_thought = splitter.end()
    return said + more_said, thought + more_thought


def drop_lone_reasoning(text: str) -> tuple[str, str]:
    """Separate an answer with a closing tag alone on its line, whose opening one was in the prompt: text, reasoning."""
    for pair in TAGS:
        before, tag, after = text.partition(pair.closing)
        alone = before.endswith("\n") or after.startswith("\n") or not after
        if tag and alone and pair.opening not in before:
            return after.lstrip(), before
    return text, ""
