"""The connections of ``client.responses`` and ``client.beta.responses``: answers over one WebSocket."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..core.codec.endpoint import Endpoint, nearest
from ..core.policy.options import OPTION_NAMES
from ..endpoints import BETA_RESPONSES_CREATE, RESPONSES_CREATE
from ..types.beta.beta_responses_server_event import BetaResponsesServerEvent
from ..types.responses.responses_server_event import ResponsesServerEvent
from .connection import Manager, Resource, WebSocketConnection

if TYPE_CHECKING:
    from typing import Unpack

    from ..params.beta.beta_response_input_item_param import BetaResponseInputItemParam
    from ..params.beta.response_create_params import ResponseCreateParamsBase as BetaCreate
    from ..params.responses.response_create_params import ResponseCreateParamsBase as Create

    class ResponseParams(Create, total=False):
        """Of `client.responses.create`, and what only WebSockets have."""

        stream_id: str
        stream: bool | None
        generate: bool

    class BetaResponseParams(BetaCreate, total=False):
        """Of `client.beta.responses.create`, and what only WebSockets have."""

        stream_id: str
        stream: bool | None
        generate: bool


__all__ = [
    "AsyncResponsesConnection",
    "AsyncResponsesConnectionManager",
    "BetaResponsesConnection",
    "BetaResponsesConnectionManager",
]

_OWN = frozenset({"stream_id", "stream", "generate"})


def _fields(row: Endpoint, params: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``response.create``; `TypeError` names one that does not exist, and the nearest that does."""
    known = row.known - {"betas"} | _OWN | {"extra_body"}
    for name in params:
        if name in OPTION_NAMES and name not in known:
            raise TypeError(f"response.create() takes no {name}: it is an event, not a request of its own")
        if name not in known:
            raise TypeError(f"response.create() has no parameter {name!r}{nearest(name, known)}")
    extra: Any = params.pop("extra_body", None) or {}
    return {**params, **extra}


class _Steering(Resource):
    async def steer(self, *, previous_response_id: str, input: Any) -> None:
        """Give an answer that is under way more to go on. Answered by ``response.steer.*``."""
        await self._send("response.steer", previous_response_id=previous_response_id, input=input)


class ResponseMethods(_Steering):
    """``connection.response``."""

    async def create(self, **params: Unpack[ResponseParams]) -> None:
        """Ask for an answer; the parameters are those of ``client.responses.create``, and ``stream_id``.

        `extra_body` holds what a server takes beyond them. Answered by the events of a stream, up to
        ``response.completed``, ``.incomplete`` or ``.failed``. Raises `TypeError` for a parameter that does not exist.
        """
        await self._send("response.create", **_fields(RESPONSES_CREATE, {**params}))


class BetaResponseMethods(_Steering):
    """``connection.response``."""

    async def create(self, **params: Unpack[BetaResponseParams]) -> None:
        """Ask for an answer; the parameters are those of ``client.beta.responses.create``, and ``stream_id``."""
        await self._send("response.create", **_fields(BETA_RESPONSES_CREATE, {**params}))

    async def inject(self, *, response_id: str, input: Iterable[BetaResponseInputItemParam]) -> None:
        """Add items to an answer that is under way. Answered by ``response.inject.*``."""
        await self._send("response.inject", response_id=response_id, input=input)


class AsyncResponsesConnection(WebSocketConnection[ResponsesServerEvent]):
    """An open connection of ``client.responses``."""

    _kind = ResponsesServerEvent

    @cached_property
    def response(self) -> ResponseMethods:
        """Methods that ask for answers."""
        return ResponseMethods(self)


class AsyncResponsesConnectionManager(Manager[AsyncResponsesConnection]):
    """What ``client.responses.connect(...)`` answers."""

    _makes = AsyncResponsesConnection


class BetaResponsesConnection(WebSocketConnection[BetaResponsesServerEvent]):
    """An open connection of ``client.beta.responses``."""

    _kind = BetaResponsesServerEvent

    @cached_property
    def response(self) -> BetaResponseMethods:
        """Methods that ask for answers."""
        return BetaResponseMethods(self)


class BetaResponsesConnectionManager(Manager[BetaResponsesConnection]):
    """What ``client.beta.responses.connect(...)`` answers."""

    _makes = BetaResponsesConnection
