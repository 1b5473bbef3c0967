"""The state of a session: its contents, the order of turns, the changes that a turn makes, and its file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from ..core.codec.encode import encode_json
from ..core.model.omitted import is_omitted
from ..core.model.plain import mended
from ..core.policy.request_options import OPTION_NAMES
from ..engine.engine import Engine
from ..engine.in_flight import wake
from ..lazy import resolve_annotations
from ..storage.threads import in_thread_to_its_end
from .context_window import ContextWindow
from .history import History, Message, Turn, check_messages, sendable
from .messages import UserInput
from .middleware import SessionMiddleware
from .reply import Reply
from .session_file import Journal, Record, Saved, SessionFileError, read_session, summary_record, turn_record
from .tools import Toolbox
from .turn_options import TurnOptions, check_format, split_keywords
from .usage import UsageTracker

if TYPE_CHECKING:
    from .turn_params import SayParams

__all__ = ["SessionState", "StartedTurn", "Ticket", "TurnLock", "TurnRequest", "text_or_none"]

# The turns that the running code is part of. A tool must not wait for its own session: it would wait for ever.
_inside: ContextVar[tuple[weakref.ref[Ticket], ...]] = ContextVar("_inside", default=())


class Ticket:
    """The right to run a turn, or the wait for it. It ends with the last reference to it."""

    __slots__ = ("__weakref__", "future", "loop", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.future: asyncio.Future[None] | None = None
        self.task: weakref.ref[asyncio.Task[Any]] | None = None
        self.touch()

    def touch(self) -> None:
        """Make the running task the one that runs the turn."""
        task = asyncio.current_task()
        self.task = None if task is None else weakref.ref(task)

    @contextlib.contextmanager
    def inside(self) -> Generator[None, None, None]:
        """Mark the block, and the tasks that it starts, as part of the turn."""
        self.touch()
        token = _inside.set((*_inside.get(), weakref.ref(self)))
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # an abandoned coroutine is closed in any context
                _inside.reset(token)


class TurnLock:
    """Lets a session run one turn at a time, first come, first served.

    It holds a weak reference to the ticket: a turn whose stream was forgotten, or whose event loop was closed, does not
    block others.
    """

    def __init__(self) -> None:
        self._holder: weakref.ref[Ticket] | None = None
        self._waiting: deque[Ticket] = deque()

    @property
    def busy(self) -> bool:
        """Whether a turn is running."""
        return self._current() is not None

    def _current(self) -> Ticket | None:
        ticket = self._holder() if self._holder is not None else None
        return None if ticket is None or ticket.loop.is_closed() else ticket

    async def acquire(self) -> Ticket:
        """Wait until the turns before have ended, and return the ticket to `release`.

        Raises `RuntimeError` if the wait could never end because the caller itself is part of the running turn.
        """
        ticket = Ticket(asyncio.get_running_loop())
        current = self._current()
        if current is None and not self._waiting:
            self._hand(ticket)
            return ticket
        self._refuse_own(current)
        ticket.future = ticket.loop.create_future()
        self._waiting.append(ticket)
        if current is None:
            self._next()
        del current  # this wait must not keep it alive
        try:
            await ticket.future
        except BaseException:
            if self._current() is ticket:
                self.release(ticket)
            elif ticket in self._waiting:
                self._waiting.remove(ticket)
            raise
        ticket.touch()
        return ticket

    def release(self, ticket: Ticket) -> None:
        """End the turn and let the next one start. Idempotent."""
        if self._holder is not None and self._holder() is ticket:
            self._next()

    def _refuse_own(self, current: Ticket | None) -> None:
        if current is None:
            return
        if any(turn() is current for turn in _inside.get()):
            raise RuntimeError(
                "a tool called its own session while the session's turn waits for the tool: use session.fork()"
            )
        if current.task is not None and current.task() is asyncio.current_task():
            raise RuntimeError(
                "this task has a stream of the session open: read it to its end, or leave its block, first"
            )

    def _hand(self, ticket: Ticket) -> None:
        self._holder = weakref.ref(ticket, self._lost)

    def _lost(self, holder: weakref.ref[Ticket]) -> None:
        if self._holder is holder:
            self._next()

    def _next(self) -> None:
        self._holder = None
        while self._waiting:
            ticket = self._waiting.popleft()
            future = ticket.future
            if future is None or future.done() or ticket.loop.is_closed():
                continue
            with contextlib.suppress(RuntimeError):  # its loop has just been closed
                # Perhaps in another thread: garbage collection may free a forgotten stream in any thread.
                ticket.loop.call_soon_threadsafe(wake, future)
                self._hand(ticket)
                return


class TurnRequest(NamedTuple):
    """A turn that was requested."""

    user: UserInput | None  # `None`: the user's message at `at` stays unchanged
    params: dict[str, Any]
    options: TurnOptions
    at: int | None  # the index of the user's message that it replaces


class StartedTurn(NamedTuple):
    """A turn that has started."""

    engine: Engine
    session: SessionMiddleware  # around the requests of `engine`
    messages: list[Message]  # all up to the user's
    keep: int  # the number of turns before it


class SessionState:
    """The contents of a session, and the changes that its turns make."""

    def __init__(
        self, engine: Engine, tools: Toolbox, history: History, window: ContextWindow, usage: UsageTracker
    ) -> None:
        self.engine = engine
        self.tools = tools
        self.history: History = history
        self.window: ContextWindow = window
        self.usage = usage
        self.lock: TurnLock = TurnLock()
        self.model: str | None = None
        self.params: dict[str, Any] = {}
        self.options: dict[str, Any] = {}  # of all turns, by the names of `TurnOptions`
        self.journal: Journal | None = None
        self.last_partial: Reply[Any] | None = None
        self.missing_tools: list[str] = []
        self._written: tuple[Any, Any] | None = None  # usage and summary as last written to the file

    def configure(self, given: Mapping[str, Any], where: str, own: Iterable[str]) -> None:
        """Set the parameters and options of all turns. Raises `TypeError` and `ValueError`; see `split_keywords`."""
        params, options = split_keywords(where, given, own=own)
        self.model = text_or_none("model", params.pop("model", None))
        TurnOptions(**options)
        self.params, self.options = params, options

    def fork(self) -> SessionState:
        """Return a copy for an independent session."""
        other = SessionState(
            self.engine, Toolbox(self.tools), self.history.fork(), self.window.fork(), self.usage.fork()
        )
        other.model, other.params, other.options = self.model, dict(self.params), dict(self.options)
        other.last_partial, other.missing_tools = self.last_partial, list(self.missing_tools)
        return other

    # ---------------------------------------------------------------- a turn

    def request(self, where: str, text: Any, into: Any, given: SayParams) -> TurnRequest:
        """Check everything about a turn that can be checked before it starts. `where` is the method that was called."""
        rest: dict[str, Any] = {**given}
        said = (text, rest.pop("images", None), rest.pop("audio", None))
        at, tools = rest.pop("at", None), rest.pop("tools", None)
        params, options = split_keywords(where, rest, own=("images", "tools"))
        if text_or_none("model", params.get("model")) is None:
            params.pop("model", None)
            if self.model is not None:
                params["model"] = self.model
        if at is not None:
            self.history.turn_at(at)
        user = None if at is not None and all(one is None for one in said) else UserInput(*said, where)
        params = {**self.params, **params}
        check_format(where, params, into)
        made: dict[str, Any] = {
            **self.options,
            **options,
            "into": into,
            "tools": self.tools if tools is None else tools,
        }
        return TurnRequest(user, params, TurnOptions(**made), at)

    async def start(self, request: TurnRequest) -> StartedTurn:
        """Start a turn once those before it have ended: take the current history, and read the user's files."""
        history = self.history
        keep = len(history) if request.at is None else history.turn_at(request.at)
        if request.user is None:
            message = history.turns[keep].messages[0]
        else:
            message = await request.user.message(self.engine, request.params)
        session = SessionMiddleware(self.engine, self.window, self.usage, history.head, history.turns[:keep])
        return StartedTurn(self.engine.within(session), session, [*history.flat(keep), message], keep)

    async def finish(self, started: StartedTurn, reply: Reply[Any]) -> None:
        """Add a complete turn to the history and the file. Raises `SessionFileError` with the reply as `.partial`."""
        model: Any = reply.answer.model
        said = sendable([started.messages[-1], *reply.messages])
        check_messages(said)
        finish = None if reply.finish_reason is None else mended(str(reply.finish_reason))
        turn = Turn(said, mended(model) if isinstance(model, str) else None, finish)
        self.last_partial = None
        removed = self.history.keep(started.keep)
        self.window.forget(started.keep)
        self.history.append(turn)
        try:
            self.write(turn_record(turn, started.keep if removed else None))
            if self.journal is not None and self.journal.fsync:
                await in_thread_to_its_end(self.journal.sync)
        except OSError as error:
            cast("Any", error).partial = reply
            raise

    def fail(self, partial: Any) -> None:
        """Record a turn that failed or was left: the history does not change, the usage does."""
        self.last_partial = cast("Any", partial) if isinstance(partial, Reply) else None
        with contextlib.suppress(OSError):  # the turn's own error matters more; the next turn writes the record
            self.write()

    def refuse_busy(self, what: str) -> None:
        """Raise `RuntimeError` while a turn is running."""
        if self.lock.busy:
            raise RuntimeError(f"{what} while a turn is running: wait for its end, or cancel it")

    # ---------------------------------------------------------------- the file

    def save(self, path: str | os.PathLike[str], fsync: bool, replace: bool = True) -> None:
        """Write everything to a file, and append to it from now on. Raises `SessionFileError`."""
        own = self.journal is not None and os.path.realpath(self.journal.path) == os.path.realpath(path)
        if self.journal is not None and own and self.journal.intact:
            self.journal.append()
            self.journal.fsync = fsync
        else:
            if self.journal is not None and own:
                self.journal.close()  # another program changed the file; its present contents are replaced
            journal = Journal.create(path, self._records(), fsync=fsync, replace=replace or own)
            with contextlib.suppress(OSError):  # records that the old file lacks are in the new one
                self.close()
            self.journal, self._written = journal, (self.usage.total, self.window.summary)
        if fsync:
            self.journal.sync()

    def load(self, path: str | os.PathLike[str], append: bool, fsync: bool) -> None:
        """Replace the state with the contents of a file. Raises `SessionFileError`."""
        journal: Journal | None = None
        if append:
            journal, saved = Journal.open(path, fsync=fsync)
        else:
            saved = read_session(path)
        # as after `close`, records that could not be written are not in the old file
        with contextlib.suppress(OSError):
            self.close()
        self.journal = journal
        self.history, self.model, self.params = saved.history, saved.model, saved.params
        self.window = self.window.emptied(saved.summary)
        self.usage.restore(saved.usage)
        self.missing_tools = [name for name in saved.tools if name not in self.tools.names]
        self.last_partial = None
        self._written = self.usage.total, self.window.summary

    def close(self) -> None:
        """Stop appending. Raises `SessionFileError` if something still could not be written. Idempotent."""
        journal, self.journal = self.journal, None
        if journal is not None:
            try:
                journal.append(whole=self._records)
            finally:
                journal.close()

    def write(self, record: Record | None = None) -> None:
        """Append a record, with usage and summary if they have changed. Raises `SessionFileError`."""
        if self.journal is None:
            return
        made = dict(record or {})
        usage, summary = self.usage.total, self.window.summary
        if self._written is None or usage != self._written[0]:
            made["usage"] = msgspec.to_builtins(usage)
        if summary is not None and (self._written is None or summary != self._written[1]):
            made |= summary_record(summary)
        self._written = usage, summary
        if made:
            self.journal.append(made, whole=self._records)

    def settings(self) -> Record:
        """Return the settings of all turns for the file. Raises `SessionFileError` for values that are not JSON."""
        kept = {k: v for k, v in self.params.items() if k not in OPTION_NAMES and not is_omitted(v)}
        try:
            params = msgspec.json.decode(encode_json(kept))
        except (TypeError, ValueError) as error:
            raise SessionFileError(f"a parameter of the session cannot be written as JSON: {error}") from error
        return {"head": list(self.history.head), "model": self.model, "params": params, "tools": self.tools.names}

    def _records(self) -> list[Record]:
        """Return the records of a new file."""
        saved = Saved()
        saved.apply({"set": self.settings()})
        for turn in self.history.turns:
            saved.history.append(turn)
        saved.usage, saved.summary = self.usage.total, self.window.summary
        return saved.records()


def text_or_none(name: str, value: Any) -> str | None:
    """Return `value` if it is a text that can be sent, or `None`. Raises `TypeError` and `ValueError`."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
    if value is not None and mended(value) != value:
        raise ValueError(f"{name} contains half of a UTF-16 pair (a lone surrogate), which cannot be sent")
    return value


resolve_annotations(__name__)
