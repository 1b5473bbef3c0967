"""`client.models()`: the hand-written half of the models namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

if TYPE_CHECKING:
    from ..core.policy.options import RequestOptions
    from ..engine import AsyncPage, Engine, Paginator
    from ..types import Model

__all__ = ["ModelsMethods"]


class ModelsMethods:
    """The callable part of `client.models`."""

    _calls: Engine

    def __call__(self, **options: Unpack[RequestOptions]) -> Paginator[Model, AsyncPage[Model]]:
        """The models that the server offers; the same as `client.models.list()`.

        Awaited a page with all of them in `.data`, iterated one after another. Takes the options of every call.
        Raises `OpenAIError` when it is awaited or iterated.
        """
        from ..endpoints import MODELS_LIST

        return self._calls.pages(MODELS_LIST, dict(options))
