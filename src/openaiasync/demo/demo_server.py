"""The demo server: handlers on the server kit, for any model name or (with `strict`) only for the demo's own models."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncGenerator, Iterable, Iterator
from itertools import chain
from typing import Any, Final, TypeVar

from ..core.model.plain import as_list
from ..server import (
    ChatRequest,
    CompletionRequest,
    ContentDelta,
    EmbeddingRequest,
    Finish,
    HTTPError,
    ImageRequest,
    ModerationRequest,
    ReasoningDelta,
    Server,
    SpeechRequest,
    ToolCallDelta,
    Transcript,
    TranscriptionRequest,
)
from ..server.requests import ServedRequest
from ..server.tokens import count_tokens, split_tokens
from .chat import DemoConversation, reply_to, token_chance_of
from .draw import draw
from .embed import DIMENSIONS, embed
from .markov import continue_text
from .media import describe_image, text_of_image
from .speech import speak, transcribe

__all__ = ["DEMO_MODELS", "demo_app"]

P = TypeVar("P")

DEMO_MODELS: Final = {
    "chat": "demo-chat",
    "completion": "demo-complete",
    "image": "demo-image",
    "speech": "demo-tts",
    "transcription": "demo-stt",
    "embedding": "demo-embed",
    "moderation": "demo-moderation",
}
"""The demo's models by their kind."""

_MAX_TOKENS: Final = 16_384  # of one answer
_CONTEXT: Final = 128_000  # tokens
_MAX_INPUT: Final = 8192  # tokens of a text to be embedded
_CREATED: Final = 1_767_225_600
_MAX_DELAY: Final = 10.0
_HARM: Final = {"violence": ("kill", "murder", "stab", "shoot"), "harassment": ("idiot", "stupid"), "hate": ("hate",)}


def demo_app(api_key: str | None = None, token_delay: float = 0.0, *, strict: bool = False, **options: Any) -> Server:
    """Return the demo server's application.

    `token_delay` is the pause before each token in seconds; ``?token_delay=`` in a request's query overrides it.
    Any model name is served, and unknown request fields are ignored; with `strict` both are errors. `options` are
    those of `Server`.
    """
    options = {"rpm": 1_000_000, "tpm": 100_000_000, **options}
    app = Server(api_keys=api_key, strict=strict, **options)
    app.created = _CREATED
    demo = _Demo(token_delay)
    for kind, name in DEMO_MODELS.items():
        handler = getattr(demo, kind)
        app.handlers.add(kind, [name], handler)
        if not strict:
            app.handlers.add(kind, [], handler)
    return app


class _Demo:
    """The handlers, each named after its kind of request."""

    def __init__(self, token_delay: float) -> None:
        self._token_delay = token_delay

    def _delay(self, request: ServedRequest) -> float:
        """Return the pause before each token. Raises `HTTPError` (400) for an invalid one in the query."""
        if not request.context.scope["query_string"]:
            return self._token_delay
        text = dict(request.context.query()).get("token_delay")
        try:
            delay = self._token_delay if text is None else float(text)
        except ValueError:
            delay = -1.0
        if not 0 <= delay <= _MAX_DELAY:
            message = f"'token_delay' must be a number of seconds from 0 to {_MAX_DELAY:g}."
            raise HTTPError(400, message, param="token_delay", code="invalid_value")
        return delay

    async def chat(
        self, request: ChatRequest
    ) -> AsyncGenerator[ContentDelta | ReasoningDelta | ToolCallDelta | Finish]:
        """Answer with text by rules, with tool calls, or with JSON that fits a schema."""
        delay = self._delay(request)
        _check_length(request)
        images = _look_at(request)
        conversation = DemoConversation.of(request, images)
        reply = reply_to(conversation)
        pieces: Iterator[ReasoningDelta | ContentDelta | ToolCallDelta]
        if reply.calls:
            pieces = (piece for call in reply.calls for piece in _call_pieces(call))
        elif request.body.get("logprobs"):
            top: int = request.body.get("top_logprobs") or 0
            pieces = (token_chance_of(token, place, top) for place, token in enumerate(split_tokens(reply.text)))
        else:
            pieces = map(ContentDelta, split_tokens(reply.text))
        pieces = chain(map(ReasoningDelta, split_tokens(reply.reasoning)), pieces)
        async for piece in _paced(pieces, delay, request.max_tokens or _MAX_TOKENS):
            yield piece

    async def completion(self, request: CompletionRequest) -> AsyncGenerator[ContentDelta | Finish]:
        """Continue a text with a Markov chain."""
        pieces = continue_text(request.prompt, request.seed or 0, request.index, request.body.get("logprobs") or 0)
        async for piece in _paced(pieces, self._delay(request), request.max_tokens):
            yield piece

    async def embedding(self, request: EmbeddingRequest) -> list[list[float]]:
        """Embed texts by hashed words and parts of words."""
        vectors: list[list[float]] = []
        for place, text in enumerate(request.inputs):
            size = len(split_tokens(text)) if isinstance(text, str) else len(text)
            if size > _MAX_INPUT:
                param = f"input[{place}]" if len(request.inputs) > 1 else "input"
                message = f"'{param}' has {size} tokens; the maximum is {_MAX_INPUT}."
                raise HTTPError(400, message, param=param, code="context_length_exceeded")
            vectors.append(embed(text, request.dimensions or DIMENSIONS))
            if place % 16 == 15:
                await asyncio.sleep(0)
        return vectors

    def image(self, request: ImageRequest) -> Iterator[dict[str, object]]:
        """Draw the shapes that the prompt names and store it in the file. Edits add to the uploaded file's prompt."""
        before = [text_of_image(upload.content) or "a picture" for upload in request.images]
        prompt = " with ".join([*before[:1], request.prompt]).removesuffix(" with ") if before else request.prompt
        width, height = request.size or (1024, 1024)
        clear = request.body.get("background") == "transparent"
        for step in range(request.partial_images if request.stream else 0, -1, -1):
            png, caption = draw(prompt, width, height, variant=request.index, transparent=clear, coarse=4**step)
            yield {"bytes": png, "revised_prompt": caption}

    async def speech(self, request: SpeechRequest) -> AsyncGenerator[bytes]:
        """Play one note per word, with the text in the file's metadata."""
        delay = self._delay(request)
        for piece in speak(request.text, request.voice, request.speed, bare=request.format == "pcm"):
            await asyncio.sleep(delay)
            yield piece

    def transcription(self, request: TranscriptionRequest) -> Transcript:
        """Return the text that `demo-tts` stored in the file; for any other sound, describe its format and size."""
        return transcribe(request.file.content, request.language)

    async def moderation(self, request: ModerationRequest) -> list[dict[str, float]]:
        """Flag a handful of words."""
        texts = [one if isinstance(one, str) else str(one.get("text", "")) for one in request.inputs]
        return [
            {name: 0.98 for name, words in _HARM.items() if any(word in text.lower() for word in words)}
            for text in texts
        ]


async def _paced(pieces: Iterable[P], delay: float, most: int) -> AsyncGenerator[P | Finish]:
    """Yield the pieces of an answer with a pause before each, at most so many, or as many as any answer has."""
    for count, piece in enumerate(pieces):
        if count == min(most, _MAX_TOKENS):
            yield Finish("length")
            return
        if delay:
            await asyncio.sleep(delay)
        yield piece


def _call_pieces(call: ToolCallDelta) -> Iterator[ToolCallDelta]:
    yield ToolCallDelta(call.name, kind=call.kind)
    for token in split_tokens(call.arguments):
        yield ToolCallDelta(arguments=token)


def _check_length(request: ChatRequest) -> None:
    texts = [message.text for message in request.messages]
    # Counting tokens takes time: a conversation that is far too long is refused by its characters.
    if sum(map(len, texts)) > 8 * _CONTEXT or sum(map(count_tokens, texts)) > _CONTEXT:
        message = f"The messages are longer than this model's context of {_CONTEXT} tokens."
        raise HTTPError(400, message, param="messages", code="context_length_exceeded")


def _look_at(request: ChatRequest) -> list[str]:
    """Describe each image of the conversation. Raises `HTTPError` (400) for a URL that is not a data URL."""
    shown: list[str] = []
    for place, message in enumerate(request.body["messages"]):
        for number, part in enumerate(as_list(message.get("content"))):
            if part.get("type") != "image_url":
                continue
            where = f"messages[{place}].content[{number}].image_url.url"
            head, _, data = str(part["image_url"]["url"]).partition(";base64,")
            try:
                image = b64decode(data, validate=True) if head.startswith("data:") else b""
            except ValueError:
                image = b""
            if not image:
                text = "An image must come as a data URL in base64; this server fetches nothing."
                raise HTTPError(400, text, param=where, code="invalid_image_url")
            try:
                shown.append(describe_image(image))
            except ValueError as error:
                raise HTTPError(400, f"The image cannot be used: {error}.", param=where, code="invalid_image") from None
    return shown
