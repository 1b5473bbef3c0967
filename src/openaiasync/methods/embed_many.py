"""`client.embed_many(texts)`: vectors for any number of texts, in as few requests as the server allows.

The scheduler of the bulk engine sends the batches, several at once. A batch that the server refuses is split in halves
and sent again until the texts at fault are found; all other texts have their vectors by then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Sized,
)
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, Unpack, cast

import msgspec

from ..bulk.row import Outcome, Summary, Work
from ..bulk.scheduler import Scheduler
from ..bulk.sending import is_passing
from ..core.codec.endpoint import Request
from ..core.model.closing import refuse_second_pass
from ..core.model.meta import Meta
from ..core.model.vector import Vector, VectorList
from ..core.policy.estimate import model_of
from ..endpoints import EMBEDDINGS_CREATE
from ..engine import Engine
from ..engine.sealing import sealed
from ..errors import APIStatusError, InFlightError, OpenAIError, Side
from ..lazy import resolve_annotations
from ..types import CreateEmbeddingResponse

if TYPE_CHECKING:
    from ..params.embeddings import EmbeddingRest
    from ..types.create_embedding_response import Usage

__all__ = ["EmbedManyAnswer", "EmbedManyError", "EmbedManyMethods", "EmbedManyStream", "EmbeddedText"]

Text: TypeAlias = str | Sequence[int]
Texts: TypeAlias = Iterable[Text] | AsyncIterable[Text]
Tokenizer: TypeAlias = Callable[[str], int | Sized]

_AT_ONCE = 8  # requests, for a client without a limit on calls in flight
_ABOUT_TEXTS = frozenset({400, 413, 422, 500})  # llama.cpp answers 500 to a text that is too long
_GIVE_UP_AFTER = 60.0  # seconds without a working server; shorter than for a job, since the caller waits for this call
_GIVE_UP = 8  # texts refused one by one with none accepted: the request is at fault, not the texts


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedText:
    """A text with its vector, 32-bit floats; `index` is its place among all texts, from 0."""

    index: int
    text: Text
    vector: Vector


class EmbedManyAnswer(msgspec.Struct, frozen=True, eq=False):
    """The vectors of all texts, in their order; 32-bit floats, as `CreateEmbeddingResponse.vectors`.

    `usage` is the sum over all requests, `model` the name in the first answer; each is `None` if no answer has it.
    """

    vectors: VectorList
    usage: Usage | None
    model: str | None

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Iterate over the fields with the vectors as lists of numbers, so that ``dict(answer)`` can become JSON."""
        yield "vectors", self.vectors.tolist()
        yield "usage", self.usage
        yield "model", self.model


class EmbedManyError(OpenAIError):
    """Some texts of `client.embed_many` have no vector; the cause is the first failure, as a single call raises it.

    `refused` says by index why the server refused a text, `index` is the first of them (`None`: a request failed as a
    whole); `vectors` holds the finished vectors by index; `usage` is the sum of the answered requests.
    """

    def __init__(
        self,
        cause: OpenAIError,
        *,
        refused: dict[int, APIStatusError],
        vectors: dict[int, Vector],
        usage: Usage | None,
    ) -> None:
        self.index: int | None = min(refused, default=None)
        if self.index is None:
            text = f"embed_many stopped: {cause}"
        elif len(refused) == 1:
            text = f"texts[{self.index}] was refused: {cause}"
        else:
            text = f"{len(refused)} texts were refused, the first of them texts[{self.index}]: {cause}"
        super().__init__(text)
        self.refused = refused
        self.vectors = vectors
        self.usage = usage
        self.side: Side = cause.side
        self.retryable: bool = cause.retryable
        self.meta: Meta | None = cause.meta
        self.tries: int = cause.tries
        self.elapsed: float = cause.elapsed


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text that waits for its vector."""

    index: int
    text: Text


class _Batch:
    """Consecutive texts that form one row of the scheduler, and those of them still to be sent."""

    __slots__ = ("done", "refused", "rows", "sent", "texts", "todo")

    def __init__(self, texts: list[_Piece]) -> None:
        self.texts = texts
        self.sent: list[_Piece] = []  # the texts of the current request
        self.todo: list[list[_Piece] | tuple[int, int]] = [texts]
        """A stack of requests; the halves of a refused one are followed by their size, and the earlier `refused`."""
        self.rows: list[EmbeddedText] = []
        self.refused = 0
        self.done = False

    def halve(self, texts: list[_Piece]) -> None:
        """Send these texts in two requests, before all others."""
        half = len(texts) // 2
        self.todo += [texts[half:], texts[:half]]


@dataclass(frozen=True, slots=True)
class _Batching:
    """The distribution of texts over requests, and the parameters that all requests share."""

    size: int
    tokens: int
    tokenizer: Tokenizer | None
    concurrency: int
    retries: int
    params: dict[str, Any]

    def weight(self, piece: _Piece) -> int:
        """Return an upper limit of a text's tokens: no tokenizer makes more tokens than there are bytes."""
        text = piece.text
        if isinstance(text, str):
            try:
                raw = text.encode()
            except UnicodeEncodeError:
                raise ValueError(
                    f"texts[{piece.index}] holds half of a surrogate pair, which UTF-8 cannot carry"
                ) from None
            if self.tokenizer is None:
                return len(raw)
            counted = self.tokenizer(text)
            return counted if isinstance(counted, int) else len(counted)
        if isinstance(cast("object", text), (bytes, bytearray, memoryview)) or not isinstance(
            cast("object", text), Sequence
        ):
            raise TypeError(f"texts[{piece.index}] is a {type(text).__name__}, neither a text nor a list of token ids")
        return len(text)


class EmbedManyMethods:
    """`client.embed_many(...)` and `client.embed_many.stream(...)`."""

    def __init__(self, calls: Engine) -> None:
        if calls.raw:
            raise AttributeError("embed_many makes several requests and has no raw answer; embeddings.create has one")
        self._calls = calls

    @sealed
    async def __call__(
        self,
        texts: Texts,
        *,
        batch_size: int = 512,
        batch_tokens: int = 300_000,
        tokenizer: Tokenizer | None = None,
        concurrency: int | None = None,
        **params: Unpack[EmbeddingRest],
    ) -> EmbedManyAnswer:
        """Embed any number of texts; `.vectors` holds a `Vector` for each, in their order.

        Args:
            texts: texts, or lists of token ids, from any iterable or asynchronous iterable. It is read as vectors
                arrive; its exceptions are passed on unchanged.
            batch_size: the maximum number of texts in a request; OpenAI's API accepts 2,048. A smaller limit of the
                server is detected.
            batch_tokens: the maximum number of tokens in a request, unless a single text has more; OpenAI's API
                accepts 300,000.
            tokenizer: returns the number of tokens of a text, or a list of them. Default: its UTF-8 bytes, an upper
                limit.
            concurrency: requests at once, including those that wait after a 429. Default: the client's
                `http_max_in_flight`, or 8 if it has no limit; this number applies to each of its servers.
            params: those of ``POST /embeddings`` and the options of a call, for each request.

        After a 429 a request waits until the server's limits allow it; other temporary failures are retried
        `max_retries` times. A request refused with 400, 413, 422 or 500 is split into halves and sent again. Raises
        `EmbedManyError` at the end if texts were refused (`refused` has them by index), or if a request fails for
        another reason, or no server works for a minute or asks for a longer pause; the error has the finished
        `vectors`, and the failure is its `__cause__`. Raises `TypeError` or `ValueError` for invalid parameters, before
        anything is sent, and for an item that is not a text.
        """
        vectors: dict[int, Vector] = {}
        batching = self._batching(batch_size, batch_tokens, tokenizer, concurrency, dict(params))
        async with EmbedManyStream(_Run(self._calls, texts, batching)) as stream:
            try:
                async for done in stream:
                    vectors[done.index] = done.vector
            except EmbedManyError as error:
                error.vectors = {**vectors, **error.vectors}
                raise
        return EmbedManyAnswer(VectorList(vectors.values()), stream.usage, stream.model)

    @sealed
    def stream(
        self,
        texts: Texts,
        *,
        batch_size: int = 512,
        batch_tokens: int = 300_000,
        tokenizer: Tokenizer | None = None,
        concurrency: int | None = None,
        **params: Unpack[EmbeddingRest],
    ) -> EmbedManyStream:
        """Return the same as a stream, in bounded memory.

        ``async with client.embed_many.stream(texts) as rows: async for row in rows: ...``

        Rows (`index`, `text`, `vector`) are in order; at most twice `concurrency` requests are ahead of the reader.
        A refused text has no row; after the last row `EmbedManyError` is raised if any text was refused.
        """
        batching = self._batching(batch_size, batch_tokens, tokenizer, concurrency, dict(params))
        return EmbedManyStream(_Run(self._calls, texts, batching))

    def _batching(
        self, size: int, tokens: int, tokenizer: Tokenizer | None, concurrency: int | None, params: dict[str, Any]
    ) -> _Batching:
        slots = self._calls.shared.limiter.size
        servers = 1 + len(self._calls.others)
        concurrency = (slots or _AT_ONCE) * servers if concurrency is None else concurrency
        for name, value in (("batch_size", size), ("batch_tokens", tokens), ("concurrency", concurrency)):
            _check_count(name, value)
        if "input" in params:
            raise TypeError("embed_many() takes its texts as the first argument, not as input=")
        retries = self._calls.request(EMBEDDINGS_CREATE, {**params, "input": ["text"]}).max_retries
        if retries is None:
            retries = self._calls.config.max_retries
        most = concurrency if slots is None else min(concurrency, slots * servers)
        return _Batching(size, tokens, tokenizer, most, retries, params)


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number, at least 1, not {value!r}")


class EmbedManyStream:
    """Vectors in the order of the texts. Enter it, then iterate it; leaving it cancels the requests in progress."""

    def __init__(self, run: _Run) -> None:
        self.refused: dict[int, APIStatusError] = run.refusals
        """Why texts were refused, by index: complete up to the last row returned, and perhaps some later ones."""
        self._run = run
        self._rows: AsyncGenerator[EmbeddedText, None] | None = None
        self._ended = False

    @property
    def model(self) -> str | None:
        """The model's name in the first answer."""
        return self._run.model

    @property
    def usage(self) -> Usage | None:
        """The sum of the tokens of all answers so far; `None` if no answer has them."""
        return self._run.usage

    async def __aenter__(self) -> Self:
        if self._rows is not None:
            raise RuntimeError("an EmbedManyStream is entered once; make a new one")
        self._rows = self._run.rows()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the requests in progress, and the reading of the texts. Idempotent."""
        if self._rows is not None:
            await self._rows.aclose()
        await self._run.pieces.aclose()

    def __aiter__(self) -> AsyncIterator[EmbeddedText]:
        refuse_second_pass(self._ended, "keep its rows, or call embed_many.stream() again")
        return self

    async def __anext__(self) -> EmbeddedText:
        """Return the next text's vector. Raises `EmbedManyError`, and `StopAsyncIteration` at the end."""
        if self._rows is None:
            raise RuntimeError("enter it first: async with client.embed_many.stream(...) as rows")
        try:
            return await anext(self._rows)
        except StopAsyncIteration:
            self._ended = True
            raise


class _Run:
    """The batches of one call: source, review and sink of the scheduler that sends them."""

    full = False  # batches are only started while the reader has room for their rows

    def __init__(self, calls: Engine, texts: Texts, batching: _Batching) -> None:
        self.refusals: dict[int, APIStatusError] = {}
        self.model: str | None = None
        self.usage: Usage | None = None
        self.pieces: Any = _pieces(texts)
        self._calls = calls
        self._batching = batching
        self._takes = batching.size  # the known maximum number of texts in one request
        self._accepted = 0
        self._batches: deque[_Batch] = deque()  # in order; those whose rows were not yielded yet
        self._unread: dict[int, Vector] = {}  # vectors of texts whose rows were not yielded yet
        self._cause: OpenAIError | None = None  # why the run was stopped
        self._texts_error: Exception | None = None  # raised by the caller's iterable, and passed on unchanged
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def rows(self) -> AsyncGenerator[EmbeddedText, None]:
        """Yield rows in order, while later requests are in progress and the texts are still being read."""
        self._refuse_to_wait_for_ever()
        batching = self._batching
        self._scheduler = Scheduler(
            [self._calls, *self._calls.others],
            limits=getattr(self._calls.config, "limits", None),
            max_in_flight=min(batching.concurrency, self._calls.shared.limiter.size or batching.concurrency),
            retries=batching.retries,
            give_up_after=_GIVE_UP_AFTER,
            dedupe=False,
            review=self,
        )
        run = asyncio.create_task(self._scheduler.run(self._works(), self))
        run.add_done_callback(lambda _: self._news.set())
        try:
            while True:
                while self._batches and self._batches[0].done:
                    done = self._batches.popleft()
                    self._room.set()
                    for row in done.rows:
                        self._unread.pop(row.index)
                        yield row
                if run.done():
                    break
                self._news.clear()
                await self._news.wait()
            self._raise_failure(run)
        finally:
            run.cancel()
            await asyncio.wait({run})
            if not run.cancelled():
                run.exception()  # the caller has left the block

    def _refuse_to_wait_for_ever(self) -> None:
        limiter = self._calls.shared.limiter
        if limiter.size is not None and limiter.slots.held_by(asyncio.current_task()) >= limiter.size:
            raise InFlightError(
                f"all {limiter.size} slots are held by the task that calls embed_many (open streams count "
                "until they are closed): close a stream first, or raise http_max_in_flight"
            )

    def _raise_failure(self, run: asyncio.Task[Summary]) -> None:
        """Raise the error of a run after which texts have no vector."""
        cause = self._cause
        try:
            summary = run.result()
        except OpenAIError as error:
            cause = cause or error
        else:
            if cause is None and summary.error is not None:
                cause = summary.error
                if summary.work is not None:
                    _add_note(cause, summary.work)
        if cause is None and self._texts_error is not None:
            raise self._texts_error
        if cause is None and self.refusals:
            cause = self.refusals[min(self.refusals)]
        if cause is not None:
            raise EmbedManyError(
                cause, refused=dict(self.refusals), vectors=dict(self._unread), usage=self.usage
            ) from cause

    # ---------------------------------------------------------------- batches

    async def _works(self) -> AsyncGenerator[Work, None]:
        """Yield batches, each when it may be sent and the reader is not too far behind."""
        batches, most, name = self._cut(), self._batching.concurrency, ""
        try:
            while True:
                while len(self._batches) >= 2 * most or sum(not one.done for one in self._batches) >= most:
                    self._room.clear()
                    await self._room.wait()
                texts = await anext(batches, None)
                if texts is None:
                    return
                batch = _Batch(texts)
                self._batches.append(batch)
                request = self._next(batch)
                assert request is not None
                name = name or model_of(request.body)
                yield Work("", texts[0].index, request, context=batch, model=name)
        except Exception as error:
            self._texts_error = error
        finally:
            await batches.aclose()

    async def _cut(self) -> AsyncGenerator[list[_Piece], None]:
        """Yield the texts, as many at a time as fit into one request."""
        texts: list[_Piece] = []
        total = 0
        async for piece in self.pieces:
            weight = self._batching.weight(piece)
            if texts and (len(texts) >= self._takes or total + weight > self._batching.tokens):
                yield texts
                texts, total = [], 0
            texts.append(piece)
            total += weight
        if texts:
            yield texts

    def _next(self, batch: _Batch) -> Request | None:
        """Return the batch's next request; `None` if there is no further one: the batch is done."""
        while batch.todo:
            texts = batch.todo.pop()
            if isinstance(texts, tuple):
                half, refused = texts
                if batch.refused == refused:  # both halves were accepted whole: there were too many texts
                    self._takes = min(self._takes, half)
            elif len(texts) > self._takes:
                batch.halve(texts)
            else:
                batch.sent = texts
                params = {**self._batching.params, "input": [piece.text for piece in texts]}
                return self._calls.request(EMBEDDINGS_CREATE, params)
        batch.done = True
        return None

    def _goes_on(self, work: Work) -> bool:
        """Set the next request of the batch as the work to send; return `False` if all were sent."""
        request = self._next(work.context)
        if request is not None:
            work.request, work.tokens, work.attempts = request, 0, 0
        return request is not None

    # ---------------------------------------------------------------- the scheduler's review and sink

    def answered(self, work: Work, outcome: Outcome) -> Outcome | None:
        """Keep the vectors, and continue with the rest of the batch."""
        batch: _Batch = work.context
        answer: CreateEmbeddingResponse = outcome.answer
        # one vector for each text: the call has checked it
        for piece, vector in zip(batch.sent, answer.vectors, strict=True):
            batch.rows.append(EmbeddedText(piece.index, piece.text, vector))
            self._unread[piece.index] = vector
        self._accepted += len(batch.sent)
        self._count(answer)
        return None if self._goes_on(work) else outcome

    def refused(self, work: Work, error: OpenAIError) -> bool | None:
        """Continue with the halves of a refused request, or without its only text."""
        batch: _Batch = work.context
        if not isinstance(error, APIStatusError) or not _is_about_texts(error):
            return False
        texts, fault = batch.sent, error.status_code >= 500
        if len(texts) > 1:
            if not fault:
                batch.todo.append(((len(texts) + 1) // 2, batch.refused))
            batch.halve(texts)
        elif fault and texts is batch.texts and work.attempts < self._batching.retries and is_passing(error):
            return False
        else:
            batch.refused += 1
            self.refusals[texts[0].index] = error
            if not self._accepted and len(self.refusals) >= (1 if fault else _GIVE_UP):
                return None  # the batch is not done: the run fails with it
        return self._goes_on(work) or None

    def started(self, work: Work) -> None:
        """Do nothing: no record of sent batches is kept."""

    def finished(self, work: Work, outcome: Outcome) -> None:
        """Release a finished batch to the reader, and stop after one that failed for another reason."""
        batch: _Batch = work.context
        if not batch.done and self._cause is None and outcome.error is not None:
            self._cause = outcome.error
            _add_note(outcome.error, work)
            self._scheduler.stop()
        self._room.set()
        self._news.set()

    async def flushed(self) -> None:
        """Do nothing: there is always room."""

    def _count(self, answer: CreateEmbeddingResponse) -> None:
        if self.model is None and isinstance(cast("object", answer.model), str):
            self.model = answer.model
        usage = cast("Usage | None", answer.usage)
        if usage is None or self.usage is None:
            self.usage = self.usage or usage
            return
        self.usage = type(usage)(
            prompt_tokens=(self.usage.prompt_tokens or 0) + (usage.prompt_tokens or 0),
            total_tokens=(self.usage.total_tokens or 0) + (usage.total_tokens or 0),
        )


def _add_note(error: OpenAIError, work: Work) -> None:
    texts = work.context.texts
    error.add_note(f"in the request for texts[{texts[0].index}] to texts[{texts[-1].index}]")


def _is_about_texts(error: APIStatusError) -> bool:
    """Return whether other texts may be accepted: the error object names no other parameter."""
    param = error.param
    blames_another = isinstance(cast("object", param), str) and bool(param) and not str(param).startswith("input")
    return error.status_code in _ABOUT_TEXTS and (error.status_code == 413 or not blames_another)


async def _pieces(texts: Texts) -> AsyncGenerator[_Piece, None]:
    kind: type = type(cast("object", texts))
    if issubclass(kind, (str, bytes, bytearray, Mapping)):
        raise TypeError(f"embed_many() takes many texts, not a {kind.__name__}; embedding() takes a single one")
    index = 0
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            yield _Piece(index, text)
            index += 1
        return
    for text in texts:
        yield _Piece(index, text)
        index += 1


resolve_annotations(__name__)
