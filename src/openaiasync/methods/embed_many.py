"""`client.embed_many(texts)`: any number of texts as vectors, in as few requests as the server takes, several at once.

Texts are read as they are needed and answered in order. A part that the server refuses is sent again by halves, until
the texts at fault are found; everything else has its vector by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, Unpack, cast

from ..core.model.meta import Meta
from ..endpoints import EMBEDDINGS_CREATE
from ..engine import Engine
from ..engine.bounded_map import bounded_map
from ..errors import APIStatusError, InFlightError, OpenAIError, Side
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
_GIVE_UP = 8  # texts refused one by one with none accepted: the request is at fault, not they


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedText:
    """A text with its vector, 32-bit floats; `index` is its place among all texts, from 0."""

    index: int
    text: Text
    vector: memoryview[float]


@dataclass(frozen=True, slots=True, eq=False)
class EmbedManyAnswer:
    """The vectors of all texts, in their order; 32-bit floats, as `CreateEmbeddingResponse.vectors`.

    `usage` is the sum over all requests, `model` the name in the first answer; each is `None` where no answer told it.
    """

    vectors: list[memoryview[float]]
    usage: Usage | None
    model: str | None


class EmbedManyError(OpenAIError):
    """Some of the texts of `client.embed_many` have no vector; the cause is the first failure, as a single call has it.

    `refused` says by index why the server refused a text, `index` is the first of them (`None`: a request failed as a
    whole); `vectors` holds what is finished, by index; `usage` is the sum of what it took.
    """

    def __init__(
        self,
        cause: OpenAIError,
        *,
        refused: dict[int, APIStatusError],
        vectors: dict[int, memoryview[float]],
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

    def __reduce__(self) -> tuple[Any, ...]:
        # A view of memory cannot be pickled, its bytes can.
        vectors = {index: vector.tobytes() for index, vector in self.vectors.items()}
        return (_rebuilt, (type(self), self.args, {**self.__dict__, "vectors": vectors}))


def _rebuilt(cls: type[EmbedManyError], args: tuple[Any, ...], state: dict[str, Any]) -> EmbedManyError:
    error = cls.__new__(cls)
    error.args = args
    vectors = {index: memoryview(raw).cast("f") for index, raw in state["vectors"].items()}
    error.__dict__.update(state, vectors=vectors)
    return error


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text on its way."""

    index: int
    text: Text


@dataclass(frozen=True, slots=True)
class _BatchPlan:
    """How texts are put into requests, and what every request holds beside them."""

    size: int
    tokens: int
    tokenizer: Tokenizer | None
    at_once: int
    params: dict[str, Any]

    def weight(self, piece: _Piece) -> int:
        """Tokens of a text, never too few: no tokenizer makes more of them than there are bytes."""
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
        """Embed any number of texts; `.vectors` holds a float view for each, in their order.

        Args:
            texts: texts, or lists of token ids, from anything that can be iterated, asynchronously too. It is read as
                vectors come; what it raises is passed on as it is.
            batch_size: most texts in one request; OpenAI's API takes 2,048. A server that takes fewer is found out.
            batch_tokens: most tokens in one request, unless a single text has more; OpenAI's API takes 300,000.
            tokenizer: the number of tokens of a text, or a list of them. Default: its UTF-8 bytes, never too few.
            concurrency: requests at once. Default: the client's places in flight; 8 where it has no limit.
            params: those of ``POST /embeddings`` and the options of a call, for each request.

        A request is retried as any other. One refused with 400, 413, 422 or 500 is sent again by halves. Raises
        `EmbedManyError` when all is done but what was refused (`refused` names it by index), or at once when a request
        fails for another reason; it keeps the finished `vectors`, and the failure is its `__cause__`. Raises
        `TypeError` or `ValueError` for parameters, before anything is sent, and for an item that is no text.
        """
        vectors: dict[int, memoryview[float]] = {}
        plan = self._plan(batch_size, batch_tokens, tokenizer, concurrency, dict(params))
        async with EmbedManyStream(self._calls, texts, plan) as stream:
            try:
                async for done in stream:
                    vectors[done.index] = done.vector
            except EmbedManyError as error:
                error.vectors = {**vectors, **error.vectors}
                raise
        return EmbedManyAnswer(list(vectors.values()), stream.usage, stream.model)

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
        """The same in bounded memory: ``async with client.embed_many.stream(texts) as rows: async for row in rows``.

        Rows (`index`, `text`, `vector`) come in order; twice `concurrency` requests are ahead of the reader at most.
        A refused text has no row; after the last row `EmbedManyError` is raised if there was one.
        """
        plan = self._plan(batch_size, batch_tokens, tokenizer, concurrency, dict(params))
        return EmbedManyStream(self._calls, texts, plan)

    def _plan(
        self, size: int, tokens: int, tokenizer: Tokenizer | None, at_once: int | None, params: dict[str, Any]
    ) -> _BatchPlan:
        slots = self._calls.shared.limiter.size or _AT_ONCE
        at_once = slots if at_once is None else at_once
        for name, value in (("batch_size", size), ("batch_tokens", tokens), ("concurrency", at_once)):
            _check_count(name, value)
        if "input" in params:
            raise TypeError("embed_many() takes its texts as the first argument, not as input=")
        self._calls.request(EMBEDDINGS_CREATE, {**params, "input": ["text"]})
        return _BatchPlan(size, tokens, tokenizer, at_once, params)


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is a whole number from 1 up, not {value!r}")


class EmbedManyStream:
    """Vectors as they come, in the order of the texts. Enter it, then iterate it; leaving ends what is under way."""

    def __init__(self, calls: Engine, texts: Texts, plan: _BatchPlan) -> None:
        self.refused: dict[int, APIStatusError] = {}
        """Why texts were refused, by index; of all texts before the row that came last, and perhaps of later ones."""
        self.model: str | None = None
        """The model, as the first answer names it."""
        self.usage: Usage | None = None
        """Tokens of all answers so far; `None` where no answer told them."""
        self._calls = calls
        self._plan = plan
        self._pieces = _pieces(texts)
        self._takes = plan.size  # what the server takes in one request, as far as we know
        self._accepted = 0
        self._unread: dict[int, memoryview[float]] = {}  # vectors that are there, while earlier ones are missing
        self._broken: OpenAIError | None = None  # what the texts raised: it is the caller's, not ours
        self._rows: AsyncGenerator[EmbeddedText, None] | None = None

    async def __aenter__(self) -> Self:
        if self._rows is not None:
            raise RuntimeError("an EmbedManyStream is entered once; make a new one")
        self._rows = self._in_order()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the requests under way, and the reading of the texts. Idempotent."""
        if self._rows is not None:
            await self._rows.aclose()
        await self._pieces.aclose()

    def __aiter__(self) -> AsyncIterator[EmbeddedText]:
        return self

    async def __anext__(self) -> EmbeddedText:
        """The next text's vector. Raises `EmbedManyError`, `StopAsyncIteration` at the end."""
        if self._rows is None:
            raise RuntimeError("enter it first: async with client.embed_many.stream(...) as rows")
        return await anext(self._rows)

    # ---------------------------------------------------------------- order

    async def _in_order(self) -> AsyncGenerator[EmbeddedText, None]:
        """Yield rows in order, while later requests are in progress and the texts are still being read."""
        self._refuse_to_wait_for_ever()
        at_once = self._plan.at_once
        parts = self._parts()
        finished = bounded_map(self._finish, parts, concurrency=at_once, ahead=2 * at_once)
        try:
            async for rows in finished:
                for row in rows:
                    self._unread.pop(row.index)
                    yield row
        except OpenAIError as error:
            if error is self._broken:
                raise
            raise self._failed(error) from error
        finally:
            await finished.aclose()
            await parts.aclose()
        if self.refused:
            first = min(self.refused)
            raise self._failed(self.refused[first]) from self.refused[first]

    def _refuse_to_wait_for_ever(self) -> None:
        limiter = self._calls.shared.limiter
        if limiter.size is not None and limiter.slots.held_by(asyncio.current_task()) >= limiter.size:
            raise InFlightError(
                f"all {limiter.size} slots are held by the task that calls embed_many (open streams count "
                "until they are closed): close a stream first, or raise http_max_in_flight"
            )

    def _failed(self, cause: OpenAIError) -> EmbedManyError:
        """Return the error that keeps the results of later requests."""
        return EmbedManyError(cause, refused=dict(self.refused), vectors=dict(self._unread), usage=self.usage)

    # ---------------------------------------------------------------- parts

    async def _parts(self) -> AsyncGenerator[list[_Piece], None]:
        """The texts, as many at a time as go into one request."""
        part: list[_Piece] = []
        total = 0
        try:
            async for piece in self._pieces:
                weight = self._plan.weight(piece)
                if part and (len(part) >= self._takes or total + weight > self._plan.tokens):
                    yield part
                    part, total = [], 0
                part.append(piece)
                total += weight
        except OpenAIError as error:
            self._broken = error
            raise
        if part:
            yield part

    async def _finish(self, part: list[_Piece]) -> list[EmbeddedText]:
        try:
            rows = await self._embed(part)
        except OpenAIError as error:
            error.add_note(f"in the request for texts[{part[0].index}] to texts[{part[-1].index}]")
            raise
        self._unread.update((row.index, row.vector) for row in rows)
        return rows

    async def _embed(self, part: list[_Piece]) -> list[EmbeddedText]:
        """The rows of all texts that the server accepts; the others go to `refused`. Raises what concerns all calls."""
        refusal: APIStatusError | None = None
        if len(part) <= self._takes:
            try:
                return await self._ask(part)
            except APIStatusError as error:
                if not _is_about_texts(error):
                    raise
                refusal = error
            if len(part) == 1:
                self._refuse(part[0], refusal)
                return []
        half = len(part) // 2
        rows = [*await self._embed(part[:half]), *await self._embed(part[half:])]
        if refusal is not None and len(rows) == len(part):
            self._takes = min(self._takes, len(part) - half)  # nothing wrong with any text: there were too many
        return rows

    def _refuse(self, piece: _Piece, error: APIStatusError) -> None:
        self.refused[piece.index] = error
        if not self._accepted and len(self.refused) >= (1 if error.status_code >= 500 else _GIVE_UP):
            raise error

    async def _ask(self, part: list[_Piece]) -> list[EmbeddedText]:
        params = {**self._plan.params, "input": [piece.text for piece in part]}
        answer: CreateEmbeddingResponse = await self._calls.run(EMBEDDINGS_CREATE, params)
        rows = [
            EmbeddedText(piece.index, piece.text, vector)
            for piece, vector in zip(part, answer.vectors, strict=True)  # as many as texts: the call has made sure
        ]
        self._accepted += len(part)
        self._count(answer)
        return rows

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


def _is_about_texts(error: APIStatusError) -> bool:
    """Whether other texts may be accepted: the error object blames no other parameter."""
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
