"""The turns of a conversation in the log, and the conversation that is continued from there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..lazy import resolve_annotations
from .call_log import CallLog, Conversation, LogEntry, log_call, log_path
from .console import CommandError, note
from .session_store import last_session

if TYPE_CHECKING:
    from ..chat.reply import Reply
    from ..chat.session import ChatSession
    from ..client import Client
    from ..core.model.secrets import Secrets
    from .arguments import ServerOptions
    from .chat_options import ChatOptions
    from .fragments import Fragment

__all__ = ["ChatLog", "Resumed", "chat_log_for", "file_names", "resumed_for"]


class ChatLog:
    """Adds the turns of one conversation to the log. `known` are the secrets of the command."""

    def __init__(self, known: Secrets, base_url: str, *, conversation: str | None = None, on: bool = True) -> None:
        self._known = known
        self._base_url = base_url
        self._conversation = conversation
        self._on = on
        self._began = 0.0

    def begin(self) -> None:
        """Start the clock of a turn."""
        self._began = time.monotonic()

    def add(
        self,
        session: ChatSession,
        reply: Reply[Any],
        settings: Mapping[str, Any],
        *,
        prompt: str | None = None,
        fragments: Sequence[Fragment] = (),
        files: Sequence[str] = (),
    ) -> None:
        """Add the last turn. `prompt` is its text without the fragments; by default, the text of the user's message."""
        if not self._on:
            return
        from ..core.model.mixins import text_of

        history = [message for message in session.messages if message.get("role") not in ("system", "developer")]
        added = history[-1 - len(reply.messages) :]
        if prompt is None:
            prompt = text_of(added[0].get("content")) if added else ""
        entry = LogEntry(
            command="chat",
            prompt=prompt,
            answer=reply.text,
            reasoning=reply.reasoning or None,
            base_url=self._base_url,
            model=session.model,
            system=session.system,
            options={name: value for name, value in settings.items() if name != "permit"},
            usage=None if reply.usage is None else reply.usage.to_dict(),
            seconds=round(time.monotonic() - self._began, 3),
            fragments=fragments,
            files=files,
            follows=len(history) - len(added),
            messages=added,
        )
        conversation = None if session.path is not None else self._conversation
        found = log_call(entry, self._known, conversation=conversation, session=session.path)
        if session.path is None:
            self._conversation = found


def file_names(files: Sequence[str | bytes]) -> list[str]:
    """Return names of pictures and sounds for the log."""
    return ["-" if isinstance(one, bytes) else f"{one[:40]}…" if one.startswith("data:") else one for one in files]


@dataclass(frozen=True)
class Resumed:
    """A conversation to continue: the file of its session, or what the log has of it."""

    path: Path | None = None
    conversation: str | None = None
    messages: Sequence[Any] = ()
    system: str | None = None
    model: str | None = None


def last_conversation(wanted: str | None = None) -> Resumed:
    """Return the conversation of the log with this id, or else the one that was used last, in the log or a session.

    Raises `CommandError` if no conversation is found.
    """
    try:
        with CallLog.open(log_path()) as log:
            found = log.conversation(wanted) if wanted is not None else log.last("chat")
            if wanted is not None and found is None:
                raise CommandError(f"the log has no conversation {wanted!r}; openaiasync logs lists them")
            return _resumed(log, found, newest=wanted is None)
    except CommandError:
        if wanted is not None:
            raise
    return Resumed(last_session())


def _resumed(log: CallLog, found: Conversation | None, *, newest: bool) -> Resumed:
    path = None if found is None or found.session is None else Path(found.session)
    other = None
    if newest:
        with contextlib.suppress(CommandError):
            other = last_session()
    if found is None or (other is not None and other != path and other.stat().st_mtime > found.at):
        return Resumed(last_session() if other is None else other)  # a session that is not logged
    if path is not None and path.exists():
        return Resumed(path)
    messages, missing = log.messages(found.id)
    if missing:
        note(f"The log does not have {len(missing)} long texts of this conversation, which are left out.")
    last = log.calls(found.id)[-1]
    return Resumed(None, found.id, messages, last["system"], last["model"])


def resumed_for(options: ChatOptions) -> Resumed:
    """Return the conversation to continue, if the options name one."""
    return last_conversation(options.conversation) if options.go_on or options.conversation is not None else Resumed()


def chat_log_for(server: ServerOptions, client: Client, options: ChatOptions, resumed: Resumed) -> ChatLog:
    """Return the log of a conversation."""
    on = not (options.no_log or options.forget)
    return ChatLog(server.secrets(), client.base_url.rstrip("/"), conversation=resumed.conversation, on=on)


resolve_annotations(__name__)
