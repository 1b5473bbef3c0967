"""The Batch API over the server's own handlers: the lines of an uploaded file run in the background, in order."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..lazy import resolve_annotations
from .asgi import Message, Scope
from .context import RequestContext
from .errors import HTTPError
from .ids import random_hex
from .store import page_of, read_page_ask

if TYPE_CHECKING:
    from .app import Server

__all__ = ["BatchStore", "cancel_batch", "create_batch", "get_batch", "list_batches"]

_log = logging.getLogger("openaiasync.server")
_MAX_LINES: Final = 50_000
_AT_ONCE: Final = 8  # lines of one batch in progress


class BatchStore:
    """Batches by id, with the tasks that run them."""

    def __init__(self) -> None:
        self.batches: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def get(self, id: str) -> dict[str, Any]:
        """Return the batch. Raises `HTTPError` (404)."""
        if id not in self.batches:
            raise HTTPError(404, f"The batch {id!r} does not exist.", param="batch_id", code="not_found")
        return self.batches[id]

    async def close(self) -> None:
        """Cancel the batches in progress."""
        tasks = [task for task in self.tasks.values() if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def create_batch(app: Server, context: RequestContext) -> None:
    """Serve ``POST /batches``."""
    body = await app.read_body(context)
    _, content = app.files.get(body["input_file_id"], "input_file_id")
    lines = _lines(content, body["endpoint"])
    now = int(time.time())
    batch: dict[str, Any] = {
        "id": f"batch_{random_hex()}",
        "object": "batch",
        "endpoint": body["endpoint"],
        "errors": None,
        "input_file_id": body["input_file_id"],
        "completion_window": body["completion_window"],
        "status": "in_progress",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now,
        "in_progress_at": now,
        "expires_at": now + 24 * 3600,
        "completed_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        "metadata": body.get("metadata") or {},
    }
    app.batches.batches[batch["id"]] = batch
    task = asyncio.create_task(_run(app, context, batch, lines))
    app.batches.tasks[batch["id"]] = task
    await context.send_json(batch)


def _lines(content: bytes, endpoint: str) -> list[dict[str, Any]]:
    """Return the requests in a file. Raises `HTTPError` (400) for a line that is not one."""
    lines: list[dict[str, Any]] = []
    names: set[str] = set()
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            one: Any = msgspec.json.decode(line)
            fits = isinstance(one["custom_id"], str) and isinstance(one["body"], dict) and one["url"] == endpoint
        except (ValueError, RecursionError, KeyError, TypeError):
            fits, one = False, {}
        if not fits or one.get("method", "POST") != "POST" or one["custom_id"] in names:
            message = (
                f"Line {number} is not a request with a unique custom_id, a method, the url {endpoint!r} and a body."
            )
            raise HTTPError(400, message, param="input_file_id", code="invalid_json_line")
        names.add(one["custom_id"])
        lines.append(one)
    if not lines or len(lines) > _MAX_LINES:
        message = f"A batch has from 1 to {_MAX_LINES} requests, not {len(lines)}."
        raise HTTPError(400, message, param="input_file_id", code="invalid_value")
    return lines


async def _run(app: Server, context: RequestContext, batch: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    results: list[bytes] = [b""] * len(lines)
    failures: list[bytes] = [b""] * len(lines)
    counts = batch["request_counts"]
    places = iter(range(len(lines)))

    async def work() -> None:
        for place in places:
            line = lines[place]
            status, body = await _ask(app, context.scope, line)
            counts["completed" if status < 400 else "failed"] += 1
            response = {"status_code": status, "request_id": f"req_{random_hex()}", "body": body}
            record = {"id": f"batch_req_{random_hex()}", "custom_id": line["custom_id"], "response": response}
            kept = results if status < 400 else failures
            kept[place] = msgspec.json.encode({**record, "error": None}) + b"\n"

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(lines))):
                group.create_task(work())
        batch["status"], batch["completed_at"] = "completed", int(time.time())
    except asyncio.CancelledError:
        batch["status"], batch["cancelled_at"] = "cancelled", int(time.time())
    except Exception as error:
        _fail(batch, f"The batch failed: {type(error).__name__}.")
        _log.error("The batch %s failed", batch["id"], exc_info=error)
    try:
        for name, kept in (("output", results), ("error", failures)):
            content = b"".join(kept)
            if content:
                batch[f"{name}_file_id"] = app.files.keep(f"{name}.jsonl", content, "batch_output")["id"]
    except HTTPError as error:  # no room for another file
        _fail(batch, error.message)


def _fail(batch: dict[str, Any], message: str) -> None:
    batch["status"], batch["failed_at"] = "failed", int(time.time())
    problem = {"code": "batch_failed", "message": message, "param": None, "line": None}
    batch["errors"] = {"object": "list", "data": [problem]}


async def _ask(app: Server, origin: Scope, line: dict[str, Any]) -> tuple[int, Any]:
    """Send one request of a batch through the server itself, with the header fields of the batch's creation."""
    data = msgspec.json.encode({name: one for name, one in line["body"].items() if name != "stream"})
    kept = [(name, value) for name, value in origin["headers"] if name not in (b"content-length", b"content-type")]
    scope = {**origin, "method": "POST", "path": line["url"], "raw_path": line["url"].encode(), "query_string": b""}
    scope["headers"] = kept
    sent = False
    status = 0
    body: list[bytes] = []

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.get_running_loop().create_future()  # a batch has no client that could disconnect
        sent = True
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, msgspec.json.decode(b"".join(body))


async def list_batches(app: Server, context: RequestContext) -> None:
    """Serve ``GET /batches``."""
    found = list(reversed(app.batches.batches.values()))
    await context.send_json(page_of(found, read_page_ask(context.query())))


async def get_batch(app: Server, context: RequestContext) -> None:
    """Serve ``GET /batches/{batch_id}``."""
    await context.send_json(app.batches.get(context.arguments["batch_id"]))


async def cancel_batch(app: Server, context: RequestContext) -> None:
    """Serve ``POST /batches/{batch_id}/cancel``; the output file has the lines finished so far."""
    batch = app.batches.get(context.arguments["batch_id"])
    task = app.batches.tasks[batch["id"]]
    if task.done():
        message = f"The batch is {batch['status']} and cannot be cancelled."
        raise HTTPError(409, message, param="batch_id", code="invalid_state")
    task.cancel()
    await asyncio.wait([task])
    await context.send_json(batch)


resolve_annotations(__name__)
