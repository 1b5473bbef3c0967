"""What `client.embed_many` raises beside the errors of its calls; the tree in `errors.py` shows its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.model.meta import Meta
from ..errors import APIStatusError, OpenAIError, Side

if TYPE_CHECKING:
    from ..types.create_embedding_response import Usage

__all__ = ["EmbedManyError"]


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
