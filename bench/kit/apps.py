"""The same small model served by several kits, for `run.py`: a factory of an ASGI application for each.

The model ``m`` says two words; ``burst`` yields 200 pieces at once; ``paced`` yields 50 pieces a second for four
seconds, each the time at which it is due.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

WORDS = "Hello there"
BURST, PACED, PAUSE = 200, 200, 0.02


async def pieces(model: str) -> AsyncIterator[str]:
    """The answer of a model in pieces; the paced one keeps to its times however late the loop is."""
    if model == "burst":
        for _ in range(BURST):
            yield "word "
        return
    due = time.monotonic()
    for _ in range(PACED):
        due += PAUSE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield f"{due:.6f} "


def answer(model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": WORDS, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
    frame = {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion", "created": int(time.time())}
    return {**frame, "model": model, "choices": [choice], "usage": usage}


def chunk(model: str, text: str | None) -> str:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": "stop" if text is None else None}
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    return f"data: {json.dumps({**frame, 'choices': [choice]}, separators=(',', ':'))}\n\n"


def kit() -> Any:
    """This library's kit."""
    from openaiasync.server import Server

    app = Server()

    @app.chat("m")
    async def reply(request: Any) -> str:
        return WORDS

    @app.chat("burst", "paced")
    async def stream(request: Any) -> AsyncIterator[str]:
        async for piece in pieces(request.model):
            yield piece

    return app


def bare() -> Any:
    """A bare ASGI callable: it parses the body, and neither checks nor counts anything."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = json.loads((await receive())["body"])
        kind = b"text/event-stream" if body.get("stream") else b"application/json"
        headers = [(b"content-type", kind)]
        if not body.get("stream"):
            data = json.dumps(answer(body["model"])).encode()
            headers.append((b"content-length", b"%d" % len(data)))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": data})
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in pieces(body["model"]):
            await send({"type": "http.response.body", "body": chunk(body["model"], piece).encode(), "more_body": True})
        last = chunk(body["model"], None) + "data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": last.encode()})

    return app


def starlette() -> Any:
    """Starlette: a route and two responses."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def events(model: str) -> AsyncIterator[str]:
        async for piece in pieces(model):
            yield chunk(model, piece)
        yield chunk(model, None) + "data: [DONE]\n\n"

    async def chat(request: Request) -> Response:
        body = await request.json()
        if body.get("stream"):
            return StreamingResponse(events(body["model"]), media_type="text/event-stream")
        return JSONResponse(answer(body["model"]))

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])


def compat() -> Any:
    """fastapi-openai-compat: a FastAPI router over a function."""
    from fastapi import FastAPI
    from fastapi_openai_compat import create_openai_router

    async def run(model: str, messages: Any, body: dict[str, Any]) -> Any:
        return pieces(model) if body.get("stream") else WORDS

    app = FastAPI()
    app.include_router(create_openai_router(list_models=lambda: ["m", "burst", "paced"], run_completion=run))
    return app
