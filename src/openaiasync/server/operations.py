"""What the server does for each operation of the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..endpoints import ENDPOINTS
from .audio import create_speech, create_transcription, create_translation
from .chats import plan_run
from .completions import plan_completion
from .context import RequestContext
from .embeddings import answer_embeddings
from .errors import HTTPError, wrong_kind
from .fields import CHAT, COMPLETION, EMBEDDING, METADATA, check_chat, check_completion
from .files import create_file, delete_file, get_file, get_file_content, list_files
from .images import PICTURES, create_variation, edit_images, generate_images, get_picture
from .models import ChatModel, CompletionModel, EmbeddingModel, Model
from .store import page_of, read_page_ask

if TYPE_CHECKING:
    from .app import App

__all__ = ["OPERATIONS", "Handler", "routes"]

Handler: TypeAlias = "Callable[[App, RequestContext], Awaitable[None]]"


async def _health(app: App, call: RequestContext) -> None:
    await call.send_json({"status": "ok"})


async def _create_chat(app: App, call: RequestContext) -> None:
    body = await call.read_object()
    app.check(body, CHAT, "model", "messages")
    check_chat(body)
    model = app.model(body["model"])
    if not isinstance(model, ChatModel):
        raise wrong_kind(model.id, "chat completions")
    delay = call.token_delay(model.token_delay)
    run = await plan_run(model, body, call.size)
    call.fields += app.allowance.spend(run.usage["total_tokens"])
    if body.get("stream"):

        def keep() -> None:
            if body.get("store"):
                app.store.keep(run.completion(), body["messages"])

        await call.send_events(run.events(keep), delay)
        return
    await call.work(delay * max(choice.size for choice in run.choices))
    completion = run.completion()
    if body.get("store"):
        app.store.keep(completion, body["messages"])
    await call.send_json(completion)


async def _list_chats(app: App, call: RequestContext) -> None:
    query = call.query()
    await call.send_json(page_of(app.store.find(query), read_page_ask(query)))


async def _get_chat(app: App, call: RequestContext) -> None:
    await call.send_json(app.store.get(call.arguments["completion_id"]))


async def _update_chat(app: App, call: RequestContext) -> None:
    body = await call.read_object()
    app.check(body, METADATA, "metadata")
    await call.send_json(app.store.relabel(call.arguments["completion_id"], body["metadata"]))


async def _delete_chat(app: App, call: RequestContext) -> None:
    await call.send_json(app.store.delete(call.arguments["completion_id"]))


async def _list_messages(app: App, call: RequestContext) -> None:
    messages = app.store.messages(call.arguments["completion_id"])
    await call.send_json(page_of(messages, read_page_ask(call.query())))


async def _create_completion(app: App, call: RequestContext) -> None:
    body = await call.read_object()
    app.check(body, COMPLETION, "model", "prompt")
    check_completion(body)
    model = app.model(body["model"])
    if not isinstance(model, CompletionModel):
        raise wrong_kind(model.id, "text completions")
    delay = call.token_delay(model.token_delay)
    run = await plan_completion(model, body)
    call.fields += app.allowance.spend(run.usage["total_tokens"])
    if body.get("stream"):
        await call.send_events(run.events(), delay)
        return
    await call.work(delay * run.tokens)
    await call.send_json(run.completion())


async def _create_embeddings(app: App, call: RequestContext) -> None:
    body = await call.read_object()
    app.check(body, EMBEDDING, "model", "input")
    model = app.model(body["model"])
    if not isinstance(model, EmbeddingModel):
        raise wrong_kind(model.id, "embeddings")
    answer = await answer_embeddings(model, body)
    call.fields += app.allowance.spend(answer["usage"]["total_tokens"])
    await call.send_json(answer)


def _model_object(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}


async def _list_models(app: App, call: RequestContext) -> None:
    await call.send_json({"object": "list", "data": [_model_object(model) for model in app.models.values()]})


async def _get_model(app: App, call: RequestContext) -> None:
    await call.send_json(_model_object(app.model(call.arguments["model"])))


async def _delete_model(app: App, call: RequestContext) -> None:
    name = app.model(call.arguments["model"]).id
    raise HTTPError(
        403, f"The model {name!r} belongs to the server and stays.", param="model", code="model_not_deletable"
    )


OPERATIONS: Final[dict[str, Handler]] = {
    "chat.completions.create": _create_chat,
    "chat.completions.list": _list_chats,
    "chat.completions.retrieve": _get_chat,
    "chat.completions.update": _update_chat,
    "chat.completions.delete": _delete_chat,
    "chat.completions.messages.list": _list_messages,
    "completions.create": _create_completion,
    "embeddings.create": _create_embeddings,
    "images.generate": generate_images,
    "images.edit": edit_images,
    "images.create_variation": create_variation,
    "audio.speech.create": create_speech,
    "audio.transcriptions.create": create_transcription,
    "audio.translations.create": create_translation,
    "files.create": create_file,
    "files.list": list_files,
    "files.retrieve": get_file,
    "files.content": get_file_content,
    "files.delete": delete_file,
    "models.list": _list_models,
    "models.retrieve": _get_model,
    "models.delete": _delete_model,
}
"""Handlers by the operations' names in the table of endpoints, which knows their methods and paths."""


def routes() -> Iterator[tuple[str, str, Handler]]:
    """Method, path and handler of all that is served."""
    yield "GET", "/health", _health
    yield "GET", f"{PICTURES}{{picture}}", get_picture
    for name, handler in OPERATIONS.items():
        endpoint = ENDPOINTS[name]
        yield endpoint.method, endpoint.path, handler
