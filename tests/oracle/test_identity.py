"""Workload identity: what both libraries ask of metadata servers and of the token server."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

import openaiasync.auth
from conftest import run
from openaiasync.identity import workload
from scripted import Seen, json_answer, scripted

openai = pytest.importorskip("openai")
official = pytest.importorskip("openai.auth")
httpx2 = pytest.importorskip("httpx2")

pytestmark = [pytest.mark.peers, pytest.mark.timeout(60)]


def test_the_same_exchange(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same request for a token, the same use of it, one exchange for two calls, and one more after a 401."""
    (tmp_path / "token").write_text("subject\n")
    given = {"identity_provider_id": "i", "service_account_id": "s", "refresh_buffer_seconds": 5}

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.target == "/oauth/token":
            writer.write(json_answer({"access_token": f"t{time.monotonic_ns()}", "expires_in": 60}))
        else:
            refused = sum(one.target.startswith("/v1/models") for one in server.seen) == 2
            writer.write(json_answer({"object": "list", "data": []}, 401 if refused else 200))

    made: list[list[Any]] = []

    async def main() -> None:
        nonlocal server
        async with scripted(script) as server:
            url = f"http://127.0.0.1:{server.port}/oauth/token"
            monkeypatch.setattr(workload, "EXCHANGE_URL", url)
            defaults = official.WorkloadIdentityAuth.__init__.__kwdefaults__
            monkeypatch.setitem(defaults, "token_exchange_url", url)
            for library in (openai, openaiasync):
                server.seen.clear()
                provider = (official if library is openai else openaiasync.auth).k8s_service_account_token_provider(
                    tmp_path / "token"
                )
                identity = {**given, "provider": provider}
                client = library.AsyncOpenAI(base_url=server.url, workload_identity=identity, max_retries=0)
                async with client:
                    await client.models.list()
                    await client.models.list()
                made.append([(one.method, one.target, json.loads(one.body or b"0")) for one in server.seen])

    server: Any = None
    run(main())
    assert made[1] == made[0]
    assert [target for _, target, _ in made[0]] == [
        "/oauth/token",
        "/v1/models",
        "/v1/models",
        "/oauth/token",
        "/v1/models",
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("azure_managed_identity_token_provider", {"resource": "api://x y", "client_id": "c", "object_id": "o"}),
        ("azure_managed_identity_token_provider", {"msi_res_id": "/a/b", "api_version": "v"}),
        ("gcp_id_token_provider", {"audience": "https://a/b?c"}),
    ],
)
def test_the_same_question_to_metadata_servers(name: str, options: dict[str, Any]) -> None:
    """Method, path, query and the field that no proxy forwards."""
    sent: list[Any] = []

    def note(request: Any) -> Any:
        fields = {key: value for key, value in request.headers.items() if key.startswith("metadata")}
        sent.append((request.method, request.url.path, sorted(request.url.params.items()), fields))
        return httpx2.Response(200, json={"access_token": "t"})

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        fields = {key: value for key, value in seen.headers.items() if key.startswith("metadata")}
        url = urlsplit(seen.target)
        sent.append((seen.method, url.path, sorted(parse_qsl(url.query)), fields))
        writer.write(json_answer({"access_token": "t"}))

    async def main() -> None:
        with httpx2.Client(transport=httpx2.MockTransport(note)) as client:
            getattr(official, name)(**options, http_client=client)["get_token"]()
        async with scripted(script) as server:
            url = f"http://127.0.0.1:{server.port}"
            token = getattr(openaiasync.auth, name)(**options, metadata_url=url)["get_token"]()
            assert inspect.isawaitable(token)
            await token

    run(main())
    assert sent[0] == sent[1]
