"""The connections of ``client.responses`` and ``client.beta.responses``: answers over one WebSocket."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..core.endpoint import nearest
from ..types.beta.beta_responses_server_event import BetaResponsesServerEvent
from ..types.responses.responses_server_event import ResponsesServerEvent
from .connection import Connection, Manager, Resource

if TYPE_CHECKING:
    from typing import Unpack

    from ..params.beta.beta_response_input_item_param import BetaResponseInputItemParam
    from ..params.beta.beta_responses_client_event_param import ResponseCreate as BetaResponseCreate
    from ..params.responses.responses_client_event_param import ResponseCreate

__all__ = [
    "AsyncResponsesConnection",
    "AsyncResponsesConnectionManager",
    "BetaResponsesConnection",
    "BetaResponsesConnectionManager",
]

_NEWER = frozenset({"access_programs", "background_options", "generate", "image"})
"""Parameters that servers take and the public description lacks."""


def _checked(params: dict[str, Any], module: str) -> dict[str, Any]:
    """The parameters of ``response.create``; `TypeError` names one that does not exist, and the nearest that does."""
    import importlib

    declared = importlib.import_module(f"openaiasync.params.{module}").ResponseCreate.__annotations__
    known = frozenset(declared) - {"type"} | _NEWER
    for name in params:
        if name not in known:
            raise TypeError(f"response.create() has no parameter {name!r}{nearest(name, known)}")
    return params


class _Steering(Resource):
    async def steer(self, *, previous_response_id: str, input: Any) -> None:
        """Give an answer that is under way more to go on. Answered by ``response.steer.*``."""
        await self._send("response.steer", previous_response_id=previous_response_id, input=input)


class ResponseMethods(_Steering):
    """``connection.response``."""

    async def create(self, **params: Unpack[ResponseCreate]) -> None:
        """Ask for an answer; the parameters are those of ``client.responses.create``, and ``stream_id``.

        Answered by the events of a stream, up to ``response.completed``, ``.incomplete`` or ``.failed``. Raises
        `TypeError` for a parameter that does not exist.
        """
        await self._send("response.create", **_checked({**params}, "responses.responses_client_event_param"))


class BetaResponseMethods(_Steering):
    """``connection.response``."""

    async def create(self, **params: Unpack[BetaResponseCreate]) -> None:
        """Ask for an answer; the parameters are those of ``client.beta.responses.create``, and ``stream_id``."""
        await self._send("response.create", **_checked({**params}, "beta.beta_responses_client_event_param"))

    async def inject(self, *, response_id: str, input: Iterable[BetaResponseInputItemParam]) -> None:
        """Add items to an answer that is under way. Answered by ``response.inject.*``."""
        await self._send("response.inject", response_id=response_id, input=input)


class AsyncResponsesConnection(Connection[ResponsesServerEvent]):
    """An open connection of ``client.responses``."""

    _kind = ResponsesServerEvent

    @cached_property
    def response(self) -> ResponseMethods:
        """Methods that ask for answers."""
        return ResponseMethods(self)


class AsyncResponsesConnectionManager(Manager[AsyncResponsesConnection]):
    """What ``client.responses.connect(...)`` answers."""

    _makes = AsyncResponsesConnection


class BetaResponsesConnection(Connection[BetaResponsesServerEvent]):
    """An open connection of ``client.beta.responses``."""

    _kind = BetaResponsesServerEvent

    @cached_property
    def response(self) -> BetaResponseMethods:
        """Methods that ask for answers."""
        return BetaResponseMethods(self)


class BetaResponsesConnectionManager(Manager[BetaResponsesConnection]):
    """What ``client.beta.responses.connect(...)`` answers."""

    _makes = BetaResponsesConnection
