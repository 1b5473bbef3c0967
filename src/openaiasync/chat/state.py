"""The state of a session, how one turn changes it, and whose turn it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections import deque
from collections.abc import Generator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, cast

import msgspec

from ..core.codec.encode import encode_json
from ..core.codec.endpoint import nearest
from ..core.model.omitted import is_omitted
from ..core.policy.options import OPTION_NAMES
from ..engine.engine import Engine
from ..storage.threads import in_thread_to_its_end
from .context_window import ContextWindow
from .history import History, Message, Turn, check_messages, mended, sendable
from .messages import TurnInput
from .middleware import SessionMiddleware
from .reply import Reply
from .session_file import Journal, Record, Saved, SessionFileError, read_session, summary_record, turn_record
from .tools import Toolbox
from .turn_options import ELSEWHERE, TurnOptions
from .usage import UsageTracker

__all__ = ["SessionState", "StartedTurn", "Ticket", "TurnLock", "TurnRequest", "text_or_none"]

# The turns that the running code is part of: a tool that waited for its own session would wait for ever.
_inside: ContextVar[tuple[weakref.ref[Ticket], ...]] = ContextVar("_inside", default=())


class Ticket:
    """The right to take a turn, or the wait for it. Whoever has it keeps it alive: it ends with its last reference."""

    __slots__ = ("__weakref__", "future", "loop", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.future: asyncio.Future[None] | None = None
        self.task: weakref.ref[asyncio.Task[Any]] | None = None
        self.touch()

    def touch(self) -> None:
        """The running task is the one that takes the turn."""
        task = asyncio.current_task()
        self.task = None if task is None else weakref.ref(task)

    @contextlib.contextmanager
    def inside(self) -> Generator[None, None, None]:
        """What runs in this block, and the tasks it starts, are part of the turn."""
        self.touch()
        token = _inside.set((*_inside.get(), weakref.ref(self)))
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # a coroutine that nobody awaits any more is closed from anywhere
                _inside.reset(token)


class TurnLock:
    """The turns of one session."""

    def __init__(self) -> None:
        self._holder: weakref.ref[Ticket] | None = None
        self._waiting: deque[Ticket] = deque()

    @property
    def busy(self) -> bool:
        """Whether a turn is under way."""
        return self._current() is not None

    def _current(self) -> Ticket | None:
        place = self._holder() if self._holder is not None else None
        return None if place is None or place.loop.is_closed() else place

    async def enter(self) -> Ticket:
        """Wait for the turns before; `leave` with what this answers. Cancelling the wait harms nobody.

        Raises `RuntimeError` where the wait could never end: the caller itself holds the turn up.
        """
        place = Ticket(asyncio.get_running_loop())
        current = self._current()
        if current is None and not self._waiting:
            self._hand(place)
            return place
        self._refuse_own(current)
        place.future = place.loop.create_future()
        self._waiting.append(place)
        if current is None:
            self._next()
        del current  # this wait must not keep it alive
        try:
            await place.future
        except BaseException:
            if self._current() is place:
                self.leave(place)
            elif place in self._waiting:
                self._waiting.remove(place)
            raise
        place.touch()
        return place

    def leave(self, place: Ticket) -> None:
        """The turn is over. Idempotent."""
        if self._holder is not None and self._holder() is place:
            self._next()

    def _refuse_own(self, current: Ticket | None) -> None:
        if current is None:
            return
        if any(turn() is current for turn in _inside.get()):
            raise RuntimeError(
                "a tool asks the session whose turn it is part of, which would wait for itself: use session.fork()"
            )
        if current.task is not None and current.task() is asyncio.current_task():
            raise RuntimeError(
                "this task has a stream of the session open: read it to its end, or leave its block, before you go on"
            )

    def _hand(self, place: Ticket) -> None:
        self._holder = weakref.ref(place, self._lost)

    def _lost(self, holder: weakref.ref[Ticket]) -> None:
        if self._holder is holder:
            self._next()

    def _next(self) -> None:
        self._holder = None
        while self._waiting:
            place = self._waiting.popleft()
            future = place.future
            if future is None or future.done() or place.loop.is_closed():
                continue
            with contextlib.suppress(RuntimeError):  # its loop was closed just now
                # Perhaps from another thread: a forgotten stream is collected anywhere.
                place.loop.call_soon_threadsafe(_wake, future)
                self._hand(place)
                return


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_OPTIONS = frozenset(TurnOptions.__struct_fields__)


class TurnRequest(NamedTuple):
    """A turn as it was asked for."""

    input: TurnInput | None  # `None`: the user's message stays as it is
    params: dict[str, Any]
    options: TurnOptions
    at: int | None  # the index of the user's message that it replaces


class StartedTurn(NamedTuple):
    """A turn that has begun."""

    calls: Engine
    session: SessionMiddleware  # around the requests of `calls`
    messages: list[Message]  # all up to the user's
    keep: int  # the turns before it


class SessionState:
    """What a session holds."""

    def __init__(
        self, calls: Engine, tools: Toolbox, history: History, room: ContextWindow, spend: UsageTracker
    ) -> None:
        self.calls = calls
        self.tools = tools
        self.history: History = history
        self.room: ContextWindow = room
        self.spend = spend
        self.order: TurnLock = TurnLock()
        self.model: str | None = None
        self.params: dict[str, Any] = {}
        self.options: dict[str, Any] = {}  # of all turns, by the names of `TurnOptions`
        self.journal: Journal | None = None
        self.last_partial: Reply[Any] | None = None
        self.missing_tools: list[str] = []
        self._written: tuple[Any, Any] | None = None  # usage and summary as the journal has them

    def configure(self, given: Mapping[str, Any]) -> None:
        """Take the parameters and options of all turns. Raises `TypeError` and `ValueError`."""
        params, options = _parted(given, "session()")
        self.model = text_or_none("model", params.pop("model", None))
        TurnOptions(**options)
        self.params, self.options = params, options

    def fork(self) -> SessionState:
        """The same, for a session of its own."""
        other = SessionState(self.calls, Toolbox(self.tools), self.history.fork(), self.room.fork(), self.spend.fork())
        other.model, other.params, other.options = self.model, dict(self.params), dict(self.options)
        other.last_partial, other.missing_tools = self.last_partial, list(self.missing_tools)
        return other

    # ---------------------------------------------------------------- a turn

    def plan(
        self, where: str, said: tuple[Any, Any, Any], at: int | None, tools: Any, into: Any, given: Mapping[str, Any]
    ) -> TurnRequest:
        """A turn, with everything checked that can be before it begins. `said` is text, images and audio."""
        params, options = _parted(given, where)
        text_or_none("model", params.get("model"))
        if params.get("model") is None:
            params = {name: value for name, value in params.items() if name != "model"}
            if self.model is not None:
                params["model"] = self.model
        if at is not None:
            self.history.turn_at(at)
        same = at is not None and all(one is None for one in said)
        user = None if same else TurnInput(*said, where)
        made: dict[str, Any] = {
            **self.options,
            **options,
            "into": into,
            "tools": self.tools if tools is None else tools,
        }
        return TurnRequest(user, {**self.params, **params}, TurnOptions(**made), at)

    async def begin(self, plan: TurnRequest) -> StartedTurn:
        """The turns before are over: see where the history stands, and read what the user says."""
        history = self.history
        keep = len(history) if plan.at is None else history.turn_at(plan.at)
        if plan.input is None:
            message = history.turns[keep].messages[0]
        else:
            message = await plan.input.message(self.calls, plan.params)
        session = SessionMiddleware(self.calls, self.room, self.spend, history.head, history.turns[:keep])
        return StartedTurn(self.calls.within(session), session, [*history.flat(keep), message], keep)

    async def finish(self, begun: StartedTurn, reply: Reply[Any]) -> None:
        """The turn is whole: it is part of the history, and in the file. Raises `SessionFileError` with the reply."""
        model: Any = reply.answer.model
        said = sendable([begun.messages[-1], *reply.messages])
        check_messages(said)
        finish = None if reply.finish_reason is None else mended(str(reply.finish_reason))
        turn = Turn(said, mended(model) if isinstance(model, str) else None, finish)
        self.last_partial = None
        gone = self.history.keep(begun.keep)
        self.room.forget(begun.keep)
        self.history.append(turn)
        try:
            self.write(turn_record(turn, begun.keep if gone else None))
            if self.journal is not None and self.journal.fsync:
                await in_thread_to_its_end(self.journal.sync)
        except OSError as error:
            cast("Any", error).partial = reply
            raise

    def failed(self, partial: Any) -> None:
        """A turn failed or was left: the history never saw it, but what it used is used."""
        self.last_partial = cast("Any", partial) if isinstance(partial, Reply) else None
        with contextlib.suppress(OSError):  # the turn's own error says more; the record is written with the next
            self.write()

    def refuse_busy(self, what: str) -> None:
        """`RuntimeError` while a turn is under way."""
        if self.order.busy:
            raise RuntimeError(f"{what} while a turn is under way: wait for its end, or cancel it")

    # ---------------------------------------------------------------- the file

    def save(self, path: str | os.PathLike[str], fsync: bool, replace: bool = True) -> None:
        """Write all to a file, and go on appending to it. Raises `SessionFileError`."""
        own = self.journal is not None and os.path.realpath(self.journal.path) == os.path.realpath(path)
        if self.journal is not None and own and self.journal.intact:
            self.journal.append()
            self.journal.fsync = fsync
        else:
            if self.journal is not None and own:
                self.journal.close()  # its file was changed by another program; what is there now is replaced
            journal = Journal.create(path, self._snapshot().records(), fsync=fsync, replace=replace or own)
            with contextlib.suppress(OSError):  # what the old file lacks is in the new one
                self.close()
            self.journal, self._written = journal, self._state()
        if fsync:
            self.journal.sync()

    def load(self, path: str | os.PathLike[str], append: bool, fsync: bool) -> None:
        """Go on with what a file holds. Raises `SessionFileError`."""
        journal: Journal | None = None
        if append:
            journal, saved = Journal.open(path, fsync=fsync)
        else:
            saved = read_session(path)
        with contextlib.suppress(OSError):  # as after `close`, what could not be written is not in the old file
            self.close()
        self.journal = journal
        self.history, self.model, self.params = saved.history, saved.model, saved.params
        self.room = self.room.emptied(saved.summary)
        self.spend.restore(saved.usage)
        self.missing_tools = [name for name in saved.tools if name not in self.tools.names]
        self.last_partial = None
        self._written = self._state()

    def close(self) -> None:
        """Stop appending. Raises `SessionFileError` if something could not be written until now. Idempotent."""
        journal, self.journal = self.journal, None
        if journal is not None:
            try:
                journal.append(whole=lambda: self._snapshot().records())
            finally:
                journal.close()

    def write(self, record: Record | None = None) -> None:
        """Append a record, with usage and summary where they have changed. Raises `SessionFileError`."""
        if self.journal is None:
            return
        made = dict(record or {})
        usage, summary = state = self._state()
        if self._written is None or usage != self._written[0]:
            made["usage"] = msgspec.to_builtins(usage)
        if summary is not None and (self._written is None or summary != self._written[1]):
            made |= summary_record(summary)
        self._written = state
        if made:
            self.journal.append(made, whole=lambda: self._snapshot().records())

    def settings(self) -> Record:
        """What holds for all turns, as it is saved. Raises `SessionFileError` for what JSON cannot hold."""
        kept = {k: v for k, v in self.params.items() if k not in OPTION_NAMES and not is_omitted(v)}
        try:
            params = msgspec.json.decode(encode_json(kept))
        except (TypeError, ValueError) as error:
            raise SessionFileError(f"a parameter of the session cannot be written as JSON: {error}") from error
        return {"head": list(self.history.head), "model": self.model, "params": params, "tools": self.tools.names}

    def _snapshot(self) -> Saved:
        saved = Saved()
        saved.apply({"set": self.settings()})
        for turn in self.history.turns:
            saved.history.append(turn)
        saved.usage, saved.summary = self.spend.total, self.room.summary
        return saved

    def _state(self) -> tuple[Any, Any]:
        return self.spend.total, self.room.summary


def _parted(given: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of the API, and options of the turn; `TypeError` for what is neither, saying where else to look."""
    from ..endpoints import CHAT_COMPLETIONS_CREATE

    accepted = CHAT_COMPLETIONS_CREATE.accepted
    for name in given:
        if name in ELSEWHERE:
            raise TypeError(f"{where} takes no {name}: {ELSEWHERE[name]}")
        if name not in accepted and name not in _OPTIONS:
            raise TypeError(
                f"{where} has no parameter {name!r}{nearest(name, accepted | _OPTIONS)} "
                "(what a provider adds goes through extra_body)"
            )
    options = {name: value for name, value in given.items() if name in _OPTIONS}
    return {name: value for name, value in given.items() if name not in _OPTIONS}, options


def text_or_none(name: str, value: Any) -> str | None:
    """`TypeError` for anything but a text or `None`."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is a text or None, not {type(value).__name__}")
    if value is not None and mended(value) != value:
        raise ValueError(f"{name} holds half of a UTF-16 pair (a lone surrogate), which cannot be sent")
    return value
