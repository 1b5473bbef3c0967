"""Uploaded files, kept in memory: stored, listed, looked up, given back byte by byte, deleted."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from .context import RequestContext
from .errors import HTTPError
from .form import UploadedFile
from .media_fields import FILE
from .store import page_of, read_page_ask

if TYPE_CHECKING:
    from .app import App

__all__ = ["FileStore", "create_file", "delete_file", "get_file", "get_file_content", "list_files"]

_MAX_ALL: Final = 256 * 1024 * 1024  # bytes
_MAX_FILES: Final = 10_000
_MIN_LIFE: Final = 3600  # seconds
_MAX_LIFE: Final = 30 * 24 * 3600


class FileStore:
    """Files by id. Nothing is forgotten to make room: an upload for which there is none is refused."""

    def __init__(self, max_all: int = _MAX_ALL) -> None:
        self._max_all = max_all
        self._kept: dict[str, tuple[dict[str, Any], bytes]] = {}

    def keep(self, file: UploadedFile, purpose: str, life: int | None) -> dict[str, Any]:
        """Keep a file and answer its object. Raises `HTTPError` (413) when the store is full."""
        self._drop_expired()
        used = sum(len(content) for _, content in self._kept.values())
        if used + len(file.content) > self._max_all or len(self._kept) == _MAX_FILES:
            message = f"The files kept here have {used} bytes; with this one they would pass {self._max_all}."
            raise HTTPError(413, message, param="file", code="storage_full")
        now = int(time.time())
        found: dict[str, Any] = {
            "id": f"file-{os.urandom(12).hex()}",
            "object": "file",
            "bytes": len(file.content),
            "created_at": now,
            "filename": file.file_name,
            "purpose": purpose,
            "status": "processed",
        }
        if life is not None:
            found["expires_at"] = now + life
        self._kept[found["id"]] = found, file.content
        return found

    def find(self, purpose: str | None) -> list[dict[str, Any]]:
        """The files of a purpose, or all, the oldest first."""
        self._drop_expired()
        return [found for found, _ in self._kept.values() if purpose in (None, found["purpose"])]

    def get(self, name: str) -> tuple[dict[str, Any], bytes]:
        """The object and the content. Raises `HTTPError` (404)."""
        self._drop_expired()
        found = self._kept.get(name)
        if found is None:
            raise HTTPError(404, f"There is no file {name!r} here.", param="file_id", code="not_found")
        return found

    def delete(self, name: str) -> dict[str, Any]:
        """Forget a file. Raises `HTTPError` (404)."""
        self.get(name)
        del self._kept[name]
        return {"id": name, "object": "file", "deleted": True}

    def _drop_expired(self) -> None:
        now = time.time()
        for name in [name for name, (found, _) in self._kept.items() if found.get("expires_at", now + 1) <= now]:
            del self._kept[name]


async def create_file(app: App, call: RequestContext) -> None:
    body = await call.read_form()
    app.check(body, FILE, "file", "purpose")
    await call.send_json(app.files.keep(body["file"], body["purpose"], _life(body.get("expires_after"))))


def _life(value: dict[str, Any] | None) -> int | None:
    """The seconds that a file lives; `None` for as long as the server."""
    if value is None:
        return None
    if value.get("anchor") != "created_at":
        where = "expires_after[anchor]"
        raise HTTPError(400, f"'{where}' must be created_at.", param=where, code="invalid_value")
    seconds = str(value.get("seconds"))
    if not seconds.isascii() or not seconds.isdigit() or not _MIN_LIFE <= int(seconds[:9]) <= _MAX_LIFE:
        where = "expires_after[seconds]"
        raise HTTPError(400, f"'{where}' must be from {_MIN_LIFE} to {_MAX_LIFE}.", param=where, code="invalid_value")
    return int(seconds)


async def list_files(app: App, call: RequestContext) -> None:
    query = call.query()
    await call.send_json(page_of(app.files.find(dict(query).get("purpose")), read_page_ask(query)))


async def get_file(app: App, call: RequestContext) -> None:
    await call.send_json(app.files.get(call.arguments["file_id"])[0])


async def get_file_content(app: App, call: RequestContext) -> None:
    await call.send_bytes(app.files.get(call.arguments["file_id"])[1], b"application/octet-stream")


async def delete_file(app: App, call: RequestContext) -> None:
    await call.send_json(app.files.delete(call.arguments["file_id"]))
