"""Every route of the kit against OpenAI's description: its answers, validated without any of our generated code."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync.core.schema.jsonschema import validation_errors
from openaiasync.server import Server, ToolCallDelta, Transcript, TranscriptSegment, serve
from openaiasync.server.operations import OPERATIONS, routes

from .wire import Answer, Wire

SPEC = Path(os.environ.get("OPENAIASYNC_SPEC", Path(__file__).parents[3] / "shared" / "spec" / "openapi.json"))
pytestmark = pytest.mark.skipif(not SPEC.is_file(), reason="OPENAIASYNC_SPEC names no description")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)


def app() -> Server:
    made = Server()

    @made.chat("m")
    async def reply(request: Any) -> AsyncIterator[Any]:
        if request.tools:
            yield ToolCallDelta("f", '{"a": 1}')
        yield "Hello"
        yield " there"

    @made.completion("m")
    def complete(request: Any) -> str:
        return " so on"

    @made.embedding("m")
    def embed(request: Any) -> list[list[float]]:
        return [[1.0, 0.5]] * len(request.inputs)

    @made.image("m")
    def draw(request: Any) -> bytes:
        return PNG

    @made.transcription("m")
    def transcribe(request: Any) -> Transcript:
        return Transcript([TranscriptSegment("Hi.", 0.0, 1.0)], duration=1.0)

    @made.speech("m")
    def speak(request: Any) -> bytes:
        return b"RIFF"

    @made.moderation("m")
    def moderate(request: Any) -> list[dict[str, float]]:
        return [{"violence": 0.1}]

    return made


def read_description() -> dict[str, Any]:
    """The description, with OpenAPI's ``nullable`` as JSON Schema has it."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(one) for one in value]
        if not isinstance(value, dict):
            return value
        # Of the formats of transcripts, which ``oneOf`` lists, the larger ones are instances of the smaller ones too.
        names = {"oneOf": "anyOf"}
        rest = {names.get(name, name): plain(one) for name, one in value.items() if name != "nullable"}
        return {"anyOf": [rest, {"type": "null"}]} if value.get("nullable") is True else rest

    return dict(plain(json.loads(SPEC.read_bytes())))


def schema_of(description: dict[str, Any], method: str, path: str, media: str) -> dict[str, Any] | None:
    """The schema of a successful answer, with all components beside it; `None` where the description has none."""
    for template, operations in description["paths"].items():
        parts, given = template.strip("/").split("/"), path.strip("/").split("/")
        same = len(parts) == len(given) and all(a == b or a.startswith("{") for a, b in zip(parts, given, strict=True))
        exact = template == path or "{" in template
        if same and exact and method.lower() in operations:
            content = operations[method.lower()]["responses"]["200"].get("content", {})
            found = content.get(media, {}).get("schema")
            return None if found is None else {"components": description["components"], **found}
    raise AssertionError(f"{method} {path} is not in the description")


def form(**fields: Any) -> tuple[bytes, dict[str, str]]:
    body = b""
    for name, value in fields.items():
        file = f'; filename="{name}"' if isinstance(value, bytes) else ""
        data = value if isinstance(value, bytes) else str(value).encode()
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
    return body + b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


MESSAGES = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
LINE = {"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "a"}}
CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/chat/completions", {"model": "m", "messages": MESSAGES, "store": True, "n": 2, "tools": TOOLS}),
    ("GET", "/chat/completions", None),
    ("GET", "/chat/completions/{chat}", None),
    ("GET", "/chat/completions/{chat}/messages", None),
    ("POST", "/chat/completions/{chat}", {"metadata": {"a": "b"}}),
    ("DELETE", "/chat/completions/{chat}", None),
    ("POST", "/completions", {"model": "m", "prompt": "and"}),
    ("POST", "/embeddings", {"model": "m", "input": "a"}),
    ("POST", "/moderations", {"model": "m", "input": "a"}),
    ("POST", "/responses", {"model": "m", "input": "hi", "tools": [{"type": "function", "name": "f", "strict": True,
                                                                     "parameters": {"type": "object"}}]}),
    ("POST", "/responses/input_tokens", {"model": "m", "input": "hi"}),
    ("GET", "/responses/{resp}", None),
    ("GET", "/responses/{resp}/input_items", None),
    ("DELETE", "/responses/{resp}", None),
    ("POST", "/images/generations", {"model": "m", "prompt": "x"}),
    ("POST", "/images/edits", {"model": "m", "prompt": "x", "images": [
        {"image_url": "data:image/png;base64," + b64encode(PNG).decode()}]}),
    ("POST", "/images/variations", form(model="m", image=PNG)),
    ("POST", "/audio/speech", {"model": "m", "input": "la", "voice": "alloy"}),
    ("POST", "/audio/transcriptions", form(model="m", file=b"RIFF")),
    ("POST", "/audio/transcriptions", form(model="m", file=b"RIFF", response_format="verbose_json")),
    ("POST", "/audio/translations", form(model="m", file=b"RIFF")),
    ("POST", "/files", form(purpose="batch", file=json.dumps(LINE).encode())),
    ("GET", "/files", None),
    ("GET", "/files/{file}", None),
    ("GET", "/files/{file}/content", None),
    ("POST", "/batches", {"input_file_id": "{file}", "endpoint": "/v1/embeddings", "completion_window": "24h"}),
    ("GET", "/batches", None),
    ("GET", "/batches/{batch}", None),
    ("DELETE", "/files/{file}", None),
    ("GET", "/models", None),
    ("GET", "/models/m", None),
]  # fmt: skip
CONTRADICTED = {"/chat/completions/{chat}/messages"}  # its schema has answers alone, its example the user's message
UNREACHED = {
    "batches.cancel": "the batch has ended by then; tests/server/test_responses.py",
    "responses.cancel": "refused; tests/server/test_endpoints.py",
    "models.delete": "refused; tests/server/test_app.py",
    "health": "the kit's own",
    "metrics": "the kit's own",
    "picture": "the kit's own",
}


def test_answers_of_every_route() -> None:
    """Each answer is as the description says: status 200, and a body that its schema allows.

    Null counts as absent: the API sends it for what is not there yet, where the description lacks it.
    """
    description = read_description()
    reached: set[str] = set()

    async def main() -> None:
        made = app()
        ids: dict[str, str] = {}
        async with serve(made) as server, Wire(server) as wire:
            for method, template, given in CALLS:
                path = template
                body, fields = given if isinstance(given, tuple) else (given, {})
                for name, id in ids.items():
                    path = path.replace(f"{{{name}}}", id)
                    if isinstance(body, dict):
                        body = json.loads(json.dumps(body).replace(f"{{{name}}}", id))
                answer: Answer = await wire.call(method, f"/v1{path}", body, fields)
                assert answer.status == 200, (method, path, answer.body)
                reached.add(made._router.find(method, f"/v1{path}".encode()).operation)
                media = answer.fields["content-type"].partition(";")[0]
                schema = schema_of(description, method, path, media)
                if media != "application/json":
                    continue
                value = answer.json()
                if template in CONTRADICTED:
                    continue
                problems = [] if schema is None else list(validation_errors(value, schema, null_is_absent=True))
                assert not problems, (method, path, [(one.path, one.kind, one.expected) for one in problems[:5]], value)
                if method == "POST" and isinstance(value.get("id"), str):
                    ids[value["id"].partition("-")[0].partition("_")[0].replace("chatcmpl", "chat")] = value["id"]

    run(main())
    assert reached == set(OPERATIONS) - set(UNREACHED)
    assert len(list(routes())) == len(OPERATIONS)


@pytest.mark.parametrize(
    ("path", "body", "event"),
    [
        ("/chat/completions", {"model": "m", "messages": MESSAGES, "tools": TOOLS,
                               "stream_options": {"include_usage": True}}, "CreateChatCompletionStreamResponse"),
        ("/completions", {"model": "m", "prompt": "and"}, "CreateCompletionResponse"),
        ("/responses", {"model": "m", "input": "hi", "tools": [{"type": "function", "name": "f", "strict": True,
                                                                "parameters": {"type": "object"}}]},
         "ResponseStreamEvent"),
        ("/images/generations", {"model": "m", "prompt": "x"}, "ImageGenStreamEvent"),
    ],
)  # fmt: skip
def test_events_of_streams(path: str, body: dict[str, Any], event: str) -> None:
    """Each event of a stream is as the description says."""
    description = read_description()
    schema = {"components": description["components"], "$ref": f"#/components/schemas/{event}"}

    async def main() -> bytes:
        async with serve(app()) as server, Wire(server) as wire:
            answer = await wire.call("POST", f"/v1{path}", {**body, "stream": True})
            assert answer.status == 200, answer.body
            return answer.body

    lines = [line[6:] for line in run(main()).split(b"\n") if line.startswith(b"data: {")]
    assert lines
    for line in lines:
        value = json.loads(line)
        if path == "/completions":  # required there and never null, though it is not known before the last event
            value["choices"][0]["finish_reason"] = value["choices"][0]["finish_reason"] or "stop"
        problems = list(validation_errors(value, schema, null_is_absent=True))
        assert not problems, (problems[:5], line)
