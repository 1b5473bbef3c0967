"""Streams and whole answers in each other's place, choices numbered in any way, and ends that say nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from conftest import run
from openaiasync import APIError, AsyncOpenAI, Client, IncompleteStreamError
from openaiasync.types.chat import ChatCompletionChunk
from scripted import CHAT, LAST_CHUNK, STREAM_HEAD, Seen, answer, chunk, event, events, head, json_answer, scripted

HI: Any = [{"role": "user", "content": "hi"}]
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
WITH_CALL: Any = {
    **CHAT,
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    "speed": 7,
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]},
        }
    ],
}
MESSAGE = {
    "type": "message", "id": "m", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "Hello.", "annotations": []}],
}  # fmt: skip
RESPONSE = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": [MESSAGE]}


def sends(raw: bytes) -> Any:
    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        writer.close()

    return script


def play(raw: bytes, act: Any, kind: Any = Client, **options: Any) -> Any:
    """What `act` makes of a client whose server answers every request with these bytes."""
    if kind is Client:
        options = {"model": "m", **options}

    async def main() -> Any:
        async with scripted(sends(raw)) as server:
            base = {"api_base": server.url} if kind is Client else {"base_url": server.url, "api_key": "k"}
            async with kind(**base, max_retries=0, **options) as client:
                try:
                    return await act(client)
                finally:
                    assert client._calls.shared.limiter.used == 0

    return run(main())


def data(*values: Any, done: bool = True) -> bytes:
    rows = [f"data: {json.dumps(value)}\n\n" for value in values] + ["data: [DONE]\n\n"] * done
    return "".join(rows).encode()


LABELS = ["application/json", "text/event-stream", "text/plain"]


class TestAWholeObjectInTheStreamsPlace:
    """One chunk and the final answer."""

    @pytest.mark.parametrize("label", LABELS)
    @pytest.mark.parametrize("wrapped", [False, True])
    def test_chat(self, label: str, wrapped: bool) -> None:
        """By every method that streams, as it is or inside one event: the same answer as if it had been asked for."""
        body = data(WITH_CALL) if wrapped else json.dumps(WITH_CALL).encode()
        raw = answer(body, content_type=label)

        async def live(client: Any) -> Any:
            async with client.chat.stream("hi") as stream:
                chunks = [one async for one in stream]
                assert len(chunks) == 1
                assert type(chunks[0]) is ChatCompletionChunk
                assert chunks[0].choices[0].delta.tool_calls[0].function.name == "f"
                assert stream.meta.complete
                return await stream.final()

        async def official(client: Any) -> Any:
            async with client.chat.completions.stream(messages=HI, model="m") as stream:
                kinds = [one.type async for one in stream]
                assert "tool_calls.function.arguments.done" in kinds
                return await stream.get_final_completion()

        for act in (live, official):
            got = play(raw, act)
            whole = got.to_dict()
            assert whole["choices"][0]["message"]["tool_calls"] == [CALL]
            assert whole["choices"][0]["finish_reason"] == "tool_calls"
            assert (got.reasoning, got.usage.total_tokens, whole["speed"]) == ("hm", 3, 7)

    @pytest.mark.parametrize("label", LABELS)
    def test_chat_without_a_finish_reason(self, label: str) -> None:
        """A whole object is complete as it stands, also where it ends with its connection."""
        whole = {**CHAT, "choices": [{**CHAT["choices"][0], "finish_reason": None}]}  # type: ignore[index]
        raw = head(Content_Type=label) + json.dumps(whole).encode()

        async def act(client: Any) -> Any:
            stream = await client.chat.completions.create(messages=HI, model="m", stream=True)
            texts = [one.text async for one in stream]
            return texts, stream.meta.complete

        assert play(raw, act) == (["Hello."], True)

    def test_completions(self) -> None:
        """The legacy endpoint's chunks are whole answers anyway."""
        whole = {"id": "c", "object": "text_completion", "created": 1, "model": "m",
                 "choices": [{"index": 0, "text": "Hello.", "finish_reason": "stop", "logprobs": None}]}  # fmt: skip

        async def act(client: Any) -> Any:
            return [one.text async for one in await client.completions.create(prompt="hi", model="m", stream=True)]

        assert play(json_answer(whole), act) == ["Hello."]

    def test_responses(self) -> None:
        """The texts as deltas, and the terminal event with the response."""

        async def plain(client: Any) -> Any:
            stream = await client.responses.create(input="hi", model="m", stream=True)
            return [(one.type, getattr(one, "delta", None)) async for one in stream]

        async def helper(client: Any) -> Any:
            async with client.responses.stream(input="hi", model="m") as stream:
                return (await stream.get_final_response()).output_text

        kinds = [("response.output_text.delta", "Hello."), ("response.completed", None)]
        assert play(json_answer(RESPONSE), plain) == kinds
        assert play(json_answer(RESPONSE), helper) == "Hello."
        stopped = json_answer(
            {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        )
        assert play(stopped, plain)[-1] == ("response.incomplete", None)

    def test_images_and_transcripts(self) -> None:
        """Each picture completed; the text of a recording."""

        async def image(client: Any) -> Any:
            stream = await client.images.generate(prompt="a cat", model="m", stream=True)
            return [(one.type, one.b64_json) async for one in stream]

        async def speech(client: Any) -> Any:
            stream = await client.audio.transcriptions.create(file=("a.wav", b"RIFF"), model="m", stream=True)
            return [(one.type, one.text) async for one in stream]

        picture = json_answer({"created": 1, "data": [{"b64_json": "aGk="}]})
        assert play(picture, image) == [("image_generation.completed", "aGk=")]
        assert play(json_answer({"text": "Hello."}), speech) == [("transcript.text.done", "Hello.")]

    def test_a_list_of_chunks(self) -> None:
        """As some servers stream: one JSON array."""

        async def act(client: Any) -> Any:
            return await client.chat.stream("hi").final()

        assert play(json_answer([chunk("Hel"), chunk("lo."), chunk(finish="stop")]), act).text == "Hello."

    def test_a_session_keeps_it(self) -> None:
        """A session that streams stores the turn."""

        async def act(client: Any) -> Any:
            session = client.chat.session()
            async with session.stream("hi") as stream:
                pieces = [piece.text async for piece in stream]
            return pieces, session.messages

        pieces, messages = play(json_answer(CHAT), act)
        assert pieces == ["Hello."]
        assert messages[-1] == {"role": "assistant", "content": "Hello."}


class TestEventsInAWholeAnswersPlace:
    """They are put together, whatever they are labelled as."""

    @pytest.mark.parametrize("label", [*LABELS, "application/x-ndjson", ""])
    def test_chat(self, label: str) -> None:
        """Chunks are added up; one event that is the whole answer is it."""

        async def act(client: Any) -> Any:
            return await client.chat("hi")

        for body in (
            data(chunk("Hel"), chunk("lo."), chunk(finish="stop")),
            data(chunk("Hel"), chunk("lo."), chunk(finish="stop"), done=False).removesuffix(b"\n\n"),
            data(CHAT),
            data(CHAT, done=False),
            b": ping\n\ndata:\n\nevent: ping\ndata: {}\n\n" + data(CHAT),
        ):
            assert play(answer(body, content_type=label), act).text == "Hello.", body

    def test_other_operations(self) -> None:
        """Whatever answers, one event holds it: responses, embeddings, models; pages too."""
        vectors = {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}]}
        models = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]}

        async def response(client: Any) -> Any:
            return (await client.responses.create(input="hi", model="m")).output_text

        async def embedding(client: Any) -> Any:
            return (await client.embedding("hi")).data[0].embedding

        async def page(client: Any) -> Any:
            return (await client.models.list()).data[0].id

        assert play(answer(data(RESPONSE)), response) == "Hello."
        assert play(answer(data(vectors)), embedding) == [1.0]
        assert play(answer(data(models)), page) == "m"

    @pytest.mark.parametrize("output", [[], None, ...])
    def test_a_response_whose_output_was_streamed(self, output: Any) -> None:
        """Items and texts that came stand in for an output that the terminal event leaves out."""
        last = (
            {**RESPONSE, "output": output} if output is not ... else {k: RESPONSE[k] for k in RESPONSE if k != "output"}
        )
        delta = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "m"}
        texts = [{**delta, "delta": "Hel"}, {**delta, "delta": "lo."}]
        item = {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE}

        async def act(client: Any) -> Any:
            return (await client.responses.create(input="hi", model="m")).output_text

        for came in ([*texts, item], texts, [item]):
            assert play(answer(data(*came, {"type": "response.completed", "response": last})), act) == "Hello."

    def test_errors_and_cuts_raise(self) -> None:
        """The error is the one of the stream, with the received part."""

        async def act(client: Any) -> Any:
            return await client.chat("hi")

        for body, kind, words in (
            (data(chunk("Hel"), {"error": {"message": "out of luck", "code": "503"}}), APIError, "out of luck"),
            (data(chunk("Hel"), done=False), IncompleteStreamError, "before its answer was complete"),
            (data(chunk("Hel"), done=False) + b"out of luck\n", IncompleteStreamError, "out of luck"),
            (b"event: error\ndata: out of luck\n\n", APIError, "out of luck"),
            (data({"error": {"message": "out of luck"}}), APIError, "out of luck"),
            (data(), IncompleteStreamError, "complete"),
        ):
            with pytest.raises(APIError, match=words) as caught:
                play(answer(body), act)
            assert type(caught.value) is kind, body
            if body.startswith(data(chunk("Hel"), done=False)):
                assert caught.value.partial.text == "Hel"

    def test_a_streams_end_without_a_finish_reason(self, caplog: pytest.LogCaptureFixture) -> None:
        """The answer says that it may be short; a turn and `strict` refuse it."""
        raw = answer(data(chunk("Hel")), content_type="text/event-stream")

        async def act(client: Any) -> Any:
            return await client.chat("hi")

        async def turn(client: Any) -> Any:
            return await client.chat.session().say("hi")

        got = play(raw, act)
        assert (got.text, got.meta.complete) == ("Hel", False)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        for one, options in ((turn, {}), (act, {"strict": True})):
            with pytest.raises(IncompleteStreamError):
                play(raw, one, **options)


def numbered(*indices: Any) -> list[dict[str, Any]]:
    chunks = [chunk(text) for text in ("He", "l", "lo.")] + [chunk(finish="stop")]
    for one, index in zip(chunks, indices, strict=True):
        if index is ...:
            del one["choices"][0]["index"]
        else:
            one["choices"][0]["index"] = index
    return chunks


class TestNumbersOfChoices:
    """Where one was asked for all is choice 0; elsewhere texts are numbers."""

    @pytest.mark.parametrize(
        "indices",
        [
            (0, 1, 2, 3),
            (1, 1, 1, 1),
            ("0",) * 4,
            ("1", "2", 3, None),
            (None,) * 4,
            (..., ..., ..., 0),
            (7, 0, -1, 0),
            (1.0,) * 4,
        ],
    )
    @pytest.mark.parametrize("done", [True, False])
    def test_of_one_choice(self, indices: tuple[Any, ...], done: bool) -> None:
        """In chunks, the live text, the final answer, the official helper, a session and a whole answer."""
        raw = events(numbered(*indices), done=done)

        async def live(client: Any) -> Any:
            async with client.chat.stream("hi") as stream:
                texts = [one.text async for one in stream]
                assert stream.text == "".join(texts)
                got = await stream.final()
                assert [one.index for one in got.choices] == [0]
                assert stream.meta.complete
                return got.text

        async def official(client: Any) -> Any:
            async with client.chat.completions.stream(messages=HI, model="m") as stream:
                done = [one.content async for one in stream if one.type == "content.done"]
                assert done == ["Hello."]
                return (await stream.get_final_completion()).text

        async def session(client: Any) -> Any:
            talk = client.chat.session()
            async with talk.stream("hi") as stream:
                return "".join([piece.text async for piece in stream])

        async def whole(client: Any) -> Any:
            return (await client.chat("hi")).text

        for act in (live, official, session, whole):
            assert play(raw, act) == "Hello.", act

    def test_of_a_completion(self) -> None:
        """One prompt, of text or of tokens, is one choice; also in a whole answer."""

        def part(text: str, index: Any, finish: str | None = None) -> dict[str, Any]:
            choice = {"index": index, "text": text, "finish_reason": finish, "logprobs": None}
            return {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}

        raw = events([part("Hel", 0), part("lo.", 1), part("", "2", "stop")])
        for prompt in ("hi", ["hi"], [1, 2, 3], [[1, 2, 3]]):

            async def streamed(client: Any, prompt: Any = prompt) -> Any:
                return "".join(
                    [one.text async for one in await client.completions.create(prompt=prompt, stream=True, model="m")]
                )

            assert play(raw, streamed) == "Hello."

        async def whole(client: Any) -> Any:
            return (await client.completions.create(prompt="hi", model="m")).text

        for index in (0, 1, "0", "1", None):
            assert play(json_answer(part("Hello.", index, "stop")), whole) == "Hello."

    @pytest.mark.parametrize("kind", [int, str])
    def test_of_two_choices(self, kind: Any) -> None:
        """Numbers as texts tell them apart all the same, in any order; the first one is the text."""
        texts = [("B", 1), ("He", 0), ("llo.", 0), ("ye.", 1)]
        chunks = [chunk(text, index=kind(index)) for text, index in texts]
        chunks += [chunk(finish="stop", index=kind(index)) for index in (1, 0)]

        async def live(client: Any) -> Any:
            async with client.chat.stream("hi", n=2) as stream:
                texts = [one.text async for one in stream]
                got = await stream.final()
                return "".join(texts), [(one.index, one.message.content) for one in got.choices]

        async def official(client: Any) -> Any:
            async with client.chat.completions.stream(messages=HI, model="m", extra_body={"n": 2}) as stream:
                return [one.content async for one in stream if one.type == "content.done"]

        assert play(events(chunks), live) == ("Hello.", [(0, "Hello."), (1, "Bye.")])
        assert play(events(chunks), official) == ["Bye.", "Hello."]

    def test_tool_calls_with_numbers_as_texts(self) -> None:
        """They are told apart by them, streamed."""

        def calls(*entries: tuple[Any, str, str]) -> dict[str, Any]:
            made = chunk()
            made["choices"][0]["delta"]["tool_calls"] = [
                {"index": index, **({"id": name, "type": "function"} if name else {}),
                 "function": {**({"name": name} if name else {}), "arguments": text}}
                for index, name, text in entries
            ]  # fmt: skip
            return made

        parts = [calls(("0", "f", ""), ("1", "g", "")), calls(("1", "", '{"b"')), calls(("0", "", '{"a"')),
                 calls(("0", "", ": 1}"), ("1", "", ": 2}")), chunk(finish="tool_calls")]  # fmt: skip

        async def act(client: Any) -> Any:
            got = await client.chat.stream("hi").final()
            return [(one.function.name, one.function.arguments) for one in got.choices[0].message.tool_calls]

        assert play(events(parts), act) == [("f", '{"a": 1}'), ("g", '{"b": 2}')]

    def test_embeddings_with_numbers_as_texts(self) -> None:
        """Their order is that of the numbers, not of the texts."""
        rows = [
            {"object": "embedding", "index": str(index), "embedding": [float(index)]}
            for index in (10, 2, 0, 1, *range(3, 10))
        ]
        raw = json_answer({"object": "list", "model": "m", "data": rows})

        async def act(client: Any) -> Any:
            return [vector[0] for vector in (await client.embedding(["x"] * 11)).vectors]

        assert play(raw, act) == [float(index) for index in range(11)]


class TestEndsThatSayNothing:
    """`[DONE]` without a finish reason, and streams that only HTTP ends."""

    @pytest.mark.parametrize("kind", [Client, AsyncOpenAI])
    def test_exact(self, kind: Any, caplog: pytest.LogCaptureFixture) -> None:
        """Iteration ends, `meta.complete` and a warning say that the answer may be short."""

        async def act(client: Any) -> Any:
            stream = await client.chat.completions.create(messages=HI, model="m", stream=True)
            assert not stream.meta.complete
            texts = [one.text async for one in stream]
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            assert "1 of this client" in caplog.text
            async for _ in await client.chat.completions.create(messages=HI, model="m", stream=True):
                pass
            assert "2 of this client" in caplog.text
            return texts, stream.meta.complete

        with caplog.at_level(logging.WARNING, "openaiasync"):
            assert play(events([chunk("Hel"), chunk("lo.")]), act, kind) == (["Hel", "lo."], False)

    def test_final_tells(self) -> None:
        """The answer of a live stream has the same `meta`."""

        async def act(client: Any) -> Any:
            got = await client.chat.stream("hi").final()
            return got.text, got.choices[0].finish_reason, got.meta.complete

        assert play(events([chunk("Hel"), chunk("lo.")]), act) == ("Hello.", None, False)

    def test_who_needs_the_whole_raises(self) -> None:
        """Sessions, turns that parse, the official helper with a type, and `strict`: nothing is kept of the turn."""
        raw = events([chunk('{"x": 1}')])

        async def session(client: Any) -> Any:
            talk = client.chat.session()
            try:
                async with talk.stream("hi") as stream:
                    async for _ in stream:
                        pass
            finally:
                assert talk.messages == []

        async def into(client: Any) -> Any:
            await client.chat.stream_parse("hi", into=dict[str, int]).final()

        async def official(client: Any) -> Any:
            from openaiasync import BaseModel

            class P(BaseModel):
                x: int

            async with client.chat.completions.stream(messages=HI, model="m", response_format=P) as stream:
                await stream.get_final_completion()

        async def strict(client: Any) -> Any:
            async for _ in await client.chat.completions.create(messages=HI, model="m", stream=True):
                pass

        for act, options in ((session, {}), (into, {}), (official, {}), (strict, {"strict": True})):
            with pytest.raises(IncompleteStreamError, match="complete"):
                play(raw, act, **options)

    def test_of_a_response(self) -> None:
        """The same rule: cut it raises, ended exactly it says so."""
        delta = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "m",
                 "delta": "Hel", "sequence_number": 1, "logprobs": []}  # fmt: skip

        async def act(client: Any) -> Any:
            stream = await client.responses.create(input="hi", model="m", stream=True)
            return [one.type async for one in stream], stream.meta.complete

        assert play(events([delta]), act) == (["response.output_text.delta"], False)
        for raw in (events([delta]).removesuffix(LAST_CHUNK), events([]), events([delta], done=False)):
            with pytest.raises(IncompleteStreamError):
                play(raw, act)

    def test_two_choices_of_which_one_ends(self) -> None:
        """One finish reason is enough after `[DONE]` or at an exact end, not where the message is cut."""
        parts = [chunk("a"), chunk("b", index=1), chunk(finish="stop")]

        async def act(client: Any) -> Any:
            async with client.chat.stream("hi", n=2) as stream:
                async for _ in stream:
                    pass
                return stream.meta.complete

        for raw in (events(parts), events(parts, done=False), events(parts).removesuffix(LAST_CHUNK)):
            assert play(raw, act)
        with pytest.raises(IncompleteStreamError) as caught:
            play(events(parts, done=False).removesuffix(LAST_CHUNK), act)
        assert [one.message.content for one in caught.value.partial.choices] == ["a", "b"]

    @pytest.mark.parametrize("cast_to", [dict, object, dict[str, Any]])
    def test_of_a_path_of_its_own(self, cast_to: Any) -> None:
        """HTTP alone decides, by a length, chunks, or a genuine close; an empty object is an object."""
        rows: list[Any] = [{"content": "Hel"}, {}, {"content": "lo.", "stop": True}]

        async def act(client: Any) -> Any:
            stream = await client.post("/completion", cast_to=cast_to, body={}, stream=True)
            got = [one async for one in stream]
            return got, stream.meta.complete

        close = head(Content_Type="text/event-stream") + data(*rows, done=False)
        for raw in (events(rows, done=False), events(rows), answer(data(*rows, done=False), content_type=""), close):
            got, complete = play(raw, act)
            assert complete
            assert [one if isinstance(one, dict) else one.to_dict() for one in got] == rows
        for raw in (events(rows, done=False), events(rows)):
            with pytest.raises(IncompleteStreamError):
                play(raw.removesuffix(LAST_CHUNK), act)

    def test_of_a_path_that_a_method_has(self) -> None:
        """The rules of its method hold, whatever type the events are cast to."""

        async def act(client: Any) -> Any:
            stream = await client.post(
                "/chat/completions", cast_to=dict, body={"messages": HI, "model": "m"}, stream=True
            )
            return [one["choices"][0]["delta"].get("content") async for one in stream]

        assert play(events([chunk("Hel"), chunk(finish="stop")]), act) == ["Hel", None]
        with pytest.raises(IncompleteStreamError):
            play(events([chunk("Hel")], done=False), act)


ERRORS: dict[str, tuple[Any, bool]] = {
    "code as text": ({"error": {"message": "out of luck", "code": "500", "type": "x"}}, True),
    "code as number": ({"error": {"message": "out of luck", "code": 503}}, True),
    "type": ({"error": {"message": "out of luck", "type": "server_error"}}, True),
    "rate limit": ({"error": {"message": "out of luck", "code": "rate_limit_exceeded"}}, True),
    "quota": ({"error": {"message": "out of luck", "code": 429, "type": "insufficient_quota"}}, False),
    "caller": ({"error": {"message": "out of luck", "code": 400}}, False),
    "unknown": ({"error": {"message": "out of luck"}}, False),
    "in a choice": ({"id": "c", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error",
                                             "error": {"message": "out of luck", "code": 502}}]}, True),
    "object": ({"object": "error", "message": "out of luck", "code": 500}, True),
    "code and msg": ({"code": 500, "msg": "out of luck"}, True),
}  # fmt: skip


class TestErrors:
    """An error in mid-stream has the received part, and says whether it is transient."""

    @pytest.mark.parametrize("name", ERRORS)
    def test_in_mid_stream(self, name: str) -> None:
        """`.partial` is the received part, `retryable` follows code and type; official code sees an `APIError`."""
        body, passes = ERRORS[name]
        raw = STREAM_HEAD + event(chunk("Hel")) + event(body) + LAST_CHUNK

        async def live(client: Any) -> Any:
            async with client.chat.stream("hi") as stream:
                async for _ in stream:
                    pass

        async def official(client: Any) -> Any:
            async with client.chat.completions.stream(messages=HI, model="m") as stream:
                async for _ in stream:
                    pass

        async def session(client: Any) -> Any:
            talk = client.chat.session()
            try:
                async with talk.stream("hi") as stream:
                    async for _ in stream:
                        pass
            finally:
                assert talk.messages == []

        for act in (live, official, session):
            with pytest.raises(APIError, match="out of luck") as caught:
                play(raw, act)
            assert type(caught.value) is APIError
            assert caught.value.retryable is passes
            assert caught.value.partial.text == "Hel"

    @pytest.mark.parametrize(
        "choice",
        [
            {"finish_reason": "error"},
            {"finish_reason": "stop", "error": {"message": "out of luck"}},
            {"finish_reason": "error", "error": {"message": "out of luck", "code": 502}},
        ],
    )
    def test_in_a_choice_of_a_whole_answer(self, choice: Any) -> None:
        """It raises with the torn text; a session keeps nothing of it."""
        raw = json_answer({**CHAT, "choices": [{**CHAT["choices"][0], **choice}]})  # type: ignore[index]

        async def act(client: Any) -> Any:
            await client.chat("hi")

        async def session(client: Any) -> Any:
            talk = client.chat.session()
            try:
                await talk.say("hi")
            finally:
                assert talk.messages == []

        for one in (act, session):
            with pytest.raises(APIError, match="out of luck" if "error" in choice else "'error'") as caught:
                play(raw, one)
            assert type(caught.value) is APIError
            if one is act:
                assert caught.value.partial.text == "Hello."

    def test_chunks_without_choices_are_not_errors(self) -> None:
        """Azure's filter notes, usage alone, null choices, an empty `error`, a `code` that is fine."""
        notes: list[Any] = [
            {
                "id": "",
                "object": "",
                "created": 0,
                "model": "",
                "choices": [],
                "prompt_filter_results": [{"prompt_index": 0}],
            },
            {"id": "c", "choices": None, "usage": None},
            {**chunk("Hel"), "error": None},
            {**chunk("lo."), "code": 0, "msg": "ok"},
            chunk(finish="stop"),
            {"id": "c", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
        ]

        async def act(client: Any) -> Any:
            stream = await client.chat.completions.create(messages=HI, model="m", stream=True)
            return "".join([choice.delta.content or "" async for one in stream for choice in one.choices])

        async def final(client: Any) -> Any:
            got = await client.chat.stream("hi").final()
            return got.text, got.usage.total_tokens

        assert play(events(notes), act) == "Hello."
        assert play(events(notes), final) == ("Hello.", 3)


DELTA = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "m", "logprobs": []}
BEGUN = {
    "type": "response.created",
    "sequence_number": 0,
    "response": {**RESPONSE, "status": "in_progress", "output": []},
}
ADDED = {"type": "response.output_item.added", "output_index": 0, "item": {**MESSAGE, "content": []}}
DONE = {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE}
TEXTS = [{**DELTA, "delta": "Hel"}, {**DELTA, "delta": "lo."}]


class TestResponsesWithoutTheirOutput:
    """What was streamed stands in for what the terminal event leaves out."""

    @pytest.mark.parametrize("output", [[], None, ..., [{**MESSAGE, "content": []}]])
    @pytest.mark.parametrize(
        "came",
        [
            [ADDED, *TEXTS, DONE],
            [ADDED, *TEXTS],
            TEXTS,
            [DONE],
            [{**one, "output_index": "0"} for one in (ADDED, *TEXTS)],
        ],
        ids=["all", "no item done", "texts alone", "item alone", "numbers as texts"],
    )
    def test_the_final_response_has_it(self, came: list[Any], output: Any) -> None:
        """Its text, and its value where a type was asked for."""
        if output and came == [DONE]:
            return  # an empty message may be one; nothing tells otherwise
        last: Any = {**RESPONSE, "output": output}
        if output is ...:
            del last["output"]
        raw = events([BEGUN, *came, {"type": "response.completed", "sequence_number": 9, "response": last}], done=False)

        async def helper(client: Any) -> Any:
            async with client.responses.stream(input="hi", model="m") as stream:
                ends = [one.response.output_text async for one in stream if one.type == "response.completed"]
                assert ends == ["Hello."]
                return (await stream.get_final_response()).output_text

        assert play(raw, helper) == "Hello."

    def test_without_the_response(self) -> None:
        """A terminal event without any response ends the one that began."""
        raw = events([BEGUN, ADDED, *TEXTS, {"type": "response.completed", "sequence_number": 9, "response": None}])

        async def helper(client: Any) -> Any:
            async with client.responses.stream(input="hi", model="m") as stream:
                got = await stream.get_final_response()
                return got.output_text, got.status

        assert play(raw, helper) == ("Hello.", "completed")

    def test_its_value(self) -> None:
        """`output_parsed` is made of the streamed text."""
        texts = [{**DELTA, "delta": '{"x":'}, {**DELTA, "delta": " 1}"}]
        last = {"type": "response.completed", "sequence_number": 9, "response": {**RESPONSE, "output": []}}

        async def helper(client: Any) -> Any:
            from openaiasync import BaseModel

            class P(BaseModel):
                x: int

            async with client.responses.stream(input="hi", model="m", text_format=P) as stream:
                return (await stream.get_final_response()).output_parsed.x

        assert play(events([BEGUN, *texts, last]), helper) == 1


def test_half_of_a_surrogate_pair_in_other_shapes() -> None:
    """Such events are read as any others where they have to be converted, and no error's text has it."""
    text: Any = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "cut \ud83d"}
    done = {"type": "response.completed", "response": {**RESPONSE, "output": [], "instructions": "cut \ud83d"}}
    response = play(events([text, done]), lambda client: client.responses.create(model="m", input="x"), AsyncOpenAI)
    assert (response.output_text, response.instructions) == ("cut \ud83d", "cut \ud83d")
    whole = {"id": "c", "choices": [{"index": 0, "text": "cut \ud83d"}]}

    async def streamed(client: AsyncOpenAI) -> list[str | None]:
        stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
        return [one.choices[0].delta.content async for one in stream]

    assert play(events([whole, chunk(finish="stop")]), streamed, AsyncOpenAI)[0] == "cut \ud83d"
    with pytest.raises(APIError, match="cut \ufffd"):
        play(json_answer({"error": {"message": "cut \ud83d"}}), streamed, AsyncOpenAI)
