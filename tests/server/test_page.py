"""The page of `ChatPage`: what it serves, what it passes on, and what its log shows to whom."""

from __future__ import annotations

import json
import re
from typing import Any

from conftest import run
from openaiasync import Client
from openaiasync.server import ChatPage, ChatRequest, HTTPServer, RequestContext, Server, serve

from .wire import Answer, Wire, request


def application(**options: Any) -> Server:
    app = Server(**options)

    @app.chat("echo")
    async def reply(asked: ChatRequest) -> str:
        return asked.messages[-1].text.upper()

    return app


async def get(server: HTTPServer, path: str, **fields: str) -> Answer:
    async with Wire(server) as wire:
        await wire.send(request("GET", path, None, fields))
        return await wire.answer()


def test_the_page_allows_itself_alone() -> None:
    """It is one document that loads nothing, and its policy allows its own script and style by their hashes."""

    async def main() -> None:
        async with serve(ChatPage(application())) as server:
            answer = await get(server, "/")
            assert answer.status == 200
            policy = answer.fields["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'sha256-")
            assert "unsafe" not in policy
            page = answer.body.decode()
            assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
            assert "innerHTML" not in page
            assert len(answer.body) < 40_000

    run(main())


def test_other_requests_reach_the_application() -> None:
    """Calls work as without the page, and are in the log with their status and times; queries and bodies are not."""

    async def main() -> None:
        async with serve(ChatPage(application())) as server:
            async with Client(api_base=server.base_url, model="echo") as client:
                assert (await client.chat("a secret")).text == "A SECRET"
            assert (await get(server, "/v1/nothing?key=hidden")).status == 404
            answer = await get(server, "/ui/requests")
            rows = json.loads(answer.body)["data"]
            assert [(row["method"], row["path"], row["status"]) for row in rows] == [
                ("GET", "/v1/nothing", 404),
                ("POST", "/v1/chat/completions", 200),
            ]
            assert all(0 <= row["first"] <= row["total"] for row in rows)
            assert not re.search("secret|hidden", answer.body.decode(), re.IGNORECASE)

    run(main())


def test_the_log_needs_the_key_of_the_server() -> None:
    """It is shown to those whom the application lets read its models; the page itself holds nothing."""

    async def main() -> None:
        async with serve(ChatPage(application(api_keys="k"))) as server:
            assert (await get(server, "/")).status == 200
            assert (await get(server, "/ui/requests")).status == 401
            allowed = await get(server, "/ui/requests", Authorization="Bearer k")
            assert (allowed.status, json.loads(allowed.body)) == (200, {"data": []})
            rebound = await get(server, "/ui/requests", Authorization="Bearer k", Host="evil.example.com")
            assert rebound.status == 403

    run(main())


def test_the_log_is_bounded() -> None:
    """It keeps the last hundred requests, and a handler that fails is one of them."""

    async def main() -> None:
        app = application()

        @app.unknown_route
        async def fail(context: RequestContext) -> None:
            raise ValueError("broken")

        async with serve(ChatPage(app)) as server:
            async with Wire(server) as wire:
                for _ in range(120):
                    await wire.send(request("GET", "/other"))
                    assert (await wire.answer()).status == 500
            rows = json.loads((await get(server, "/ui/requests")).body)["data"]
            assert [row["status"] for row in rows] == [500] * 100

    run(main())
