"""`client.map(rows)`: many calls, as fast as the servers take them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, overload

from ..bulk.mapping import Call, MapOptions, Operation, RowStream, engines_of
from ..engine import Engine
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from ..bulk.scheduler import MaxInFlight
    from ..core.policy.limits import Limits
    from ..engine.answer_cache import AnswerCache
    from ..params.chat import ChatRest
    from ..types import Completion, CreateEmbeddingResponse, ModerationCreateResponse
    from ..types.chat import ChatCompletion
    from ..types.responses import Response

    I = TypeVar("I")  # noqa: E741  # an item
    T = TypeVar("T")
    Rows = Iterable[I] | AsyncIterable[I] | Any

    class MapParams(ChatRest, Generic[I], total=False):
        """The options of a run over chats, and the parameters of each of its requests."""

        key: str | Callable[[I], Any] | None
        limits: Limits | None
        max_in_flight: MaxInFlight
        retries: int
        give_up_after: float
        cache: str | os.PathLike[str] | AnswerCache | None
        dedupe: bool | None
        clients: Iterable[Any]

    class ParsedMapParams(MapParams[I], Generic[I], total=False):
        """The same, where each answer becomes a value of a type."""

        repair: int


__all__ = ["MapMethods"]


class MapMethods:
    """`client.map(...)`."""

    def __init__(self, calls: Engine) -> None:
        self._calls = calls

    @overload
    def __call__(
        self,
        rows: Rows[I],
        make: Callable[[I], Call] | None = ...,
        *,
        into: type[T],
        **params: Unpack[ParsedMapParams[I]],
    ) -> RowStream[ChatCompletion, T]: ...

    @overload
    def __call__(
        self, rows: Rows[I], make: Callable[[I], Call] | None = ..., **params: Unpack[MapParams[I]]
    ) -> RowStream[ChatCompletion, None]: ...

    @overload
    def __call__(
        self, rows: Any, make: Callable[[Any], Call] | None = ..., *, endpoint: Literal["embeddings"], **params: Any
    ) -> RowStream[CreateEmbeddingResponse, None]: ...

    @overload
    def __call__(
        self, rows: Any, make: Callable[[Any], Call] | None = ..., *, endpoint: Literal["completions"], **params: Any
    ) -> RowStream[Completion, None]: ...

    @overload
    def __call__(
        self, rows: Any, make: Callable[[Any], Call] | None = ..., *, endpoint: Literal["moderations"], **params: Any
    ) -> RowStream[ModerationCreateResponse, None]: ...

    @overload
    def __call__(
        self, rows: Any, make: Callable[[Any], Call] | None = ..., *, endpoint: Literal["responses"], **params: Any
    ) -> RowStream[Response, Any]: ...

    @overload
    def __call__(
        self, rows: Any, make: Callable[[Any], Call] | None = ..., *, endpoint: Literal["chat"], **params: Any
    ) -> RowStream[ChatCompletion, Any]: ...

    def __call__(
        self,
        rows: Any,
        make: Callable[[Any], Any] | None = None,
        *,
        endpoint: Operation = "chat",
        into: Any = None,
        repair: int = 1,
        key: str | Callable[[Any], Any] | None = None,
        limits: Limits | None = None,
        max_in_flight: MaxInFlight = "auto",
        retries: int = 5,
        give_up_after: float = 600.0,
        cache: str | os.PathLike[str] | AnswerCache | None = None,
        dedupe: bool | None = None,
        clients: Iterable[Any] = (),
        **params: Any,
    ) -> RowStream[Any, Any]:
        """Make one call for each row: ``await client.map(prompts, model="…")``, or ``async for row in client.map(…)``.

        Awaited, it is the list of all rows in the order of the input; iterated, each row as it completes, in bounded
        memory. A row says whether it is `ok`, and has `answer` or `error`, `key`, `index`, `attempts`. A row that fails
        does not affect the others.

        Args:
            rows: texts, lists (messages; for embeddings, texts or token ids) or dicts with the parameters of a request,
                from any iterable or asynchronous iterable; a data frame of pandas, polars or Arrow gives dicts.
            make: a function that converts an item to one of these, ``lambda row: {"messages": …}``.
            endpoint: ``"chat"``, ``"completions"``, ``"embeddings"``, ``"responses"`` or ``"moderations"``.
            into: a type; each answer becomes a value of it, `row.parsed`, as with `client.chat.parse`.
            repair: how often a row is sent again if its answer does not fit.
            key: the name of a row: one of its columns, or a function of the item. Default: its index.
            limits: ``Limits(rpm=…, tpm=…)`` for each server. Default: the client's. The others are learned from
                the server's answers.
            max_in_flight: calls in flight at each server; ``"auto"`` finds the number, `None` means no limit.
            retries: how often a row is sent again after a fault of the server or the network (5). A refusal because of
                too many requests (429) does not count.
            give_up_after: seconds without any working server after which the run stops (600).
            cache: path of an SQLite file with answers: requests answered there are not sent again.
            dedupe: whether equal requests are sent once. Default: those with ``temperature=0``.
            clients: further clients, whose servers take a share of the rows.
            params: parameters of every request; those of a row override them.

        Raises `TypeError` and `ValueError` for invalid arguments, `ManyCallsError` if the run was stopped: no quota,
        a refused key, no working server.
        """
        if make is not None and not callable(make):
            raise TypeError(
                f"client.map() takes rows and a function that makes a request of one, not {type(make).__name__}; "
                "everything else is a keyword, such as model="
            )
        options = MapOptions(
            make, key, endpoint, into, repair, limits, max_in_flight, retries, give_up_after, cache, dedupe
        )
        return RowStream(engines_of(self._calls, clients), rows, options, params)


resolve_annotations(__name__)
