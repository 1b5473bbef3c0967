"""Convenience properties of answers: text, reasoning, vectors, images.

Generated Structs inherit these classes; `spec/overrides.toml` lists which. Answers may have been built leniently, so
nothing here trusts the declared type of a field. An image that the server sent as a link is downloaded by the client of
its call, which is why such an answer holds a reference to its client.
"""

from __future__ import annotations

import base64
import binascii
import builtins
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import unquote_to_bytes

import msgspec

from ...lazy import resolve_annotations
from .elsewhere import Elsewhere
from .media_types import image_type
from .notebook import LARGEST_SHOWN, calls_and_text, media_html, tag
from .plain import as_list, is_dict, is_list
from .vector import Vector, VectorList

if TYPE_CHECKING:
    from ...types.chat import ChatCompletionMessage

__all__ = [
    "CONTENTS",
    "ChatCompletionText",
    "ChunkText",
    "CompletionText",
    "EmbeddingValue",
    "Fetch",
    "ImageData",
    "Images",
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
"""The list that holds the content of each class of answers: if it is empty, the object is not an answer."""

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
    """Return the text of a message's content, which some servers send as a list of parts; "" without any.

    Servers that parse a model's JSON send its values instead of the text: they are encoded as JSON again.
    """
    if isinstance(content, str):
        return content
    if is_list(content):
        return "".join(map(_part_text, content))
    if is_dict(content) and "text" not in content:
        return msgspec.json.encode(content).decode()
    if isinstance(content, (int, float)) and not isinstance(content, bool):
        return str(content)
    return _part_text(content)


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if is_dict(part) else getattr(part, "text", None)
    return text if isinstance(text, str) else ""


def reasoning_of(message: object) -> str:
    """Return the reasoning of a message or delta, under either of its names (DeepSeek, vLLM); "" without any."""
    return text_of(getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None))


def _first(choices: Any) -> Any:
    """Return the choice with index 0, or without an index; `None` without such a choice."""
    for choice in as_list(choices):
        if not getattr(choice, "index", None):
            return choice
    return None


def _output_text(output: Any) -> str:
    messages = (item for item in as_list(output) if getattr(item, "type", None) == "message")
    parts = (part for message in messages for part in as_list(getattr(message, "content", None)))
    return "".join(_part_text(part) for part in parts if getattr(part, "type", None) == "output_text")


def _message(choices: Any) -> Any:
    items = as_list(choices)
    return getattr(items[0], "message", None) if items else None


def _vector(value: Any) -> Vector:
    if not isinstance(value, bytes):
        try:
            return Vector("f", cast("Any", value if isinstance(value, list) else None))
        except (TypeError, OverflowError):
            raise ValueError("the embedding is not a list of numbers") from None
    if len(value) % 4:
        raise ValueError(f"an embedding of {len(value)} bytes is not a sequence of 32-bit floats")
    vector = Vector("f", value)
    if _SWAPPED:
        vector.byteswap()
    return vector


class ChatCompletionText:
    """Text and reasoning of a chat answer, without a path through its choices."""

    __slots__ = ()

    if not TYPE_CHECKING:  # checkers report these names
        content = Elsewhere("the text is .text, or .choices[0].message.content")
        output_text = Elsewhere("the text is .text")
        role = Elsewhere("it is .message.role")
        tool_calls = Elsewhere("they are .message.tool_calls")
        parsed = Elsewhere("client.chat.parse(..., into=...) returns a value of a type")
        delta = Elsewhere("a whole answer has .message; chunks of a stream have .choices[0].delta")

    @property
    def message(self: _Choices) -> ChatCompletionMessage | None:
        """The first choice's message; `None` if the answer has no choice."""
        message: ChatCompletionMessage | None = _message(self.choices)
        return message

    @property
    def text(self: _Choices) -> str:
        """The first choice's text; "" without any, as with tool calls."""
        return text_of(getattr(_message(self.choices), "content", None))

    @property
    def reasoning(self: _Choices) -> str:
        """The first choice's reasoning, where the server sends it; else ""."""
        return reasoning_of(_message(self.choices))

    def _repr_markdown_(self: _Choices) -> str | None:
        """Return what a notebook shows: the first choice's tool calls and text; `None` (the plain repr) without any."""
        message = _message(self.choices)
        functions = [getattr(call, "function", None) for call in as_list(getattr(message, "tool_calls", None))]
        calls = [(str(getattr(f, "name", "")), str(getattr(f, "arguments", "")), "") for f in functions if f]
        text = text_of(getattr(message, "content", None) or getattr(message, "refusal", None))
        return calls_and_text(calls, text)


class ChunkText:
    """The text and reasoning that a chunk of a chat answer adds."""

    __slots__ = ()

    if not TYPE_CHECKING:  # checkers report these names
        content = Elsewhere("the text that a chunk adds is .text, or .choices[0].delta.content")
        delta = Elsewhere("it is .choices[0].delta")
        message = Elsewhere("a chunk has .choices[0].delta; the whole answer is that of the stream's final()")

    @property
    def text(self: _Choices) -> str:
        """The text that this chunk adds to choice 0; often ""."""
        return text_of(getattr(getattr(_first(self.choices), "delta", None), "content", None))

    @property
    def reasoning(self: _Choices) -> str:
        """The reasoning that this chunk adds to choice 0."""
        return reasoning_of(getattr(_first(self.choices), "delta", None))


class CompletionText:
    """The text of a completion, or that a chunk of one adds."""

    __slots__ = ()

    if not TYPE_CHECKING:  # checkers report these names
        content = Elsewhere("the text is .text, or .choices[0].text")
        message = Elsewhere("a completion has .text; chat answers have messages")

    @property
    def text(self: _Choices) -> str:
        """The text of choice 0, or of the only choice of a whole answer; "" without any."""
        first = _first(self.choices)
        if first is None and "_meta" in vars(self) and len(as_list(self.choices)) == 1:
            first = self.choices[0]  # some servers number choices arbitrarily
        return text_of(getattr(first, "text", None))


class ResponseText:
    """The text of a response, without a path through its output."""

    __slots__ = ()

    if not TYPE_CHECKING:  # checkers report these names
        content = Elsewhere("the text is .output_text; the messages are in .output")
        choices = Elsewhere("a response has .output, and its text in .output_text")
        message = Elsewhere("the messages are in .output, and their text in .output_text")

    @property
    def output_text(self: _Output) -> str:
        """The text of all messages in the output, joined; "" without any."""
        return _output_text(self.output)

    def _repr_markdown_(self: _Output) -> str | None:
        """Return what a notebook shows: the calls of functions, and the text; `None` (the plain repr) without any."""
        items = [item for item in as_list(self.output) if getattr(item, "type", None) == "function_call"]
        calls = [(str(getattr(item, "name", "")), str(getattr(item, "arguments", "")), "") for item in items]
        return calls_and_text(calls, _output_text(self.output))


class EmbeddingValue:
    """One embedding, sent as base64 (and decoded to bytes) or as a list of numbers."""

    __slots__ = ()

    @property
    def vector(self: _Value) -> Vector:
        """The numbers as 32-bit floats, a new array at each access: keep it in a variable.

        Raises `ValueError` if the value is not a vector of floats.
        """
        return _vector(self.value)

    @property
    def embedding(self: _Value) -> list[float]:
        """The numbers as a list, a new one at each access if they were sent as base64: keep it in a variable.

        If base64 was requested it is that text, as with the official client; a value that is not a vector is returned
        unchanged.
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
    """The embeddings of an answer."""

    __slots__ = ()

    if not TYPE_CHECKING:  # checkers report these names
        embedding = Elsewhere("it is .data[0].embedding; all of them are .vectors")
        embeddings = Elsewhere("they are .vectors, or the .embedding of each of .data")
        vector = Elsewhere("it is .vectors[0]")

    @property
    def vectors(self: _Data) -> VectorList:
        """Each input's embedding as 32-bit floats, in the order of the inputs. Raises `ValueError` like `vector`."""
        items = as_list(self.data)
        places = [getattr(item, "index", None) for item in items]
        if all(type(place) is int for place in places):
            items = [item for _, item in sorted(zip(places, items, strict=True), key=lambda pair: cast("int", pair[0]))]
        if not all(isinstance(item, EmbeddingValue) for item in items):
            raise ValueError("the answer has an embedding that is not an object")
        return VectorList(item.vector for item in items)


def return_base64(answer: Any) -> None:
    """Make `.embedding` and dumps of an answer return the base64 text, because the caller requested it."""
    for item in as_list(answer.data):
        if isinstance(item, EmbeddingValue):
            vars(item)["_base64"] = True


def has_content(answer: Any) -> bool:
    """Whether an answer has the content of its kind, such as a choice with a message, an image or a transcript."""
    name = type(answer).__name__
    if name in _TRANSCRIPTS:
        return answer.text is not None
    return name not in CONTENTS or any(_holds(name, item) for item in as_list(getattr(answer, CONTENTS[name])))


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


class Fetch(Protocol):
    """Downloads a link, without the API key."""

    async def __call__(self, url: str) -> builtins.bytes: ...


class ImageData:
    """The bytes of an image that was sent as base64 or as a link."""

    __slots__ = ()

    async def bytes(self) -> builtins.bytes:
        """Return the image: decoded, or downloaded by a plain GET without any credentials.

        Raises `ValueError` if there is neither base64 nor a link, or it cannot be decoded; `RuntimeError` for a link in
        an answer without a client (an unpickled one); `OpenAIError` if downloading fails.
        """
        encoded, link = getattr(self, "b64_json", None), getattr(self, "url", None)
        if isinstance(encoded, str) and encoded:
            return _decoded(encoded)
        if not isinstance(link, str) or not link:
            raise ValueError("the server sent neither the image nor a link to it")
        if link.startswith("data:"):
            return _of_data_url(link)
        fetch: Fetch | None = vars(self).get("_source")
        if fetch is None:
            raise RuntimeError(f"this image has no client to download it; get it from {link}")
        return await fetch(link)

    async def save(self, path: str | os.PathLike[str]) -> None:
        """Write the image to a file, in a thread. An existing file is replaced as a whole, or left unchanged.

        Raises the errors of `bytes`, and `OSError`.
        """
        from ...storage.atomic import write_whole

        await write_whole(path, await self.bytes())

    def _of_type(self, kind: str) -> builtins.bytes | None:
        image = _sent_whole(self)
        return image if image is not None and image_type(image) == kind else None

    def _repr_png_(self) -> builtins.bytes | None:
        """Return what a notebook shows for a PNG image; `None` for another."""
        return self._of_type("image/png")

    def _repr_jpeg_(self) -> builtins.bytes | None:
        """Return what a notebook shows for a JPEG image; `None` for another."""
        return self._of_type("image/jpeg")

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows for other types and for a link; `None` for PNG and JPEG."""
        image = _sent_whole(self)
        return None if image and image_type(image) in ("image/png", "image/jpeg") else _image_html(self, image)


def _sent_whole(item: ImageData) -> bytes | None:
    """Return the image if it was sent as base64 that decodes, and is small enough for a notebook."""
    encoded: object = getattr(item, "b64_json", None)
    if not isinstance(encoded, str) or not encoded or len(encoded) > LARGEST_SHOWN * 4 // 3 + 128:
        return None
    try:
        return _decoded(encoded)
    except ValueError:
        return None


def _image_html(item: ImageData, image: bytes | None) -> str | None:
    """Return the HTML element of an image or of the link to it; `None` if it cannot be shown."""
    if image is not None:
        return media_html(image)
    link: object = getattr(item, "url", None)
    shown = isinstance(link, str) and link.startswith(("https://", "http://", "data:image/"))
    return tag("image", str(link)) if shown else None


class Images:
    """An answer whose `data` are images."""

    __slots__ = ()

    if not TYPE_CHECKING:  # checkers report these names
        url = Elsewhere("it is .data[0].url; await .data[0].bytes() downloads it")
        b64_json = Elsewhere("it is .data[0].b64_json; await .data[0].bytes() decodes it")
        image = Elsewhere("it is .data[0]; await .data[0].save(path) writes it to a file")
        save = Elsewhere("await .data[0].save(path) writes the first image to a file")

    def attach(self, fetch: Fetch) -> None:
        """Give every image the function that downloads links; called by the client of the call."""
        for image in as_list(getattr(self, "data", None)):
            if isinstance(image, ImageData):
                vars(image)["_source"] = fetch

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows: all images; `None` (the plain repr) if none can be shown."""
        items = [item for item in as_list(getattr(self, "data", None)) if isinstance(item, ImageData)]
        return "\n".join(filter(None, (_image_html(item, _sent_whole(item)) for item in items))) or None


def _decoded(text: str) -> bytes:
    if text.startswith("data:"):  # some servers send a data URL in place of base64
        return _of_data_url(text)
    try:
        return base64.b64decode("".join(text.split()), validate=True)  # some servers break it into lines (RFC 2045)
    except ValueError as error:
        raise ValueError(f"the image is not base64: {error}") from None


def _of_data_url(url: str) -> bytes:
    """Return the content of a ``data:`` URL (RFC 2397)."""
    kind, comma, data = url.partition(",")
    if not comma:
        raise ValueError("the image's data URL has no data")
    return _decoded(data) if kind.endswith(";base64") else unquote_to_bytes(data)


resolve_annotations(__name__)
