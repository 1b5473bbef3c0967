"""Functions of the caller's: asynchronous or blocking, asked without blocking the event loop."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import run
from openaiasync import APITimeoutError, AsyncAzureOpenAI, AsyncOpenAI, Client, ConfigurationError, OpenAIError
from openaiasync.engine.callback import ask
from scripted import scripted

WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("WHERE")


async def late(value: str = "a") -> str:
    await asyncio.sleep(0)
    return value


class Late:
    """An object that is called asynchronously."""

    async def __call__(self) -> str:
        return await late("c")


@pytest.mark.parametrize(
    ("function", "value"),
    [(late, "a"), (functools.partial(late, "b"), "b"), (Late(), "c"), (lambda: late("d"), "d"), (lambda: "e", "e")],
)
def test_all_kinds_of_functions(function: Any, value: str) -> None:
    """Coroutine functions, what looks like one, functions that answer something to be awaited, and plain ones."""
    assert run(ask(function)) == value


def test_a_blocking_function_blocks_nobody() -> None:
    """It runs in a thread with the caller's context; the loop goes on meanwhile."""
    release = threading.Event()

    def block() -> str:
        assert release.wait(20)
        return f"{WHERE.get()} {threading.current_thread() is threading.main_thread()}"

    async def main() -> str:
        WHERE.set("here")
        asking = asyncio.create_task(ask(block))
        await asyncio.sleep(0.01)
        assert not asking.done()
        release.set()
        return await asking

    assert run(main()) == "here False"


@pytest.mark.parametrize(("raised", "seen"), [(KeyError("x"), KeyError), (StopIteration(), RuntimeError)])
def test_what_it_raises(raised: Exception, seen: type[Exception]) -> None:
    """Its exceptions are raised, except the end of an iterator, which a coroutine cannot raise (PEP 479)."""

    def fail() -> str:
        raise raised

    with pytest.raises(seen):
        run(ask(fail))


def test_a_caller_who_leaves() -> None:
    """Is cancelled at once; what the thread answers later is dropped, also when the loop is gone."""
    release = threading.Event()
    ended = threading.Event()

    def block() -> str:
        release.wait(20)
        ended.set()
        return "late"

    async def main() -> None:
        asking = asyncio.create_task(ask(block))
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    run(main())
    release.set()
    assert ended.wait(20)


def leave() -> str:
    raise SystemExit(3)


def interrupt() -> str:
    raise KeyboardInterrupt


def end_thread() -> str:
    _thread.exit()
    return "unreachable"


def cancel() -> str:
    raise asyncio.CancelledError


def group() -> str:
    raise BaseExceptionGroup("x", [SystemExit()])


ENDS = [leave, interrupt, end_thread, cancel, group]


def later(function: Callable[[], str]) -> Callable[[], Awaitable[str]]:
    async def call() -> str:
        await asyncio.sleep(0)
        return function()

    return call


@pytest.mark.parametrize("function", ENDS)
@pytest.mark.parametrize("kind", ["plain", "async", "plain that answers a coroutine"])
def test_a_function_that_would_end_more_than_itself(function: Callable[[], str], kind: str) -> None:
    """Its thread, the event loop or the caller's task: an error says so, and nobody waits for ever."""
    asking: Any = {"plain": function, "async": later(function)}.get(kind, lambda: later(function)())

    async def main() -> None:
        with pytest.raises(ConfigurationError, match="the function did not return: it raised"):
            await asyncio.wait_for(ask(asking), 20)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    run(main())


@pytest.mark.parametrize("function", ENDS)
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_key_that_ends_in_an_odd_way(function: Callable[[], str], kind: str) -> None:
    """The call raises, its slot is free, and so is the client."""

    async def main() -> None:
        asking: Any = function if kind == "plain" else later(function)
        async with scripted() as server, Client(api_base=server.url, api_key=asking, model="m") as client:
            for _ in range(3):  # more than there are slots
                with pytest.raises(OpenAIError, match="the api_key function did not return"):
                    await asyncio.wait_for(client.chat("hi"), 20)
                with pytest.raises(OpenAIError, match="the api_key function did not return"):
                    async with client.chat.stream("hi") as stream:
                        await stream.final()
            assert not server.seen
            client.api_key = "right"
            assert (await client.chat("hi")).text == "Hello."

    run(main())


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_the_callers_own_cancellation_stays_one(kind: str) -> None:
    """It is passed on, while the function runs as at any other time."""
    release = threading.Event()

    async def hang() -> str:
        await asyncio.sleep(60)
        return "late"

    def block() -> str:
        release.wait(60)
        return "late"

    async def main() -> None:
        function: Any = hang if kind == "async" else block
        task = asyncio.create_task(ask(function))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()

    run(main())


@pytest.mark.parametrize("function", ENDS)
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_token_provider_that_ends_in_an_odd_way(function: Callable[[], str], kind: str) -> None:
    """Of a workload identity and of Azure: every call that waits for the token raises."""
    asking: Any = function if kind == "plain" else later(function)

    async def main() -> None:
        identity: Any = {
            "identity_provider_id": "p",
            "service_account_id": "s",
            "provider": {"token_type": "jwt", "get_token": asking},
        }
        async with scripted() as server:
            clients: list[Any] = [
                AsyncOpenAI(base_url=server.url, workload_identity=identity),
                AsyncAzureOpenAI(azure_endpoint=server.url, api_version="1", azure_ad_token_provider=asking),
            ]
            for client in clients:
                async with client:
                    calls = [client.chat.completions.create(model="m", messages=[]) for _ in range(3)]
                    got = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
                    assert all(isinstance(one, OpenAIError) and "did not return" in str(one) for one in got), got
            assert not server.seen

    run(main())


async def stubborn() -> str:
    """Swallow every cancellation."""
    for _ in range(5):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(20)
    return "late"


@pytest.mark.parametrize(
    "options", [{"http_timeout": 0.2}, {"http_deadline": 0.2}, {"http_timeout": 0.2, "hook": True}]
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_function_that_swallows_its_cancellation(options: dict[str, Any], streamed: bool) -> None:
    """The call ends with its clocks, says why, and gives its slot back; so does a caller who cancels."""
    options = dict(options)
    role = "api_key"
    if options.pop("hook", False):
        role = "on_request"

    async def hook(_: Any) -> None:
        await stubborn()

    options[role] = stubborn if role == "api_key" else hook

    async def main() -> None:
        async with scripted() as server:
            async with Client(api_base=server.url, model="m", http_max_in_flight=1, max_retries=0, **options) as client:

                async def call() -> Any:
                    return await (client.chat.stream("hi").final() if streamed else client.chat("hi"))

                for _ in range(2):  # the second needs the slot of the first
                    began = asyncio.get_running_loop().time()
                    with pytest.raises(APITimeoutError, match=f"{role} (function|hook) took too long"):
                        await call()
                    assert asyncio.get_running_loop().time() - began < 10
                task = asyncio.create_task(call())
                await asyncio.sleep(0.02)
                began = asyncio.get_running_loop().time()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert asyncio.get_running_loop().time() - began < 10
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not server.seen
            await _ended(left)

    run(main())


async def _ended(tasks: set[Any]) -> None:
    """Cancel tasks until they end."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=0.001)


def test_what_a_hook_sets_holds_for_its_caller() -> None:
    """Context variables that a request hook sets are read by the hook for the answer, and by the caller."""
    seen: list[str] = []

    async def before(_: Any) -> None:
        WHERE.set("in the hook")

    async def after(_: Any) -> None:
        seen.append(WHERE.get())

    async def main() -> None:
        async with scripted() as server:
            async with Client(api_base=server.url, model="m", on_request=before, on_answer=after) as client:
                await client.chat("hi")
        assert [*seen, WHERE.get()] == ["in the hook", "in the hook"]

    run(main())
