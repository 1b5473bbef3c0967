"""`client.chat.session(...)`: a conversation that keeps its own history."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from ..core.model.method_signatures import explicit_signatures
from ..engine.accumulating import ChatStream
from ..engine.engine import Engine
from ..engine.sealing import sealed, sealing
from ..errors import APIError
from ..lazy import resolve_annotations
from .context_window import ContextWindow
from .history import History, Message, copied, to_markdown
from .reply import Reply
from .state import SessionState, StartedTurn, Ticket, TurnRequest, text_or_none
from .tools import Toolbox
from .turn import TurnStream, run_turn
from .turn_options import NOT_IN_SESSIONS, split_keywords
from .usage import SessionUsage, TokenCount, UsageTracker

if TYPE_CHECKING:
    from .middleware import SessionMiddleware
    from .turn_params import SayParams, SessionParams

__all__ = ["ChatSession", "SessionStream"]

_OWN_KEYWORDS = ("system", "tools", "context_limit", "policy", "tokenizer", "prices", "budget")  # of `ChatSession`

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class SessionStream(TurnStream[T]):
    """The next turn of a session, piece by piece: iterate it; `final()` returns the whole `Reply`.

    Nothing is sent before the stream is entered or iterated; it then waits until earlier turns have ended. Once it has
    been read to its end, the turn is part of the history. If it is left earlier or fails, the history does not change:
    `partial`, and the session's `last_partial`, hold what was received. One pass, one reader.
    """

    def __init__(self, state: SessionState, request: TurnRequest) -> None:
        super().__init__(state.engine, [], request.params, request.options)
        self._state = state
        self._turn_request = request
        self._started: StartedTurn | None = None
        self._ticket: Ticket | None = None

    @property
    def _session(self) -> SessionMiddleware:
        assert self._started is not None
        return self._started.session

    async def _ask(self) -> None:
        if self._started is not None:
            await super()._ask()
            return
        state, request = self._state, self._turn_request
        self._ticket = await state.lock.acquire()
        with self._ticket.inside():
            started = await state.start(request)
            if self._closed:
                raise RuntimeError("this stream was closed while it waited for its turn")
            self._begin(started.engine, started.messages, request.params)
            self._started = started
            await super()._ask()

    async def _advance(self, step: Any) -> None:
        if self._ticket is None:
            await super()._advance(step)
        else:
            with self._ticket.inside():
                await super()._advance(step)

    async def _end_answer(self, live: ChatStream) -> None:
        self._session.counted(await live.final())
        await super()._end_answer(live)
        if self._loop.done and self._started is not None:
            try:
                await self._state.finish(self._started, self._loop.reply())
            finally:
                self._end_turn()

    async def _refits(self, error: APIError) -> bool:
        return await self._session.shortened(error)

    async def _ask_again(self, live: ChatStream) -> None:
        self._session.counted(live.partial)
        await super()._ask_again(live)

    async def _release(self) -> None:
        try:
            if self._ticket is not None and self._started is not None:
                if (answer := self._under_way) is not None:
                    self._session.counted(answer)
                self._state.fail(self.partial)
        finally:
            try:
                await super()._release()
            finally:
                self._end_turn()

    def _end_turn(self) -> None:
        """Let the next turn start."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._state.lock.release(ticket)


class ChatSession:
    """A conversation: `say` and `stream` continue it, and it remembers every finished turn.

    Create one with `client.chat.session` or `client.chat.load_session`. Turns run one at a time, in the order of the
    calls; a turn that fails or is cancelled leaves the history unchanged. Use a session from the thread and the event
    loops that its client is used from.
    """

    def __init__(self, engine: Engine, **params: Unpack[SessionParams]) -> None:
        """See `client.chat.session`."""
        given: dict[str, Any] = {**params}
        take = given.pop
        window = ContextWindow(take("context_limit", None), take("policy", None), take("tokenizer", None))
        usage = UsageTracker(take("prices", None), take("budget", None))
        toolbox, history = Toolbox(take("tools", ())), History.of(take("messages", ()))
        system = take("system", None)
        self._state = SessionState(engine, toolbox, history, window, usage)
        self._state.configure(given, "client.chat.session()", _OWN_KEYWORDS)
        if system is not None:
            history.system = text_or_none("system", system)

    @classmethod
    def loaded(
        cls, engine: Engine, path: str | os.PathLike[str], append: bool, fsync: bool, options: Mapping[str, Any]
    ) -> ChatSession:
        """Return a session read from a file; see `client.chat.load_session`."""
        rejected = {**NOT_IN_SESSIONS, "messages": "the file holds them"}
        params = {name: value for name, value in options.items() if name not in _OWN_KEYWORDS}
        split_keywords("client.chat.load_session()", params, rejected, _OWN_KEYWORDS)
        session = cls(engine, **options)
        state = session._state
        system, model, params = state.history.system, state.model, state.params
        state.load(path, append, fsync)
        if "system" in options:
            state.history.system = system
        state.model = model or state.model
        state.params = {**state.params, **params}
        if options:
            state.write({"set": state.settings()})
        return session

    # ---------------------------------------------------------------- turns

    @overload
    async def say(
        self, text: str | Sequence[Any] | None = None, *, into: type[T], **params: Unpack[SayParams]
    ) -> Reply[T]: ...

    @overload
    async def say(
        self, text: str | Sequence[Any] | None = None, *, into: Any = None, **params: Unpack[SayParams]
    ) -> Reply[Any]: ...

    @sealing
    async def say(
        self, text: str | Sequence[Any] | None = None, *, into: Any = None, **params: Unpack[SayParams]
    ) -> Reply[Any]:
        """Take a turn: send the user's message, run the tools that the model calls, and return the reply.

        `text` is the user's text, or a list of content parts. `images` takes paths, URLs, bytes or open files, one
        or a list; `audio` takes the same except URLs (WAV or MP3). `into` is a type; `reply.parsed` is then a value of
        it. `at` is the index of a message of the user in `messages` that this one replaces: everything after it is
        dropped once the reply is complete. `tools` replaces the session's tools for this turn (``[]``: no tools), and
        so do all other options and parameters (see `client.chat.session`).

        Raises `TypeError` and `ValueError` for invalid arguments, `OSError` for files that cannot be read,
        `ContextLimitError` and `BudgetError` instead of sending a request that is too large or too expensive,
        `RuntimeError` if a tool calls its own session, and the errors of calls and tools. After any of these the
        history is unchanged, and `error.partial` holds the `Reply` so far. Raises `SessionFileError` if the turn could
        not be saved: the turn is part of the history then, and is saved with the next one.
        """
        return await self._take_turn(self._state.request("session.say()", text, into, params))

    async def _take_turn(self, request: TurnRequest) -> Reply[Any]:
        state = self._state
        ticket = await state.lock.acquire()
        try:
            with ticket.inside():
                started = await state.start(request)
                try:
                    reply = await run_turn(started.engine, started.messages, request.params, request.options)
                except BaseException as error:
                    state.fail(getattr(error, "partial", None))
                    raise
                await state.finish(started, reply)
                return reply
        finally:
            state.lock.release(ticket)

    @overload
    def stream(
        self, text: str | Sequence[Any] | None = None, *, into: type[T], **params: Unpack[SayParams]
    ) -> SessionStream[T]: ...

    @overload
    def stream(
        self, text: str | Sequence[Any] | None = None, *, into: Any = None, **params: Unpack[SayParams]
    ) -> SessionStream[Any]: ...

    @sealed
    def stream(
        self, text: str | Sequence[Any] | None = None, *, into: Any = None, **params: Unpack[SayParams]
    ) -> SessionStream[Any]:
        """Take a turn as `say` does, piece by piece.

        Use it as ``async with session.stream(...) as stream: async for piece in stream: ...``. Nothing is sent before
        the stream is entered or iterated. Leaving it before its end leaves the history unchanged. Invalid arguments
        raise `TypeError` or `ValueError` at once; everything else that `say` raises, reading the stream raises.
        """
        return SessionStream(self._state, self._state.request("session.stream()", text, into, params))

    @sealing
    async def edit(
        self,
        index: int,
        text: str | Sequence[Any] | None = None,
        *,
        into: Any = None,
        **params: Unpack[SayParams],
    ) -> Reply[Any]:
        """Replace the user's message at this index of `messages` and return the new reply; later messages are dropped.

        Without `text`, `images` and `audio` the same message is sent again. The same as `say` with ``at=index``: it
        raises the same errors, and the history is unchanged if it fails. Raises `IndexError` if there is no message
        with this index, `ValueError` if it is not a message of the user.
        """
        if "at" in params:
            raise TypeError("session.edit() does not accept at: its first argument is the index")
        params["at"] = index
        return await self._take_turn(self._state.request("session.edit()", text, into, params))

    def undo(self, turns: int = 1) -> list[Message]:
        """Remove the last turn, or the last `turns` turns, and return their messages, oldest first.

        `usage` does not change. Raises `IndexError` if there are fewer turns, `ValueError` for a number below 1,
        `RuntimeError` while a turn is running, and `SessionFileError`.
        """
        state = self._state
        if isinstance(turns, bool) or not isinstance(turns, int) or turns < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may give anything
            raise ValueError(f"undo() takes a number of turns, at least 1, not {turns!r}")
        state.refuse_busy("undo()")
        left = len(state.history) - turns
        if left < 0:
            raise IndexError(f"cannot undo {turns} turns: the session has {len(state.history)}")
        removed = state.history.keep(left)
        state.window.forget(left)
        state.write({"keep": left})
        return [copied(message) for turn in removed for message in turn.messages]

    def fork(self) -> ChatSession:
        """Return an independent copy of the session, which is not saved to a file.

        The copy shares the history until one of the two changes, so that forking costs the same for any length. Usage,
        options and tools are copied. A turn that is running is not part of the copy.
        """
        other = ChatSession.__new__(ChatSession)
        other._state = self._state.fork()
        return other

    # ---------------------------------------------------------------- contents

    @property
    def messages(self) -> list[Message]:
        """All messages, the system prompt first. Changing this copy does not change the session."""
        return self._state.history.messages()

    @property
    def last_partial(self) -> Reply[Any] | None:
        """The `Reply` so far of the last turn if it failed, was cancelled or its stream was left early; else `None`."""
        return self._state.last_partial

    @property
    def system(self) -> str | None:
        """The system prompt; `None` without one. Setting it takes effect with the next turn."""
        return self._state.history.system

    @system.setter
    def system(self, text: str | None) -> None:
        self._state.history.system = text_or_none("system", text)
        self._state.write({"set": {"head": list(self._state.history.head)}})

    @property
    def model(self) -> str | None:
        """The model; `None` for the client's default model. Setting it takes effect with the next turn."""
        return self._state.model

    @model.setter
    def model(self, name: str | None) -> None:
        self._state.model = text_or_none("model", name)
        self._state.write({"set": {"model": name}})

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of all turns, without the model; a copy."""
        return dict(self._state.params)

    @property
    def tools(self) -> Toolbox:
        """The tools of all turns; a copy."""
        return Toolbox(self._state.tools)

    @property
    def missing_tools(self) -> list[str]:
        """The names of tools that a loaded session had and this one lacks: a file holds names, not functions."""
        return list(self._state.missing_tools)

    def tool(self, function: F) -> F:
        """Let the model call a function from the next turn on. Also a decorator: ``@session.tool``.

        Returns the function itself. Raises `TypeError` for a function without a usable schema, `ValueError` if another
        tool has its name.
        """
        state = self._state
        state.tools.add(function)
        state.missing_tools = [name for name in state.missing_tools if name not in state.tools.names]
        state.write({"set": {"tools": state.tools.names}})
        return function

    @property
    def usage(self) -> SessionUsage:
        """The usage of the session so far: tokens, requests, and their cost if `prices` were given."""
        return self._state.usage.total

    @property
    def tokens(self) -> TokenCount:
        """The number of tokens of the whole history in a request, and the source of the count."""
        state = self._state
        return state.window.count(state.history.flat(), {**state.params, "tools": state.tools.params()})

    @property
    def summary(self) -> str | None:
        """The model's summary of the oldest turns, if the context limit made one necessary; the turns are kept."""
        summary = self._state.window.summary
        return None if summary is None else summary.text

    @property
    def left_out(self) -> int:
        """The number of oldest turns that the last request left out because of the context limit; they are kept."""
        return self._state.window.left_out

    def to_markdown(self) -> str:
        """Return the conversation as Markdown for people to read."""
        return to_markdown(self._state.history.flat())

    def __repr__(self) -> str:
        saved = f", saved to {self.path}" if self.path else ""
        turns = len(self._state.history)
        count = "1 turn" if turns == 1 else f"{turns} turns"
        return f"<ChatSession with {self.model or 'the default model'}: {count}{saved}>"

    def _repr_markdown_(self) -> str:
        """Return what a notebook shows."""
        return self.to_markdown()

    # ---------------------------------------------------------------- files

    @property
    def path(self) -> Path | None:
        """The file that the session appends to; `None` without one."""
        return None if self._state.journal is None else self._state.journal.path

    def save(self, path: str | os.PathLike[str], *, fsync: bool = False, replace: bool = True) -> None:
        """Write the session to a file (JSON Lines), and append every turn to it from now on.

        An existing saved session is replaced; with ``replace=False`` that is an error. The file is locked until
        `close`. With ``fsync=True`` a turn ends only when the disk has it, so that it survives a power failure;
        without, it survives the end of the process. The file does not hold functions, call options (timeouts, header
        fields, `extra_body`), prices and limits. If the file is removed or emptied, the next turn writes all of it
        again; if another program replaces or changes it, the next turn raises and is kept until the session is saved
        again. Raises `SessionFileError`: the path cannot be written, is not a saved session, or is in use.
        """
        self._state.save(path, fsync, replace)

    def load(self, path: str | os.PathLike[str], *, append: bool = False, fsync: bool = False) -> None:
        """Replace this session's history, system prompt, model, parameters and usage with those of a saved session.

        Tools and options stay this session's. With ``append=True`` every turn is appended to the file from now on;
        otherwise the file is only read. A torn last line is ignored. Raises `SessionFileError` if the file does not
        exist, is not a saved session, is in use or damaged; `RuntimeError` while a turn is running.
        """
        self._state.refuse_busy("load()")
        self._state.load(path, append, fsync)

    def close(self) -> None:
        """Stop appending to the file and unlock it; the session remains usable. Idempotent.

        Raises `SessionFileError` if a turn that could not be written before cannot be written now.
        """
        self._state.close()


resolve_annotations(__name__)
explicit_signatures(ChatSession)
