"""A web page for an application: chat with its models, and a log of its requests with their times."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections import deque
from functools import cache
from importlib.resources import files
from typing import Any, Final

from .asgi import AsgiApp, Message, Receive, Scope, Send
from .errors import HTTPError

__all__ = ["ChatPage"]

_LOG_PATH: Final = "/ui/requests"
_KEPT: Final = 100  # requests
_SHOWN: Final = 200  # characters of a path
_REMEMBERED: Final = 10.0  # seconds for which a caller who was let in is not checked again
_CALLERS: Final = 1_000
# The fields by which an application decides about a caller.
_TELLING: Final = frozenset({b"host", b"authorization", b"api-key", b"origin", b"sec-fetch-site", b"cookie"})


class ChatPage:
    """An ASGI application that serves a web page at ``/`` and passes every other request to `app`.

    The page is one document that loads nothing from elsewhere. It chats with the models of ``/v1/models`` by
    ``/v1/chat/completions``, and shows the last 100 requests with their status, the seconds to the first byte of the
    body, and the seconds in all. The log, ``/ui/requests``, holds no bodies, header fields or query strings. Callers
    whom `app` lets read ``/v1/models`` may read it, so that the application's checks of keys and of ``Host`` apply.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._log: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._known: dict[tuple[Any, ...], tuple[float, int]] = {}  # until when, and status, by caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        reading = scope["method"] in ("GET", "HEAD")
        if reading and path in ("", "/"):
            page, policy = _page()
            await _send(send, 200, b"text/html; charset=utf-8", page, ((b"content-security-policy", policy),))
        elif reading and path == _LOG_PATH:
            await self._send_log(scope, send)
        elif path.removeprefix("/v1") in ("/models", "/health", "/metrics"):
            await self._app(scope, receive, send)  # the page and monitors read these again and again
        else:
            await self._logged(scope, receive, send)

    async def _logged(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        row: dict[str, Any] = {
            "at": time.time(),
            "method": scope["method"],
            "path": scope["path"][:_SHOWN],
            "status": None,
            "first": None,
            "total": None,
        }
        self._log.appendleft(row)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                row["status"] = message["status"]
            elif row["first"] is None and message.get("body"):
                row["first"] = round(time.monotonic() - began, 4)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            row["total"] = round(time.monotonic() - began, 4)
            if row["status"] is None:
                row["status"] = 499  # the client left before there was an answer

    async def _send_log(self, scope: Scope, send: Send) -> None:
        status = await self._status_of_caller(scope)
        if status >= 400:
            error = HTTPError(status, "The log is for callers who may read /v1/models.")
            await _send(send, status, b"application/json", json.dumps(error.to_dict()).encode())
        else:
            await _send(send, 200, b"application/json", json.dumps({"data": list(self._log)}).encode())

    async def _status_of_caller(self, scope: Scope) -> int:
        """Return `_status_of_models`, remembered for some seconds: each open page reads the log every 3 seconds."""
        caller = (scope.get("client") or ("",))[0], tuple(one for one in scope["headers"] if one[0] in _TELLING)
        now = time.monotonic()
        known = self._known.get(caller)
        if known is None or known[0] < now:
            if len(self._known) >= _CALLERS:
                self._known.clear()
            known = self._known[caller] = (now + _REMEMBERED, await self._status_of_models(scope))
        return known[1]

    async def _status_of_models(self, scope: Scope) -> int:
        """Return the status with which the application answers this caller's ``GET /v1/models``."""
        path = f"{scope.get('root_path', '')}/v1/models"
        same_caller = {**scope, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        status = 500

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        await self._app(same_caller, nothing, noted)
        return status


@cache
def _page() -> tuple[bytes, bytes]:
    """Return the page, and the policy that allows its own script and style and nothing else."""
    page = files("openaiasync.server").joinpath("page.html").read_bytes()
    script, style = (_hash(page, name) for name in (b"script", b"style"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
        "require-trusted-types-for 'script'; trusted-types 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy.encode()


def _hash(page: bytes, name: bytes) -> str:
    content = re.search(rb"<%b>(.*?)</%b>" % (name, name), page, re.DOTALL)
    assert content is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(content[1]).digest()).decode()}'"


async def _send(
    send: Send, status: int, kind: bytes, body: bytes, fields: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        *fields,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
