"""Run a tool in a thread or a task, and convert its result for the model.

A thread cannot be stopped, and a task may ignore its cancellation. One that does not end is left behind: the turn
continues without it, and the number of hanging threads is bounded. The text for the model never contains a traceback or
a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

import msgspec

from ..core.model.base import BaseModel
from ..core.model.plain import mended
from ..engine.in_flight import wake
from ..engine.log import logger
from ..storage.threads import run_in_thread
from .history import plain_json
from .reply import ToolError

__all__ = [
    "THREADS",
    "ContentParts",
    "ToolThread",
    "ToolThreads",
    "content_of",
    "describe_error",
    "end_task",
    "in_task",
]

T = TypeVar("T")

MAX_ERROR = 200  # characters of an exception's text that are sent to the model
MAX_TOOL_ERROR = 2_000  # characters of the text of a `ToolError`, which was written for the model
MAX_READ = 4_000  # characters of an exception's text that are read
MAX_RESULT = 16 << 20  # bytes of a result as JSON
MAX_ITEMS = 1_000_000  # items of all iterables in a result
_SMALL = 1_000  # values that are encoded in the event loop
MOST = 32  # threads of tools in a process
PATIENCE = 5.0  # seconds that a call waits while no thread ends
GRACE = 2.0  # seconds that a cancelled tool may take to end


# ---------------------------------------------------------------- results


class ContentParts(list[dict[str, Any]]):
    """Content parts as the result of a tool, sent unchanged: ``ContentParts([{"type": "text", "text": "..."}, ...])``.

    OpenAI's own API accepts only parts of type ``text`` in a tool's message; some servers accept ``image_url``, too.
    """


def content_of(value: Any, *, silent: bool = False) -> str | list[dict[str, Any]]:
    """Return the content of a tool message for a result: a str or `ContentParts` unchanged, other values as JSON.

    `None` becomes ``null``, or ``ok`` if the tool is `silent`, that is, declared to return nothing. Half of a UTF-16
    pair becomes U+FFFD. Raises `TypeError` or `ValueError` for values without a JSON form, and for more than 16 MiB.
    """
    if isinstance(value, str):
        _check_size(len(value))
        return mended(value)
    if value is None and silent:
        return "ok"
    text = _json(value)
    if isinstance(value, ContentParts):
        parts: list[dict[str, Any]] = msgspec.json.decode(text)
        return parts
    return text.decode()


def _json(value: Any) -> bytes:
    if isinstance(value, BaseModel):
        value = value.to_dict(mode="json")
    try:
        try:
            text = msgspec.json.encode(value, enc_hook=_ForeignValues())
        except UnicodeEncodeError:
            text = msgspec.json.encode(plain_json(msgspec.to_builtins(value, enc_hook=_ForeignValues())))
    except RecursionError:
        raise ValueError("the result contains itself, or is nested too deeply for JSON") from None
    _check_size(len(text))
    return text


def _check_size(size: int) -> None:
    if size > MAX_RESULT:
        raise ValueError(f"the result is larger than {MAX_RESULT >> 20} MiB; return less of it")


class _ForeignValues:
    """Converts values that msgspec does not know to plain ones: pydantic models, numpy arrays, paths, iterables."""

    def __init__(self) -> None:
        self._items = 0

    def __call__(self, value: Any) -> Any:
        kind: Any = value.__class__
        for name, arguments in (("model_dump", {"mode": "json", "by_alias": True}), ("tolist", {})):
            dump = getattr(value, name, None)
            if callable(dump) and kind is not type:
                return dump(**arguments)
        if isinstance(value, Mapping):
            return dict(self._counted(cast("Any", value).items()))
        if isinstance(value, os.PathLike):
            return os.fspath(cast("os.PathLike[str]", value))
        if isinstance(value, Iterable):
            return list(self._counted(cast("Iterable[object]", value)))
        raise TypeError(f"a result of type {kind.__name__} has no JSON form; return a text, a dict or a dataclass")

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        # Counted over the whole result: an iterable may contain itself, or never end.
        for item in items:
            self._items += 1
            if self._items > MAX_ITEMS:
                raise ValueError(f"the result has more than {MAX_ITEMS:,} items; return less of it")
            yield item


def is_small(value: Any) -> bool:
    """Return whether a value is plain and takes so little time to encode that no thread is needed."""
    if isinstance(value, str):
        return len(value) < MAX_RESULT
    todo: list[Any] = [value]
    count = 0
    for one in todo:  # grows during the loop
        if isinstance(one, (dict, list, tuple)):
            items: Any = cast("Any", one)
            count += len(items)
            if count > _SMALL:
                return False
            todo += items.values() if isinstance(one, dict) else items
        elif not isinstance(one, (str, bytes, int, float, type(None))):
            return False
    return True


class _Collected:
    """The items of a generator, limited to the size of a result."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._size = 0

    def add(self, item: Any) -> None:
        try:
            self._size += _size_of(item)
            _check_size(self._size)
        except ValueError as error:
            raise ToolError(f"The result cannot be sent to the model: {error}") from error
        self.items.append(item)


def _size_of(item: Any) -> int:
    if isinstance(item, (str, bytes)):
        return len(item) + 3
    try:
        return 8 if isinstance(item, (int, float, type(None))) else len(_json(item))
    except TypeError:  # the whole result is refused because of it
        return 8


def collected(items: Iterator[Any], is_left: Callable[[], bool]) -> list[Any]:
    """Return the items of a tool's generator; stop early once the call has been abandoned (`is_left`).

    Raises the exceptions of the generator, and `ToolError` above the maximum size of a result.
    """
    found = _Collected()
    for item in items:
        if is_left():
            break
        found.add(item)
    return found.items


async def collected_later(items: AsyncIterator[Any]) -> list[Any]:
    """Return the items of an asynchronous generator, letting other tasks run even if the generator never waits."""
    found = _Collected()
    try:
        async for item in items:
            found.add(item)
            if len(found.items) % 64 == 0:
                await asyncio.sleep(0)
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
    return found.items


def describe_error(error: BaseException, scrub: Callable[[bytes], bytes], *, whole: bool = False) -> str:
    """Describe an exception to the model: its class and the beginning of its text, on one line.

    The client's keys (`scrub`) and anything that looks like a credential are removed. The text of a `ToolError` was
    written for the model: it stands alone, and may be longer. With `whole`, only the client's keys are removed.
    """
    text = " ".join(_text_of(error)[:MAX_READ].split())
    text = scrub(text.encode("utf-8", "replace")).decode("utf-8", "replace")
    written = isinstance(error, ToolError)
    if not whole:
        from ..core.model.credentials import without_credentials

        text = without_credentials(text)
        most = MAX_TOOL_ERROR if written else MAX_ERROR
        text = text if len(text) <= most else f"{text[:most]}…"
    if written:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as failure:  # an error in the exception's `__str__` must not end the turn
        return f"(its text cannot be read: {type(failure).__name__})"


# ---------------------------------------------------------------- threads


class ToolThread:
    """The right to run one thread, and the thread's state."""

    def __init__(self, threads: ToolThreads) -> None:
        self._threads = threads
        self.started: bool = False
        self.ended = False
        self.left = False  # its call has been abandoned

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function in the thread and return its result. Raises its exceptions."""
        self.started = True
        try:
            value, error = await run_in_thread(function, "openaiasync: runs a tool", self._end)
        except RuntimeError:  # the system cannot start another thread
            self._end()
            raise
        if error is not None:
            raise error
        return cast("T", value)

    def _end(self) -> None:
        self._threads.end(self)

    def leave(self) -> None:
        """Stop waiting for the thread: give it back if it never started, and count it as hanging if it still runs."""
        if self.started:
            self._threads.leave(self)
        else:
            self._end()


class ToolThreads:
    """Bounds the threads of tools in a process, for all its event loops."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.reset()

    def reset(self) -> None:
        """Forget all threads. A child process has none of its parent's."""
        self._lock = threading.Lock()
        self._running = 0
        self._left = 0  # running threads whose calls have been abandoned
        self._ends = 0  # the number of threads that have ended, which shows progress
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def take(self, name: str) -> ToolThread:
        """Return a thread for the tool of this name, first come, first served; wait for one while others end.

        Raises `ToolError` if all threads hang, or if none ends for `PATIENCE` seconds.
        """
        woken = False
        while True:
            loop = asyncio.get_running_loop()
            entry = (loop, loop.create_future())
            with self._lock:
                if self._running < self._most and (woken or not self._waiting):
                    self._running += 1
                    return ToolThread(self)
                if self._left >= self._most:
                    raise self._refusal(name)
                ends = self._ends
                self._waiting.insert(0 if woken else len(self._waiting), entry)
            try:
                await asyncio.wait({entry[1]}, timeout=PATIENCE)
            except asyncio.CancelledError:
                self._forget(entry)
                if entry[1].done():
                    self._wake()  # the next one, in its place
                raise
            if not entry[1].done():
                self._forget(entry)
                if self._ends == ends:
                    raise self._refusal(name)
            woken = True

    def _refusal(self, name: str) -> ToolError:
        return ToolError(
            f"The tool {name} was not called: {self._most} tool calls are running and do not end. Try again later."
        )

    def _forget(self, entry: Any) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._waiting.remove(entry)

    def _wake(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                loop, waiter = self._waiting.popleft()
            with contextlib.suppress(RuntimeError):  # its loop is closed: try the next one
                loop.call_soon_threadsafe(wake, waiter)
                return

    def leave(self, thread: ToolThread) -> None:
        """Count a thread that still runs as hanging."""
        with self._lock:
            if not thread.ended and not thread.left:
                thread.left = True
                self._left += 1

    def end(self, thread: ToolThread) -> None:
        """Count a thread as ended. Idempotent."""
        with self._lock:
            if thread.ended:
                return
            thread.ended = True
            self._running -= 1
            self._left -= thread.left
            self._ends += 1
        self._wake()


THREADS = ToolThreads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=THREADS.reset)


# ---------------------------------------------------------------- tasks

_left_behind: set[asyncio.Task[Any]] = set()


async def in_task(work: Coroutine[Any, Any, T], seconds: float | None, name: str) -> T:
    """Run a tool's coroutine in a separate task, cancelled after `seconds`, and return its result.

    A coroutine that cancels its own task does not affect the caller. Raises the coroutine's exceptions, and `ToolError`
    after `seconds`, for a cancellation from inside, and for exceptions that would end the event loop.
    """
    task = asyncio.create_task(_outcome(work), name=f"tool {name}")
    task.add_done_callback(lambda _: work.close())  # a task cancelled before its start never awaited it
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await end_task(task, name)
        raise
    if not task.done():
        await end_task(task, name)
        raise ToolError(f"The tool {name} took longer than {seconds:g} s.")
    if task.cancelled():
        raise ToolError(f"the tool {name} was cancelled from inside")
    ended = task.exception()
    if ended is not None:  # a GeneratorExit of the tool
        raise as_failure(ended)
    value, error = task.result()
    if error is not None:
        raise error
    return cast("T", value)


async def _outcome(work: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    # As a value, because a task that raises SystemExit or KeyboardInterrupt raises it out of the event loop.
    try:
        return await work, None
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except Exception as error:  # a tool may raise anything
        return None, error
    except BaseException as error:
        return None, as_failure(error)


def as_failure(error: BaseException) -> Exception:
    """Return an ordinary exception for one that would end the program."""
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        failure = RuntimeError("the tool wanted to end the program")
    else:
        failure = RuntimeError(f"the tool raised {type(error).__name__}")
    failure.__cause__ = error
    return failure


async def end_task(task: asyncio.Task[Any], name: str) -> None:
    """Cancel a task and wait `GRACE` seconds for its end. One that ignores it is left behind with a warning."""
    task.cancel()
    if not task.done():
        await asyncio.wait({task}, timeout=GRACE)
    if not task.done():
        leave_behind(task, f"the tool {name}")
    elif not task.cancelled():
        task.exception()  # retrieve the exception, or asyncio logs it as never retrieved


def leave_behind(task: asyncio.Task[Any], what: str) -> None:
    """Continue without a task that ignores its cancellation, but keep a reference until it ends."""
    _left_behind.add(task)
    task.add_done_callback(_left_behind.discard)
    logger.warning("%s ignores its cancellation and was left behind", what)
