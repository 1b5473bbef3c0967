"""What an editor shall know: each line is checked by mypy and by pyright, none is run."""

# pyright: strict, reportPrivateUsage=false

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, Literal, TypedDict, assert_type

import httpx2

import openaiasync
from openaiasync import (
    AnswerEvent,
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncAssistantEventHandler,
    AsyncAzureOpenAI,
    AsyncCursorPage,
    AsyncOpenAI,
    AsyncPage,
    AsyncStream,
    AudioAnswer,
    AudioStream,
    BinaryAnswer,
    ChatSession,
    ChatStream,
    Client,
    CompletionStream,
    ErrorEvent,
    Headers,
    ImageStream,
    IncompleteStreamError,
    Meta,
    Paginator,
    RateLimitError,
    ReconnectingEvent,
    ReconnectingOverrides,
    Reply,
    RequestEvent,
    SessionStream,
    SessionUsage,
    Shape,
    StructuredOutputError,
    Tool,
    Toolbox,
    ToolFinished,
    ToolResult,
    TranscriptionStream,
    TurnStream,
    VisionStream,
    pydantic_function_tool,
    shape_of,
    tool,
)
from openaiasync.auth import WorkloadIdentity, X509WorkloadIdentity, gcp_id_token_provider
from openaiasync.bridge import transport
from openaiasync.core.model.vector import Vector, VectorList
from openaiasync.realtime import AsyncRealtimeConnection, WebSocketConnectionOptions
from openaiasync.types import (
    Batch,
    Completion,
    CompletionUsage,
    CreateEmbeddingResponse,
    FileObject,
    ImagesResponse,
    Model,
    VectorStore,
)
from openaiasync.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ParsedChatCompletion,
)
from openaiasync.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openaiasync.types.realtime.realtime_server_event import RealtimeServerEvent
from openaiasync.types.responses import Response, ResponseOutputItem, ResponseStreamEvent
from openaiasync.types.responses.responses_server_event import ResponsesServerEvent


async def chat(client: Client, choice: bool) -> None:
    """The mission method has one type of answer; the official one has three overloads."""
    answer = await client.chat("Hello")
    assert_type(answer, ChatCompletion)
    assert_type(answer.text, str)
    assert_type(answer.message, ChatCompletionMessage | None)
    assert_type(answer.usage, CompletionUsage | None)
    assert_type(answer.choices[0].message.content, str | None)
    finish: Literal["stop", "length", "tool_calls", "content_filter", "function_call"] = answer.choices[0].finish_reason
    assert_type(answer.extra, dict[str, Any])
    assert_type(answer.meta, Meta)
    assert_type(answer.meta.headers, Headers)
    assert_type(answer.to_dict(), dict[str, Any])
    assert_type(answer.to_json(), str)
    assert_type(answer.copy(), ChatCompletion)
    assert_type(answer._request_id, str | None)
    await client.chat([{"role": "user", "content": finish}], temperature=0.5, timeout=3, extra_body={"top_k": 1})
    await client.chat({"messages": [{"role": "user", "content": "Hello"}], "model": "m"})
    await client.chat([answer.choices[0].message, {"role": "user", "content": "And?"}])

    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ]
    create = client.chat.completions.create
    assert_type(await create(messages=messages, model="m"), ChatCompletion)
    assert_type(await create(messages=messages, model="m", stream=False), ChatCompletion)
    assert_type(await create(messages=messages, model="m", stream=None), ChatCompletion)
    assert_type(await create(messages=messages, model="m", stream=True), AsyncStream[ChatCompletionChunk])
    assert_type(
        await create(messages=messages, model="m", stream=choice), ChatCompletion | AsyncStream[ChatCompletionChunk]
    )
    params: CompletionCreateParamsNonStreaming = {"model": "m", "messages": messages}
    assert params["messages"]


async def tools(answer: ChatCompletion) -> None:
    """A tool call's `type` tells its class."""
    for call in answer.choices[0].message.tool_calls or ():
        if call.type == "function":
            assert_type(call, ChatCompletionMessageFunctionToolCall)
            assert_type(call.function.arguments, str)
        else:
            assert_type(call.type, Literal["custom"])
            assert_type(call.custom.input, str)


async def streams(client: Client) -> None:
    """A stream is lazy, a context manager, and yields chunks; `final` is the whole answer."""
    stream = client.chat.stream("Hello")
    assert_type(stream, ChatStream)
    async with stream as opened:
        assert_type(opened, ChatStream)
        async for chunk in opened:
            assert_type(chunk, ChatCompletionChunk)
            assert_type(chunk.text, str)
            assert_type(chunk.choices[0].delta.content, str | None)
    assert_type(await stream.final(), ChatCompletion)
    assert_type(stream.text, str)

    async with client.completion.stream("Once") as texts:
        assert_type(texts, CompletionStream)
        async for piece in texts:
            assert_type(piece, Completion)
    async with await client.responses.create(model="m", input="Hello", stream=True) as events:
        assert_type(events, AsyncStream[ResponseStreamEvent])
        async for event in events:
            if event.type == "response.output_text.delta":
                assert_type(event.delta, str)
            elif event.type == "response.completed":
                assert_type(event.response, Response)


async def missions(client: Client) -> None:
    """Every mission method has one type of answer."""
    assert_type(await client.completion("Once", max_tokens=5), Completion)
    vectors = await client.embedding(["a", "b"])
    assert_type(vectors, CreateEmbeddingResponse)
    assert_type(vectors.data[0].embedding, list[float])
    assert_type(vectors.data[0].vector, Vector)
    many = await client.embed_many(["a", "b"], batch_size=1, dimensions=3)
    assert_type(many.vectors, VectorList)
    async with client.embed_many.stream(text for text in ("a", "b")) as rows:
        async for row in rows:
            assert_type(row.vector, Vector)
    image = await client.image_generate("a cat")
    assert_type(image, ImagesResponse)
    assert_type(client.image_generate.stream("a cat"), ImageStream)
    audio = await client.text_to_speech("hello")
    assert_type(audio, AudioAnswer)
    assert_type(audio.bytes(), bytes)
    assert_type(client.text_to_speech.stream("hello"), AudioStream)
    assert_type((await client.speech_to_text(audio)).text, str)
    assert_type((await client.speech_to_text(Path("a.wav"))).text, str)
    assert_type(client.speech_to_text.stream(b"RIFF"), TranscriptionStream)
    assert_type(await client.vision(image=Path("a.png"), prompt="What is it?"), ChatCompletion)
    assert_type(client.vision.stream(image=b"", prompt="What is it?"), VisionStream)
    assert_type(client.models(), Paginator[Model, AsyncPage[Model]])


async def pages(client: AsyncOpenAI) -> None:
    """A list is awaited for a page and iterated for all items."""
    assert_type(client.files.list(limit=3), Paginator[FileObject, AsyncCursorPage[FileObject]])
    page = await client.files.list()
    assert_type(page, AsyncCursorPage[FileObject])
    assert_type(page.data, list[FileObject])
    assert_type(page.has_next_page(), bool)
    assert_type(await page.get_next_page(), AsyncCursorPage[FileObject])
    async for store in client.vector_stores.list():
        assert_type(store, VectorStore)
    assert_type([batch async for batch in client.batches.list()], list[Batch])


async def responses(client: AsyncOpenAI, item: ResponseOutputItem) -> None:
    """An output item's `type` tells its class, and so its fields."""
    answer = await client.responses.create(model="m", input="Hello")
    assert_type(answer, Response)
    assert_type(answer.output_text, str)
    if item.type == "message":
        assert_type(item.role, Literal["assistant"])
        for part in item.content:
            if part.type == "output_text":
                assert_type(part.text, str)
            else:
                assert_type(part.type, Literal["refusal"])
                assert_type(part.refusal, str)
    elif item.type == "function_call":
        assert_type(item.name, str)
        assert_type(item.arguments, str)


async def others(client: AsyncOpenAI) -> None:
    """Binary answers, uploads, verbs, relatives."""
    content = await client.files.content("file-1")
    assert_type(content, BinaryAnswer)
    assert_type(content.read(), bytes)
    assert_type(await client.files.create(file=Path("a.jsonl"), purpose="batch"), FileObject)
    assert_type(await client.files.create(file=("a.txt", b"x", "text/plain"), purpose="user_data"), FileObject)
    assert_type(await client.get("/models", cast_to=ChatCompletion), ChatCompletion)
    assert_type(await client.post("/things", cast_to=dict[str, int], body={"a": 1}), dict[str, int])
    assert_type(client.with_options(max_retries=0), AsyncOpenAI)
    assert_type(client.copy(timeout=3), AsyncOpenAI)
    assert_type(str(client.base_url), str)
    async with client as entered:
        assert_type(entered, AsyncOpenAI)
    assert_type(client.is_closed(), bool)
    assert_type(openaiasync.DEFAULT_MAX_RETRIES, int)

    async def key() -> str:
        return "sk-1"

    assert_type(AsyncOpenAI(api_key=key), AsyncOpenAI)


def errors(error: APIError) -> None:
    """What an error knows depends on its class."""
    assert_type(error.side, Literal["caller", "server", "network"])
    assert_type(error.retryable, bool)
    assert_type(error.code, str | None)
    if isinstance(error, APIStatusError):
        assert_type(error.status_code, int)
        assert_type(error.request_id, str | None)
    if isinstance(error, APITimeoutError):
        assert_type(error.clock, str)
    if isinstance(error, IncompleteStreamError):
        assert_type(error.partial, Any)
    connection: APIConnectionError = APITimeoutError(request=None)
    limited: type[APIStatusError] = RateLimitError
    assert connection
    assert limited


async def hooks(client: Client, error: APIError) -> None:
    """Hooks know their events, of a client and of a call, asynchronous or not."""

    async def later(event: AnswerEvent) -> None:
        assert_type(event.meta, Meta)
        assert_type(event.headers, Headers)

    def failed(event: ErrorEvent) -> None:
        assert_type(event.error, Exception)
        assert_type(event.meta, Meta | None)

    def sign(event: RequestEvent) -> None:
        event.headers["X-Signature"] = event.name
        assert_type(event.content, bytes)

    Client(on_request=sign, on_answer=later, on_error=failed)
    AsyncOpenAI(on_request=lambda event: event.headers.clear(), on_answer=None)
    answer = await client.chat("Hello", on_request=lambda event: assert_type(event, RequestEvent), on_answer=later)
    assert_type(answer.meta.as_curl(), str)
    assert_type(error.as_curl(), str)


def protocols(stream: ChatStream, pages: Paginator[Model, AsyncPage[Model]]) -> None:
    """Streams and lists are what other code expects."""
    pieces: AsyncIterator[ChatCompletionChunk] = stream.__aiter__()
    first: Awaitable[AsyncPage[Model]] = pages
    assert pieces
    assert first


class Price(TypedDict):
    amount: float


async def structured(client: Client, error: StructuredOutputError) -> None:
    shape = shape_of(Price)
    assert_type(shape, Shape[Price])
    assert_type(shape.decode("{}"), Price)
    reply = await client.chat.parse("How much?", into=Price)
    assert_type(reply, Reply[Price])
    assert_type(reply.parsed, Price)
    assert_type(client.chat.stream_parse("How much?", into=Price), TurnStream[Price])
    assert_type(error.text, str)
    assert_type(error.usage, CompletionUsage | None)


@tool
def double(x: int) -> int:
    return 2 * x


async def turns(client: Client) -> None:
    """Functions are tools; every piece of a turn has a text, and its class tells what it is."""
    assert_type(double, Tool)
    assert_type(tool(name="half")(lambda: 0), Tool)
    reply = await client.chat.run_tools("Hello", tools=[double, len], max_rounds=3, temperature=0)
    assert_type(reply.text, str)
    assert_type(reply.messages, list[dict[str, Any]])
    assert_type(reply.tool_calls[0].call.arguments, str)
    async with client.chat.stream_tools("Hello", tools=Toolbox([double])) as stream:
        assert_type(stream, TurnStream[Any])
        async for piece in stream:
            assert_type(piece.text, str)
            if isinstance(piece, ToolFinished):
                assert_type(piece.result, ToolResult)


async def sessions(client: Client, path: Path) -> None:
    """Replies know the type asked for; parameters and options are words of every turn."""
    session = client.chat.session(system="s", tools=[double], context_limit=8000, policy="drop", temperature=0)
    assert_type(session, ChatSession)
    assert_type(await session.say("Hello", images=[path, b""], audio=path, seed=1, max_rounds=2), Reply[Any])
    assert_type(await session.say("How much?", into=Price), Reply[Price])
    assert_type((await session.edit(-2)).text, str)
    async with session.stream("How much?", into=Price) as stream:
        assert_type(stream, SessionStream[Price])
        async for piece in stream:
            assert_type(piece.text, str)
        assert_type(stream.partial, Reply[Price | None])
        assert_type((await stream.final()).parsed, Price)
    assert_type(session.messages, list[dict[str, Any]])
    assert_type(session.fork().undo(), list[dict[str, Any]])
    assert_type(session.usage, SessionUsage)
    assert_type(session.usage.cost, float | None)
    assert_type(session.tokens.tokens, int)
    assert_type(session.path, Path | None)
    assert_type(client.chat.load_session(path, append=True), ChatSession)


def bridge() -> None:
    """The bridge goes where HTTP clients take a transport; that of the older library has no type here."""
    assert_type(transport(max_retries=0, http_timeout=None), httpx2.AsyncBaseTransport)
    httpx2.AsyncClient(transport=transport())
    assert_type(transport(library="httpx"), Any)


async def helpers(client: AsyncOpenAI, path: Path) -> None:
    class Event(openaiasync.BaseModel):
        name: str

    completions = client.chat.completions
    parsed = await completions.parse(
        model="m", messages=[], response_format=Event, tools=[pydantic_function_tool(Event)]
    )
    assert_type(parsed, ParsedChatCompletion[Event])
    assert_type(parsed.choices[0].message.parsed, Event | None)
    assert_type(parsed.parsed, Event | None)
    assert_type((await completions.parse(model="m", messages=[], response_format=list[int])).parsed, list[int] | None)
    assert_type((await completions.parse(model="m", messages=[], response_format=Literal["a"])).parsed, Any | None)
    for call in parsed.choices[0].message.tool_calls or []:
        assert_type(call.function.name, str)
        assert_type(call.function.parsed_arguments, Any)
    async with completions.stream(model="m", messages=[], response_format=Event) as events:
        async for event in events:
            if event.type == "content.delta":
                assert_type(event.snapshot, str)
            elif event.type == "content.done":
                assert_type(event.parsed, Event | None)
            elif event.type == "tool_calls.function.arguments.done":
                assert_type(event.index, int)
        assert_type(await events.get_final_completion(), ParsedChatCompletion[Event])
    response = await client.responses.parse(model="m", input="q", text_format=Event)
    assert_type(response.output_parsed, Event | None)
    for item in response.output:
        if item.type == "function_call":
            assert_type(item.parsed_arguments, Any)
    async with client.responses.stream(model="m", input="q", text_format=Event) as changes:
        async for change in changes:
            if change.type == "response.output_text.delta":
                assert_type(change.snapshot, str)
            elif change.type == "response.output_text.done":
                assert_type(change.parsed, Event | None)
        assert_type((await changes.get_final_response()).output_parsed, Event | None)
    files = client.vector_stores.files
    assert_type((await files.upload_and_poll(vector_store_id="v", file=path, deadline=9.0)).id, str)
    assert_type(
        (await client.uploads.upload_file_chunked(file=path, mime_type="a/b", purpose="batch", md5=True)).id, str
    )

    class Handler(AsyncAssistantEventHandler):
        seen = 0

    async with client.beta.threads.runs.stream(thread_id="t", assistant_id="a", event_handler=Handler()) as handler:
        assert_type(handler, Handler)
    async with client.beta.threads.create_and_run_stream(assistant_id="a") as plain:
        assert_type(plain, AsyncAssistantEventHandler)
        assert_type([text async for text in plain.text_deltas], list[str])


async def websockets(client: AsyncOpenAI) -> None:
    """Events are unions that `type` narrows; what is sent is checked."""

    def again(event: ReconnectingEvent) -> ReconnectingOverrides | None:
        return {"abort": True} if event.attempt > 2 else None

    options: WebSocketConnectionOptions = {"max_size": None}
    async with client.realtime.connect(
        model="m", on_reconnecting=again, websocket_connection_options=options
    ) as connection:
        assert_type(connection, AsyncRealtimeConnection)
        await connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
        )
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        await connection.send({"type": "response.create"})
        async for event in connection:
            assert_type(event, RealtimeServerEvent)
            if event.type == "response.output_text.delta":
                assert_type(event.delta, str)
    responses = await client.responses.connect().enter()
    await responses.response.create(model="m", input="x", stream_id="s")
    assert_type(await responses.recv(), ResponsesServerEvent)
    await responses.close()


async def credentials() -> None:
    """Azure's client, and who a workload is."""
    azure = AsyncAzureOpenAI(azure_endpoint="https://h", api_version="v", azure_ad_token_provider=lambda: "t")
    assert_type(azure.with_options(api_version="w"), AsyncAzureOpenAI)
    identity: WorkloadIdentity = {
        "identity_provider_id": "i",
        "service_account_id": "s",
        "provider": gcp_id_token_provider(),
    }
    assert_type(
        AsyncOpenAI(workload_identity=identity).workload_identity, WorkloadIdentity | X509WorkloadIdentity | None
    )
