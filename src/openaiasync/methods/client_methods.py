"""The methods of the client itself, in addition to the official namespaces, and `client.models()`."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Unpack

from ..core.codec.accumulate import CompletionAccumulator
from ..core.codec.endpoint import Endpoint
from ..engine import Engine, Namespace
from ..engine.accumulating import AccumulatingStream
from ..engine.sealing import sealed
from ..lazy import resolve_annotations
from .common import MISSING, parameters

if TYPE_CHECKING:
    from ..bulk.job import Job, JobOptions
    from ..core.policy.request_options import RequestOptions
    from ..engine import AsyncPage, Paginator
    from ..params.completions import CompletionParams, CompletionRest
    from ..params.embeddings import EmbeddingParams, EmbeddingRest
    from ..types import Completion, CreateEmbeddingResponse, Model
    from .audio import SpeechToTextMethods, TextToSpeechMethods
    from .embed_many import EmbedManyMethods
    from .images import ImageGenerateMethods
    from .many import MapMethods
    from .vision import VisionMethods

    _Completions = AccumulatingStream[Completion, Completion]
else:
    _Completions = AccumulatingStream

__all__ = ["ClientMethods", "CompletionMethods", "CompletionStream", "EmbeddingMethods", "ModelsMethods"]


class CompletionStream(_Completions):
    """A completion in progress: iterate its parts; `await final()` returns the whole `Completion`."""


@functools.cache
def _completion_endpoint() -> Endpoint:
    from ..endpoints import COMPLETIONS_CREATE

    return COMPLETIONS_CREATE


class CompletionMethods(Namespace):
    """`client.completion(...)` and `client.completion.stream(...)`: continue a text, without chat roles."""

    @sealed
    async def __call__(
        self,
        prompt: str | Sequence[str] | Iterable[int] | Iterable[Iterable[int]] | CompletionParams | None = MISSING,
        **params: Unpack[CompletionRest],
    ) -> Completion:
        """Continue a text and return the whole answer; its text is in `.text`.

        `prompt` is a text, several, token ids, or the whole request as one dict; further parameters are those of
        ``POST /completions``. The client's default model is used if none is named.
        Raises `TypeError` for a parameter that is missing or unknown, before anything is sent, and `OpenAIError`.
        """
        endpoint = _completion_endpoint()
        made = parameters(endpoint, "completion", "prompt", prompt, dict(params))
        answer: Completion = await self._calls.run(endpoint, made)
        return answer

    @sealed
    def stream(
        self,
        prompt: str | Sequence[str] | Iterable[int] | Iterable[Iterable[int]] | CompletionParams | None = MISSING,
        **params: Unpack[CompletionRest],
    ) -> CompletionStream:
        """Return the same as a stream: ``async with client.completion.stream(...) as stream: async for ...``.

        Nothing is sent before the stream is entered or iterated. `usage` is requested and part of the `final()` answer.
        Raises the `TypeError` of the call; reading raises `OpenAIError`, such as `IncompleteStreamError`.
        """
        endpoint, calls = _completion_endpoint(), self._calls
        made = parameters(endpoint, "completion", "prompt", prompt, dict(params))
        return CompletionStream(calls, calls.stream_request(endpoint, made), CompletionAccumulator())


class EmbeddingMethods(Namespace):
    """`client.embedding(...)`: vectors for texts."""

    @sealed
    async def __call__(
        self,
        input: str | Sequence[str] | Iterable[int] | Iterable[Iterable[int]] | EmbeddingParams = MISSING,
        **params: Unpack[EmbeddingRest],
    ) -> CreateEmbeddingResponse:
        """Embed a text or several; `.vectors` holds a float view for each, in the order of the input.

        `input` is a text, several, token ids, or the whole request as one dict; further parameters are those of
        ``POST /embeddings``. Vectors travel as base64, four bytes a number, unless ``encoding_format`` says otherwise.
        Raises `TypeError` for a parameter that is missing or unknown, before anything is sent, and `OpenAIError`,
        such as `APIResponseValidationError` if the answer has no vector.
        """
        from ..endpoints import EMBEDDINGS_CREATE

        made = parameters(EMBEDDINGS_CREATE, "embedding", "input", input, dict(params))
        answer: CreateEmbeddingResponse = await self._calls.run(EMBEDDINGS_CREATE, made)
        return answer


class ModelsMethods:
    """The callable part of `client.models`."""

    _calls: Engine

    @sealed
    def __call__(self, **options: Unpack[RequestOptions]) -> Paginator[Model, AsyncPage[Model]]:
        """Return the models that the server offers, as `client.models.list()` does.

        Await it for a page with all of them in `.data`, or iterate it. Takes the options of every call.
        Raises `OpenAIError` when it is awaited or iterated.
        """
        from ..endpoints import MODELS_LIST

        return self._calls.pages(MODELS_LIST, dict(options))


class ClientMethods:
    """The client's own methods; `chat` and `models` are official namespaces that can be called."""

    _calls: Engine

    @cached_property
    def completion(self) -> CompletionMethods:
        """Continue a text."""
        return CompletionMethods(self._calls)

    @cached_property
    def embedding(self) -> EmbeddingMethods:
        """Vectors for texts."""
        return EmbeddingMethods(self._calls)

    @cached_property
    def embed_many(self) -> EmbedManyMethods:
        """Vectors for any number of texts, in as few requests as possible."""
        from .embed_many import EmbedManyMethods

        return EmbedManyMethods(self._calls)

    @cached_property
    def map(self) -> MapMethods:
        """Many rows as many calls, as fast as the servers take them."""
        from .many import MapMethods

        return MapMethods(self._calls)

    @cached_property
    def image_generate(self) -> ImageGenerateMethods:
        """Images from a description."""
        from .images import ImageGenerateMethods

        return ImageGenerateMethods(self._calls)

    @cached_property
    def text_to_speech(self) -> TextToSpeechMethods:
        """Speech from text."""
        from .audio import TextToSpeechMethods

        return TextToSpeechMethods(self._calls)

    @cached_property
    def speech_to_text(self) -> SpeechToTextMethods:
        """Text from speech."""
        from .audio import SpeechToTextMethods

        return SpeechToTextMethods(self._calls)

    @cached_property
    def vision(self) -> VisionMethods:
        """A question about images."""
        from .vision import VisionMethods

        return VisionMethods(self._calls)

    def job(self, source: str | os.PathLike[str], out: str | os.PathLike[str], **options: Unpack[JobOptions]) -> Job:
        """Send a file of requests and keep the answers: ``report = await client.job("in.jsonl", "out.jsonl")``.

        The same call again continues where the last one ended, for whatever reason; finished rows are not sent again.
        Files are those of the Batch API: see the page "Jobs". Failed rows are in ``out.errors.jsonl``.

        `source` holds JSON Lines with ``custom_id``, ``url`` and ``body``, and is checked before anything is sent.
        `out` gets one answer per line; next to it are ``out.jsonl.job/`` (the state for resuming) and
        ``out.report.json``. The options are those of `JobOptions`.

        Returns a `Job`: await it for its `JobReport`, or call its `stop()` from elsewhere. Failed rows do not raise.
        Raises `InputFileError` with the problems by line, `JobChangedError` for an output that belongs to a job with
        another input or other settings, `JobError` for anything else that prevents the job; all before anything is
        sent, except for results that cannot be written.
        """
        from ..bulk.job import Job

        return Job([self._calls], source, out, **options)


resolve_annotations(__name__)
