"""The server kit: any kind of handler, both forms of each answer, keys, limits, timeouts, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conftest import run
from openaiasync import APIError, AsyncOpenAI, AuthenticationError, Client, RateLimitError
from openaiasync.server import (
    ChatRequest,
    CompletionRequest,
    ContentDelta,
    EmbeddingRequest,
    Finish,
    ImageRequest,
    ModerationRequest,
    ReasoningDelta,
    RefusalDelta,
    RequestContext,
    Server,
    SpeechRequest,
    ToolCallDelta,
    Transcript,
    TranscriptionRequest,
    TranscriptSegment,
    UsageReport,
    serve,
)
from openaiasync.server.asgi import Receive, Scope, Send
from openaiasync.types.chat import ChatCompletion

from .wire import Answer, Wire, request, until

CHAT_PATH = "/v1/chat/completions"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)


def ask(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def chat_app(handler: Any, **options: Any) -> Server:
    app = Server(**options)
    app.chat("m")(handler)
    return app


def call(app: Server, method: str, path: str, body: Any = None, **fields: str) -> Answer:
    async def main() -> Answer:
        async with serve(app) as server, Wire(server) as wire:
            return await wire.call(method, path, body, {name.replace("_", "-"): one for name, one in fields.items()})

    return run(main())


class TestHandlers:
    """Any kind of function, with any kind of result, gives both forms of an answer."""

    @pytest.mark.parametrize("kind", ["async def", "def", "async generator", "generator", "awaitable of a generator",
                                      "object", "method"])  # fmt: skip
    def test_kinds_of_functions(self, kind: str) -> None:
        """Plain ones run in a thread, so that they may block the thread but not the server."""

        async def coroutine(request: ChatRequest) -> str:
            return "a b"

        def plain(request: ChatRequest) -> str:
            time.sleep(0.01)
            return "a b"

        async def stream(request: ChatRequest) -> AsyncIterator[str]:
            yield "a "
            yield "b"

        def pieces(request: ChatRequest) -> Iterator[str]:
            yield "a "
            time.sleep(0.01)
            yield "b"

        async def later(request: ChatRequest) -> Any:
            return stream(request)

        class Object:
            async def __call__(self, request: ChatRequest) -> str:
                return "a b"

            async def stream(self, request: ChatRequest) -> AsyncIterator[str]:
                yield "a "
                yield "b"

        handlers = {"async def": coroutine, "def": plain, "async generator": stream, "generator": pieces,
                    "awaitable of a generator": later, "object": Object(), "method": Object().stream}  # fmt: skip

        async def main() -> None:
            async with (
                chat_app(handlers[kind]).serving() as url,
                Client(api_base=url, model="m", strict=True) as client,
            ):
                assert (await client.chat("x")).text == "a b"
                assert (await client.chat.stream("x").final()).text == "a b"
                several = await client.chat("x", n=3)
                assert [choice.message.content for choice in several.choices] == ["a b"] * 3

        run(main(), real_clock=True)

    @pytest.mark.parametrize(
        "result",
        [
            {"role": "assistant", "content": "yes", "reasoning_content": "hm"},
            {"choices": [{"message": {"content": "yes", "reasoning": "hm"}, "finish_reason": "stop"}]},
            {"content": [{"type": "text", "text": "yes"}], "reasoning": "hm"},
        ],
    )
    def test_whole_messages(self, result: Any) -> None:
        """A message, a whole completion, or content in parts."""

        async def reply(request: ChatRequest) -> Any:
            return result

        async def main() -> None:
            async with chat_app(reply).serving() as url, Client(api_base=url, model="m") as client:
                for answer in (await client.chat("x"), await client.chat.stream("x").final()):
                    assert (answer.text, answer.reasoning) == ("yes", "hm")

        run(main())

    def test_an_answer_of_another_server(self) -> None:
        """What a client got from elsewhere can be passed on as it is, whole or in chunks."""

        async def main() -> None:
            app, front = Server(), Server()

            @app.chat("m")
            async def reply(request: ChatRequest) -> AsyncIterator[Any]:
                yield "far "
                yield ToolCallDelta("f", '{"a": 1}', id="c1")
                yield UsageReport(7, 5, reasoning_tokens=2, cached_tokens=3)

            async with app.serving() as far, Client(api_base=far, model="m") as upstream:

                @front.chat("whole")
                async def whole(request: ChatRequest) -> ChatCompletion:
                    return await upstream.chat(request.body["messages"])

                @front.chat("chunks")
                async def chunks(request: ChatRequest) -> AsyncIterator[Any]:
                    async with upstream.chat.stream(request.body["messages"]) as stream:
                        async for chunk in stream:
                            yield chunk

                async with front.serving() as near, Client(api_base=near, strict=True) as client:
                    for model in ("whole", "chunks"):
                        for answer in (
                            await client.chat("x", model=model),
                            await client.chat.stream("x", model=model).final(),
                        ):
                            assert (answer.text, answer.choices[0].finish_reason) == ("far ", "tool_calls")
                            [tool] = answer.message.tool_calls or []
                            assert (tool.id, tool.function.name, tool.function.arguments) == ("c1", "f", '{"a": 1}')
                    counted = (await client.chat("x", model="whole")).usage
                    assert counted is not None
                    assert (counted.prompt_tokens, counted.completion_tokens, counted.total_tokens) == (7, 5, 12)

        run(main())

    def test_pieces(self) -> None:
        """Reasoning, tool calls in parts, refusals, finish reasons: the same in both forms."""

        async def reply(request: ChatRequest) -> AsyncIterator[Any]:
            yield ReasoningDelta("think ")
            if request.text == "tools":
                yield ToolCallDelta("f", '{"a"')
                yield ToolCallDelta(arguments=": 1}")
                yield ToolCallDelta("note", "free text", kind="custom")
            elif request.text == "refuse":
                yield RefusalDelta("No.")
            else:
                yield ContentDelta("cut")
                yield Finish("length")
                yield "not seen"

        async def main() -> None:
            async with chat_app(reply).serving() as url, Client(api_base=url, model="m") as client:
                for text, finish in (("tools", "tool_calls"), ("refuse", "stop"), ("cut", "length")):
                    for answer in (await client.chat(text), await client.chat.stream(text).final()):
                        message = answer.message
                        assert (answer.reasoning, answer.choices[0].finish_reason) == ("think ", finish)
                        assert message.refusal == ("No." if text == "refuse" else None)
                        assert (message.content or "") == ("cut" if text == "cut" else "")
                        calls = message.to_dict().get("tool_calls") or []
                        assert len(calls) == (2 if text == "tools" else 0)
                        if calls:
                            assert calls[0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
                            assert calls[1]["custom"] == {"name": "note", "input": "free text"}
                            assert calls[0]["id"] != calls[1]["id"]

        run(main())

    def test_wrong_results(self, caplog: pytest.LogCaptureFixture) -> None:
        """A result that is not an answer is the server's failure, which the log explains."""

        async def reply(request: ChatRequest) -> Any:
            return 5

        answer = call(chat_app(reply), "POST", CHAT_PATH, ask())
        assert (answer.status, answer.error()["type"]) == (500, "server_error")
        assert "returned or yielded int" in caplog.text

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
    @pytest.mark.parametrize(
        ("text", "stop", "kept"),
        [
            ("one two three", ["two"], "one "),
            ("aaab", ["aab", "b"], "a"),
            ("abcabd", "abd", "abc"),
            ("abab", ["abc"], "abab"),
            ("no stop", ["zz", ""], "no stop"),
        ],
    )
    def test_stop(self, size: int, text: str, stop: Any, kept: str) -> None:
        """Answers end at a stop string, however the handler's pieces cut it, and the handler is stopped too."""
        taken: list[str] = []

        async def reply(request: ChatRequest) -> AsyncIterator[str]:
            for place in range(0, len(text), size):
                taken.append(text[place : place + size])
                yield taken[-1]
            while kept != text:
                yield "never seen"

        async def main() -> None:
            async with chat_app(reply).serving() as url, Client(api_base=url, model="m") as client:
                assert (await client.chat("x", stop=stop)).text == kept
                assert (await client.chat.stream("x", stop=stop).final()).text == kept

        run(main())

    def test_stop_keeps_log_probabilities(self) -> None:
        async def reply(request: ChatRequest) -> AsyncIterator[ContentDelta]:
            for token in ("one", " two", " three"):
                yield ContentDelta(token, -0.5, ((token, -0.5), ("other", -1.5)))

        answer = call(chat_app(reply), "POST", CHAT_PATH, ask(stop=["o thr"], logprobs=True, top_logprobs=2)).json()[
            "choices"
        ][0]
        assert answer["message"]["content"] == "one tw"
        content = answer["logprobs"]["content"]
        assert [one["token"] for one in content] == ["one", " tw"]
        assert content[0]["top_logprobs"][1]["token"] == "other"

    def test_other_operations(self) -> None:
        """Completions, embeddings, images, speech, transcription and moderation, through our own client."""
        app = Server()

        @app.completion("m")
        async def complete(request: CompletionRequest) -> str:
            return f"{request.prompt} and {request.max_tokens}"

        @app.embedding("m")
        async def embed(request: EmbeddingRequest) -> list[list[float]]:
            return [[float(len(text)), 0.5] for text in request.inputs]

        @app.image("m")
        async def draw(request: ImageRequest) -> AsyncIterator[bytes]:
            for step in range(request.partial_images + 1):
                yield PNG + bytes([step, *(request.size or (0, 0))[:1]][:1])

        @app.speech("m")
        async def speak(request: SpeechRequest) -> AsyncIterator[bytes]:
            yield b"fLaC"
            yield f"{request.text} {request.voice} {request.speed:g}".encode()

        @app.transcription("m")
        async def transcribe(request: TranscriptionRequest) -> Transcript:
            text = "translated" if request.translate else request.file.content.decode()
            return Transcript([TranscriptSegment(text, 0.0, 1.5), TranscriptSegment(" end", 1.5, 2.0, "B")], 2.0)

        @app.moderation("m")
        async def moderate(request: ModerationRequest) -> list[dict[str, float]]:
            return [{"violence": 0.9 if text == "bad" else 0.1} for text in request.inputs]

        async def main() -> None:
            async with app.serving() as url, Client(api_base=url, model="m", strict=True) as client:
                assert (await client.completion("a", max_tokens=3)).text == "a and 3"
                assert (await client.completion.stream("a", max_tokens=3).final()).text == "a and 3"
                several = await client.completions.create(model="m", prompt=["a", "b"], n=2, echo=True)
                assert [one.text for one in several.choices] == ["aa and 16", "aa and 16", "bb and 16", "bb and 16"]
                assert [list(one) for one in (await client.embedding(["abc", "d"])).vectors] == [[3, 0.5], [1, 0.5]]
                floats = await client.embeddings.create(model="m", input="ab", encoding_format="float")
                assert floats.data[0].embedding == [2.0, 0.5]
                drawn = await client.image_generate("x", size="256x256", n=2)
                assert drawn.data is not None
                assert [await one.bytes() for one in drawn.data] == [PNG + b"\0"] * 2
                async with client.image_generate.stream("x", partial_images=2) as stream:
                    events = [(event.type.partition(".")[2], await event.bytes()) async for event in stream]
                assert events == [
                    ("partial_image", PNG + b"\0"),
                    ("partial_image", PNG + b"\1"),
                    ("completed", PNG + b"\2"),
                ]
                sound = await client.text_to_speech("hi", voice="echo", speed=2)
                assert (sound.content_type, sound.bytes()) == ("audio/flac", b"fLaChi echo 2")
                assert (await client.speech_to_text(b"heard")).text == "heard end"
                assert (await client.audio.translations.create(model="m", file=b"x")).text == "translated end"  # type: ignore[union-attr]
                moderated = await client.moderations.create(model="m", input=["bad", "good"])
                assert [one.flagged for one in moderated.results] == [True, False]
                assert moderated.results[0].category_scores.violence == 0.9

        run(main())

    def test_transcript_formats(self) -> None:
        """One transcript in all formats, and as events."""
        app = Server()

        @app.transcription("m")
        async def transcribe(request: TranscriptionRequest) -> AsyncIterator[TranscriptSegment]:
            yield TranscriptSegment("One <two>\nthree.", 0.02, 1.5, "A", -0.25)
            yield TranscriptSegment(" Four.", 1.5, 3661.2346, "B")

        async def main() -> None:
            async with app.serving() as url, AsyncOpenAI(base_url=url, api_key="k") as client:
                create: Any = client.audio.transcriptions.create
                whole = "One <two>\nthree. Four."
                assert (await create(model="m", file=b"x")).text == whole
                assert await create(model="m", file=b"x", response_format="text") == whole + "\n"
                assert await create(model="m", file=b"x", response_format="srt") == (
                    "1\n00:00:00,020 --> 00:00:01,500\nOne <two> three.\n\n2\n00:00:01,500 --> 01:01:01,235\nFour.\n"
                )
                assert await create(model="m", file=b"x", response_format="vtt") == (
                    "WEBVTT\n\n00:00:00.020 --> 00:00:01.500\nOne &lt;two&gt; three.\n\n"
                    "00:00:01.500 --> 01:01:01.235\nFour.\n"
                )
                verbose = await create(model="m", file=b"x", response_format="verbose_json")
                assert [(one.start, one.text) for one in verbose.segments] == [
                    (0.02, "One <two>\nthree."),
                    (1.5, " Four."),
                ]
                diarized = await create(model="m", file=b"x", response_format="diarized_json")
                assert [one.speaker for one in diarized.segments] == ["A", "B"]
                kinds = [event.type async for event in await create(
                    model="m", file=b"x", response_format="diarized_json", stream=True)]  # fmt: skip
                assert kinds == ["transcript.text.delta"] * 2 + ["transcript.text.segment"] * 2 + [
                    "transcript.text.done"
                ]
                chances = await create(model="m", file=b"x", include=["logprobs"])
                assert chances.logprobs[0].logprob == -0.25

        run(main())

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
            ({"include[]": "logprobs", "response_format": "text"}, "include"),
            ({"stream": "true", "response_format": "srt"}, "stream"),
            ({"known_speaker_names[]": "Judy"}, "known_speaker_names"),
            ({"response_format": "pdf"}, "response_format"),
            ({"temperature": "hot"}, "temperature"),
            ({"temperature": "2"}, "temperature"),
        ],
    )
    def test_wrong_transcriptions(self, fields: dict[str, str], param: str) -> None:
        app = Server()
        app.transcription("m")(lambda request: "x")
        parts = {"model": "m", **fields}
        body = b"".join(
            f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in parts.items()
        )
        body += b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nx\r\n--B--\r\n'
        answer = call(app, "POST", "/v1/audio/transcriptions", body, Content_Type="multipart/form-data; boundary=B")
        assert (answer.status, answer.error()["param"]) == (400, param)


class TestModels:
    """Which handler serves a name."""

    def test_names(self) -> None:
        """Each model has its own handler; an unknown name is 404, and so is one that does something else."""
        app = Server()
        app.chat("one")(lambda request: "first")
        app.chat("two", "three")(lambda request: f"second {request.model}")
        app.embedding("vectors")(lambda request: [[1.0] for _ in request.inputs])

        async def main() -> None:
            async with app.serving() as url, Client(api_base=url) as client:
                assert (await client.chat("x", model="one")).text == "first"
                assert (await client.chat("x", model="three")).text == "second three"
                assert [model.id async for model in client.models()] == ["one", "two", "three", "vectors"]

        run(main(), real_clock=True)
        for model, code in (("four", "model_not_found"), ("vectors", "model_not_supported")):
            answer = call(app, "POST", CHAT_PATH, ask(model=model))
            assert (answer.status, answer.error()["code"], answer.error()["param"]) == (404, code, "model")

    def test_any_name(self) -> None:
        """A handler without a name serves what no other does, but not models that do something else."""
        app = Server()
        app.chat()(lambda request: f"any {request.model}")
        app.chat("own")(lambda request: "own")
        app.embedding("vectors")(lambda request: [[1.0] for _ in request.inputs])
        for model, status, text in (("x", 200, "any x"), ("own", 200, "own"), ("vectors", 404, "")):
            answer = call(app, "POST", CHAT_PATH, ask(model=model))
            assert answer.status == status
            assert status == 404 or answer.json()["choices"][0]["message"]["content"] == text

    def test_a_subclass(self) -> None:
        """Handlers as methods, for the names in `models`; hooks for keys, unknown paths and the listener's context."""

        class Mine(Server):
            models = ("mine",)

            async def on_chat(self, request: ChatRequest) -> str:
                return f"{request.context.identity} {request.context.state}"

            async def on_unknown_route(self, context: RequestContext) -> None:
                await context.send_json({"path": context.scope["path"]}, 418)

            async def authenticate(self, key: str | None, context: RequestContext) -> Any:
                return f"user of {key}" if key else None

            @asynccontextmanager
            async def lifespan(self) -> AsyncIterator[str]:
                yield "context"

        async def main() -> None:
            app = Mine()
            async with app.serving() as url, Client(api_base=url, model="mine", api_key="k") as client:
                assert (await client.chat("x")).text == "user of k context"
            async with serve(app) as server, Wire(server) as wire:
                answer = await wire.call("GET", "/v1/odd", None, {"Authorization": "Bearer k"})
                assert (answer.status, answer.json()) == (418, {"path": "/v1/odd"})
                assert (await wire.call("GET", "/v1/odd")).status == 401

        run(main())

    def test_a_hook_of_an_instance(self) -> None:
        """A check of keys that replaces the method of one server decides there, too."""

        async def nobody(key: str | None, context: RequestContext) -> Any:
            return None

        app = chat_app(lambda request: "said")
        assert call(app, "POST", CHAT_PATH, ask()).status == 200
        app.authenticate = nobody
        assert call(app, "POST", CHAT_PATH, ask(), authorization="Bearer k").status == 401
        assert call(app, "GET", "/v1/odd", None).status == 401

    def test_answers_without_a_body(self) -> None:
        """They have no Content-Length (RFC 9110, 8.6), on ASGI servers that send the fields as they are."""
        sent: list[Any] = []

        async def main() -> None:
            async def send(message: Any) -> None:
                sent.append(message)

            async def receive() -> Any:
                return {"type": "http.request", "body": b"", "more_body": False}

            headers = [(b"origin", b"https://page.example"), (b"access-control-request-method", b"POST")]
            scope = {"type": "http", "method": "OPTIONS", "path": CHAT_PATH, "query_string": b"", "headers": headers}
            await Server(cors=["https://page.example"])(scope, receive, send)

        run(main())
        assert sent[0]["status"] == 204
        fields = dict(sent[0]["headers"])
        assert b"content-length" not in fields
        assert fields[b"access-control-allow-origin"] == b"https://page.example"

    def test_a_context_for_each_listener(self) -> None:
        """Entered once at the start of each listener, left at its end; a failure keeps the server from starting."""
        entered: list[str] = []

        @asynccontextmanager
        async def lifespan() -> AsyncIterator[int]:
            entered.append("in")
            yield len(entered)
            entered.append("out")

        @asynccontextmanager
        async def failing() -> AsyncIterator[None]:
            raise OSError("no database")
            yield

        async def reply(request: ChatRequest) -> str:
            return str(request.context.state)

        async def main() -> None:
            app = chat_app(reply, lifespan=lifespan)
            async with app.serving() as first, app.serving() as second:
                for url, number in ((first, "1"), (second, "2"), (first, "1")):
                    async with Client(api_base=url, model="m") as client:
                        assert (await client.chat("x")).text == number
            assert entered == ["in", "in", "out", "out"]
            with pytest.raises(RuntimeError, match="no database"):
                async with chat_app(reply, lifespan=failing).serving():
                    pass

        run(main())

    def test_mounted_in_applications(self) -> None:
        """Two servers below paths of one application: each has its lifespan's value, and links lead below its path."""
        ended: list[str] = []

        def make(name: str) -> Server:
            @asynccontextmanager
            async def lifespan() -> AsyncIterator[str]:
                yield f"state of {name}"
                ended.append(name)

            app = Server(lifespan=lifespan)
            app.chat("m")(lambda request: request.context.state)
            app.image("m")(lambda request: PNG)
            return app

        one, two = make("one"), make("two")

        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            """An application as those of Starlette are."""
            if scope["type"] == "lifespan":
                await receive()
                async with one.mounted_lifespan(outer) as first, two.mounted_lifespan() as second:
                    scope["state"].update({**first, **second})
                    await send({"type": "lifespan.startup.complete"})
                    await receive()
                await send({"type": "lifespan.shutdown.complete"})
                return
            prefix = scope["path"][:4]
            await {"/one": one, "/two": two}[prefix]({**scope, "root_path": prefix}, receive, send)

        async def main() -> None:
            async with serve(outer) as server, Wire(server) as wire:
                for name in ("one", "two"):
                    answer = await wire.call("POST", f"/{name}{CHAT_PATH}", ask())
                    assert answer.json()["choices"][0]["message"]["content"] == f"state of {name}"
                    drawing = {"model": "m", "prompt": "a", "response_format": "url"}
                    drawn = await wire.call("POST", f"/{name}/v1/images/generations", drawing)
                    link = drawn.json()["data"][0]["url"]
                    assert link.startswith(f"http://test/{name}/v1/pictures/")
                    assert (await wire.call("GET", link.removeprefix("http://test"))).body == PNG
                assert ended == []
            assert ended == ["two", "one"]

        run(main())


class TestGuards:
    """Keys, origins, limits and timeouts."""

    def test_keys(self) -> None:
        """One, several, or an async function that returns who it is."""

        async def reply(request: ChatRequest) -> str:
            return str(request.context.identity)

        async def known(key: str | None, context: RequestContext) -> str | None:
            return {"k1": "Judy"}.get(key or "")

        async def main() -> None:
            for keys, good, who in ((["a", "b"], "b", "b"), ("a", "a", "a"), (known, "k1", "Judy")):
                async with chat_app(reply, api_keys=keys).serving() as url:
                    async with Client(api_base=url, model="m", api_key=good) as client:
                        assert (await client.chat("x")).text == who
                    async with Client(api_base=url, model="m", api_key="wrong") as client:
                        with pytest.raises(AuthenticationError):
                            await client.chat("x")

        run(main())
        app = chat_app(reply, api_keys="a")
        assert call(app, "POST", CHAT_PATH, ask(), api_key="a").status == 200
        assert call(app, "POST", CHAT_PATH, ask(), x_api_key="a").status == 200
        answer = call(app, "POST", CHAT_PATH, ask())
        assert (answer.status, answer.fields["www-authenticate"]) == (401, "Bearer")
        assert answer.error()["message"].startswith("You did not provide an API key")
        for field in ("api_key", "x_api_key", "authorization"):
            wrong = call(app, "POST", CHAT_PATH, ask(), **{field: "Bearer b"})
            assert (wrong.status, wrong.error()["message"]) == (401, "Incorrect API key provided.")

    @pytest.mark.parametrize("identity", [None, False, "", 0, {}])
    @pytest.mark.parametrize("plain", [True, False])
    def test_false_identities(self, identity: Any, plain: bool) -> None:
        """Whatever false value the function returns, the caller stays outside; the function may also be a plain one."""

        async def known(key: str | None, context: RequestContext) -> Any:
            return "Judy" if key == "good" else identity

        def known_plainly(key: str | None, context: RequestContext) -> Any:
            return "Judy" if key == "good" else identity

        check: Any = known_plainly if plain else known
        app = chat_app(lambda request: request.context.identity, api_keys=check)
        good = call(app, "POST", CHAT_PATH, ask(), authorization="Bearer good")
        assert good.json()["choices"][0]["message"]["content"] == "Judy"
        assert call(app, "POST", CHAT_PATH, ask(), authorization="Bearer bad").status == 401
        assert call(app, "POST", CHAT_PATH, ask()).status == 401

    def test_empty_keys(self) -> None:
        """A variable that is not set must neither let everybody in nor shut everybody out."""
        for keys in ("", ["a", ""]):
            with pytest.raises(ValueError, match="empty key"):
                Server(api_keys=keys)

    def test_pages_of_other_origins(self) -> None:
        """Allowed ones may ask beforehand and read answers; others may not."""
        app = chat_app(lambda request: "x", cors=["https://page.example"])
        asked = call(app, "OPTIONS", CHAT_PATH, None, Origin="https://page.example",
                     Access_Control_Request_Method="POST", Access_Control_Request_Headers="authorization")  # fmt: skip
        assert asked.status == 204
        assert asked.fields["access-control-allow-origin"] == "https://page.example"
        assert asked.fields["access-control-allow-headers"] == "authorization"
        answer = call(app, "POST", CHAT_PATH, ask(), Origin="https://page.example")
        assert (answer.status, answer.fields["access-control-allow-origin"]) == (200, "https://page.example")
        wrong = call(app, "POST", CHAT_PATH, ask(), Origin="https://evil.example")
        assert (wrong.status, wrong.fields.get("access-control-allow-origin")) == (403, None)
        assert (
            call(chat_app(lambda request: "x", cors=["*"]), "POST", CHAT_PATH, ask(), Origin="https://a.b").status
            == 200
        )

    def test_rate_limits(self) -> None:
        """Requests and tokens per minute for each key; above them 429 says how long to wait."""

        async def reply(request: ChatRequest) -> AsyncIterator[Any]:
            yield "x"
            yield UsageReport(50, 50)

        async def main() -> None:
            async with serve(chat_app(reply, rpm=2, api_keys=["a", "b"])) as server, Wire(server) as wire:
                key = {"Authorization": "Bearer a"}
                for left in ("1", "0"):
                    answer = await wire.call("POST", CHAT_PATH, ask(), key)
                    assert (answer.status, answer.fields["x-ratelimit-remaining-requests"]) == (200, left)
                answer = await wire.call("POST", CHAT_PATH, ask(), key)
                assert (answer.status, answer.error()["code"]) == (429, "rate_limit_exceeded")
                assert 1 <= int(answer.fields["retry-after"]) <= 30
                assert (await wire.call("POST", CHAT_PATH, ask(), {"Authorization": "Bearer b"})).status == 200
            async with serve(chat_app(reply, tpm=100)) as server, Wire(server) as wire:
                assert (await wire.call("POST", CHAT_PATH, ask())).fields["x-ratelimit-remaining-tokens"] == "0"
                assert (await wire.call("POST", CHAT_PATH, ask())).status == 429

        run(main())

    def test_in_flight(self) -> None:
        """So many handlers run at once, so many more requests wait in line, others are told to come back."""
        running, peak, go = 0, 0, asyncio.Event()

        async def reply(request: ChatRequest) -> str:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            await go.wait()
            running -= 1
            return request.text

        async def main() -> None:
            app = chat_app(reply, max_in_flight=2, max_queue=1)
            async with app.serving() as url, Client(api_base=url, model="m", http_max_in_flight=9) as client:
                async with asyncio.TaskGroup() as group:
                    calls = [group.create_task(client.chat(str(number))) for number in range(3)]
                    await until(lambda: running == 2 and app.queue.waiting == 1)
                    await asyncio.sleep(0.1)
                    with pytest.raises(RateLimitError) as caught:
                        await client.chat("too much", max_retries=0)
                    assert caught.value.code == "server_busy"
                    assert caught.value.response.headers["retry-after"] == "1"
                    go.set()
                assert [task.result().text for task in calls] == ["0", "1", "2"]
                assert (peak, app.queue.running) == (2, 0)

        run(main())

    def test_a_client_that_leaves_the_queue(self) -> None:
        """Its place is free for the next one, and no slot is lost."""
        go = asyncio.Event()
        seen: list[str] = []

        async def reply(request: ChatRequest) -> str:
            seen.append(request.text)
            await go.wait()
            return "x"

        async def main() -> None:
            app = chat_app(reply, max_in_flight=1, max_queue=1)
            async with serve(app) as server, Wire(server) as first:
                await first.send(request("POST", CHAT_PATH, ask("first")))
                await until(lambda: seen == ["first"])
                async with Wire(server) as second:
                    await second.send(request("POST", CHAT_PATH, ask("second")))
                    await until(lambda: server.in_flight == 2)
                    await asyncio.sleep(0.1)
                await until(lambda: server.in_flight == 1)
                async with Wire(server) as third:
                    await third.send(request("POST", CHAT_PATH, ask("third")))
                    await until(lambda: server.in_flight == 2)
                    await asyncio.sleep(0.1)
                    go.set()
                    assert (await third.answer("POST")).status == 200
                assert (await first.answer("POST")).status == 200
                assert seen == ["first", "third"]
                assert app.queue.running == 0

        run(main())

    def test_timeouts(self) -> None:
        """504 for an answer that does not begin or does not end; in a stream an error event."""

        async def reply(request: ChatRequest) -> AsyncIterator[str]:
            await asyncio.sleep(1.0 if request.text == "late" else 0.0)
            yield "a"
            await asyncio.sleep(100)

        async def main() -> None:
            app = chat_app(reply, first_token_timeout=0.5, handler_timeout=5)
            async with serve(app) as server, Wire(server) as wire:
                for body in (ask("late", stream=True), ask("x")):
                    answer = await wire.call("POST", CHAT_PATH, body)
                    assert (answer.status, answer.error()["code"]) == (504, "handler_timeout")
                answer = await wire.call("POST", CHAT_PATH, ask("x", stream=True))
                assert answer.status == 200
                assert b'"content":"a"' in answer.body
                last = json.loads(answer.body.strip().rpartition(b"data: ")[2])
                assert last["error"]["code"] == "handler_timeout"

        run(main())

    def test_validation_can_be_turned_off(self) -> None:
        """Then a server may take values that OpenAI's does not; a request without a model is still none."""
        app = chat_app(lambda request: str(request.body["n_gpus"]), validate=False)
        assert call(app, "POST", CHAT_PATH, ask(n_gpus=3, temperature="warm")).status == 200
        assert call(app, "POST", CHAT_PATH, {"messages": []}).error()["param"] == "model"
        assert call(chat_app(lambda request: "x"), "POST", CHAT_PATH, ask(temperature="warm")).status == 400
        assert call(chat_app(lambda request: "x", strict=True), "POST", CHAT_PATH, ask(top_k=1)).status == 400

    def test_metrics(self) -> None:
        """Requests by operation and status, tokens, and what is in flight; behind the key."""

        async def main() -> None:
            app = chat_app(lambda request: "one two", api_keys="k")
            async with serve(app) as server, Wire(server) as wire:
                key = {"Authorization": "Bearer k"}
                await wire.call("POST", CHAT_PATH, ask(), key)
                await wire.call("POST", CHAT_PATH, ask(n=0), key)
                assert (await wire.call("GET", "/metrics")).status == 401
                text = (await wire.call("GET", "/metrics", None, key)).body.decode()
            lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
            assert lines['openaiasync_requests_total{operation="chat.completions.create",status="200"}'] == "1"
            assert lines['openaiasync_requests_total{operation="chat.completions.create",status="400"}'] == "1"
            assert lines['openaiasync_request_seconds_count{operation="chat.completions.create"}'] == "2"
            assert int(lines["openaiasync_tokens_total"]) > 2
            assert lines["openaiasync_requests_in_flight"] == "1"

        run(main(), real_clock=True)


class TestLeaving:
    """A client that leaves ends the work of its handler."""

    @pytest.mark.parametrize("streamed", [True, False])
    def test_within_50_ms(self, streamed: bool) -> None:
        """Streamed or not, in any operation: the handler is cancelled at once."""
        ends: list[float] = []

        async def reply(request: ChatRequest) -> AsyncIterator[str]:
            yield "begun"
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ends.append(time.perf_counter())
                raise

        async def main() -> float:
            async with serve(chat_app(reply)) as server, Wire(server) as wire:
                await wire.send(request("POST", CHAT_PATH, ask(stream=streamed)))
                if streamed:
                    await wire.reader.readuntil(b"begun")
                else:
                    await until(lambda: server.in_flight == 1)
                    await asyncio.sleep(0.05)
                left = time.perf_counter()
                wire.writer.transport.abort()
                await until(lambda: bool(ends))
                return ends[0] - left

        # The machine may be busy: the best of three tells whether anything waits in the way.
        assert min(run(main(), real_clock=True) for _ in range(3) if not ends.clear()) < 0.05  # type: ignore[func-returns-value]

    def test_a_thousand_that_leave_at_random(self) -> None:
        """None leaves a handler or a task behind, and others are served."""
        import random

        running = 0
        chance = random.Random(5)

        async def reply(request: ChatRequest) -> AsyncIterator[str]:
            nonlocal running
            running += 1
            try:
                for _ in range(20):
                    await asyncio.sleep(0.01)
                    yield "word "
            finally:
                running -= 1

        async def main() -> None:
            async with serve(chat_app(reply)) as server:
                before = asyncio.all_tasks()

                async def one() -> None:
                    async with Wire(server) as wire:
                        await wire.send(request("POST", CHAT_PATH, ask(stream=chance.random() < 0.7)))
                        await asyncio.sleep(chance.random() * 0.3)

                for _ in range(10):
                    async with asyncio.TaskGroup() as group:
                        for _ in range(100):
                            group.create_task(one())
                await until(lambda: server.in_flight == 0)
                assert running == 0
                assert asyncio.all_tasks() == before
                async with Wire(server) as wire:
                    assert (await wire.call("POST", CHAT_PATH, ask())).status == 200

        run(main())


class TestDrain:
    """A server that shuts down."""

    def test_answers_in_progress_end(self) -> None:
        """Whole and streamed ones are finished; kept connections get 503 with Retry-After; new ones are refused."""
        go = asyncio.Event()

        async def reply(request: ChatRequest) -> AsyncIterator[str]:
            yield "one "
            await go.wait()
            yield "two"

        async def main() -> None:
            server = serve(chat_app(reply), grace=10)
            await server.start()
            async with Wire(server) as stream, Wire(server) as whole, Wire(server) as kept:
                assert (await kept.call("GET", "/health")).status == 200
                await stream.send(request("POST", CHAT_PATH, ask(stream=True)))
                await whole.send(request("POST", CHAT_PATH, ask()))
                await stream.reader.readuntil(b"one ")
                await until(lambda: server.in_flight == 2)
                closing = asyncio.create_task(server.close())
                await asyncio.sleep(0.1)
                late = await kept.call("GET", "/health")
                assert (late.status, late.fields["retry-after"], late.fields["connection"]) == (503, "1", "close")
                with pytest.raises(ConnectionError):
                    async with Wire(server) as new:
                        await new.call("GET", "/health")
                go.set()
                assert (await whole.answer("POST")).json()["choices"][0]["message"]["content"] == "one two"
                assert (await stream.reader.read(-1)).rstrip().endswith(b"data: [DONE]\n\n\r\n0".rstrip())
                await closing

        run(main())

    def test_the_deadline_ends_streams_with_an_error(self) -> None:
        """What does not end in time is cancelled, and a stream says so."""

        async def reply(request: ChatRequest) -> AsyncIterator[str]:
            yield "one "
            await asyncio.sleep(1000)

        async def main() -> None:
            server = serve(chat_app(reply), grace=0.5)
            await server.start()
            async with Wire(server) as wire:
                await wire.send(request("POST", CHAT_PATH, ask(stream=True)))
                await wire.reader.readuntil(b"one ")
                closing = asyncio.create_task(server.close())
                rest = await wire.reader.read(-1)
                assert b'"code":"server_shutting_down"' in rest
                assert b"[DONE]" not in rest
                await closing
                assert asyncio.all_tasks() == {asyncio.current_task()}

        run(main())

    def test_our_client_sees_the_error(self) -> None:
        """It raises with the received part instead of returning the truncated answer."""

        async def reply(request: ChatRequest) -> AsyncIterator[str]:
            yield "one "
            await asyncio.sleep(1000)

        async def main() -> None:
            server = serve(chat_app(reply), grace=0.2)
            await server.start()
            async with Client(api_base=server.base_url, model="m") as client:
                with pytest.raises(APIError, match="shutting down"):
                    async with client.chat.stream("x") as stream:
                        async for _ in stream:
                            if server.in_flight and not server.draining:
                                closing = asyncio.create_task(server.close())
                                await asyncio.sleep(0)
            await closing

        run(main())


class TestEditsInJson:
    """``POST /images/edits`` takes a form, or JSON with data URLs and ids of files."""

    PICTURE = "data:image/png;base64," + b64encode(PNG).decode()

    def test_pictures(self) -> None:
        """The handler gets the same pictures in both forms."""
        app = Server()

        @app.image("i")
        async def draw(request: ImageRequest) -> bytes:
            assert [one.content for one in request.images] == [PNG, PNG]
            assert request.mask is not None
            assert request.mask.content == PNG
            assert request.images[0].media_type == "image/png"
            return PNG

        async def main() -> None:
            async with app.serving() as base_url, Client(api_base=base_url) as client, serve(app) as server:
                file = await client.files.create(file=("a.png", PNG), purpose="vision")
                images = [{"image_url": self.PICTURE}, {"file_id": file.id}]
                body = {"model": "i", "prompt": "x", "images": images, "mask": {"image_url": self.PICTURE}}
                async with Wire(server) as wire:
                    answer = await wire.call("POST", "/v1/images/edits", body)
                assert (answer.status, answer.json()["data"][0]["b64_json"]) == (200, b64encode(PNG).decode())
                edited = await client.images.edit(model="i", prompt="x", image=[PNG, PNG], mask=PNG)
                assert edited.data[0].b64_json == answer.json()["data"][0]["b64_json"]

        run(main())

    @pytest.mark.parametrize(
        ("images", "param", "status"),
        [
            (None, "images", 400),
            ("x", "images", 400),
            ([], "images", 400),
            ([{}], "images[0]", 400),
            (["x"], "images[0]", 400),
            ([{"image_url": PICTURE, "file_id": "f"}], "images[0]", 400),
            ([{"image_url": PICTURE}, {"image_url": "http://localhost/a.png"}], "images[1].image_url", 400),
            ([{"image_url": "data:image/png;base64,*"}], "images[0].image_url", 400),
            ([{"file_id": "file-none"}], "images[0].file_id", 404),
        ],
    )
    def test_wrong_references(self, images: Any, param: str, status: int) -> None:
        """An error object names the reference; links are not followed."""
        app = Server()
        app.image("i")(lambda request: PNG)
        answer = call(app, "POST", "/v1/images/edits", {"model": "i", "prompt": "x", "images": images})
        assert (answer.status, answer.error()["param"]) == (status, param)


class TestTokenLimits:
    """The kit cuts an answer at the client's limit of tokens, by its own count or by the tokens a handler yields."""

    @pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
    @pytest.mark.parametrize(
        ("pieces", "limit", "text", "reason"),
        [
            (["one two three four"], 2, "one two", "length"),
            (["one", " two", " three"], 2, "one two", "length"),
            (["one", " two"], 2, "one two", "stop"),
            (["one two"], 5, "one two", "stop"),
            ([ContentDelta("anti", -1.0), ContentDelta("dis", -1.0), ContentDelta("es", -1.0)], 2, "antidis", "length"),
            ([ReasoningDelta("a b"), "one two"], 3, "one", "length"),
            ([{"content": "another server's tokens are its own"}], 2, "another server's tokens are its own", "stop"),
        ],
    )
    def test_text(self, name: str, pieces: list[Any], limit: int, text: str, reason: str) -> None:
        """Both forms end with `length` where something was cut, and with `stop` where all of it fits."""
        app = Server(validate=False)  # the description allows responses of 16 tokens or more

        @app.chat("m")
        async def reply(request: ChatRequest) -> AsyncIterator[Any]:
            for piece in pieces:
                yield piece

        async def main() -> None:
            async with app.serving() as base_url, Client(api_base=base_url, model="m") as client:
                whole = await client.chat("hi", **{name: limit})
                assert (whole.text, whole.choices[0].finish_reason) == (text, reason)
                async with client.chat.stream("hi", **{name: limit}) as stream:
                    streamed = await stream.final()
                assert (streamed.text, streamed.choices[0].finish_reason) == (text, reason)
                response = await client.responses.create(model="m", input="hi", max_output_tokens=limit)
                assert response.output[-1].content[0].text == text
                assert response.status == ("incomplete" if reason == "length" else "completed")

        run(main())

    def test_a_handler_is_ended(self) -> None:
        """Nothing more is taken from a handler once the limit is reached, and the arguments of a call are cut too."""
        app = Server()
        taken: list[int] = []

        @app.chat("m")
        async def reply(request: ChatRequest) -> AsyncIterator[Any]:
            for number in range(100):
                taken.append(number)
                yield " word"

        @app.chat("caller")
        async def call(request: ChatRequest) -> ToolCallDelta:
            return ToolCallDelta("f", '{"a": 1, "b": 2}')

        async def main() -> None:
            async with app.serving() as base_url, Client(api_base=base_url) as client:
                assert (await client.chat("hi", model="m", max_tokens=3)).usage.completion_tokens == 3
                cut = (await client.chat("hi", model="caller", max_tokens=4)).choices[0]
                assert cut.finish_reason == "length"
                assert cut.message.tool_calls[0].function.arguments == '{"a"'

        run(main())
        assert taken == [0, 1, 2, 3]
