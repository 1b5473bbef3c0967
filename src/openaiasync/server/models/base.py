"""What the server asks of its models: plain values in, plain values out; streaming and pacing are the server's work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .hearing import Heard
from .png import Picture
from .wav import Sound

__all__ = [
    "ChatModel",
    "ChatRequest",
    "CompletionModel",
    "CompletionRequest",
    "Continuation",
    "Drawing",
    "EmbeddingModel",
    "ImageModel",
    "Model",
    "Reply",
    "SpeechModel",
    "TokenChance",
    "ToolCall",
    "TranscriptionModel",
]


class Model:
    """Any model: `id` is its name, `created` a Unix time, `token_delay` the pause before each token in seconds."""

    def __init__(self, id: str, *, token_delay: float = 0.0) -> None:
        self.id = id
        self.created = 1_767_225_600
        self.owned_by = "openaiasync"
        self.token_delay = token_delay


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants called: a function with JSON `arguments`, or a custom tool with free text."""

    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One choice to be made by a chat model.

    `messages` and `tools` are as the request has them; `variant` tells choices apart: the same ask with the same
    variant gets the same reply.
    """

    messages: Sequence[dict[str, Any]]
    tools: Sequence[dict[str, Any]] = ()
    tool_choice: str | dict[str, Any] = "auto"
    parallel: bool = True
    response_format: dict[str, Any] | None = None
    effort: str = "none"
    variant: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a chat model says: text, or tool calls, after some reasoning."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A token with its log probability, and the likeliest alternatives (itself among them when it is one)."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One text to be continued by at most `max_tokens` tokens; `variant` as in `ChatRequest`, `top` alternatives."""

    prompt: str
    max_tokens: int
    seed: int = 0
    variant: int = 0
    top: int = 0


@dataclass(frozen=True, slots=True)
class Continuation:
    """How a text goes on; `ended` when the model came to an end by itself before `max_tokens`."""

    tokens: list[TokenChance] = field(default_factory=list[TokenChance])
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture that a model made, and in words what it shows."""

    picture: Picture
    prompt: str


class ChatModel(Model, ABC):
    """A model for chat completions."""

    @abstractmethod
    def reply(self, ask: ChatRequest) -> Reply:
        """One answer; the same for the same ask. May raise `Refusal`."""


class CompletionModel(Model, ABC):
    """A model for text completions."""

    @abstractmethod
    def tokens_to_text(self, ids: Sequence[int]) -> str:
        """The text of a prompt that came as token ids."""

    @abstractmethod
    def continue_text(self, ask: CompletionRequest) -> Continuation:
        """How the text goes on; the same for the same ask."""


class EmbeddingModel(Model, ABC):
    """A model for embeddings: `dimensions` by default, inputs of `max_tokens` at most."""

    def __init__(self, id: str, *, dimensions: int, max_tokens: int) -> None:
        super().__init__(id)
        self.dimensions = dimensions
        self.max_tokens = max_tokens

    @abstractmethod
    def embed(self, text: str | list[int], dimensions: int) -> Sequence[float]:
        """The vector, of length one, of a text or of a list of token ids."""


class ImageModel(Model, ABC):
    """A model that makes pictures. The same values give the same picture; `variant` tells several apart."""

    @abstractmethod
    def draw(self, prompt: str, width: int, height: int, *, transparent: bool = False, variant: int = 0) -> Drawing:
        """A picture of what the prompt says, of this size."""

    @abstractmethod
    def edit(self, picture: Picture, prompt: str, mask: Picture | None = None, variant: int = 0) -> Drawing:
        """The picture changed as the prompt says; a mask of the same size spares what it does not leave open."""

    @abstractmethod
    def vary(self, picture: Picture, variant: int = 0) -> Drawing:
        """Another picture like this one."""


class SpeechModel(Model, ABC):
    """A model that speaks: `rate` samples a second, in one of its `voices`."""

    def __init__(self, id: str, *, rate: int, voices: Sequence[str], token_delay: float = 0.0) -> None:
        super().__init__(id, token_delay=token_delay)
        self.rate = rate
        self.voices = voices

    @abstractmethod
    def length(self, text: str, speed: float) -> int:
        """How many samples speaking the text takes."""

    @abstractmethod
    def speak(self, text: str, voice: str, speed: float) -> Iterator[tuple[bytes, str]]:
        """The sound piece by piece, as little-endian 16-bit samples, each with the text it speaks."""


class TranscriptionModel(Model, ABC):
    """A model that writes down what is spoken."""

    @abstractmethod
    def hear(self, sound: Sound) -> list[Heard]:
        """What is spoken, in order. May raise `Refusal`."""
