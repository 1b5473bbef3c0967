"""The typed requests that the server kit hands to its handlers; `body` has everything as the client sent it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.model.plain import as_list, is_dict
from ..lazy import resolve_annotations
from .form import UploadedFile

if TYPE_CHECKING:
    from .context import RequestContext

__all__ = [
    "ChatRequest",
    "CompletionRequest",
    "EmbeddingRequest",
    "ImageRequest",
    "ModerationRequest",
    "ResponseRequest",
    "ServedMessage",
    "ServedRequest",
    "SpeechRequest",
    "TranscriptionRequest",
    "input_items",
    "texts_of",
]


def texts_of(content: Any) -> str:
    """Return the text of a message's content: a string, or the text parts of a list joined by spaces."""
    if isinstance(content, str):
        return content
    kinds = ("text", "input_text", "output_text")
    return " ".join(part["text"] for part in as_list(content) if is_dict(part) and part.get("type") in kinds)


class ServedRequest:
    """What all requests have in common.

    `body` is the validated JSON body, or the fields of the form. `context` has the header fields, the query, the
    caller's `identity` as the authentication returned it, and the listener's `state`.
    """

    __slots__ = ("body", "context", "index")

    def __init__(self, body: dict[str, Any], context: RequestContext, index: int = 0) -> None:
        self.body: dict[str, Any] = body
        self.context: RequestContext = context
        self.index: int = index
        """The index of the answer, of ``n``, that this call of the handler makes, from 0."""

    @property
    def model(self) -> str:
        """The name of the model as the client gave it, ``""`` if it named none."""
        return self.body.get("model") or ""

    @property
    def stream(self) -> bool:
        """Whether the client requested a stream.

        The kit streams the handler's pieces; the handler need not check this.
        """
        return bool(self.body.get("stream"))

    @property
    def n(self) -> int:
        """The number of answers; a chat or completion handler is called once for each of them."""
        return self.body.get("n") or 1

    @property
    def temperature(self) -> float | None:
        """The sampling temperature, `None` if the client left it to the model."""
        return self.body.get("temperature")

    @property
    def seed(self) -> int | None:
        """The seed for repeatable answers."""
        return self.body.get("seed")

    @property
    def user(self) -> str | None:
        """The client's name for its end user."""
        return self.body.get("user")


class ServedMessage:
    """A message of a conversation; `raw` is the dict of the request."""

    __slots__ = ("raw",)

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw: dict[str, Any] = raw

    @property
    def role(self) -> str:
        """``system``, ``developer``, ``user``, ``assistant``, ``tool`` or ``function``."""
        return str(self.raw["role"])

    @property
    def text(self) -> str:
        """The text of the message; the texts of several parts are joined by spaces."""
        return texts_of(self.raw.get("content"))

    @property
    def images(self) -> list[str]:
        """The URLs of its images, data URLs among them."""
        parts = as_list(self.raw.get("content"))
        return [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tool calls of an assistant's message."""
        return self.raw.get("tool_calls") or []

    def __repr__(self) -> str:
        return f"<ServedMessage {self.role}: {self.text[:60]!r}>"


class ChatRequest(ServedRequest):
    """A request for one chat answer. For ``/responses`` the body is that of the equivalent chat request."""

    __slots__ = ()

    @property
    def messages(self) -> list[ServedMessage]:
        """The conversation, oldest message first."""
        return [ServedMessage(raw) for raw in self.body["messages"]]

    @property
    def text(self) -> str:
        """The text of the last message of the user, ``""`` without any."""
        users = [raw for raw in self.body["messages"] if raw["role"] == "user"]
        return texts_of(users[-1].get("content")) if users else ""

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools that may be called, as the request lists them."""
        return self.body.get("tools") or []

    @property
    def tool_choice(self) -> str | dict[str, Any]:
        """``none``, ``auto``, ``required``, or an object that names tools."""
        return self.body.get("tool_choice") or "auto"

    @property
    def max_tokens(self) -> int | None:
        """The maximum number of tokens to generate, `None` for no limit. The kit cuts the answer there."""
        return self.body.get("max_completion_tokens") or self.body.get("max_tokens")

    @property
    def stop(self) -> list[str]:
        """The stop strings. The kit cuts the answer at them."""
        stop = self.body.get("stop")
        return [] if stop is None else [stop] if isinstance(stop, str) else stop

    @property
    def response_format(self) -> dict[str, Any] | None:
        """The requested format: ``{"type": "json_schema", …}``."""
        return self.body.get("response_format")

    @property
    def reasoning_effort(self) -> str | None:
        """The requested amount of reasoning: ``none``, ``low``, …"""
        return self.body.get("reasoning_effort")


class CompletionRequest(ServedRequest):
    """A request to continue one text; `prompt` is one of the request's prompts."""

    __slots__ = ("prompt",)

    def __init__(self, body: dict[str, Any], context: RequestContext, index: int, prompt: str | list[int]) -> None:
        super().__init__(body, context, index)
        self.prompt: str | list[int] = prompt
        """A text, or the ids of its tokens."""

    @property
    def max_tokens(self) -> int:
        """The maximum number of tokens to generate, by default 16. The handler must enforce it."""
        given = self.body.get("max_tokens")
        return 16 if given is None else given

    @property
    def stop(self) -> list[str]:
        """The stop strings. The kit cuts the answer at them."""
        stop = self.body.get("stop")
        return [] if stop is None else [stop] if isinstance(stop, str) else stop


class EmbeddingRequest(ServedRequest):
    """A request to embed texts."""

    __slots__ = ()

    @property
    def inputs(self) -> list[str | list[int]]:
        """The texts, or lists of token ids, in order."""
        value = self.body["input"]
        return [value] if isinstance(value, str) or isinstance(value[0], int) else value

    @property
    def dimensions(self) -> int | None:
        """The length of each vector, `None` for the model's own."""
        return self.body.get("dimensions")


class ImageRequest(ServedRequest):
    """A request to make, edit or vary a picture."""

    __slots__ = ("images", "kind", "mask")

    def __init__(
        self, body: dict[str, Any], context: RequestContext, index: int, kind: str, images: list[UploadedFile]
    ) -> None:
        super().__init__(body, context, index)
        self.kind: str = kind
        """``image_generation``, ``image_edit`` or ``image_variation``."""
        self.images: list[UploadedFile] = images
        """The uploaded pictures; none for a generation."""
        self.mask: UploadedFile | None = body.get("mask")

    @property
    def prompt(self) -> str:
        """The description of the picture."""
        return self.body.get("prompt") or ""

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, `None` if the client leaves them to the model."""
        width, _, height = (self.body.get("size") or "").partition("x")
        return (int(width), int(height)) if width.isdigit() and height.isdigit() else None

    @property
    def partial_images(self) -> int:
        """How many unfinished pictures a stream should show before each finished one."""
        return self.body.get("partial_images") or 0


class SpeechRequest(ServedRequest):
    """A request to speak a text."""

    __slots__ = ()

    @property
    def text(self) -> str:
        """The text."""
        return str(self.body["input"])

    @property
    def voice(self) -> str:
        """The name or id of the voice."""
        voice: Any = self.body["voice"]
        return str(voice if isinstance(voice, str) else voice["id"])

    @property
    def speed(self) -> float:
        """The speed of the speech, by default 1.0."""
        return float(self.body.get("speed") or 1.0)

    @property
    def format(self) -> str | None:
        """The requested format: ``wav``, ``pcm``, ``mp3``, …; `None` leaves it to the handler."""
        return self.body.get("response_format")


class TranscriptionRequest(ServedRequest):
    """A request to transcribe a sound, in its language or (`translate`) in English."""

    __slots__ = ("translate",)

    def __init__(self, body: dict[str, Any], context: RequestContext, translate: bool) -> None:
        super().__init__(body, context)
        self.translate: bool = translate

    @property
    def file(self) -> UploadedFile:
        """The upload: `content`, `file_name`, `media_type`."""
        file: UploadedFile = self.body["file"]
        return file

    @property
    def language(self) -> str | None:
        """The code of the language, if the client knows it."""
        return self.body.get("language")

    @property
    def prompt(self) -> str | None:
        """A text in the style of the transcript."""
        return self.body.get("prompt")


class ModerationRequest(ServedRequest):
    """A request to classify texts and pictures."""

    __slots__ = ()

    @property
    def inputs(self) -> list[str | dict[str, Any]]:
        """The texts, or parts with a text or the URL of a picture, in order."""
        value = self.body["input"]
        return [value] if isinstance(value, str) else value


class ResponseRequest(ServedRequest):
    """A request of the Responses API, for handlers that serve it themselves."""

    __slots__ = ()

    @property
    def input(self) -> list[dict[str, Any]]:
        """The input items; a plain text is one message of the user."""
        return input_items(self.body)


def input_items(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the input items of a request of the Responses API."""
    value = body.get("input")
    return [{"type": "message", "role": "user", "content": value}] if isinstance(value, str) else value or []


resolve_annotations(__name__)
