"""The handlers of the server kit: finding the one for a model, and calling functions of any kind."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, cast
from weakref import WeakKeyDictionary

from ..lazy import resolve_annotations
from ..storage.threads import run_in_thread
from .errors import HTTPError

if TYPE_CHECKING:
    from .context import RequestContext
    from .requests import ServedRequest

__all__ = [
    "KINDS",
    "Handler",
    "HandlerItems",
    "HandlerRegistry",
    "RegisteredHandler",
    "for_each_result",
    "merged",
    "open_handler",
    "run_together",
    "whole_result",
]

Handler: TypeAlias = Callable[[Any], Any]
"""An async function or generator, or a plain one, which runs in a thread; it takes a typed request."""

KINDS: Final = {
    "chat": "chat completions",
    "completion": "text completions",
    "embedding": "embeddings",
    "image": "images",
    "moderation": "moderation",
    "response": "responses",
    "speech": "speech",
    "transcription": "transcriptions",
    "translation": "translations",
}
"""The kinds of handlers, each with the name of its use in error messages."""
_MAX_WHOLE: Final = 256 * 1024 * 1024  # characters or bytes of an answer that is collected
_ITEM: Final = 16  # what an item counts besides its length: empty ones need memory, too
_MAX_THREADS: Final = 64
_THREAD: Final = "openaiasync: handlers"  # the name of a thread while it runs a handler
_END: Final = object()  # after the last item of a plain generator
_threads: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


class RegisteredHandler:
    """A handler, and what kind of function it is."""

    __slots__ = ("function", "is_coroutine", "is_generator", "is_lazy", "kind", "name")

    def __init__(self, kind: str, function: Handler) -> None:
        self.kind: str = kind
        called: Any = type(function).__call__
        self.function: Handler = function
        self.name: str = getattr(function, "__qualname__", None) or type(function).__qualname__
        self.is_generator: bool = inspect.isasyncgenfunction(function)
        """Whether calling it gives an async generator."""
        self.is_coroutine: bool = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
        self.is_lazy: bool = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(called)
        """Whether calling it runs nothing yet, so that no thread is needed."""


class HandlerRegistry:
    """Finds the handler for a kind of request and a model's name. A handler without a name serves any model."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, RegisteredHandler]] = {kind: {} for kind in KINDS}
        self._any: dict[str, RegisteredHandler] = {}
        self._names: dict[str, None] = {}

    def add(self, kind: str, names: Iterable[str], handler: Handler) -> None:
        """Register a handler. Raises `ValueError` if the model already has one of this kind."""
        names = list(names)
        registered = RegisteredHandler(kind, handler)
        if not names and kind in self._any:
            raise ValueError(f"there is already a handler of {KINDS[kind]} for any model")
        for name in names:
            if name in self._found[kind]:
                raise ValueError(f"the model {name!r} already has a handler of {KINDS[kind]}")
            self._found[kind][name] = registered
            self._names[name] = None
        if not names:
            self._any[kind] = registered

    def names(self) -> list[str]:
        """Return the names of all models in the order they were registered."""
        return list(self._names)

    def _is_other(self, kind: str, name: str) -> bool:
        """Whether the model has handlers, but none of this kind."""
        return name in self._names and name not in self._found[kind]

    def find(self, kind: str, name: str, other: str = "") -> RegisteredHandler:
        """Return the handler of this kind for a model, or else the one of the kind `other`.

        For ``""`` it is the first one of the kind. Raises `HTTPError` (404) for an unknown model or one without either.
        """
        kinds = (kind, other) if other else (kind,)
        for one in kinds:
            handler = self._found[one].get(name)
            if handler is None and not self._is_other(one, name):
                handler = self._any.get(one)
            if handler is None and not name:
                handler = next(iter(self._found[one].values()), None)
            if handler is not None:
                return handler
        if name in self._names:
            message = f"The model {name!r} does not support {KINDS[kind]}."
            raise HTTPError(404, message, param="model", code="model_not_supported")
        none = f"no model of this server supports {KINDS[kind]}."
        if not name:
            raise HTTPError(404, none.capitalize(), param="model", code="model_not_supported")
        known = any(self._found[one] or one in self._any for one in kinds)
        message = f"The model {name!r} does not exist{'.' if known else f', and {none}'}"
        raise HTTPError(404, message, param="model", code="model_not_found")


class HandlerItems:
    """What a handler returns or yields, as an async iterator: everything that an operation takes of a handler.

    A handler that never waits, whatever it yields, lets other requests run every 10 ms, in which its timeouts
    apply and its client may leave; so does one that catches its cancellation and goes on. With `whole` the items are
    collected for one answer: more than 256 MiB of them raise `OverflowError`, since a handler without an end would
    take all memory.
    """

    __slots__ = ("_context", "_left", "_next", "unpaced")

    def __init__(self, items: AsyncGenerator[Any], context: RequestContext, *, whole: bool) -> None:
        self.unpaced: AsyncGenerator[Any] = items
        """The same items for a caller that itself calls `let_others_run`, even for items without effect."""
        self._next = items.__anext__
        self._context = context
        self._left = _MAX_WHOLE if whole else None

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Any]:
        # No coroutine is made around the handler's own, except where one is needed.
        if self._left is None and time.monotonic() < self._context.turn:
            return self._next()
        return self._carefully()

    async def _carefully(self) -> Any:
        await self._context.let_others_run()
        item = await self._next()
        if self._left is not None:
            self._left -= _ITEM + len(item) if isinstance(item, str | bytes) else _ITEM
            if self._left < 0:
                limit = f"{_MAX_WHOLE} bytes"
                raise OverflowError(f"the handler yielded more than {limit} for one answer: does it ever end?")
        return item

    async def aclose(self) -> None:
        """Close the handler's generator."""
        await self.unpaced.aclose()


def open_handler(handler: RegisteredHandler, request: ServedRequest, *, whole: bool = False) -> HandlerItems:
    """Call a handler and return its results, one item if it returns just one.

    Plain functions and generators run in a thread, so that they may block. Iterating raises what the handler raises,
    and `TypeError` if it returns `None`, as a function does that lacks a ``return``. `whole`: see `HandlerItems`.
    """
    items = handler.function(request) if handler.is_generator else _results(handler, request)
    return HandlerItems(cast("AsyncGenerator[Any]", items), request.context, whole=whole)


async def for_each_result(handler: RegisteredHandler, request: ServedRequest, take: Callable[[Any], bool]) -> None:
    """Hand the results of a handler, for one whole answer, to `take` one by one, until it returns true."""
    if handler.is_coroutine:
        result = await handler.function(request)
        if type(result) is str or not isinstance(result, AsyncIterable | Generator):
            take(_returned(handler, result))
            return
        results = HandlerItems(_items_of(result), request.context, whole=True)
    else:
        results = open_handler(handler, request, whole=True)
    async with aclosing(results):
        async for item in results:
            if take(item):
                return


async def _results(handler: RegisteredHandler, request: ServedRequest) -> AsyncGenerator[Any]:
    if handler.is_coroutine:
        result = await handler.function(request)
    elif handler.is_lazy:
        result = handler.function(request)
    else:
        result = await _in_thread(partial(handler.function, request))
        if inspect.isawaitable(result):
            result = await result
    if not isinstance(result, AsyncIterable | Generator):
        yield _returned(handler, result)
        return
    async with aclosing(_items_of(result)) as items:
        async for item in items:
            yield item


def _returned(handler: RegisteredHandler, result: Any) -> Any:
    if result is None:
        raise TypeError(f"the handler {handler.name} returned None: return an answer, or yield its pieces")
    return result


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Run a function in a daemon thread, or once one of its event loop's `_MAX_THREADS` is free.

    A cancelled caller leaves at once, but the thread counts until the function has ended.
    """
    loop = asyncio.get_running_loop()
    free = _threads.get(loop)
    if free is None:
        free = _threads[loop] = asyncio.Semaphore(_MAX_THREADS)
    await free.acquire()

    def ended() -> None:
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(free.release)

    try:
        result, error = await run_in_thread(function, _THREAD, ended)
    except RuntimeError:  # the system cannot start another thread
        free.release()
        raise
    # A coroutine cannot raise StopIteration (PEP 479). KeyboardInterrupt would end the event loop; in a thread it
    # is not the user's Ctrl-C.
    if isinstance(error, StopIteration | KeyboardInterrupt):
        raise RuntimeError(f"the handler raised {type(error).__name__}") from error
    if error is not None:
        raise error
    return result


def _items_of(result: Any) -> AsyncGenerator[Any]:
    """Return the items of any kind of generator, or of any other async iterable, as an async generator."""
    if isinstance(result, AsyncGenerator):
        return cast("AsyncGenerator[Any]", result)
    if isinstance(result, Generator):
        return _threaded(cast("Generator[Any]", result))
    return _iterated(cast("AsyncIterable[Any]", result))


async def _iterated(items: AsyncIterable[Any]) -> AsyncGenerator[Any]:
    async for item in items:
        yield item


async def _threaded(items: Generator[Any]) -> AsyncGenerator[Any]:
    """Run a plain generator in threads, one step at a time."""
    step = partial(next, items, _END)
    try:
        while (item := await _in_thread(step)) is not _END:
            yield item
    finally:
        # cancelled in the middle of a step: the generator is still running and ends with that step
        with suppress(ValueError):
            items.close()


async def whole_result(handler: RegisteredHandler, request: ServedRequest) -> Any:
    """Return the result of a handler, or the last item if it yields."""
    result: Any = None

    def take(item: Any) -> bool:
        nonlocal result
        result = item
        return False

    await for_each_result(handler, request, take)
    return result


async def _outcome(work: Coroutine[Any, Any, None]) -> BaseException | None:
    """Run a coroutine as the whole of a task and return what it raised; its cancellation from outside is raised.

    No task may raise `SystemExit`, which would end the event loop, and one that raised a `CancelledError` of the
    handler would look cancelled.
    """
    try:
        await work
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        return error
    return None


async def run_together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines in a task each. The first failure of any type ends the others and is raised."""

    # Not a TaskGroup: that of Python 3.11 leaves its task with a pending cancellation.
    tasks: list[asyncio.Task[BaseException | None]] = []
    try:
        for work in works:
            tasks.append(asyncio.create_task(_outcome(work)))
            await asyncio.sleep(0)  # else a hundred handlers that do not wait would all run in one step of the loop
        for ended in asyncio.as_completed(tasks):
            failure = await ended
            if failure is not None:
                raise failure
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def merged(sources: Iterable[AsyncGenerator[bytes]]) -> AsyncGenerator[bytes]:
    """Yield the items of several generators, which take turns; each runs in a task.

    A failure of any type ends all of them and is raised.
    """
    ready = asyncio.Event()
    closing = False

    async def fill(source: AsyncGenerator[bytes], queue: asyncio.Queue[bytes]) -> None:
        async with aclosing(source):
            async for item in source:
                if closing:  # the handler has caught its cancellation
                    return
                await queue.put(item)
                ready.set()

    running: dict[asyncio.Task[BaseException | None], asyncio.Queue[bytes]] = {}
    tasks: list[asyncio.Task[BaseException | None]] = []
    try:
        for source in sources:
            queue = asyncio.Queue[bytes](maxsize=1)
            task = asyncio.create_task(_outcome(fill(source, queue)))
            task.add_done_callback(lambda _: ready.set())
            tasks.append(task)
            running[task] = queue
            await asyncio.sleep(0)  # as in `run_together`
        while running:
            ready.clear()
            for task, queue in list(running.items()):
                if not queue.empty():
                    ready.set()
                    yield queue.get_nowait()
                elif task.done():
                    del running[task]
                    failure = task.result()
                    if failure is not None:
                        raise failure
            if running:
                await ready.wait()
    finally:
        closing = True
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


resolve_annotations(__name__)
