"""The calls of one round: at once, in order, permitted one by one, and none left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from conftest import run
from openaiasync import ToolCall, ToolError, ToolResult, tool
from openaiasync.chat.tools import Toolbox, ToolRun


def calls(*wanted: str) -> list[ToolCall]:
    """One call for each "name" or "name {...}"."""
    made: list[ToolCall] = []
    for place, text in enumerate(wanted):
        name, _, arguments = text.partition(" ")
        made.append(ToolCall(id=f"call_{place}", name=name, arguments=arguments))
    return made


def scrub(raw: bytes) -> bytes:
    return raw.replace(b"the-key", b"***")


def start(wanted: list[ToolCall], *tools: Any, **options: Any) -> ToolRun:
    return ToolRun(wanted, Toolbox(tools), scrub, **options)


def results(wanted: list[ToolCall], *tools: Any, **options: Any) -> list[ToolResult]:
    async def main() -> list[ToolResult]:
        return await start(wanted, *tools, **options).all()

    return run(main())


def boom() -> str:
    """Fails."""
    raise LookupError("no such town, said the-key")


def fine(x: int = 0) -> int:
    return x


def meeting(size: int) -> Callable[..., Any]:
    """A function that returns once so many of its calls run."""
    here = 0
    all_here = asyncio.Event()

    async def meet(x: int) -> int:
        nonlocal here
        here += 1
        if here == size:
            all_here.set()
        await all_here.wait()
        return x

    return meet


def test_calls_run_at_once_and_answer_in_their_order() -> None:
    """Each would wait for ever if the others did not run."""
    got = results(calls(*(f'meet {{"x":{x}}}' for x in range(5))), meeting(5))
    assert [one.value for one in got] == list(range(5))
    assert [one.content for one in got] == list("01234")
    assert all(one.ok and one.error is None and one.seconds >= 0 for one in got)
    assert got[3].message() == {"role": "tool", "tool_call_id": "call_3", "content": "3"}


def test_plain_functions_run_at_once_too() -> None:
    """In threads; the slower ones do not hold up the others."""
    barrier = threading.Barrier(3, timeout=20)

    def meet(x: int) -> int:
        barrier.wait()
        return x

    assert [one.value for one in results(calls(*(f'meet {{"x":{x}}}' for x in range(3))), meet)] == [0, 1, 2]


def test_results_come_as_they_end() -> None:
    """`next` gives the quick ones first, `None` after the last."""

    async def main() -> list[str]:
        gate = asyncio.Event()

        async def slow() -> str:
            await gate.wait()
            return "slow"

        def quick() -> str:
            return "quick"

        going = start(calls("slow", "quick"), slow, quick)
        first = await going.next()
        gate.set()
        second = await going.next()
        assert await going.next() is None
        assert first is not None
        assert second is not None
        assert going.results() == [second, first]
        return [first.content, second.content]  # type: ignore[list-item]

    assert run(main()) == ["quick", "slow"]


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("wanted", "content"),
    [
        ("boom", "Error: LookupError: no such town, said ***"),
        ('fine {"x":"y"}', 'Error: The arguments do not fit. At $.x: expected `int`, got `str`; it is "y".'),
        ("lost", "Error: There is no tool 'lost'. The tools are: boom, fine."),
        ("", "Error: There is no tool ''. The tools are: boom, fine."),
    ],
)
def test_failures_are_told(wanted: str, content: str) -> None:
    """The model can do better next time; the other calls are not disturbed."""
    failed, other = results(calls(wanted, "fine"), boom, fine)
    assert (failed.content, failed.ok, failed.denied) == (content, False, False)
    assert isinstance(failed.error, (LookupError, ToolError))
    assert other.content == "0"


def test_without_tools_every_call_is_told_so() -> None:
    """A model may dream of them."""
    (got,) = results(calls("f"))
    assert got.content == "Error: There is no tool 'f'. There are no tools."


def test_a_tool_says_itself_what_the_model_is_told() -> None:
    """By raising `ToolError`."""

    def ask() -> str:
        raise ToolError("Ask for a town first.")

    (got,) = results(calls("ask"), ask)
    assert got.content == "Error: Ask for a town first."


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_tool_cannot_end_the_program(kind: str) -> None:
    """`sys.exit` deep in some library is a failure like others."""

    async def leave() -> None:
        raise SystemExit(3)

    def leave_plainly() -> None:
        raise SystemExit(3)

    (got,) = results(calls("leave"), tool(leave if kind == "async" else leave_plainly, name="leave"))
    assert got.content == "Error: RuntimeError: the tool wanted to end the program"


def test_what_cancels_itself_is_a_failure() -> None:
    """A tool's own cancelled task is not the caller's cancellation."""

    async def waits() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    (got,) = results(calls("waits"), waits)
    assert got.content == "Error: the tool waits was cancelled from inside"


def test_failures_raised() -> None:
    """The error names the call and keeps its cause; calls that still run are cancelled."""
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("endless")

    with pytest.raises(ToolError, match=r"^The tool boom failed: LookupError: no such town, said \*\*\*$") as caught:
        results(calls("endless", "boom"), endless, boom, on_tool_error="raise")
    assert isinstance(caught.value.__cause__, LookupError)
    assert caught.value.call is not None
    assert caught.value.call.id == "call_1"
    assert ended == ["endless"]


@pytest.mark.parametrize("wanted", ["lost", 'fine {"x":"y"}'])
def test_the_models_own_failures_raised(wanted: str) -> None:
    """Tools that are not there and arguments that do not fit too."""
    with pytest.raises(ToolError) as caught:
        results(calls(wanted), fine, on_tool_error="raise")
    assert caught.value.call == calls(wanted)[0]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_failures_in_ones_own_words(asynchronous: bool) -> None:
    """A function of call and error says what the model is told."""

    def words(call: ToolCall, error: Exception) -> str:
        return f"{call.name} is out of order: {type(error).__name__}"

    async def words_later(call: ToolCall, error: Exception) -> str:
        return words(call, error)

    (got,) = results(calls("boom"), boom, on_tool_error=words_later if asynchronous else words)
    assert got.content == "boom is out of order: LookupError"


# ---------------------------------------------------------------- permission


@pytest.mark.parametrize(
    ("verdict", "content"),
    [
        (True, "0"),
        (False, "Error: this call was not permitted."),
        (None, "Error: this call was not permitted."),
        ("too dear", "Error: this call was not permitted: too dear"),
        ("", "Error: this call was not permitted."),
        (1, "Error: this call was not permitted."),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_permission(verdict: Any, content: str, asynchronous: bool) -> None:
    """Only True permits; a denial is told with its reason."""
    asked: list[ToolCall] = []

    def permit(call: ToolCall) -> Any:
        asked.append(call)
        return verdict

    async def permit_later(call: ToolCall) -> Any:
        return permit(call)

    (got,) = results(calls("fine"), fine, permit=permit_later if asynchronous else permit)
    assert (got.content, got.denied, got.error) == (content, verdict is not True, None)
    assert asked == calls("fine")


def test_permission_is_asked_one_by_one_in_order_while_calls_run() -> None:
    """Nobody can answer two questions at once; what was permitted does not wait for the rest."""
    events: list[str] = []
    first_runs = asyncio.Event()

    async def permit(call: ToolCall) -> bool:
        events.append(f"asked {call.arguments}")
        await asyncio.sleep(0)
        if call.id == "call_1":
            await first_runs.wait()
        events.append(f"said {call.arguments}")
        return True

    async def work(x: int) -> None:
        first_runs.set()

    results(calls('work {"x":0}', 'work {"x":1}', 'work {"x":2}'), work, permit=permit)
    assert events == [word for x in range(3) for word in (f'asked {{"x":{x}}}', f'said {{"x":{x}}}')]


def test_tools_that_are_not_there_need_no_permission() -> None:
    """There is nothing to permit."""

    def permit(call: ToolCall) -> bool:
        raise AssertionError(call)

    (got,) = results(calls("lost"), permit=permit)
    assert "no tool" in str(got.content)


def test_a_hook_that_fails_is_raised() -> None:
    """It is the caller's own code; nothing runs on."""
    ran: list[int] = []

    def permit(call: ToolCall) -> bool:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        results(calls("work", "work"), tool(lambda: ran.append(1), name="work"), permit=permit)
    assert ran == []


# ---------------------------------------------------------------- leaving


def test_a_cancelled_caller_cancels_all_tools() -> None:
    """And waits for what they do at their end."""
    ended: list[int] = []

    async def main() -> None:
        running = asyncio.Event()

        async def endless(x: int) -> None:
            try:
                running.set()
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0)
                ended.append(x)

        task = asyncio.create_task(start(calls('endless {"x":1}', 'endless {"x":2}'), endless).all())
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert sorted(ended) == [1, 2]


def test_a_cancelled_caller_does_not_wait_for_threads() -> None:
    """A thread cannot be stopped: its result is thrown away."""
    let_go = threading.Event()

    def stuck() -> None:
        let_go.wait(20)

    async def main() -> bool:
        task = asyncio.create_task(start(calls("stuck"), stuck).all())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        waited = not let_go.is_set()
        let_go.set()
        return waited

    assert run(main())


def test_several_failures_at_once_leave_no_noise() -> None:
    """One is raised, the others are looked at, so that the event loop has nothing to report."""

    async def fails(x: int) -> None:
        raise ValueError(x)

    with pytest.raises(ToolError, match="ValueError: 0"):
        results(calls(*(f'fails {{"x":{x}}}' for x in range(3))), fails, on_tool_error="raise")
