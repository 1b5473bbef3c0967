"""The connections of ``client.live``, its forks and its sideband.

The public description does not hold their events: these are open objects, with every field as an attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ..core.model.base import OpenModel
from ..core.model.omitted import Omit, omit
from .connection import Manager, Resource, WebSocketConnection

__all__ = [
    "AsyncForksConnection",
    "AsyncForksConnectionManager",
    "AsyncLiveConnection",
    "AsyncLiveConnectionManager",
    "AsyncSidebandConnection",
    "AsyncSidebandConnectionManager",
]

EventId = str | Omit | None


class Appending(Resource):
    """``session.commentary``, ``session.instructions`` and ``session.thinking``."""

    _group = ""

    async def append(self, *, content: str, delegation_id: str | None, event_id: EventId = omit) -> None:
        """Add a text."""
        await self._send(
            f"session.{self._group}.append", content=content, delegation_id=delegation_id, event_id=event_id
        )


class CommentaryMethods(Appending):
    """``session.commentary``."""

    _group = "commentary"


class InstructionsMethods(Appending):
    """``session.instructions``."""

    _group = "instructions"


class ThinkingMethods(Appending):
    """``session.thinking``."""

    _group = "thinking"


class MutingMethods(Resource):
    """``session.input_audio`` of a sideband."""

    async def mute(self, *, event_id: EventId = omit) -> None:
        """Listen no more."""
        await self._send("session.input_audio.mute", event_id=event_id)

    async def unmute(self, *, event_id: EventId = omit) -> None:
        """Listen again."""
        await self._send("session.input_audio.unmute", event_id=event_id)


class InputAudioMethods(MutingMethods):
    """``session.input_audio``."""

    async def append(self, *, audio: str, event_id: EventId = omit) -> None:
        """Add sound, base64."""
        await self._send("session.input_audio.append", audio=audio, event_id=event_id)


class FixtureMethods(Resource):
    """``session.output_audio.fixture``."""

    async def play(self, *, audio: str, event_id: EventId = omit) -> None:
        """Play this sound, base64."""
        await self._send("session.output_audio.fixture.play", audio=audio, event_id=event_id)


class OutputAudioMethods(Resource):
    """``session.output_audio``."""

    @cached_property
    def fixture(self) -> FixtureMethods:
        """Methods for prepared sound."""
        return FixtureMethods(self._connection)


class SidebandSessionMethods(Resource):
    """``connection.session`` of a sideband."""

    @cached_property
    def commentary(self) -> CommentaryMethods:
        """Methods for commentary."""
        return CommentaryMethods(self._connection)

    @cached_property
    def input_audio(self) -> MutingMethods:
        """Methods for what is heard."""
        return MutingMethods(self._connection)

    @cached_property
    def instructions(self) -> InstructionsMethods:
        """Methods for instructions."""
        return InstructionsMethods(self._connection)

    @cached_property
    def output_audio(self) -> OutputAudioMethods:
        """Methods for what is said."""
        return OutputAudioMethods(self._connection)

    @cached_property
    def thinking(self) -> ThinkingMethods:
        """Methods for thoughts."""
        return ThinkingMethods(self._connection)

    async def update(self, *, session: Mapping[str, Any], event_id: EventId = omit) -> None:
        """Change the session."""
        await self._send("session.update", session=session, event_id=event_id)

    async def close(self, *, event_id: EventId = omit) -> None:
        """End the session."""
        await self._send("session.close", event_id=event_id)


class SessionMethods(SidebandSessionMethods):
    """``connection.session``."""

    @cached_property
    def input_audio(self) -> InputAudioMethods:
        """Methods for what is heard."""
        return InputAudioMethods(self._connection)

    async def start(self, *, session: Mapping[str, Any], event_id: EventId = omit) -> None:
        """Begin the session."""
        await self._send("session.start", session=session, event_id=event_id)


class DecisionItemMethods(Resource):
    """``connection.decision.item``."""

    async def create(self, *, item: Mapping[str, Any], event_id: EventId = omit) -> None:
        """Add an item."""
        await self._send("decision.item.create", item=item, event_id=event_id)

    async def delete(self, *, item_id: str, event_id: EventId = omit) -> None:
        """Take an item away."""
        await self._send("decision.item.delete", item_id=item_id, event_id=event_id)


class DecisionMethods(Resource):
    """``connection.decision``."""

    @cached_property
    def item(self) -> DecisionItemMethods:
        """Methods for its items."""
        return DecisionItemMethods(self._connection)

    async def create(self, *, event_id: str) -> None:
        """Ask for a decision."""
        await self._send("decision.create", event_id=event_id)


class ResponseItemMethods(Resource):
    """``connection.response.item``."""

    async def create(self, *, item: Mapping[str, Any], event_id: EventId = omit) -> None:
        """Add an item."""
        await self._send("response.item.create", item=item, event_id=event_id)


class ResponseMethods(Resource):
    """``connection.response``."""

    @cached_property
    def item(self) -> ResponseItemMethods:
        """Methods for its items."""
        return ResponseItemMethods(self._connection)

    async def create(self, *, event_id: EventId = omit) -> None:
        """Ask for an answer."""
        await self._send("response.create", event_id=event_id)


class DtmfMethods(Resource):
    """``connection.transport.dtmf``."""

    async def send(self, *, event: str, event_id: EventId = omit) -> None:
        """Press a key of the telephone."""
        await self._send("transport.dtmf.send", event=event, event_id=event_id)


class TransportMethods(Resource):
    """``connection.transport``."""

    @cached_property
    def dtmf(self) -> DtmfMethods:
        """Methods for the telephone's keys."""
        return DtmfMethods(self._connection)


class _Deciding(WebSocketConnection[OpenModel]):
    _kind = OpenModel

    @cached_property
    def decision(self) -> DecisionMethods:
        """Methods that ask for decisions."""
        return DecisionMethods(self)

    @cached_property
    def response(self) -> ResponseMethods:
        """Methods that ask for answers."""
        return ResponseMethods(self)


class AsyncLiveConnection(_Deciding):
    """An open connection of ``client.live``."""

    @cached_property
    def session(self) -> SessionMethods:
        """Methods of the session."""
        return SessionMethods(self)


class AsyncForksConnection(AsyncLiveConnection):
    """An open connection of ``client.live.forks``."""


class AsyncSidebandConnection(_Deciding):
    """An open connection of ``client.live.sideband``."""

    @cached_property
    def session(self) -> SidebandSessionMethods:
        """Methods of the session."""
        return SidebandSessionMethods(self)

    @cached_property
    def transport(self) -> TransportMethods:
        """Methods of the line."""
        return TransportMethods(self)


class AsyncLiveConnectionManager(Manager[AsyncLiveConnection]):
    """What ``client.live.connect(...)`` answers."""

    _makes = AsyncLiveConnection


class AsyncForksConnectionManager(Manager[AsyncForksConnection]):
    """What ``client.live.forks.connect(...)`` answers."""

    _makes = AsyncForksConnection


class AsyncSidebandConnectionManager(Manager[AsyncSidebandConnection]):
    """What ``client.live.sideband.connect(...)`` answers."""

    _makes = AsyncSidebandConnection
