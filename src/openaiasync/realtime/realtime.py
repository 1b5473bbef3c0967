"""The connections of ``client.realtime`` and ``client.beta.realtime``: their events, and methods that send them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ..core.model.omitted import Omit, omit
from ..types.beta.realtime.realtime_server_event import RealtimeServerEvent as BetaServerEvent
from ..types.realtime.realtime_server_event import RealtimeServerEvent
from ..types.realtime.realtime_translation_server_event import RealtimeTranslationServerEvent
from .connection import Manager, Resource, WebSocketConnection

if TYPE_CHECKING:
    from ..params.beta.realtime.realtime_session_create_request_param import (
        RealtimeSessionCreateRequestParam as BetaSessionParam,
    )
    from ..params.beta.realtime.realtime_transcription_session_create_request_param import (
        RealtimeTranscriptionSessionCreateRequestParam as BetaTranscriptionParam,
    )
    from ..params.beta.realtime.response_create_event_param import Response as BetaResponseParam
    from ..params.realtime.conversation_item_param import ConversationItemParam
    from ..params.realtime.realtime_response_create_params_param import RealtimeResponseCreateParamsParam
    from ..params.realtime.realtime_session_create_request_param import RealtimeSessionCreateRequestParam
    from ..params.realtime.realtime_transcription_session_create_request_param import (
        RealtimeTranscriptionSessionCreateRequestParam,
    )
    from ..params.realtime.realtime_translation_session_update_request_param import (
        RealtimeTranslationSessionUpdateRequestParam,
    )

__all__ = [
    "AsyncRealtimeConnection",
    "AsyncRealtimeConnectionManager",
    "AsyncTranslationsConnection",
    "AsyncTranslationsConnectionManager",
    "BetaRealtimeConnection",
    "BetaRealtimeConnectionManager",
]


class SessionMethods(Resource):
    """``connection.session``."""

    async def update(
        self,
        *,
        session: RealtimeSessionCreateRequestParam | RealtimeTranscriptionSessionCreateRequestParam,
        event_id: str | Omit = omit,
    ) -> None:
        """Change the session: instructions, voice, tools, formats, turn detection. Answered by ``session.updated``."""
        await self._send("session.update", session=session, event_id=event_id)


class ResponseMethods(Resource):
    """``connection.response``."""

    async def create(
        self, *, response: RealtimeResponseCreateParamsParam | Omit = omit, event_id: str | Omit = omit
    ) -> None:
        """Ask for an answer, now. Answered by ``response.created`` and what follows, up to ``response.done``."""
        await self._send("response.create", response=response, event_id=event_id)

    async def cancel(self, *, response_id: str | Omit = omit, event_id: str | Omit = omit) -> None:
        """Break off the answer that is under way. Answered by ``response.done``."""
        await self._send("response.cancel", response_id=response_id, event_id=event_id)


class InputAudioMethods(Resource):
    """``connection.input_audio_buffer``."""

    async def append(self, *, audio: str, event_id: str | Omit = omit) -> None:
        """Add sound, base64 in the session's input format. Not answered."""
        await self._send("input_audio_buffer.append", audio=audio, event_id=event_id)

    async def commit(self, *, event_id: str | Omit = omit) -> None:
        """Make what was appended the user's message. Answered by ``input_audio_buffer.committed``."""
        await self._send("input_audio_buffer.commit", event_id=event_id)

    async def clear(self, *, event_id: str | Omit = omit) -> None:
        """Forget what was appended. Answered by ``input_audio_buffer.cleared``."""
        await self._send("input_audio_buffer.clear", event_id=event_id)


class OutputAudioMethods(Resource):
    """``connection.output_audio_buffer`` (WebRTC and SIP)."""

    async def clear(self, *, event_id: str | Omit = omit) -> None:
        """Stop what is being said. Answered by ``output_audio_buffer.cleared``."""
        await self._send("output_audio_buffer.clear", event_id=event_id)


class ItemMethods(Resource):
    """``connection.conversation.item``."""

    async def create(
        self, *, item: ConversationItemParam, previous_item_id: str | Omit = omit, event_id: str | Omit = omit
    ) -> None:
        """Add a message, a call or its output, after `previous_item_id` or at the end."""
        await self._send("conversation.item.create", item=item, previous_item_id=previous_item_id, event_id=event_id)

    async def delete(self, *, item_id: str, event_id: str | Omit = omit) -> None:
        """Take an item away. Answered by ``conversation.item.deleted``."""
        await self._send("conversation.item.delete", item_id=item_id, event_id=event_id)

    async def truncate(
        self, *, item_id: str, content_index: int, audio_end_ms: int, event_id: str | Omit = omit
    ) -> None:
        """Cut an answer at what was heard of it, in milliseconds. Answered by ``conversation.item.truncated``."""
        await self._send(
            "conversation.item.truncate",
            item_id=item_id,
            content_index=content_index,
            audio_end_ms=audio_end_ms,
            event_id=event_id,
        )

    async def retrieve(self, *, item_id: str, event_id: str | Omit = omit) -> None:
        """Ask for an item. Answered by ``conversation.item.retrieved``."""
        await self._send("conversation.item.retrieve", item_id=item_id, event_id=event_id)


class ConversationMethods(Resource):
    """``connection.conversation``."""

    @cached_property
    def item(self) -> ItemMethods:
        """The methods for its items."""
        return ItemMethods(self._connection)


class AsyncRealtimeConnection(WebSocketConnection[RealtimeServerEvent]):
    """An open connection of ``client.realtime``; its events are `openaiasync.types.realtime.RealtimeServerEvent`."""

    _kind = RealtimeServerEvent

    @cached_property
    def session(self) -> SessionMethods:
        """Methods that change the session."""
        return SessionMethods(self)

    @cached_property
    def response(self) -> ResponseMethods:
        """Methods that ask for answers."""
        return ResponseMethods(self)

    @cached_property
    def input_audio_buffer(self) -> InputAudioMethods:
        """Methods for what is said."""
        return InputAudioMethods(self)

    @cached_property
    def conversation(self) -> ConversationMethods:
        """Methods for the conversation's items."""
        return ConversationMethods(self)

    @cached_property
    def output_audio_buffer(self) -> OutputAudioMethods:
        """Methods for what is answered."""
        return OutputAudioMethods(self)


class AsyncRealtimeConnectionManager(Manager[AsyncRealtimeConnection]):
    """What ``client.realtime.connect(...)`` answers."""

    _makes = AsyncRealtimeConnection


class BetaSessionMethods(Resource):
    """``connection.session``."""

    async def update(self, *, session: BetaSessionParam, event_id: str | Omit = omit) -> None:
        """Change the session."""
        await self._send("session.update", session=session, event_id=event_id)


class BetaTranscriptionMethods(Resource):
    """``connection.transcription_session``."""

    async def update(self, *, session: BetaTranscriptionParam, event_id: str | Omit = omit) -> None:
        """Change the session of a transcription."""
        await self._send("transcription_session.update", session=session, event_id=event_id)


class BetaResponseMethods(Resource):
    """``connection.response``."""

    async def create(self, *, response: BetaResponseParam | Omit = omit, event_id: str | Omit = omit) -> None:
        """Ask for an answer, now."""
        await self._send("response.create", response=response, event_id=event_id)

    async def cancel(self, *, response_id: str | Omit = omit, event_id: str | Omit = omit) -> None:
        """Break off the answer that is under way."""
        await self._send("response.cancel", response_id=response_id, event_id=event_id)


class BetaRealtimeConnection(WebSocketConnection[BetaServerEvent]):
    """An open connection of ``client.beta.realtime``, the protocol before its release."""

    _kind = BetaServerEvent

    @cached_property
    def session(self) -> BetaSessionMethods:
        """Methods that change the session."""
        return BetaSessionMethods(self)

    @cached_property
    def transcription_session(self) -> BetaTranscriptionMethods:
        """Methods that change the session of a transcription."""
        return BetaTranscriptionMethods(self)

    @cached_property
    def response(self) -> BetaResponseMethods:
        """Methods that ask for answers."""
        return BetaResponseMethods(self)

    @cached_property
    def input_audio_buffer(self) -> InputAudioMethods:
        """Methods for what is said."""
        return InputAudioMethods(self)

    @cached_property
    def conversation(self) -> ConversationMethods:
        """Methods for the conversation's items."""
        return ConversationMethods(self)

    @cached_property
    def output_audio_buffer(self) -> OutputAudioMethods:
        """Methods for what is answered."""
        return OutputAudioMethods(self)


class BetaRealtimeConnectionManager(Manager[BetaRealtimeConnection]):
    """What ``client.beta.realtime.connect(...)`` answers."""

    _makes = BetaRealtimeConnection


class TranslationAudioMethods(Resource):
    """``connection.session.input_audio_buffer``."""

    async def append(self, *, audio: str, event_id: str | Omit = omit) -> None:
        """Add sound that is to be translated, base64."""
        await self._send("session.input_audio_buffer.append", audio=audio, event_id=event_id)


class TranslationSessionMethods(Resource):
    """``connection.session``."""

    @cached_property
    def input_audio_buffer(self) -> TranslationAudioMethods:
        """Methods for what is said."""
        return TranslationAudioMethods(self._connection)

    async def update(
        self, *, session: RealtimeTranslationSessionUpdateRequestParam, event_id: str | Omit = omit
    ) -> None:
        """Change the session."""
        await self._send("session.update", session=session, event_id=event_id)

    async def close(self, *, event_id: str | Omit = omit) -> None:
        """Have the server finish what it has and close. Answered by ``session.closed``."""
        await self._send("session.close", event_id=event_id)


class AsyncTranslationsConnection(WebSocketConnection[RealtimeTranslationServerEvent]):
    """An open connection of ``client.realtime.translations``."""

    _kind = RealtimeTranslationServerEvent

    @cached_property
    def session(self) -> TranslationSessionMethods:
        """Methods of the session."""
        return TranslationSessionMethods(self)


class AsyncTranslationsConnectionManager(Manager[AsyncTranslationsConnection]):
    """What ``client.realtime.translations.connect(...)`` answers."""

    _makes = AsyncTranslationsConnection
