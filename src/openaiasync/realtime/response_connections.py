"""The connections of ``client.responses`` and ``client.beta.responses``: responses over one WebSocket."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..core.codec.endpoint import Endpoint, nearest
from ..core.policy.request_options import OPTION_NAMES
from ..endpoints import BETA_RESPONSES_CREATE, RESPONSES_CREATE
from ..lazy import resolve_annotations
from ..types.beta.beta_responses_server_event import BetaResponsesServerEvent
from ..types.responses.responses_server_event import ResponsesServerEvent
from .websocket import EventMethods, Manager, WebSocketConnection

if TYPE_CHECKING:
    from typing import Unpack

    from ..params.beta.beta_response_input_item_param import BetaResponseInputItemParam
    from ..params.beta.response_create_params import ResponseCreateParamsBase as BetaCreate
    from ..params.responses.response_create_params import ResponseCreateParamsBase as Create

    class ResponseParams(Create, total=False):
        """The parameters of `client.responses.create`, and those that only WebSockets have."""

        stream_id: str
        stream: bool | None
        generate: bool

    class BetaResponseParams(BetaCreate, total=False):
        """The parameters of `client.beta.responses.create`, and those that only WebSockets have."""

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
    """Return the fields of ``response.create``. Raises `TypeError` for an unknown one, naming the nearest known."""
    known = row.known - {"betas"} | _OWN | {"extra_body"}
    for name in params:
        if name in OPTION_NAMES and name not in known:
            raise TypeError(f"response.create() takes no {name}: it is an event, not a separate request")
        if name not in known:
            raise TypeError(f"response.create() has no parameter {name!r}{nearest(name, known)}")
    extra: Any = params.pop("extra_body", None) or {}
    return {**params, **extra}


class _Steering(EventMethods):
    async def steer(self, *, previous_response_id: str, input: Any) -> None:
        """Add input to a response in progress. The server sends ``response.steer.*``."""
        await self._send("response.steer", previous_response_id=previous_response_id, input=input)


class ResponseEventMethods(_Steering):
    """``connection.response``."""

    async def create(self, **params: Unpack[ResponseParams]) -> None:
        """Request a response; the parameters are those of ``client.responses.create``, and ``stream_id``.

        `extra_body` holds a server's additional fields. The server sends the events of a stream, up to
        ``response.completed``, ``.incomplete`` or ``.failed``. Raises `TypeError` for an unknown parameter.
        """
        await self._send("response.create", **_fields(RESPONSES_CREATE, {**params}))


class BetaResponseEventMethods(_Steering):
    """``connection.response``."""

    async def create(self, **params: Unpack[BetaResponseParams]) -> None:
        """Request a response; the parameters are those of ``client.beta.responses.create``, and ``stream_id``."""
        await self._send("response.create", **_fields(BETA_RESPONSES_CREATE, {**params}))

    async def inject(self, *, response_id: str, input: Iterable[BetaResponseInputItemParam]) -> None:
        """Add items to a response in progress. The server sends ``response.inject.*``."""
        await self._send("response.inject", response_id=response_id, input=input)


class AsyncResponsesConnection(WebSocketConnection[ResponsesServerEvent]):
    """An open connection of ``client.responses``."""

    _kind = ResponsesServerEvent

    @cached_property
    def response(self) -> ResponseEventMethods:
        """Methods that request responses."""
        return ResponseEventMethods(self)


class AsyncResponsesConnectionManager(Manager[AsyncResponsesConnection]):
    """The result of ``client.responses.connect(...)``."""

    _makes = AsyncResponsesConnection


class BetaResponsesConnection(WebSocketConnection[BetaResponsesServerEvent]):
    """An open connection of ``client.beta.responses``."""

    _kind = BetaResponsesServerEvent

    @cached_property
    def response(self) -> BetaResponseEventMethods:
        """Methods that request responses."""
        return BetaResponseEventMethods(self)


class BetaResponsesConnectionManager(Manager[BetaResponsesConnection]):
    """The result of ``client.beta.responses.connect(...)``."""

    _makes = BetaResponsesConnection


resolve_annotations(__name__)
