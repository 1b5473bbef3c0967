"""Mission methods and official names side by side: what may be said, what is refused, what comes back."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from typing import Any

import pytest

from conftest import run
from openaiasync import (
    APIError,
    APIResponseValidationError,
    AuthenticationError,
    BadRequestError,
    Client,
    ClientClosedError,
    ConfigurationError,
    InternalServerError,
    NotFoundError,
    RequestOptions,
    omit,
)
from openaiasync.demo import demo_app
from openaiasync.server import serve
from scripted import CHAT, Seen, chat, json_answer, scripted

MODELS = {"chat": "demo-chat", "completion": "demo-complete", "embedding": "demo-embed"}
HI = [{"role": "user", "content": "Hello"}]


class TestForms:
    """First positional, keywords, a whole request."""

    @pytest.mark.parametrize(
        ("args", "params"),
        [
            (("hi",), {"model": "m"}),
            (([{"role": "user", "content": "hi"}],), {"model": "m"}),
            (({"messages": [{"role": "user", "content": "hi"}], "model": "m"},), {}),
            (({"messages": [{"role": "user", "content": "hi"}], "model": "other"},), {"model": "m"}),
            (({"messages": "hi", "model": "m", "stream": False},), {}),
            ((), {"messages": "hi", "model": "m"}),
        ],
    )
    def test_one_request_said_in_many_ways(self, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        """Text, messages, a dict, keywords: the server sees the same."""

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url) as client:
                await client.chat(*args, **params)
                assert server.seen[0].json() == {"messages": [{"role": "user", "content": "hi"}], "model": "m"}
                async with client.chat.stream(*args, **params) as stream:
                    assert (await stream.final()).text == "Hello."
                assert server.seen[1].json()["stream"] is True

        run(main())

    @pytest.mark.parametrize(
        ("args", "params", "what"),
        [
            (("hi",), {"model": "m", "temprature": 1}, "'temprature'; did you mean 'temperature'"),
            (({"messages": "hi", "modle": "m"},), {}, "'modle'; did you mean 'model'"),
            (("hi",), {}, "required parameter 'model'"),
            ((), {"model": "m"}, "required parameter 'messages'"),
            (("hi",), {"model": "m", "stream": True}, r"client\.chat\.stream"),
            (({"role": "user", "content": "hi"},), {"model": "m"}, "put a single message into a list"),
            ((b"hi",), {"model": "m"}, "not bytes"),
        ],
    )
    def test_mistakes_are_named_before_anything_is_sent(
        self, args: tuple[Any, ...], params: dict[str, Any], what: str
    ) -> None:
        """`TypeError` with the name, the nearest name, or the method to use."""

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url) as client:
                with pytest.raises(TypeError, match=what):
                    await client.chat(*args, **params)
                assert server.seen == []

        run(main())

    def test_an_answer_goes_back_as_a_message(self) -> None:
        """What the model said can be put into the next request as it is."""

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, model="m") as client:
                first = await client.chat("hi")
                assert first.message is not None
                await client.chat(
                    [{"role": "user", "content": "hi"}, first.message, {"role": "user", "content": "so?"}]
                )
                assert server.seen[1].json()["messages"][1] == {"role": "assistant", "content": "Hello."}

        run(main())

    def test_per_call_options(self) -> None:
        """Extra header fields, query and body are added; a header field that is omitted goes away."""

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, api_key="k", model="m") as client:
                options: RequestOptions = {
                    "extra_headers": {"X-Mine": "1", "User-Agent": omit, "Authorization": "Bearer other"},
                    "extra_query": {"q": "a b"},
                    "extra_body": {"top_k": 3},
                }
                answer = await client.chat("hi", **options)
                seen = server.seen[0]
                assert seen.headers["x-mine"] == "1"
                assert "user-agent" not in seen.headers
                assert seen.headers["authorization"] == "Bearer other"
                assert seen.target == "/v1/chat/completions?q=a%20b"
                assert seen.json()["top_k"] == 3
                assert answer.meta.url.endswith("?q=a%20b")
                for bad in ({"X": "a\r\nb"}, {"Content-Length": "3"}, {"a b": "c"}):
                    with pytest.raises(ConfigurationError):
                        await client.chat("hi", extra_headers=bad)
                assert len(server.seen) == 1

        run(main())


class TestAgainstTheBuiltInServer:
    """The whole of chat, completions, embeddings and models over a real socket."""

    def test_chat_and_its_facts(self) -> None:
        """Words, message, usage, and what is known of the call."""

        async def main() -> None:
            async with serve(demo_app()) as server, Client(api_base=server.base_url, model=MODELS) as client:
                answer = await client.chat("What is 17 * 23?")
                assert "391" in answer.text
                assert answer.message is not None
                assert answer.message.role == "assistant"
                assert answer.usage is not None
                assert answer.usage.total_tokens > 0
                assert answer.reasoning == ""
                meta = answer.meta
                assert (meta.status, meta.tries, meta.request_id is not None) == (200, 1, True)
                assert meta.rate_limits.requests.limit is not None
                assert meta.total >= meta.first_byte >= 0
                assert answer.to_dict() == json.loads(answer.to_json())
                again = pickle.loads(pickle.dumps(answer))
                assert again == answer == copy.deepcopy(answer)

        run(main())

    def test_embeddings(self) -> None:
        """Vectors by view and by list, the same whichever way they travelled; base64 by name stays text."""

        async def main() -> None:
            async with serve(demo_app()) as server, Client(api_base=server.base_url, model=MODELS) as client:
                texts = ["The cat sleeps.", "A cat is asleep.", "Stocks fell sharply."]
                answer = await client.embedding(texts, dimensions=64)
                assert [len(vector) for vector in answer.vectors] == [64] * 3
                floats = await client.embedding(texts, dimensions=64, encoding_format="float")
                for one, other in zip(answer.data, floats.data, strict=True):
                    assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
                named = await client.embedding(texts, dimensions=64, encoding_format="base64")
                assert isinstance(named.data[0].embedding, str)
                near, far = (
                    sum(a * b for a, b in zip(answer.vectors[0], answer.vectors[i], strict=True)) for i in (1, 2)
                )
                assert near > far

        run(main())

    def test_completions(self) -> None:
        """Whole and streamed, the words are the same."""

        async def main() -> None:
            async with serve(demo_app()) as server, Client(api_base=server.base_url, model=MODELS) as client:
                whole = await client.completion("Once upon a time", max_tokens=12)
                async with client.completion.stream("Once upon a time", max_tokens=12) as stream:
                    pieces = [piece.text async for piece in stream]
                assert "".join(pieces) == whole.text == stream.text == (await stream.final()).text
                assert len(pieces) > 3

        run(main())

    def test_models_and_official_names(self) -> None:
        """Listing by call, by `list`, by iteration; retrieval and its error."""

        async def main() -> None:
            async with serve(demo_app()) as server, Client(api_base=server.base_url, model=MODELS) as client:
                ids = [model.id for model in (await client.models()).data]
                assert ids == [model.id async for model in client.models.list()]
                assert (await client.models.retrieve(ids[0])).id == ids[0]
                with pytest.raises(NotFoundError) as caught:
                    await client.models.retrieve("a/b c")
                assert caught.value.request.url.endswith("/models/a%2Fb%20c")
                with pytest.raises(ValueError, match="non-empty"):
                    await client.models.retrieve("")

        run(main())

    def test_stored_completions(self) -> None:
        """create, retrieve, update, list in pages, messages, delete, under the official names."""

        async def main() -> None:
            async with serve(demo_app()) as server, Client(api_base=server.base_url, model=MODELS) as client:
                api = client.chat.completions
                made = [
                    await api.create(messages=HI, model="demo-chat", store=True, metadata={"n": str(n)})
                    for n in range(5)
                ]
                assert (await api.retrieve(made[0].id)).id == made[0].id
                await api.update(made[0].id, metadata={"n": "zero"})
                page = await api.list(limit=2)
                assert page.has_next_page()
                assert len(page.data) == 2
                follow = await page.get_next_page()
                assert follow.data[0].id != page.data[0].id
                assert sorted([item.id async for item in api.list(limit=2)]) == sorted(item.id for item in made)
                messages = [message async for message in api.messages.list(made[0].id)]
                assert messages[0].content == "Hello"
                assert (await api.delete(made[0].id)).deleted
                with pytest.raises(NotFoundError):
                    await api.retrieve(made[0].id)

        run(main())

    def test_bad_requests_come_back_as_typed_errors(self) -> None:
        """The server's error objects arrive with class, param, code and the request that caused them."""

        async def main() -> None:
            async with serve(demo_app(api_key="right", strict=True)) as server:
                async with Client(api_base=server.base_url, model=MODELS, api_key="right") as client:
                    with pytest.raises(BadRequestError) as bad:
                        await client.chat("hi", temperature="hot")  # type: ignore[arg-type]
                    assert bad.value.param == "temperature"
                    with pytest.raises(NotFoundError) as unknown:
                        await client.chat("hi", model="nope")
                    assert unknown.value.code == "model_not_found"
                    assert json.loads(unknown.value.request.content)["model"] == "nope"
                async with Client(api_base=server.base_url, model=MODELS, api_key="sk-wrong-key") as client:
                    with pytest.raises(AuthenticationError) as wrong:
                        await client.chat("hi")
                    assert "sk-wrong-key" not in repr(vars(wrong.value)) + str(wrong.value)

        run(main())


class TestLyingServers:
    """2xx responses that are not answers."""

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            (b"", APIResponseValidationError),
            (b"null", APIResponseValidationError),
            (b"[]", APIResponseValidationError),
            (b'"hello"', APIResponseValidationError),
            (b"<html>busy</html>", APIResponseValidationError),
            (b'{"id": ', APIResponseValidationError),
            (b"\xff\xfe{}", APIResponseValidationError),
            (b"[" * 100_000, APIResponseValidationError),
            (b'{"created": ' + b"1" * 5000 + b"}", APIResponseValidationError),
            (b'{"error": {"message": "out of memory", "type": "server_error"}}', APIError),
            (b'{"object": "error", "message": "out of memory", "code": 500}', APIError),
            (b'{"error": "out of memory"}', APIError),
        ],
    )
    def test_no_object_no_answer(self, body: bytes, error: type[Exception]) -> None:
        """Whatever comes in an answer's place is a typed error with the body in it, never a str or None."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url, model="m", max_retries=0) as client:
                with pytest.raises(error) as caught:
                    await client.chat("hi")
                assert type(caught.value) is error
                if b"memory" in body:
                    assert "out of memory" in str(caught.value)
                assert len(str(caught.value)) < 1500

        run(main())

    def test_an_empty_list_of_embeddings_is_an_error(self) -> None:
        """It is a `ValueError` too, as with the official client."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({"object": "list", "data": [], "model": "m"}))

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
                with pytest.raises(ValueError, match="no embedding") as caught:
                    await client.embedding("hi")
                assert isinstance(caught.value, APIResponseValidationError)

        run(main())

    @pytest.mark.parametrize("body", [b"", b"<html>oops</html>", b"\xff\xfe", b'{"detail": [{"msg": "bad"}]}', b"busy"])
    def test_error_bodies_of_every_kind(self, body: bytes) -> None:
        """HTML, nothing, other bytes, other dialects: always the class of the status, and a readable message."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(f"HTTP/1.1 500 Oops\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url, model="m", max_retries=0) as client:
                with pytest.raises(InternalServerError) as caught:
                    await client.chat("hi")
                assert str(caught.value).startswith("500 from POST http://127.0.0.1")
                assert "<html>" not in str(caught.value)

        run(main())


class TestTheEnd:
    """Closing."""

    def test_closing_ends_calls_under_way(self) -> None:
        """Calls in flight, in line and in a pause end with `ClientClosedError`; later ones too."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if b"pause" in seen.body:
                writer.write(json_answer({}, 503, Retry_After="60"))
            else:
                await asyncio.sleep(3600)

        async def main() -> None:
            async with scripted(script) as server:
                client = Client(api_base=server.url, model="m", http_max_in_flight=2)
                calls = [
                    asyncio.create_task(client.chat(text)) for text in ("pause", "wait", "wait", "in line", "in line")
                ]
                await asyncio.sleep(0.2)
                assert len(server.seen) == 3, "one pauses and holds no slot"
                await client.aclose()
                ends = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
                assert [type(end) for end in ends] == [ClientClosedError] * 5
                with pytest.raises(ClientClosedError):
                    await client.chat("late")
                assert client.is_closed()
                await client.aclose()

        run(main())

    def test_options_make_relatives(self) -> None:
        """`with_options` shares connections and places, changes what it names, and knows both vocabularies."""

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, model="m") as client:
                other = client.with_options(model="other", http_user_agent="x/1")
                official = client.copy(default_headers={"X-A": "1"}, default_query={"v": "2"}, max_retries=0)
                await client.chat("hi")
                await other.chat("hi")
                await official.chat("hi")
                assert server.connections == 1
                assert [seen.json()["model"] for seen in server.seen] == ["m", "other", "m"]
                assert server.seen[1].headers["user-agent"] == "x/1"
                assert server.seen[2].headers["x-a"] == "1"
                assert server.seen[2].target.endswith("?v=2")
                with pytest.raises(TypeError, match="did you mean 'max_retries'"):
                    client.with_options(max_retry=1)
                with pytest.raises(ConfigurationError, match="make a new client"):
                    client.with_options(http_max_in_flight=3)

        run(main())

    def test_a_cancelled_call_frees_everything(self) -> None:
        """The server sees the connection go, the place is free at once."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if len(server_seen) > 1:
                await chat(seen, writer)
            else:
                server_seen.append(seen)
                await asyncio.sleep(3600)

        server_seen: list[Seen] = []

        async def main() -> None:
            async with scripted(script) as server:
                async with Client(api_base=server.url, model="m", http_max_in_flight=1) as client:
                    task = asyncio.create_task(client.chat("hi"))
                    await asyncio.sleep(0.1)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    server_seen.append(server.seen[0])
                    assert (await asyncio.wait_for(client.chat("hi"), 5)).text == CHAT["choices"][0]["message"][
                        "content"
                    ]  # type: ignore[index]

        run(main())
