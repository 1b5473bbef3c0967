"""Handlers that raise or return anything: every client gets an error object, and the server lives on."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from conftest import run
from cputime import assert_linear
from openaiasync.server import (
    ContentDelta,
    Finish,
    HTTPError,
    ReasoningDelta,
    Server,
    ToolCallDelta,
    serve,
)
from openaiasync.server.chat import StopCutter
from openaiasync.server.ids import random_hex
from openaiasync.server.quota import InFlightQueue
from openaiasync.server.tokens import count_texts, count_tokens

from .wire import Answer, Wire, request

CHAT_PATH = "/v1/chat/completions"
RAISED: list[BaseException] = [
    ValueError("a secret"),
    ConnectionResetError("a secret upstream"),
    FileNotFoundError("a secret file"),
    TimeoutError("a secret"),
    BaseException("a secret"),
    SystemExit(3),
    GeneratorExit("a secret"),
    StopIteration("a secret"),
    StopAsyncIteration("a secret"),
    asyncio.CancelledError("a secret"),
    BaseExceptionGroup("a secret", [SystemExit(1)]),
    RecursionError("a secret"),
]


def handlers(error: BaseException, first: list[str]) -> dict[str, Callable[[Any], Any]]:
    """Handlers of every kind that yield some pieces, if they can, and raise."""

    async def generator(request: Any) -> AsyncIterator[str]:
        for piece in first:
            yield piece
        raise error

    async def coroutine(request: Any) -> str:
        raise error

    def plain(request: Any) -> str:
        raise error

    def plain_generator(request: Any) -> Iterator[str]:
        yield from first
        raise error

    return {"generator": generator, "coroutine": coroutine, "plain": plain, "plain_generator": plain_generator}


def ask(model: str = "m", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


def answers(app: Server, *requests: tuple[str, Any]) -> list[Answer]:
    """The answers to requests, each on a connection of its own, and then the server still lives."""

    async def main() -> list[Answer]:
        found: list[Answer] = []
        async with serve(app) as server:
            for path, body in requests:
                async with Wire(server) as wire:
                    found.append(await wire.call("POST", path, body))
            async with Wire(server) as wire:
                assert (await wire.call("GET", "/health")).json() == {"status": "ok"}
        assert app.metrics.in_flight == app.queue.running == 0
        return found

    return run(main())


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_handler_raises(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Before its first piece it is a 500, streamed or not; what it raised is in the log alone."""
    app = Server()
    for name, handler in handlers(error, []).items():
        app.chat(name)(handler)
    for answer in answers(
        app, *((CHAT_PATH, ask(name, stream=on)) for name in app.model_names() for on in (False, True))
    ):
        assert answer.status == 500
        assert answer.error()["message"] == "The server failed to answer this request."
    assert len([record for record in caplog.records if record.exc_info]) == 8


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_handler_raises_in_a_stream(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """After its first piece the stream ends with an error event and without ``[DONE]``."""
    app = Server()
    made = handlers(error, ["one "])
    app.chat("async")(made["generator"])
    app.chat("plain")(made["plain_generator"])
    for answer in answers(app, (CHAT_PATH, ask("async", stream=True)), (CHAT_PATH, ask("plain", stream=True))):
        events = answer.body.decode().split("\n\n")
        assert '"one "' in events[1]
        last = json.loads(events[-2].removeprefix("data: "))
        assert last["error"]["message"] == "The server failed to finish this answer."
        assert "[DONE]" not in answer.body.decode()
    assert len([record for record in caplog.records if record.exc_info]) == 2


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_handler_raises_for_several_choices(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """With ``n`` above 1 it is the same 500, or the same event in a stream, as for one answer."""
    app = Server()
    for name, handler in handlers(error, []).items():
        app.chat(name)(handler)
    late = handlers(error, ["one "])["generator"]
    app.chat("late")(late)
    app.completion("late")(late)
    names = [name for name in app.model_names() if name != "late"]
    asked = [(CHAT_PATH, ask(name, n=2, stream=on)) for name in names for on in (False, True)]
    for answer in answers(app, *asked):
        assert answer.status == 500
        assert answer.error()["message"] == "The server failed to answer this request."
    whole, chat, completion = answers(
        app,
        (CHAT_PATH, ask("late", n=2)),
        (CHAT_PATH, ask("late", n=2, stream=True)),
        ("/v1/completions", {"model": "late", "prompt": ["a", "b"], "stream": True}),
    )
    assert whole.status == 500
    for streamed in (chat, completion):
        last = json.loads(streamed.body.decode().split("\n\n")[-2].removeprefix("data: "))
        assert last["error"]["message"] == "The server failed to finish this answer."
    assert len([record for record in caplog.records if record.exc_info]) == 11


def test_an_answer_without_an_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that yields forever becomes an error before it takes all memory."""
    monkeypatch.setattr("openaiasync.server.handlers._MAX_WHOLE", 10_000)
    app = Server()

    @app.chat("m")
    @app.completion("m")
    async def endless(request: Any) -> AsyncIterator[str]:
        while True:
            yield "x"

    for answer in answers(app, (CHAT_PATH, ask()), ("/v1/completions", {"model": "m", "prompt": "a"})):
        assert answer.status == 500
    assert "does it ever end" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": None},
        {"input": []},
        {"input": [], "instructions": "Be brief."},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]},
    ],
)
def test_responses_without_a_message(body: dict[str, Any]) -> None:
    """They are refused, so that a handler can rely on the last message."""
    app = Server()

    @app.chat("m")
    def reply(request: Any) -> str:
        return str(request.messages[-1].text)

    (answer,) = answers(app, ("/v1/responses", {"model": "m", **body}))
    assert answer.status == 400
    assert answer.error()["param"] == "input"


def test_a_websocket_is_refused() -> None:
    """It is closed before it is accepted, which ASGI servers send as 403."""

    async def main() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await Server()({"type": "websocket", "path": "/v1/realtime"}, receive, send)
        return sent

    assert [(message["type"], message["code"]) for message in run(main())] == [("websocket.close", 1003)]


def test_a_client_that_leaves_the_queue_as_a_slot_is_released() -> None:
    """It sees its cancellation, and the next one has the slot."""

    async def main() -> None:
        queue = InFlightQueue(1, 10)
        await queue.acquire()
        leaving = asyncio.create_task(queue.acquire())
        waiting = asyncio.create_task(queue.acquire())
        await asyncio.sleep(0)
        leaving.cancel()
        queue.release()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await waiting
        assert (queue.running, queue.waiting) == (1, 0)

    run(main())


@pytest.mark.parametrize(
    "limits",
    [
        {"max_in_flight": 0},
        {"max_queue": -1},
        {"rpm": 0},
        {"tpm": -1},
        {"max_body": -1},
        {"send_timeout": 0},
        {"handler_timeout": -1.0},
        {"first_token_timeout": float("nan")},
    ],
    ids=str,
)
def test_limits_that_serve_nothing(limits: dict[str, Any]) -> None:
    """They are refused by name when the server is made."""
    with pytest.raises(ValueError, match=next(iter(limits))):
        Server(**limits)


def test_errors_that_http_cannot_carry() -> None:
    """Texts with lone surrogates are escaped; header fields that would break the response are the handler's failure."""
    error = HTTPError(400, "\ud800", param="\ud800", code="\ud801", kind="\ud802")
    shown = {"message": "\\ud800", "type": "\\ud802", "param": "\\ud800", "code": "\\ud801"}
    assert error.to_dict() == {"error": shown}
    for field in ((b"x-a", b"1\r\nx-b: 2"), (b"x a", b"1"), ("x-a", "1")):
        with pytest.raises(ValueError, match="header field"):
            HTTPError(400, "no", fields=(field,))  # type: ignore[arg-type]


def test_a_line_of_a_batch_that_is_nested_too_deep() -> None:
    """It is refused like any other line that is not a request."""
    app = Server()
    app.chat("m")(lambda request: "x")
    form = (
        b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' + b"[" * 50_000
    )

    async def main() -> Answer:
        async with serve(app) as server, Wire(server) as wire:
            fields = {"Content-Type": "multipart/form-data; boundary=B"}
            file = await wire.call("POST", "/v1/files", form + b"\r\n--B--\r\n", fields)
            batch = {"endpoint": CHAT_PATH, "completion_window": "24h", "input_file_id": file.json()["id"]}
            return await wire.call("POST", "/v1/batches", batch)

    answer = run(main())
    assert (answer.status, answer.error()["code"]) == (400, "invalid_json_line")


class Unprintable(Exception):
    """An exception without a text, as those of some database drivers are."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


ONE_UNPRINTABLE = f"ExceptionGroup: one (1 sub-exception)\n    {__name__}.Unprintable: <exception str() failed>"


def nested(depth: int) -> BaseException:
    error: BaseException = ValueError("innermost")
    for level in range(depth):
        error = BaseExceptionGroup(f"level {level}", [error] * 9)
    return error


def noted() -> Exception:
    error = LookupError("no such voice")
    error.add_note("the voices are a and b")
    return error


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("wrong \ud800"), "ValueError: wrong \\ud800"),
        (KeyError("a"), "KeyError: 'a'"),
        (noted(), "LookupError: no such voice\nthe voices are a and b"),
        (Unprintable(), f"{__name__}.Unprintable: <exception str() failed>"),
        (ValueError("x" * 10_000_000), f"ValueError: {'x' * 1988}… (10000012 characters)"),
        (
            ExceptionGroup("two", [ValueError("a"), ExceptionGroup("one", [Unprintable()])]),
            f"ExceptionGroup: two (2 sub-exceptions)\n  ValueError: a\n  {ONE_UNPRINTABLE}",
        ),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError("by the handler"), "asyncio.exceptions.CancelledError: by the handler"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_failures_are_shown_for_debugging(error: BaseException, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    """With `debug` the client sees type, text and notes, bounded, even of an exception whose text cannot be made."""
    caplog.set_level(logging.CRITICAL, "openaiasync.server")  # reports of parallel test processes are JSON, too
    app = Server(debug=True)
    made = handlers(error, ["one "])
    app.chat("stream")(made["generator"])
    app.chat("m")(made["coroutine"])
    app.embedding("e")(made["plain"])
    whole, streamed, vectors = answers(
        app,
        (CHAT_PATH, ask()),
        (CHAT_PATH, ask("stream", stream=True)),
        ("/v1/embeddings", {"model": "e", "input": "a"}),
    )
    assert [whole.error()["message"], vectors.error()["message"]] == [shown, shown]
    assert json.loads(streamed.body.decode().split("\n\n")[-2].removeprefix("data: "))["error"]["message"] == shown


def test_groups_within_groups_are_shown_in_part(caplog: pytest.LogCaptureFixture) -> None:
    """Nine in each of six levels would be half a million lines."""
    caplog.set_level(logging.CRITICAL, "openaiasync.server")
    app = Server(debug=True)
    app.chat("m")(handlers(nested(6), [])["coroutine"])
    (answer,) = answers(app, (CHAT_PATH, ask()))
    message = answer.error()["message"]
    assert message.startswith("ExceptionGroup: level 5 (9 sub-exceptions)\n  ExceptionGroup: level 4")
    assert "and 1 more" in message
    assert len(message) < 2_100


def test_exceptions_whose_text_cannot_be_made_are_hidden_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Without `debug` they are a 500 like any other, and the log has the traceback."""
    app = Server()
    for name, handler in handlers(Unprintable(), []).items():
        app.chat(name)(handler)
    for answer in answers(app, *((CHAT_PATH, ask(name)) for name in app.model_names())):
        assert answer.error()["message"] == "The server failed to answer this request."
    assert len([record for record in caplog.records if record.exc_info]) == 4
    assert "<exception str() failed>" in caplog.text


def test_an_http_error_of_a_task_group() -> None:
    """One that a task raises reaches the client as if the handler had raised it; beside another failure it is a 500."""
    app = Server()

    async def refuse(status: int) -> None:
        raise HTTPError(status, "no credit left", code="insufficient_quota")

    async def fail() -> None:
        raise ValueError("a secret")

    @app.chat("one")
    async def one(request: Any) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(refuse(402))
        return "never"

    @app.chat("two")
    async def two(request: Any) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(refuse(402))
            group.create_task(fail())
        return "never"

    refused, failed = answers(app, (CHAT_PATH, ask("one")), (CHAT_PATH, ask("two")))
    assert (refused.status, refused.error()["code"]) == (402, "insufficient_quota")
    assert (failed.status, failed.error()["message"]) == (500, "The server failed to answer this request.")


def test_a_keyboard_interrupt_of_a_thread(caplog: pytest.LogCaptureFixture) -> None:
    """It is not the user's Ctrl-C, which only the main thread gets, and does not end the server."""
    app = Server()
    made = handlers(KeyboardInterrupt(), ["one "])
    app.chat("plain")(made["plain"])
    app.chat("lazy")(made["plain_generator"])
    plain, lazy, streamed = answers(
        app, (CHAT_PATH, ask("plain")), (CHAT_PATH, ask("lazy")), (CHAT_PATH, ask("lazy", stream=True))
    )
    assert plain.status == lazy.status == 500
    assert b"The server failed to finish this answer." in streamed.body
    assert "the handler raised KeyboardInterrupt" in caplog.text


@pytest.mark.parametrize(
    "result",
    [
        None,
        5,
        b"text",
        ["a", "b"],
        {},
        {"text": "the wrong name"},
        {"content": 5},
        {"choices": [None]},
        {"tool_calls": [None]},
        ContentDelta(5),  # type: ignore[arg-type]
        ReasoningDelta(None),  # type: ignore[arg-type]
        ToolCallDelta("f", ["a"]),  # type: ignore[arg-type]
        Finish(5),  # type: ignore[arg-type]
        "a lone surrogate \ud800",
        object(),
    ],
    ids=lambda result: type(result).__name__,
)
def test_chat_results_that_are_no_answers(result: Any) -> None:
    """Never an empty or wrong answer: a 500, or in a stream an error event."""
    app = Server()

    @app.chat("m")
    async def reply(request: Any) -> Any:
        return result

    whole, streamed = answers(app, (CHAT_PATH, ask()), (CHAT_PATH, ask(stream=True)))
    assert whole.status == 500
    whole.error()
    assert b"The server failed to" in streamed.body
    assert b"[DONE]" not in streamed.body


def test_a_forgotten_return_is_explained(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the handler and what to do."""
    app = Server()

    @app.chat("m")
    def forgetful(request: Any) -> None:
        pass

    answers(app, (CHAT_PATH, ask()))
    assert "forgetful returned None: return an answer, or yield its pieces" in caplog.text


@pytest.mark.parametrize(
    ("kind", "path", "body", "results"),
    [
        ("speech", "/v1/audio/speech", {"input": "a", "voice": "alloy"}, [None, 5, "text", b"", {1}]),
        ("embedding", "/v1/embeddings", {"input": "a"}, [None, 5, [], [["a"]], ["ab"], [[1.0], [2.0]]]),
        ("image", "/v1/images/generations", {"prompt": "a"}, [None, 5, {}, {"content": "x"}]),
        ("moderation", "/v1/moderations", {"input": "a"}, [None, 5, [], [{"hate": "much"}], [None]]),
        ("completion", "/v1/completions", {"prompt": "a"}, [None, 5, b"x", {"text": "x"}]),
        ("response", "/v1/responses", {"input": "a"}, [None, 5, "text", {}, {"type": "response.completed"}]),
    ],
    ids=lambda value: value if isinstance(value, str) and not value.startswith("/") else "",
)
def test_other_results_that_are_no_answers(kind: str, path: str, body: dict[str, Any], results: list[Any]) -> None:
    """The same for the other operations."""
    app = Server()
    for place, result in enumerate(results):
        app._register(kind, (str(place),))(lambda request, result=result: result)
    for answer in answers(app, *((path, {"model": str(place), **body}) for place in range(len(results)))):
        assert answer.status == 500, answer.body
        answer.error()


def test_vectors_of_another_length() -> None:
    """A request for so many dimensions is an error if the model has others."""
    app = Server()

    @app.embedding("m")
    def embed(request: Any) -> list[list[float]]:
        return [[1.0, 2.0, 3.0]]

    good, bad = answers(
        app,
        ("/v1/embeddings", {"model": "m", "input": "a", "dimensions": 3}),
        ("/v1/embeddings", {"model": "m", "input": "a", "dimensions": 2}),
    )
    assert good.json()["data"][0]["embedding"] == [1.0, 2.0, 3.0]
    assert (bad.status, bad.error()["param"]) == (400, "dimensions")


def test_arguments_as_an_object() -> None:
    """A message whose tool call has an object in place of its text is sent as JSON, not as Python writes it."""
    app = Server()

    @app.chat("m")
    def reply(request: Any) -> dict[str, Any]:
        return {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": None}}}]}

    (answer,) = answers(app, (CHAT_PATH, ask()))
    assert answer.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a":null}'


@pytest.mark.parametrize("status", [200, 302, 399, 600, 999])
def test_statuses_that_are_no_errors(status: int) -> None:
    """An error with such a status is refused where it is made."""
    with pytest.raises(ValueError, match="from 400 to 599"):
        HTTPError(status, "x")


def test_plain_handlers_do_not_wait_for_each_other() -> None:
    """Dozens may block at once; threads that never end keep neither the other requests nor the program."""
    app = Server()
    together = threading.Barrier(48)
    stuck = threading.Event()

    @app.chat("m")
    def reply(request: Any) -> str:
        together.wait(20)
        return "met"

    @app.chat("stuck")
    def never(request: Any) -> str:
        stuck.wait(60)
        return "never"

    async def one(server: Any, body: dict[str, Any]) -> Answer:
        async with Wire(server) as wire:
            return await wire.call("POST", CHAT_PATH, body)

    async def main() -> None:
        async with serve(app, grace=0.0) as server:
            lost = [asyncio.create_task(one(server, ask("stuck"))) for _ in range(10)]
            found = await asyncio.gather(*(one(server, ask()) for _ in range(48)))
            assert {answer.json()["choices"][0]["message"]["content"] for answer in found} == {"met"}
            for task in lost:
                task.cancel()
            await asyncio.wait(lost)

    began = time.monotonic()
    try:
        run(main())
        assert time.monotonic() - began < 30  # a thread pool of the event loop would wait for the stuck ones
    finally:
        stuck.set()


def test_stop_strings_cost_linear_time() -> None:
    """Even one of a megabyte that nearly matches."""

    def cut(size: int) -> None:
        cutter = StopCutter("a" * size + "b")
        for _ in range(size // 100):
            cutter.feed(ContentDelta("a" * 100))
        cutter.feed(ContentDelta("c" + "a" * size))
        assert len("".join(piece.text for piece in cutter.rest())) == size + 1

    assert_linear(cut, 20_000)


def test_tokens_of_long_prompts_are_estimated() -> None:
    """Within a few per cent, at a cost that does not grow with their length."""
    text = "The quick brown fox, who had read a lot, jumps over 13 lazy dogs. " * 20_000
    exact = count_tokens(text)
    assert abs(count_texts([text]) / exact - 1) < 0.05
    began = time.process_time()
    count_texts(["." * 30_000_000])
    assert time.process_time() - began < 1.0


def test_a_large_body_does_not_hold_up_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checking many thousand messages takes a while, in which the event loop goes on: the check here waits for that."""
    app = Server()

    @app.chat("m")
    async def reply(request: Any) -> str:
        return "x"

    begun, went_on = threading.Event(), threading.Event()
    check_body = app.check_body

    def check(operation: str, body: dict[str, Any]) -> None:
        begun.set()
        assert went_on.wait(20), "the event loop stood still while a body was checked"
        check_body(operation, body)

    monkeypatch.setattr(app, "check_body", check)

    async def main() -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}] * 60_000}

        async def watch() -> None:
            while not begun.is_set():
                await asyncio.sleep(0.001)
            went_on.set()

        async with serve(app) as server, Wire(server) as wire:
            watching = asyncio.create_task(watch())
            await wire.send(request("POST", CHAT_PATH, body))
            assert (await wire.answer("POST")).status == 200
            await watching

    run(main())


def test_sound_that_breaks_off(caplog: pytest.LogCaptureFixture) -> None:
    """Bytes have no form for errors: the response is cut, so that it does not look whole, and the failure is logged."""
    app = Server()

    @app.speech("m")
    async def speak(request: Any) -> AsyncIterator[bytes]:
        yield b"RIFF"
        raise ConnectionResetError("the synthesizer left")

    async def main() -> None:
        async with serve(app) as server:
            async with Wire(server) as wire:
                await wire.send(request("POST", "/v1/audio/speech", {"model": "m", "input": "a", "voice": "alloy"}))
                received = await wire.reader.read(-1)
                assert b"RIFF" in received
                assert not received.endswith(b"0\r\n\r\n")
            async with Wire(server) as wire:
                assert (await wire.call("GET", "/health")).status == 200

    run(main())
    assert "the synthesizer left" in caplog.text
    assert app.metrics.in_flight == 0


def test_hooks_that_fail() -> None:
    """Those for keys and for unknown paths, too."""

    async def check(key: str | None, context: Any) -> str:
        if key == "broken":
            raise FileNotFoundError("keys.txt")
        return "somebody"

    app = Server(api_keys=check)

    @app.unknown_route
    async def other(context: Any) -> None:
        raise PermissionError("a secret")

    async def main() -> None:
        async with serve(app) as server, Wire(server) as wire:
            for path, key in (("/v1/models", "broken"), ("/other", "good")):
                answer = await wire.call("GET", path, None, {"Authorization": f"Bearer {key}"})
                assert answer.status == 500
                assert answer.error()["message"] == "The server failed to answer this request."

    run(main())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child makes no use of threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_processes_have_different_identifiers() -> None:
    """Random numbers that were read ahead are not used by the parent process and its child alike."""
    random_hex()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, random_hex().encode())
        os._exit(0)
    try:
        os.waitpid(child, 0)
        found = os.read(reader, 100).decode()
    finally:
        os.close(reader)
        os.close(writer)
    assert len(found) == 24
    assert found not in {random_hex() for _ in range(500)}
