"""What the server does for each operation of the API; paths and methods come from the generated endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..endpoints import ENDPOINTS
from ..lazy import resolve_annotations
from .audio import create_speech, create_transcription, create_translation
from .batches import cancel_batch, create_batch, get_batch, list_batches
from .chat import create_chat
from .completions import create_completion
from .context import RequestContext
from .embeddings import create_embeddings, create_moderation
from .errors import HTTPError
from .files import create_file, delete_file, get_file, get_file_content, list_files
from .images import PICTURES, create_variation, edit_images, generate_images, get_picture
from .responses import create_response, delete_response, get_response, list_input_items
from .store import page_of, read_page_ask

if TYPE_CHECKING:
    from .app import Server

__all__ = ["OPERATIONS", "PUBLIC", "routes"]

Operation: TypeAlias = "Callable[[Server, RequestContext], Awaitable[None]]"


async def _health(app: Server, context: RequestContext) -> None:
    await context.send_json({"status": "ok"})


async def _metrics(app: Server, context: RequestContext) -> None:
    await context.send_bytes(app.metrics.text(app.queue), b"text/plain; version=0.0.4; charset=utf-8")


async def _list_chats(app: Server, context: RequestContext) -> None:
    query = context.query()
    await context.send_json(page_of(app.completions.find(query), read_page_ask(query)))


async def _get_chat(app: Server, context: RequestContext) -> None:
    await context.send_json(app.completions.get(context.arguments["completion_id"]))


async def _update_chat(app: Server, context: RequestContext) -> None:
    body = await app.read_body(context)
    await context.send_json(app.completions.relabel(context.arguments["completion_id"], body["metadata"]))


async def _delete_chat(app: Server, context: RequestContext) -> None:
    await context.send_json(app.completions.delete(context.arguments["completion_id"]))


async def _list_messages(app: Server, context: RequestContext) -> None:
    messages = app.completions.messages(context.arguments["completion_id"])
    await context.send_json(page_of(messages, read_page_ask(context.query())))


async def _list_models(app: Server, context: RequestContext) -> None:
    await context.send_json({"object": "list", "data": [app.model_object(name) for name in app.model_names()]})


async def _get_model(app: Server, context: RequestContext) -> None:
    await context.send_json(app.model_object(context.arguments["model"]))


async def _delete_model(app: Server, context: RequestContext) -> None:
    name: Any = app.model_object(context.arguments["model"])["id"]
    message = f"The model {name!r} is part of the server and cannot be deleted."
    raise HTTPError(403, message, param="model", code="model_not_deletable")


OPERATIONS: Final[dict[str, Operation]] = {
    "chat.completions.create": create_chat,
    "chat.completions.list": _list_chats,
    "chat.completions.retrieve": _get_chat,
    "chat.completions.update": _update_chat,
    "chat.completions.delete": _delete_chat,
    "chat.completions.messages.list": _list_messages,
    "completions.create": create_completion,
    "embeddings.create": create_embeddings,
    "moderations.create": create_moderation,
    "responses.create": create_response,
    "responses.retrieve": get_response,
    "responses.delete": delete_response,
    "responses.input_items.list": list_input_items,
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
    "batches.create": create_batch,
    "batches.list": list_batches,
    "batches.retrieve": get_batch,
    "batches.cancel": cancel_batch,
    "models.list": _list_models,
    "models.retrieve": _get_model,
    "models.delete": _delete_model,
    "health": _health,
    "metrics": _metrics,
    "picture": get_picture,
}
"""Operations by their names in the table of endpoints, and the server's own."""

PUBLIC: Final = frozenset({"health", "picture"})  # a link to a picture has a name that nobody can guess


def routes() -> Iterator[tuple[str, str, str]]:
    """Yield method, path and name of all operations."""
    own = {"health": "/health", "metrics": "/metrics", "picture": f"{PICTURES}{{picture}}"}
    for name in OPERATIONS:
        if name in own:
            yield "GET", own[name], name
        else:
            yield ENDPOINTS[name].method, ENDPOINTS[name].path, name


resolve_annotations(__name__)
