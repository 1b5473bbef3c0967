"""What the server does for each operation of the API; paths and methods come from the generated endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..endpoints import ENDPOINTS
from ..lazy import resolve_annotations
from .context import RequestContext
from .errors import HTTPError
from .routing import PICTURES

if TYPE_CHECKING:
    from .app import Server

__all__ = ["OPERATIONS", "PUBLIC", "not_served", "operation", "routes"]

Operation: TypeAlias = "Callable[[Server, RequestContext], Awaitable[None]]"


async def health(app: Server, context: RequestContext) -> None:
    """Serve ``GET /health``."""
    await context.send_json({"status": "ok"})


async def metrics(app: Server, context: RequestContext) -> None:
    """Serve ``GET /metrics``."""
    await context.send_bytes(app.metrics.text(app.queue), b"text/plain; version=0.0.4; charset=utf-8")


async def list_models(app: Server, context: RequestContext) -> None:
    """Serve ``GET /models``."""
    await context.send_json({"object": "list", "data": [app.model_object(name) for name in app.model_names()]})


async def get_model(app: Server, context: RequestContext) -> None:
    """Serve ``GET /models/{model}``."""
    await context.send_json(app.model_object(context.arguments["model"]))


async def delete_model(app: Server, context: RequestContext) -> None:
    """Refuse ``DELETE /models/{model}``: models are part of the server."""
    name: Any = app.model_object(context.arguments["model"])["id"]
    message = f"The model {name!r} is part of the server and cannot be deleted."
    raise HTTPError(403, message, param="model", code="model_not_deletable")


OPERATIONS: Final[dict[str, str]] = {
    "chat.completions.create": "chat:create_chat",
    "chat.completions.list": "store:list_chats",
    "chat.completions.retrieve": "store:get_chat",
    "chat.completions.update": "store:update_chat",
    "chat.completions.delete": "store:delete_chat",
    "chat.completions.messages.list": "store:list_messages",
    "completions.create": "completions:create_completion",
    "embeddings.create": "embeddings:create_embeddings",
    "moderations.create": "embeddings:create_moderation",
    "responses.create": "responses:create_response",
    "responses.retrieve": "responses:get_response",
    "responses.delete": "responses:delete_response",
    "responses.cancel": "responses:cancel_response",
    "responses.input_tokens.count": "responses:count_input_tokens",
    "responses.input_items.list": "responses:list_input_items",
    "images.generate": "images:generate_images",
    "images.edit": "images:edit_images",
    "images.create_variation": "images:create_variation",
    "audio.speech.create": "audio:create_speech",
    "audio.transcriptions.create": "audio:create_transcription",
    "audio.translations.create": "audio:create_translation",
    "files.create": "files:create_file",
    "files.list": "files:list_files",
    "files.retrieve": "files:get_file",
    "files.content": "files:get_file_content",
    "files.delete": "files:delete_file",
    "batches.create": "batches:create_batch",
    "batches.list": "batches:list_batches",
    "batches.retrieve": "batches:get_batch",
    "batches.cancel": "batches:cancel_batch",
    "models.list": "operations:list_models",
    "models.retrieve": "operations:get_model",
    "models.delete": "operations:delete_model",
    "health": "operations:health",
    "metrics": "operations:metrics",
    "picture": "images:get_picture",
}
"""Where each operation is, by its name in the table of endpoints; below them the server's own. Modules are imported
when the first request needs them."""

PUBLIC: Final = frozenset({"health", "picture"})  # a link to a picture has a name that cannot be guessed


@cache
def operation(name: str) -> Operation:
    """Return the function that serves an operation."""
    module, _, function = OPERATIONS[name].partition(":")
    found: Operation = getattr(import_module(f".{module}", __package__), function)
    return found


def routes() -> Iterator[tuple[str, str, str]]:
    """Yield method, path and name of all operations."""
    own = {"health": "/health", "metrics": "/metrics", "picture": f"{PICTURES}{{picture}}"}
    for name in OPERATIONS:
        if name in own:
            yield "GET", own[name], name
        else:
            yield ENDPOINTS[name].method, ENDPOINTS[name].path, name


def not_served() -> Iterator[tuple[str, str, str]]:
    """Yield method, path and name of the API's operations that the server does not have."""
    served = {(method, path) for method, path, _ in routes()}
    for name, one in ENDPOINTS.items():
        path = one.path.partition("?")[0]  # the beta of a served operation has a query in its path
        if (one.method, path) not in served:
            yield one.method, path, name


resolve_annotations(__name__)
