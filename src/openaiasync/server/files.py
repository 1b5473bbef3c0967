"""Uploaded files, kept in memory: stored, listed, looked up, downloaded, deleted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from ..core.model.plain import as_dict
from ..lazy import resolve_annotations
from .context import RequestContext
from .errors import HTTPError
from .ids import random_hex
from .store import page_of, read_page_ask

if TYPE_CHECKING:
    from .app import Server

__all__ = ["FileStore", "create_file", "delete_file", "get_file", "get_file_content", "list_files"]

_MAX_ALL: Final = 256 * 1024 * 1024  # bytes
_MAX_FILES: Final = 10_000


class FileStore:
    """Files by id. An upload that does not fit is refused; no file is dropped to make room for it."""

    def __init__(self, max_all: int = _MAX_ALL) -> None:
        self._max_all = max_all
        self._kept: dict[str, tuple[dict[str, Any], bytes]] = {}

    def keep(self, name: str, content: bytes, purpose: str, life: int | None = None) -> dict[str, Any]:
        """Store a file for `life` seconds (`None`: as long as the server runs) and return its object.

        Raises `HTTPError` (413) if the store is full.
        """
        self._drop_expired()
        used = sum(len(data) for _, data in self._kept.values())
        if used + len(content) > self._max_all or len(self._kept) == _MAX_FILES:
            message = f"The stored files have {used} bytes; with this one they would exceed {self._max_all}."
            raise HTTPError(413, message, param="file", code="storage_full")
        now = int(time.time())
        found: dict[str, Any] = {
            "id": f"file-{random_hex()}",
            "object": "file",
            "bytes": len(content),
            "created_at": now,
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        if life is not None:
            found["expires_at"] = now + life
        self._kept[found["id"]] = found, content
        return found

    def find(self, purpose: str | None) -> list[dict[str, Any]]:
        """Return the files of a purpose, or all, the oldest first."""
        self._drop_expired()
        return [found for found, _ in self._kept.values() if purpose in (None, found["purpose"])]

    def get(self, name: str, param: str = "file_id") -> tuple[dict[str, Any], bytes]:
        """Return the object and the content. Raises `HTTPError` (404)."""
        self._drop_expired()
        found = self._kept.get(name)
        if found is None:
            raise HTTPError(404, f"The file {name!r} does not exist.", param=param, code="not_found")
        return found

    def delete(self, name: str) -> dict[str, Any]:
        """Delete a file. Raises `HTTPError` (404)."""
        self.get(name)
        del self._kept[name]
        return {"id": name, "object": "file", "deleted": True}

    def _drop_expired(self) -> None:
        now = time.time()
        for name in [name for name, (found, _) in self._kept.items() if found.get("expires_at", now + 1) <= now]:
            del self._kept[name]


async def create_file(app: Server, context: RequestContext) -> None:
    """Serve ``POST /files``."""
    body = await app.read_body(context)
    file = body["file"]
    life = as_dict(body.get("expires_after")).get("seconds")
    await context.send_json(app.files.keep(file.file_name, file.content, body["purpose"], life))


async def list_files(app: Server, context: RequestContext) -> None:
    """Serve ``GET /files``."""
    query = context.query()
    await context.send_json(page_of(app.files.find(dict(query).get("purpose")), read_page_ask(query)))


async def get_file(app: Server, context: RequestContext) -> None:
    """Serve ``GET /files/{file_id}``."""
    await context.send_json(app.files.get(context.arguments["file_id"])[0])


async def get_file_content(app: Server, context: RequestContext) -> None:
    """Serve ``GET /files/{file_id}/content``."""
    await context.send_bytes(app.files.get(context.arguments["file_id"])[1], b"application/octet-stream")


async def delete_file(app: Server, context: RequestContext) -> None:
    """Serve ``DELETE /files/{file_id}``."""
    await context.send_json(app.files.delete(context.arguments["file_id"]))


resolve_annotations(__name__)
