"""`embed_many`: any number of texts, split, in order, several requests at once, and nothing finished that is lost."""

from __future__ import annotations

import asyncio
import pickle
import struct
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import run
from openaiasync import (
    APIConnectionError,
    APIResponseValidationError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    Client,
    EmbedManyError,
    InFlightError,
    InternalServerError,
)
from openaiasync.demo import demo_app
from openaiasync.server import serve, start_in_thread
from scripted import Script, Scripted, Seen, json_answer, scripted

Refuse = Callable[[list[str]], int]
PARAMETERS: dict[str, Any] = {"model": "e"}


def vector(text: Any) -> list[float]:
    """What the server makes of a text: its length, and 1."""
    return [float(len(text)), 1.0]


def embeddings(texts: list[str], usage: bool = True) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": b64encode(struct.pack("<2f", *vector(text))).decode()}
        for index, text in enumerate(texts)
    ]
    tokens = sum(map(len, texts))
    told = {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}} if usage else {"usage": None}
    return {"object": "list", "model": "e-1", "data": data, **told}


def refusal(status: int, param: str | None = None) -> bytes:
    error = {"message": "no", "type": "invalid_request_error", "param": param, "code": None}
    return json_answer({"error": error}, status, x_should_retry="false")


def embedder(refuse: Refuse = lambda texts: 0, param: str | None = None, pause: float = 0.0) -> Script:
    """A server that embeds, unless `refuse` gives a status for what a request holds."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        texts = seen.json()["input"]
        await asyncio.sleep(pause)
        status = refuse(texts)
        writer.write(refusal(status, param) if status else json_answer(embeddings(texts)))

    return script


def with_server(act: Callable[[Any, Scripted], Awaitable[Any]], script: Script | None = None, **options: Any) -> Any:
    async def main() -> Any:
        async with scripted(script or embedder()) as server:
            async with Client(api_base=server.url, **{"model": "e", "max_retries": 0, **options}) as client:
                return await act(client, server)

    return run(main())


def sizes(server: Scripted) -> list[int]:
    return [len(seen.json()["input"]) for seen in server.seen]


def numbers(vectors: Any) -> list[list[float]]:
    return [view.tolist() for view in vectors]


TEXTS = ["x" * (number % 7 + 1) for number in range(100)]


class TestSplitting:
    """How texts become requests."""

    def test_by_count(self) -> None:
        """No request holds more texts than `batch_size`; vectors are in the order of the texts, usage is the sum."""

        async def act(client: Client, server: Scripted) -> None:
            answer = await client.embed_many(TEXTS, batch_size=30, user="me")
            assert numbers(answer.vectors) == [vector(text) for text in TEXTS]
            assert answer.vectors[0].format == "f"
            assert sizes(server) == [30, 30, 30, 10]
            assert {seen.json()["user"] for seen in server.seen} == {"me"}
            assert answer.usage is not None
            assert answer.usage.total_tokens == answer.usage.prompt_tokens == sum(map(len, TEXTS))
            assert answer.model == "e-1"

        with_server(act, http_max_in_flight=1)

    @given(
        texts=st.lists(st.text(max_size=12), max_size=25),
        size=st.integers(1, 9),
        tokens=st.integers(1, 40),
        at_once=st.integers(1, 4),
    )
    @settings(max_examples=25)
    def test_any_texts_and_limits(self, texts: list[str], size: int, tokens: int, at_once: int) -> None:
        """Whatever is given: every vector, in order, and no request above either limit but for a single long text."""

        async def act(client: Client, server: Scripted) -> None:
            answer = await client.embed_many(texts, batch_size=size, batch_tokens=tokens, concurrency=at_once)
            assert numbers(answer.vectors) == [vector(text) for text in texts]
            for seen in server.seen:
                given = seen.json()["input"]
                assert 1 <= len(given) <= size
                assert len(given) == 1 or sum(len(text.encode()) for text in given) <= tokens

        with_server(act, http_max_in_flight=4)

    @pytest.mark.parametrize("tokenizer", [lambda text: 1, lambda text: [text]])
    def test_by_a_tokenizer(self, tokenizer: Any) -> None:
        """`tokenizer` counts tokens, or makes them."""

        async def act(client: Client, server: Scripted) -> None:
            await client.embed_many(["long text"] * 6, batch_tokens=4, tokenizer=tokenizer)
            assert sizes(server) == [4, 2]

        with_server(act, http_max_in_flight=1)

    def test_token_ids(self) -> None:
        """A list of token ids is a text, too, and weighs what it is long."""

        async def act(client: Client, server: Scripted) -> None:
            answer = await client.embed_many([[1, 2, 3], [4], "ab"], batch_tokens=4)
            assert numbers(answer.vectors) == [[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]]
            assert sizes(server) == [2, 1]

        with_server(act, http_max_in_flight=1)

    def test_nothing(self) -> None:
        """No text, no request."""

        async def act(client: Client, server: Scripted) -> None:
            answer = await client.embed_many([])
            assert (answer.vectors, answer.usage, answer.model, server.seen) == ([], None, None, [])

        with_server(act)

    def test_usage_that_is_not_told(self) -> None:
        """A server without usage leaves it `None`."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer(embeddings(seen.json()["input"], usage=False)))

        async def act(client: Client, server: Scripted) -> None:
            assert (await client.embed_many(TEXTS, batch_size=9)).usage is None

        with_server(act, script)


class TestConcurrency:
    """Several requests at once."""

    @pytest.mark.parametrize(
        ("places", "asked", "peak"), [(2, None, 2), (5, 3, 3), (3, 50, 3), (None, None, 8), (None, 12, 12)]
    )
    def test_as_many_as_may_be(self, places: int | None, asked: int | None, peak: int) -> None:
        """The client's places in flight are all used and never passed; `concurrency` may ask for fewer."""

        async def main() -> None:
            async with scripted(embedder(pause=0.05)) as server:
                options: Any = {"http_max_in_flight": places} if places else {}
                maker: Any = Client if places else AsyncOpenAI
                base = {"api_base" if places else "base_url": server.url, "api_key": "k"}
                async with maker(**base, **options) as client:
                    answer = await client.embed_many(TEXTS, batch_size=4, concurrency=asked, model="e")
                assert numbers(answer.vectors) == [vector(text) for text in TEXTS]
                assert server.peak == peak

        run(main())

    def test_order_whoever_is_first(self) -> None:
        """A slow first request changes no order, and holds up no later one."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            texts = seen.json()["input"]
            if len(texts[0]) == 1:
                while len(server_now[0].seen) < 4:
                    await asyncio.sleep(0.005)
            writer.write(json_answer(embeddings(texts)))

        server_now: list[Scripted] = []

        async def act(client: Client, server: Scripted) -> None:
            server_now.append(server)
            texts = ["x" * number for number in range(1, 21)]
            answer = await client.embed_many(texts, batch_size=5)
            assert numbers(answer.vectors) == [vector(text) for text in texts]

        with_server(act, script)

    def test_every_place_held_by_the_caller(self) -> None:
        """Where only the caller could free a place, an error says so instead of a wait for ever."""

        async def act(client: Client, server: Scripted) -> None:
            async with client.chat.stream("hi", model="m"):
                with pytest.raises(InFlightError, match="close a stream first"):
                    await client.embed_many(["a"])
            assert len((await client.embed_many(["a"])).vectors) == 1

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            from scripted import chat

            await (chat if seen.target.endswith("completions") else embedder())(seen, writer)

        with_server(act, script, http_max_in_flight=1)


class TestRefusals:
    """Texts, and numbers of texts, that a server does not take."""

    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_too_many(self, status: int) -> None:
        """A request refused for its size is halved; what the server takes is remembered for those that follow."""

        async def act(client: Client, server: Scripted) -> None:
            answer = await client.embed_many(TEXTS, batch_size=64)
            assert numbers(answer.vectors) == [vector(text) for text in TEXTS]
            assert max(sizes(server)[-6:]) == 8
            assert sum(size > 8 for size in sizes(server)) <= 9  # one of them without base64

        with_server(act, embedder(lambda texts: status if len(texts) > 10 else 0), http_max_in_flight=1)

    @pytest.mark.parametrize("param", [None, "input", "input[3]"])
    def test_bad_texts_are_named(self, param: str | None) -> None:
        """Each bad text has its error by index; every other text has its vector, which the error keeps."""
        texts = [*TEXTS[:50], "bad", *TEXTS[50:70], "bad too", *TEXTS[70:]]

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(EmbedManyError, match=r"2 texts were refused, the first of them texts\[50\]") as caught:
                await client.embed_many(texts, batch_size=16)
            error = caught.value
            assert error.index == 50
            assert sorted(error.refused) == [50, 71]
            assert error.__cause__ is error.refused[50]
            assert isinstance(error.refused[71], BadRequestError)
            assert {index: view.tolist() for index, view in error.vectors.items()} == {
                index: vector(text) for index, text in enumerate(texts) if not text.startswith("bad")
            }
            assert (error.side, error.retryable) == ("caller", False)
            assert error.meta is not None
            assert error.meta.status == 400
            assert error.usage is not None
            assert error.usage.total_tokens == sum(map(len, TEXTS))
            copy = pickle.loads(pickle.dumps(error))
            assert numbers(copy.vectors.values()) == numbers(error.vectors.values())
            assert (copy.index, str(copy)) == (50, str(error))

        bad = embedder(lambda texts: 400 if any(text.startswith("bad") for text in texts) else 0, param)
        with_server(act, bad)

    def test_a_wrong_request_is_not_taken_apart(self) -> None:
        """An error that blames another parameter comes at once; one that blames nothing, after a few texts."""

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(EmbedManyError, match="embed_many stopped") as caught:
                await client.embed_many(TEXTS, batch_size=64, dimensions=3)
            assert (caught.value.index, caught.value.vectors) == (None, {})
            assert isinstance(caught.value.__cause__, BadRequestError)
            assert len(server.seen) <= 2

        with_server(act, embedder(lambda texts: 400, "dimensions"))

        async def silent(client: Client, server: Scripted) -> None:
            with pytest.raises(EmbedManyError) as caught:
                await client.embed_many(TEXTS * 20, batch_size=512)
            assert caught.value.index == 0
            assert len(server.seen) <= 60

        with_server(silent, embedder(lambda texts: 400))

    def test_a_server_that_fails_for_one_text(self) -> None:
        """500 to a text that is too long, as llama.cpp answers, is narrowed down like a refusal."""

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(EmbedManyError) as caught:
                await client.embed_many(["a"] * 20 + ["too long"] + ["b"] * 20, batch_size=16)
            assert list(caught.value.refused) == [20]
            assert isinstance(caught.value.__cause__, InternalServerError)
            assert len(caught.value.vectors) == 40

        with_server(act, embedder(lambda texts: 500 if "too long" in texts else 0))

    def test_many_texts_that_a_server_fails_for(self) -> None:
        """Texts that are answered with 500 are named where retries are allowed, too; the server does not count as dead.

        Requests are not smaller afterwards: a 500 says nothing of their number.
        """
        texts = ["a"] * 20 + ["too long"] * 12 + ["b"] * 100

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            given = seen.json()["input"]
            writer.write(json_answer({"error": {"message": "too long"}}, 500) if "too long" in given
                         else json_answer(embeddings(given)))  # fmt: skip

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(EmbedManyError) as caught:
                await client.embed_many(texts, batch_size=8)
            assert sorted(caught.value.refused) == list(range(20, 32))
            assert len(caught.value.vectors) == 120
            assert max(sizes(server)[-4:]) == 8

        with_server(act, script, max_retries=2)


class TestFailures:
    """What concerns every request."""

    @pytest.mark.parametrize(
        ("status", "kind"), [(401, AuthenticationError), (503, InternalServerError), (0, APIConnectionError)]
    )
    def test_the_finished_is_kept(self, status: int, kind: type[Exception]) -> None:
        """The first failure ends it; the finished vectors are on the error, and no further request is sent."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            texts = seen.json()["input"]
            if "late" not in texts:
                writer.write(json_answer(embeddings(texts)))
            elif status:
                writer.write(refusal(status))
            else:
                writer.close()

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(EmbedManyError, match="stopped") as caught:
                await client.embed_many([*TEXTS[:20], "late", *TEXTS], batch_size=5)
            error = caught.value
            assert isinstance(error.__cause__, kind)
            assert error.__cause__.__notes__ == ["in the request for texts[20] to texts[24]"]
            assert (error.index, error.refused) == (None, {})
            assert set(error.vectors) >= set(range(20))
            assert error.side == error.__cause__.side  # type: ignore[attr-defined]
            assert len(server.seen) < 12

        with_server(act, script)

    def test_parts_are_retried(self) -> None:
        """A part that fails for a while is sent again, alone."""
        failed: list[Any] = []

        def refuse(texts: list[str]) -> int:
            if len(texts[0]) == 3 and len(failed) < 1:
                failed.append(texts)
                return 503
            return 0

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            texts = seen.json()["input"]
            writer.write(json_answer({}, 503, retry_after_ms="1") if refuse(texts) else json_answer(embeddings(texts)))

        async def act(client: Client, server: Scripted) -> None:
            answer = await client.embed_many(["a", "bb", "ccc", "dddd"], batch_size=1, max_retries=2)
            assert numbers(answer.vectors) == [[1.0, 1.0], [2.0, 1.0], [3.0, 1.0], [4.0, 1.0]]
            assert len(server.seen) == 5

        with_server(act, script)

    def test_limits_are_waited_for(self) -> None:
        """A 429 is not a failure, however often it occurs and whatever `max_retries` is; no request is given up."""
        refused: dict[str, int] = {}

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            texts = seen.json()["input"]
            count = refused[texts[0]] = refused.get(texts[0], 0) + 1
            slower = json_answer({"error": {"message": "slower"}}, 429, retry_after_ms="2")
            writer.write(slower if count <= 4 else json_answer(embeddings(texts)))

        async def act(client: Client, server: Scripted) -> None:
            texts = ["x" * number for number in range(1, 13)]
            answer = await client.embed_many(texts, batch_size=3)
            assert numbers(answer.vectors) == [vector(text) for text in texts]
            assert refused == {texts[first]: 5 for first in (0, 3, 6, 9)}

        with_server(act, script)

    def test_several_servers(self) -> None:
        """Batches go to each server of the client; one that refuses the key is left out, and nothing is lost."""

        async def main() -> None:
            async def keyless(seen: Seen, writer: asyncio.StreamWriter) -> None:
                writer.write(refusal(401))

            async with scripted(embedder(pause=0.01)) as one, scripted(embedder(pause=0.01)) as two:
                async with Client(api_base=[one.url, two.url], model="e", max_retries=0) as client:
                    answer = await client.embed_many(TEXTS, batch_size=5)
                    assert numbers(answer.vectors) == [vector(text) for text in TEXTS]
                    assert (one.peak, two.peak) == (2, 2)
            async with scripted(keyless) as one, scripted(embedder()) as two:
                async with Client(api_base=[one.url, two.url], model="e", max_retries=0) as client:
                    answer = await client.embed_many(TEXTS, batch_size=5)
                    assert numbers(answer.vectors) == [vector(text) for text in TEXTS]

        run(main())

    @pytest.mark.parametrize("lie", ["fewer", "none", "words"])
    def test_a_lying_server(self, lie: str) -> None:
        """A wrong number of vectors, or an invalid one, is an error: no text gets the vector of another."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            made = embeddings(seen.json()["input"])
            if lie == "words":
                made["data"][0]["embedding"] = ["a", "b"]
            else:
                del made["data"][1 if lie == "fewer" else 0 :]
            writer.write(json_answer(made))

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(EmbedManyError) as caught:
                await client.embed_many(["a", "b", "c"])
            assert isinstance(caught.value.__cause__, APIResponseValidationError)
            assert caught.value.side == "server"

        with_server(act, script)

    def test_cancelled(self) -> None:
        """Cancelled, it ends its requests at once; the client's places are free again."""

        async def act(client: Client, server: Scripted) -> None:
            task = asyncio.create_task(client.embed_many(TEXTS, batch_size=5))  # type: ignore[arg-type]
            while server.in_flight < 2:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client._calls.shared.limiter.used == 0

        with_server(act, embedder(pause=30.0))


class TestStream:
    """Rows as they come."""

    def test_rows_in_order(self) -> None:
        """Each text with its place and its vector; the stream tells usage and model on the way."""

        async def act(client: Client, server: Scripted) -> None:
            async with client.embed_many.stream(TEXTS, batch_size=10) as rows:
                seen = [(row.index, row.text, row.vector.tolist()) async for row in rows]
                assert rows.model == "e-1"
                assert rows.usage is not None
                assert rows.usage.total_tokens == sum(map(len, TEXTS))
            assert seen == [(index, text, vector(text)) for index, text in enumerate(TEXTS)]

        with_server(act)

    def test_no_more_is_read_than_needed(self) -> None:
        """An endless source: only so many texts are read ahead; leaving ends the requests and closes the source."""
        read: list[int] = []
        closed: list[bool] = []

        async def endless() -> AsyncIterator[str]:
            try:
                while True:
                    read.append(1)
                    yield "text"
            finally:
                closed.append(True)

        async def act(client: Client, server: Scripted) -> None:
            source = endless()
            async with client.embed_many.stream(source, batch_size=10, concurrency=2) as rows:
                async for row in rows:
                    if row.index == 34:
                        break
                assert len(read) <= 10 * 10
            async with asyncio.timeout(10):
                while server.in_flight:  # until the server sees that the connection is gone
                    await asyncio.sleep(0.001)
            await source.aclose()  # type: ignore[attr-defined]
            assert closed

        with_server(act)

    def test_refused_texts_have_no_row(self) -> None:
        """All others have, in order; the error comes after the last one."""

        async def act(client: Client, server: Scripted) -> None:
            seen: list[int] = []
            async with client.embed_many.stream(["a", "bad", "c", "d"], batch_size=2) as rows:
                with pytest.raises(EmbedManyError) as caught:
                    async for row in rows:
                        seen.append(row.index)
                assert list(rows.refused) == [1]
            assert seen == [0, 2, 3]
            assert caught.value.index == 1

        with_server(act, embedder(lambda texts: 400 if "bad" in texts else 0))

    def test_texts_before_a_failing_source(self) -> None:
        """What the source raises is passed on as it is, after the rows of the texts before it."""

        def source() -> Iterator[str]:
            yield from ["a", "b", "c", "d", "e"]
            raise KeyError("the database went away")

        async def act(client: Client, server: Scripted) -> None:
            seen: list[str] = []
            async with client.embed_many.stream(source(), batch_size=2) as rows:
                with pytest.raises(KeyError, match="went away"):
                    async for row in rows:
                        seen.append(str(row.text))
            assert seen == ["a", "b", "c", "d"]

        with_server(act)

    def test_it_is_entered_once(self) -> None:
        """Iterated without being entered, or entered twice: an error that says how."""

        async def act(client: Client, server: Scripted) -> None:
            stream = client.embed_many.stream(["a"])
            with pytest.raises(RuntimeError, match="async with"):
                await anext(stream)
            async with stream:
                pass
            with pytest.raises(RuntimeError, match="once"):
                async with stream:
                    pass
            await stream.close()
            assert server.seen == []

        with_server(act)


class TestArguments:
    """What is wrong is told before anything is sent, or with its index."""

    @pytest.mark.parametrize(
        ("texts", "params", "kind", "words"),
        [
            ("one text", {}, TypeError, "many texts, not a str"),
            ({"a": "b"}, {}, TypeError, "not a dict"),
            (b"ab", {}, TypeError, "not a bytes"),
            (["a", 3], {}, TypeError, r"texts\[1\] is a int"),
            (["a", b"x"], {}, TypeError, r"texts\[1\] is a bytes"),
            (["a", "\ud83d"], {}, ValueError, r"texts\[1\] holds half"),
            (3, {}, TypeError, "int"),
            (["a"], {"batch_size": 0}, ValueError, "batch_size"),
            (["a"], {"batch_tokens": True}, ValueError, "batch_tokens"),
            (["a"], {"concurrency": 1.5}, ValueError, "concurrency"),
            (["a"], {"dimension": 3}, TypeError, "dimension"),
            (["a"], {"input": "b"}, TypeError, "first argument"),
        ],
    )
    def test_wrong_arguments(self, texts: Any, params: dict[str, Any], kind: type[Exception], words: str) -> None:
        """A `TypeError` or `ValueError` that names what is wrong; no request."""

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(kind, match=words):
                await client.embed_many(texts, **params)
            assert server.seen == []

        with_server(act)

    def test_no_raw_answer(self) -> None:
        """Several requests have no raw answer: no such method there."""

        async def act(client: Client, server: Scripted) -> None:
            assert not hasattr(client.with_raw_response, "embed_many")

        with_server(act)


def test_against_the_demo_server() -> None:
    """The same vectors as one call gives; an empty text, which it refuses, is named."""
    with start_in_thread(serve(demo_app())) as server:

        async def main() -> None:
            async with Client(api_base=server.base_url, model="demo-embed") as client:
                texts = [f"text number {number}" for number in range(50)]
                whole = await client.embedding(texts)
                many = await client.embed_many(iter(texts), batch_size=8)
                assert numbers(many.vectors) == numbers(whole.vectors)
                assert many.usage is not None
                assert many.usage.total_tokens == whole.usage.total_tokens
                with pytest.raises(EmbedManyError, match=r"texts\[7\] was refused") as caught:
                    await client.embed_many([*texts[:7], "", *texts[7:]])
                assert len(caught.value.vectors) == 50

        run(main())
