"""The vocabulary of scripted answers: the same over a socket and over a fake transport, for every kind of call."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conftest import run
from openaiasync import (
    APIConnectionError,
    APIResponseValidationError,
    APITimeoutError,
    AsyncOpenAI,
    IncompleteStreamError,
    InternalServerError,
    RateLimitError,
)
from openaiasync.errors import OpenAIError
from openaiasync.testing import FakeAnswer, FakeServer, FakeTransport, Script

HI: Any = [{"role": "user", "content": "Why is the sky blue?"}]
ADD = {"name": "add", "arguments": {"a": 1, "b": 2}}
Act = Callable[[AsyncOpenAI, Script], Awaitable[None]]


@asynccontextmanager
async def over_a_socket(**options: Any) -> AsyncIterator[tuple[AsyncOpenAI, Script]]:
    async with FakeServer() as server, AsyncOpenAI(base_url=server.url, api_key="sk", **options) as client:
        yield client, server


@asynccontextmanager
async def without_a_network(**options: Any) -> AsyncIterator[tuple[AsyncOpenAI, Script]]:
    script = Script()
    other = {"transport": FakeTransport(script)}
    async with AsyncOpenAI(base_url="http://fake/v1", api_key="sk", http_other=other, **options) as client:
        yield client, script
    script.assert_expected()


@pytest.fixture(params=[over_a_socket, without_a_network])
def played(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run a function with a client and its script."""

    def play(act: Act, **options: Any) -> None:
        async def main() -> None:
            async with request.param(**{"max_retries": 0, **options}) as (client, script):
                await act(client, script)

        run(main())

    return play


Play = Callable[..., None]


def test_a_text_in_both_forms(played: Play) -> None:
    """One word list answers a chat, whole and streamed, with the model that was asked for and counted tokens."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        script.reply("It scatters light.", times=2)
        answer = await client.chat.completions.create(messages=HI, model="tiny")
        assert (answer.text, answer.model, answer.choices[0].finish_reason) == ("It scatters light.", "tiny", "stop")
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 3)
        stream = await client.chat.completions.create(
            messages=HI, model="tiny", stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        texts = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
        assert texts == ["It", " scatters", " light."]
        assert (chunks[0].choices[0].delta.role, chunks[-2].choices[0].finish_reason) == ("assistant", "stop")
        assert chunks[-1].usage.total_tokens == 8

    played(act)


def test_tool_calls_in_both_forms(played: Play) -> None:
    """Arguments are given as values or as a text, right or wrong; ids are made unless given."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        script.reply(tool_calls=[ADD, {"name": "say", "arguments": '{"broken', "id": "mine"}], times=2)
        whole = (await client.chat.completions.create(messages=HI, model="m")).choices[0]
        assert whole.finish_reason == "tool_calls"
        assert [(call.id, call.function.name, call.function.arguments) for call in whole.message.tool_calls] == [
            ("call_1", "add", '{"a": 1, "b": 2}'),
            ("mine", "say", '{"broken'),
        ]
        async with client.chat.stream(HI, model="m") as stream:
            final = await stream.final()
        assert final.choices[0].message.tool_calls == whole.message.tool_calls

    played(act)


def test_responses_in_both_forms(played: Play) -> None:
    """The answer of the Responses API, and all its events in their order."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        script.reply("Blue it is.", tool_calls=[ADD], times=2)
        answer = await client.responses.create(input="sky", model="m")
        assert answer.output_text == "Blue it is."
        assert answer.output[1].arguments == '{"a": 1, "b": 2}'
        events = [event async for event in await client.responses.create(input="sky", model="m", stream=True)]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert deltas == ["Blue", " it", " is."]
        assert events[-1].type == "response.completed"
        assert events[-1].response.output_text == "Blue it is."

    played(act)


def test_the_other_kinds_of_calls(played: Play) -> None:
    """Completions, embeddings, sounds and whole bodies."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        script.reply("a time", times=2).reply(embeddings=[[0.5, -1.0], [2.0, 3.0]]).reply("what was said")
        script.reply(content=b"RIFF", content_type="audio/wav").reply(json={"object": "list", "data": [{"id": "m"}]})
        assert (await client.completions.create(prompt="Once upon", model="m")).choices[0].text == "a time"
        stream = await client.completions.create(prompt="Once upon", model="m", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "a time"
        vectors = (await client.embeddings.create(input=["a", "b"], model="m")).data
        assert [one.embedding for one in vectors] == [[0.5, -1.0], [2.0, 3.0]]
        heard = await client.audio.transcriptions.create(file=("a.wav", b"RIFF"), model="m")
        assert heard.text == "what was said"
        assert (await client.audio.speech.create(input="hi", model="m", voice="alloy")).content == b"RIFF"
        assert [model.id async for model in client.models.list()] == ["m"]

    played(act)


def test_pieces_have_times(played: Play) -> None:
    """The first piece comes after `ttft`, each later one after `itl`, and numbers among them are longer pauses."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        script.stream(["a", "b", 3.0, "c"], ttft=2.0, itl=0.5, reasoning=None)
        loop = asyncio.get_running_loop()
        began, times = loop.time(), []
        async with client.chat.stream(HI, model="m") as stream:
            async for piece in stream:
                if piece.text:
                    times.append(round(loop.time() - began, 2))
        assert times == [2.0, 2.5, 6.0]

    played(act)


def test_pieces_are_timed_and_counted_in_every_kind_of_stream(played: Play) -> None:
    """The events around the pieces of a response take no time, and none of them is what a cut counts."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        script.stream("one two three", ttft=4.0, itl=1.0).cut(after=2, text="one two three")
        loop = asyncio.get_running_loop()
        began, times = loop.time(), []
        async for event in await client.responses.create(input="count", model="m", stream=True):
            times.append((event.type, round(loop.time() - began, 2)))
        assert [at for kind, at in times if kind == "response.output_text.delta"] == [4.0, 5.0, 6.0]
        assert (times[0], times[-1]) == (("response.created", 0.0), ("response.completed", 6.0))
        got: list[str] = []
        with pytest.raises(IncompleteStreamError):
            async for event in await client.responses.create(input="count", model="m", stream=True):
                got += [event.delta] if event.type == "response.output_text.delta" else []
        assert got == ["one", " two"]

    played(act)


def test_several_choices_and_reasoning(played: Play) -> None:
    """`n` choices each get the answer; reasoning comes before the text."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        script.reply("Yes.", reasoning="hm", times=2)
        answer = await client.chat.completions.create(messages=HI, model="m", n=2)
        assert [(one.index, one.message.content) for one in answer.choices] == [(0, "Yes."), (1, "Yes.")]
        assert answer.reasoning == "hm"
        async with client.chat.stream(HI, model="m") as stream:
            final = await stream.final()
        assert (final.text, final.reasoning) == ("Yes.", "hm")

    played(act)


SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"
FAULTS: list[tuple[str, Callable[[Script], Any], bool, type[OpenAIError]]] = [
    ("an error", lambda script: script.fail(429, retry_after=30), False, RateLimitError),
    ("an error, streamed", lambda script: script.fail(429), True, RateLimitError),
    ("cut", lambda script: script.cut(after=20), False, APIConnectionError),
    ("cut, streamed", lambda script: script.cut(after=2), True, IncompleteStreamError),
    ("reset", lambda script: script.cut(reset=True), False, APIConnectionError),
    ("silent", lambda script: script.hang(), False, APITimeoutError),
    ("silent, streamed", lambda script: script.hang(after=2), True, APITimeoutError),
    ("not JSON", lambda script: script.malformed("json"), False, APIResponseValidationError),
    ("a page", lambda script: script.malformed("html"), False, APIResponseValidationError),
    ("a page, streamed", lambda script: script.malformed("html"), True, APIResponseValidationError),
    ("empty", lambda script: script.malformed("empty"), False, APIResponseValidationError),
    ("no event", lambda script: script.malformed("event"), True, APIResponseValidationError),
    ("not HTTP", lambda script: script.malformed("http"), False, APIConnectionError),
    ("wrong chunks", lambda script: script.malformed("chunk"), False, APIConnectionError),
    ("raw bytes", lambda script: script.malformed(SHORT), False, APIConnectionError),
]  # fmt: skip


@pytest.mark.parametrize(("script_it", "streamed", "error"), [pytest.param(*rest, id=name) for name, *rest in FAULTS])
def test_faults(played: Play, script_it: Any, streamed: bool, error: type[OpenAIError]) -> None:
    """Each fault is the same error over a socket and without one; a stream keeps the events before it."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        script_it(script)
        with pytest.raises(error) as caught:
            if streamed:
                async with client.chat.stream(HI, model="m") as stream:
                    await stream.final()
            else:
                await client.chat.completions.create(messages=HI, model="m")
        if streamed and error in (IncompleteStreamError, APITimeoutError):
            assert caught.value.partial.text in ("This answer", "Hello, and")

    played(act, timeout=20.0)


def test_a_refused_call_is_answered_at_the_second_try(played: Play) -> None:
    """Answers in a chain are given in its order, one for each request, retries among them."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        script.fail(503, retry_after=7).reply("Blue.")
        began = asyncio.get_running_loop().time()
        assert (await client.chat.completions.create(messages=HI, model="m")).text == "Blue."
        assert 7 <= asyncio.get_running_loop().time() - began < 9

    played(act, max_retries=1)


def test_matchers_come_before_the_rest(played: Play) -> None:
    """An answer for requests that match is taken before one for any; each only as often as it says."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        async def ask(text: str, model: str = "m", **more: Any) -> str:
            return (
                await client.chat.completions.create(messages=[{"role": "user", "content": text}], model=model, **more)
            ).text

        script.reply("anything", times=None)
        script.when(model="big").reply("big one").reply("big two")
        script.when(contains=["sky", "blue"]).reply("scattering", times=None)
        script.when(body={"temperature": 0.5}).reply("half")
        script.when(match=lambda request: "secret" in request.json().get("user", "")).reply("by function")
        assert [await ask("x", "big"), await ask("y", "big"), await ask("z", "big")] == [
            "big one",
            "big two",
            "anything",
        ]
        assert [await ask("the blue sky"), await ask("blue"), await ask("sky blue")] == [
            "scattering",
            "anything",
            "scattering",
        ]
        assert await ask("x", temperature=0.5) == "half"
        assert await ask("x", user="my secret") == "by function"
        assert await ask("x", stream=False) == "anything"

    played(act)


def test_functions_answer(played: Play) -> None:
    """A function of the request, asynchronous or not, says the text, a value, or the whole answer."""

    async def later(request: Any) -> str:
        await asyncio.sleep(1)
        return str(request.json()["model"])

    async def act(client: AsyncOpenAI, script: Script) -> None:
        script.reply(lambda request: request.json()["messages"][-1]["content"].upper()).reply(later)
        script.reply(lambda request: FakeAnswer(status=404, json={"error": {"message": "none"}}))
        assert (await client.chat.completions.create(messages=HI, model="m")).text == "WHY IS THE SKY BLUE?"
        assert (await client.chat.completions.create(messages=HI, model="tiny")).text == "tiny"
        with pytest.raises(OpenAIError, match="404"):
            await client.chat.completions.create(messages=HI, model="m")

    played(act)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Undecided:
    def __bool__(self) -> bool:
        raise ValueError("the truth value is ambiguous")


def raising(error: BaseException) -> Callable[[Any], Any]:
    def broken_function(request: Any) -> Any:
        raise error

    return broken_function


ERRORS = [
    ZeroDivisionError("a mistake"),
    Unprintable(),
    SystemExit(3),
    asyncio.CancelledError(),
    BaseException("x" * 10**6),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("role", ["match=", "reply()"])
def test_a_function_that_raises_fails_the_test(error: BaseException, role: str, played: Play) -> None:
    """The client gets an error object at once and does not retry; the test's failure names the function."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        if role == "match=":
            script.when(match=raising(error)).reply("never")
        script.reply(raising(error) if role == "reply()" else "not this either").reply("still served")
        with pytest.raises(InternalServerError, match="broken_function") as caught:
            await client.chat.completions.create(messages=HI, model="m")
        assert caught.value.code == "script_failed"
        (explained,) = script.unexpected
        assert f"the function passed as {role}" in explained or f"the function passed to {role}" in explained
        assert f"broken_function ({__file__}:" in explained
        assert type(error).__name__ in explained
        assert "raise error" in explained  # the end of the traceback
        assert len(explained) < 5_000
        script.unexpected.clear()
        if role == "reply()":
            assert (await client.chat.completions.create(messages=HI, model="m")).text == "still served"

    played(act, max_retries=2)


def test_matchers_that_are_not_functions_of_truth(played: Play) -> None:
    """An asynchronous function would match everything, and some objects have no truth value."""

    async def later(request: Any) -> bool:
        return False

    async def act(client: AsyncOpenAI, script: Script) -> None:
        for match, words in ((later, "is asynchronous"), (lambda request: Undecided(), "ambiguous")):
            script.clear()
            script.when(match=match).reply("never")  # type: ignore[arg-type]
            with pytest.raises(InternalServerError, match=words):
                await client.chat.completions.create(messages=HI, model="m")
        script.clear()

    played(act)


def test_a_matcher_that_scripts_an_answer(played: Play) -> None:
    """It may use the script, even from another thread; it is not asked where an earlier expectation fits."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        asked: list[Any] = []

        def note(request: Any) -> bool:
            asked.append(request)
            thread = threading.Thread(target=script.reply, args=("scripted meanwhile",))
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
            return False

        script.when(contains="sky").reply("first")
        script.when(match=note).reply("never")
        script.reply("second")
        for number, expected in enumerate(("first", "second", "scripted meanwhile")):
            assert (await client.chat.completions.create(messages=HI, model="m")).text == expected
            assert len(asked) == number

    played(act)


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, {"text": object()}], ids=["object", "set", "nested"])
def test_an_answer_that_cannot_be_sent(value: Any, played: Play) -> None:
    """It is refused with the reason, whether scripted or returned by a function."""

    async def act(client: AsyncOpenAI, script: Script) -> None:
        script.reply(json=value).reply(lambda request: value).respond(FakeAnswer(headers={"x-a": "\u20ac"}))
        for words in ("not JSON serializable", "not JSON serializable", "can't encode"):
            with pytest.raises(OpenAIError, match=words):
                await client.chat.completions.create(messages=HI, model="m")
        script.unexpected.clear()

    played(act)


def test_what_cannot_be_scripted_is_refused_at_once() -> None:
    """Where it is written, with advice."""
    with pytest.raises(ValueError, match="'json', 'html'"):
        Script().malformed("nonsense")
    with pytest.raises(ValueError, match="times=0"):
        Script().reply("x", times=0)


def test_a_text_for_a_call_without_one() -> None:
    """Says what could answer it."""

    async def main() -> None:
        script = Script()
        client = AsyncOpenAI(base_url="http://fake/v1", api_key="sk", http_other={"transport": FakeTransport(script)})
        script.reply("a text")
        async with client:
            with pytest.raises(OpenAIError, match=r"cannot answer GET /v1/models: give json="):
                await client.models.list()
        with pytest.raises(AssertionError, match="cannot answer GET /v1/models"):
            script.assert_expected()

    run(main())


def two_expectations(script: Script) -> None:
    script.when(model="a", contains="zzz").reply("far")
    script.when(model="tiny", contains="zzz").reply("near")


@pytest.mark.parametrize(
    ("expect", "explained"),
    [
        (lambda script: None, ["no answer is scripted"]),
        (lambda on: on.when(model="gpt-4o").reply("x"), ["when(model='gpt-4o').reply('x')", '- "gpt-4o"', '+ "tiny"']),
        (lambda on: on.when(contains="skye").reply("x"), ["'skye' is not in", "| Why is the", "did you mean 'sky'?"]),
        (lambda on: on.when(path="/embeddings").reply("x"), ["path:", '- "/embeddings"', '+ "/v1/chat']),
        (lambda script: script.when(body={"user": "me"}).reply("x"), ["user:", '- "me"', "+ null"]),
        (two_expectations, ["nearest of 2", "reply('near')"]),
    ],
)  # fmt: skip
def test_the_unexpected_is_explained(expect: Callable[[Script], Any], explained: list[str]) -> None:
    """A request that nothing answers shows itself and how it differs from the expectation that comes nearest."""

    async def main() -> None:
        server = FakeServer()
        with pytest.raises(AssertionError) as caught:
            async with server, AsyncOpenAI(base_url=server.url, api_key="sk") as client:
                expect(server)
                with pytest.raises(OpenAIError, match="501") as refused:
                    await client.chat.completions.create(messages=HI, model="tiny")
                assert "unexpected request" in str(refused.value)
                assert len(server.requests) == 1, "it is not tried again"
        text = str(caught.value)
        assert "unexpected request: POST /v1/chat/completions" in text
        assert '"model": "tiny"' in text
        for part in explained:
            assert part in text, text

    run(main())


def test_used_up_and_unused() -> None:
    """One answer too few is told as such; one too many only when asked."""

    async def main() -> None:
        script = Script()
        client = AsyncOpenAI(base_url="http://fake/v1", api_key="sk", http_other={"transport": FakeTransport(script)})
        script.reply("one")
        script.when(model="other").reply("two", times=2)
        async with client:
            await client.chat.completions.create(messages=HI, model="m")
            with pytest.raises(OpenAIError, match=r"all answers that match it are used up:.*reply\('one'\)"):
                await client.chat.completions.create(messages=HI, model="m")
        assert [str(one) for one in script.unused] == ["when(model='other').reply('two'), used 0 of 2 times"]
        with pytest.raises(AssertionError, match="never asked for: when"):
            script.assert_all_used()
        script.clear()
        script.assert_all_used()
        script.assert_expected()

    run(main())


def test_responses_events_have_names() -> None:
    """As the API sends them, for clients that go by the field ``event``."""

    async def main() -> bytes:
        async with FakeServer() as server:
            server.reply("hi")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            body = json.dumps({"model": "m", "input": "x", "stream": True}).encode()
            writer.write(b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            got = await reader.readuntil(b"0\r\n\r\n")
            writer.close()
            return got

    raw = run(main())
    assert b"event: response.created\ndata: {" in raw
    assert b"[DONE]" not in raw
