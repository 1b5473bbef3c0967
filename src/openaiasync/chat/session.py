"""`client.chat.session(...)`: a conversation that remembers itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from ..engine.accumulating import ChatStream
from ..engine.engine import Engine
from ..engine.sealing import sealed, sealing
from ..errors import APIError
from .context_window import ContextWindow, Policy
from .history import History, Message, copied, to_markdown
from .reply import Reply
from .state import SessionState, text_or_none
from .tools import Toolbox, Tools
from .turn import TurnStream, run_turn
from .usage import Prices, SessionUsage, TokenCount, Tokenizer, UsageTracker

if TYPE_CHECKING:
    from ..engine.attachments import AudioSource, ImageSource
    from .middleware import SessionMiddleware
    from .state import SessionState, StartedTurn, Ticket, TurnRequest
    from .turn_options import SayParams, TurnParams

__all__ = ["ChatSession", "SessionStream"]

T = TypeVar("T")


class SessionStream(TurnStream[T]):
    """The next turn of a session, piece by piece: iterate it; `final()` is the whole `Reply`.

    Nothing is sent before it is entered or iterated; then it waits until the turns before it are over. Read to its
    end, the turn is part of the history. Left earlier, or failed, it never was: what had come is in `partial`, and in
    the session's `last_partial`. One pass, one reader.
    """

    def __init__(self, talk: SessionState, plan: TurnRequest) -> None:
        super().__init__(talk.calls, [], plan.params, plan.options)
        self._talk = talk
        self._plan = plan
        self._begun: StartedTurn | None = None
        self._place: Ticket | None = None

    @property
    def _session(self) -> SessionMiddleware:
        assert self._begun is not None
        return self._begun.session

    async def _ask(self) -> None:
        if self._begun is not None:
            await super()._ask()
            return
        talk, plan = self._talk, self._plan
        self._place = await talk.order.enter()
        with self._place.inside():
            begun = await talk.begin(plan)
            if self._closed:
                raise RuntimeError("this stream was closed while it waited for its turn")
            self._begin(begun.calls, begun.messages, plan.params)
            self._begun = begun
            await super()._ask()

    async def _advance(self, step: Any) -> None:
        if self._place is None:
            await super()._advance(step)
        else:
            with self._place.inside():
                await super()._advance(step)

    async def _end_round(self, live: ChatStream) -> None:
        self._session.counted(await live.final())
        await super()._end_round(live)
        if self._rounds.done and self._begun is not None:
            try:
                await self._talk.finish(self._begun, self._rounds.reply())
            finally:
                self._leave()

    async def _refits(self, error: APIError) -> bool:
        return await self._session.shortened(error)

    async def _ask_again(self, live: ChatStream) -> None:
        self._session.counted(live.partial)
        await super()._ask_again(live)

    async def _release(self) -> None:
        try:
            if self._place is not None and self._begun is not None:
                if (answer := self._under_way) is not None:
                    self._session.counted(answer)
                self._talk.failed(self.partial)
        finally:
            try:
                await super()._release()
            finally:
                self._leave()

    def _leave(self) -> None:
        """Let the next turn begin; what was under way is over."""
        place, self._place = self._place, None
        if place is not None:
            self._talk.order.leave(place)


F = TypeVar("F", bound=Callable[..., Any])


class ChatSession:
    """A conversation: `say` and `stream` go on with it; all that was said is remembered, and nothing that failed.

    Made by `client.chat.session` and `client.chat.load_session`. Turns are taken one at a time, in the order they were
    asked for. Belongs to the thread and the event loops that its client belongs to.
    """

    def __init__(
        self,
        calls: Engine,
        *,
        system: str | None = None,
        messages: Sequence[Any] = (),
        tools: Tools = (),
        context_limit: int | None = None,
        policy: Policy | None = None,
        tokenizer: Tokenizer | None = None,
        prices: Prices | None = None,
        budget: float | None = None,
        **params: Unpack[TurnParams],
    ) -> None:
        room, spend = ContextWindow(context_limit, policy, tokenizer), UsageTracker(prices, budget)
        self._talk = SessionState(calls, Toolbox(tools), History.of(messages), room, spend)
        self._talk.configure(params)
        if system is not None:
            self._talk.history.system = text_or_none("system", system)

    @classmethod
    def loaded(
        cls, calls: Engine, path: str | os.PathLike[str], append: bool, fsync: bool, options: Mapping[str, Any]
    ) -> ChatSession:
        """A session from a file; `client.chat.load_session` explains."""
        if "messages" in options:
            raise TypeError("load_session() takes no messages: they are in the file")
        session = cls(calls, **options)
        talk = session._talk
        system, model, params = talk.history.system, talk.model, talk.params
        talk.load(path, append, fsync)
        if "system" in options:
            talk.history.system = system
        talk.model = model or talk.model
        talk.params = {**talk.params, **params}
        if options:
            talk.write({"set": talk.settings()})
        return session

    # ---------------------------------------------------------------- turns

    @overload
    async def say(
        self,
        text: str | Sequence[Any] | None = None,
        *,
        images: ImageSource | Sequence[ImageSource] | None = None,
        audio: AudioSource | Sequence[AudioSource] | None = None,
        into: type[T],
        tools: Tools | None = None,
        at: int | None = None,
        **params: Unpack[SayParams],
    ) -> Reply[T]: ...

    @overload
    async def say(
        self,
        text: str | Sequence[Any] | None = None,
        *,
        images: ImageSource | Sequence[ImageSource] | None = None,
        audio: AudioSource | Sequence[AudioSource] | None = None,
        into: Any = None,
        tools: Tools | None = None,
        at: int | None = None,
        **params: Unpack[SayParams],
    ) -> Reply[Any]: ...

    @sealing
    async def say(
        self,
        text: str | Sequence[Any] | None = None,
        *,
        images: ImageSource | Sequence[ImageSource] | None = None,
        audio: AudioSource | Sequence[AudioSource] | None = None,
        into: Any = None,
        tools: Tools | None = None,
        at: int | None = None,
        **params: Unpack[SayParams],
    ) -> Reply[Any]:
        """Say something; the reply whole, after all rounds of tools.

        `text` is the user's words, or a list of content parts; `images` are paths, URLs, bytes or files, `audio` the
        same without URLs (WAV or MP3). `into` is a type, of which `reply.parsed` is a value. `at` is the index of a
        message of the user that this one replaces: all that followed is gone once the reply is there. Options and
        parameters hold for this turn in the place of the session's; so do `tools`, of which ``[]`` is none.

        Raises `TypeError` and `ValueError` for arguments that are wrong, `OSError` for files that cannot be read,
        `ContextLimitError` and `BudgetError` before a request that does not fit, `RuntimeError` for a tool that asks
        its own session, and what calls and tools raise: the history is as it was, `error.partial` is what had come.
        `SessionFileError` if the turn could not be saved; it is kept then, and saved with the next.
        """
        talk = self._talk
        plan = talk.plan("session.say()", (text, images, audio), at, tools, into, params)
        place = await talk.order.enter()
        try:
            with place.inside():
                begun = await talk.begin(plan)
                try:
                    reply = await run_turn(begun.calls, begun.messages, plan.params, plan.options)
                except BaseException as error:
                    talk.failed(getattr(error, "partial", None))
                    raise
                await talk.finish(begun, reply)
                return reply
        finally:
            talk.order.leave(place)

    @overload
    def stream(
        self,
        text: str | Sequence[Any] | None = None,
        *,
        images: ImageSource | Sequence[ImageSource] | None = None,
        audio: AudioSource | Sequence[AudioSource] | None = None,
        into: type[T],
        tools: Tools | None = None,
        at: int | None = None,
        **params: Unpack[SayParams],
    ) -> SessionStream[T]: ...

    @overload
    def stream(
        self,
        text: str | Sequence[Any] | None = None,
        *,
        images: ImageSource | Sequence[ImageSource] | None = None,
        audio: AudioSource | Sequence[AudioSource] | None = None,
        into: Any = None,
        tools: Tools | None = None,
        at: int | None = None,
        **params: Unpack[SayParams],
    ) -> SessionStream[Any]: ...

    @sealed
    def stream(
        self,
        text: str | Sequence[Any] | None = None,
        *,
        images: ImageSource | Sequence[ImageSource] | None = None,
        audio: AudioSource | Sequence[AudioSource] | None = None,
        into: Any = None,
        tools: Tools | None = None,
        at: int | None = None,
        **params: Unpack[SayParams],
    ) -> SessionStream[Any]:
        """The same, piece by piece: ``async with session.stream(...) as reply: async for piece in reply: ...``.

        Nothing is sent before it is entered or iterated. Left before its end, the turn never was. Wrong arguments are
        raised at once, the rest when it is read.
        """
        plan = self._talk.plan("session.stream()", (text, images, audio), at, tools, into, params)
        return SessionStream(self._talk, plan)

    async def edit(
        self,
        index: int,
        text: str | Sequence[Any] | None = None,
        *,
        into: Any = None,
        tools: Tools | None = None,
        **params: Unpack[SayParams],
    ) -> Reply[Any]:
        """Replace what the user said at this index of `messages`, and have it answered anew; what followed is gone.

        Without a text the same is asked once more. It is `say` with ``at=index`` and raises the same: if it fails, the
        history is as it was. `IndexError` where there is no message, `ValueError` where it is not the user's.
        """
        return await self.say(text, into=into, tools=tools, at=index, **params)

    def undo(self, turns: int = 1) -> list[Message]:
        """Take back the last turn, or the last so many, with all that tools said in it.

        Answers the messages that are gone, the user's first. Usage stays. Raises `IndexError` if there are not so many
        turns, `RuntimeError` while a turn is under way, `SessionFileError`.
        """
        talk = self._talk
        if isinstance(turns, bool) or not isinstance(turns, int) or turns < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may give anything
            raise ValueError(f"undo() takes a number of turns from 1 up, not {turns!r}")
        talk.refuse_busy("undo()")
        left = len(talk.history) - turns
        if left < 0:
            raise IndexError(f"cannot undo {turns} turns: the session has {len(talk.history)}")
        gone = talk.history.keep(left)
        talk.room.forget(left)
        talk.write({"keep": left})
        return [copied(message) for turn in gone for message in turn.messages]

    def fork(self) -> ChatSession:
        """A session that goes its own way from here; neither sees what the other does. It writes to no file.

        It shares what was said until one of them changes, so that it costs next to nothing. Usage is carried over,
        options and tools are the same. A turn under way is not part of it.
        """
        other = ChatSession.__new__(ChatSession)
        other._talk = self._talk.fork()
        return other

    # ---------------------------------------------------------------- what it is

    @property
    def messages(self) -> list[Message]:
        """All that was said, the system prompt first; copies, the caller's to change."""
        return self._talk.history.messages()

    @property
    def last_partial(self) -> Reply[Any] | None:
        """What had come of the last turn if it failed, was cancelled, or its stream was left early; else `None`."""
        return self._talk.last_partial

    @property
    def system(self) -> str | None:
        """The system prompt; `None` without one. A new one holds from the next turn on."""
        return self._talk.history.system

    @system.setter
    def system(self, text: str | None) -> None:
        self._talk.history.system = text_or_none("system", text)
        self._talk.write({"set": {"head": list(self._talk.history.head)}})

    @property
    def model(self) -> str | None:
        """The model that is asked; `None`: the client's default. A new one holds from the next turn on."""
        return self._talk.model

    @model.setter
    def model(self, name: str | None) -> None:
        self._talk.model = text_or_none("model", name)
        self._talk.write({"set": {"model": name}})

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of all turns, beside the model; a copy."""
        return dict(self._talk.params)

    @property
    def tools(self) -> Toolbox:
        """The tools of all turns; a copy."""
        return Toolbox(self._talk.tools)

    @property
    def missing_tools(self) -> list[str]:
        """The tools that a loaded session had and this one lacks: functions are not saved, their names are."""
        return list(self._talk.missing_tools)

    def tool(self, function: F) -> F:
        """Let the model call a function from the next turn on; also as a decorator, ``@session.tool``.

        Answers the function itself. Raises `TypeError` for one that no schema can be made of, `ValueError` for a
        second tool of one name.
        """
        talk = self._talk
        talk.tools.add(function)
        talk.missing_tools = [name for name in talk.missing_tools if name not in talk.tools.names]
        talk.write({"set": {"tools": talk.tools.names}})
        return function

    @property
    def usage(self) -> SessionUsage:
        """What the session has used so far: tokens, requests, and cost where prices are known."""
        return self._talk.spend.total

    @property
    def tokens(self) -> TokenCount:
        """How many tokens all that was said takes in a request, and who counted."""
        talk = self._talk
        return talk.room.count(talk.history.flat(), {**talk.params, "tools": talk.tools.params()})

    @property
    def summary(self) -> str | None:
        """The model's summary of the first turns, where one was made for want of room; the turns are still there."""
        summary = self._talk.room.summary
        return None if summary is None else summary.text

    @property
    def left_out(self) -> int:
        """How many of the first turns the last request went without, for want of room; they are still there."""
        return self._talk.room.left_out

    def to_markdown(self) -> str:
        """The conversation as a Markdown text, to be read by people."""
        return to_markdown(self._talk.history.flat())

    def __repr__(self) -> str:
        saved = f", saved to {self.path}" if self.path else ""
        return f"<ChatSession with {self.model or 'the default model'}: {len(self._talk.history)} turns{saved}>"

    # ---------------------------------------------------------------- files

    @property
    def path(self) -> Path | None:
        """The file that the session appends to; `None` without one."""
        return None if self._talk.journal is None else self._talk.journal.path

    def save(self, path: str | os.PathLike[str], *, fsync: bool = False, replace: bool = True) -> None:
        """Write the session to a file (JSON Lines), and from now on every turn as it is finished.

        A saved session that is there is replaced, without `replace` it is an error. The file is this session's until
        `close`. With `fsync`, a turn is finished when the disk has it, so that it survives a loss of power; without, it
        survives the end of the process. Functions, options of calls (timeouts, header fields, `extra_body`), prices and
        limits are not in the file. If it is removed or emptied meanwhile, the next turn writes it anew; if another
        program replaces or changes it, the next turn raises and is kept, until the session is saved again.
        Raises `SessionFileError`: a path that cannot be written, a file of another kind, one in use.
        """
        self._talk.save(path, fsync, replace)

    def load(self, path: str | os.PathLike[str], *, append: bool = False, fsync: bool = False) -> None:
        """Go on with a saved session in the place of this one: what was said, system prompt, model, parameters, usage.

        Tools and options stay this session's. With `append` every turn is written to that file from now on, else it is
        only read. A last line that was torn is left out. Raises `SessionFileError`: no file, another kind, in use,
        damaged; `RuntimeError` while a turn is under way.
        """
        self._talk.refuse_busy("load()")
        self._talk.load(path, append, fsync)

    def close(self) -> None:
        """Stop writing to the file, which others may go on with then; the session itself goes on. Idempotent.

        Raises `SessionFileError` if a turn could not be written before, and cannot be now.
        """
        self._talk.close()
