"""Chat completions stored in memory (`store: true`): retrieved, listed in pages, updated, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from ..lazy import resolve_annotations
from .errors import HTTPError

if TYPE_CHECKING:
    from .app import Server
    from .context import RequestContext

__all__ = [
    "CompletionStore",
    "PageAsk",
    "delete_chat",
    "get_chat",
    "list_chats",
    "list_messages",
    "page_of",
    "read_page_ask",
    "update_chat",
]

_MAX_ALL: Final = 64 * 1024 * 1024  # bytes; larger than any one request


class PageAsk(NamedTuple):
    """The requested page of a list: the id before it, the maximum number of items, and the order."""

    after: str | None
    limit: int
    descending: bool


def read_page_ask(query: Sequence[tuple[str, str]]) -> PageAsk:
    """Read ``after``, ``limit`` (1 to 100, default 20) and ``order`` (``asc``, ``desc``). Raises `HTTPError` (400)."""
    values = dict(query)
    limit = values.get("limit") or "20"
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= 100:
        raise HTTPError(400, "'limit' must be a number from 1 to 100.", param="limit", code="invalid_value")
    order = values.get("order") or "asc"
    if order not in ("asc", "desc"):
        raise HTTPError(400, "'order' must be asc or desc.", param="order", code="invalid_value")
    return PageAsk(values.get("after") or None, int(limit), order == "desc")


def page_of(items: Sequence[dict[str, Any]], ask: PageAsk) -> dict[str, Any]:
    """Return the list object of a page. Raises `HTTPError` (400) if `after` is not an id in the list."""
    ordered = list(reversed(items)) if ask.descending else list(items)
    if ask.after is not None:
        places = [place for place, item in enumerate(ordered) if item["id"] == ask.after]
        if not places:
            raise HTTPError(
                400,
                f"'after' is not the id of an item of this list: {ask.after!r}.",
                param="after",
                code="invalid_value",
            )
        ordered = ordered[places[0] + 1 :]
    data = ordered[: ask.limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(ordered) > len(data),
    }


class _Kept(NamedTuple):
    completion: dict[str, Any]
    messages: list[dict[str, Any]]
    size: int  # bytes as JSON


class CompletionStore:
    """Completions by id. The oldest are dropped above `capacity` completions, or `max_all` bytes in all."""

    def __init__(self, capacity: int = 1000, max_all: int = _MAX_ALL) -> None:
        self._capacity = capacity
        self._max_all = max_all
        self._kept: dict[str, _Kept] = {}
        self._size = 0

    def keep(self, completion: dict[str, Any], messages: list[dict[str, Any]]) -> None:
        """Store a completion with the messages of its request, unless it is larger than the whole store."""
        size = len(msgspec.json.encode((completion, messages)))
        self._forget(completion["id"])
        if size > self._max_all:
            return
        self._kept[completion["id"]] = _Kept(completion, messages, size)
        self._size += size
        while len(self._kept) > self._capacity or self._size > self._max_all:
            self._forget(next(iter(self._kept)))

    def _forget(self, id: str) -> None:
        found = self._kept.pop(id, None)
        if found is not None:
            self._size -= found.size

    def _find(self, id: str) -> _Kept:
        if id not in self._kept:
            raise HTTPError(
                404, f"The stored completion {id!r} does not exist.", param="completion_id", code="not_found"
            )
        return self._kept[id]

    def get(self, id: str) -> dict[str, Any]:
        """Return the completion. Raises `HTTPError` (404), as the other methods that take an id do."""
        return self._find(id).completion

    def relabel(self, id: str, metadata: dict[str, str] | None) -> dict[str, Any]:
        """Replace the metadata and return the completion."""
        found = self._find(id)
        completion = {**found.completion, "metadata": metadata or {}}
        size = len(msgspec.json.encode((completion, found.messages)))
        self._kept[id] = _Kept(completion, found.messages, size)  # its age stays the same
        self._size += size - found.size
        return completion

    def delete(self, id: str) -> dict[str, Any]:
        """Delete a completion and return the object that confirms it."""
        self._find(id)
        self._forget(id)
        return {"object": "chat.completion.deleted", "id": id, "deleted": True}

    def messages(self, id: str) -> list[dict[str, Any]]:
        """Return the messages of the completion's request, each with an id."""
        return [
            {**message, "id": f"{id}-{place}", "content_parts": None}
            if isinstance(message.get("content"), str | None)
            else {**message, "id": f"{id}-{place}", "content": None, "content_parts": message["content"]}
            for place, message in enumerate(self._find(id).messages)
        ]

    def find(self, query: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """Return the completions with the ``model`` and every ``metadata[key]`` of the query, oldest first."""
        found: list[dict[str, Any]] = []
        for completion, _, _ in self._kept.values():
            for name, value in query:
                if name == "model" and completion["model"] != value:
                    break
                if name.startswith("metadata[") and completion["metadata"].get(name[9:-1]) != value:
                    break
            else:
                found.append(completion)
        return found


async def list_chats(app: Server, context: RequestContext) -> None:
    """Serve ``GET /chat/completions``."""
    query = context.query()
    await context.send_json(page_of(app.completions.find(query), read_page_ask(query)))


async def get_chat(app: Server, context: RequestContext) -> None:
    """Serve ``GET /chat/completions/{completion_id}``."""
    await context.send_json(app.completions.get(context.arguments["completion_id"]))


async def update_chat(app: Server, context: RequestContext) -> None:
    """Serve ``POST /chat/completions/{completion_id}``."""
    body = await app.read_body(context)
    await context.send_json(app.completions.relabel(context.arguments["completion_id"], body["metadata"]))


async def delete_chat(app: Server, context: RequestContext) -> None:
    """Serve ``DELETE /chat/completions/{completion_id}``."""
    await context.send_json(app.completions.delete(context.arguments["completion_id"]))


async def list_messages(app: Server, context: RequestContext) -> None:
    """Serve ``GET /chat/completions/{completion_id}/messages``."""
    messages = app.completions.messages(context.arguments["completion_id"])
    await context.send_json(page_of(messages, read_page_ask(context.query())))


resolve_annotations(__name__)
