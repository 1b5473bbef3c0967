"""What the server does for each operation of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..endpoints import ENDPOINTS
from .call import Call
from .chats import plan_run
from .completions import plan_completion
from .embeddings import answer_embeddings
from .fields import CHAT, COMPLETION, EMBEDDING, METADATA, check_chat, check_completion
from .models import ChatModel, CompletionModel, EmbeddingModel, Model
from .refusal import Refusal
from .store import page_of, read_page_ask

if TYPE_CHECKING:
    from .app import App

__all__ = ["OPERATIONS", "Handler", "routes"]

Handler: TypeAlias = "Callable[[App, Call], Awaitable[None]]"
_MAX_TOKEN_DELAY = 10.0


async def _health(app: App, call: Call) -> None:
    await call.send_json({"status": "ok"})


async def _create_chat(app: App, call: Call) -> None:
    body = await call.read_object()
    app.check(body, CHAT, "model", "messages")
    check_chat(body)
    model = app.model(body["model"])
    if not isinstance(model, ChatModel):
        raise _wrong_kind(model, "chat completions")
    delay = _token_delay(call, model)
    run = await plan_run(model, body, call.size)
    call.fields += app.allowance.spend(run.usage["total_tokens"])
    if body.get("stream"):

        def keep() -> None:
            if body.get("store"):
                app.store.keep(run.completion(), body["messages"])

        await call.send_events(run.events(keep), delay)
        return
    await _work(call, delay * max(choice.size for choice in run.choices))
    completion = run.completion()
    if body.get("store"):
        app.store.keep(completion, body["messages"])
    await call.send_json(completion)


async def _list_chats(app: App, call: Call) -> None:
    query = call.query()
    await call.send_json(page_of(app.store.find(query), read_page_ask(query)))


async def _get_chat(app: App, call: Call) -> None:
    await call.send_json(app.store.get(call.arguments["completion_id"]))


async def _update_chat(app: App, call: Call) -> None:
    body = await call.read_object()
    app.check(body, METADATA, "metadata")
    await call.send_json(app.store.relabel(call.arguments["completion_id"], body["metadata"]))


async def _delete_chat(app: App, call: Call) -> None:
    await call.send_json(app.store.delete(call.arguments["completion_id"]))


async def _list_messages(app: App, call: Call) -> None:
    messages = app.store.messages(call.arguments["completion_id"])
    await call.send_json(page_of(messages, read_page_ask(call.query())))


async def _create_completion(app: App, call: Call) -> None:
    body = await call.read_object()
    app.check(body, COMPLETION, "model", "prompt")
    check_completion(body)
    model = app.model(body["model"])
    if not isinstance(model, CompletionModel):
        raise _wrong_kind(model, "text completions")
    delay = _token_delay(call, model)
    run = await plan_completion(model, body)
    call.fields += app.allowance.spend(run.usage["total_tokens"])
    if body.get("stream"):
        await call.send_events(run.events(), delay)
        return
    await _work(call, delay * run.tokens)
    await call.send_json(run.completion())


async def _create_embeddings(app: App, call: Call) -> None:
    body = await call.read_object()
    app.check(body, EMBEDDING, "model", "input")
    model = app.model(body["model"])
    if not isinstance(model, EmbeddingModel):
        raise _wrong_kind(model, "embeddings")
    answer = await answer_embeddings(model, body)
    call.fields += app.allowance.spend(answer["usage"]["total_tokens"])
    await call.send_json(answer)


def _wrong_kind(model: Model, use: str) -> Refusal:
    return Refusal(404, f"The model {model.id!r} does not do {use}.", param="model", code="model_not_supported")


def _model_object(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}


async def _list_models(app: App, call: Call) -> None:
    await call.send_json({"object": "list", "data": [_model_object(model) for model in app.models.values()]})


async def _get_model(app: App, call: Call) -> None:
    await call.send_json(_model_object(app.model(call.arguments["model"])))


async def _delete_model(app: App, call: Call) -> None:
    name = app.model(call.arguments["model"]).id
    raise Refusal(
        403, f"The model {name!r} belongs to the server and stays.", param="model", code="model_not_deletable"
    )


def _token_delay(call: Call, model: Model) -> float:
    """The model's pause before a token, or the one that the query asks for (``?token_delay=0.05``)."""
    if not call.scope["query_string"]:
        return model.token_delay
    text = dict(call.query()).get("token_delay")
    if text is None:
        return model.token_delay
    try:
        delay = float(text)
    except ValueError:
        delay = -1.0
    if not 0 <= delay <= _MAX_TOKEN_DELAY:
        message = f"'token_delay' must be a number of seconds from 0 to {_MAX_TOKEN_DELAY:g}."
        raise Refusal(400, message, param="token_delay", code="invalid_value")
    return delay


async def _work(call: Call, seconds: float) -> None:
    """Take the time that a model would; ends with `ClientLeft` when the client goes."""
    if seconds:
        async with call.presence():
            await asyncio.sleep(seconds)


OPERATIONS: Final[dict[str, Handler]] = {
    "chat.completions.create": _create_chat,
    "chat.completions.list": _list_chats,
    "chat.completions.retrieve": _get_chat,
    "chat.completions.update": _update_chat,
    "chat.completions.delete": _delete_chat,
    "chat.completions.messages.list": _list_messages,
    "completions.create": _create_completion,
    "embeddings.create": _create_embeddings,
    "models.list": _list_models,
    "models.retrieve": _get_model,
    "models.delete": _delete_model,
}
"""Handlers by the operations' names in the table of endpoints, which knows their methods and paths."""


def routes() -> Iterator[tuple[str, str, Handler]]:
    """Method, path and handler of all that is served."""
    yield "GET", "/health", _health
    for name, handler in OPERATIONS.items():
        endpoint = ENDPOINTS[name]
        yield endpoint.method, endpoint.path, handler
