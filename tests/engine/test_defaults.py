"""What the library adds to a request by itself, and a server refuses: it is taken back, once for each server."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import pytest

from conftest import run
from openaiasync import AsyncOpenAI, BadRequestError, Client, InternalServerError, StructuredOutputError
from scripted import Script, Seen, chunk, events, json_answer, scripted

HI: Any = [{"role": "user", "content": "hi"}]
NAMED: list[tuple[int, Any]] = [
    (400, {"error": {"message": "litellm.UnsupportedParamsError: Setting {'%s': 'x'} is not supported by ollama"}}),
    (400, {"error": {"message": "Unrecognized request argument supplied: %s", "param": None}}),
    (400, {"error": {"message": "Invalid value", "param": "%s"}}),
    (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "%s"], "msg": "Extra inputs are not permitted"}]}),
    (500, {"error": {"message": "TypeError: create() got an unexpected keyword argument '%s'"}}),
    (501, {"error": "%s is not implemented"}),
    (503, {"message": "backend failed: %s"}),
    (404, {"error": {"message": 'json: unknown field "%s"'}}),
]
IN_200 = (200, {"error": {"message": "Unsupported parameter: '%s'", "code": 400}})  # a whole object, not a stream
SILENT: list[tuple[int, Any]] = [(400, {"error": {"message": "Bad Request"}}), (422, ""), (501, {"detail": "no"})]


def named(refusal: tuple[int, Any], name: str) -> tuple[int, Any]:
    return refusal[0], json.loads(json.dumps(refusal[1]).replace("%s", name))


def vectors(seen: Seen) -> dict[str, Any]:
    """The answer in the format asked for."""
    sent = seen.json()
    texts = [sent["input"]] if isinstance(sent["input"], str) else sent["input"]
    numbers: Any = [1.0, 2.0]
    if sent.get("encoding_format") == "base64":
        numbers = base64.b64encode(struct.pack("<2f", 1.0, 2.0)).decode()
    data = [{"object": "embedding", "index": n, "embedding": numbers} for n in range(len(texts))]
    return {"object": "list", "model": "e", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}


def words(seen: Seen) -> bytes:
    """A stream, with usage where it is asked for."""
    made = [chunk("Hel"), chunk("lo."), chunk(finish="stop")]
    if (seen.json().get("stream_options") or {}).get("include_usage"):
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        made.append({**chunk(), "choices": [], "usage": usage})
    return events(made)


def refusing(name: str, refusal: tuple[int, Any]) -> Script:
    """A server that refuses any request with the field `name`."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if name in seen.json():
            writer.write(json_answer(refusal[1], refusal[0]))
        else:
            writer.write(json_answer(vectors(seen)) if "input" in seen.json() else words(seen))

    return script


class TestBase64:
    """Embeddings are asked for as base64, which nobody named."""

    @pytest.mark.parametrize("refusal", [*NAMED, *SILENT], ids=range(len(NAMED) + len(SILENT)))
    @pytest.mark.parametrize("official", [False, True])
    def test_it_is_taken_back(self, refusal: tuple[int, Any], official: bool) -> None:
        """At once, as no retry, whatever the status; and never asked for again."""

        async def main() -> None:
            async with scripted(refusing("encoding_format", named(refusal, "encoding_format"))) as server:
                client: Any = (
                    AsyncOpenAI(base_url=server.url, api_key="k")
                    if official
                    else Client(api_base=server.url, model="e")
                )
                async with client:
                    raw = await client.embeddings.with_raw_response.create(input="a", model="e")
                    assert (raw.retries_taken, raw.status_code) == (0, 200)
                    assert raw.parse().data[0].embedding == [1.0, 2.0]
                    assert [len(server.seen), "encoding_format" in server.seen[1].json()] == [2, False]
                    answer = await client.embeddings.create(input=["a", "b"], model="e")
                    assert [view.tolist() for view in answer.vectors] == [[1.0, 2.0]] * 2
                    again = await client.with_options(max_retries=0).embedding("c", model="e")
                    assert (again.data[0].embedding, again.meta.tries) == ([1.0, 2.0], 1)
                    assert len((await client.embed_many(["d", "e"], model="e")).vectors) == 2
                    assert [("encoding_format" in seen.json()) for seen in server.seen] == [True, *[False] * 4]

        run(main())

    def test_the_callers_own_word_is_not_taken_back(self) -> None:
        """What the caller names is the caller's: the refusal is an error, in whichever way it was named."""

        async def main() -> None:
            refusal = (400, {"error": {"message": "no encoding_format"}})
            async with scripted(refusing("encoding_format", refusal)) as server:
                async with Client(api_base=server.url, model="e") as client:
                    for named in ({"encoding_format": "base64"}, {"extra_body": {"encoding_format": "float"}}):
                        with pytest.raises(BadRequestError):
                            await client.embedding("a", **named)
                    assert len(server.seen) == 2
                    assert server.seen[1].json()["encoding_format"] == "float"

        run(main())

    def test_another_cause_is_its_own_error(self) -> None:
        """A refusal that names something else comes at once; one that names nothing is tried without it once."""

        async def main() -> None:
            refusal: dict[str, Any] = {"message": "bad parameter", "param": "model"}

            async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
                writer.write(json_answer({"error": refusal}, 400))

            async with scripted(script) as server, Client(api_base=server.url, model="e") as client:
                for expected in (1, 2):
                    with pytest.raises(BadRequestError):
                        await client.embedding("a")
                    assert len(server.seen) == expected
                del refusal["param"]
                for expected in (4, 5, 6):
                    with pytest.raises(BadRequestError) as caught:
                        await client.embedding("a")
                    assert len(server.seen) == expected
                    assert caught.value.tries == 1
                assert "encoding_format" in server.seen[-1].json()  # it was not the cause

        run(main())

    def test_each_server_is_asked_for_itself(self) -> None:
        """What one refuses, another may take; a client made from this one knows what it knows."""

        async def main() -> None:
            refusal = (400, {"error": {"message": "encoding_format?"}})
            async with scripted(refusing("encoding_format", refusal)) as one, scripted(refusing("x", refusal)) as other:
                async with Client(api_base=one.url, model="e") as client:
                    await client.embedding("a")
                    there = client.with_options(base_url=other.url)
                    assert (await there.embedding("a")).data[0].embedding == [1.0, 2.0]
                    assert other.seen[0].json()["encoding_format"] == "base64"
                    await client.with_options(timeout=5.0).embedding("a")
                    assert len(one.seen) == 3

        run(main())

    def test_a_5xx_that_says_nothing_is_retried_as_ever(self) -> None:
        """It may be anything: the retry policy has it, with the same request."""

        async def main() -> None:
            refusal = (500, {"error": {"message": "internal error"}})
            async with scripted(refusing("encoding_format", refusal)) as server:
                async with Client(api_base=server.url, model="e", max_retries=1) as client:
                    with pytest.raises(InternalServerError):
                        await client.embedding("a")
                    assert [("encoding_format" in seen.json()) for seen in server.seen] == [True, True]

        run(main())


class TestUsage:
    """Streams of every server are asked for usage, which nobody named."""

    @pytest.mark.parametrize("refusal", [*NAMED, IN_200, *SILENT], ids=range(1 + len(NAMED) + len(SILENT)))
    def test_it_is_taken_back(self, refusal: tuple[int, Any]) -> None:
        """In every kind of stream that asks for it."""

        async def main() -> None:
            async with scripted(refusing("stream_options", named(refusal, "stream_options"))) as server:
                async with Client(api_base=server.url, model="m") as client:
                    stream = client.chat.stream("hi")
                    assert (await stream.final()).text == "Hello."
                    assert stream.meta.tries == 1
                    assert (await client.chat.session().stream("hi").final()).text == "Hello."
                    assert (await client.chat.stream_tools("hi", tools=[]).final()).text == "Hello."
                    assert ["stream_options" in seen.json() for seen in server.seen] == [True, False, False, False]

        run(main())

    def test_every_server_is_asked(self) -> None:
        """Its count is in the answer, and a loop that takes the first choice of each chunk does not stumble."""

        async def main() -> None:
            async with scripted(refusing("x", (400, ""))) as server, Client(api_base=server.url, model="m") as client:
                said = ""
                async with client.chat.stream("hi") as stream:
                    async for piece in stream:
                        said += piece.choices[0].delta.content or ""
                answer = await stream.final()
                assert said == answer.text == "Hello."
                assert answer.usage is not None
                assert answer.usage.total_tokens == 9
                session = client.chat.session()
                reply = await session.stream("hi").final()
                assert reply.usage is not None
                assert (session.usage.prompt_tokens, session.usage.estimated) == (7, 0)
                vision = await client.vision.stream("http://pictures/a.png", "what?").final()
                assert vision.usage is not None
                assert all(seen.json()["stream_options"] == {"include_usage": True} for seen in server.seen)

        run(main())

    @pytest.mark.parametrize(
        "given",
        [
            {"stream_options": {"include_usage": False}},
            {"stream_options": None},
            {"extra_body": {"stream_options": {"include_obfuscation": False}}},
        ],
    )
    def test_the_callers_own_word_wins(self, given: dict[str, Any]) -> None:
        """Whatever it is, in whichever way."""

        async def main() -> None:
            async with scripted(refusing("x", (400, ""))) as server, Client(api_base=server.url, model="m") as client:
                await client.chat.stream("hi", **given).final()
                named = given.get("extra_body", given)
                assert server.seen[0].json().get("stream_options") == named["stream_options"]

        run(main())

    def test_the_usage_that_a_caller_asks_for_is_a_chunk(self) -> None:
        """As the API sends it, last and without a choice."""

        async def main() -> None:
            async with scripted(refusing("x", (400, ""))) as server, Client(api_base=server.url, model="m") as client:
                async with client.chat.stream("hi", stream_options={"include_usage": True}) as stream:
                    chunks = [piece async for piece in stream]
                assert chunks[-1].choices == []
                assert chunks[-1].usage is not None

        run(main())

    @pytest.mark.parametrize("official", [False, True])
    def test_the_official_method_adds_nothing(self, official: bool) -> None:
        """`create(stream=True)` sends what the caller gave, and shows what the server sent."""

        async def main() -> None:
            async with scripted(refusing("x", (400, ""))) as server:
                client: Any = AsyncOpenAI(base_url=server.url, api_key="k") if official else Client(api_base=server.url)
                async with client:
                    stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
                    assert [len(piece.choices) async for piece in stream] == [1, 1, 1]
                    assert "stream_options" not in server.seen[0].json()

        run(main())


def test_an_observer_is_told_of_both_requests() -> None:
    """Hooks see the refusal and the answer of one call."""

    async def main() -> None:
        told: list[Any] = []
        refusal = (400, {"error": {"message": "encoding_format?"}})
        async with scripted(refusing("encoding_format", refusal)) as server:
            async with Client(api_base=server.url, model="e", on_answer=told.append) as client:
                assert (await client.embedding("a")).data[0].embedding == [1.0, 2.0]
        assert len(told) == 1
        assert len(server.seen) == 2

    run(main())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_500_that_names_the_format_is_not_repeated(streamed: bool) -> None:
    """llama-cpp-python: the next way to ask for JSON is tried at once, and remembered."""

    async def main() -> None:
        text = (
            "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text' or "
            "'json_object'\", 'input': 'json_schema', 'ctx': {'expected': \"'text' or 'json_object'\"}}]"
        )
        error = {"message": text, "type": "internal_server_error", "param": None, "code": None}

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            sent = seen.json()
            if (sent.get("response_format") or {}).get("type") == "json_schema":
                writer.write(json_answer({"error": error}, 500))
            elif sent.get("stream"):
                writer.write(events([chunk("[1, "), chunk("2]"), chunk(finish="stop")]))
            else:
                message = {"role": "assistant", "content": "[1, 2]"}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                made = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
                writer.write(json_answer(made))

        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            for count in (2, 3):
                if streamed:
                    reply: Any = await client.chat.stream_parse("numbers?", into=list[int]).final()
                else:
                    reply = await client.chat.parse("numbers?", into=list[int])
                assert reply.parsed == [1, 2]
                assert len(server.seen) == count

    run(main())


@pytest.mark.parametrize("form", ["error", "object"])
def test_a_refusal_in_a_200_is_one(form: str) -> None:
    """LM Studio answers 200 before it looks: whole, and as the first event of a stream."""

    def refusal(name: str) -> Any:
        text = f"unsupported parameter: {name}"
        return {"error": {"message": text}} if form == "error" else {"object": "error", "message": text, "code": 400}

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        sent = seen.json()
        if "encoding_format" in sent:
            writer.write(json_answer(refusal("encoding_format")))
        elif "stream_options" in sent:
            writer.write(events([refusal("stream_options")], done=False))
        elif "response_format" in sent:
            writer.write(events([refusal("response_format")], done=False))
        elif "input" in sent:
            writer.write(json_answer(vectors(seen)))
        else:
            writer.write(words(seen))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            for count in (2, 3):
                assert (await client.embedding("a")).data[0].embedding == [1.0, 2.0]
                assert len(server.seen) == count
            for count in (5, 6):
                assert (await client.chat.stream("hi").final()).text == "Hello."
                assert len(server.seen) == count
            with pytest.raises(StructuredOutputError):
                await client.chat.stream_parse("hi", into=int, repair=0).final()
            assert [("response_format" in seen.json()) for seen in server.seen[6:]] == [True, True, False]

    run(main())
