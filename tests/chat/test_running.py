"""Tools that hang, end in odd ways, or return too much: the turn goes on, and so does the rest of the program."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from conftest import run
from openaiasync import Client, ToolError, ToolResult, tool
from openaiasync.chat import tool_execution
from openaiasync.chat.tool_execution import MOST, ToolThreads
from scripted import scripted

from .test_toolrun import calls, start
from .test_toolrun import results as results_of


class Hung:
    """A function that hangs until the test is over."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.here = threading.Semaphore(0)

    def __call__(self) -> str:
        """Hang."""
        self.here.release()
        self.gate.wait(60)
        return "late"


@contextmanager
def hung() -> Iterator[Hung]:
    made = Hung()
    try:
        yield made
    finally:
        made.gate.set()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> ToolThreads:
    """Threads of this test alone."""
    made = ToolThreads()
    monkeypatch.setattr(tool_execution, "THREADS", made)
    monkeypatch.setattr("openaiasync.chat.tools.THREADS", made)
    return made


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")


def test_hung_tools_leave_everything_else_alone(threads: ToolThreads) -> None:
    """Names are resolved, files are read, calls are made while thirty tools hang."""

    async def main() -> None:
        with hung() as hang:
            one = tool(hang, name="hang", timeout=0.05)
            got = await asyncio.wait_for(start(calls(*["hang"] * 30), one).all(), 30)
            assert {str(each.content) for each in got} == {"Error: The tool hang took longer than 0.05 s."}
            loop = asyncio.get_running_loop()
            await asyncio.wait_for(loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM), 20)
            assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 20) == 1
            async with scripted() as server, Client(api_base=server.url, api_key="k", model="m") as client:
                assert (await asyncio.wait_for(client.chat("hi"), 20)).text == "Hello."

    run(main())


def test_the_number_of_hung_threads_is_bounded(threads: ToolThreads) -> None:
    """Then a call is a failure of its own, told to the model; and goes well again once threads have ended."""

    async def main() -> None:
        with hung() as hang:
            one = tool(hang, name="hang", timeout=0.05)
            await start(calls(*["hang"] * MOST), one).all()
            (refused,) = await start(calls("fine"), tool(lambda: 1, name="fine")).all()
            assert str(refused.content).startswith("Error: The tool fine was not called: 32 tool calls")
            assert isinstance(refused.error, ToolError)
            with pytest.raises(ToolError, match="not called"):
                await tool(lambda: 1, name="fine").call("{}")

            async def needs_none() -> int:
                return 2

            assert (await start(calls("needs_none"), needs_none).all())[0].content == "2"
        await until(lambda: not threads._running)
        assert await tool(lambda: 1, name="fine").call("{}") == "1"

    run(main())


def test_a_thread_is_not_waited_for_without_end(threads: ToolThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody has given up the calls that hang."""
    monkeypatch.setattr(tool_execution, "PATIENCE", 0.1)

    async def main() -> None:
        with hung() as hang:
            going = start(calls(*["hang"] * MOST), tool(hang, name="hang"))
            await until(lambda: threads._running == MOST)
            with pytest.raises(ToolError, match="not called"):
                await asyncio.wait_for(tool(lambda: 1, name="fine").call("{}"), 20)
            await going.close()

    run(main())


def test_more_calls_than_threads_take_turns(threads: ToolThreads) -> None:
    """All of them run; those that are cancelled while they wait leave their place to the next."""
    most = 0
    lock = threading.Lock()
    now: set[int] = set()

    def work(x: int) -> int:
        nonlocal most
        with lock:
            now.add(x)
            most = max(most, len(now))
        threading.Event().wait(0.002)
        with lock:
            now.discard(x)
        return x

    async def main() -> None:
        one = tool(work)
        going = [asyncio.create_task(one.run(f'{{"x":{x}}}')) for x in range(200)]
        await asyncio.sleep(0)
        for task in going[100:150]:
            task.cancel()
        got = await asyncio.wait_for(asyncio.gather(*going, return_exceptions=True), 60)
        kept = [*range(100), *range(150, 200)]
        assert [got[x] for x in kept] == kept
        assert all(isinstance(one, asyncio.CancelledError) for one in got[100:150])
        await until(lambda: not threads._running)
        assert not threads._waiting
        assert most <= MOST

    run(main())


# ---------------------------------------------------------------- ways to end


def ends(error: BaseException) -> Any:
    def f() -> None:
        raise error

    async def g() -> None:
        await asyncio.sleep(0)
        raise error

    return tool(f, name="f"), tool(g, name="g")


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Odd(Exception):
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("error", "content"),
    [
        (SystemExit(3), "Error: RuntimeError: the tool wanted to end the program"),
        (KeyboardInterrupt(), "Error: RuntimeError: the tool wanted to end the program"),
        (BaseExceptionGroup("x", [SystemExit()]), "Error: RuntimeError: the tool raised BaseExceptionGroup"),
        (asyncio.CancelledError(), "was cancelled from inside"),
        (GeneratorExit(), "Error: RuntimeError: the tool raised GeneratorExit"),
        (Silent(), "Error: Silent: (its text cannot be read: ValueError)"),
        (Odd(), "Error: Odd: (its text cannot be read: TypeError)"),
    ],
)
def test_tools_that_end_in_odd_ways(error: BaseException, content: str) -> None:
    """Each is a failure of this call, sync and async; no other call is disturbed."""
    for one in ends(error):
        failed, other = results_of(calls(one.name, "fine"), one, tool(lambda: 1, name="fine"))
        assert content in str(failed.content)
        assert isinstance(failed.error, Exception)
        assert other.content == "1"


def test_a_tool_that_cancels_its_own_task() -> None:
    """It ends itself, not the turn."""

    async def quits() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    failed, other = results_of(calls("quits", "fine"), quits, tool(lambda: 1, name="fine"))
    assert failed.content == "Error: the tool quits was cancelled from inside"
    assert other.content == "1"


class Leaving(msgspec.Struct):
    x: int

    def __post_init__(self) -> None:
        raise SystemExit(3)


def test_arguments_that_want_to_end_the_program() -> None:
    """Code of a parameter's type is the tool's as well."""

    def f(a: Leaving) -> None: ...

    (got,) = results_of(calls('f {"a":{"x":1}}'), f)
    assert got.content == "Error: RuntimeError: the tool wanted to end the program"


def test_a_child_process_begins_without_threads(threads: ToolThreads) -> None:
    """Those that run in its parent do not count."""

    async def main() -> None:
        with hung() as hang:
            with pytest.raises(ToolError, match="took longer"):
                await tool(hang, name="hang", timeout=0.05).run("{}")
            assert threads._running == 1
            threads.reset()
            assert threads._running == 0

    run(main())


def test_a_hook_that_cancels_its_own_task() -> None:
    """It is a failure that says so, and not a cancellation of the caller."""

    async def permit(call: Any) -> bool:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)
        return True

    with pytest.raises(ToolError, match="was cancelled by a hook"):
        results_of(calls("fine"), tool(lambda: 1, name="fine"), permit=permit)


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_tool_that_ignores_its_cancellation(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left behind with a warning: neither its time nor its caller's is exceeded for long."""
    monkeypatch.setattr(tool_execution, "GRACE", 0.05)
    monkeypatch.setattr("openaiasync.chat.tools.GRACE", 0.05)

    async def main() -> None:
        over = asyncio.Event()

        async def stubborn() -> None:
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    continue

        one = tool(stubborn, timeout=0.05 if how == "timeout" else None)
        going = asyncio.create_task(start(calls("stubborn"), one).all())
        if how == "timeout":
            (got,) = await asyncio.wait_for(going, 20)
            assert got.content == "Error: The tool stubborn took longer than 0.05 s."
        else:
            await asyncio.sleep(0.02)
            going.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(going, 20)
        assert "the tool stubborn ignores its cancellation" in caplog.text
        over.set()
        await until(lambda: not tool_execution._left_behind)

    run(main())


@pytest.mark.filterwarnings("error")
def test_a_call_that_is_cancelled_before_it_begins() -> None:
    """Nothing is left that was never awaited."""

    async def f() -> None:
        raise AssertionError

    async def main() -> None:
        going = start(calls("f", "f"), f)
        await going.close()
        task = asyncio.create_task(tool(f).run("{}"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    gc.collect()


# ---------------------------------------------------------------- results


def test_a_generator_is_gathered_in_the_tools_thread() -> None:
    """Its code may block: the event loop goes on meanwhile."""
    where: list[bool] = []

    def count(n: int) -> Iterator[int]:
        for x in range(n):
            where.append(threading.current_thread() is threading.main_thread())
            yield x

    (got,) = results_of(calls('count {"n":3}'), count)
    assert (got.value, got.content) == ([0, 1, 2], "[0,1,2]")
    assert where == [False] * 3


def test_an_asynchronous_generator_is_gathered() -> None:
    """And closed, whatever became of it."""
    closed: list[bool] = []

    async def count(n: int) -> AsyncIterator[int]:
        try:
            for x in range(n):
                yield x
        finally:
            closed.append(True)

    (got,) = results_of(calls('count {"n":3}'), count)
    assert (got.value, got.content, closed) == ([0, 1, 2], "[0,1,2]", [True])


@pytest.mark.parametrize("kind", ["plain", "async", "plain in async"])
def test_an_endless_generator_ends_with_its_time(kind: str, threads: ToolThreads) -> None:
    """It stops making items then, in a thread as in the event loop, and none of them are kept."""
    made = 0

    def endless() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield 1

    async def endless_later() -> AsyncIterator[int]:
        for one in endless():
            yield one

    async def inside() -> Iterator[int]:
        return endless()

    function: Any = {"plain": endless, "async": endless_later, "plain in async": inside}[kind]

    async def main() -> None:
        (got,) = await start(calls("endless"), tool(function, name="endless", timeout=0.05)).all()
        assert got.content == "Error: The tool endless took longer than 0.05 s."
        assert got.value is None
        await until(lambda: not threads._running)
        before = made
        await asyncio.sleep(0.02)
        assert made == before

    run(main(), real_clock=True)  # it computes without a pause


@pytest.mark.parametrize("kind", ["plain", "async", "nested", "texts"])
def test_results_are_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any time limit, too: more than 16 MiB or a million items are refused, and not kept."""
    monkeypatch.setattr(tool_execution, "MAX_RESULT", 10_000)
    monkeypatch.setattr(tool_execution, "MAX_ITEMS", 10_000)

    class Endless:
        def __iter__(self) -> Any:
            return itertools.count()

    def plain() -> Any:
        return itertools.repeat("x")

    async def later() -> AsyncIterator[str]:
        while True:
            yield "x"

    def nested() -> Any:
        return {"a": [Endless()]}

    def texts() -> str:
        return "x" * 20_000

    function: Any = {"plain": plain, "async": later, "nested": nested, "texts": texts}[kind]
    (got,) = results_of(calls("f"), tool(function, name="f"))
    assert "cannot be sent to the model: the result " in str(got.content)
    assert "return less of it" in str(got.content)


class Itself:
    def __iter__(self) -> Iterator[Any]:
        yield self
        yield self


def test_results_that_hold_themselves() -> None:
    """A list in itself, and an object that yields itself."""
    endless: list[Any] = []
    endless.append(endless)
    for value in (endless, Itself()):
        (got,) = results_of(calls("f"), tool(lambda value=value: value, name="f", parameters={"type": "object"}))
        assert "cannot be sent to the model" in str(got.content)


def test_half_a_character_in_a_result() -> None:
    """Becomes U+FFFD, in texts, values and names."""
    for value in ({"a\ud800": ["\ud83d"]}, tool_execution.ContentParts([{"type": "text", "text": "a\ud800"}])):
        (got,) = results_of(calls("f"), tool(lambda value=value: value, name="f", parameters={"type": "object"}))
        assert got.ok
        assert "\ufffd" in str(got.content)
        str(got.content).encode()


def test_content_parts_that_json_cannot_carry() -> None:
    """Are a failure of the call, not of the next request."""
    parts = tool_execution.ContentParts([{"type": "text", "text": object()}])
    (got,) = results_of(calls("f"), tool(lambda: parts, name="f"))
    assert "cannot be sent to the model" in str(got.content)


# ---------------------------------------------------------------- what is told of failures


def told(error: Exception, **options: Any) -> str:
    def f() -> None:
        raise error

    got: ToolResult = results_of(calls("f"), f, **options)[0]
    return str(got.content)


def test_what_is_told_of_an_exception_is_short_and_without_credentials() -> None:
    """By default: the type and the beginning of the text."""
    content = told(OSError(f"DB_PASSWORD=hunter2 was refused {'x' * 5_000}"))
    assert content.startswith("Error: OSError: DB_PASSWORD=*** was refused xxx")
    assert len(content) < 300


def test_the_whole_text_is_told_on_demand() -> None:
    """But for the client's own keys."""
    content = told(OSError(f"DB_PASSWORD=hunter2, {'x ' * 1_000}the-key"), on_tool_error="tell_all")
    assert content.startswith("Error: OSError: DB_PASSWORD=hunter2, x x")
    assert content.endswith("x ***")


def test_what_a_tool_writes_for_the_model_may_be_longer() -> None:
    """A `ToolError` is a message of its author's."""
    assert told(ToolError("x" * 1_000)) == "Error: " + "x" * 1_000


def test_a_hooks_words_may_be_anything_json_can_carry() -> None:
    """What `on_tool_error` returns is told as a result is."""
    assert told(OSError(), on_tool_error=lambda call, error: {"failed": call.name}) == '{"failed":"f"}'
    assert told(OSError(), on_tool_error=lambda call, error: "half \ud800") == "half \ufffd"
