"""Every endpoint of the API with every method: served, or refused with an error object that says what is missing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from conftest import run
from openaiasync.endpoints import ENDPOINTS
from openaiasync.server import Server, serve
from openaiasync.server.handlers import KINDS
from openaiasync.server.operations import OPERATIONS

from .test_description import form
from .wire import Answer, Wire, request

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
BY_PATH: dict[str, dict[str, str]] = {}  # operations by path with arguments in place, and by method
for _name, _endpoint in ENDPOINTS.items():
    _path = re.sub(r"\{\w+\}", "some-id", _endpoint.path.partition("?")[0])
    _names = BY_PATH.setdefault(_path, {})
    if _name in OPERATIONS or _names.get(_endpoint.method) not in OPERATIONS:
        _names[_endpoint.method] = _name
# The identifier of a response may be any text.
BY_PATH["/responses/compact"] |= {"GET": "responses.retrieve", "DELETE": "responses.delete"}


async def asked(app: Server, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    """Call the application: status, header fields and body of its answer to an empty request."""
    body, status, fields = b"", 0, dict[str, str]()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal body, status, fields
        if message["type"] == "http.response.start":
            status = message["status"]
            fields = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            body += message["body"]

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}
    await app(scope, receive, send)
    return status, fields, body


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_every_endpoint_with_every_method(prefix: str) -> None:
    """404 with the operation's name where the kit does not have it, 405 with ``Allow`` where it has other methods."""

    async def main() -> None:
        app = Server()
        for path, names in BY_PATH.items():
            allowed = {method for method, name in names.items() if name in OPERATIONS}
            allowed |= {"HEAD"} if "GET" in allowed else set()
            for method in METHODS:
                place = f"{method} {path}"
                status, fields, body = await asked(app, method, prefix + path)
                if status >= 400:
                    error = json.loads(body)["error"]
                    assert set(error) == {"message", "type", "param", "code"}, place
                    assert error["message"], place
                if method in allowed:
                    assert status in (200, 400, 404, 415), (place, status)
                    assert status == 200 or error["code"] != "unknown_url", place
                elif name := names.get("GET" if method == "HEAD" else method):
                    assert (status, error["code"]) == (404, "unknown_url"), (place, status)
                    assert f"This server does not have the operation {name} of the API." in error["message"], place
                elif allowed:
                    assert (status, error["code"]) == (405, "method_not_allowed"), (place, status)
                    assert set(fields["allow"].split(", ")) == allowed, place
                else:
                    assert (status, error["code"]) == (404, "unknown_url"), (place, status)

    run(main())


CHAT = {"messages": [{"role": "user", "content": "hi"}]}
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/chat/completions", CHAT),
    "completion": ("/completions", {"prompt": "a"}),
    "embedding": ("/embeddings", {"input": "a"}),
    "image": ("/images/generations", {"prompt": "a"}),
    "moderation": ("/moderations", {"input": "a"}),
    "speech": ("/audio/speech", {"input": "a", "voice": "alloy"}),
    "transcription": ("/audio/transcriptions", {"file": b"RIFF"}),
    "translation": ("/audio/translations", {"file": b"RIFF"}),
    "response": ("/responses", {"input": "a"}),
}


def answers_of(app: Server, kind: str, model: str | None) -> Answer:
    path, body = BODIES[kind]
    body = body if model is None else {**body, "model": model}
    sent = request("POST", f"/v1{path}", *(form(**body) if "file" in body else (body,)))

    async def main() -> Answer:
        async with serve(app) as server, Wire(server) as wire:
            await wire.send(sent)
            return await wire.answer("POST")

    return run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_is_missing(kind: str) -> None:
    """The error says which kind of handler the server or the model lacks."""
    other = "embedding" if kind != "embedding" else "chat"
    app = Server()
    app._register(other, ("m",))(lambda request: "x")
    lacking = KINDS[kind]
    wrong_kind = answers_of(app, kind, "m")
    assert (wrong_kind.status, wrong_kind.error()["code"]) == (404, "model_not_supported")
    assert wrong_kind.error()["message"] == f"The model 'm' does not support {lacking}."
    unknown = answers_of(app, kind, "unknown")
    assert (unknown.status, unknown.error()["code"], unknown.error()["param"]) == (404, "model_not_found", "model")
    message = f"The model 'unknown' does not exist, and no model of this server supports {lacking}."
    assert unknown.error()["message"] == message
    app._register(kind, ("other",))(lambda request: "x")
    assert answers_of(app, kind, "unknown").error()["message"] == "The model 'unknown' does not exist."


@pytest.mark.parametrize("kind", ["image", "moderation", "response"])
def test_no_model_named_and_no_handler(kind: str) -> None:
    """Where requests need not name a model, the error does not ask for a name that would not help."""
    app = Server()
    app.speech("m")(lambda request: b"x")
    answer = answers_of(app, kind, None)
    assert (answer.status, answer.error()["code"]) == (404, "model_not_supported")
    assert answer.error()["message"].startswith("No model of this server supports ")


def test_responses_beside_their_creation() -> None:
    """Stored ones are read, listed, not cancelled, and deleted; tokens are counted as for the response itself."""
    app = Server()
    app.chat("m")(lambda request: "hello there")
    body = {"model": "m", "input": "one two three", "instructions": "Be brief."}

    async def main() -> None:
        async with serve(app) as server, Wire(server) as wire:
            made = (await wire.call("POST", "/v1/responses", body)).json()
            place = f"/v1/responses/{made['id']}"
            assert (await wire.call("GET", place)).json() == made
            counted = await wire.call("POST", "/v1/responses/input_tokens", body)
            assert counted.json() == {
                "object": "response.input_tokens",
                "input_tokens": made["usage"]["input_tokens"],
            }
            more = {"model": "m", "input": "and four", "previous_response_id": made["id"]}
            longer = await wire.call("POST", "/v1/responses/input_tokens", more)
            continued = await wire.call("POST", "/v1/responses", more)
            assert longer.json()["input_tokens"] == continued.json()["usage"]["input_tokens"]
            (item,) = (await wire.call("GET", f"{place}/input_items")).json()["data"]
            assert item["content"] == [{"type": "input_text", "text": "one two three"}]
            refused = await wire.call("POST", f"{place}/cancel")
            assert (refused.status, refused.error()["code"]) == (400, "invalid_state")
            assert (await wire.call("POST", "/v1/responses/other/cancel")).status == 404
            assert (await wire.call("DELETE", place)).json()["deleted"] is True
            assert (await wire.call("GET", place)).status == 404
            assert (await wire.call("POST", "/v1/responses/input_tokens", {"input": [{"type": "x"}]})).status == 400

    run(main())
