"""What comes with a status of success and is not an answer raises, with the server's words; what is one passes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import run
from openaiasync import APIError, APIResponseValidationError, AsyncOpenAI, Client
from openaiasync.core.codec.success import (
    as_page,
    deleted,
    is_error,
    is_nothing,
)
from openaiasync.core.model.base import OpenModel
from openaiasync.types import Batch, FileDeleted, Model
from openaiasync.types.audio import Transcription
from openaiasync.types.chat import ChatCompletion
from openaiasync.types.responses import Response
from scripted import CHAT, Seen, answer, head, json_answer, scripted

HI: list[Any] = [{"role": "user", "content": "Hi."}]
OPERATIONS: dict[str, Callable[[AsyncOpenAI], Any]] = {
    "chat": lambda client: client.chat.completions.create(model="m", messages=HI),
    "raw chat": lambda client: _raw(client.chat.completions.with_raw_response.create(model="m", messages=HI)),
    "completions": lambda client: client.completions.create(model="m", prompt="x"),
    "embeddings": lambda client: client.embeddings.create(model="m", input=["a", "b"]),
    "images": lambda client: client.images.generate(model="m", prompt="x"),
    "edited images": lambda client: client.images.edit(model="m", image=b"x", prompt="x"),
    "models": lambda client: client.models.list(),
    "a model": lambda client: client.models.retrieve("m"),
    "moderations": lambda client: client.moderations.create(input="x"),
    "responses": lambda client: client.responses.create(model="m", input="x"),
    "files": lambda client: client.files.list(),
    "a file": lambda client: client.files.retrieve("f"),
    "an upload": lambda client: client.files.create(file=b"x", purpose="batch"),
    "speech": lambda client: client.audio.speech.create(model="m", voice="alloy", input="x"),
    "transcripts": lambda client: client.audio.transcriptions.create(model="m", file=b"x"),
    "text transcripts": lambda client: client.audio.transcriptions.create(model="m", file=b"x", response_format="text"),
    "verbose translations": lambda client: client.audio.translations.create(
        model="m", file=b"x", response_format="verbose_json"
    ),
    "batches": lambda client: client.batches.create(
        completion_window="24h", endpoint="/v1/embeddings", input_file_id="f"
    ),
}
DISGUISES: dict[str, Any] = {
    "MiniMax": {"id": "x", "choices": None, "base_resp": {"status_code": 1004, "status_msg": "out of luck"}},
    "nothing": {},
    "code and msg": {"code": 500, "msg": "out of luck"},
    "code, msg and no data": {"code": "InvalidParameter", "message": "out of luck", "data": None, "request_id": "r"},
    "no success": {"success": False, "message": "out of luck"},
    "detail": {"detail": "out of luck"},
    "a list of details": {"detail": [{"loc": ["body"], "msg": "out of luck"}]},
    "queued": {"status": "queued"},
    "an error": {"error": {"message": "out of luck"}},
    "errors": {"errors": ["out of luck"]},
    "a message": {"message": "out of luck"},
}


async def _raw(call: Awaitable[Any]) -> Any:
    return (await call).parse()


@pytest.mark.parametrize("label", ["application/json", "text/plain"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_errors_in_disguise_raise(operation: str, label: str) -> None:
    """No operation returns an error, or an empty body, as an answer; the error shows the body."""
    body = b""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(body, 202 if b"queued" in body else 200, label))

    async def main() -> None:
        nonlocal body
        async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
            for name, shape in DISGUISES.items():
                body = json.dumps(shape).encode()
                with pytest.raises(APIError) as caught:
                    await OPERATIONS[operation](client)
                shown = "out of luck" if "out of luck" in body.decode() else "queued" if b"queued" in body else ""
                assert shown in str(caught.value), name

    run(main())


def chat(**more: Any) -> dict[str, Any]:
    return {**CHAT, **more}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ChatCompletion, chat(code=0, msg="ok")),
        (ChatCompletion, chat(code=200, message="success", success=True)),
        (ChatCompletion, chat(code=1, msg="cached")),
        (ChatCompletion, chat(detail="low", status="failed", success=False)),
        (ChatCompletion, chat(error=None)),
        (ChatCompletion, chat(error={})),
        (ChatCompletion, chat(error={"code": 0, "message": "ok"})),
        (ChatCompletion, chat(base_resp={"status_code": 0, "status_msg": "success"})),
        (ChatCompletion, {"choices": CHAT["choices"]}),
        (Response, {"id": "r", "status": "queued", "error": {"code": "x", "message": "y"}, "output": []}),
        (Batch, {"id": "b", "errors": {"data": [{"code": "x"}]}, "status": "failed"}),
        (Model, {"id": "m"}),
        (Model, {"id": "m", "object": "model", "status": "failed", "detail": "loading"}),
        (OpenModel, {"id": "x", "error": "of a run", "detail": "it has"}),
        (Transcription, {"text": ""}),
    ],
)
def test_ordinary_answers_pass(kind: Any, fields: dict[str, Any]) -> None:
    """What a type declares is a value, and what stands beside the thing asked for is not an error."""
    assert not is_error(kind, fields)
    assert not is_nothing(kind, fields)


@pytest.mark.parametrize(
    "choices", [None, [], {}, "x", [None], [{}], [{"index": 0, "message": None, "finish_reason": "stop"}]]
)
def test_a_chat_answer_without_a_choice_is_an_error(choices: Any) -> None:
    """Whatever stands in the place of the choices, the error shows the body; so in bulk and in sessions."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer({**CHAT, "choices": choices, "note": "mind me"}))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m", max_retries=0) as client:
            with pytest.raises(APIResponseValidationError, match="choices"):
                await client.chat("Hi.")
            session = client.chat.session()
            with pytest.raises(APIResponseValidationError, match="choices"):
                await session.say("Hi.")
            assert not session.messages

    run(main())


def test_an_answer_that_says_nothing_is_an_answer() -> None:
    """A model may say nothing: a message is enough."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        message = {"role": "assistant", "content": None}
        writer.write(json_answer({**CHAT, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            assert (await client.chat("Hi.")).text == ""

    run(main())


# -------------------------------------------------------------------------------------------------- lists

PAGES: dict[str, tuple[Any, list[Any]]] = {
    "null": ({"object": "list", "data": None}, []),
    "null alone": ({"data": None}, []),
    "left out": ({"object": "list"}, []),
    "bare": ([{"id": "a"}, {"id": "b"}], ["a", "b"]),
    "bare and empty": ([], []),
    "Ollama": ({"models": [{"name": "a", "model": "a:latest"}]}, ["a:latest"]),
    "Gemini": ({"models": [{"name": "models/a"}]}, ["models/a"]),
    "both": ({"models": [{"name": "x"}], "data": [{"id": "a"}]}, ["a"]),
    "names": ({"data": ["a", "b"]}, ["a", "b"]),
    "in an envelope": ({"code": 0, "msg": "ok", "data": [{"id": "a"}]}, ["a"]),
}


@pytest.mark.parametrize("name", PAGES)
def test_lists_of_models(name: str) -> None:
    """However a server writes its list, every form of asking gives the same models."""
    body, ids = PAGES[name]

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(body))

    async def main() -> None:
        async with scripted(script) as server:
            async with Client(api_base=server.url) as client:
                page = await client.models()
                assert [model.id for model in page.data] == ids
                assert [model.id async for model in client.models()] == ids
                raw = await client.models.with_raw_response.list()
                assert [model.id for model in raw.parse().data] == ids
                async with client.models.with_streaming_response.list() as streamed:
                    assert [model.id for model in (await streamed.parse()).data] == ids
            async with AsyncOpenAI(base_url=server.url, api_key="k") as official:
                assert [model.id async for model in official.models.list()] == ids

    run(main())


def test_other_lists() -> None:
    """Other pages may be bare, under the name of what they list, or null."""
    for body in ([{"id": "a"}], {"files": [{"id": "a"}]}, {"items": [{"id": "a"}], "data": None}):
        assert as_page(body, "files", models=False)["data"] == [{"id": "a"}]

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer([{"id": "a"}] if "files" in seen.target else {"data": None, "has_more": False}))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url) as client:
            assert [file.id async for file in client.files.list()] == ["a"]
            assert [batch async for batch in client.batches.list()] == []
            assert (await client.vector_stores.list()).has_next_page() is False

    run(main())


def test_null_lists_inside_an_answer_are_empty() -> None:
    """A field of a list type can be iterated, while the dump has the received value."""
    body = {"id": "r", "object": "response", "status": "failed", "model": "m", "output": None}

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(body))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url) as client:
            response = await client.responses.create(model="m", input="x")
            assert (response.output, response.output_text) == ([], "")
            assert response.to_dict() == body

    run(main())


# -------------------------------------------------------------------------------------------------- deletions

DELETIONS: dict[str, tuple[Callable[[Client], Any], str]] = {
    "files": (lambda client: client.files.delete("x/1"), "x/1"),
    "models": (lambda client: client.models.delete("x"), "x"),
    "vector stores": (lambda client: client.vector_stores.delete("x"), "x"),
    "files of them": (lambda client: client.vector_stores.files.delete("x", vector_store_id="v"), "x"),
    "stored chats": (lambda client: client.chat.completions.delete("x"), "x"),
    "assistants": (lambda client: client.beta.assistants.delete("x"), "x"),
    "raw": (lambda client: _raw(client.files.with_raw_response.delete("x")), "x"),
}
EMPTY = {
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "empty 200": head(Content_Length="0"),
    "empty JSON": answer(b""),
    "chunked": head(Transfer_Encoding="chunked") + b"0\r\n\r\n",
    "blanks": answer(b" \n"),
    "an empty object": answer(b"{}"),
}


@pytest.mark.parametrize("sent", EMPTY)
def test_deletions_confirmed_by_a_status_alone(sent: str) -> None:
    """204 and an empty body say that it worked: the answer has the id and says so."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(EMPTY[sent])

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url) as client:
            for name, (delete, gone) in DELETIONS.items():
                said = await delete(client)
                assert (said.id, said.deleted) == (gone, True), name
            assert (await client.files.delete("x")).meta.status in (200, 204)
            run_gone = await client.evals.runs.delete("r", eval_id="e")
            assert (run_gone.run_id, run_gone.deleted) == ("r", True)
            assert (await client.conversations.items.delete("i", conversation_id="c")).id == "c"
            responses: Any = client.responses
            assert await responses.delete("x") is None

    run(main())


def test_what_is_empty_elsewhere_is_an_error() -> None:
    """Only a deletion needs no body."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(EMPTY["204"] if "files" in seen.target else EMPTY["empty 200"])

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m", max_retries=0) as client:
            calls: list[Callable[[], Awaitable[Any]]] = [
                lambda: client.chat("Hi."),
                lambda: client.files.retrieve("x"),
                lambda: client.models(),
                lambda: client.embedding("a"),
            ]
            for call in calls:
                with pytest.raises(APIResponseValidationError, match="empty"):
                    await call()

    run(main())


def answered(raw: bytes, act: Callable[[AsyncOpenAI], Any]) -> Any:
    """What `act` makes of a client whose server answers every request with these bytes."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    async def main() -> Any:
        async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
            return await act(client)

    return run(main())


@pytest.mark.parametrize(
    "body",
    [b'{"success": true}', b'{"status": "ok"}', b'{"code": 0, "msg": "done"}', b'{"deleted": true}', b"true", b"OK"],
)
def test_deletions_confirmed_in_a_servers_own_way(body: bytes) -> None:
    """They worked, and the answer is the deletion object."""
    deletions: list[Callable[[AsyncOpenAI], Any]] = [
        lambda client: client.files.delete("x"),
        lambda client: client.models.delete("x"),
        lambda client: client.chat.completions.delete("x"),
        lambda client: client.vector_stores.files.delete("x", vector_store_id="v"),
        lambda client: client.delete("/files/x", cast_to=FileDeleted),
    ]
    for act in deletions:
        got = answered(answer(body), act)
        assert got.deleted is True
        assert got.id in ("x", None)


@pytest.mark.parametrize(
    "body",
    [b'{"success": false}', b'{"status": "failed"}', b'{"code": 5, "msg": "no"}', b'{"message": "no"}', b"false"],
)
def test_deletions_that_are_not_confirmed_raise(body: bytes) -> None:
    for act in (lambda client: client.files.delete("x"), lambda client: client.delete("/files/x", cast_to=FileDeleted)):
        with pytest.raises(APIError):
            answered(answer(body), act)


@pytest.mark.parametrize("more", [{}, {"code": 10000, "message": "success"}, {"detail": "cached"}, {"created": 1}])
def test_images_are_what_an_answer_of_images_is_about(more: dict[str, Any]) -> None:
    """The description makes the list optional and `created` required; servers see it the other way round."""
    raw = json_answer({"data": [{"url": "http://x/y.png"}], **more})
    got = answered(raw, lambda client: client.images.generate(prompt="x", model="m"))
    assert [image.url for image in got.data] == ["http://x/y.png"]


def test_words_and_images_that_came_as_a_stream() -> None:
    """The last event of a stream that nobody asked for is the answer."""
    done = b'data: {"type": "transcript.text.delta", "delta": "Hi"}\n\n'
    done += b'data: {"type": "transcript.text.done", "text": "Hi"}\n\n'
    raw = answer(done + b"data: [DONE]\n\n", content_type="text/event-stream")
    assert answered(raw, lambda client: client.audio.transcriptions.create(model="m", file=b"x")).text == "Hi"
    done = b'data: {"type": "image_generation.completed", "b64_json": "AA==", "created_at": 7}\n\n'
    raw = answer(done, content_type="text/event-stream")
    got = answered(raw, lambda client: client.images.generate(model="m", prompt="x"))
    assert (got.data[0].b64_json, got.created) == ("AA==", 7)


def test_an_error_to_an_operation_without_an_answer_raises() -> None:
    """Nothing is expected of it, and an error is still one."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer({"code": 404, "msg": "out of luck"}))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, max_retries=0) as client:
            responses: Any = client.responses
            with pytest.raises(APIError, match="out of luck"):
                await responses.delete("x")

    run(main())


def test_deleted_knows_types_without_a_schema() -> None:
    """An answer of any shape says what was deleted."""
    assert deleted(OpenModel, {}, "x") == {"id": "x", "deleted": True}


# -------------------------------------------------------------------------------------------------- sound

WAVE = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(60_000)


@pytest.mark.parametrize("label", ["audio/wav", "application/json", "text/html", ""])
def test_sound_is_told_by_its_bytes(label: str) -> None:
    """The label decides neither for sound nor against it, whole and streamed."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        said = seen.json()["input"]
        body = WAVE if said == "sound" else b'{"detail": "out of luck"}' if said == "error" else b"<html>out of luck"
        if said == "slow error":
            body = b'{"detail": "out of luck"}'
            writer.write(head(Content_Type=label, Content_Length=str(len(body))) + body[:3])
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.write(body[3:])
            return
        writer.write(answer(body, 200, label))

    async def streamed(client: Client, said: str) -> bytes:
        async with client.text_to_speech.stream(said) as stream:
            return b"".join([piece async for piece in stream])

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m", max_retries=0) as client:
            assert (await client.text_to_speech("sound")).bytes() == WAVE
            assert await streamed(client, "sound") == WAVE
            for said in ("error", "page", "slow error"):
                with pytest.raises(APIError, match="out of luck"):
                    await client.text_to_speech(said)
                with pytest.raises(APIError, match="out of luck"):
                    await streamed(client, said)

    run(main())


@pytest.mark.parametrize("fields", [{"data": [{"url": "http://x/1.png"}]}, {"id": "i", "data": [{"b64_json": "QQ=="}]}])
def test_images_without_a_time_are_an_answer(fields: dict[str, Any]) -> None:
    """Where nothing but `created` is required, what is optional tells that something came."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(fields))

    async def main() -> None:
        async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
            for name in ("images", "edited images"):
                made = await OPERATIONS[name](client)
                assert made.data[0].to_dict() == fields["data"][0]

    run(main())
