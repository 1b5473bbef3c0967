"""What answers offer beyond the description's fields: text, reasoning, vectors.

Generated Structs inherit these classes; `overrides.toml` says which. Answers may have been built leniently, so nothing
here trusts a field's declared type.
"""

from __future__ import annotations

import binascii
import sys
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

if TYPE_CHECKING:
    from ...types.chat import ChatCompletionMessage

__all__ = [
    "CONTENTS",
    "ChatCompletionText",
    "ChunkText",
    "CompletionText",
    "EmbeddingValue",
    "ResponseText",
    "Vectors",
    "has_content",
    "reasoning_of",
    "return_base64",
    "text_of",
]

CONTENTS = {
    "ChatCompletion": "choices",
    "Completion": "choices",
    "ImagesResponse": "data",
    "ModerationCreateResponse": "results",
}
"""The list that an answer of this class is about: with nothing in it, it is not an answer."""

_TRANSCRIPTS = frozenset(
    {"Transcription", "TranscriptionVerbose", "TranscriptionDiarized", "Translation", "TranslationVerbose"}
)
_SWAPPED = sys.byteorder == "big"  # embeddings travel in little-endian order


class _Choices(Protocol):
    @property
    def choices(self) -> Any: ...


class _Output(Protocol):
    @property
    def output(self) -> Any: ...


class _Value(Protocol):
    @property
    def value(self) -> Any: ...


class _Data(Protocol):
    @property
    def data(self) -> Any: ...


def text_of(content: Any) -> str:
    """The text of a message's content, which some servers send as a list of parts; "" where there is none.

    Servers that parse a model's JSON send its values in place of the text: those are written as JSON again.
    """
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(_part_text, cast("list[object]", content)))
    if isinstance(content, dict) and "text" not in content:
        return msgspec.json.encode(content).decode()
    if isinstance(content, (int, float)) and not isinstance(content, bool):
        return str(content)
    return _part_text(cast("object", content))


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    text = cast("dict[str, Any]", part).get("text") if isinstance(part, dict) else getattr(part, "text", None)
    return text if isinstance(text, str) else ""


def reasoning_of(message: object) -> str:
    """The reasoning of a message or delta, under either name that servers use for it; "" without."""
    return text_of(getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None))


def _items(value: Any) -> Sequence[Any]:
    """A list that came; nothing for what is no list."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else ()


def _first(choices: Any) -> Any:
    """The choice with index 0, or without one; `None` if there is none."""
    for choice in _items(choices):
        if not getattr(choice, "index", None):
            return choice
    return None


def _message(choices: Any) -> Any:
    items = _items(choices)
    return getattr(items[0], "message", None) if items else None


def _vector(value: Any) -> memoryview[float]:
    if not isinstance(value, bytes):
        try:
            return memoryview(array("f", cast("Any", value if isinstance(value, list) else None)))
        except (TypeError, OverflowError):
            raise ValueError("the embedding is no list of numbers") from None
    if len(value) % 4:
        raise ValueError(f"an embedding of {len(value)} bytes is no sequence of 32-bit floats")
    if not _SWAPPED:
        return memoryview(value).cast("f")
    swapped = array("f", value)
    swapped.byteswap()
    return memoryview(swapped)


class ChatCompletionText:
    """What a chat answer says, without a way through choices."""

    __slots__ = ()

    @property
    def message(self: _Choices) -> ChatCompletionMessage | None:
        """The first choice's message; `None` if the answer has no choice."""
        message: ChatCompletionMessage | None = _message(self.choices)
        return message

    @property
    def text(self: _Choices) -> str:
        """The first choice's text; "" if there is none, as with tool calls."""
        return text_of(getattr(_message(self.choices), "content", None))

    @property
    def reasoning(self: _Choices) -> str:
        """The first choice's reasoning, from servers that show it; else ""."""
        return reasoning_of(_message(self.choices))


class ChunkText:
    """What a chunk of a chat answer adds."""

    __slots__ = ()

    @property
    def text(self: _Choices) -> str:
        """The text that this chunk adds to the choice with index 0; often ""."""
        return text_of(getattr(getattr(_first(self.choices), "delta", None), "content", None))

    @property
    def reasoning(self: _Choices) -> str:
        """The reasoning that this chunk adds to the choice with index 0."""
        return reasoning_of(getattr(_first(self.choices), "delta", None))


class CompletionText:
    """What a completion says, or a chunk of one adds."""

    __slots__ = ()

    @property
    def text(self: _Choices) -> str:
        """The text of the choice with index 0, or of the only one of a whole answer; "" if there is none."""
        first = _first(self.choices)
        if first is None and "_meta" in vars(self) and len(_items(self.choices)) == 1:
            first = self.choices[0]  # a server that numbers choices as it likes
        return text_of(getattr(first, "text", None))


class ResponseText:
    """What a response says, without a way through its output."""

    __slots__ = ()

    @property
    def output_text(self: _Output) -> str:
        """The text of all messages in the output, one after another; "" if there is none."""
        messages = (item for item in _items(self.output) if getattr(item, "type", None) == "message")
        parts = (part for message in messages for part in _items(getattr(message, "content", None)))
        return "".join(_part_text(part) for part in parts if getattr(part, "type", None) == "output_text")


class EmbeddingValue:
    """One embedding, which came as base64 (and was decoded to bytes) or as a list of numbers."""

    __slots__ = ()

    @property
    def vector(self: _Value) -> memoryview[float]:
        """The numbers as 32-bit floats: a view of what came, without a copy, when it came as base64.

        Raises `ValueError` when what came is no vector of floats.
        """
        return _vector(self.value)

    @property
    def embedding(self: _Value) -> list[float]:
        """The numbers as a list, made anew at each call when they came as base64: take it once.

        The base64 text, as the official client gives it, when that was asked for; what is no vector is left as it came.
        """
        value = self.value
        embedding: Any = value
        if isinstance(value, bytes):
            if len(value) % 4 or "_base64" in vars(self):
                embedding = binascii.b2a_base64(value, newline=False).decode()
            else:
                embedding = _vector(value).tolist()
        return cast("list[float]", embedding)


class Vectors:
    """The embeddings of a whole answer."""

    __slots__ = ()

    @property
    def vectors(self: _Data) -> list[memoryview[float]]:
        """Each input's embedding as 32-bit floats, in the order of the inputs. Raises `ValueError` like `vector`."""
        items = _items(self.data)
        places = [getattr(item, "index", None) for item in items]
        if all(type(place) is int for place in places):
            items = [item for _, item in sorted(zip(places, items, strict=True), key=lambda pair: cast("int", pair[0]))]
        return [item.vector for item in items]


def return_base64(answer: Any) -> None:
    """Let `.embedding` and dumps of an answer give the base64 text: the caller asked for just that."""
    for item in _items(answer.data):
        if isinstance(item, EmbeddingValue):
            vars(item)["_base64"] = True


def has_content(answer: Any) -> bool:
    """Whether an answer holds what its kind is about: a choice with a message, an image, a verdict, words."""
    name = type(answer).__name__
    if name in _TRANSCRIPTS:
        return answer.text is not None
    return name not in CONTENTS or any(_holds(name, item) for item in _items(getattr(answer, CONTENTS[name])))


def _holds(name: str, item: Any) -> bool:
    if not hasattr(item, "to_dict"):
        return False
    if name == "ChatCompletion":
        return hasattr(item.message, "to_dict")
    if name == "Completion":
        return item.text is not None
    if name == "ImagesResponse":
        return any(value for field, value in item.to_dict().items() if field != "revised_prompt")
    return True
